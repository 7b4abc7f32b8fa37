/* snapshot.h - the catalogue of snapshots: a directory each.
 *
 *     <data_dir>/snapshots/<id of the sandbox>/<id of the snapshot>/{vmstate, mem, meta.json, …}
 *
 * One that is being written, or removed, has a dot before its name. It gets its own by one
 * renaming, after all of it was synced to the disk: whatever happens, a snapshot is there as a
 * whole or not at all. Ids of snapshots are those of sandbox_id_new().
 *
 * Functions with a `why` block and are for a worker: 0, or -errno with a line in it. The others do
 * not touch the disk. */
#ifndef SANDBOX_SNAPSHOT_H
#define SANDBOX_SNAPSHOT_H

#include "base/cursor.h"
#include "sandbox/id.h"
#include "sandbox/labels.h"

enum {
	SNAPSHOT_PATH_BYTES = 1024,            /* of a snapshot's directory, with the NUL */
	SNAPSHOT_NAME_BYTES = 256,             /* of the name that a host gives to one, likewise */
	SNAPSHOT_META_BYTES = 128 * 1024,      /* a larger meta.json is taken for broken */
	SNAPSHOT_LIST_BYTES = 8 * 1024 * 1024, /* all that are listed together */
	SNAPSHOT_TIME_BYTES = 32,
};

/* What meta.json says. Strings are never NULL; those of one that was read stay in place until
 * snapshot_done(), those of one that is written are views for the time of the call. */
struct snapshot {
	const char *id, *vm_id; /* its own, and its sandbox's */
	const char *name;       /* that the host gave it */
	const char *vmstate_path, *mem_path;
	const char *created_at; /* RFC 3339 */
	const char *parent_id;  /* of the snapshot that its sandbox was restored from, or "" */
	const char *kernel_path, *rootfs_path;
	const char *ip; /* the sandbox's address, or "" */
	uint64_t vcpus, memory_mib;
	struct labels labels;

	/* private, of one that was read */
	char *text;
};

/* The time as `created_at` has it, UTC; texts of it sort as the times do. */
void snapshot_time(int64_t real_ns, char out[SNAPSHOT_TIME_BYTES]);

/* Where a snapshot is, and where it is as long as it is being written. -ENAMETOOLONG. */
int snapshot_dir(
    const char *data_dir, const char *vm_id, const char *id, char dir[SNAPSHOT_PATH_BYTES]);
int snapshot_part_dir(
    const char *data_dir, const char *vm_id, const char *id, char dir[SNAPSHOT_PATH_BYTES]);

/* --- meta.json -------------------------------------------------------------------------------- */

/* Writes it; paths are what they will be at the end. Errors stick in `w`. */
void snapshot_write(const struct snapshot *s, struct wr *w);

/* Reads it. All but ip, vcpus, memory_mib and labels must be there; keys that nobody knows are
 * passed over. 0; -EPROTO: it is broken; -E2BIG: over a limit; or -ENOMEM. */
int snapshot_read(struct snapshot *out, struct span json);

/* Frees one that was read. */
void snapshot_done(struct snapshot *s);

/* --- writing and removing --------------------------------------------------------------------- */

/* Makes the directory at snapshot_part_dir(), empty, for the files of a snapshot. */
int snapshot_begin(const char *data_dir, const char *vm_id, const char *id, struct wr *why);

/* Makes what lies there a snapshot: adds meta.json. On failure nothing is left. */
int snapshot_commit(const char *data_dir, const struct snapshot *s, struct wr *why);

/* Removes what lies there; nothing is fine. */
int snapshot_abandon(const char *data_dir, const char *vm_id, const char *id, struct wr *why);

/* Removes a snapshot. -ENOENT. */
int snapshot_delete(const char *data_dir, const char *id, struct wr *why);

/* Removes what was half written or half removed when its agent died: while nobody writes any. How
 * many there were. */
unsigned snapshot_clean(const char *data_dir);

/* --- listing ---------------------------------------------------------------------------------- */

/* Which ones; empty: any. */
struct snapshot_filter {
	const char *vm_id, *id; /* never NULL */
	struct labels labels;
};

/* Appends the meta.json of those, at most `max`, to a file. What is broken is left out, and `why`
 * names the first of them. 0 or -errno; without a catalogue there are none. */
int snapshot_collect(
    const char *data_dir, const struct snapshot_filter *f, unsigned max, int fd, struct wr *why);

/* Snapshots, oldest first. */
struct snapshot_list {
	struct snapshot *items;
	size_t n;
};

/* Reads what snapshot_collect() has written to a file in memory (fs_memfd()), in whose beginning
 * it reads. 0 with a list that snapshot_list_done() frees; or -errno. */
int snapshot_list_read(struct snapshot_list *out, int fd);
void snapshot_list_done(struct snapshot_list *l);

#endif
