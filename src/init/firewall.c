#include "init/firewall.h"

#include "base/cursor.h"
#include "base/log.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <unistd.h>

#define LOCK_WAIT_SECS "5" /* for another iptables */

enum {
	RULE_BYTES = 160, /* two interfaces and two subnets need 136 */
	WORDS = 24,       /* of a command; 19 are needed */
	COMPLAINT_BYTES = 256,
	RULE_IS_ABSENT = 1, /* how -C ends then; other failures have other codes */
};

/* In the words of iptables, with single spaces; no name that may be in it has a space. */
struct rule {
	char text[RULE_BYTES];
};

struct firewall {
	struct reaper *reaper;
	const char *iptables;
	uint64_t timeout_ms; /* of a command */
	bool told_absent;

	struct rule rules[FIREWALL_RULES]; /* a ring; the first one is being made */
	unsigned first, n;

	bool inserting; /* the first one was looked for, and is not there */
	struct child command;
	struct timer deadline;
	int complaint_fd; /* what the command writes to its stderr */
};

/* --- rules ------------------------------------------------------------------------------------ */

static void write_option(struct wr *w, const char *option, const char *value)
{
	if (!value)
		return;
	wr_str(w, option);
	wr_str(w, " ");
	wr_str(w, value);
	wr_str(w, " ");
}

static bool gives_something(const struct firewall_rule *rule)
{
	return rule->in || rule->out || rule->source || rule->destination || rule->established;
}

static enum err write_rule(const struct firewall_rule *rule, struct rule *out)
{
	struct wr w = wr_of(out->text, sizeof out->text);

	write_option(&w, "-i", rule->in);
	write_option(&w, "-o", rule->out);
	write_option(&w, "-s", rule->source);
	write_option(&w, "-d", rule->destination);
	if (rule->established)
		wr_str(&w, "-m conntrack --ctstate RELATED,ESTABLISHED ");
	wr_str(&w, "-j ACCEPT");
	wr_nul(&w);
	return w.err;
}

static const char *current_rule(const struct firewall *fw)
{
	return fw->rules[fw->first].text;
}

static void next_rule(struct firewall *fw)
{
	fw->first = (fw->first + 1) % FIREWALL_RULES;
	fw->n--;
	fw->inserting = false;
}

/* --- commands --------------------------------------------------------------------------------- */

/* The words of a text as argv[1] and on. */
static void split(char *text, const char *argv[WORDS])
{
	char *rest;
	size_t n = 1;

	for (char *word = strtok_r(text, " ", &rest); word && n < WORDS - 1;
	     word = strtok_r(NULL, " ", &rest))
		argv[n++] = word;
	argv[n] = NULL;
}

static int start_command(struct firewall *fw, int complaint_fd)
{
	char text[RULE_BYTES + sizeof "-w " LOCK_WAIT_SECS " -C FORWARD "];
	const char *argv[WORDS] = {fw->iptables};
	const struct child_spec spec = {
	    .path = fw->iptables,
	    .argv = argv,
	    .in_fd = -1,
	    .out_fd = -1,
	    .err_fd = complaint_fd,
	    .new_group = true,
	};

	text_join(text, sizeof text, "-w " LOCK_WAIT_SECS, fw->inserting ? " -I" : " -C",
	    " FORWARD ", current_rule(fw));
	split(text, argv);
	return child_launch(fw->reaper, &fw->command, &spec);
}

/* Starts the command that the first rule needs now. 0 or -errno. */
static int start(struct firewall *fw)
{
	int complaint[2];
	int rc;

	if (pipe2(complaint, O_CLOEXEC | O_NONBLOCK) < 0)
		return -errno;
	rc = start_command(fw, complaint[1]);
	close(complaint[1]);
	if (rc < 0) {
		close(complaint[0]);
		return rc;
	}
	fw->complaint_fd = complaint[0];
	timer_in(&fw->deadline, fw->timeout_ms * NS_PER_MS);
	return 0;
}

