#include "rpc/methods.h"

#include "rpc_case.h"

static struct rpc_case c;

/* Every request of the protocol and what answers it. */
static const struct {
	uint32_t request, response;
} pairs[] = {
    {0x0001, 0x1001},
    {0x0002, 0x1002},
    {0x0003, 0x1003},
    {0x0004, 0x1004},
    {0x0005, 0x1005},
    {0x0006, 0x1006},
    {0x0007, 0x1007},
    {0x0008, 0x1008},
    {0x0009, 0x1009},
    {0x000a, 0x100a},
    {0x000b, 0x100b},
    {0x0020, 0x1020},
    {0x0021, 0x1021},
    {0x0022, 0x1022},
    {0x0023, 0x1023},
    {0x0024, 0x1024},
    {0x0030, 0x1035},
    {0x0031, 0x1036},
    {0x0032, 0x1037},
    {0x0040, 0x1040},
    {0x0041, 0x1041},
    {0x0042, 0x1042},
    {0x0043, 0x1043},
};
enum { PAIRS = sizeof pairs / sizeof *pairs };

START_TEST(each_request_has_one_row)
{
	ck_assert_uint_eq(rpc_method_count, PAIRS);
	for (size_t i = 0; i < PAIRS; i++) {
		const struct rpc_method *found = NULL;
		unsigned rows = 0;

		for (size_t k = 0; k < rpc_method_count; k++) {
			if (rpc_methods[k].request != pairs[i].request)
				continue;
			found = &rpc_methods[k];
			rows++;
		}
		ck_assert_msg(rows == 1, "0x%04x has %u rows", pairs[i].request, rows);
		ck_assert_uint_eq(found->response, pairs[i].response);
		ck_assert_ptr_nonnull(found->handler);
	}
}
END_TEST

/* What is a request by its name, and so would be refused as unknown without a row. */
START_TEST(no_request_is_left_out)
{
	for (uint32_t type = 0; type <= UINT16_MAX; type++) {
		const struct message_type *m = message_by_type(type);
		bool listed = false;

		for (size_t i = 0; i < PAIRS; i++)
			listed |= pairs[i].request == type;
		if (m)
			ck_assert_msg(listed == span_ends(span_str(m->name), span_str("Request")),
			    "%s", m->name);
		else
			ck_assert(!listed);
	}
}
END_TEST

static bool has_no_fields(const struct pb_table *t)
{
	return !t || t->n == 0;
}

START_TEST(rows_have_the_tables_of_their_types)
{
	for (size_t i = 0; i < rpc_method_count; i++) {
		const struct rpc_method *row = &rpc_methods[i];
		const struct message_type *in = message_by_type(row->request);
		const struct message_type *out = message_by_type(row->response);

		ck_assert_msg(row->in == in->table, "%s", in->name);
		ck_assert_msg(row->out == out->table ||
			(has_no_fields(row->out) && has_no_fields(out->table)),
		    "%s", out->name);
	}
}
END_TEST

START_TEST(without_sandboxes_each_request_for_them_says_so)
{
	unsigned refused = 0;

	rpc_case_begin(&c);
	rpc_case_serve(&c);
	for (size_t i = 0; i < PAIRS; i++) {
		if (pairs[i].request < RPC_SANDBOX_CREATE_REQUEST)
			continue;
		rpc_case_refused(&c, pairs[i].request, span_of(NULL, 0), RPC_UNAVAILABLE,
		    "sandbox service unavailable");
		refused++;
	}
	ck_assert_uint_eq(refused, 12);
	rpc_case_end(&c);
}
END_TEST

Suite *suite(void)
{
	const TTest *const tests[] = {
	    each_request_has_one_row,
	    no_request_is_left_out,
	    rows_have_the_tables_of_their_types,
	    without_sandboxes_each_request_for_them_says_so,
	    NULL,
	};

	return suite_of("methods", tests);
}
