/* http1.h - the client's half of HTTP/1.1 (RFC 9112): reads responses, writes heads of requests.
 *
 * The caller keeps the bytes. It reads a head when enough of it has arrived, then feeds the decoder
 * of the body with what follows. However the input is cut, the results are the same. The reader is
 * strict where leniency has let messages be smuggled: only CRLF ends a line, names are tokens, no
 * folding, no control bytes, and framing must be beyond doubt. */
#ifndef CODEC_HTTP1_H
#define CODEC_HTTP1_H

#include "base/cursor.h"
#include "base/err.h"
#include "base/span.h"

struct http1_limits {
	size_t head_bytes; /* status line, fields and the empty line */
	size_t fields;     /* header lines */
};

/* 32 KiB and 100 lines. */
extern const struct http1_limits http1_default_limits;

/* In bytes: the longest line before a chunk (size, extensions), the longest trailer section. */
#define HTTP1_CHUNK_LINE_MAX 1024
#define HTTP1_TRAILER_MAX    8192

/* How the body is delimited (RFC 9112 section 6.3). */
enum http1_framing {
	HTTP1_NO_BODY,     /* 1xx, 204, 304, and every answer to HEAD */
	HTTP1_LENGTH,      /* Content-Length */
	HTTP1_CHUNKED,     /* Transfer-Encoding: chunked */
	HTTP1_UNTIL_CLOSE, /* neither: it lasts as long as the connection */
	HTTP1_UPGRADE,     /* 101: what follows the head is another protocol */
};

/* Views live as long as the input that the head was read from. */
struct http1_head {
	unsigned minor;  /* HTTP/1.0 or 1.1; a later 1.x reads as 1.1 */
	unsigned status; /* 100 to 599 */
	struct span reason;
	enum http1_framing framing;
	uint64_t length; /* of the body in bytes, for HTTP1_LENGTH */
	bool interim;    /* 1xx other than 101: the head of the answer itself is still to come */
	bool keep_alive; /* the connection can carry another request after the body */
	struct span content_type; /* value of the first such field; p is NULL when there is none */
	struct span fields;       /* all header lines, for http1_field_next() */
};

struct http1_field {
	struct span name;
	struct span value; /* blanks around it taken off */
};

/* Reads the head of a response that `in` starts with; `head_request` when it answers a HEAD.
 *   E_OK         *out is filled and *used is the length of the head
 *   E_MORE       the head is not complete; nothing is consumed
 *   E_LIMIT      the head is over a limit
 *   E_MALFORMED  not HTTP/1.x, or framing that is in doubt: lengths that differ, Transfer-Encoding
 *                beside Content-Length or in HTTP/1.0, any coding but one "chunked" (a client that
 *                sends no TE is owed no other)
 *   E_RANGE      a length over 2^64 - 1
 * It starts over each time; the limit bounds what that costs. */
enum err http1_head_read(struct span in, const struct http1_limits *limits, bool head_request,
    struct http1_head *out, size_t *used);

/* Takes the first field off *fields, a copy of http1_head.fields; false when none is left. */
bool http1_field_next(struct span *fields, struct http1_field *out);

/* The value of the first field of that name, in any case; p is NULL when there is none. */
struct span http1_field_find(const struct http1_head *head, const char *name);

/* The decoder of one body. */
struct http1_body {
	int state;     /* private */
	uint64_t left; /* bytes to come of the body or the chunk */
	size_t line;   /* length so far of the chunk's line, or of the trailer section */
	enum err err;  /* sticky */
};

void http1_body_init(struct http1_body *b, const struct http1_head *head);

/* Decodes the next bytes of the body. On E_OK *used bytes are done with, *data is a view of `in`
 * (often empty: framing is not data) and *end says whether the body is complete; what lies behind
 * it is not touched. Call again with the rest of the input until *end, or until nothing is left. A
 * body without bytes ends on an empty input. Errors stick:
 *   E_MALFORMED  bad chunks or trailers
 *   E_LIMIT      over HTTP1_CHUNK_LINE_MAX or HTTP1_TRAILER_MAX
 *   E_RANGE      a chunk over 2^64 - 1 bytes */
enum err http1_body_read(
    struct http1_body *b, struct span in, size_t *used, struct span *data, bool *end);

/* True when the connection may end here: the body is complete, or this is its end. */
bool http1_body_eof(const struct http1_body *b);

struct http1_request {
	const char *method;
	const char *target;       /* path and query, from '/' on, escaped */
	const char *host;         /* for a unix socket by custom "localhost" */
	const char *content_type; /* NULL for none */
	uint64_t body_bytes;      /* the caller sends them behind the head */
	bool keep_alive;          /* false asks the server to close after its answer */
};

/* Writes the head of a request; Content-Length is left out for a GET or HEAD without a body only.
 * The writer fails with E_MALFORMED, before anything is written, when a text holds bytes that would
 * change the meaning of the head: CR, LF, other control bytes, and blanks but in a content type. */
void http1_request_write(struct wr *w, const struct http1_request *req);

#endif
