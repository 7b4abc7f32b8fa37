/* utf8.h - UTF-8 (RFC 3629), strictly: no overlong forms, no surrogates, nothing above U+10FFFF. */
#ifndef BASE_UTF8_H
#define BASE_UTF8_H

#include "base/span.h"

/* The longest sequence. */
#define UTF8_MAX 4

/* What stands for a byte that is not UTF-8. */
#define UTF8_REPLACEMENT 0xfffdu

/* True when the whole of `text` is UTF-8; the empty text is. */
bool utf8_valid(struct span text);

/* The length in bytes of the sequence that `text` starts with, which *cp is set to; 0, with *cp
 * left alone, when it starts with none (empty, invalid or cut). */
size_t utf8_get(struct span text, uint32_t *cp);

/* At most the first n bytes of a text that is UTF-8: cut between two characters. */
struct span utf8_first(struct span text, size_t n);

/* Encodes a code point into out and returns its length; 0, with out left alone, for a surrogate or
 * a number above U+10FFFF. */
size_t utf8_put(uint32_t cp, uint8_t out[UTF8_MAX]);

#endif
