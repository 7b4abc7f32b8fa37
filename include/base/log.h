/* log.h - log lines: a level, a module, a message and key=value pairs.
 *
 *     log_warn("dns", "upstream does not answer", KV_STR("server", text), KV_NUM("tries", n));
 *
 * A line is one write of at most LOG_LINE_BYTES to each sink:
 *
 *     2026-01-31T12:00:00.123Z WARN dns: upstream does not answer server=10.0.2.1:53 tries=2
 *
 * Times are UTC (RFC 3339). A value that is empty or holds more than plain ASCII is quoted, and in
 * quotes control characters, quotes, backslashes and what is not UTF-8 are escaped as in C (\n \t
 * \" \\ \x1b), so that no peer can forge a line. What does not fit is left out, and the line ends
 * in "[cut]".
 *
 * Writing never blocks: what a sink does not take at once is lost to it and counted, and the count
 * is written before the next line that it takes. errno is left alone. */
#ifndef BASE_LOG_H
#define BASE_LOG_H

#include "base/err.h"
#include "base/span.h"

enum { LOG_LINE_BYTES = 1024, LOG_SINKS = 2, LOG_FILTERS = 16 };

enum log_level { LOG_ERROR, LOG_WARN, LOG_INFO, LOG_DEBUG, LOG_TRACE };

/* One key=value pair; the key is a literal, what `str` points to is needed during the call only. */
struct log_kv {
	const char *key; /* NULL ends a list */
	enum { LOG_KV_STR, LOG_KV_SPAN, LOG_KV_NUM, LOG_KV_HEX, LOG_KV_ERR } kind;
	union {
		const char *str;
		struct span span;
		int64_t num;
		uint64_t hex;
		int rc;
	} u;
};

#define KV_STR(k, v)  ((struct log_kv){.key = (k), .kind = LOG_KV_STR, .u.str = (v)})
#define KV_SPAN(k, v) ((struct log_kv){.key = (k), .kind = LOG_KV_SPAN, .u.span = (v)})
#define KV_NUM(k, v)  ((struct log_kv){.key = (k), .kind = LOG_KV_NUM, .u.num = (int64_t)(v)})
#define KV_HEX(k, v)  ((struct log_kv){.key = (k), .kind = LOG_KV_HEX, .u.hex = (v)})
#define KV_ERR(rc_)                                                                                \
	((struct log_kv){.key = "error", .kind = LOG_KV_ERR, .u.rc = (int)(rc_)}) /* err_text() */

/* Sets the filter: a level, or `module=level`, separated by commas ("warn,dns=debug"); the last one
 * that fits a module counts. Levels are error, warn, info, debug, trace and off, in either case; a
 * filter that names no level for the rest, and the start value, say `info`. E_MALFORMED, or E_LIMIT
 * for more than LOG_FILTERS modules, leaves the filter as it was, and *bad is the piece that is
 * wrong. */
enum err log_filter(struct span text, struct span *bad);

/* Where lines go: at most LOG_SINKS descriptors, which stay owned by the caller. Those that can be
 * should be non-blocking; files should append. Without any, and at the start, lines go to
 * descriptor 2. */
void log_sinks(const int *fds, size_t n);

/* Lines lost so far, a line once for each sink that did not take it. */
uint64_t log_lost(void);

/* Whether a line of this level and module would be written. */
bool log_on(enum log_level level, const char *module);

/* Writes one line, if the filter wants it; `module` and `message` are literals, `kv` ends with a
 * NULL key. */
void log_write(
    enum log_level level, const char *module, const char *message, const struct log_kv *kv);

#define log_line(level, module, message, ...)                                                      \
	log_write(level, module, message, (const struct log_kv[]){__VA_ARGS__ __VA_OPT__(, ){0}})

#define log_error(module, ...) log_line(LOG_ERROR, module, __VA_ARGS__)
#define log_warn(module, ...)  log_line(LOG_WARN, module, __VA_ARGS__)
#define log_info(module, ...)  log_line(LOG_INFO, module, __VA_ARGS__)
#define log_debug(module, ...) log_line(LOG_DEBUG, module, __VA_ARGS__)

#endif
