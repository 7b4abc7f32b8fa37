#include "codec/messages.h"
#include "commands.h"
#include "kubeconfig.h"
#include "print.h"
#include "sys/fs.h"

#include <limits.h>
#include <stdlib.h>

/* --- start, stop, delete, status -------------------------------------------------------------- */

static int start(struct client *c, const struct settings *s, char **args, struct pb_arena *arena)
{
	struct rpc_kubernetes_start_response response;
	int rc = command_call(c, RPC_KUBERNETES_START_REQUEST, NULL,
	    &rpc_kubernetes_start_response_table, arena, &response);

	(void)args;
	if (rc == 0)
		rc = command_print(s, &rpc_kubernetes_start_response_table, &response);
	return rc || (response.running && response.api_ready) ? rc : EXIT_REFUSED;
}

static int stop(struct client *c, const struct settings *s, char **args, struct pb_arena *arena)
{
	struct rpc_kubernetes_stop_response response;
	int rc = command_call(c, RPC_KUBERNETES_STOP_REQUEST, NULL,
	    &rpc_kubernetes_stop_response_table, arena, &response);

	(void)args;
	if (rc == 0)
		rc = command_print(s, &rpc_kubernetes_stop_response_table, &response);
	return rc || response.stopped ? rc : EXIT_REFUSED;
}

static int delete (struct client *c, const struct settings *s, char **args, struct pb_arena *arena)
{
	struct rpc_kubernetes_delete_response response;
	int rc = command_call(c, RPC_KUBERNETES_DELETE_REQUEST, NULL,
	    &rpc_kubernetes_delete_response_table, arena, &response);

	(void)args;
	return rc ? rc : command_print(s, &rpc_kubernetes_delete_response_table, &response);
}

static int status(struct client *c, const struct settings *s, char **args, struct pb_arena *arena)
{
	struct rpc_kubernetes_status_response response;
	int rc = command_call(c, RPC_KUBERNETES_STATUS_REQUEST, NULL,
	    &rpc_kubernetes_status_response_table, arena, &response);

	(void)args;
	return rc ? rc : command_print(s, &rpc_kubernetes_status_response_table, &response);
}

/* --- kubeconfig ------------------------------------------------------------------------------- */

/* As one word of a shell. */
static void print_word(const char *word)
{
	putchar('\'');
	for (; *word; word++)
		if (*word == '\'')
			fputs("'\\''", stdout);
		else
			putchar(*word);
	putchar('\'');
}

/* It holds keys: nobody else may read it. kubectl merges the files of $KUBECONFIG when it reads
 * them, so that nobody's own has to be written to. */
static int save(const struct client *c, const char *path, struct span config)
{
	char whole[PATH_MAX];
	int rc = fs_replace_file(path, config, 0600);

	if (rc < 0)
		return fail(EXIT_LOCAL, "%s: cannot write %s: %s", c->doing, path, err_text(rc));
	fputs("export KUBECONFIG=\"${KUBECONFIG:-$HOME/.kube/config}\":", stdout);
	print_word(realpath(path, whole) ? whole : path);
	putchar('\n');
	return EXIT_OK;
}

static int put_config(const struct client *c, const struct settings *s,
    const struct rpc_kubernetes_kubeconfig_response *r)
{
	/* No value grows by more than the two that are put in. */
	size_t cap = r->kubeconfig.n * (r->endpoint.n + r->context_name.n + 2);
	struct wr w = wr_of(malloc(cap), cap);
	enum err err =
	    w.p ? kubeconfig_adapt(r->kubeconfig, r->endpoint, r->context_name, &w) : E_SPACE;
	int rc = EXIT_OK;

	if (err == E_SPACE)
		rc = fail(EXIT_LOCAL, "%s: no memory", c->doing);
	else if (err)
		rc = fail(EXIT_BROKEN,
		    "%s: the kubeconfig of %s holds what k3s does not write; look at it with "
		    "--json",
		    c->doing, c->host->text);
	else if (s->output)
		rc = save(c, s->output, wr_span(&w));
	else
		fwrite(w.p, 1, w.n, stdout);
	free(w.p);
	return rc;
}

static int kubeconfig(
    struct client *c, const struct settings *s, char **args, struct pb_arena *arena)
{
	struct rpc_kubernetes_kubeconfig_response response;
	int rc = command_call(c, RPC_KUBERNETES_KUBECONFIG_REQUEST, NULL,
	    &rpc_kubernetes_kubeconfig_response_table, arena, &response);

	(void)args;
	if (rc)
		return rc;
	if (s->json)
		return print_json(stdout, &rpc_kubernetes_kubeconfig_response_table, &response);
	return put_config(c, s, &response);
}

/* --- the actions ------------------------------------------------------------------------------ */

static const struct {
	const char *name;
	answer_fn *fn;
} actions[] = {
    {"start", start},
    {"stop", stop},
    {"delete", delete},
    {"status", status},
    {"kubeconfig", kubeconfig},
};

static answer_fn *action_of(const char *name)
{
	for (size_t i = 0; i < sizeof actions / sizeof *actions; i++)
		if (strcmp(name, actions[i].name) == 0)
			return actions[i].fn;
	return NULL;
}

int check_k8s(char **args)
{
	return action_of(args[0])
	    ? 0
	    : fail(EXIT_USAGE,
		  "k8s: \"%s\" is no action; it is start, stop, delete, status or kubeconfig",
		  args[0]);
}

int run_k8s(struct client *c, const struct settings *s, char **args)
{
	return command_with_arena(action_of(args[0]), c, s, args);
}
