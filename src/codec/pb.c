#include "codec/pb.h"

#include "base/utf8.h"

#include <stdalign.h>

#define VARINT_MAX 10 /* bytes of a number with 64 bits, 7 in each */
#define WIRE_BITS  3  /* of a tag; the rest is the field number */

enum wire {
	WIRE_VARINT = 0,
	WIRE_I64 = 1,
	WIRE_LEN = 2,
	WIRE_START_GROUP = 3,
	WIRE_END_GROUP = 4,
	WIRE_I32 = 5,
};

struct tag {
	uint32_t number;
	enum wire wire;
};

/* How a type travels, and what one value of it takes in memory. */
static const struct {
	enum wire wire;
	size_t size;
} types[] = {
    [PB_STRING] = {WIRE_LEN, sizeof(struct span)},
    [PB_BYTES] = {WIRE_LEN, sizeof(struct span)},
    [PB_BOOL] = {WIRE_VARINT, sizeof(bool)},
    [PB_INT32] = {WIRE_VARINT, sizeof(int32_t)},
    [PB_INT64] = {WIRE_VARINT, sizeof(int64_t)},
    [PB_UINT32] = {WIRE_VARINT, sizeof(uint32_t)},
    [PB_UINT64] = {WIRE_VARINT, sizeof(uint64_t)},
    [PB_DOUBLE] = {WIRE_I64, sizeof(double)},
    [PB_MESSAGE] = {WIRE_LEN, 0}, /* its table knows */
};
_Static_assert(sizeof types / sizeof *types == PB_TYPE_COUNT, "every type has a row");

PB_TABLE(pb_pair, "MapEntry", PB_FIELD(pb_pair, 1, key, PB_STRING),
    PB_FIELD(pb_pair, 2, value, PB_STRING));

size_t pb_item_size(const struct pb_field *f)
{
	return f->type == PB_MESSAGE ? f->sub->size : types[f->type].size;
}

/* --- memory ----------------------------------------------------------------------------------- */

void *pb_alloc(struct pb_arena *a, size_t n)
{
	const uintptr_t align = alignof(max_align_t);
	uint8_t *p = (uint8_t *)a->p + a->used;
	size_t left = a->cap - a->used;
	size_t pad = (align - (uintptr_t)p % align) % align;

	if (pad > left || n > left - pad)
		return NULL;
	a->used += pad + n;
	return memset(p + pad, 0, n);
}

/* One more item, zeroed; NULL when the arena is full. Capacities are powers of two, so a list is
 * full when its length is one, and nobody has to store how much room it has. */
static void *list_add(struct pb_arena *a, struct pb_list *list, size_t size)
{
	if ((list->n & (list->n - 1)) == 0) {
		void *items = pb_alloc(a, (list->n ? 2 * list->n : 1) * size);

		if (!items)
			return NULL;
		if (list->n)
			memcpy(items, list->items, list->n * size);
		list->items = items;
	}
	return (uint8_t *)list->items + list->n++ * size;
}

/* --- reading: what is on the wire ------------------------------------------------------------- */

/* Bits above the 64th are dropped, as every protobuf does. */
static uint64_t read_varint(struct rd *r)
{
	uint64_t v = 0;

	for (unsigned i = 0; i < VARINT_MAX; i++) {
		uint8_t b = rd_u8(r);

		v |= (uint64_t)(b & 0x7f) << (7 * i);
		if (b < 0x80)
			return v;
	}
	rd_fail(r, E_MALFORMED);
	return 0;
}

static struct tag read_tag(struct rd *r)
{
	uint64_t v = read_varint(r);
	struct tag tag = {(uint32_t)(v >> WIRE_BITS), v & ((1u << WIRE_BITS) - 1)};

	if (v > UINT32_MAX || tag.number == 0)
		rd_fail(r, E_MALFORMED);
	return tag;
}

static struct span read_len(struct rd *r)
{
	uint64_t n = read_varint(r);

	if (n > rd_left(r))
		rd_fail(r, E_MALFORMED);
	return rd_bytes(r, (size_t)n);
}

static struct span read_text(struct rd *r)
{
	struct span text = read_len(r);

	if (!utf8_valid(text))
		rd_fail(r, E_UTF8);
	return text;
}

