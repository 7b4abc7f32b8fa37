#include "agent/option_text.h"

#include "base/cursor.h"
#include "sys/fs.h"

enum { HELP_COLUMN = 34 };

#define COUNT(array) (sizeof(array) / sizeof *(array))
#define MIB          (UINT64_C(1024) * 1024)

static const char *number_text(enum option_kind kind, uint64_t v, char *buf, size_t cap)
{
	struct wr w = wr_of(buf, cap);
	static const struct {
		enum option_kind kind;
		uint64_t unit;
		const char *suffix;
	} units[] = {
	    {OPTION_BYTES, MIB, "M"},
	    {OPTION_BYTES, 1024, "K"},
	    {OPTION_MS, 60000, "m"},
	    {OPTION_MS, 1000, "s"},
	    {OPTION_MS, 1, "ms"},
	};

	for (size_t i = 0; i < COUNT(units); i++) {
		if (units[i].kind != kind || v == 0 || v % units[i].unit)
			continue;
		wr_dec(&w, v / units[i].unit);
		wr_str(&w, units[i].suffix);
		wr_nul(&w);
		return buf;
	}
	wr_dec(&w, v);
	wr_str(&w, kind == OPTION_MS ? "s" : "");
	wr_nul(&w);
	return buf;
}

const char *option_default_text(const struct option_row *row, char *buf, size_t cap)
{
	struct wr w = wr_of(buf, cap);

	if (row->kind != OPTION_SWITCH && row->kind != OPTION_TEXT && row->kind != OPTION_LIST)
		return number_text(row->kind, row->number, buf, cap);
	for (size_t i = 0; i < COUNT(row->text) && row->text[i]; i++) {
		wr_str(&w, i ? ", " : "");
		wr_str(&w, row->text[i]);
	}
	wr_nul(&w);
	return buf;
}

const char *option_problem_text(const struct option_problem *p, char *buf, size_t cap)
{
	char low[32], high[32];

	if (!p->row)
		text_join(buf, cap, "unknown option '", p->name, "'; --help lists them");
	else if (!p->value)
		text_join(buf, cap, "option --", p->row->name, " needs a value: ", p->row->help);
	else if (p->row->kind == OPTION_SWITCH)
		text_join(buf, cap, "option --", p->row->name, " takes no value");
	else if (p->row->kind == OPTION_TEXT || p->row->kind == OPTION_LIST)
		text_join(buf, cap, "option --", p->row->name, ": '", p->value, "' is ",
		    err_text((int)p->err), " (wanted ", p->row->value, ": ", p->row->help, ")");
	else
		text_join(buf, cap, "option --", p->row->name, ": '", p->value, "' is ",
		    err_text((int)p->err), " (wanted ",
		    number_text(p->row->kind, p->row->min, low, sizeof low), " to ",
		    number_text(p->row->kind, p->row->max, high, sizeof high), ")");
	return buf;
}

static void wr_blanks(struct wr *w, size_t n)
{
	for (; n > 0; n--)
		wr_u8(w, ' ');
}

/* The default follows the help, or stands below it when the line would be too long. */
static void wr_default(struct wr *w, const struct option_row *row)
{
	char buf[160];
	const char *text = option_default_text(row, buf, sizeof buf);
	bool below = strlen(row->help) + strlen(text) >= 60;

	if (!*text)
		return;
	wr_str(w, below ? "\n" : "");
	wr_blanks(w, below ? HELP_COLUMN : 1);
	wr_str(w, "(");
	wr_str(w, text);
	wr_str(w, ")");
}

static void help_row(const struct option_row *row, struct wr *w)
{
	char left[64];
	size_t n;

	text_join(left, sizeof left, "--", row->name, row->value ? " " : "",
	    row->value ? row->value : "");
	n = strlen(left);
	if (row->group) {
		wr_str(w, "\n");
		wr_str(w, row->group);
		wr_str(w, ":\n");
	}
	wr_blanks(w, 2);
	wr_str(w, left);
	wr_blanks(w, n < HELP_COLUMN - 2 ? HELP_COLUMN - 2 - n : 0);
	wr_str(w, row->help);
	wr_default(w, row);
	wr_str(w, "\n");
}

void options_help(int fd)
{
	fs_write_all(fd,
	    span_str(
		"Usage: arcbox-agent [init | serve] [OPTION]...\n"
		"The guest agent of a Linux virtual machine: RPC for the host, DNS, Docker and "
		"Kubernetes relays.\n\n"
		"  init   bring the system up, and exit: for a guest with an init of its own\n"
		"  serve  serve the host and the guest\n\n"
		"Without a command, PID 1 does both, and any other process serves.\n"));
	for (size_t i = 0; i < option_row_count; i++) {
		char lines[512];
		struct wr w = wr_of(lines, sizeof lines);

		help_row(&option_rows[i], &w);
		fs_write_all(fd, wr_span(&w));
	}
}
