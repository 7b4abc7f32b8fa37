/* vsock.h - a virtio socket device (virtio 1.2, section 5.10): packets from the guest are taken
 * from its transmit queue and sorted to connections; what connections have for the guest is put
 * into its receive queue, each in its turn.
 *
 * All work is done at the end of the loop's turn, in one task, so that the guest is interrupted
 * once for all of it. Stream sockets only. */
#ifndef BRIDGE_VSOCK_H
#define BRIDGE_VSOCK_H

#include "base/list.h"
#include "base/map.h"
#include "packet.h"
#include "ring.h"

enum {
	VSOCK_HOST_CID = 2,
	VSOCK_RESETS = 256, /* answers to packets of no connection that wait for a buffer */
};

struct vsock;

struct vsock_conf {
	uint32_t cid;             /* the guest's */
	uint32_t buffer_bytes;    /* of the guest's that a connection holds at most */
	unsigned max_connections; /* at once, from either side */
	/* Connects to who serves `port` on the host for the guest: a stream socket, or -errno. */
	int (*dial)(void *ctx, uint32_t port);
	void *ctx;
};

/* A packet that belongs to no connection is answered by a reset. */
struct reset {
	uint64_t cid; /* that the guest sent to */
	uint32_t host_port, guest_port;
	uint16_t type;
};

/* Memory of the caller. Private but for what connection.c uses. */
struct vsock {
	struct vsock_conf conf;
	struct loop *loop;
	struct ring *rx, *tx;
	struct map table;        /* connections that the guest can reach, by their ports */
	struct link connections; /* all */
	unsigned n;
	struct link ready; /* connections with something for the guest */
	struct task work;
	uint32_t last_port; /* given to a host program */
	struct reset resets[VSOCK_RESETS];
	unsigned first_reset, n_resets;
};

/* 0 or -ENOMEM. The rings stay the caller's. */
int vsock_init(struct vsock *v, struct loop *l, struct ring *rx, struct ring *tx,
    const struct vsock_conf *conf);

/* Ends every connection and frees; the memory may go at the end of the turn. */
void vsock_done(struct vsock *v);

/* Ends every connection, without a word to the guest: its driver is new, or it has gone. */
void vsock_drop(struct vsock *v);

/* There may be work: a ring was kicked, or a connection has something to say. */
void vsock_work(struct vsock *v);

/* Connects a host program to a port of the guest. Takes the stream socket over on success; it is
 * answered `OK <port>\n`, or closed when the guest refuses. 0; -EHOSTUNREACH while no driver is
 * there; -ENOSPC for a connection too many; or -errno. */
int vsock_connect(struct vsock *v, int fd, uint32_t guest_port);

#endif
