#include "sys/module.h"

#include "cell.h"
#include "fault.h"

#include <errno.h>
#include <string.h>
#include <sys/utsname.h>

/* Files that are no modules, which the kernel refuses as such: real ones are loaded by the tests
 * that boot a machine. */
static int refused;

static void make_modules(void)
{
	struct utsname kernel;
	char path[256];

	ck_assert_int_eq(uname(&kernel), 0);
	ck_assert_int_eq(mkdir("/lib", 0755), 0);
	ck_assert_int_eq(mkdir("/lib/modules", 0755), 0);
	snprintf(path, sizeof path, "/lib/modules/%s", kernel.release);
	ck_assert_int_eq(mkdir(path, 0755), 0);
	ck_assert_int_eq(chdir(path), 0);
	ck_assert_int_eq(mkdir("kernel", 0755), 0);
	cell_write("kernel/a-b.ko", "not a module");
	cell_write("kernel/c.ko.xz", "not a module");
	cell_write("modules.dep",
	    "kernel/a-b.ko:\n"
	    "kernel/needs.ko: kernel/absent.ko kernel/a-b.ko\n"
	    "kernel/missing.ko: kernel/absent.ko\n"
	    "kernel/c.ko.xz:\n");
	cell_write("modules.builtin", "kernel/within.ko\n");
	refused = module_load_file("kernel/a-b.ko");
	ck_assert(refused < 0 && refused != -ENOENT);
}

START_TEST(paths)
{
	char path[256];

	if (!cell_enter())
		return;
	make_modules();
	ck_assert_int_eq(module_load("kernel/a-b.ko"), refused);
	ck_assert_int_eq(module_load("kernel/absent.ko"), -ENOENT);
	ck_assert_ptr_nonnull(getcwd(path, sizeof path));
	strcat(path, "/kernel/a-b.ko");
	ck_assert_int_eq(module_load(path), refused);
	ck_assert_int_eq(module_load("/absent.ko"), -ENOENT);
	ck_assert_int_lt(module_load("kernel/c.ko.xz"), 0);
}
END_TEST

START_TEST(names)
{
	if (!cell_enter())
		return;
	make_modules();
	ck_assert_int_eq(module_load("a-b"), refused);
	ck_assert_int_eq(module_load("a_b"), refused);
	ck_assert_int_eq(module_load("needs"), refused); /* a-b comes first, and is refused */
	ck_assert_int_eq(module_load("missing"), -ENOENT);
	ck_assert_int_eq(module_load("within"), 0);
	ck_assert_int_eq(module_load("a"), -ENOENT);
	ck_assert_int_eq(module_load("kernel"), -ENOENT);
	ck_assert_int_eq(module_load("unheard-of"), -ENOENT);
}
END_TEST

START_TEST(without_lists_or_memory)
{
	if (!cell_enter())
		return;
	ck_assert_int_eq(module_load("a_b"), -ENOENT);
	make_modules();
	fault_arm("malloc", 1, ENOMEM, true);
	ck_assert_int_eq(module_load("a_b"), -ENOENT);
	ck_assert(fault_disarm());
	FAULT_EACH("open", EMFILE)
	{
		ck_assert_int_lt(module_load("needs"), 0);
	}
}
END_TEST

Suite *suite(void)
{
	const TTest *const tests[] = {paths, names, without_lists_or_memory, NULL};

	return suite_of("module", tests);
}
