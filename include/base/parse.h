/* parse.h - numbers out of text, strictly.
 *
 * The whole text must be the number: no blanks, no '+', no "0x", at least one digit; leading zeros
 * are allowed. All return E_OK, E_MALFORMED for a text that is no such number, or E_RANGE for a
 * number outside min..max (or outside its type); *out is written on success only. */
#ifndef BASE_PARSE_H
#define BASE_PARSE_H

#include "base/err.h"
#include "base/span.h"

/* Decimal; a signed number may start with '-'. */
enum err parse_u64(struct span text, uint64_t min, uint64_t max, uint64_t *out);
enum err parse_i64(struct span text, int64_t min, int64_t max, int64_t *out);

/* Hexadecimal, digits of either case. */
enum err parse_hex_u64(struct span text, uint64_t max, uint64_t *out);

/* Bytes: decimal with an optional binary suffix K, M, G or T of either case: "64K" is 65536. */
enum err parse_size(struct span text, uint64_t min, uint64_t max, uint64_t *out);

/* A duration in milliseconds: decimal with the unit ms, s, m or h, which must be there: "5s" is
 * 5000. */
enum err parse_duration_ms(struct span text, uint64_t min_ms, uint64_t max_ms, uint64_t *out_ms);

#endif
