#include "init/etc.h"

#include "base/cursor.h"
#include "base/hostname.h"
#include "base/log.h"
#include "sys/fs.h"

#include <errno.h>
#include <unistd.h>

enum { FILE_BYTES = 4096, CONTAINER_FILES = 1048576 /* descriptors of a container */ };

#define CERTIFICATES "/cacerts/ca-certificates.crt"

static void wrote(const char *path, int rc)
{
	if (rc < 0)
		log_warn("init", "cannot write", KV_STR("path", path), KV_ERR(rc));
	else if (rc > 0)
		log_debug("init", "wrote", KV_STR("path", path));
}

static void ensure(const char *path, const struct wr *content)
{
	wrote(
	    path, content->err == E_OK ? fs_ensure_file(path, wr_span(content), 0644) : -EMSGSIZE);
}

static void ensure_missing(const char *path, const struct wr *content)
{
	if (access(path, F_OK) < 0)
		ensure(path, content);
}

static void write_resolv_conf(const struct etc_conf *conf)
{
	char text[FILE_BYTES];
	struct wr w = wr_of(text, sizeof text);

	for (size_t i = 0; i < conf->n_nameservers; i++) {
		wr_str(&w, "nameserver ");
		wr_str(&w, conf->nameservers[i]);
		wr_str(&w, "\n");
	}
	wr_str(&w, "search ");
	wr_str(&w, conf->domain);
	wr_str(&w, "\n");
	ensure("/etc/resolv.conf", &w);
}

static void write_accounts(void)
{
	char text[FILE_BYTES];
	struct wr w = wr_of(text, sizeof text);

	wr_str(&w,
	    "root:x:0:0:root:/root:/bin/sh\n"
	    "nobody:x:65534:65534:nobody:/nonexistent:/sbin/nologin\n");
	ensure_missing("/etc/passwd", &w);
	w = wr_of(text, sizeof text);
	wr_str(&w, "root:x:0:\ntty:x:5:\nnobody:x:65534:\n");
	ensure_missing("/etc/group", &w);
}

/* The options check that these are addresses, which need no escapes in JSON. */
static void write_docker_config(const struct etc_conf *conf)
{
	char text[FILE_BYTES];
	struct wr w = wr_of(text, sizeof text);

	wr_str(&w, "{\n  \"dns\": [");
	for (size_t i = 0; i < conf->n_docker_dns; i++) {
		wr_str(&w, i ? ", \"" : "\"");
		wr_str(&w, conf->docker_dns[i]);
		wr_str(&w, "\"");
	}
	wr_str(&w, "],\n  \"default-ulimits\": {\"nofile\": {\"Name\": \"nofile\", \"Soft\": ");
	wr_dec(&w, CONTAINER_FILES);
	wr_str(&w, ", \"Hard\": ");
	wr_dec(&w, CONTAINER_FILES);
	wr_str(&w, "}},\n  \"features\": {\"containerd-snapshotter\": true}\n}\n");
	ensure_missing("/etc/docker/daemon.json", &w);
}

static void make_dir(const char *path)
{
	int rc = fs_make_dirs(path, 0755);

	if (rc < 0)
		log_warn("init", "cannot make a directory", KV_STR("path", path), KV_ERR(rc));
}

static void link_certificates(void)
{
	int rc;

	if (access(CERTIFICATES, F_OK) < 0)
		return;
	make_dir("/etc/ssl/certs");
	rc = fs_ensure_symlink(CERTIFICATES, "/etc/ssl/certs/ca-certificates.crt");
	if (rc != -EEXIST) /* the root's own are kept */
		wrote("/etc/ssl/certs/ca-certificates.crt", rc);
}

void etc_write(const struct etc_conf *conf)
{
	make_dir("/etc/docker");
	write_resolv_conf(conf);
	write_accounts();
	write_docker_config(conf);
	link_certificates();
}

/* --- hostname ------------------------------------------------------------------------------- */

static struct wr hosts_text(const char *hostname, char *buf, size_t cap)
{
	struct wr w = wr_of(buf, cap);

	wr_str(&w, "127.0.0.1 localhost\n::1 localhost\n127.0.1.1 ");
	wr_str(&w, hostname);
	wr_str(&w, "\n");
	return w;
}

/* Whether /etc/hosts is what was written here for that name, and so may be replaced. */
static bool hosts_are_ours(const char *hostname)
{
	char now[FILE_BYTES], then[FILE_BYTES];
	ssize_t n = fs_read_file("/etc/hosts", now, sizeof now);
	struct wr w = hosts_text(hostname, then, sizeof then);

	return n == -ENOENT || (n >= 0 && span_eq(span_of(now, (size_t)n), wr_span(&w)));
}

int etc_set_hostname(const char *name)
{
	char before[HOSTNAME_BYTES + 1], text[FILE_BYTES];
	struct wr w = hosts_text(name, text, sizeof text);

	if (gethostname(before, sizeof before) < 0)
		return -errno;
	if (strcmp(before, name) != 0 && !hostname_is_legal(span_str(name)))
		return -EINVAL; /* but one that somebody else gave is nobody's business */
	if (strcmp(before, name) != 0 && sethostname(name, strlen(name)) < 0)
		return -errno;
	if (hosts_are_ours(before))
		ensure("/etc/hosts", &w);
	return 0;
}
