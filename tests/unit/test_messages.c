#include "codec/messages.h"

#include "cases.h"
#include "suite.h"

#include <inttypes.h>
#include <stdio.h>

/* A message of each kind with every field set, as protobuf's text format and as protoc 3.21 encodes
 * that: whatever member, number or type is mixed up in a table shows. */
static const struct {
	const struct pb_table *table;
	const char *text;
	const char *hex;
} vectors[] = {
    {&rpc_ping_request_table, "message: \"mes1\" timestamp_secs: -2000007",
	"0a046d65733110f9f685ffffffffffff01"},
    {&rpc_ping_response_table, "message: \"mes3\" version: \"ver4\"", "0a046d657333120476657234"},
    {&rpc_system_info_table,
	"kernel_version: \"ker5\" os_name: \"os_6\" os_version: \"os_7\" arch: \"arc8\" "
	"total_memory: 18446744073709480344 available_memory: 18446744073709472425 "
	"cpu_count: 4294967284 load_average: 12.25 load_average: 13.25 hostname: \"hos14\" "
	"uptime: 18446744073709432830 ip_addresses: \"ip_16\" ip_addresses: \"ip_17\"",
	"0a046b65723512046f735f361a046f735f372204617263382898d3fbffffffffffff0130a995fbff"
	"ffffffffff0138f4ffffff0f421000000000008028400000000000802a404a05686f73313450fedf"
	"f8ffffffffffff015a0569705f31365a0569705f3137"},
    {&rpc_shutdown_request_table, "timeout_seconds: 4294967277", "08edffffff0f"},
    {&rpc_shutdown_response_table, "accepted: true", "0801"},
    {&rpc_mmap_read_file_request_table,
	"path: \"pat19\" offset: 18446744073709393235 length: 18446744073709385316",
	"0a05706174313910d3aaf6ffffffffffff0118e4ecf5ffffffffffff01"},
    {&rpc_mmap_read_file_response_table, "data: \"dat22\" bytes_read: 18446744073709369478",
	"0a0564617432321086f1f4ffffffffffff01"},
    {&rpc_port_binding_table,
	"container_port: 4294967271 host_port: 4294967270 protocol: \"pro26\" host_ip: "
	"\"hos27\"",
	"08e7ffffff0f10e6ffffff0f1a0570726f32362205686f733237"},
    {&rpc_port_bindings_changed_table,
	"container_id: \"con28\" bindings { container_port: 4294967266 host_port: 4294967265 "
	"protocol: \"pro31\" host_ip: \"hos32\" } bindings { container_port: 4294967262 "
	"host_port: 4294967261 protocol: \"pro35\" host_ip: \"hos36\" }",
	"0a05636f6e3238121a08e2ffffff0f10e1ffffff0f1a0570726f33312205686f733332121a08deff"
	"ffff0f10ddffffff0f1a0570726f33352205686f733336"},
    {&rpc_port_bindings_removed_table, "container_id: \"con37\"", "0a05636f6e3337"},
    {&rpc_service_status_table, "name: \"nam38\" status: \"sta39\" detail: \"det40\"",
	"0a056e616d3338120573746133391a056465743430"},
    {&rpc_runtime_ensure_request_table, "start_if_needed: true", "0801"},
    {&rpc_runtime_ensure_response_table,
	"ready: true endpoint: \"end41\" message: \"mes42\" status: \"sta43\"",
	"08011205656e6434311a056d6573343222057374613433"},
    {&rpc_runtime_status_response_table,
	"containerd_ready: true docker_ready: true endpoint: \"end44\" detail: \"det45\" "
	"services { name: \"nam46\" status: \"sta47\" detail: \"det48\" } services { name: "
	"\"nam49\" status: \"sta50\" detail: \"det51\" }",
	"080110011a05656e643434220564657434352a150a056e616d3436120573746134371a0564657434"
	"382a150a056e616d3439120573746135301a056465743531"},
    {&rpc_kubernetes_start_response_table,
	"running: true api_ready: true endpoint: \"end52\" detail: \"det53\"",
	"080110011a05656e64353222056465743533"},
    {&rpc_kubernetes_stop_response_table, "stopped: true detail: \"det54\"", "080112056465743534"},
    {&rpc_kubernetes_delete_response_table, "detail: \"det55\"", "0a056465743535"},
    {&rpc_kubernetes_status_response_table,
	"running: true api_ready: true endpoint: \"end56\" detail: \"det57\" services { "
	"name: \"nam58\" status: \"sta59\" detail: \"det60\" } services { name: \"nam61\" "
	"status: \"sta62\" detail: \"det63\" }",
	"080110011a05656e643536220564657435372a150a056e616d3538120573746135391a0564657436"
	"302a150a056e616d3631120573746136321a056465743633"},
    {&rpc_kubernetes_kubeconfig_response_table,
	"kubeconfig: \"kub64\" context_name: \"con65\" endpoint: \"end66\"",
	"0a056b756236341205636f6e36351a05656e643636"},
    {&rpc_resource_limits_table, "vcpus: 4294967228 memory_mib: 18446744073709013123",
	"08bcffffff0f108391dfffffffffffff01"},
    {&rpc_network_spec_table, "mode: \"mod69\"", "0a056d6f643639"},
    {&rpc_mount_table, "source: \"sou70\" target: \"tar71\" readonly: true",
	"0a05736f753730120574617237311801"},
    {&rpc_terminal_size_table, "width: 4294967223 height: 4294967222", "08b7ffffff0f10b6ffffff0f"},
    {&rpc_sandbox_network_table, "ip_address: \"ip_74\" gateway: \"gat75\" tap_name: \"tap76\"",
	"0a0569705f3734120567617437351a057461703736"},
    {&rpc_create_sandbox_request_table,
	"id: \"id77\" labels { key: \"k78\" value: \"v79\" } kernel: \"ker80\" rootfs: "
	"\"roo81\" boot_args: \"boo82\" limits { vcpus: 4294967212 memory_mib: "
	"18446744073708886419 } image: \"ima85\" cmd: \"cmd86\" cmd: \"cmd87\" env { key: "
	"\"k88\" value: \"v89\" } working_dir: \"wor90\" user: \"use91\" mounts { source: "
	"\"sou92\" target: \"tar93\" readonly: true } mounts { source: \"sou94\" target: "
	"\"tar95\" readonly: true } network { mode: \"mod96\" } ttl_seconds: 4294967198 "
	"ssh_public_key: \"ssh98\"",
	"0a0469643737120a0a036b373812037637391a056b657238302205726f6f38312a05626f6f383232"
	"1108acffffff0f1093b3d7ffffffffffff013a05696d6138354205636d6438364205636d6438374a"
	"0a0a036b383812037638395205776f7239305a05757365393162100a05736f753932120574617239"
	"33180162100a05736f7539341205746172393518016a070a056d6f643936709effffff0f7a057373"
	"683938"},
    {&rpc_create_sandbox_response_table, "id: \"id99\" ip_address: \"ip_0\" state: \"sta1\"",
	"0a0469643939120469705f301a0473746131"},
    {&rpc_stop_sandbox_request_table, "id: \"id2\" timeout_seconds: 4294967192",
	"0a036964321098ffffff0f"},
    {&rpc_remove_sandbox_request_table, "id: \"id4\" force: true", "0a036964341001"},
    {&rpc_inspect_sandbox_request_table, "id: \"id5\"", "0a03696435"},
    {&rpc_sandbox_info_table,
	"id: \"id6\" state: \"sta7\" labels { key: \"k8\" value: \"v9\" } limits { vcpus: "
	"4294967185 memory_mib: 18446744073708672606 } network { ip_address: \"ip_12\" "
	"gateway: \"gat13\" tap_name: \"tap14\" } created_at: -115000346 ready_at: "
	"-116000349 last_exited_at: -117000352 last_exit_code: -119 error: \"err19\"",
	"0a036964361204737461371a080a026b381202763922110891ffffff0f10deaccaffffffffffff01"
	"2a150a0569705f3132120567617431331a05746170313430e6f794c9ffffffffff0138a3f3d7c8ff"
	"ffffffff0140e0ee9ac8ffffffffff014889ffffffffffffffff0152056572723139"},
    {&rpc_list_sandboxes_request_table, "state: \"sta20\" labels { key: \"k21\" value: \"v22\" }",
	"0a057374613230120a0a036b32311203763232"},
    {&rpc_sandbox_summary_table,
	"id: \"id23\" state: \"sta24\" labels { key: \"k25\" value: \"v26\" } ip_address: "
	"\"ip_27\" created_at: -128000385",
	"0a0469643233120573746132341a0a0a036b32351203763236220569705f323728ffbcfbc2ffffff"
	"ffff01"},
    {&rpc_list_sandboxes_response_table,
	"sandboxes { id: \"id29\" state: \"sta30\" labels { key: \"k31\" value: \"v32\" } "
	"ip_address: \"ip_33\" created_at: -134000403 } sandboxes { id: \"id35\" state: "
	"\"sta36\" labels { key: \"k37\" value: \"v38\" } ip_address: \"ip_39\" created_at: "
	"-140000421 }",
	"0a2b0a0469643239120573746133301a0a0a036b33311203763332220569705f333328eda18dc0ff"
	"ffffffff010a2b0a0469643335120573746133361a0a0a036b33371203763338220569705f333928"
	"db869fbdffffffffff01"},
    {&rpc_run_request_table,
	"id: \"id41\" cmd: \"cmd42\" cmd: \"cmd43\" env { key: \"k44\" value: \"v45\" } "
	"working_dir: \"wor46\" user: \"use47\" tty: true timeout_seconds: 4294967147",
	"0a04696434311205636d6434321205636d6434331a0a0a036b343412037634352205776f7234362a"
	"057573653437300138ebfeffff0f"},
    {&rpc_exec_request_table,
	"id: \"id49\" cmd: \"cmd50\" cmd: \"cmd51\" env { key: \"k52\" value: \"v53\" } "
	"working_dir: \"wor54\" user: \"use55\" tty: true tty_size { width: 4294967139 "
	"height: 4294967138 } timeout_seconds: 4294967137",
	"0a04696434391205636d6435301205636d6435311a0a0a036b353212037635332205776f7235342a"
	"05757365353530013a0c08e3feffff0f10e2feffff0f40e1feffff0f"},
    {&rpc_output_table, "stream: \"str59\" data: \"dat60\" exit_code: -162 done: true",
	"0a0573747235391205646174363018defeffffffffffffff012001"},
    {&rpc_sandbox_events_request_table, "id: \"id62\" action: \"act63\"",
	"0a046964363212056163743633"},
    {&rpc_sandbox_event_table,
	"sandbox_id: \"san64\" action: \"act65\" timestamp: -166000499 attributes { key: "
	"\"k67\" value: \"v68\" }",
	"0a0573616e363412056163743635188d91ecb0ffffffffff01220a0a036b36371203763638"},
    {&rpc_checkpoint_request_table,
	"sandbox_id: \"san69\" name: \"nam70\" labels { key: \"k71\" value: \"v72\" }",
	"0a0573616e363912056e616d37301a0a0a036b37311203763732"},
    {&rpc_checkpoint_response_table,
	"snapshot_id: \"sna73\" snapshot_dir: \"sna74\" created_at: \"cre75\"",
	"0a05736e6137331205736e6137341a056372653735"},
    {&rpc_restore_request_table,
	"id: \"id76\" snapshot_id: \"sna77\" labels { key: \"k78\" value: \"v79\" } "
	"network_override: true ttl_seconds: 4294967115",
	"0a04696437361205736e6137371a0a0a036b37381203763739200128cbfeffff0f"},
    {&rpc_restore_response_table, "id: \"id81\" ip_address: \"ip_82\"",
	"0a0469643831120569705f3832"},
    {&rpc_list_snapshots_request_table,
	"sandbox_id: \"san83\" labels { key: \"k84\" value: \"v85\" }",
	"0a0573616e3833120a0a036b38341203763835"},
    {&rpc_snapshot_summary_table,
	"id: \"id86\" sandbox_id: \"san87\" name: \"nam88\" labels { key: \"k89\" value: "
	"\"v90\" } snapshot_dir: \"sna91\" created_at: \"cre92\"",
	"0a0469643836120573616e38371a056e616d3838220a0a036b383912037639302a05736e61393132"
	"056372653932"},
    {&rpc_list_snapshots_response_table,
	"snapshots { id: \"id93\" sandbox_id: \"san94\" name: \"nam95\" labels { key: "
	"\"k96\" value: \"v97\" } snapshot_dir: \"sna98\" created_at: \"cre99\" } snapshots "
	"{ id: \"id0\" sandbox_id: \"san1\" name: \"nam2\" labels { key: \"k3\" value: "
	"\"v4\" } snapshot_dir: \"sna5\" created_at: \"cre6\" }",
	"0a2e0a0469643933120573616e39341a056e616d3935220a0a036b393612037639372a05736e6139"
	"38320563726539390a270a03696430120473616e311a046e616d3222080a026b33120276342a0473"
	"6e6135320463726536"},
    {&rpc_delete_snapshot_request_table, "snapshot_id: \"sna7\"", "0a04736e6137"},
};

