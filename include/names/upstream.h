/* upstream.h - one question to one server.
 *
 * It goes by UDP from a socket of its own, so that the kernel draws a random port, with a random
 * id; only what comes from that server, with that id and question, is an answer (RFC 5452), and
 * anything else is ignored and does not end the wait. Without an answer it goes out a second time.
 * An answer with TC is asked for again over TCP (RFC 7766), and so is one that somebody tries to
 * guess, by many packets that are none (RFC 5452 section 9.3); a server that does not know EDNS is
 * asked again without (RFC 6891 section 7). */
#ifndef NAMES_UPSTREAM_H
#define NAMES_UPSTREAM_H

#include "codec/dns.h"
#include "sys/loop.h"
#include "sys/sock.h"

struct upstream;

enum { UPSTREAM_TRIES = 2 };

/* How it ended, called once and never from inside upstream_ask(). rc is 0, and `message` is what
 * the server said, viewed for the time of the call, and *response what it means; or it is
 * -ETIMEDOUT or another -errno for a server that cannot be reached. -EPROTO is one that can, but
 * its answer had to be asked for over TCP and could not be had there. */
typedef void upstream_fn(
    void *ctx, int rc, struct span message, const struct dns_response *response);

/* Asks. The query's question is copied. A try lasts timeout_ms. 0, or -errno (no memory, no
 * descriptor, no way to the server): then `fn` will not be called, and *out is left alone. */
int upstream_ask(struct upstream **out, struct loop *l, const struct addr *server,
    const struct dns_query *query, uint64_t timeout_ms, upstream_fn *fn, void *ctx);

/* Lets go of it: `fn` will not be called. Its memory goes at the end of the loop's turn. NULL is
 * left alone. */
void upstream_cancel(struct upstream *u);

#endif
