#include "session/account.h"

#include "base/cursor.h"
#include "cases.h"
#include "suite.h"

#define PASSWD                                                                                     \
	"root:x:0:0:root:/root:/bin/sh\n"                                                          \
	"# a remark\n"                                                                             \
	"\n"                                                                                       \
	"broken\n"                                                                                 \
	"nonumber:x:abc:1:::\n"                                                                    \
	":x:77:77:::\n"                                                                            \
	"joe:x:1000:1001:Joe,,,:/home/joe:/bin/bash\n"                                             \
	"homeless:x:1002:1002:::\n"                                                                \
	"short:x:1003:1004\n"                                                                      \
	"joe:x:2000:2000::/second:\n"                                                              \
	"123:x:55:55::/digits:\n"                                                                  \
	"last:x:1005:1005::/home/last:/bin/sh"

#define GROUP                                                                                      \
	"root:x:0:\n"                                                                              \
	"users:x:100:root,joe\n"                                                                   \
	"joe:x:1001:joe\n"                                                                         \
	"audio:x:29:anna,joey\n"                                                                   \
	"video:x:44:anna,joe,root\n"                                                               \
	"broken:x:zz:joe\n"                                                                        \
	"last:x:1005:homeless"

static struct account account;

static enum err find(const char *who)
{
	memset(&account, 0xee, sizeof account);
	return account_find(span_str(PASSWD), span_str(GROUP), span_str(who), &account);
}

static void check(const char *who, uid_t uid, gid_t gid, const char *name, const char *home)
{
	ck_assert_msg(find(who) == E_OK, "%s", who);
	ck_assert_uint_eq(account.uid, uid);
	ck_assert_uint_eq(account.gid, gid);
	ck_assert_msg(span_eq_str(account.name, name), "%s: name", who);
	ck_assert_msg(span_eq_str(account.home, home), "%s: home", who);
}

START_TEST(finds_users_by_name_and_number)
{
	check("root", 0, 0, "root", "/root");
	check("0", 0, 0, "root", "/root");
	check("joe", 1000, 1001, "joe", "/home/joe");
	check("1000", 1000, 1001, "joe", "/home/joe");
	check("0001000", 1000, 1001, "joe", "/home/joe");
	check("last", 1005, 1005, "last", "/home/last");
	check("homeless", 1002, 1002, "homeless", "/");
	check("short", 1003, 1004, "short", "/");
	check("2000", 2000, 2000, "joe", "/second");
}
END_TEST

START_TEST(takes_numbers_that_nobody_has)
{
	check("4711", 4711, 0, "4711", "/");
	ck_assert_uint_eq(account.n_groups, 0);
	check("4711:4712", 4711, 4712, "4711", "/");
	check("joe:4712", 1000, 4712, "joe", "/home/joe");
	check("123", 123, 0, "123", "/"); /* what looks like a number is one */
	check("4294967294", 4294967294, 0, "4294967294", "/");
	ck_assert_int_eq(find("4294967295"), E_RANGE); /* (uid_t)-1 */
	ck_assert_int_eq(find("joe:4294967295"), E_RANGE);
	ck_assert_int_eq(find("99999999999999999999"), E_RANGE);
}
END_TEST

START_TEST(finds_groups)
{
	check("joe", 1000, 1001, "joe", "/home/joe");
	ck_assert_uint_eq(account.n_groups, 2); /* not that of the user, which is no other one */
	ck_assert_uint_eq(account.groups[0], 100);
	ck_assert_uint_eq(account.groups[1], 44);
	check("root", 0, 0, "root", "/root");
	ck_assert_uint_eq(account.n_groups, 2);
	check("homeless", 1002, 1002, "homeless", "/");
	ck_assert_uint_eq(account.n_groups, 1);
	check("joe:video", 1000, 44, "joe", "/home/joe");
	ck_assert_uint_eq(account.n_groups, 0);
	check("joe:44", 1000, 44, "joe", "/home/joe");
	check("5:root", 5, 0, "5", "/");
}
END_TEST

START_TEST(does_not_find_others)
{
	static const char *const nobody[] = {"", ":", "anna", "jo", "joey", "nonumber", "broken",
	    "# a remark", "joe:", "joe:nosuch", "joe:broken", ":users", "-1", "+1", "0x10", "1 ",
	    "joe\n", "x:0"};

	for (size_t i = 0; i < sizeof nobody / sizeof *nobody; i++) {
		ck_assert_msg(find(nobody[i]) == E_UNKNOWN, "%s", nobody[i]);
		ck_assert_uint_eq(account.uid, 0xeeeeeeee); /* left alone */
	}
}
END_TEST

START_TEST(does_without_the_files)
{
	struct span none = span_of(NULL, 0);

	ck_assert_int_eq(account_find(none, none, span_str("7:8"), &account), E_OK);
	ck_assert_uint_eq(account.uid, 7);
	ck_assert_uint_eq(account.gid, 8);
	ck_assert_int_eq(account_find(none, none, span_str("root"), &account), E_UNKNOWN);
}
END_TEST

START_TEST(has_room_for_so_many_groups)
{
	char group[8192];
	struct wr w = wr_of(group, sizeof group);

	for (unsigned i = 0; i < ACCOUNT_GROUPS + 5; i++) {
		wr_str(&w, "g:x:");
		wr_dec(&w, 3000 + i);
		wr_str(&w, ":joe\n");
	}
	ck_assert_int_eq(w.err, E_OK);
	ck_assert_int_eq(
	    account_find(span_str(PASSWD), wr_span(&w), span_str("joe"), &account), E_OK);
	ck_assert_uint_eq(account.n_groups, ACCOUNT_GROUPS);
	ck_assert_uint_eq(account.groups[ACCOUNT_GROUPS - 1], 3000 + ACCOUNT_GROUPS - 1);
}
END_TEST

static void look_up_in(struct span text, void *ctx)
{
	struct account found;

	(void)ctx;
	account_find(text, text, span_str("joe"), &found);
	account_find(text, span_str(GROUP), span_str("last:last"), &found);
	if (account_find(text, span_of(NULL, 0), span_str("joe"), &found) == E_OK)
		ck_assert_uint_gt(found.home.n, 0);
}

START_TEST(survives_damaged_files)
{
	each_cut(span_str(PASSWD), look_up_in, NULL);
	each_mutation(span_str(PASSWD), look_up_in, NULL);
	each_mutation(span_str(GROUP), look_up_in, NULL);
}
END_TEST

Suite *suite(void)
{
	const TTest *const tests[] = {finds_users_by_name_and_number, takes_numbers_that_nobody_has,
	    finds_groups, does_not_find_others, does_without_the_files, has_room_for_so_many_groups,
	    survives_damaged_files, NULL};

	return suite_of("account", tests);
}
