#include "runtime/program.h"

#include "cell.h"
#include "suite.h"

#include <stdlib.h>

static struct program program;
static struct environment environment;

START_TEST(command_line_and_logs)
{
	static const char *const args[] = {"server", "--flag", NULL};

	program_init(&program, "/arcbox/runtime/bin", "k3s", args);
	ck_assert_str_eq(program.path, "/arcbox/runtime/bin/k3s");
	ck_assert_ptr_eq(program.argv[0], program.path);
	ck_assert_str_eq(program.argv[1], "server");
	ck_assert_str_eq(program.argv[2], "--flag");
	ck_assert_ptr_null(program.argv[3]);
	ck_assert_str_eq(program.log_paths[0], "/arcbox/log/k3s.log");
	ck_assert_str_eq(program.log_paths[1], "/tmp/k3s.log");
	ck_assert_ptr_null(program.log_paths[2]);
}
END_TEST

START_TEST(more_arguments_than_there_is_room)
{
	const char *args[PROGRAM_ARGS + 3] = {NULL};

	for (size_t i = 0; i < PROGRAM_ARGS + 2; i++)
		args[i] = "x";
	program_init(&program, "/", "p", args);
	ck_assert_ptr_null(program.argv[PROGRAM_ARGS]);
	ck_assert_str_eq(program.argv[PROGRAM_ARGS - 1], "x");
}
END_TEST

START_TEST(path_that_is_too_long)
{
	static const char *const none[] = {NULL};
	char directory[PROGRAM_PATH_BYTES + 1];

	memset(directory, 'd', sizeof directory);
	directory[PROGRAM_PATH_BYTES] = '\0';
	program_init(&program, directory, "k3s", none);
	ck_assert_str_eq(program.path, "");
	ck_assert_str_eq(program.argv[0], "");
	directory[PROGRAM_PATH_BYTES - 5] = '\0';
	program_init(&program, directory, "k3s", none);
	ck_assert_uint_eq(strlen(program.path), PROGRAM_PATH_BYTES - 1);
}
END_TEST

static const char *variable(const char *name)
{
	size_t n = strlen(name);

	for (const char *const *v = environment.variables; *v; v++)
		if (strncmp(*v, name, n) == 0 && (*v)[n] == '=')
			return *v + n + 1;
	return NULL;
}

START_TEST(own_environment_with_another_path)
{
	ck_assert_int_eq(clearenv(), 0);
	setenv("A", "1", 1);
	setenv("PATH", "/own", 1);
	setenv("B", "2", 1);
	environment_init(&environment, "/rt");
	ck_assert_str_eq(variable("PATH"), "/rt:/own:/usr/sbin:/usr/bin:/sbin:/bin");
	ck_assert_str_eq(variable("A"), "1");
	ck_assert_str_eq(variable("B"), "2");
	ck_assert_ptr_null(environment.variables[3]);
	unsetenv("PATH");
	environment_init(&environment, "/rt");
	ck_assert_str_eq(variable("PATH"), "/rt:/usr/sbin:/usr/bin:/sbin:/bin");
}
END_TEST

START_TEST(environment_that_is_too_large)
{
	char name[16], path[4096];

	for (int i = 0; i < 2 * PROGRAM_VARIABLES; i++) {
		snprintf(name, sizeof name, "V%d", i);
		setenv(name, "x", 1);
	}
	memset(path, 'p', sizeof path);
	path[sizeof path - 1] = '\0';
	setenv("PATH", path, 1);
	environment_init(&environment, "/rt");
	ck_assert_str_eq(variable("PATH"), "/usr/sbin:/usr/bin:/sbin:/bin");
	ck_assert_ptr_null(environment.variables[PROGRAM_VARIABLES - 1]);
	ck_assert_ptr_nonnull(environment.variables[PROGRAM_VARIABLES - 2]);
}
END_TEST

static void check_missing(const char *directory, const char *wanted)
{
	static const char *const names[] = {"a", "b", "c", NULL};
	char text[32];
	struct wr w = wr_of(text, sizeof text);

	program_list_missing(directory, names, &w);
	ck_assert_int_eq(w.err, E_OK);
	ck_assert(span_eq_str(wr_span(&w), wanted));
}

START_TEST(missing_programs)
{
	if (!cell_enter())
		return;
	check_missing("/nowhere", "a, b, c");
	ck_assert_int_eq(mkdir("/rt", 0755), 0);
	ck_assert_int_eq(mkdir("/rt/a", 0755), 0);
	cell_write("/rt/b", "");
	cell_write("/rt/c", "");
	check_missing("/rt", "a, b, c");
	ck_assert_int_eq(chmod("/rt/c", 0755), 0);
	check_missing("/rt", "a, b");
	ck_assert_int_eq(rmdir("/rt/a"), 0);
	ck_assert_int_eq(symlink("c", "/rt/a"), 0);
	ck_assert_int_eq(chmod("/rt/b", 0100), 0);
	check_missing("/rt", "");
}
END_TEST

Suite *suite(void)
{
	const TTest *const tests[] = {command_line_and_logs, more_arguments_than_there_is_room,
	    path_that_is_too_long, own_environment_with_another_path, environment_that_is_too_large,
	    missing_programs, NULL};

	return suite_of("program", tests);
}