#define VECTORS (sizeof vectors / sizeof *vectors)

static uint64_t memory[4096];

static struct pb_arena arena(void)
{
	return pb_arena_of(memory, sizeof memory);
}

/* --- text format ------------------------------------------------------------------------------ */

static void print_message(struct wr *w, const struct pb_table *t, const void *msg);

static void print_string(struct wr *w, struct span s)
{
	wr_str(w, "\"");
	wr_bytes(w, s);
	wr_str(w, "\"");
}

static void print_value(struct wr *w, const struct pb_field *f, const void *v)
{
	char digits[32] = "";

	switch (f->type) {
	case PB_STRING:
	case PB_BYTES: print_string(w, *(const struct span *)v); break;
	case PB_BOOL: wr_str(w, *(const bool *)v ? "true" : "false"); break;
	case PB_INT32: snprintf(digits, sizeof digits, "%" PRId32, *(const int32_t *)v); break;
	case PB_INT64: snprintf(digits, sizeof digits, "%" PRId64, *(const int64_t *)v); break;
	case PB_UINT32: snprintf(digits, sizeof digits, "%" PRIu32, *(const uint32_t *)v); break;
	case PB_UINT64: snprintf(digits, sizeof digits, "%" PRIu64, *(const uint64_t *)v); break;
	case PB_DOUBLE: snprintf(digits, sizeof digits, "%g", *(const double *)v); break;
	default: print_message(w, f->sub, v);
	}
	wr_str(w, digits);
}

