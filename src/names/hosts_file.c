#include "names/hosts_file.h"

#include "base/log.h"
#include "codec/hosts.h"
#include "sys/fs.h"

#include <errno.h>
#include <stdlib.h>

enum {
	OWNER_BYTES = 32,
	NAMES_A_LINE = HOSTS_LINE_BYTES / 2,
	PROBLEMS_LOGGED = 8, /* a file that is no hosts file at all has thousands */
};

/* The owner "<kind>:<number>". */
static struct span owner_of(char buf[OWNER_BYTES], const char *kind, unsigned number)
{
	struct wr w = wr_of(buf, OWNER_BYTES);

	wr_str(&w, kind);
	wr_dec(&w, number);
	return wr_span(&w);
}

/* --- options --------------------------------------------------------------------------------- */

enum err host_option_parse(struct span text, struct span *name, struct ip *addr)
{
	struct span addr_text = text;
	struct span name_text = span_split(&addr_text, '=');
	struct dns_name parsed;
	struct ip ip;

	if (dns_name_from_text(name_text, &parsed) != E_OK || ip_parse(addr_text, &ip) != E_OK)
		return E_MALFORMED;
	*name = name_text;
	*addr = ip;
	return E_OK;
}

int host_option_set(struct registry *r, unsigned number, struct span text)
{
	char owner[OWNER_BYTES];
	struct span name;
	struct ip addr;

	if (host_option_parse(text, &name, &addr) != E_OK)
		return -EINVAL;
	return registry_set(r, owner_of(owner, "option:", number), &name, 1, &addr, 1);
}

/* --- the file -------------------------------------------------------------------------------- */

/* One reading of the file. */
struct reading {
	const struct hosts_file *file;
	unsigned entries, problems;
};

static void log_problem(struct reading *r, const struct hosts_entry *e, struct log_kv why)
{
	if (++r->problems <= PROBLEMS_LOGGED)
		log_warn("dns", "hosts file: skipped", KV_STR("file", r->file->path),
		    KV_NUM("line", e->line), why);
}

static void register_entry(struct reading *r, const struct hosts_entry *e)
{
	struct registry *registry = r->file->registry;
	struct span names[NAMES_A_LINE], rest = e->names, owner;
	char buf[OWNER_BYTES];
	size_t n = 0;
	int rc;

	while (n < NAMES_A_LINE && hosts_name_next(&rest, &names[n]))
		n++;
	owner = owner_of(buf, "hosts:", r->entries++);
	rc = registry_set(registry, owner, names, n, &e->ip, 1);
	if (rc > 0)
		log_problem(r, e, KV_NUM("names", rc));
	if (rc >= 0)
		return;
	registry_drop(registry, owner); /* what another line was called before */
	log_problem(r, e, KV_ERR(rc));
}

static void drop_from(struct hosts_file *h, unsigned first)
{
	char buf[OWNER_BYTES];

	for (unsigned i = first; i < h->entries; i++)
		registry_drop(h->registry, owner_of(buf, "hosts:", i));
}

static void register_file(struct hosts_file *h, struct span file)
{
	struct hosts_reader reader = hosts_reader_of(file);
	struct reading r = {.file = h};
	struct hosts_entry e;

	while (hosts_next(&reader, &e)) {
		if (e.problem)
			log_problem(&r, &e, KV_STR("problem", e.problem));
		else
			register_entry(&r, &e);
	}
	drop_from(h, r.entries);
	h->entries = r.entries;
	log_info("dns", "hosts file read", KV_STR("file", h->path), KV_NUM("entries", r.entries),
	    KV_NUM("problems", r.problems));
}

int hosts_file_load(struct hosts_file *h)
{
	void *buf = malloc(HOSTS_FILE_BYTES);
	ssize_t n = buf ? fs_read_file(h->path, buf, HOSTS_FILE_BYTES) : -ENOMEM;

	if (n >= 0)
		register_file(h, span_of(buf, (size_t)n));
	else
		log_warn("dns", "cannot read the hosts file, keeping what is known of it",
		    KV_STR("file", h->path), KV_ERR(n));
	free(buf);
	return n < 0 ? (int)n : 0;
}

void hosts_file_drop(struct hosts_file *h)
{
	drop_from(h, 0);
	h->entries = 0;
}