static void skip_scalar(struct rd *r, enum wire wire)
{
	switch (wire) {
	case WIRE_VARINT: read_varint(r); break;
	case WIRE_I64: rd_bytes(r, 8); break;
	case WIRE_LEN: read_len(r); break;
	case WIRE_I32: rd_bytes(r, 4); break;
	default: rd_fail(r, E_MALFORMED);
	}
}

/* Goes behind the end of the group whose start has been read. */
static void skip_group(struct rd *r, uint32_t number)
{
	uint32_t open[PB_DEPTH_MAX] = {number};
	size_t depth = 1;

	while (depth && r->err == E_OK) {
		struct tag tag = read_tag(r);

		if (tag.wire == WIRE_END_GROUP) {
			if (tag.number != open[--depth])
				rd_fail(r, E_MALFORMED);
		} else if (tag.wire != WIRE_START_GROUP) {
			skip_scalar(r, tag.wire);
		} else if (depth == PB_DEPTH_MAX) {
			rd_fail(r, E_DEPTH);
		} else {
			open[depth++] = tag.number;
		}
	}
}

static void skip_value(struct rd *r, struct tag tag)
{
	if (tag.wire == WIRE_START_GROUP)
		skip_group(r, tag.number);
	else
		skip_scalar(r, tag.wire);
}

/* --- reading: messages ------------------------------------------------------------------------ */

struct decoder {
	struct pb_arena *arena;
	unsigned depth; /* of the message being read */
};

static enum err read_message(
    struct decoder *d, struct span in, const struct pb_table *t, void *msg);

static void number_set(enum pb_type type, void *to, uint64_t bits)
{
	switch (type) {
	case PB_BOOL: *(bool *)to = bits != 0; break;
	case PB_INT32: *(int32_t *)to = (int32_t)(uint32_t)bits; break;
	case PB_INT64: *(int64_t *)to = (int64_t)bits; break;
	case PB_UINT32: *(uint32_t *)to = (uint32_t)bits; break;
	case PB_UINT64: *(uint64_t *)to = bits; break;
	default: memcpy(to, &bits, sizeof(double));
	}
}

/* Reads one value to where it stands in memory. */
static void read_value(struct decoder *d, struct rd *r, const struct pb_field *f, void *to)
{
	enum err err;

	switch (f->type) {
	case PB_STRING: *(struct span *)to = read_text(r); break;
	case PB_BYTES: *(struct span *)to = read_len(r); break;
	case PB_DOUBLE: number_set(f->type, to, rd_u64le(r)); break;
	case PB_MESSAGE:
		err = read_message(d, read_len(r), f->sub, to);
		if (err)
			rd_fail(r, err);
		break;
	default: number_set(f->type, to, read_varint(r));
	}
}

static void read_item(struct decoder *d, struct rd *r, const struct pb_field *f, struct pb_list *to)
{
	void *item = list_add(d->arena, to, pb_item_size(f));

	if (item)
		read_value(d, r, f, item);
	else
		rd_fail(r, E_LIMIT);
}

static void read_packed(
    struct decoder *d, struct rd *r, const struct pb_field *f, struct pb_list *to)
{
	struct rd items = rd_of(read_len(r));

	while (items.err == E_OK && rd_left(&items))
		read_item(d, &items, f, to);
	if (items.err)
		rd_fail(r, items.err);
}

/* A message that comes again is merged into what came before. */
static void read_singular_message(
    struct decoder *d, struct rd *r, const struct pb_field *f, void *member)
{
	void *sub;

	memcpy(&sub, member, sizeof sub);
	if (!sub)
		sub = pb_alloc(d->arena, f->sub->size);
	if (!sub) {
		rd_fail(r, E_LIMIT);
		return;
	}
	read_value(d, r, f, sub);
	memcpy(member, &sub, sizeof sub);
}

static int key_compare(struct span a, struct span b)
{
	size_t common = a.n < b.n ? a.n : b.n;
	int order = common ? memcmp(a.p, b.p, common) : 0;

	return order ? order : (a.n > b.n) - (a.n < b.n);
}