static void print_field(struct wr *w, const struct pb_field *f, const void *v)
{
	if (w->n && w->p[w->n - 1] != ' ')
		wr_str(w, " ");
	wr_str(w, f->name);
	wr_str(w, f->type == PB_MESSAGE ? " { " : ": ");
	print_value(w, f, v);
	wr_str(w, f->type == PB_MESSAGE ? " }" : "");
}

static size_t item_size(const struct pb_field *f)
{
	static const size_t sizes[] = {
	    [PB_STRING] = sizeof(struct span),
	    [PB_BYTES] = sizeof(struct span),
	    [PB_BOOL] = sizeof(bool),
	    [PB_INT32] = sizeof(int32_t),
	    [PB_INT64] = sizeof(int64_t),
	    [PB_UINT32] = sizeof(uint32_t),
	    [PB_UINT64] = sizeof(uint64_t),
	    [PB_DOUBLE] = sizeof(double),
	};

	return f->sub ? f->sub->size : sizes[f->type];
}

static void print_message(struct wr *w, const struct pb_table *t, const void *msg)
{
	for (size_t i = 0; i < t->n; i++) {
		const struct pb_field *f = &t->fields[i];
		const void *member = (const uint8_t *)msg + f->offset;
		const struct pb_list *list = member;
		const void *sub;

		if (f->label == PB_LABEL_REPEATED || f->label == PB_LABEL_MAP) {
			for (size_t k = 0; k < list->n; k++)
				print_field(w, f, (const uint8_t *)list->items + k * item_size(f));
		} else if (f->type == PB_MESSAGE) {
			memcpy(&sub, member, sizeof sub);
			print_field(w, f, sub);
		} else {
			print_field(w, f, member);
		}
	}
}

