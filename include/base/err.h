/* err.h - the error codes of the agent and their text.
 *
 * Two families share one int. Pure code (base, codec) returns `enum err`: E_OK is 0 and every error
 * is positive. Code that asks the kernel for something (sys and up) returns 0 or more on success
 * and -errno on failure. err_text() knows both. */
#ifndef BASE_ERR_H
#define BASE_ERR_H

enum err {
	E_OK = 0,
	E_MORE,      /* the input is cut: nothing was consumed, call again with more bytes */
	E_MALFORMED, /* the format forbids this input */
	E_LIMIT,     /* the input is legal but larger than the limit given */
	E_DEPTH,     /* nested deeper than the limit given */
	E_SPACE,     /* the output does not fit in the buffer given */
	E_UTF8,      /* a text is not valid UTF-8 */
	E_RANGE,     /* a number is outside its range */
	E_UNKNOWN,   /* a name or number that nobody knows */
	E_COUNT      /* how many there are; not a code */
};

/* The text of an `enum err` or of a negative errno, in English, without a full stop. Never NULL;
 * the string is static. */
const char *err_text(int rc);

#endif
