/* list.h - an intrusive doubly linked list.
 *
 * A list head and every node are `struct link`; a node that is in no list points at itself. Nothing
 * is owned and nothing allocated. */
#ifndef BASE_LIST_H
#define BASE_LIST_H

#include "base/container.h"

#include <stdbool.h>
#include <stddef.h>

struct link {
	struct link *next, *prev;
};

static inline void list_init(struct link *l)
{
	l->next = l->prev = l;
}

static inline bool list_empty(const struct link *l)
{
	return l->next == l;
}

/* Puts `node`, which is in no list, behind everything else on `head`. */
static inline void list_append(struct link *head, struct link *node)
{
	node->prev = head->prev;
	node->next = head;
	head->prev->next = node;
	head->prev = node;
}

/* Takes a node out of its list; one that is in none stays so. */
static inline void list_remove(struct link *node)
{
	node->next->prev = node->prev;
	node->prev->next = node->next;
	list_init(node);
}

/* The first node, or NULL. */
static inline struct link *list_first(const struct link *head)
{
	return list_empty(head) ? NULL : head->next;
}

#endif