/* Where in a map sorted by key the key is or would be. */
static size_t map_find(const struct pb_list *map, struct span key)
{
	const struct pb_pair *pairs = map->items;
	size_t low = 0, high = map->n;

	while (low < high) {
		size_t mid = low + (high - low) / 2;

		if (key_compare(pairs[mid].key, key) < 0)
			low = mid + 1;
		else
			high = mid;
	}
	return low;
}

static enum err map_set(struct pb_arena *a, struct pb_list *map, struct pb_pair pair)
{
	size_t at = map_find(map, pair.key);
	size_t behind = map->n - at;
	struct pb_pair *pairs = (struct pb_pair *)map->items;

	if (behind && span_eq(pairs[at].key, pair.key)) {
		pairs[at] = pair;
		return E_OK;
	}
	if (map->n == PB_MAP_MAX || !list_add(a, map, sizeof pair))
		return E_LIMIT;
	pairs = (struct pb_pair *)map->items;
	memmove(pairs + at + 1, pairs + at, behind * sizeof pair);
	pairs[at] = pair;
	return E_OK;
}

static void read_entry(
    struct decoder *d, struct rd *r, const struct pb_field *f, struct pb_list *to)
{
	struct pb_pair pair = {0};
	enum err err;

	read_value(d, r, f, &pair);
	err = r->err ? r->err : map_set(d->arena, to, pair);
	if (err)
		rd_fail(r, err);
}

static const struct pb_field *field_find(const struct pb_table *t, uint32_t number)
{
	for (size_t i = 0; i < t->n; i++)
		if (t->fields[i].number == number)
			return &t->fields[i];
	return NULL;
}

static void read_field(struct decoder *d, struct rd *r, const struct pb_table *t, void *msg)
{
	struct tag tag = read_tag(r);
	const struct pb_field *f = field_find(t, tag.number);
	bool own_wire = f && tag.wire == types[f->type].wire;
	void *member = f ? (uint8_t *)msg + f->offset : NULL;

	if (own_wire && f->label == PB_LABEL_REPEATED)
		read_item(d, r, f, member);
	else if (own_wire && f->label == PB_LABEL_MAP)
		read_entry(d, r, f, member);
	else if (own_wire && f->type == PB_MESSAGE)
		read_singular_message(d, r, f, member);
	else if (own_wire)
		read_value(d, r, f, member);
	else if (f && f->label == PB_LABEL_REPEATED && tag.wire == WIRE_LEN)
		read_packed(d, r, f, member);
	else
		skip_value(r, tag);
}

static enum err read_message(struct decoder *d, struct span in, const struct pb_table *t, void *msg)
{
	struct rd r = rd_of(in);

	if (d->depth == PB_DEPTH_MAX)
		return E_DEPTH;
	d->depth++;
	while (r.err == E_OK && rd_left(&r))
		read_field(d, &r, t, msg);
	d->depth--;
	return r.err == E_MORE ? E_MALFORMED : r.err;
}

enum err pb_read(struct span in, const struct pb_table *t, struct pb_arena *a, void *out)
{
	struct decoder d = {a, 0};
	size_t mark = a->used;
	void *msg = pb_alloc(a, t->size);
	enum err err = msg ? read_message(&d, in, t, msg) : E_LIMIT;

	if (err) {
		a->used = mark;
		return err;
	}
	if (t->size)
		memcpy(out, msg, t->size);
	return E_OK;
}

/* --- writing ---------------------------------------------------------------------------------- */

/* Where a message goes: one walk both counts and writes, so that the two cannot disagree. */
struct sink {
	struct wr *w; /* NULL: only count */
	size_t n;     /* bytes so far */
};

static void put_message(struct sink *s, const struct pb_table *t, const void *msg);

static void put(struct sink *s, struct span bytes)
{
	s->n += bytes.n;
	if (s->w)
		wr_bytes(s->w, bytes);
}

static void put_varint(struct sink *s, uint64_t v)
{
	uint8_t b[VARINT_MAX];
	size_t n = 0;

	for (; v >= 0x80; v >>= 7)
		b[n++] = (uint8_t)(v | 0x80);
	b[n++] = (uint8_t)v;
	put(s, span_of(b, n));
}

static void put_i64(struct sink *s, uint64_t v)
{
	s->n += sizeof v;
	if (s->w)
		wr_u64le(s->w, v);
}