/* --- messages made by walking their table --------------------------------------------------- */

static void fill_message(struct pb_arena *a, const struct pb_table *t, void *msg, unsigned *seed);

/* A text that grows and falls with the seed. Keys of a map ascend, as they come out of a reader. */
static struct span fill_text(struct pb_arena *a, unsigned seed)
{
	char *text = pb_alloc(a, 32);

	ck_assert_ptr_nonnull(text);
	snprintf(text, 32, "%05u%.*s", seed, (int)(seed % 16), "abcdefghijklmnop");
	return span_str(text);
}

static void fill_value(struct pb_arena *a, const struct pb_field *f, void *to, unsigned *seed)
{
	unsigned n = ++*seed;

	switch (f->type) {
	case PB_STRING:
	case PB_BYTES: *(struct span *)to = fill_text(a, n); break;
	case PB_BOOL: *(bool *)to = true; break;
	case PB_INT32: *(int32_t *)to = INT32_MIN + (int32_t)n; break;
	case PB_INT64: *(int64_t *)to = INT64_MIN + n; break;
	case PB_UINT32: *(uint32_t *)to = UINT32_MAX / n; break;
	case PB_UINT64: *(uint64_t *)to = UINT64_MAX / n; break;
	case PB_DOUBLE: *(double *)to = -0.125 * n; break;
	default: fill_message(a, f->sub, to, seed);
	}
}

