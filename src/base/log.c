#include "base/log.h"

#include "base/cursor.h"
#include "base/utc.h"
#include "base/utf8.h"

#include <errno.h>
#include <poll.h>
#include <time.h>
#include <unistd.h>

/* --- the filter ------------------------------------------------------------------------------- */

enum { LEVEL_OFF = -1, MODULE_BYTES = 64 };

struct filter {
	int level; /* of modules without a row; LEVEL_OFF or an enum log_level */
	size_t n;
	struct {
		char module[MODULE_BYTES];
		int level;
	} rows[LOG_FILTERS];
};

static struct filter filter = {.level = LOG_INFO};

static const char *const level_names[] = {
    [LOG_ERROR] = "ERROR",
    [LOG_WARN] = "WARN",
    [LOG_INFO] = "INFO",
    [LOG_DEBUG] = "DEBUG",
    [LOG_TRACE] = "TRACE",
};

static enum err parse_level(struct span text, int *level)
{
	for (int i = LOG_ERROR; i <= LOG_TRACE; i++) {
		if (span_eq_nocase(text, span_str(level_names[i]))) {
			*level = i;
			return E_OK;
		}
	}
	if (!span_eq_nocase(text, span_str("off")))
		return E_MALFORMED;
	*level = LEVEL_OFF;
	return E_OK;
}

/* One piece: `level`, or `module=level`. */
static enum err filter_piece(struct filter *f, struct span piece)
{
	size_t at = span_find(piece, '=');
	struct span module = span_trim(span_first(piece, at));

	if (at == piece.n)
		return parse_level(span_trim(piece), &f->level);
	if (f->n == LOG_FILTERS)
		return E_LIMIT;
	if (module.n == 0 || !span_to_cstr(module, f->rows[f->n].module, MODULE_BYTES))
		return E_MALFORMED;
	return parse_level(span_trim(span_from(piece, at + 1)), &f->rows[f->n++].level);
}

enum err log_filter(struct span text, struct span *bad)
{
	struct filter f = {.level = LOG_INFO};

	do {
		struct span piece = span_split(&text, ',');
		enum err err = filter_piece(&f, piece);

		if (err) {
			*bad = piece;
			return err;
		}
	} while (text.p);
	filter = f;
	return E_OK;
}

/* The last row that names the module counts. */
bool log_on(enum log_level level, const char *module)
{
	for (size_t i = filter.n; i > 0; i--)
		if (strcmp(filter.rows[i - 1].module, module) == 0)
			return (int)level <= filter.rows[i - 1].level;
	return (int)level <= filter.level;
}

/* --- the line --------------------------------------------------------------------------------- */

#define CUT_MARK " [cut]"

struct line {
	struct wr w;
	bool quoted; /* a quote is open */
	uint8_t bytes[LOG_LINE_BYTES];
};

/* Room for the mark, the quote before it and the newline behind it is kept free. */
static void line_init(struct line *l)
{
	l->w = wr_of(l->bytes, sizeof l->bytes - sizeof "\"" CUT_MARK);
	l->quoted = false;
}

/* Ends the line, with the mark where something did not fit. */
static struct span line_end(struct line *l)
{
	struct wr tail = wr_of(l->bytes + l->w.n, sizeof l->bytes - l->w.n);

	if (l->w.err) {
		wr_str(&tail, l->quoted ? "\"" : "");
		wr_str(&tail, CUT_MARK);
	}
	wr_u8(&tail, '\n');
	return span_of(l->bytes, l->w.n + tail.n);
}

static void put_head(
    struct wr *w, const struct timespec *now, enum log_level level, const char *module)
{
	utc_write(w, now->tv_sec > 0 ? (uint64_t)now->tv_sec : 0, (uint32_t)now->tv_nsec);
	wr_u8(w, ' ');
	wr_str(w, level_names[level]);
	wr_u8(w, ' ');
	wr_str(w, module);
	wr_str(w, ": ");
}

/* --- values ----------------------------------------------------------------------------------- */

static void put_hex(struct wr *w, uint64_t v, unsigned min_digits)
{
	unsigned digits = 16;

	while (digits > min_digits && v >> (4 * (digits - 1)) == 0)
		digits--;
	for (; digits > 0; digits--)
		wr_u8(w, (uint8_t) "0123456789abcdef"[v >> (4 * (digits - 1)) & 0xf]);
}

static void put_num(struct wr *w, int64_t v)
{
	if (v < 0)
		wr_u8(w, '-');
	wr_dec(w, v < 0 ? -(uint64_t)v : (uint64_t)v);
}

/* C0, DEL, C1 and the line and paragraph separators: what a terminal or a viewer may act on. */
static bool is_control(uint32_t cp)
{
	return cp < 0x20 || (cp >= 0x7f && cp <= 0x9f) || cp == 0x2028 || cp == 0x2029;
}

static void put_escaped_byte(struct wr *w, uint8_t c)
{
	uint8_t escape[4];
	struct wr e = wr_of(escape, sizeof escape);

	wr_u8(&e, '\\');
	switch (c) {
	case '\n': wr_u8(&e, 'n'); break;
	case '\t': wr_u8(&e, 't'); break;
	case '"':
	case '\\': wr_u8(&e, c); break;
	default: wr_u8(&e, 'x'); put_hex(&e, c, 2);
	}
	wr_bytes(w, wr_span(&e)); /* whole or not at all */
}

