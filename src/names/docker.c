#include "names/docker.h"

#include "codec/json.h"

/* Longest texts that are compared or kept; longer ones are cut to nothing. */
enum { WORD_BYTES = 64, NAME_BYTES = 256 };

/* --- ids and words -------------------------------------------------------------------------- */

static bool is_id(const char *id)
{
	size_t n = strlen(id);

	return n == DOCKER_ID_BYTES - 1 && strspn(id, "0123456789abcdef") == n;
}

/* Takes a string that may be of any type and length; "" for what is no string or does not fit. */
static void take_text(struct json *j, char *buf, size_t cap)
{
	struct json_token token;

	buf[0] = '\0';
	if (json_peek(j) != JSON_STRING)
		return;
	if (json_take_string(j, &token) && json_cstr(&token, buf, cap) != E_OK)
		buf[0] = '\0';
}

/* --- events --------------------------------------------------------------------------------- */

struct event_text {
	char type[WORD_BYTES], action[WORD_BYTES];
	char actor[DOCKER_ID_BYTES], container[DOCKER_ID_BYTES];
};

static void read_actor(struct json *j, struct event_text *e)
{
	struct json_token key;

	json_object(j);
	while (json_key(j, &key)) {
		if (json_is(&key, "ID")) {
			take_text(j, e->actor, sizeof e->actor);
		} else if (json_is(&key, "Attributes") && !json_null(j)) {
			json_object(j);
			while (json_key(j, &key))
				if (json_is(&key, "container"))
					take_text(j, e->container, sizeof e->container);
		}
	}
}

static const struct event_row {
	const char *type, *action;
	enum docker_event_kind kind;
} event_rows[] = {
    {"container", "start", DOCKER_EVENT_CHANGED},
    {"container", "restart", DOCKER_EVENT_CHANGED},
    {"container", "unpause", DOCKER_EVENT_CHANGED},
    {"container", "rename", DOCKER_EVENT_CHANGED},
    {"container", "update", DOCKER_EVENT_CHANGED},
    {"container", "die", DOCKER_EVENT_GONE},
    {"container", "destroy", DOCKER_EVENT_GONE},
    {"network", "connect", DOCKER_EVENT_CHANGED},
    {"network", "disconnect", DOCKER_EVENT_CHANGED},
};

static enum docker_event_kind event_kind(const struct event_text *e)
{
	for (size_t i = 0; i < sizeof event_rows / sizeof *event_rows; i++)
		if (strcmp(e->type, event_rows[i].type) == 0 &&
		    strcmp(e->action, event_rows[i].action) == 0)
			return event_rows[i].kind;
	return DOCKER_EVENT_OTHER;
}

enum err docker_event_read(struct span text, struct docker_event *out)
{
	struct json j = json_of(text);
	struct event_text e = {0};
	struct json_token key;
	const char *id;
	enum err err;

	json_object(&j);
	while (json_key(&j, &key)) {
		if (json_is(&key, "Type"))
			take_text(&j, e.type, sizeof e.type);
		else if (json_is(&key, "Action"))
			take_text(&j, e.action, sizeof e.action);
		else if (json_is(&key, "Actor") && !json_null(&j))
			read_actor(&j, &e);
	}
	err = json_end(&j);
	if (err != E_OK)
		return err;
	*out = (struct docker_event){.kind = event_kind(&e)};
	id = strcmp(e.type, "network") == 0 ? e.container : e.actor;
	if (!is_id(id))
		out->kind = DOCKER_EVENT_OTHER;
	if (out->kind != DOCKER_EVENT_OTHER)
		memcpy(out->id, id, sizeof out->id);
	return E_OK;
}

/* --- the list ------------------------------------------------------------------------------- */

enum err docker_list_read(struct span text, void (*fn)(void *ctx, const char *id), void *ctx)
{
	struct json j = json_of(text);
	struct json_token key;
	char id[DOCKER_ID_BYTES];

	for (json_array(&j); json_item(&j);) {
		id[0] = '\0';
		json_object(&j);
		while (json_key(&j, &key))
			if (json_is(&key, "Id"))
				take_text(&j, id, sizeof id);
		if (is_id(id))
			fn(ctx, id);
	}
	return json_end(&j);
}

/* --- one container
 * -------------------------------------------------------------------------------- */

