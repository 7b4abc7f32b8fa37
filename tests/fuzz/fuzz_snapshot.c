/* What meta.json says is written anew, and must say the same then. */
#include "sandbox/snapshot.h"

#include "fuzz.h"

static void must(bool held)
{
	if (!held)
		__builtin_trap();
}

static bool same(const struct snapshot *a, const struct snapshot *b)
{
	return !strcmp(a->id, b->id) && !strcmp(a->vm_id, b->vm_id) && !strcmp(a->name, b->name) &&
	    !strcmp(a->vmstate_path, b->vmstate_path) && !strcmp(a->mem_path, b->mem_path) &&
	    !strcmp(a->created_at, b->created_at) && !strcmp(a->parent_id, b->parent_id) &&
	    !strcmp(a->kernel_path, b->kernel_path) && !strcmp(a->rootfs_path, b->rootfs_path) &&
	    !strcmp(a->ip, b->ip) && a->vcpus == b->vcpus && a->memory_mib == b->memory_mib &&
	    a->labels.n == b->labels.n;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static uint8_t buf[SNAPSHOT_META_BYTES];
	struct wr w = wr_of(buf, sizeof buf);
	struct snapshot s, again;

	if (size > 4096 || snapshot_read(&s, span_of(data, size)) < 0)
		return 0;
	must(!sandbox_id_problem(span_str(s.id)) && !sandbox_id_problem(span_str(s.vm_id)));
	snapshot_write(&s, &w);
	must(w.err == E_OK && snapshot_read(&again, wr_span(&w)) == 0 && same(&s, &again));
	for (size_t i = 0; i < s.labels.n; i++)
		must(span_eq(s.labels.items[i].key, again.labels.items[i].key) &&
		    span_eq(s.labels.items[i].value, again.labels.items[i].value));
	snapshot_done(&again);
	snapshot_done(&s);
	return 0;
}
