#include "session/launch.h"

#include "exec_case.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <sys/wait.h>

static struct run run;

static void begin(const char *script)
{
	case_start();
	run = run_of_script(script);
}

static void set_env(const char *key, const char *value)
{
	ck_assert_int_eq(command_add_env(&run.command, span_str(key), span_str(value)), 0);
}

static void end(int code, const char *out, const char *err)
{
	run_whole(&run);
	ck_assert_str_eq(run.out, out);
	ck_assert_str_eq(run.err, err);
	ck_assert_int_eq(run.code, code);
	run_free(&run);
	case_end();
}

static bool is_root(void)
{
	if (geteuid() == 0)
		return true;
	skip_test("becoming another user needs root");
	return false;
}

/* --- the environment -------------------------------------------------------------------------- */

START_TEST(gives_a_sane_environment)
{
	ck_assert_int_eq(setenv("SECRET", "of the server", 1), 0);
	begin("echo $PATH; echo ${TERM-none} ${SECRET-none}; test $USER = \"$(id -un)\"; echo $?; "
	      "test -d \"$HOME\"; echo $?");
	end(0, "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin\nnone none\n0\n0\n",
	    "");
}
END_TEST

START_TEST(gives_the_environment_asked_for)
{
	begin("echo $HOME $USER $TERM $A; /usr/bin/env | /bin/grep -c ^A=");
	set_env("HOME", "/home/x");
	set_env("A", "1");
	set_env("USER", "me");
	set_env("TERM", "vt100");
	set_env("PATH", "/usr/bin:/bin");
	set_env("AB", "other");
	set_env("A", "2");
	run.command.tty = true;
	end(0, "/home/x me vt100 2\r\n1\r\n", "");
}
END_TEST

/* --- the program ------------------------------------------------------------------------------ */

static char dir[] = "/tmp/test_launch.XXXXXX";

static void remove_dir(void)
{
	const char *const words[] = {"rm", "-r", dir, NULL};

	case_start();
	run = run_of(words);
	end(0, "", "");
}

/* A script that says its name. */
static void put_script(const char *name, const char *text, mode_t mode)
{
	char path[256];
	struct wr w = wr_of(path, sizeof path);
	int fd;

	wr_str(&w, dir);
	wr_str(&w, name);
	wr_nul(&w);
	fd = open(path, O_WRONLY | O_CREAT | O_EXCL, 0600);
	ck_assert_int_ge(fd, 0);
	ck_assert_int_eq((int)write(fd, text, strlen(text)), (int)strlen(text));
	ck_assert_int_eq(fchmod(fd, mode), 0);
	ck_assert_int_eq(close(fd), 0);
}

static void make_programs(void)
{
	char sub[64];

	ck_assert_ptr_nonnull(mkdtemp(dir));
	for (const char *name = "ab"; *name; name++) {
		struct wr w = wr_of(sub, sizeof sub);

		wr_str(&w, dir);
		wr_str(&w, "/");
		wr_bytes(&w, span_of(name, 1));
		wr_nul(&w);
		ck_assert_int_eq(mkdir(sub, 0755), 0);
	}
	put_script("/a/both", "#!/bin/sh\necho a\n", 0755);
	put_script("/b/both", "#!/bin/sh\necho b\n", 0755);
	put_script("/a/second", "#!/bin/sh\necho a\n", 0644);
	put_script("/b/second", "#!/bin/sh\necho b\n", 0755);
	put_script("/a/plain", "text\n", 0644);
	put_script("/a/nobang", "echo text\n", 0755);
	put_script("/a/lost", "#!/no/such/interpreter\n", 0755);
}

/* Looks for a program in places that are none, then in a and b. */
static void check_search(const char *program, int code, const char *out)
{
	const char *const words[] = {program, NULL};
	char path[256];
	struct wr w = wr_of(path, sizeof path);

	wr_str(&w, "/etc/passwd:/no/such:");
	wr_str(&w, dir);
	wr_str(&w, "/a:");
	wr_str(&w, dir);
	wr_str(&w, "/b");
	wr_nul(&w);
	case_start();
	run = run_of(words);
	set_env("PATH", path);
	run_whole(&run);
	ck_assert_msg(run.code == code, "%s: %d", program, run.code);
	ck_assert_str_eq(run.out, out);
	ck_assert_int_eq(run.n_err > 0, code >= LAUNCH_NOT_EXECUTABLE);
	run_free(&run);
	case_end();
}

