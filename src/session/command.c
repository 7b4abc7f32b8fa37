#include "session/command.h"

#include "codec/json.h"

#include <errno.h>

void command_init(struct command *c)
{
	*c = (struct command){0};
	queue_init(&c->args, COMMAND_TEXT_BYTES, NULL);
	queue_init(&c->env, COMMAND_TEXT_BYTES, NULL);
}

void command_done(struct command *c)
{
	queue_done(&c->args);
	queue_done(&c->env);
}

static bool has_nul(struct span s)
{
	return span_find(s, '\0') < s.n;
}

/* Room for a text of at most n bytes and its NUL. */
static int reserve(struct queue *q, size_t n, struct wr *out)
{
	uint8_t *p;

	if (n >= queue_room(q))
		return -E2BIG;
	p = queue_reserve(q, n + 1);
	if (!p)
		return -ENOMEM;
	*out = wr_of(p, n + 1);
	return 0;
}

static void commit(struct queue *q, struct wr *text)
{
	wr_u8(text, '\0');
	queue_commit(q, text->n);
}

int command_add_arg(struct command *c, struct span arg)
{
	struct wr w;
	int rc;

	if (has_nul(arg))
		return -EINVAL;
	rc = reserve(&c->args, arg.n, &w);
	if (rc < 0)
		return rc;
	wr_bytes(&w, arg);
	commit(&c->args, &w);
	return 0;
}

int command_add_env(struct command *c, struct span key, struct span value)
{
	struct wr w;
	int rc;

	if (key.n == 0 || span_find(key, '=') < key.n || has_nul(key) || has_nul(value))
		return -EINVAL;
	if (key.n > COMMAND_TEXT_BYTES || value.n > COMMAND_TEXT_BYTES)
		return -E2BIG;
	rc = reserve(&c->env, key.n + value.n + 1, &w);
	if (rc < 0)
		return rc;
	wr_bytes(&w, key);
	wr_u8(&w, '=');
	wr_bytes(&w, value);
	commit(&c->env, &w);
	return 0;
}

/* --- JSON ------------------------------------------------------------------------------------- */

/* Makes room for texts that are not longer than these; false when the reader has failed. */
static bool make_room(struct json *j, struct queue *q, size_t n, struct wr *w)
{
	int rc = j->err == E_OK ? reserve(q, n, w) : -EINVAL;

	if (rc < 0)
		json_fail(j, rc == -E2BIG ? E_LIMIT : E_SPACE);
	return rc == 0;
}

/* Keeps a text that has no NUL in it. */
static void keep(struct json *j, struct queue *q, struct wr *w)
{
	json_fail(j, w->err);
	if (has_nul(wr_span(w)))
		json_fail(j, E_MALFORMED);
	if (j->err == E_OK)
		commit(q, w);
}

static void read_args(struct json *j, struct queue *args)
{
	struct json_token arg;
	struct wr w;

	queue_done(args); /* of two lists the later counts */
	for (json_array(j); json_item(j);) {
		if (!json_take_string(j, &arg) || !make_room(j, args, arg.text.n, &w))
			continue;
		json_string(&arg, &w);
		keep(j, args, &w);
	}
}

static void read_env(struct json *j, struct queue *env)
{
	struct json_token key, value;
	struct wr w;

	queue_done(env);
	for (json_object(j); json_key(j, &key);) {
		if (!json_take_string(j, &value) ||
		    !make_room(j, env, key.text.n + value.text.n + 1, &w))
			continue;
		json_string(&key, &w);
		if (w.n == 0 || span_find(wr_span(&w), '=') < w.n)
			json_fail(j, E_MALFORMED);
		wr_u8(&w, '=');
		json_string(&value, &w);
		keep(j, env, &w);
	}
}

static uint32_t read_number(struct json *j, uint32_t max)
{
	uint64_t n = 0;

	json_take_u64(j, 0, max, &n);
	return (uint32_t)n;
}

static void read_member(struct json *j, const struct json_token *key, struct command *c)
{
	if (json_is(key, "cmd"))
		read_args(j, &c->args);
	else if (json_is(key, "env"))
		read_env(j, &c->env);
	else if (json_is(key, "working_dir"))
		json_take_cstr(j, c->working_dir, sizeof c->working_dir);
	else if (json_is(key, "user"))
		json_take_cstr(j, c->user, sizeof c->user);
	else if (json_is(key, "tty"))
		json_take_bool(j, &c->tty);
	else if (json_is(key, "tty_width"))
		c->size.width = (uint16_t)read_number(j, UINT16_MAX);
	else if (json_is(key, "tty_height"))
		c->size.height = (uint16_t)read_number(j, UINT16_MAX);
	else if (json_is(key, "timeout_seconds"))
		c->timeout_secs = read_number(j, UINT32_MAX);
}

enum err command_read(struct command *c, struct span json)
{
	struct json j = json_of(json);
	struct json_token key;

	for (json_object(&j); json_key(&j, &key);)
		if (!json_null(&j))
			read_member(&j, &key, c);
	return json_end(&j);
}
