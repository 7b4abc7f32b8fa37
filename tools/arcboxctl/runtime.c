#include "commands.h"

#include "codec/messages.h"
#include "print.h"
#include "sys/clock.h"

#include <poll.h>

enum { POLL_MS = 200 };

/* --- status ----------------------------------------------------------------------------------- */

static int status(struct client *c, const struct settings *s, char **args, struct pb_arena *arena)
{
	struct rpc_runtime_status_response response;
	int rc = command_call(c, RPC_RUNTIME_STATUS_REQUEST, NULL,
	    &rpc_runtime_status_response_table, arena, &response);

	(void)args;
	return rc ? rc : command_print(s, &rpc_runtime_status_response_table, &response);
}

int run_status(struct client *c, const struct settings *s, char **args)
{
	return command_with_arena(status, c, s, args);
}

/* --- ensure ----------------------------------------------------------------------------------- */

/* Takes the text up to the next "; " off the front of *rest. */
static struct span split_note(struct span *rest)
{
	struct span note = *rest;

	for (size_t i = 0; i + 1 < rest->n; i++)
		if (rest->p[i] == ';' && rest->p[i + 1] == ' ') {
			note = span_first(*rest, i);
			*rest = span_from(*rest, i + 2);
			return note;
		}
	*rest = span_of(NULL, 0);
	return note;
}

/* Shows the steps that were not there before; what stands last is how it looks now, no step. */
static void show_steps(const struct settings *s, struct span message, unsigned *shown)
{
	for (unsigned i = 0; message.n; i++) {
		struct span note = split_note(&message);

		if (message.n == 0 || i < *shown)
			continue;
		*shown = i + 1;
		if (s->json)
			continue;
		print_text(stdout, note);
		putchar('\n');
		fflush(stdout);
	}
}

static int ask(struct client *c, bool start, struct pb_arena *arena,
    struct rpc_runtime_ensure_response *response)
{
	const struct rpc_runtime_ensure_request request = {.start_if_needed = start};

	return command_call(c, RPC_ENSURE_RUNTIME_REQUEST, &request,
	    &rpc_runtime_ensure_response_table, arena, response);
}

static int ensure(struct client *c, const struct settings *s, char **args, struct pb_arena *arena)
{
	uint64_t end_ns = clock_mono_ns() + c->timeout_ms * NS_PER_MS;
	struct rpc_runtime_ensure_response response;
	unsigned shown = 0;
	int rc = ask(c, s->start, arena, &response);

	(void)args;
	while (rc == 0 && span_eq_str(response.status, "starting") && clock_mono_ns() < end_ns) {
		show_steps(s, response.message, &shown);
		poll(NULL, 0, POLL_MS);
		rc = ask(c, false, arena, &response);
	}
	if (rc == 0)
		rc = command_print(s, &rpc_runtime_ensure_response_table, &response);
	return rc || response.ready ? rc : EXIT_REFUSED;
}

int run_ensure(struct client *c, const struct settings *s, char **args)
{
	return command_with_arena(ensure, c, s, args);
}

/* --- logs ------------------------------------------------------------------------------------- */

static const char *const services[] = {"containerd", "dockerd", "k3s"};
enum { SERVICES = sizeof services / sizeof *services };

int check_logs(char **args)
{
	for (size_t i = 0; args[0] && i < SERVICES; i++)
		if (strcmp(args[0], services[i]) == 0)
			return 0;
	return args[0]
	    ? fail(EXIT_USAGE, "logs: \"%s\" is no service; it is containerd, dockerd or k3s",
		  args[0])
	    : 0;
}

/* The agent joins the last lines of a daemon that died by bars, behind what became of it. */
static void print_last_lines(struct span detail)
{
	static const struct span mark = SPAN_LIT("last log lines: ");

	while (detail.n && !span_starts(detail, mark))
		detail = span_from(detail, 1);
	detail = span_from(detail, mark.n);
	while (detail.n) {
		fputs("  ", stdout);
		print_text(stdout, span_split(&detail, '|'));
		putchar('\n');
	}
}

static int print_service(const struct settings *s, const struct rpc_service_status *service)
{
	if (s->json)
		return print_json(stdout, &rpc_service_status_table, service);
	print_text(stdout, service->name);
	fputs(": ", stdout);
	print_text(stdout, service->status);
	putchar('\n');
	print_last_lines(service->detail);
	return EXIT_OK;
}

/* Those of a list that have the name; NULL: all. */
static int print_services(const struct settings *s, const struct pb_list *list, const char *name)
{
	const struct rpc_service_status *service = list->items;
	int rc = 0;

	for (size_t i = 0; rc == 0 && i < list->n; i++)
		if (!name || span_eq_str(service[i].name, name))
			rc = print_service(s, &service[i]);
	return rc;
}

static int logs_of_runtime(
    struct client *c, const struct settings *s, char **args, struct pb_arena *arena)
{
	struct rpc_runtime_status_response response;
	int rc = command_call(c, RPC_RUNTIME_STATUS_REQUEST, NULL,
	    &rpc_runtime_status_response_table, arena, &response);

	return rc ? rc : print_services(s, &response.services, args[0]);
}

static int logs_of_kubernetes(
    struct client *c, const struct settings *s, char **args, struct pb_arena *arena)
{
	struct rpc_kubernetes_status_response response;
	int rc = command_call(c, RPC_KUBERNETES_STATUS_REQUEST, NULL,
	    &rpc_kubernetes_status_response_table, arena, &response);

	(void)args;
	return rc ? rc : print_services(s, &response.services, "k3s");
}

int run_logs(struct client *c, const struct settings *s, char **args)
{
	bool kubernetes = !args[0] || strcmp(args[0], "k3s") == 0;
	bool runtime = !args[0] || !kubernetes;
	int rc = runtime ? command_with_arena(logs_of_runtime, c, s, args) : 0;

	return rc || !kubernetes ? rc : command_with_arena(logs_of_kubernetes, c, s, args);
}
