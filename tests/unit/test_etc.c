#include "init/etc.h"

#include "base/log.h"
#include "cell.h"

#include <errno.h>
#include <string.h>

static const char *const nameservers[] = {"127.0.0.1", "10.0.0.1"};
static const char *const docker_dns[] = {"10.0.2.1", "10.0.2.2"};
static const struct etc_conf conf = {nameservers, 2, "arcbox.local", docker_dns, 2};

static void check_file(const char *path, const char *text)
{
	struct stat st;

	ck_assert_str_eq(cell_read(path), text);
	ck_assert_int_eq(stat(path, &st), 0);
	ck_assert_uint_eq(st.st_mode & 07777, 0644);
}

START_TEST(writes_what_programs_need)
{
	if (!cell_enter())
		return;
	etc_write(&conf);
	check_file(
	    "/etc/resolv.conf", "nameserver 127.0.0.1\nnameserver 10.0.0.1\nsearch arcbox.local\n");
	check_file("/etc/passwd",
	    "root:x:0:0:root:/root:/bin/sh\n"
	    "nobody:x:65534:65534:nobody:/nonexistent:/sbin/nologin\n");
	check_file("/etc/group", "root:x:0:\ntty:x:5:\nnobody:x:65534:\n");
	check_file("/etc/docker/daemon.json",
	    "{\n  \"dns\": [\"10.0.2.1\", \"10.0.2.2\"],\n"
	    "  \"default-ulimits\": {\"nofile\": {\"Name\": \"nofile\", \"Soft\": 1048576, "
	    "\"Hard\": 1048576}},\n"
	    "  \"features\": {\"containerd-snapshotter\": true}\n}\n");
	ck_assert_int_eq(access("/etc/ssl", F_OK), -1);
}
END_TEST

START_TEST(changes_nothing_that_is_right)
{
	static const char *const paths[] = {"/etc/resolv.conf", "/etc/passwd", "/etc/group",
	    "/etc/docker/daemon.json", "/etc/hosts"};
	struct stat before[5], after;

	if (!cell_enter())
		return;
	etc_write(&conf);
	ck_assert_int_eq(etc_set_hostname("arcbox"), 0);
	for (int i = 0; i < 5; i++)
		ck_assert_int_eq(stat(paths[i], &before[i]), 0);
	etc_write(&conf);
	ck_assert_int_eq(etc_set_hostname("arcbox"), 0);
	for (int i = 0; i < 5; i++) {
		ck_assert_int_eq(stat(paths[i], &after), 0);
		ck_assert_uint_eq(after.st_ino, before[i].st_ino);
	}
}
END_TEST

START_TEST(keeps_the_files_of_a_root)
{
	if (!cell_enter())
		return;
	ck_assert_int_eq(mkdir("/etc", 0755), 0);
	cell_write("/etc/passwd", "mine\n");
	cell_write("/etc/hosts", "10.9.8.7 mine\n");
	cell_write("/etc/resolv.conf", "nameserver 8.8.8.8\n");
	etc_write(&conf);
	ck_assert_int_eq(etc_set_hostname("arcbox"), 0);
	ck_assert_str_eq(cell_read("/etc/passwd"), "mine\n");
	ck_assert_str_eq(cell_read("/etc/hosts"), "10.9.8.7 mine\n");
	ck_assert_ptr_nonnull(strstr(cell_read("/etc/resolv.conf"), "nameserver 127.0.0.1\n"));
}
END_TEST

START_TEST(links_the_certificates)
{
	char target[64] = "";

	if (!cell_enter())
		return;
	ck_assert_int_eq(mkdir("/cacerts", 0755), 0);
	cell_write("/cacerts/ca-certificates.crt", "pem\n");
	etc_write(&conf);
	etc_write(&conf);
	ck_assert_int_gt(
	    readlink("/etc/ssl/certs/ca-certificates.crt", target, sizeof target - 1), 0);
	ck_assert_str_eq(target, "/cacerts/ca-certificates.crt");
}
END_TEST

START_TEST(a_hostname_is_in_two_places)
{
	char now[65];

	if (!cell_enter())
		return;
	ck_assert_int_eq(mkdir("/etc", 0755), 0);
	ck_assert_int_eq(etc_set_hostname("one"), 0);
	check_file("/etc/hosts", "127.0.0.1 localhost\n::1 localhost\n127.0.1.1 one\n");
	ck_assert_int_eq(etc_set_hostname("two.example"), 0);
	check_file("/etc/hosts", "127.0.0.1 localhost\n::1 localhost\n127.0.1.1 two.example\n");
	ck_assert_int_eq(etc_set_hostname("no name\n"), -EINVAL);
	ck_assert_int_eq(etc_set_hostname(""), -EINVAL);
	ck_assert_int_eq(gethostname(now, sizeof now), 0);
	ck_assert_str_eq(now, "two.example");
}
END_TEST

START_TEST(a_root_that_takes_nothing_costs_files_only)
{
	struct span bad;

	if (!cell_enter())
		return;
	ck_assert_int_eq(log_filter(span_str("off"), &bad), E_OK);
	ck_assert_int_eq(mkdir("/cacerts", 0755), 0);
	cell_write("/cacerts/ca-certificates.crt", "pem\n");
	ck_assert_int_eq(mount(NULL, "/", NULL, MS_REMOUNT | MS_RDONLY, NULL), 0);
	etc_write(&conf);
	ck_assert_int_eq(etc_set_hostname("other"), 0);
	ck_assert_int_eq(access("/etc", F_OK), -1);
}
END_TEST

Suite *suite(void)
{
	const TTest *const tests[] = {
	    writes_what_programs_need,
	    changes_nothing_that_is_right,
	    keeps_the_files_of_a_root,
	    links_the_certificates,
	    a_hostname_is_in_two_places,
	    a_root_that_takes_nothing_costs_files_only,
	    NULL,
	};

	return suite_of("etc", tests);
}
