/* etc.h - the files of /etc that programs cannot do without.
 *
 * What is right already is not written again. Files that a root filesystem brought along, as it may
 * with --keep-root, are kept, but for resolv.conf. What fails is logged and left out. */
#ifndef INIT_ETC_H
#define INIT_ETC_H

#include <stddef.h>

struct etc_conf {
	const char *const *nameservers; /* addresses for resolv.conf */
	size_t n_nameservers;
	const char *domain;            /* its search domain */
	const char *const *docker_dns; /* addresses that dockerd gives to containers */
	size_t n_docker_dns;
};

/* resolv.conf, passwd, group, docker/daemon.json, and the link to the certificates. */
void etc_write(const struct etc_conf *conf);

/* The hostname, for the kernel and in /etc/hosts, where the one of before is replaced. Text that is
 * no name (RFC 1123) is refused. 0 or -errno. */
int etc_set_hostname(const char *name);

#endif
