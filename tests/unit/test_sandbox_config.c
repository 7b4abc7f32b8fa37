#include "sandbox/config.h"

#include "base/log.h"
#include "cases.h"
#include "fault.h"
#include "suite.h"
#include "sys/fs.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

static struct sandbox_config config;
static int log_fd = -1;

/* Log lines go to a file in memory from now on. */
static void catch_log(void)
{
	log_fd = fs_memfd("log");
	ck_assert_int_ge(log_fd, 0);
	log_sinks(&log_fd, 1);
}

/* All that was logged since the last call, without the times; a static text. */
static const char *logged(void)
{
	static char text[8192];
	char raw[4096];
	char *out = text;
	ssize_t n = pread(log_fd, raw, sizeof raw - 1, 0);

	ck_assert_int_ge(n, 0);
	raw[n] = '\0';
	*out = '\0';
	for (char *line = strtok(raw, "\n"); line; line = strtok(NULL, "\n"))
		out += sprintf(out, "%s\n", strchr(line, ' ') + 1);
	ck_assert_int_eq(ftruncate(log_fd, 0), 0);
	lseek(log_fd, 0, SEEK_SET);
	return text;
}

static enum err parse(const char *text)
{
	struct guard g = guard_copy(span_str(text));
	enum err err = sandbox_config_parse(&config, g.s, "vmm.toml");

	guard_free(&g);
	return err;
}

static void assert_ip(const struct ip *ip, const char *text)
{
	char buf[IP_TEXT_BYTES];

	ip_format(ip, buf);
	ck_assert_str_eq(buf, text);
}

static void assert_defaults(void)
{
	const struct sandbox_config *c = &config;

	ck_assert_str_eq(c->binary, "/arcbox/bin/firecracker");
	ck_assert_str_eq(c->data_dir, "/var/lib/arcbox");
	ck_assert_ptr_null(c->log_level);
	ck_assert(!c->no_seccomp);
	ck_assert_ptr_null(c->seccomp_filter);
	ck_assert_uint_eq(c->http_api_max_payload_bytes, 0);
	ck_assert_uint_eq(c->mmds_size_limit_bytes, 0);
	ck_assert_uint_eq(c->socket_timeout_secs, 5);
	ck_assert_ptr_null(c->jailer.binary);
	ck_assert_str_eq(c->jailer.chroot_base_dir, "/srv/jailer");
	ck_assert_uint_eq(c->jailer.resource_limits.n, 0);
	ck_assert_uint_eq(c->cidr.prefix, 16);
	assert_ip(&c->cidr.network, "172.20.0.0");
	assert_ip(&c->gateway, "172.20.0.1");
	ck_assert_uint_eq(c->dns.n, 2);
	ck_assert_str_eq(c->dns.values[0], "1.1.1.1");
	ck_assert_str_eq(c->dns.values[1], "8.8.8.8");
	ck_assert_uint_eq(c->vcpus, 1);
	ck_assert_uint_eq(c->memory_mib, 512);
	ck_assert_str_eq(c->kernel, "/arcbox/bin/vmlinux");
	ck_assert_str_eq(c->rootfs, "/arcbox/bin/sandbox.ext4");
	ck_assert_str_eq(
	    c->boot_args, "console=ttyS0 reboot=k panic=1 pci=off init=/sbin/vm-agent");
}

START_TEST(has_defaults)
{
	catch_log();
	sandbox_config_default(&config);
	assert_defaults();
	ck_assert_int_eq(parse(""), E_OK);
	assert_defaults();
	ck_assert_int_eq(parse("[firecracker]\n[network]\n[grpc]\n[defaults]\n"), E_OK);
	assert_defaults();
	ck_assert_str_eq(logged(), "");
}
END_TEST

