#include "agent/options.h"

#include "agent/option_rows.h"
#include "base/cursor.h"
#include "base/parse.h"

#include <stdlib.h>

enum { CMDLINE_BYTES = 4096 };

#define COUNT(array) (sizeof(array) / sizeof *(array))

static void *member(struct options *o, const struct option_row *row)
{
	return (char *)o + row->offset;
}

void options_default(struct options *o)
{
	*o = (struct options){0};
	for (size_t i = 0; i < option_row_count; i++) {
		const struct option_row *row = &option_rows[i];
		struct option_list *list = member(o, row);

		if (row->kind == OPTION_TEXT)
			*(const char **)member(o, row) = row->text[0];
		else if (row->kind == OPTION_LIST)
			for (; list->n < COUNT(row->text) && row->text[list->n]; list->n++)
				list->values[list->n] = row->text[list->n];
		else if (row->kind != OPTION_SWITCH)
			*(uint64_t *)member(o, row) = row->number;
	}
}

static enum err list_add(struct option_list *list, const char *value)
{
	if (!list->given)
		*list = (struct option_list){.given = true};
	if (list->n == OPTIONS_LIST)
		return E_LIMIT;
	list->values[list->n++] = value;
	return E_OK;
}

static enum err set_number(struct options *o, const struct option_row *row, struct span text)
{
	uint64_t *out = member(o, row);

	if (row->kind == OPTION_BYTES)
		return parse_size(text, row->min, row->max, out);
	if (row->kind == OPTION_MS)
		return parse_duration_ms(text, row->min, row->max, out);
	return parse_u64(text, row->min, row->max, out);
}

static enum err set(struct options *o, const struct option_row *row, const char *value)
{
	enum err err = row->check ? row->check(span_str(value)) : E_OK;

	if (err != E_OK)
		return err;
	switch (row->kind) {
	case OPTION_SWITCH: return E_MALFORMED;
	case OPTION_TEXT: *(const char **)member(o, row) = value; return E_OK;
	case OPTION_LIST: return list_add(member(o, row), value);
	case OPTION_NUMBER:
	case OPTION_BYTES:
	case OPTION_MS:
	case OPTION_SECS: return set_number(o, row, span_str(value));
	}
	return E_UNKNOWN;
}

static bool same_name(struct span name, const char *row_name, bool kernel)
{
	if (name.n != strlen(row_name))
		return false;
	for (size_t i = 0; i < name.n; i++)
		if (name.p[i] != (uint8_t)(kernel && row_name[i] == '-' ? '_' : row_name[i]))
			return false;
	return true;
}

/* The data device has an older key on the kernel command line, too. */
static const struct option_row *row_of(struct span name, bool kernel)
{
	if (kernel && span_eq_str(name, "docker_data_device"))
		name = span_str("data_device");
	for (size_t i = 0; i < option_row_count; i++)
		if (same_name(name, option_rows[i].name, kernel))
			return &option_rows[i];
	return NULL;
}

static bool wrong(struct option_problem *p, const char *name, const char *value,
    const struct option_row *row, enum err err)
{
	*p = (struct option_problem){name, value, row, err};
	return false;
}

/* What is given next replaces what a list has, instead of adding to it. */
static void begin_lists(struct options *o)
{
	for (size_t i = 0; i < option_row_count; i++)
		if (option_rows[i].kind == OPTION_LIST)
			((struct option_list *)member(o, &option_rows[i]))->given = false;
}

/* The one word that is no option. */
static bool set_command(struct options *o, struct span word)
{
	static const char *const names[] = {[COMMAND_INIT] = "init", [COMMAND_SERVE] = "serve"};

	for (size_t i = COMMAND_INIT; i < COUNT(names) && o->command == COMMAND_ALL; i++)
		if (span_eq_str(word, names[i]))
			o->command = (enum options_command)i;
	return o->command != COMMAND_ALL && span_eq_str(word, names[o->command]);
}