/* Says why the first rule is not made, and goes on to the next. */
static void not_started(struct firewall *fw, int rc)
{
	if (rc != -ENOENT)
		log_warn("firewall", "cannot start iptables: a rule is missing",
		    KV_STR("program", fw->iptables), KV_STR("rule", current_rule(fw)), KV_ERR(rc));
	else if (!fw->told_absent)
		log_info("firewall", "there is no iptables: no rules are made",
		    KV_STR("program", fw->iptables));
	fw->told_absent |= rc == -ENOENT;
	next_rule(fw);
}

/* Starts the next command, if there is anything left to do. */
static void proceed(struct firewall *fw)
{
	while (fw->n > 0) {
		int rc = start(fw);

		if (rc == 0)
			return;
		not_started(fw, rc);
	}
}

/* The command has ended, or is left to itself. */
static void let_go(struct firewall *fw)
{
	timer_at(&fw->deadline, 0);
	close(fw->complaint_fd);
	fw->complaint_fd = -1;
}

/* What the command said first, in one line. */
static struct span read_complaint(int fd, char buf[COMPLAINT_BYTES])
{
	ssize_t n = read(fd, buf, COMPLAINT_BYTES);
	struct span text = span_of(buf, n < 0 ? 0 : (size_t)n);

	return span_first(text, span_find(text, '\n'));
}

/* The rule is there, or cannot be made. */
static void rule_is_done(struct firewall *fw, int code)
{
	char buf[COMPLAINT_BYTES];

	if (code != 0)
		log_warn("firewall", "iptables failed: a rule is missing",
		    KV_STR("rule", current_rule(fw)), KV_NUM("status", code),
		    KV_SPAN("message", read_complaint(fw->complaint_fd, buf)));
	next_rule(fw);
}

static void command_ended(struct child *c, int status)
{
	struct firewall *fw = container_of(c, struct firewall, command);
	int code = WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);

	if (c->exec_rc < 0)
		not_started(fw, c->exec_rc);
	else if (code == RULE_IS_ABSENT && !fw->inserting)
		fw->inserting = true;
	else
		rule_is_done(fw, code);
	let_go(fw);
	proceed(fw);
}

/* One that is stuck in the kernel does not die at once: the reaper buries it when it does. */
static void kill_command(struct firewall *fw)
{
	kill(-fw->command.pid, SIGKILL);
	child_forget(&fw->command);
	let_go(fw);
}

static void command_late(struct timer *t)
{
	struct firewall *fw = container_of(t, struct firewall, deadline);

	log_warn("firewall", "iptables hangs, and was killed: a rule is missing",
	    KV_STR("rule", current_rule(fw)), KV_NUM("timeout_ms", fw->timeout_ms));
	kill_command(fw);
	next_rule(fw);
	proceed(fw);
}

/* --- what the owner calls --------------------------------------------------------------------- */

struct firewall *firewall_new(
    struct loop *l, struct reaper *r, const char *iptables, uint64_t timeout_ms)
{
	struct firewall *fw = calloc(1, sizeof *fw);

	if (!fw)
		return NULL;
	*fw = (struct firewall){
	    .reaper = r,
	    .iptables = iptables,
	    .timeout_ms = timeout_ms,
	    .command.fn = command_ended,
	    .complaint_fd = -1,
	};
	timer_init(&fw->deadline, l, command_late);
	return fw;
}

void firewall_free(struct firewall *fw)
{
	if (fw && fw->command.pid != 0)
		kill_command(fw);
	free(fw);
}

void firewall_accept(struct firewall *fw, const struct firewall_rule *rule)
{
	struct rule *last;

	if (!fw || !gives_something(rule))
		return;
	last = &fw->rules[(fw->first + fw->n) % FIREWALL_RULES];
	if (fw->n == FIREWALL_RULES || write_rule(rule, last) != E_OK) {
		log_warn("firewall", "too many rules, or too long: one is missing",
		    KV_NUM("waiting", fw->n));
		return;
	}
	fw->n++;
	if (fw->n == 1)
		proceed(fw);
}

bool firewall_is_idle(const struct firewall *fw)
{
	return !fw || fw->n == 0;
}
