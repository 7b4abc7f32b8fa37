#include "sandbox/vmm_args.h"

#include "suite.h"

#include <stdio.h>

static struct sandbox_config config;
static struct vm_home home;
static struct vmm_args args;

/* The command line, words separated by blanks. */
static const char *line(const char *id)
{
	static char text[VMM_ARGS_TEXT_BYTES];
	size_t n = 0;

	ck_assert_int_eq(vm_home_init(&home, &config, id), 0);
	ck_assert_int_eq(vmm_args_init(&args, &home, id), 0);
	text[0] = '\0';
	for (const char *const *arg = args.argv; *arg; arg++)
		n += (size_t)snprintf(text + n, sizeof text - n, "%s%s", n ? " " : "", *arg);
	return text;
}

START_TEST(firecracker_gets_its_files)
{
	config = (struct sandbox_config){.binary = "/bin/firecracker", .data_dir = "/data"};
	ck_assert_str_eq(line("one"),
	    "/bin/firecracker --api-sock /data/sandboxes/one/firecracker.sock --id one "
	    "--log-path /data/sandboxes/one/firecracker.log "
	    "--metrics-path /data/sandboxes/one/firecracker.metrics");
}
END_TEST

START_TEST(firecracker_gets_its_options)
{
	config = (struct sandbox_config){
	    .binary = "/fc",
	    .data_dir = "/d",
	    .log_level = "Debug",
	    .no_seccomp = true,
	    .seccomp_filter = "/filter",
	    .http_api_max_payload_bytes = 1000,
	    .mmds_size_limit_bytes = 2000,
	};
	ck_assert_str_eq(line("a"),
	    "/fc --api-sock /d/sandboxes/a/firecracker.sock --id a "
	    "--log-path /d/sandboxes/a/firecracker.log "
	    "--metrics-path /d/sandboxes/a/firecracker.metrics --level Debug --no-seccomp "
	    "--seccomp-filter /filter --http-api-max-payload-size 1000 --mmds-size-limit 2000");
}
END_TEST

START_TEST(the_jailer_gets_both)
{
	config = (struct sandbox_config){
	    .binary = "/bin/firecracker",
	    .data_dir = "/d",
	    .jailer =
		{
		    .binary = "/bin/jailer",
		    .uid = 123,
		    .gid = 0,
		    .chroot_base_dir = "/srv/jailer",
		    .netns = "/run/netns/x",
		    .new_pid_ns = true,
		    .cgroup_version = 2,
		    .parent_cgroup = "sandboxes",
		    .resource_limits = {.values = {"no-file=9", "fsize=8"}, .n = 2},
		},
	};
	ck_assert_str_eq(line("one"),
	    "/bin/jailer --id one --exec-file /bin/firecracker --uid 123 --gid 0 "
	    "--chroot-base-dir /srv/jailer --netns /run/netns/x --new-pid-ns --cgroup-version 2 "
	    "--parent-cgroup sandboxes --resource-limit no-file=9 --resource-limit fsize=8 -- "
	    "--api-sock /run/firecracker.sock --log-path /run/firecracker.log "
	    "--metrics-path /run/firecracker.metrics");
}
END_TEST

START_TEST(an_id_is_one_that_firecracker_takes)
{
	config = (struct sandbox_config){.binary = "/fc", .data_dir = "/d"};
	line("a_b.c D-9");
	ck_assert_str_eq(args.argv[4], "a-b-c-D-9");
}
END_TEST

/* The longest that a configuration can have. */
START_TEST(everything_fits)
{
	static char data_dir[SANDBOX_ID_MAX];
	size_t n = 0;

	config = (struct sandbox_config){
	    .binary = "/bin/firecracker",
	    .data_dir = data_dir,
	    .log_level = "Debug",
	    .no_seccomp = true,
	    .seccomp_filter = "/filter",
	    .http_api_max_payload_bytes = UINT64_MAX,
	    .mmds_size_limit_bytes = UINT64_MAX,
	    .jailer =
		{
		    .binary = "/bin/jailer",
		    .uid = UINT64_MAX,
		    .gid = UINT64_MAX,
		    .chroot_base_dir = "/srv/jailer",
		    .netns = "/run/netns/x",
		    .new_pid_ns = true,
		    .cgroup_version = UINT64_MAX,
		    .parent_cgroup = "sandboxes",
		    .resource_limits = {.n = CONFIG_LIST_MAX},
		},
	};
	for (size_t i = 0; i < CONFIG_LIST_MAX; i++)
		config.jailer.resource_limits.values[i] = "no-file=1";
	line("one");
	while (args.argv[n])
		n++;
	ck_assert_uint_eq(n, args.n);
	ck_assert_uint_le(n, VMM_ARGS_MAX);
}
END_TEST

Suite *suite(void)
{
	const TTest *const tests[] = {
	    firecracker_gets_its_files,
	    firecracker_gets_its_options,
	    the_jailer_gets_both,
	    an_id_is_one_that_firecracker_takes,
	    everything_fits,
	    NULL,
	};

	return suite_of("vmm_args", tests);
}