static void put_tag(struct sink *s, uint32_t number, enum wire wire)
{
	put_varint(s, (uint64_t)number << WIRE_BITS | wire);
}

static uint64_t number_get(enum pb_type type, const void *from)
{
	uint64_t bits;

	switch (type) {
	case PB_BOOL: return *(const bool *)from;
	case PB_INT32: return (uint64_t)(*(const int32_t *)from);
	case PB_INT64: return (uint64_t)(*(const int64_t *)from);
	case PB_UINT32: return *(const uint32_t *)from;
	case PB_UINT64: return *(const uint64_t *)from;
	default: memcpy(&bits, from, sizeof bits); return bits;
	}
}

static void put_span(struct sink *s, enum pb_type type, struct span bytes)
{
	if (s->w && type == PB_STRING && !utf8_valid(bytes))
		wr_fail(s->w, E_UTF8);
	put_varint(s, bytes.n);
	put(s, bytes);
}

/* The size of a message is counted once by each message around it, and by none of them twice. */
static void put_submessage(struct sink *s, const struct pb_table *t, const void *msg)
{
	size_t n = pb_size(t, msg);

	put_varint(s, n);
	if (s->w)
		put_message(s, t, msg);
	else
		s->n += n;
}

/* Writes one value from where it stands in memory, without its tag. */
static void put_value(struct sink *s, const struct pb_field *f, const void *from)
{
	switch (f->type) {
	case PB_STRING:
	case PB_BYTES: put_span(s, f->type, *(const struct span *)from); break;
	case PB_DOUBLE: put_i64(s, number_get(f->type, from)); break;
	case PB_MESSAGE: put_submessage(s, f->sub, from); break;
	default: put_varint(s, number_get(f->type, from));
	}
}

static void put_items(
    struct sink *s, const struct pb_field *f, const struct pb_list *list, bool tagged)
{
	const uint8_t *item = list->items;

	for (size_t i = 0; i < list->n; i++, item += pb_item_size(f)) {
		if (tagged)
			put_tag(s, f->number, types[f->type].wire);
		put_value(s, f, item);
	}
}

static void put_packed(struct sink *s, const struct pb_field *f, const struct pb_list *list)
{
	struct sink count = {NULL, 0};

	if (list->n == 0)
		return;
	put_items(&count, f, list, false);
	put_tag(s, f->number, WIRE_LEN);
	put_varint(s, count.n);
	put_items(s, f, list, false);
}

/* What a singular field holds; NULL when it is not to be sent. */
static const void *singular_value(const struct pb_field *f, const void *member)
{
	const struct span *bytes = member;
	const void *sub;

	switch (f->type) {
	case PB_STRING:
	case PB_BYTES:
		return bytes->n || (f->label == PB_LABEL_OPTIONAL && bytes->p) ? member : NULL;
	case PB_MESSAGE: memcpy(&sub, member, sizeof sub); return sub;
	default: return number_get(f->type, member) ? member : NULL;
	}
}

static void put_field(struct sink *s, const struct pb_field *f, const void *member)
{
	bool list = f->label == PB_LABEL_REPEATED || f->label == PB_LABEL_MAP;
	const void *value;

	if (list && types[f->type].wire != WIRE_LEN) {
		put_packed(s, f, member);
	} else if (list) {
		put_items(s, f, member, true);
	} else {
		value = singular_value(f, member);
		if (!value)
			return;
		put_tag(s, f->number, types[f->type].wire);
		put_value(s, f, value);
	}
}

static void put_message(struct sink *s, const struct pb_table *t, const void *msg)
{
	for (size_t i = 0; i < t->n; i++)
		put_field(s, &t->fields[i], (const uint8_t *)msg + t->fields[i].offset);
}

size_t pb_size(const struct pb_table *t, const void *msg)
{
	struct sink count = {NULL, 0};

	put_message(&count, t, msg);
	return count.n;
}

enum err pb_write(struct wr *w, const struct pb_table *t, const void *msg)
{
	struct sink s = {w, 0};

	put_message(&s, t, msg);
	return w->err;
}

void pb_write_bytes_head(struct wr *w, uint32_t number, uint64_t n)
{
	struct sink s = {w, 0};

	put_tag(&s, number, WIRE_LEN);
	put_varint(&s, n);
}
