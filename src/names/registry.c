#include "names/registry.h"

#include "base/map.h"

#include <errno.h>
#include <stdlib.h>

struct owner;

/* A name of an owner, or (`between`) one that only leads to it: proj for web.proj. */
struct name_entry {
	struct map_node node;
	struct owner *owner;
	struct span key; /* its labels on the wire, without the domain and the root */
	bool between;
	unsigned turn[2]; /* of the rotation of IPv4 and of IPv6 addresses */
};

struct addr_entry {
	struct map_node node;
	struct owner *owner;
	struct ip ip;
};

/* One piece of memory: the struct, its names, its addresses, and the bytes of all keys. Whatever a
 * change needs is therefore got in one allocation, and the rest of the change cannot fail. */
struct owner {
	struct map_node node;
	struct span key;
	size_t n_names, n_addrs;
	struct addr_entry *addrs;
	struct name_entry names[];
};

struct registry {
	struct registry_conf conf;
	/* Several entries of `names` or `addrs` may have one key: one for each owner. */
	struct map owners, names, addrs;
	uint32_t serial;
};

struct registry *registry_new(const struct registry_conf *conf)
{
	struct registry *r = calloc(1, sizeof *r);

	if (!r)
		return NULL;
	r->conf = *conf;
	r->serial = 1;
	if (map_init(&r->owners, conf->max_owners, conf->seed) < 0 ||
	    map_init(&r->names, conf->max_names, conf->seed) < 0 ||
	    map_init(&r->addrs, conf->max_owners, conf->seed) < 0) {
		registry_free(r);
		return NULL;
	}
	return r;
}

static struct owner *owner_of_node(struct map_node *node)
{
	return node ? container_of(node, struct owner, node) : NULL;
}

void registry_free(struct registry *r)
{
	struct map_node *node, *next;

	if (!r)
		return;
	for (node = map_walk(&r->owners, NULL); node; node = next) {
		next = map_walk(&r->owners, node);
		free(owner_of_node(node));
	}
	map_done(&r->owners);
	map_done(&r->names);
	map_done(&r->addrs);
	free(r);
}

/* --- keys ------------------------------------------------------------------------------------ */

static struct span label_skip(struct span key)
{
	return span_from(key, key.p[0] + (size_t)1);
}

static bool key_dotted(struct span key)
{
	return key.n > 0 && label_skip(key).n > 0;
}

static size_t key_labels(struct span key)
{
	size_t n = 0;

	for (; key.n > 0; key = label_skip(key))
		n++;
	return n;
}

/* The key of a name of the domain: what stands before it. */
static struct span key_in_domain(const struct registry *r, const struct dns_name *name)
{
	return span_first(dns_name_span(name), (size_t)(name->n - r->conf.domain.n));
}

static struct span key_bare(const struct dns_name *name)
{
	return span_first(dns_name_span(name), name->n - (size_t)1);
}

/* The key of a name that is being registered, a view of *name; empty when it cannot have one. */
static struct span key_of_text(const struct registry *r, struct span text, struct dns_name *name)
{
	if (dns_name_from_text(text, name) != E_OK)
		return span_of(NULL, 0);
	if (dns_name_under(name, &r->conf.domain))
		return key_in_domain(r, name);
	if (key_bare(name).n + r->conf.domain.n > DNS_NAME_BYTES)
		return span_of(NULL, 0);
	return key_bare(name);
}

static void name_of_key(const struct registry *r, struct span key, struct dns_name *out)
{
	struct wr w = wr_of(out->wire, sizeof out->wire);

	wr_bytes(&w, key);
	wr_bytes(&w, dns_name_span(&r->conf.domain));
	out->n = (uint8_t)w.n;
}

/* --- owners ---------------------------------------------------------------------------------- */

/* What an owner is to have, as registry_set() was given it. */
struct holding {
	struct span owner;
	const struct span *names;
	size_t n_names;
	const struct ip *addrs;
	size_t n_addrs;
};

/* An owner without entries, and with memory for all that it may get. *bytes is where keys go. */
static struct owner *owner_alloc(
    const struct registry *r, const struct holding *h, struct wr *bytes)
{
	size_t n_entries = 0, n_bytes = h->owner.n;
	struct dns_name name;
	struct owner *o;

	for (size_t i = 0; i < h->n_names; i++) {
		struct span key = key_of_text(r, h->names[i], &name);

		n_entries += key_labels(key);
		n_bytes += key.n;
	}
	o = malloc(
	    sizeof *o + n_entries * sizeof *o->names + h->n_addrs * sizeof *o->addrs + n_bytes);
	if (!o)
		return NULL;
	*o = (struct owner){.addrs = (struct addr_entry *)(void *)(o->names + n_entries)};
	*bytes = wr_of(o->addrs + h->n_addrs, n_bytes);
	return o;
}

