#include "codec/hosts.h"

static bool is_blank(uint8_t c)
{
	return c == ' ' || c == '\t';
}

/* The line without its comment, its CR and the blanks around it. */
static struct span line_body(struct span line)
{
	if (line.n && line.p[line.n - 1] == '\r')
		line.n--;
	return span_trim(span_first(line, span_find(line, '#')));
}

static bool has_control(struct span s)
{
	for (size_t i = 0; i < s.n; i++)
		if ((s.p[i] < 0x20 && s.p[i] != '\t') || s.p[i] == 0x7f)
			return true;
	return false;
}

/* Fills the entry from a line that is not empty, and says what is wrong with it. */
static const char *entry_read(struct span body, struct hosts_entry *out)
{
	struct span names = body, address;

	if (body.n > HOSTS_LINE_BYTES)
		return "the line is too long";
	if (has_control(body))
		return "a control byte in the line";
	hosts_name_next(&names, &address);
	if (ip_parse(address, &out->ip) != E_OK)
		return "not an IP address";
	out->names = span_trim(names);
	return out->names.n ? NULL : "no name behind the address";
}

bool hosts_next(struct hosts_reader *r, struct hosts_entry *out)
{
	while (r->rest.n) {
		struct span body = line_body(span_split(&r->rest, '\n'));

		r->line++;
		if (body.n == 0)
			continue;
		*out = (struct hosts_entry){.line = r->line};
		out->problem = entry_read(body, out);
		return true;
	}
	return false;
}

bool hosts_name_next(struct span *names, struct span *out)
{
	struct span rest = span_trim(*names);
	size_t n = 0;

	if (rest.n == 0)
		return false;
	while (n < rest.n && !is_blank(rest.p[n]))
		n++;
	*out = span_first(rest, n);
	*names = span_from(rest, n);
	return true;
}