static const char full[] = "[firecracker]\n"
			   "binary = '/opt/fc'\n"
			   "data_dir = \"/data/\\u00fc\"\n"
			   "log_level = 'debug'\n"
			   "no_seccomp = true\n"
			   "seccomp_filter = '/opt/filter'\n"
			   "http_api_max_payload_size = 51_200\n"
			   "mmds_size_limit = 0x1000\n"
			   "socket_timeout_secs = 9\n"
			   "[firecracker.jailer]\n"
			   "binary = '/opt/jailer'\n"
			   "uid = 123\n"
			   "gid = 100\n"
			   "chroot_base_dir = '/jail'\n"
			   "netns = '/run/netns/x'\n"
			   "new_pid_ns = true\n"
			   "cgroup_version = 2\n"
			   "parent_cgroup = 'fc/boxes'\n"
			   "resource_limits = ['fsize=2048', 'no-file=1024']\n"
			   "[network]\n"
			   "cidr = '10.9.0.0/24'\n"
			   "gateway = '10.9.0.254'\n"
			   "dns = ['9.9.9.9', 'fd00::1', '1.0.0.1']\n"
			   "[grpc]\n"
			   "unix_socket = '/run/x'\n"
			   "tcp = {addr = '', ports = [1, 2]}\n"
			   "[defaults]\n"
			   "vcpus = 4\n"
			   "memory_mib = 2048\n"
			   "kernel = '/k'\n"
			   "rootfs = '/r'\n"
			   "boot_args = ''\n";

static void assert_full(void)
{
	const struct sandbox_config *c = &config;

	ck_assert_str_eq(c->binary, "/opt/fc");
	ck_assert_str_eq(c->data_dir, "/data/\xc3\xbc");
	ck_assert_str_eq(c->log_level, "debug");
	ck_assert(c->no_seccomp);
	ck_assert_str_eq(c->seccomp_filter, "/opt/filter");
	ck_assert_uint_eq(c->http_api_max_payload_bytes, 51200);
	ck_assert_uint_eq(c->mmds_size_limit_bytes, 4096);
	ck_assert_uint_eq(c->socket_timeout_secs, 9);
	ck_assert_str_eq(c->jailer.binary, "/opt/jailer");
	ck_assert_uint_eq(c->jailer.uid, 123);
	ck_assert_uint_eq(c->jailer.gid, 100);
	ck_assert_str_eq(c->jailer.chroot_base_dir, "/jail");
	ck_assert_str_eq(c->jailer.netns, "/run/netns/x");
	ck_assert(c->jailer.new_pid_ns);
	ck_assert_uint_eq(c->jailer.cgroup_version, 2);
	ck_assert_str_eq(c->jailer.parent_cgroup, "fc/boxes");
	ck_assert_uint_eq(c->jailer.resource_limits.n, 2);
	ck_assert_str_eq(c->jailer.resource_limits.values[1], "no-file=1024");
	ck_assert_uint_eq(c->cidr.prefix, 24);
	assert_ip(&c->cidr.network, "10.9.0.0");
	assert_ip(&c->gateway, "10.9.0.254");
	ck_assert_uint_eq(c->dns.n, 3);
	ck_assert_str_eq(c->dns.values[1], "fd00::1");
	ck_assert_uint_eq(c->vcpus, 4);
	ck_assert_uint_eq(c->memory_mib, 2048);
	ck_assert_str_eq(c->kernel, "/k");
	ck_assert_str_eq(c->rootfs, "/r");
	ck_assert_str_eq(c->boot_args, "");
}

START_TEST(reads_every_key)
{
	catch_log();
	ck_assert_int_eq(parse(full), E_OK);
	assert_full();
	ck_assert_str_eq(logged(), "");
}
END_TEST

/* What is read, or the defaults whole: nothing between. */
static void read_cut(struct span cut, void *ctx)
{
	(void)ctx;
	if (sandbox_config_parse(&config, cut, "vmm.toml") != E_OK)
		assert_defaults();
}

