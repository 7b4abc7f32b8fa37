/* pb.h - protobuf messages (proto3): one walker for all, told by a table of fields.
 *
 * The wire format is that of https://protobuf.dev/programming-guides/encoding/. A message is a C
 * struct and a table with a row for each field; how the type of a field stands in the struct:
 *
 *     string, bytes          struct span            p == NULL when absent; a view into the input
 *     bool                   bool
 *     int32, int64           int32_t, int64_t
 *     uint32, uint64         uint32_t, uint64_t
 *     double                 double
 *     message                const struct x *       NULL when absent
 *     repeated anything      struct pb_list         of span, number or struct x
 *     map<string, string>    struct pb_list         of struct pb_pair
 *
 * What is absent is zero, so a struct to be written is best made by an initializer. */
#ifndef CODEC_PB_H
#define CODEC_PB_H

#include "base/cursor.h"

struct pb_list {
	const void *items; /* array of n items */
	size_t n;
};

struct pb_pair {
	struct span key;
	struct span value;
};

/* A list over an array. */
#define PB_LIST(array) ((struct pb_list){(array), sizeof(array) / sizeof *(array)})

/* --- tables ----------------------------------------------------------------------------------- */

enum pb_type {
	PB_STRING,
	PB_BYTES,
	PB_BOOL,
	PB_INT32,
	PB_INT64,
	PB_UINT32,
	PB_UINT64,
	PB_DOUBLE,
	PB_MESSAGE,
	PB_TYPE_COUNT /* how many there are; not a type */
};

enum pb_label {
	PB_LABEL_SINGULAR, /* the default value is not sent */
	PB_LABEL_OPTIONAL, /* string or bytes: sent when p is not NULL, be it empty */
	PB_LABEL_REPEATED,
	PB_LABEL_MAP,
};

struct pb_field {
	uint32_t number;
	uint8_t type;               /* enum pb_type */
	uint8_t label;              /* enum pb_label */
	uint16_t offset;            /* of the member in the struct */
	const struct pb_table *sub; /* what a PB_MESSAGE holds */
	const char *name;           /* of the member, for those who print messages */
};

struct pb_table {
	const char *name;              /* of the message in its .proto */
	size_t size;                   /* of the struct in bytes */
	const struct pb_field *fields; /* by ascending number */
	size_t n;
};

/* The formatter takes initializers in macros for blocks. */
/* clang-format off */

/* Message x is a struct x that x_table describes: PB_TABLE(x, "X", rows…) defines the table. */
#define PB_TABLE(x, name, ...)                                                                     \
	const struct pb_table x##_table = {name, sizeof(struct x),                                 \
	    (const struct pb_field[]){__VA_ARGS__},                                                \
	    sizeof((const struct pb_field[]){__VA_ARGS__}) / sizeof(struct pb_field)}

/* The rows of message x, where sub is a message in it; a member whose C type does not fit its row
 * does not compile. */
#define PB_FIELD(x, number, member, type)                                                          \
	PB_ROW_(x, number, member, type, PB_LABEL_SINGULAR, PB_FITS_(x, member, type), NULL)
#define PB_OPTIONAL(x, number, member, type)                                                       \
	PB_ROW_(x, number, member, type, PB_LABEL_OPTIONAL,                                        \
	    PB_IS_(x, member, struct span) && PB_FITS_(x, member, type), NULL)
#define PB_REPEATED(x, number, member, type)                                                       \
	PB_ROW_(x, number, member, type, PB_LABEL_REPEATED,                                        \
	    PB_IS_(x, member, struct pb_list) && (type) != PB_MESSAGE, NULL)
