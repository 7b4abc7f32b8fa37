/* volume.h - the data volume: one Btrfs on a disk of its own, a subvolume for each engine.
 *
 *     device → /run/arcbox/data → @docker      /var/lib/docker
 *                                 @containerd  /var/lib/containerd
 *                                 @k3s         /var/lib/rancher/k3s
 *                                 @kubelet     /var/lib/kubelet
 *                                 @cni         /var/lib/cni
 *
 * A device on which nothing is known is formatted; one that holds anything else, or cannot be read,
 * never is. A Btrfs is mounted or the set-up fails; it is not formatted again. What is there
 * already is left as it is, so that a set-up may be repeated at any time, also after one that was
 * cut off. */
#ifndef RUNTIME_VOLUME_H
#define RUNTIME_VOLUME_H

#include "sys/child.h"

/* The strings are needed during volume_setup() only. */
struct volume_conf {
	const char *device;  /* path */
	const char *mkfs;    /* mkfs.btrfs's path */
	bool force;          /* format over what is foreign, too */
	uint64_t timeout_ms; /* for all of it; 0 = none */
};

enum { VOLUME_TEXT_BYTES = 512 };

struct volume;

/* The end of a set-up, called once, never from inside volume_setup(). With rc 0, `why` says what
 * was done, in a few words, or is empty; with -errno it is one line that names the step and the
 * reason. It lives until the next set-up. */
typedef void volume_fn(struct volume *v, int rc, const char *why);

/* Memory owned by the caller, zeroed at first; in place while it runs. */
struct volume {
	/* private */
	volume_fn *fn;
	const struct volume_conf *conf;
	struct worker worker;
	char why[VOLUME_TEXT_BYTES];
};

/* Everything is a worker's. 0: `fn` will be called; -EBUSY while a set-up runs; or -errno. */
int volume_setup(struct volume *v, struct reaper *r, const struct volume_conf *conf, volume_fn *fn);

/* Kills it, the formatting, too; fn is not called. One that does not run is left alone. */
void volume_cancel(struct volume *v);

#endif