static void fill_items(
    struct pb_arena *a, const struct pb_field *f, struct pb_list *to, unsigned *seed)
{
	uint8_t *items = pb_alloc(a, 5 * item_size(f));

	ck_assert_ptr_nonnull(items);
	for (size_t i = 0; i < 5; i++)
		fill_value(a, f, items + i * item_size(f), seed);
	*to = (struct pb_list){items, 5};
}

static void fill_message(struct pb_arena *a, const struct pb_table *t, void *msg, unsigned *seed)
{
	for (size_t i = 0; i < t->n; i++) {
		const struct pb_field *f = &t->fields[i];
		void *member = (uint8_t *)msg + f->offset;
		void *sub;

		if (f->label == PB_LABEL_REPEATED || f->label == PB_LABEL_MAP) {
			fill_items(a, f, member, seed);
		} else if (f->type == PB_MESSAGE) {
			sub = pb_alloc(a, f->sub->size);
			ck_assert_ptr_nonnull(sub);
			fill_value(a, f, sub, seed);
			memcpy(member, &sub, sizeof sub);
		} else {
			fill_value(a, f, member, seed);
		}
	}
}

static void print_whole(char *text, size_t cap, const struct pb_table *t, const void *msg)
{
	struct wr w = wr_of(text, cap);

	print_message(&w, t, msg);
	wr_nul(&w);
	ck_assert_int_eq(w.err, E_OK);
}

