#include "kubeconfig.h"

/* What stands behind a key. */
enum value {
	FIXED,  /* nothing, or what is part of the key */
	BASE64, /* a certificate or a key */
	SERVER,
	NAME,
};

static const struct line {
	struct span key;
	enum value value;
} lines[] = {
    {SPAN_LIT("apiVersion: v1"), FIXED},
    {SPAN_LIT("kind: Config"), FIXED},
    {SPAN_LIT("preferences: {}"), FIXED},
    {SPAN_LIT("clusters:"), FIXED},
    {SPAN_LIT("- cluster:"), FIXED},
    {SPAN_LIT("    certificate-authority-data: "), BASE64},
    {SPAN_LIT("    server: "), SERVER},
    {SPAN_LIT("  name: "), NAME},
    {SPAN_LIT("contexts:"), FIXED},
    {SPAN_LIT("- context:"), FIXED},
    {SPAN_LIT("    cluster: "), NAME},
    {SPAN_LIT("    user: "), NAME},
    {SPAN_LIT("current-context: "), NAME},
    {SPAN_LIT("users:"), FIXED},
    {SPAN_LIT("- name: "), NAME},
    {SPAN_LIT("  user:"), FIXED},
    {SPAN_LIT("    client-certificate-data: "), BASE64},
    {SPAN_LIT("    client-key-data: "), BASE64},
};

static bool holds_only(struct span text, const char *others)
{
	for (size_t i = 0; i < text.n; i++) {
		uint8_t c = ascii_lower(text.p[i]);

		if (!ascii_digit(c) && !(c >= 'a' && c <= 'z') && !(c && strchr(others, c)))
			return false;
	}
	return text.n > 0;
}

static bool is_value(struct span text, enum value value)
{
	switch (value) {
	case FIXED: return text.n == 0;
	case BASE64: return holds_only(text, "+/=");
	case SERVER: return holds_only(text, ":/.-[]");
	default: return holds_only(text, "-._");
	}
}

/* The row of a line, or NULL. */
static const struct line *line_of(struct span text)
{
	for (size_t i = 0; i < sizeof lines / sizeof *lines; i++)
		if (span_starts(text, lines[i].key) &&
		    is_value(span_from(text, lines[i].key.n), lines[i].value))
			return &lines[i];
	return NULL;
}

enum err kubeconfig_adapt(struct span text, struct span server, struct span name, struct wr *out)
{
	if (!is_value(server, SERVER) || !is_value(name, NAME))
		return E_MALFORMED;
	while (text.n) {
		struct span line = span_split(&text, '\n');
		const struct line *known = line_of(line);

		if (!known)
			return E_MALFORMED;
		wr_bytes(out, known->key);
		if (known->value == SERVER)
			wr_bytes(out, server);
		else if (known->value == NAME)
			wr_bytes(out, name);
		else
			wr_bytes(out, span_from(line, known->key.n));
		wr_u8(out, '\n');
	}
	return out->err;
}
