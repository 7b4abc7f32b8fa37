#include "runtime/notes.h"

#include "base/cursor.h"

static void put(struct wr *w, struct span text)
{
	text = span_first(text, w->cap - w->n);
	for (size_t i = 0; i < text.n; i++)
		wr_u8(w, text.p[i] < ' ' || text.p[i] > '~' ? '?' : text.p[i]);
}

void notes_add(struct notes *n, const char *what, struct span more)
{
	size_t used = strlen(n->text);
	struct wr w = wr_of(n->text + used, sizeof n->text - used - 1);

	put(&w, span_str(used ? "; " : ""));
	put(&w, span_str(what));
	put(&w, span_str(more.n ? ": " : ""));
	put(&w, more);
	n->text[used + w.n] = '\0';
}
