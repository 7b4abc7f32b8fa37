/* What runs as arcbox-agent: options, log and loop, and then the agent for as long as it is wanted,
 * which as the first process is for ever. */
#include "agent/agent.h"
#include "agent/logs.h"
#include "agent/option_text.h"
#include "base/log.h"
#include "init/init.h"
#include "sys/fs.h"

#include <stdlib.h>
#include <unistd.h>

static void log_problem(const struct option_problem *p)
{
	char text[512];

	log_error("main", "kernel command line: option left out",
	    KV_STR("problem", option_problem_text(p, text, sizeof text)));
}

static const char *read_cmdline(void)
{
	static char cmdline[4096]; /* options view it */
	ssize_t n = fs_read_file("/proc/cmdline", cmdline, sizeof cmdline - 1);

	cmdline[n > 0 ? n : 0] = '\0';
	return cmdline;
}

/* True when the agent is to run; else *status is how the process ends. */
static bool read_options(struct agent *a, int argc, char **argv, int *status)
{
	struct options *o = &a->options;
	const char *cmdline = read_cmdline();
	struct option_problem problem;
	char text[512];

	options_default(o);
	options_docker_port(o, getenv("ARCBOX_GUEST_DOCKER_VSOCK_PORT"), cmdline);
	if (a->is_pid1) /* the one that the kernel command line is for */
		options_kernel(o, cmdline, log_problem);
	*status = EXIT_SUCCESS;
	if (!options_parse(o, argc, argv, &problem)) {
		log_error("main", "wrong option",
		    KV_STR("problem", option_problem_text(&problem, text, sizeof text)));
		*status = 2;
		return a->is_pid1;
	}
	if (o->help)
		options_help(STDOUT_FILENO);
	if (o->version)
		fs_write_all(STDOUT_FILENO, span_str("arcbox-agent " AGENT_VERSION "\n"));
	return a->is_pid1 || (!o->help && !o->version);
}

int main(int argc, char **argv)
{
	static struct agent agent;
	struct agent *a = &agent;
	int status, rc;

	a->started_ns = clock_mono_ns();
	a->is_pid1 = getpid() == 1;
	signals_block();
	if (a->is_pid1)
		init_first();
	if (!read_options(a, argc, argv, &status))
		return status;
	a->brings_up = a->is_pid1 && a->options.command != COMMAND_SERVE;
	logs_start(a);
	log_info("main", "arcbox-agent " AGENT_VERSION " starts", KV_NUM("pid", getpid()),
	    KV_NUM("since_boot_ms", a->started_ns / NS_PER_MS));
	while ((rc = agent_init(a)) < 0) {
		log_error("main", "cannot make an event loop", KV_ERR(rc));
		if (!a->is_pid1)
			return EXIT_FAILURE;
		sleep(1);
	}
	if (a->options.command == COMMAND_INIT && !a->is_pid1) {
		a->brings_up = true;
		return agent_bring_up(a) ? EXIT_SUCCESS : EXIT_FAILURE;
	}
	agent_start(a);
	do
		loop_run(&a->loop);
	while (a->is_pid1); /* whose end would be the machine's */
	agent_done(a);
	return EXIT_SUCCESS;
}