START_TEST(a_cut_file_is_the_defaults)
{
	struct span bad;

	ck_assert_int_eq(log_filter(span_str("off"), &bad), E_OK);
	each_cut(span_str(full), read_cut, NULL);
	each_mutation(span_str(full), read_cut, NULL);
}
END_TEST

START_TEST(takes_sections_in_any_form)
{
	catch_log();
	ck_assert_int_eq(parse("defaults.vcpus = 2\nnetwork = {cidr = '10.0.0.0/8', dns = []}\n"
			       "firecracker = {jailer = {binary = '/j', uid = 1, gid = 2}}"),
	    E_OK);
	ck_assert_uint_eq(config.vcpus, 2);
	ck_assert_uint_eq(config.cidr.prefix, 8);
	assert_ip(&config.gateway, "10.0.0.1"); /* follows the subnet */
	ck_assert_uint_eq(config.dns.n, 0);
	ck_assert_str_eq(config.jailer.binary, "/j");
	ck_assert_str_eq(logged(), "");
}
END_TEST

START_TEST(warns_of_unknown_keys)
{
	catch_log();
	ck_assert_int_eq(
	    parse("color = 1\n[defaults]\nvcpu = {a = [{b = 1}]}\nvcpus = 2\n[x.y]\nz = "
		  "[1, {q = 2}]\n\"a\\nb\" = 1\n[[network]]\ndns = []\n"),
	    E_OK);
	ck_assert_uint_eq(config.vcpus, 2);
	ck_assert_uint_eq(config.dns.n, 2);
	ck_assert_str_eq(logged(),
	    "WARN sandbox: unknown key in the configuration file=vmm.toml line=1 key=color\n"
	    "WARN sandbox: unknown key in the configuration file=vmm.toml line=3 "
	    "key=defaults.vcpu.a\n"
	    "WARN sandbox: unknown key in the configuration file=vmm.toml line=6 key=x.y.z\n"
	    "WARN sandbox: unknown key in the configuration file=vmm.toml line=7 "
	    "key=\"x.y.\\\"a\\nb\\\"\"\n"
	    "WARN sandbox: unknown key in the configuration file=vmm.toml line=9 "
	    "key=network[].dns\n");
}
END_TEST