bool options_parse(struct options *o, int argc, char *const *argv, struct option_problem *p)
{
	begin_lists(o);
	for (int i = 1; i < argc; i++) {
		const char *arg = argv[i];
		struct span name = span_str(arg);
		const char *value = strchr(arg, '=');
		const struct option_row *row;
		enum err err;

		if (set_command(o, name))
			continue;
		if (!span_starts(name, span_str("--")))
			return wrong(p, arg, NULL, NULL, E_UNKNOWN);
		name = span_from(value ? span_first(name, (size_t)(value - arg)) : name, 2);
		row = row_of(name, false);
		if (!row)
			return wrong(p, arg, NULL, NULL, E_UNKNOWN);
		if (row->kind == OPTION_SWITCH && !value) {
			*(bool *)member(o, row) = true;
			continue;
		}
		value = value ? value + 1 : argv[++i];
		if (!value)
			return wrong(p, arg, NULL, row, E_MORE);
		err = set(o, row, value);
		if (err != E_OK)
			return wrong(p, arg, value, row, err);
	}
	return true;
}

static void kernel_word(struct options *o, char *word, void (*tell)(const struct option_problem *p))
{
	char *value = strchr(word, '=');
	struct span name = span_from(span_str(word), strlen("arcbox."));
	const struct option_row *row;
	struct option_problem problem;
	enum err err = E_OK;

	if (value)
		name = span_from(span_of(word, (size_t)(value - word)), strlen("arcbox."));
	row = row_of(name, true);
	if (!row)
		return; /* other keys are other parts' business */
	if (row->kind == OPTION_SWITCH && (!value || strcmp(value, "=1") == 0))
		*(bool *)member(o, row) = true;
	else
		err = value ? set(o, row, value + 1) : E_MORE;
	if (err == E_OK)
		return;
	wrong(&problem, word, value ? value + 1 : NULL, row, err);
	tell(&problem);
}

void options_kernel(
    struct options *o, const char *cmdline, void (*tell)(const struct option_problem *p))
{
	static char words[CMDLINE_BYTES]; /* options view it */
	char *save = NULL;

	if (!span_to_cstr(span_first(span_str(cmdline), sizeof words - 1), words, sizeof words))
		return;
	for (char *word = strtok_r(words, " \t\n", &save); word;
	     word = strtok_r(NULL, " \t\n", &save))
		if (span_starts(span_str(word), span_str("arcbox.")))
			kernel_word(o, word, tell);
}

static bool is_port(struct span text, uint64_t *port)
{
	return parse_u64(text, 1, UINT32_MAX, port) == E_OK;
}

/* The value of the last `key` among the words of a kernel command line. */
static struct span kernel_value(struct span words, struct span key)
{
	struct span value = span_of(NULL, 0);

	while (words.n) {
		struct span word = span_split(&words, ' ');

		if (span_starts(word, key))
			value = span_from(word, key.n);
	}
	return value;
}

void options_docker_port(struct options *o, const char *variable, const char *cmdline)
{
	static const struct span key = SPAN_LIT("arcbox.guest_docker_vsock_port=");
	static char proxy[64]; /* the option views it */
	struct span words = span_str(cmdline);
	uint64_t port;
	struct wr w;

	if (words.n && words.p[words.n - 1] == '\n')
		words.n--;
	if (!(variable && is_port(span_str(variable), &port)) &&
	    !is_port(kernel_value(words, key), &port))
		return;
	w = wr_of(proxy, sizeof proxy);
	wr_str(&w, "vsock:");
	wr_dec(&w, port);
	wr_str(&w, "=unix:/var/run/docker.sock");
	wr_nul(&w);
	o->proxy.values[0] = proxy;
}

const char *option_or_variable(const char *option, const char *variable)
{
	const char *value = option ? option : getenv(variable);

	return value && *value ? value : NULL;
}
