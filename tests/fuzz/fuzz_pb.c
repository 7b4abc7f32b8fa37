/* Messages: the first byte chooses the table. What is read and written reads and writes to the same
 * bytes again, and pb_size() says how many. */
#include "codec/messages.h"

#include "fuzz.h"

#include <stdlib.h>

static uint64_t memory[1 << 17]; /* holds whatever 4 KiB can decode to */

static const struct pb_table *const tables[] = {
    &rpc_ping_request_table,
    &rpc_system_info_table,
    &rpc_create_sandbox_request_table,
    &rpc_sandbox_info_table,
    &rpc_exec_request_table,
    &rpc_output_table,
    &rpc_list_snapshots_response_table,
    &rpc_runtime_status_response_table,
    &rpc_port_bindings_changed_table,
    &rpc_restore_request_table,
    &rpc_empty_table,
};

/* Reads `in` and writes it again; false when it does not read. */
static bool rewrite(const struct pb_table *t, struct span in, struct wr *w)
{
	struct pb_arena a = pb_arena_of(memory, sizeof memory);
	uint64_t msg[64];

	if (pb_read(in, t, &a, msg))
		return false;
	if (pb_write(w, t, msg) || w->n != pb_size(t, msg))
		abort();
	return true;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
	static uint8_t first[1 << 15], second[1 << 15];
	struct wr w1 = wr_of(first, sizeof first), w2 = wr_of(second, sizeof second);
	const struct pb_table *t;

	if (n == 0 || n > 4096)
		return 0;
	t = tables[data[0] % (sizeof tables / sizeof *tables)];
	if (!rewrite(t, span_of(data + 1, n - 1), &w1))
		return 0;
	if (!rewrite(t, wr_span(&w1), &w2) || !span_eq(wr_span(&w1), wr_span(&w2)))
		abort();
	return 0;
}
