#include "base/list.h"

#include "suite.h"

#include <string.h>

struct item {
	char name;
	struct link link;
};

static struct link head;
static struct item a = {.name = 'a'}, b = {.name = 'b'}, c = {.name = 'c'};

static void add(struct item *item)
{
	list_init(&item->link);
	list_append(&head, &item->link);
}

static void fill(void)
{
	list_init(&head);
	add(&a);
	add(&b);
	add(&c);
}

/* The list reads as `names`, forwards and backwards. */
static void check_names(const char *names)
{
	size_t n = strlen(names);
	size_t i = 0;

	for (struct link *l = head.next; l != &head; l = l->next)
		ck_assert_int_eq(container_of(l, struct item, link)->name, names[i++]);
	ck_assert_uint_eq(i, n);
	for (struct link *l = head.prev; l != &head; l = l->prev)
		ck_assert_int_eq(container_of(l, struct item, link)->name, names[--i]);
	ck_assert_uint_eq(i, 0);
	ck_assert(list_empty(&head) == (n == 0));
	ck_assert_ptr_eq(list_first(&head), n ? head.next : NULL);
}

START_TEST(appends_in_order)
{
	list_init(&head);
	check_names("");
	fill();
	check_names("abc");
}
END_TEST

START_TEST(removes_from_anywhere)
{
	fill();
	list_remove(&b.link);
	check_names("ac");
	list_remove(&a.link);
	check_names("c");
	list_remove(&c.link);
	check_names("");
}
END_TEST

START_TEST(a_removed_node_is_in_no_list)
{
	fill();
	list_remove(&c.link);
	ck_assert(list_empty(&c.link));
	list_remove(&c.link);
	check_names("ab");
	list_append(&head, &c.link);
	check_names("abc");
	list_remove(&a.link);
	list_append(&head, &a.link);
	check_names("bca");
}
END_TEST

Suite *suite(void)
{
	const TTest *const tests[] = {
	    appends_in_order,
	    removes_from_anywhere,
	    a_removed_node_is_in_no_list,
	    NULL,
	};

	return suite_of("list", tests);
}
