#include "base/hostname.h"

enum { LABEL_BYTES = 63 };

static bool is_label(struct span label)
{
	for (size_t i = 0; i < label.n; i++) {
		uint8_t c = ascii_lower(label.p[i]);
		bool edge = i == 0 || i + 1 == label.n;

		if (!ascii_digit(c) && (c < 'a' || c > 'z') && (edge || c != '-'))
			return false;
	}
	return label.n > 0 && label.n <= LABEL_BYTES;
}

bool hostname_is_legal(struct span name)
{
	do {
		if (!is_label(span_split(&name, '.')))
			return false;
	} while (name.p);
	return true;
}
