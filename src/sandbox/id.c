#include "sandbox/id.h"

#include "base/cursor.h"
#include "sys/random.h"

static bool is_printable(struct span text)
{
	for (size_t i = 0; i < text.n; i++)
		if (text.p[i] < 0x20 || text.p[i] > 0x7e)
			return false;
	return true;
}

const char *sandbox_id_problem(struct span id)
{
	if (id.n == 0)
		return "it is empty";
	if (id.n > SANDBOX_ID_MAX)
		return "it is longer than 64 bytes";
	if (!is_printable(id))
		return "it is not printable ASCII";
	if (span_find(id, '/') < id.n || span_find(id, '\\') < id.n)
		return "it has a slash or backslash in it";
	if (span_eq_str(id, ".") || span_eq_str(id, ".."))
		return "it stands for a directory";
	if (span_eq_str(id, SANDBOX_GUEST))
		return "it stands for the guest itself";
	return NULL;
}

/* Its version, 4, and its variant, binary 10, are in the upper bits of bytes 6 and 8. */
int sandbox_id_new(sandbox_id id)
{
	struct wr w = wr_of(id, sizeof(sandbox_id));
	uint8_t uuid[16];
	int rc = random_fill(uuid, sizeof uuid);

	if (rc < 0)
		return rc;
	uuid[6] = (uint8_t)(0x40 | (uuid[6] & 0x0f));
	uuid[8] = (uint8_t)(0x80 | (uuid[8] & 0x3f));
	for (size_t i = 0; i < sizeof uuid; i++) {
		wr_str(&w, i == 4 || i == 6 || i == 8 || i == 10 ? "-" : "");
		wr_hex8(&w, uuid[i]);
	}
	wr_nul(&w);
	return 0;
}