/* A copy of the key that lives as long as the owner that `bytes` belongs to. */
static struct span key_keep(struct wr *bytes, struct span key)
{
	size_t at = bytes->n;

	wr_bytes(bytes, key);
	return span_of(bytes->p + at, key.n);
}

static bool owner_has_name(const struct owner *o, struct span key)
{
	for (size_t i = 0; i < o->n_names; i++)
		if (!o->names[i].between && span_eq(o->names[i].key, key))
			return true;
	return false;
}

static bool owner_has_addr(const struct owner *o, const struct ip *ip)
{
	for (size_t i = 0; i < o->n_addrs; i++)
		if (ip_eq(&o->addrs[i].ip, ip))
			return true;
	return false;
}

/* Adds a name and those between it and the domain. */
static void owner_add_name(struct owner *o, struct span key)
{
	for (bool between = false; key.n > 0; between = true, key = label_skip(key))
		o->names[o->n_names++] =
		    (struct name_entry){.owner = o, .key = key, .between = between};
}

/* A new owner, in no map yet; NULL without memory. *skipped is the number of unusable names. */
static struct owner *owner_new(const struct registry *r, const struct holding *h, int *skipped)
{
	struct dns_name name;
	struct wr bytes;
	struct owner *o = owner_alloc(r, h, &bytes);

	if (!o)
		return NULL;
	*skipped = 0;
	o->key = key_keep(&bytes, h->owner);
	for (size_t i = 0; i < h->n_names; i++) {
		struct span key = key_of_text(r, h->names[i], &name);

		if (key.n == 0)
			++*skipped;
		else if (!owner_has_name(o, key))
			owner_add_name(o, key_keep(&bytes, key));
	}
	for (size_t i = 0; i < h->n_addrs; i++)
		if (!owner_has_addr(o, &h->addrs[i]))
			o->addrs[o->n_addrs++] = (struct addr_entry){.owner = o, .ip = h->addrs[i]};
	return o;
}

static bool owner_same(const struct owner *a, const struct owner *b)
{
	if (a->n_names != b->n_names || a->n_addrs != b->n_addrs)
		return false;
	for (size_t i = 0; i < a->n_names; i++)
		if (a->names[i].between != b->names[i].between ||
		    !span_eq(a->names[i].key, b->names[i].key))
			return false;
	for (size_t i = 0; i < a->n_addrs; i++)
		if (!ip_eq(&a->addrs[i].ip, &b->addrs[i].ip))
			return false;
	return true;
}

static struct owner *owner_find(const struct registry *r, struct span key)
{
	struct map_node *node = map_first(&r->owners, map_hash(&r->owners, key));

	while (node && !span_eq(owner_of_node(node)->key, key))
		node = map_next(node);
	return owner_of_node(node);
}

static void owner_link(struct registry *r, struct owner *o)
{
	map_add(&r->owners, &o->node, map_hash(&r->owners, o->key));
	for (size_t i = 0; i < o->n_names; i++)
		map_add(&r->names, &o->names[i].node, map_hash(&r->names, o->names[i].key));
	for (size_t i = 0; i < o->n_addrs; i++)
		map_add(
		    &r->addrs, &o->addrs[i].node, map_hash(&r->addrs, ip_bytes(&o->addrs[i].ip)));
	r->serial++;
}

static void owner_drop(struct registry *r, struct owner *o)
{
	if (!o)
		return;
	map_remove(&r->owners, &o->node);
	for (size_t i = 0; i < o->n_names; i++)
		map_remove(&r->names, &o->names[i].node);
	for (size_t i = 0; i < o->n_addrs; i++)
		map_remove(&r->addrs, &o->addrs[i].node);
	r->serial++;
	free(o);
}

/* Whether the limits allow `o` in the place of `old`, which may be NULL. */
static bool owner_fits(const struct registry *r, const struct owner *o, const struct owner *old)
{
	size_t others = r->names.n - (old ? old->n_names : 0);

	if (!old && r->owners.n >= r->conf.max_owners)
		return false;
	return others <= r->conf.max_names && o->n_names <= r->conf.max_names - others;
}

int registry_set(struct registry *r, struct span owner, const struct span *names, size_t n_names,
    const struct ip *addrs, size_t n_addrs)
{
	const struct holding h = {owner, names, n_names, addrs, n_addrs};
	struct owner *old = owner_find(r, owner), *o;
	int skipped;

	if (n_names > r->conf.max_names_per_owner || n_addrs > r->conf.max_addrs_per_owner)
		return -ENOSPC;
	o = owner_new(r, &h, &skipped);
	if (!o)
		return -ENOMEM;
	if (o->n_names == 0) {
		free(o);
		owner_drop(r, old);
		return skipped;
	}
	if (old && owner_same(o, old)) {
		free(o);
		return skipped;
	}
	if (!owner_fits(r, o, old)) {
		free(o);
		return -ENOSPC;
	}
	owner_drop(r, old);
	owner_link(r, o);
	return skipped;
}

