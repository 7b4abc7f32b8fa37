#include "session/launch.h"

#include "session/account.h"
#include "sys/fs.h"

#include <errno.h>
#include <limits.h>
#include <stdlib.h>
#include <sys/ioctl.h>
#include <sys/syscall.h>
#include <unistd.h>

enum {
	ACCOUNTS_BYTES = 1 << 20, /* of /etc/passwd, and of /etc/group */
	REASON_BYTES = 512,
};

/* Says why: "cannot run prog: Permission denied". */
static int failed(const struct launch *l, const char *what, struct span subject, int rc)
{
	char text[REASON_BYTES];
	struct wr w = wr_of(text, sizeof text);

	wr_str(&w, what);
	wr_str(&w, " ");
	wr_bytes(&w, span_first(subject, REASON_BYTES / 2));
	wr_str(&w, ": ");
	wr_str(&w, err_text(rc));
	wr_str(&w, "\n");
	fs_write_all(l->reason_fd, wr_span(&w));
	return LAUNCH_NOT_EXECUTABLE;
}

/* --- session and user ------------------------------------------------------------------------- */

static int begin_session(const struct launch *l)
{
	if (setsid() < 0)
		return failed(l, "cannot begin", span_str("a session"), -errno);
	if (l->command->tty && ioctl(STDIN_FILENO, TIOCSCTTY, 0) < 0)
		return failed(l, "cannot take", span_str("the terminal"), -errno);
	return 0;
}

/* A file that is not there is an empty one. */
static int read_accounts(const struct launch *l, const char *path, struct span *out)
{
	char *text = malloc(ACCOUNTS_BYTES);
	ssize_t n = text ? fs_read_file(path, text, ACCOUNTS_BYTES) : -ENOMEM;

	if (n < 0 && n != -ENOENT)
		return failed(l, "cannot read", span_str(path), (int)n);
	*out = span_of(text, n > 0 ? (size_t)n : 0);
	return 0;
}

static int look_up(const struct launch *l, struct account *out)
{
	static char own[32]; /* the account may view it */
	struct wr uid = wr_of(own, sizeof own);
	struct span user = span_str(l->command->user);
	struct span passwd, group;
	int rc = read_accounts(l, "/etc/passwd", &passwd);
	enum err err;

	if (rc == 0)
		rc = read_accounts(l, "/etc/group", &group);
	if (rc != 0)
		return rc;
	wr_dec(&uid, geteuid());
	if (user.n == 0)
		user = wr_span(&uid);
	err = account_find(passwd, group, user, out);
	return err == E_OK ? 0 : failed(l, "no such user or group:", user, (int)err);
}

/* What the command has open becomes the user's, who could not open it again by name (/dev/stdout,
 * /dev/tty) otherwise. */
static int become(const struct launch *l, const struct account *a)
{
	for (int fd = 0; fd <= 2; fd++)
		(void)!fchown(fd, a->uid, (gid_t)-1);
	/* There are no other threads, for which the C library would have to look. */
	if (syscall(SYS_setgroups, a->n_groups, a->groups) < 0 || syscall(SYS_setgid, a->gid) < 0 ||
	    syscall(SYS_setuid, a->uid) < 0)
		return failed(l, "cannot become user", span_str(l->command->user), -errno);
	return 0;
}

/* --- arguments and environment ------------------------------------------------------------------
 */

/* The C strings of a queue as an array that ends with NULL and has room for `more`; NULL without
 * memory. The process is about to be another one: nothing is freed. */
static char **strings_of(const struct queue *q, size_t more)
{
	char *text = (char *)(q->p ? q->p + q->head : NULL);
	size_t n = 0, at = 0;
	char **list;

	for (size_t i = 0; i < q->n; i++)
		n += text[i] == '\0';
	list = calloc(n + more + 1, sizeof *list);
	for (size_t i = 0; list && i < n; i++) {
		list[i] = text + at;
		at += strlen(list[i]) + 1;
	}
	return list;
}

static bool has_key(const char *entry, struct span key)
{
	return strncmp(entry, (const char *)key.p, key.n) == 0 && entry[key.n] == '=';
}