static bool is_plain(struct span value)
{
	for (size_t i = 0; i < value.n; i++) {
		uint8_t c = value.p[i];

		if (c <= ' ' || c >= 0x7f || c == '"' || c == '\\' || c == '=')
			return false;
	}
	return value.n > 0;
}

/* The next character of a quoted value, as it is or escaped; returns how many bytes it took. */
static size_t put_char(struct wr *w, struct span value)
{
	uint32_t cp;
	size_t n = utf8_get(value, &cp);

	if (n > 0 && !is_control(cp) && cp != '"' && cp != '\\') {
		wr_bytes(w, span_first(value, n));
		return n;
	}
	for (size_t i = 0; i < n || i == 0; i++)
		put_escaped_byte(w, value.p[i]);
	return n ? n : 1;
}

static void put_text(struct line *l, struct span value)
{
	struct wr *w = &l->w;

	value = span_first(value, LOG_LINE_BYTES); /* more never fits */
	if (is_plain(value)) {
		for (size_t i = 0; i < value.n; i++)
			wr_u8(w, value.p[i]);
		return;
	}
	wr_u8(w, '"');
	l->quoted = !w->err;
	while (value.n && !w->err)
		value = span_from(value, put_char(w, value));
	wr_u8(w, '"');
	l->quoted &= w->err != E_OK;
}

static void put_pair(struct line *l, const struct log_kv *kv)
{
	wr_u8(&l->w, ' ');
	wr_str(&l->w, kv->key);
	wr_u8(&l->w, '=');
	switch (kv->kind) {
	case LOG_KV_STR: put_text(l, span_str(kv->u.str ? kv->u.str : "")); break;
	case LOG_KV_SPAN: put_text(l, kv->u.span); break;
	case LOG_KV_ERR: put_text(l, span_str(err_text(kv->u.rc))); break;
	case LOG_KV_NUM: put_num(&l->w, kv->u.num); break;
	case LOG_KV_HEX:
		wr_str(&l->w, "0x");
		put_hex(&l->w, kv->u.hex, 1);
		break;
	}
}

/* --- the sinks -------------------------------------------------------------------------------- */

struct sink {
	int fd;
	uint64_t lost; /* lines since the last one that got through */
	bool torn;     /* the last write got a part of its line through */
};

static struct sink sinks[LOG_SINKS] = {{.fd = STDERR_FILENO}};
static size_t sink_count = 1;
static uint64_t lost_total;

void log_sinks(const int *fds, size_t n)
{
	static const int fallback = STDERR_FILENO;

	if (n == 0) {
		fds = &fallback;
		n = 1;
	}
	sink_count = n < LOG_SINKS ? n : LOG_SINKS;
	for (size_t i = 0; i < sink_count; i++)
		sinks[i] = (struct sink){.fd = fds[i]};
}

uint64_t log_lost(void)
{
	return lost_total;
}

/* Standard error is often shared with others and cannot be made non-blocking, so it is asked first.
 * A line is shorter than PIPE_BUF: what polls writable takes it at once. */
static bool is_writable(int fd)
{
	struct pollfd p = {.fd = fd, .events = POLLOUT};

	return poll(&p, 1, 0) == 1 && (p.revents & (POLLOUT | POLLERR | POLLHUP)) == POLLOUT;
}

static bool sink_put(struct sink *s, struct span line)
{
	ssize_t n = 0;

	if (is_writable(s->fd))
		n = write(s->fd, line.p, line.n);
	if (n > 0)
		s->torn = (size_t)n < line.n;
	return n > 0 && !s->torn;
}

/* Tells of the lines that were lost. */
static bool sink_put_lost(struct sink *s, const struct timespec *now)
{
	struct line l;

	line_init(&l);
	if (s->torn)
		wr_u8(&l.w, '\n');
	put_head(&l.w, now, LOG_WARN, "log");
	wr_dec(&l.w, s->lost);
	wr_str(&l.w, s->lost == 1 ? " line lost" : " lines lost");
	return sink_put(s, line_end(&l));
}

static void sink_line(struct sink *s, const struct timespec *now, struct span line)
{
	if (s->lost && sink_put_lost(s, now))
		s->lost = 0;
	if (s->lost == 0 && sink_put(s, line))
		return;
	s->lost++;
	lost_total++;
}

void log_write(
    enum log_level level, const char *module, const char *message, const struct log_kv *kv)
{
	int kept = errno;
	struct timespec now;
	struct line l;
	struct span text;

	if (!log_on(level, module))
		return;
	clock_gettime(CLOCK_REALTIME, &now);
	line_init(&l);
	put_head(&l.w, &now, level, module);
	wr_str(&l.w, message);
	for (; kv->key; kv++)
		put_pair(&l, kv);
	text = line_end(&l);
	for (size_t i = 0; i < sink_count; i++)
		sink_line(&sinks[i], &now, text);
	errno = kept;
}