START_TEST(looks_along_the_path)
{
	static char large[5000];

	memset(large, 'x', sizeof large - 1);
	make_programs();
	check_search("both", 0, "a\n");
	check_search("second", 0, "b\n");
	check_search("plain", LAUNCH_NOT_EXECUTABLE, "");
	check_search("nobang", LAUNCH_NOT_EXECUTABLE, "");
	check_search("lost", LAUNCH_NOT_FOUND, "");
	check_search("nowhere", LAUNCH_NOT_FOUND, "");
	check_search(large, LAUNCH_NOT_FOUND, "");
	check_search("./both", LAUNCH_NOT_FOUND, "");
	remove_dir();
}
END_TEST

START_TEST(an_empty_part_of_the_path_is_the_directory)
{
	const char *const words[] = {"both", NULL};

	make_programs();
	case_start();
	run = run_of(words);
	strcpy(run.command.working_dir, dir);
	strcat(run.command.working_dir, "/b");
	set_env("PATH", "/no/such:");
	run_whole(&run);
	ck_assert_int_eq(run.code, LAUNCH_NOT_FOUND); /* at the end it is none */
	run_free(&run);
	run = run_of(words);
	strcpy(run.command.working_dir, dir);
	strcat(run.command.working_dir, "/b");
	set_env("PATH", ":/no/such");
	end(0, "b\n", "");
	remove_dir();
}
END_TEST

/* --- session, directory, user ----------------------------------------------------------------- */

START_TEST(leads_a_session_and_group)
{
	begin("set -- $(cut -d' ' -f5,6 /proc/$$/stat); test $1 = $$ && test $2 = $$");
	end(0, "", "");
}
END_TEST

START_TEST(has_no_other_descriptors)
{
	int stray = dup(STDOUT_FILENO);

	begin("ls /proc/$$/fd");
	end(0, "0\n1\n2\n", "");
	close(stray);
}
END_TEST

START_TEST(starts_in_its_directory)
{
	begin("pwd");
	strcpy(run.command.working_dir, "/usr/bin");
	end(0, "/usr/bin\n", "");
	begin("pwd");
	end(0, "/\n", "");
	begin("pwd");
	strcpy(run.command.working_dir, "/no/such");
	end(LAUNCH_NOT_EXECUTABLE, "", "cannot change to /no/such: No such file or directory\n");
}
END_TEST

START_TEST(becomes_a_user)
{
	if (!is_root())
		return;
	begin("id -u; id -g; id -G; echo $USER $HOME; echo x > /dev/stdout; echo y > /dev/stderr");
	strcpy(run.command.user, "4711:4712");
	end(0, "4711\n4712\n4712\n4711 /\nx\n", "y\n");
	begin("id -u; id -g; id -G");
	strcpy(run.command.user, "4711");
	end(0, "4711\n0\n0\n", "");
	begin("id -un; id -u");
	strcpy(run.command.user, "root");
	end(0, "root\n0\n", "");
	begin(": > /dev/tty; stat -c %u $(tty)");
	strcpy(run.command.user, "4711");
	run.command.tty = true;
	end(0, "4711\r\n", "");
}
END_TEST

START_TEST(knows_no_stranger)
{
	begin("echo never");
	strcpy(run.command.user, "no-such-user");
	end(LAUNCH_NOT_EXECUTABLE, "", "no such user or group: no-such-user: unknown\n");
	begin("echo never");
	strcpy(run.command.user, "0:no-such-group");
	end(LAUNCH_NOT_EXECUTABLE, "", "no such user or group: 0:no-such-group: unknown\n");
}
END_TEST

START_TEST(cannot_become_everybody)
{
	if (!is_root())
		return;
	ck_assert_int_eq(setgid(4711), 0);
	ck_assert_int_eq(setuid(4711), 0);
	ck_assert_int_eq(prctl(PR_SET_DUMPABLE, 1), 0); /* /proc/self is ours again */
	begin("echo never");
	strcpy(run.command.user, "4712");
	end(LAUNCH_NOT_EXECUTABLE, "", "cannot become user 4712: Operation not permitted\n");
	begin("id -u");
	end(0, "4711\n", "");
}
END_TEST

START_TEST(the_user_may_not_enter_the_directory)
{
	if (!is_root())
		return;
	ck_assert_ptr_nonnull(mkdtemp(dir));
	begin("echo never");
	strcpy(run.command.user, "4711");
	strcpy(run.command.working_dir, dir);
	run_whole(&run);
	ck_assert_int_eq(run.code, LAUNCH_NOT_EXECUTABLE);
	ck_assert_ptr_nonnull(strstr(run.err, "Permission denied"));
	run_free(&run);
	case_end();
	remove_dir();
}
END_TEST

/* --- launch() itself ---------------------------------------------------------------------------
 */