/* The value of a variable, the last one of that name, or NULL. */
static const char *value_of(char **env, const char *key)
{
	const char *value = NULL;

	for (; *env; env++)
		if (has_key(*env, span_str(key)))
			value = *env + strlen(key) + 1;
	return value;
}

/* Unless it is set. False without memory. */
static bool add_default(char **env, const char *key, struct span value)
{
	size_t n = strlen(key) + 1 + value.n + 1;
	struct wr w;

	if (value_of(env, key))
		return true;
	while (*env)
		env++;
	*env = malloc(n);
	w = wr_of(*env, *env ? n : 0);
	wr_str(&w, key);
	wr_u8(&w, '=');
	wr_bytes(&w, value);
	wr_nul(&w);
	return w.err == E_OK;
}

/* Of those with one name only the last stays: which one a program takes is its own choice. */
static void drop_repeated(char **env)
{
	char **kept = env;

	for (; *env; env++) {
		struct span entry = span_str(*env);
		const char *key_end = strchr(*env, '=');
		struct span key = span_first(entry, (size_t)(key_end - *env));
		char **later = env + 1;

		while (*later && !has_key(*later, key))
			later++;
		if (!*later)
			*kept++ = *env;
	}
	*kept = NULL;
}

/* NULL without memory. */
static char **environment_of(const struct command *c, const struct account *a)
{
	static const char path[] = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";
	enum { DEFAULTS = 4 };
	char **env = strings_of(&c->env, DEFAULTS);

	if (!env)
		return NULL;
	drop_repeated(env);
	if (!add_default(env, "PATH", span_str(path)) || !add_default(env, "HOME", a->home) ||
	    !add_default(env, "USER", a->name) ||
	    (c->tty && !add_default(env, "TERM", span_str("xterm"))))
		return NULL;
	return env;
}

/* --- the program ------------------------------------------------------------------------------ */

/* Looks on only where there is none; one that may not be run is what the search ends with when no
 * other is found (exec(3)). Returns the errno. */
static int run_along_path(struct span path, char **argv, char **env)
{
	int err = ENOENT;

	do {
		struct span dir = span_split(&path, ':');
		char program[PATH_MAX];
		struct wr w = wr_of(program, sizeof program);

		wr_bytes(&w, dir);
		wr_str(&w, dir.n ? "/" : "");
		wr_str(&w, argv[0]);
		wr_nul(&w);
		if (w.err != E_OK)
			continue;
		execve(program, argv, env);
		if (errno == EACCES)
			err = EACCES;
		else if (errno != ENOENT && errno != ENOTDIR)
			return errno;
	} while (path.n);
	return err;
}

static int run(const struct launch *l, const struct account *a)
{
	char **argv = strings_of(&l->command->args, 0);
	char **env = environment_of(l->command, a);
	const char *path = env ? value_of(env, "PATH") : NULL;
	int err;

	if (!argv || !env)
		return failed(l, "cannot run", span_str("the command"), -ENOMEM);
	if (!argv[0] || !*argv[0])
		err = ENOENT;
	else if (!strchr(argv[0], '/'))
		err = run_along_path(span_str(path ? path : ""), argv, env);
	else
		err = execve(argv[0], argv, env) < 0 ? errno : 0;
	failed(l, "cannot run", span_str(argv[0] && *argv[0] ? argv[0] : "an empty command"), -err);
	return err == ENOENT || err == ENOTDIR ? LAUNCH_NOT_FOUND : LAUNCH_NOT_EXECUTABLE;
}

int launch(void *arg)
{
	const struct launch *l = arg;
	const struct command *c = l->command;
	const char *dir = c->working_dir[0] ? c->working_dir : "/";
	struct account account;
	int rc = begin_session(l);

	if (rc == 0)
		rc = look_up(l, &account);
	if (rc == 0 && c->user[0])
		rc = become(l, &account);
	if (rc == 0 && chdir(dir) < 0)
		rc = failed(l, "cannot change to", span_str(dir), -errno);
	return rc == 0 ? run(l, &account) : rc;
}
