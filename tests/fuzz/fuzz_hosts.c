/* A hosts file: lines are told in order, and every address survives its own text. */
#include "codec/hosts.h"
#include "fuzz.h"

static void must(bool held)
{
	if (!held)
		__builtin_trap();
}

static void check_entry(struct hosts_entry *e)
{
	char text[IP_TEXT_BYTES];
	struct span name;
	struct ip ip;
	size_t n = ip_format(&e->ip, text), names = 0;

	must(ip_parse(span_of(text, n), &ip) == E_OK && ip_eq(&ip, &e->ip));
	while (hosts_name_next(&e->names, &name)) {
		must(
		    name.n > 0 && span_find(name, ' ') == name.n && span_find(name, '#') == name.n);
		names++;
	}
	must(names > 0);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
	struct hosts_reader r = hosts_reader_of(span_of(data, n));
	struct hosts_entry e;
	unsigned line = 0;

	while (hosts_next(&r, &e)) {
		must(e.line > line);
		line = e.line;
		if (!e.problem)
			check_entry(&e);
	}
	return 0;
}
