#include "runtime/notes.h"

#include "base/cursor.h"

void notes_add(struct notes *n, const char *what, struct span more)
{
	size_t used = strlen(n->text);
	struct wr w = wr_of(n->text + used, sizeof n->text - used - 1);

	wr_plain(&w, span_str(used ? "; " : ""));
	wr_plain(&w, span_str(what));
	wr_plain(&w, span_str(more.n ? ": " : ""));
	wr_plain(&w, more);
	n->text[used + w.n] = '\0';
}