void registry_drop(struct registry *r, struct span owner)
{
	owner_drop(r, owner_find(r, owner));
}

size_t registry_owners(const struct registry *r)
{
	return r->owners.n;
}

uint32_t registry_serial(const struct registry *r)
{
	return r->serial;
}

const struct dns_name *registry_domain(const struct registry *r)
{
	return &r->conf.domain;
}

/* --- questions ------------------------------------------------------------------------------- */

static bool among(const struct ip *const *addrs, size_t n, const struct ip *ip)
{
	for (size_t i = 0; i < n; i++)
		if (ip_eq(addrs[i], ip))
			return true;
	return false;
}

/* Adds the addresses of an owner that other owners have not brought yet. */
static void answer_add(struct registry_answer *a, const struct owner *o, uint8_t family)
{
	size_t before = a->n;

	for (size_t i = 0; i < o->n_addrs && a->n < REGISTRY_ANSWER_ADDRS; i++) {
		const struct ip *ip = &o->addrs[i].ip;

		if (ip->family == family && !among(a->addrs, before, ip))
			a->addrs[a->n++] = ip;
	}
}

/* Puts the first `by` addresses behind the others. */
static void answer_rotate(struct registry_answer *a, size_t by)
{
	const struct ip *front[REGISTRY_ANSWER_ADDRS];

	memcpy(front, a->addrs, by * sizeof *front);
	memmove(a->addrs, a->addrs + by, (a->n - by) * sizeof *front);
	memcpy(a->addrs + a->n - by, front, by * sizeof *front);
}

/* The entry behind `node`, itself included, that has the key. */
static struct name_entry *name_entry_at(struct map_node *node, struct span key)
{
	for (; node; node = map_next(node)) {
		struct name_entry *e = container_of(node, struct name_entry, node);

		if (span_eq(e->key, key))
			return e;
	}
	return NULL;
}

/* REGISTRY_FOUND, REGISTRY_BETWEEN or REGISTRY_ABSENT. */
static enum registry_match key_lookup(
    struct registry *r, struct span key, uint8_t family, struct registry_answer *out)
{
	struct name_entry *e = name_entry_at(map_first(&r->names, map_hash(&r->names, key)), key);
	struct name_entry *first = NULL;
	bool exists = e != NULL;

	for (; e; e = name_entry_at(map_next(&e->node), key)) {
		if (e->between)
			continue;
		first = first ? first : e;
		answer_add(out, e->owner, family);
	}
	if (!first)
		return exists ? REGISTRY_BETWEEN : REGISTRY_ABSENT;
	if (out->n > 1)
		answer_rotate(out, first->turn[family == 6]++ % out->n);
	return REGISTRY_FOUND;
}

enum registry_match registry_lookup(
    struct registry *r, const struct dns_name *name, uint8_t family, struct registry_answer *out)
{
	struct span key;

	out->n = 0;
	if (dns_name_under(name, &r->conf.domain)) {
		key = key_in_domain(r, name);
		return key.n ? key_lookup(r, key, family, out) : REGISTRY_APEX;
	}
	key = key_bare(name);
	if (key_dotted(key) && !r->conf.bare_dotted)
		return REGISTRY_FOREIGN;
	/* A name between is one in the domain only: outside of it others may have more below. */
	return key_lookup(r, key, family, out) == REGISTRY_FOUND ? REGISTRY_FOUND
								 : REGISTRY_FOREIGN;
}

static bool name_among(const struct dns_name *names, size_t n, const struct dns_name *name)
{
	for (size_t i = 0; i < n; i++)
		if (dns_name_eq(&names[i], name))
			return true;
	return false;
}

/* Adds the names of an owner to the `n` there are; returns how many there are then. */
static size_t names_add(
    const struct registry *r, const struct owner *o, struct dns_name *out, size_t n)
{
	for (size_t i = 0; i < o->n_names && n < REGISTRY_ANSWER_NAMES; i++) {
		if (o->names[i].between)
			continue;
		name_of_key(r, o->names[i].key, &out[n]);
		n += !name_among(out, n, &out[n]);
	}
	return n;
}

size_t registry_reverse(
    const struct registry *r, const struct ip *ip, struct dns_name out[REGISTRY_ANSWER_NAMES])
{
	struct map_node *node = map_first(&r->addrs, map_hash(&r->addrs, ip_bytes(ip)));
	size_t n = 0;

	for (; node; node = map_next(node)) {
		const struct addr_entry *e = container_of(node, struct addr_entry, node);

		if (ip_eq(&e->ip, ip))
			n = names_add(r, e->owner, out, n);
	}
	return n;
}