START_TEST(filled_written_and_read)
{
	static char want[32768], got[32768];
	static uint8_t buf[32768];

	for (size_t i = 0; i < VECTORS; i++) {
		const struct pb_table *t = vectors[i].table;
		struct pb_arena a = arena();
		struct wr w = wr_of(buf, sizeof buf);
		uint64_t msg[64] = {0}, back[64];
		unsigned seed = 0;

		fill_message(&a, t, msg, &seed);
		ck_assert_int_eq(pb_write(&w, t, msg), E_OK);
		ck_assert_uint_eq(w.n, pb_size(t, msg));
		ck_assert_int_eq(pb_read(wr_span(&w), t, &a, back), E_OK);
		print_whole(want, sizeof want, t, msg);
		print_whole(got, sizeof got, t, back);
		ck_assert_uint_gt(strlen(want), 0);
		ck_assert_str_eq(got, want);
	}
}
END_TEST

/* --- tables ----------------------------------------------------------------------------------- */

START_TEST(read_as_protoc_wrote)
{
	for (size_t i = 0; i < VECTORS; i++) {
		struct pb_arena a = arena();
		uint64_t msg[64];
		char text[2048];

		ck_assert_uint_le(vectors[i].table->size, sizeof msg);
		ck_assert_int_eq(pb_read(unhex(vectors[i].hex), vectors[i].table, &a, msg), E_OK);
		print_whole(text, sizeof text, vectors[i].table, msg);
		ck_assert_str_eq(text, vectors[i].text);
	}
}
END_TEST

START_TEST(written_as_protoc_wrote)
{
	for (size_t i = 0; i < VECTORS; i++) {
		struct pb_arena a = arena();
		struct span in = unhex(vectors[i].hex);
		uint64_t msg[64];
		uint8_t buf[1024];
		struct wr w = wr_of(buf, sizeof buf);

		ck_assert_int_eq(pb_read(in, vectors[i].table, &a, msg), E_OK);
		ck_assert_uint_eq(pb_size(vectors[i].table, msg), in.n);
		ck_assert_int_eq(pb_write(&w, vectors[i].table, msg), E_OK);
		ck_assert_msg(span_eq(wr_span(&w), in), "%s", vectors[i].table->name);
	}
}
END_TEST

static void reads_or_leaves_alone(struct span in, void *ctx)
{
	const struct pb_table *t = ctx;
	struct pb_arena a = arena();
	uint64_t msg[64], before[64];
	enum err err;

	memset(msg, 0xa5, sizeof msg);
	memcpy(before, msg, sizeof msg);
	err = pb_read(in, t, &a, msg);
	ck_assert(err == E_OK || err == E_MALFORMED || err == E_UTF8);
	if (err) {
		ck_assert_int_eq(memcmp(msg, before, sizeof msg), 0);
		ck_assert_uint_eq(a.used, 0);
	}
}

START_TEST(cut_and_mutated)
{
	for (size_t i = 0; i < VECTORS; i++) {
		void *table = (void *)(uintptr_t)vectors[i].table;

		each_cut(unhex(vectors[i].hex), reads_or_leaves_alone, table);
		each_mutation(unhex(vectors[i].hex), reads_or_leaves_alone, table);
	}
}
END_TEST

START_TEST(empty_message_is_empty)
{
	for (size_t i = 0; i < VECTORS; i++) {
		static const uint64_t zero[64];
		struct pb_arena a = arena();
		uint64_t msg[64];

		memset(msg, 0xa5, sizeof msg);
		ck_assert_int_eq(pb_read(span_of(NULL, 0), vectors[i].table, &a, msg), E_OK);
		ck_assert_int_eq(memcmp(msg, zero, vectors[i].table->size), 0);
		ck_assert_uint_eq(pb_size(vectors[i].table, msg), 0);
	}
}
END_TEST