/* Launches in a child of this test, where no program can be run: the exit code and the reason. */
static int launch_in_child(const struct command *c, int err, char *reason, size_t cap)
{
	int pipe_fds[2], status;
	ssize_t n;
	pid_t pid;

	ck_assert_int_eq(pipe2(pipe_fds, O_CLOEXEC), 0);
	pid = fork();
	if (pid == 0) {
		struct launch l = {c, pipe_fds[1]};

		fault_arm("execve", 1, err, true);
		_exit(launch(&l));
	}
	close(pipe_fds[1]);
	n = read(pipe_fds[0], reason, cap - 1);
	reason[n > 0 ? n : 0] = '\0';
	close(pipe_fds[0]);
	ck_assert_int_eq(waitpid(pid, &status, 0), pid);
	ck_assert(WIFEXITED(status));
	return WEXITSTATUS(status);
}

START_TEST(comes_back_with_why)
{
	static const struct {
		const char *program, *user, *dir;
		bool tty;
		int err, code;
		const char *reason;
	} rows[] = {
	    {"/bin/true", "", "", false, E2BIG, 126,
		"cannot run /bin/true: Argument list too long\n"},
	    {"/bin/true", "0", "/", false, ENOENT, 127,
		"cannot run /bin/true: No such file or directory\n"},
	    {"true", "", "/tmp", false, EACCES, 126, "cannot run true: Permission denied\n"},
	    {"true", "", "", false, ENOTDIR, 127, "cannot run true: No such file or directory\n"},
	    {"true", "", "", false, ENOMEM, 126, "cannot run true: Cannot allocate memory\n"},
	    {"", "", "", false, 0, 127, "cannot run an empty command: No such file or directory\n"},
	    {"true", "", "/dev/null", false, 0, 126,
		"cannot change to /dev/null: Not a directory\n"},
	    {"true", "nobody at all", "", false, 0, 126,
		"no such user or group: nobody at all: unknown\n"},
	    {"true", "", "", true, 0, 126, "cannot take the terminal: "},
	};
	char reason[512];

	for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
		const char *const words[] = {rows[i].program, NULL};
		struct run r = run_of(words);

		strcpy(r.command.user, rows[i].user);
		strcpy(r.command.working_dir, rows[i].dir);
		r.command.tty = rows[i].tty;
		ck_assert_int_eq(command_add_env(&r.command, span_str("A"), span_str("1")), 0);
		ck_assert_int_eq(
		    launch_in_child(&r.command, rows[i].err, reason, sizeof reason), rows[i].code);
		ck_assert_msg(
		    span_starts(span_str(reason), span_str(rows[i].reason)), "%s", reason);
		run_free(&r);
	}
}
END_TEST

START_TEST(begins_no_second_session)
{
	struct run r = run_of_script("");
	int status;
	pid_t pid = fork();

	if (pid == 0) {
		struct launch l = {&r.command, STDERR_FILENO};
		int rc;

		setpgid(0, 0); /* the leader of a group cannot */
		close(STDERR_FILENO);
		rc = launch(&l);
		_exit(rc == LAUNCH_NOT_EXECUTABLE ? 0 : 1);
	}
	ck_assert_int_eq(waitpid(pid, &status, 0), pid);
	ck_assert_int_eq(status, 0);
	run_free(&r);
}
END_TEST

/* --- faults ----------------------------------------------------------------------------------- */

static void check_fault(const char *call)
{
	run = run_of_script("exit 8");
	FAULT_EACH(call, EIO)
	{
		run.ended = false;
		run.n_err = 0;
		if (exec_start(&executor, &run.command, &run_ops, &run, &run.exec) == 0)
			run_wait(&run);
		case_turn_until(nothing_runs, NULL);
		if (run.ended && run.code != 8)
			ck_assert_msg(run.code == LAUNCH_NOT_EXECUTABLE, "%s: %d", call, run.code);
	}
	run_free(&run);
}

START_TEST(a_failing_call_is_told)
{
	case_start();
	check_fault("malloc");
	check_fault("calloc");
	check_fault("open");
	check_fault("execve");
	case_end();
}
END_TEST

Suite *suite(void)
{
	const TTest *const tests[] = {
	    gives_a_sane_environment,
	    gives_the_environment_asked_for,
	    looks_along_the_path,
	    an_empty_part_of_the_path_is_the_directory,
	    leads_a_session_and_group,
	    has_no_other_descriptors,
	    starts_in_its_directory,
	    becomes_a_user,
	    knows_no_stranger,
	    cannot_become_everybody,
	    the_user_may_not_enter_the_directory,
	    comes_back_with_why,
	    begins_no_second_session,
	    a_failing_call_is_told,
	    NULL,
	};

	return suite_of("launch", tests);
}