static const struct {
	const char *text;
	enum err err;
	const char *says; /* line, key and problem */
} refused[] = {
    {"\n[defaults]\nvcpus = 'two'", E_MALFORMED,
	"line=3 key=defaults.vcpus problem=\"it must be an integer\""},
    {"defaults.vcpus = 0", E_RANGE,
	"line=1 key=defaults.vcpus problem=\"the number is too small or too large\""},
    {"defaults.vcpus = 33", E_RANGE,
	"line=1 key=defaults.vcpus problem=\"the number is too small or too large\""},
    {"defaults.vcpus = 1.0", E_MALFORMED,
	"line=1 key=defaults.vcpus problem=\"it must be an integer\""},
    {"defaults.kernel = 1", E_MALFORMED,
	"line=1 key=defaults.kernel problem=\"it must be a text in quotes\""},
    {"defaults.kernel = {a = 1}", E_MALFORMED,
	"line=1 key=defaults.kernel problem=\"it must be a text in quotes\""},
    {"defaults.kernel = 'vmlinux'", E_MALFORMED,
	"line=1 key=defaults.kernel problem=\"a path must begin with /\""},
    {"defaults.kernel = ''", E_MALFORMED,
	"line=1 key=defaults.kernel problem=\"a path must begin with /\""},
    {"defaults.boot_args = \"a\\u0000\"", E_MALFORMED,
	"line=1 key=defaults.boot_args problem=\"a NUL cannot be in a text\""},
    {"firecracker.no_seccomp = 1", E_MALFORMED,
	"line=1 key=firecracker.no_seccomp problem=\"it must be true or false\""},
    {"firecracker.log_level = 'loud'", E_MALFORMED,
	"line=1 key=firecracker.log_level problem=\"it must be Off, Error, Warning, Info, Debug or "
	"Trace\""},
    {"network.cidr = '10.0.0.0'", E_MALFORMED,
	"line=1 key=network.cidr problem=\"it must be an IPv4 ADDRESS/PREFIX with a prefix from 1 "
	"to 30\""},
    {"network.cidr = '10.0.0.0/31'", E_MALFORMED,
	"line=1 key=network.cidr problem=\"it must be an IPv4 ADDRESS/PREFIX with a prefix from 1 "
	"to 30\""},
    {"network.gateway = 'fd00::1'", E_MALFORMED,
	"line=1 key=network.gateway problem=\"it must be an IPv4 address\""},
    {"network.gateway = 'gw'", E_MALFORMED,
	"line=1 key=network.gateway problem=\"it must be an IPv4 address\""},
    {"[network]\ngateway = '172.21.0.1'", E_RANGE,
	"line=2 key=network.gateway problem=\"it is no address of the subnet\""},
    {"[network]\ncidr='10.0.0.0/24'\ngateway = '10.0.0.255'", E_RANGE,
	"line=3 key=network.gateway problem=\"it is no address of the subnet\""},
    {"[network]\ndns = '1.1.1.1'", E_MALFORMED,
	"line=2 key=network.dns problem=\"it must be a list of texts\""},
    {"[network]\ndns = ['1.1.1.1',\n53]", E_MALFORMED,
	"line=3 key=network.dns problem=\"it must be a text in quotes\""},
    {"[network]\ndns = ['one']", E_MALFORMED,
	"line=2 key=network.dns problem=\"it must be an IP address\""},
    {"network.dns = ['1.1.1.1','1.1.1.1','1.1.1.1','1.1.1.1','1.1.1.1','1.1.1.1','1.1.1.1',"
     "'1.1.1.1','1.1.1.1']",
	E_LIMIT, "line=1 key=network.dns problem=\"the list has more than 8 entries\""},
    {"[network]\ncidr = '10.0.0.0/8", E_MORE,
	"line=2 key=network.cidr problem=\"the file ends too early\""},
    {"\n[firecracker.jailer]\nbinary = '/j'\nuid = 1", E_MALFORMED,
	"line=2 key=firecracker.jailer.gid problem=\"a jailer needs this key\""},
    {"firecracker.jailer.netns = '/n'", E_MALFORMED,
	"line=1 key=firecracker.jailer.binary problem=\"a jailer needs this key\""},
    {"firecracker.jailer.resource_limits = ['many']", E_MALFORMED,
	"line=1 key=firecracker.jailer.resource_limits problem=\"it must be RESOURCE=VALUE\""},
    {"[defaults]\nvcpus = 1\n\n[defaults]", E_MALFORMED,
	"line=4 key=defaults problem=\"the name is defined already\""},
    {"[defaults]\nvcpus = 1\nvcpus = 2", E_MALFORMED,
	"line=3 key=defaults.vcpus problem=\"the name is defined already\""},
    {"[defaults]\nvcpus = two", E_MALFORMED,
	"line=2 key=defaults.vcpus problem=\"a value is of no known form; strings must be in "
	"quotes\""},
    {"[defaults]\nvcpus", E_MORE, "line=2 key=defaults.vcpus problem=\"the file ends too early\""},
    {"# caf\xe9", E_UTF8, "line=1 key=\"\" problem=\"this is not UTF-8\""},
};

START_TEST(refuses_what_cannot_be_meant)
{
	char want[512];

	catch_log();
	for (size_t i = 0; i < sizeof refused / sizeof *refused; i++) {
		enum err err = parse(refused[i].text);

		ck_assert_msg(err == refused[i].err, "%s: %d", refused[i].text, err);
		snprintf(want, sizeof want,
		    "ERROR sandbox: bad configuration, going on with the defaults file=vmm.toml "
		    "%s\n",
		    refused[i].says);
		ck_assert_str_eq(logged(), want);
		assert_defaults();
	}
}
END_TEST