START_TEST(rows_ascend_and_stay_inside)
{
	for (size_t i = 0; i < VECTORS; i++) {
		const struct pb_table *t = vectors[i].table;

		ck_assert_uint_gt(t->n, 0);
		for (size_t k = 0; k < t->n; k++) {
			const struct pb_field *f = &t->fields[k];

			ck_assert_uint_gt(f->number, k ? t->fields[k - 1].number : 0);
			ck_assert_uint_lt(f->offset, t->size);
			ck_assert(!f->sub == (f->type != PB_MESSAGE));
		}
	}
}
END_TEST

/* --- types of frames -------------------------------------------------------------------------- */

START_TEST(no_fields)
{
	struct pb_arena a = arena();

	ck_assert_int_eq(pb_read(unhex("0a01 61"), &rpc_empty_table, &a, NULL), E_OK);
	ck_assert_int_eq(pb_read(unhex("0a02 61"), &rpc_empty_table, &a, NULL), E_MALFORMED);
	ck_assert_uint_eq(pb_size(&rpc_empty_table, NULL), 0);
}
END_TEST

/* Whether some type of frame carries the table. */
static bool is_payload(const struct pb_table *t)
{
	for (uint32_t type = 0; type <= 0xffff; type++) {
		const struct message_type *m = message_by_type(type);

		if (m && m->table == t)
			return true;
	}
	return false;
}

START_TEST(types)
{
	static const struct {
		uint32_t type;
		const char *name;
		const struct pb_table *table;
	} some[] = {
	    {0x0000, "Empty", &rpc_empty_table},
	    {0x0001, "PingRequest", &rpc_ping_request_table},
	    {0x0002, "GetSystemInfoRequest", NULL},
	    {0x0003, "EnsureRuntimeRequest", &rpc_runtime_ensure_request_table},
	    {0x000b, "MmapReadFileRequest", &rpc_mmap_read_file_request_table},
	    {0x0024, "SandboxListRequest", &rpc_list_sandboxes_request_table},
	    {0x0033, "SandboxExecInput", NULL},
	    {0x0043, "SandboxDeleteSnapshotRequest", &rpc_delete_snapshot_request_table},
	    {0x1002, "SystemInfo", &rpc_system_info_table},
	    {0x1021, "SandboxStopResponse", &rpc_empty_table},
	    {0x1031, "PortBindingsRemoved", &rpc_port_bindings_removed_table},
	    {0x1035, "RunOutput", &rpc_output_table},
	    {0x1036, "ExecOutput", &rpc_output_table},
	    {0xffff, "Error", NULL},
	};

	for (size_t i = 0; i < sizeof some / sizeof *some; i++) {
		const struct message_type *m = message_by_type(some[i].type);

		ck_assert_ptr_nonnull(m);
		ck_assert_str_eq(m->name, some[i].name);
		ck_assert_ptr_eq(m->table, some[i].table);
	}
	ck_assert_ptr_null(message_by_type(0x000c));
	ck_assert_ptr_null(message_by_type(0x1033));
	ck_assert_ptr_null(message_by_type(0x10001));
	ck_assert_ptr_null(message_by_type(UINT32_MAX));
}
END_TEST

START_TEST(names)
{
	size_t n = 0;

	for (uint32_t type = 0; type <= 0xffff; type++) {
		const struct message_type *m = message_by_type(type);

		if (!m)
			continue;
		n++;
		ck_assert_ptr_eq(message_by_name(span_str(m->name)), m);
	}
	ck_assert_uint_eq(n, 51);
	ck_assert_ptr_null(message_by_name(span_str("Ping")));
	ck_assert_ptr_null(message_by_name(span_of(NULL, 0)));
}
END_TEST

/* What no frame carries is a part of what one does. */
START_TEST(every_table_is_used)
{
	const struct pb_table *parts[] = {&rpc_port_binding_table, &rpc_service_status_table,
	    &rpc_resource_limits_table, &rpc_network_spec_table, &rpc_mount_table,
	    &rpc_terminal_size_table, &rpc_sandbox_network_table, &rpc_sandbox_summary_table,
	    &rpc_snapshot_summary_table};

	for (size_t i = 0; i < VECTORS; i++) {
		bool part = false;

		for (size_t k = 0; k < sizeof parts / sizeof *parts; k++)
			part = part || parts[k] == vectors[i].table;
		ck_assert_msg(part != is_payload(vectors[i].table), "%s", vectors[i].table->name);
	}
}
END_TEST

