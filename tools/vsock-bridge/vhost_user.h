/* vhost_user.h - the back end's side of vhost-user (QEMU, docs/interop/vhost-user.rst): a front
 * end, such as QEMU, says over a unix socket where the guest's memory and the device's rings are.
 *
 * What the front end says is trusted as far as it says it of its own guest, but for lengths,
 * indices and addresses. A message that fails is refused if the front end asked for an answer
 * (REPLY_ACK); else the connection ends. */
#ifndef BRIDGE_VHOST_USER_H
#define BRIDGE_VHOST_USER_H

#include "base/span.h"
#include "ring.h"

enum {
	VHOST_USER_RINGS = 3, /* of a socket device: rx, tx, event */
	VHOST_USER_CONFIG_BYTES = 256,
	VHOST_USER_FDS = GUEST_REGIONS, /* the most that come with one message */
};

struct vhost_user;

struct vhost_user_ops {
	/* A guest's driver has kicked a ring, or a ring has come to life. */
	void (*kicked)(struct vhost_user *u);
	/* A ring starts over: the driver is new, and knows of nothing that was before. */
	void (*restarted)(struct vhost_user *u);
	/* The front end has gone (rc 0), or was cut off for the -errno; logged by nobody yet. The
	 * last call; the memory may go at the end of the turn. */
	void (*closed)(struct vhost_user *u, int rc);
};

/* A message as it stands on the wire, in the machine's byte order, and the fds that came with it.
 */
struct vhost_message {
	struct {
		uint32_t request, flags, bytes;
	} head;
	union {
		uint64_t number;
		struct {
			uint32_t index, number;
		} state;
		struct {
			uint32_t index, flags;
			uint64_t desc, used, avail, log;
		} addresses;
		struct {
			uint32_t n, padding;
			struct guest_layout regions[GUEST_REGIONS];
		} memory;
		struct {
			uint32_t offset, bytes, flags;
			uint8_t data[VHOST_USER_CONFIG_BYTES];
		} config;
	} payload;
	int fds[VHOST_USER_FDS];
	unsigned n_fds;
};

/* Memory of the caller. Private but for `ctx` and, as its owner uses them, `rings`. */
struct vhost_user {
	const struct vhost_user_ops *ops;
	void *ctx;
	struct span config; /* of the device; the caller's */
	struct loop *loop;
	struct source source;
	int next_fd; /* of the front end that is next in line; -1 = none */
	struct guest_memory memory;
	struct ring rings[VHOST_USER_RINGS];
	uint64_t features, protocol_features; /* agreed on */
	struct vhost_message message;         /* being received */
	size_t received;
};

/* Before the first front end comes; the rings can be told of from now on. */
void vhost_user_init(struct vhost_user *u, struct loop *l, const struct vhost_user_ops *ops,
    struct span config, void *ctx);

/* Serves the front end at the other end of a unix socket, which is taken over on success; at once,
 * or when the present one has gone. 0 or -errno (-EBUSY: there is a next one already). */
int vhost_user_serve(struct vhost_user *u, int fd);

/* Lets the front end go, and the next one, if there are any: `closed` is not called. */
void vhost_user_close(struct vhost_user *u);

#endif