START_TEST(bounds_its_texts)
{
	static char file[CONFIG_TEXT_BYTES + 100];
	static const char key[] = "defaults.boot_args = '";

	for (size_t n = CONFIG_TEXT_BYTES - 1; n <= CONFIG_TEXT_BYTES; n++) {
		struct wr w = wr_of(file, sizeof file);
		enum err want = n < CONFIG_TEXT_BYTES ? E_OK : E_SPACE;

		wr_str(&w, key);
		memset(file + w.n, 'a', n);
		w.n += n;
		wr_str(&w, "'");
		ck_assert_int_eq(sandbox_config_parse(&config, wr_span(&w), "x"), want);
		if (want == E_OK)
			ck_assert_uint_eq(strlen(config.boot_args), n);
		else
			assert_defaults();
	}
}
END_TEST

/* --- files ------------------------------------------------------------------------------------ */

static char path[] = "/tmp/test_config.XXXXXX";

static void write_file(size_t n)
{
	int fd = mkstemp(path);

	ck_assert_int_ge(fd, 0);
	ck_assert_int_eq(write(fd, full, sizeof full - 1), (ssize_t)(sizeof full - 1));
	for (size_t at = sizeof full - 1; at < n; at++)
		ck_assert_int_eq(write(fd, "\n", 1), 1);
	close(fd);
}

START_TEST(loads_a_file)
{
	catch_log();
	write_file(CONFIG_FILE_BYTES);
	ck_assert_int_eq(sandbox_config_load(&config, path), 0);
	assert_full();
	ck_assert_str_eq(logged(), "");
	unlink(path);
}
END_TEST

START_TEST(a_missing_file_is_nothing_to_tell_of)
{
	catch_log();
	ck_assert_int_eq(sandbox_config_load(&config, "/nowhere/vmm.toml"), -ENOENT);
	assert_defaults();
	ck_assert_str_eq(logged(), "");
}
END_TEST

START_TEST(tells_of_files_it_cannot_read)
{
	catch_log();
	ck_assert_int_eq(sandbox_config_load(&config, "/tmp"), -EISDIR);
	ck_assert_str_eq(logged(),
	    "ERROR sandbox: cannot read the configuration, going on with the "
	    "defaults file=/tmp error=\"Is a directory\"\n");
	ck_assert_int_eq(sandbox_config_load(&config, "/proc/self/environ"), -EINVAL);
	ck_assert_ptr_nonnull(strstr(logged(), "ERROR sandbox: bad configuration"));
	assert_defaults();
	write_file(CONFIG_FILE_BYTES + 1);
	ck_assert_int_eq(sandbox_config_load(&config, path), -EFBIG);
	ck_assert_ptr_nonnull(strstr(logged(), path));
	unlink(path);
}
END_TEST

START_TEST(a_failed_load_is_the_defaults)
{
	static const char *const calls[] = {"malloc", "open", "read"};
	unsigned fds;

	catch_log();
	fds = fault_fds();
	write_file(0);
	for (size_t i = 0; i < sizeof calls / sizeof *calls; i++)
		FAULT_EACH(calls[i], EIO)
		{
			if (sandbox_config_load(&config, path) < 0)
				assert_defaults();
			else
				assert_full();
			ck_assert_uint_eq(fault_fds(), fds);
		}
	unlink(path);
}
END_TEST

Suite *suite(void)
{
	const TTest *const tests[] = {has_defaults, reads_every_key, a_cut_file_is_the_defaults,
	    takes_sections_in_any_form, warns_of_unknown_keys, refuses_what_cannot_be_meant,
	    bounds_its_texts, loads_a_file, a_missing_file_is_nothing_to_tell_of,
	    tells_of_files_it_cannot_read, a_failed_load_is_the_defaults, NULL};

	return suite_of("config", tests);
}
