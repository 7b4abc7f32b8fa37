/* A request to a server with some names: what it answers must be an answer to just that. */
#include "fuzz.h"
#include "names/answer.h"

static struct answerer answerer;

static void must(bool held)
{
	if (!held)
		__builtin_trap();
}

static void add(struct registry *r, const char *name, uint8_t from, uint8_t n)
{
	struct span s = span_str(name);
	struct ip ips[64] = {{6, {0xfd, [15] = from}}};

	for (uint8_t i = 1; i < n; i++)
		ips[i] = ip_v4(10, 0, from, i);
	must(registry_set(r, s, &s, 1, ips, n) == 0);
}

static void start(void)
{
	struct registry_conf conf = {
	    .max_owners = 8,
	    .max_names = 32,
	    .max_names_per_owner = 2,
	    .max_addrs_per_owner = 64,
	};
	struct registry *r;

	must(dns_name_from_text(span_str("arcbox.local"), &conf.domain) == E_OK);
	r = registry_new(&conf);
	must(r != NULL);
	add(r, "web", 1, 3);
	add(r, "db.proj", 2, 2);
	add(r, "many", 3, 64);
	add(r, "six", 4, 1);
	answerer_init(&answerer, r, 5);
}

static void check_answer(enum answer_front front, struct span request)
{
	static uint8_t buf[DNS_MESSAGE_BYTES];
	struct dns_response response;
	struct dns_query query;
	struct span reply;

	if (answer_request(&answerer, front, request, buf, &query, &reply) != ANSWER_READY)
		return;
	must(reply.n <= answer_limit(front, &query));
	must(reply.n >= 2 && reply.p[0] == request.p[0] && reply.p[1] == request.p[1]);
	if (query.flags & DNS_OPCODE)
		return;
	must(dns_response_read(reply, &response) == E_OK);
	must(span_eq(response.raw, query.raw));
	if (response.header.flags & DNS_TC)
		must(front == ANSWER_UDP && response.header.count[DNS_ANSWER] == 0);
	else
		must(response.edns.present == query.edns.present);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
	if (!answerer.registry)
		start();
	check_answer(ANSWER_UDP, span_of(data, n));
	check_answer(ANSWER_TCP, span_of(data, n));
	return 0;
}
