#include "sandbox/vmm_args.h"

#include <errno.h>

static void add(struct vmm_args *a, const char *arg)
{
	if (a->n < VMM_ARGS_MAX)
		a->argv[a->n++] = arg;
	else
		wr_fail(&a->w, E_SPACE);
}

static void add_pair(struct vmm_args *a, const char *option, const char *value)
{
	if (!value)
		return;
	add(a, option);
	add(a, value);
}

static void add_number(struct vmm_args *a, const char *option, uint64_t value)
{
	const char *text = (const char *)a->w.p + a->w.n;

	wr_dec(&a->w, value);
	wr_u8(&a->w, '\0');
	add_pair(a, option, text);
}

static void add_number_if(struct vmm_args *a, const char *option, uint64_t value)
{
	if (value)
		add_number(a, option, value);
}

static void add_path(
    struct vmm_args *a, const char *option, const struct vm_home *h, enum vm_file file)
{
	const char *text = (const char *)a->w.p + a->w.n;
	vm_path path;

	wr_str(&a->w, vm_inner_path(h, file, path));
	wr_u8(&a->w, '\0');
	add_pair(a, option, text);
}

/* The jailer gives its program the id by itself. */
static void add_firecracker(struct vmm_args *a, const struct vm_home *h, const char *id)
{
	const struct sandbox_config *c = h->config;

	add_path(a, "--api-sock", h, VM_API_SOCKET);
	add_pair(a, "--id", id);
	add_path(a, "--log-path", h, VM_LOG);
	add_path(a, "--metrics-path", h, VM_METRICS);
	add_pair(a, "--level", c->log_level);
	if (c->no_seccomp)
		add(a, "--no-seccomp");
	add_pair(a, "--seccomp-filter", c->seccomp_filter);
	add_number_if(a, "--http-api-max-payload-size", c->http_api_max_payload_bytes);
	add_number_if(a, "--mmds-size-limit", c->mmds_size_limit_bytes);
}

static void add_jailer(struct vmm_args *a, const struct vm_home *h)
{
	const struct sandbox_config *c = h->config;

	add(a, c->jailer.binary);
	add_pair(a, "--id", a->id);
	add_pair(a, "--exec-file", c->binary);
	add_number(a, "--uid", c->jailer.uid);
	add_number(a, "--gid", c->jailer.gid);
	add_pair(a, "--chroot-base-dir", c->jailer.chroot_base_dir);
	add_pair(a, "--netns", c->jailer.netns);
	if (c->jailer.new_pid_ns)
		add(a, "--new-pid-ns");
	add_number_if(a, "--cgroup-version", c->jailer.cgroup_version);
	add_pair(a, "--parent-cgroup", c->jailer.parent_cgroup);
	for (size_t i = 0; i < c->jailer.resource_limits.n; i++)
		add_pair(a, "--resource-limit", c->jailer.resource_limits.values[i]);
	add(a, "--");
}

int vmm_args_init(struct vmm_args *a, const struct vm_home *h, const char *id)
{
	bool jailed = h->config->jailer.binary != NULL;

	vm_id(id, a->id);
	a->n = 0;
	a->w = wr_of(a->text, sizeof a->text);
	if (jailed)
		add_jailer(a, h);
	else
		add(a, h->config->binary);
	add_firecracker(a, h, jailed ? NULL : a->id);
	a->argv[a->n] = NULL;
	return a->w.err == E_OK ? 0 : -E2BIG;
}