struct details {
	struct docker_container *out;
	char id[DOCKER_ID_BYTES];
	char service[NAME_BYTES], project[NAME_BYTES];
};

static void add_name(struct docker_container *c, const char *first, const char *second)
{
	struct wr w = wr_of(c->text + c->text_bytes, sizeof c->text - c->text_bytes);

	if (!*first || c->n_names == DOCKER_NAMES)
		return;
	wr_str(&w, first);
	if (*second) {
		wr_u8(&w, '.');
		wr_str(&w, second);
	}
	if (w.err != E_OK)
		return;
	c->names[c->n_names++] = wr_span(&w);
	c->text_bytes += w.n;
}

static void add_addr(struct docker_container *c, const char *text)
{
	struct ip ip;

	if (c->n_addrs < DOCKER_ADDRS && ip_parse(span_str(text), &ip) == E_OK)
		c->addrs[c->n_addrs++] = ip;
}

static void read_state(struct json *j, struct details *d)
{
	struct json_token key;

	json_object(j);
	while (json_key(j, &key))
		if (json_is(&key, "Running"))
			json_take_bool(j, &d->out->running);
}

static void read_labels(struct json *j, struct details *d)
{
	struct json_token key;

	json_object(j);
	while (json_key(j, &key)) {
		if (json_is(&key, "com.docker.compose.service"))
			take_text(j, d->service, sizeof d->service);
		else if (json_is(&key, "com.docker.compose.project"))
			take_text(j, d->project, sizeof d->project);
	}
}

static void read_config(struct json *j, struct details *d)
{
	struct json_token key;

	json_object(j);
	while (json_key(j, &key))
		if (json_is(&key, "Labels") && !json_null(j))
			read_labels(j, d);
}

static void read_aliases(struct json *j, struct details *d)
{
	char alias[NAME_BYTES];

	for (json_array(j); json_item(j);) {
		take_text(j, alias, sizeof alias);
		add_name(d->out, alias, "");
	}
}

static void read_network(struct json *j, struct details *d)
{
	struct json_token key;
	char addr[IP_TEXT_BYTES];

	json_object(j);
	while (json_key(j, &key)) {
		if (json_is(&key, "IPAddress") || json_is(&key, "GlobalIPv6Address")) {
			take_text(j, addr, sizeof addr);
			add_addr(d->out, addr);
		} else if (json_is(&key, "Aliases") || json_is(&key, "DNSNames")) {
			if (!json_null(j))
				read_aliases(j, d);
		}
	}
}

static void read_networks(struct json *j, struct details *d)
{
	struct json_token key;

	json_object(j);
	while (json_key(j, &key)) {
		if (!json_is(&key, "Networks") || json_null(j))
			continue;
		json_object(j);
		while (json_key(j, &key))
			if (!json_null(j))
				read_network(j, d);
	}
}

/* An engine gives every container its shortened id as an alias; nobody asks for that. */
static void drop_own_id(struct docker_container *c, const char *id)
{
	size_t kept = 0;

	for (size_t i = 0; i < c->n_names; i++)
		if (c->names[i].n < 12 || !span_starts(span_str(id), c->names[i]))
			c->names[kept++] = c->names[i];
	c->n_names = kept;
}

enum err docker_container_read(struct span text, struct docker_container *out)
{
	struct json j = json_of(text);
	struct details d = {.out = out};
	struct json_token key;
	char name[NAME_BYTES] = "";

	out->running = false;
	out->n_names = out->n_addrs = out->text_bytes = 0;
	json_object(&j);
	while (json_key(&j, &key)) {
		if (json_is(&key, "Id"))
			take_text(&j, d.id, sizeof d.id);
		else if (json_is(&key, "Name"))
			take_text(&j, name, sizeof name);
		else if (json_is(&key, "State") && !json_null(&j))
			read_state(&j, &d);
		else if (json_is(&key, "Config") && !json_null(&j))
			read_config(&j, &d);
		else if (json_is(&key, "NetworkSettings") && !json_null(&j))
			read_networks(&j, &d);
	}
	add_name(out, name[0] == '/' ? name + 1 : name, "");
	if (*d.service && *d.project)
		add_name(out, d.service, d.project);
	drop_own_id(out, d.id);
	return json_end(&j);
}