/* --- as a handler meets them ------------------------------------------------------------------ */

START_TEST(ping)
{
	struct rpc_ping_request in;
	const struct rpc_ping_response out = {
	    .message = span_str("pong: hi"), .version = span_str("0.1.0")};
	struct pb_arena a = arena();
	uint8_t buf[64];
	struct wr w = wr_of(buf, sizeof buf);

	ck_assert_int_eq(
	    pb_read(unhex("0a026869 10c0b784a906"), &rpc_ping_request_table, &a, &in), E_OK);
	ck_assert(span_eq_str(in.message, "hi"));
	ck_assert_int_eq(in.timestamp_secs, 1696668608);
	ck_assert_int_eq(pb_write(&w, &rpc_ping_response_table, &out), E_OK);
	ck_assert(span_eq(wr_span(&w), unhex("0a08 706f6e673a206869 1205 302e312e30")));
}
END_TEST

START_TEST(create_sandbox)
{
	struct rpc_create_sandbox_request req;
	const struct pb_pair *label;
	const struct rpc_mount *mount;
	const struct span *cmd;
	struct pb_arena a = arena();
	struct span in = unhex("0a02 7331 1206 0a0161 120162 3205 0802 108004 4202 7368 4202 2d63"
			       "6209 0a012f 12022f6d 1801 6a06 0a04 6e6f6e65 7a00");

	ck_assert_int_eq(pb_read(in, &rpc_create_sandbox_request_table, &a, &req), E_OK);
	ck_assert(span_eq_str(req.id, "s1"));
	ck_assert_uint_eq(req.labels.n, 1);
	label = req.labels.items;
	ck_assert(span_eq_str(label->key, "a") && span_eq_str(label->value, "b"));
	ck_assert_uint_eq(req.limits->vcpus, 2);
	ck_assert_uint_eq(req.limits->memory_mib, 512);
	ck_assert_uint_eq(req.cmd.n, 2);
	cmd = req.cmd.items;
	ck_assert(span_eq_str(cmd[0], "sh") && span_eq_str(cmd[1], "-c"));
	ck_assert_uint_eq(req.mounts.n, 1);
	mount = req.mounts.items;
	ck_assert(span_eq_str(mount->target, "/m") && mount->readonly);
	ck_assert(span_eq_str(req.network->mode, "none"));
	ck_assert_ptr_null(req.kernel.p);
	ck_assert_uint_eq(req.env.n, 0);
	ck_assert(req.ssh_public_key.p && req.ssh_public_key.n == 0);
}
END_TEST

START_TEST(load_average_is_packed)
{
	static const double load[] = {0.5, 1, -2};
	const struct rpc_system_info info = {
	    .cpu_count = 2, .load_average = PB_LIST(load), .uptime = 300};
	uint8_t buf[64];
	struct wr w = wr_of(buf, sizeof buf);

	ck_assert_int_eq(pb_write(&w, &rpc_system_info_table, &info), E_OK);
	ck_assert(span_eq(wr_span(&w),
	    unhex("3802 4218 000000000000e03f 000000000000f03f"
		  "00000000000000c0 50ac02")));
}
END_TEST

Suite *suite(void)
{
	const TTest *const tests[] = {filled_written_and_read, read_as_protoc_wrote,
	    written_as_protoc_wrote, cut_and_mutated, empty_message_is_empty,
	    rows_ascend_and_stay_inside, no_fields, types, names, every_table_is_used, ping,
	    create_sandbox, load_average_is_packed, NULL};

	return suite_of("messages", tests);
}