#define PB_SUBMESSAGE(x, number, member, sub)                                                      \
	PB_ROW_(x, number, member, PB_MESSAGE, PB_LABEL_SINGULAR,                                  \
	    PB_IS_(x, member, const struct sub *), &sub##_table)
#define PB_SUBMESSAGES(x, number, member, sub)                                                     \
	PB_ROW_(x, number, member, PB_MESSAGE, PB_LABEL_REPEATED,                                  \
	    PB_IS_(x, member, struct pb_list), &sub##_table)
#define PB_MAP(x, number, member)                                                                  \
	PB_ROW_(x, number, member, PB_MESSAGE, PB_LABEL_MAP, PB_IS_(x, member, struct pb_list),    \
	    &pb_pair_table)

#define PB_ROW_(x, number, member, type, label, fits, sub)                                         \
	{number, type, label, offsetof(struct x, member) + PB_ASSERT_(fits), sub, #member}
#define PB_ASSERT_(fits)                                                                           \
	(0 * sizeof(struct { _Static_assert(fits, "the member does not fit the row"); char c; }))
#define PB_IS_(x, member, type) _Generic(((struct x *)0)->member, type: 1, default: 0)
#define PB_FITS_(x, member, type)                                                                  \
	_Generic(((struct x *)0)->member,                                                          \
	    struct span: (type) == PB_STRING || (type) == PB_BYTES,                                \
	    bool: (type) == PB_BOOL,                                                               \
	    int32_t: (type) == PB_INT32,                                                           \
	    int64_t: (type) == PB_INT64,                                                           \
	    uint32_t: (type) == PB_UINT32,                                                         \
	    uint64_t: (type) == PB_UINT64,                                                         \
	    double: (type) == PB_DOUBLE,                                                           \
	    default: 0)
/* clang-format on */

/* The entry of a map: a struct pb_pair. */
extern const struct pb_table pb_pair_table;

/* What one item of a repeated field or a map takes in memory: the step of its list. */
size_t pb_item_size(const struct pb_field *f);

/* --- memory ----------------------------------------------------------------------------------- */

/* Where decoded lists and sub-messages live: a buffer of the caller, given out from its front. They
 * live until the caller resets `used` or lets the buffer go. */
struct pb_arena {
	void *p;
	size_t cap;
	size_t used;
};

static inline struct pb_arena pb_arena_of(void *p, size_t cap)
{
	return (struct pb_arena){p, cap, 0};
}

/* n zeroed bytes, aligned for any type; NULL when they do not fit. Not for reading only: a handler
 * builds the lists of its answer with it. */
void *pb_alloc(struct pb_arena *a, size_t n);

/* --- reading and writing ---------------------------------------------------------------------- */

#define PB_DEPTH_MAX 32   /* of nested messages and, apart from them, of groups that are skipped */
#define PB_MAP_MAX   4096 /* keys in one map, so that looking for a key twice is bounded work */

/* Reads the whole of `in` into the struct at `out`, which `t` describes and which is written on
 * success only. Spans in it are views into `in`, the rest lives in `a`, so both have to outlive it;
 * an error gives back what it took of `a`. A list takes up to four times its final size.
 *
 * As protobuf says: fields in any order; the last of a singular field wins, singular messages
 * merge; repeated numbers packed or not; unknown fields are skipped, and so is a known number with
 * another wire type than its own, since that is how an older reader meets a field whose type was
 * changed (prost refuses it). Of several map entries with one key the last wins; a map comes out
 * sorted by the bytes of its keys.
 *
 * `out` may be NULL for a message without fields.
 *
 * E_MALFORMED: cut, field number 0, wire types 6 and 7, varints over 10 bytes, groups that do not
 * match. E_UTF8: a string is not UTF-8. E_DEPTH: nested over PB_DEPTH_MAX. E_LIMIT: over
 * PB_MAP_MAX, or `a` is too small. */
enum err pb_read(struct span in, const struct pb_table *t, struct pb_arena *a, void *out);

/* How many bytes pb_write() will write. */
size_t pb_size(const struct pb_table *t, const void *msg);

/* Writes the struct at `msg`, fields by ascending number, default values left out, numbers packed;
 * map entries stand in the order of the list. Returns w->err: E_SPACE when it does not fit, E_UTF8
 * for a string that no reader would take. */
enum err pb_write(struct wr *w, const struct pb_table *t, const void *msg);

/* Writes what stands before the n bytes of a bytes field, for a caller that sends those by itself.
 */
void pb_write_bytes_head(struct wr *w, uint32_t number, uint64_t n);

#endif
