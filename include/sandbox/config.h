/* config.h - the configuration of the sandboxes: a TOML file.
 *
 * Every key may be left out. One that is not known is warned about and passed over. A file that
 * cannot be used is one error line naming file, line and key; all settings are the defaults then.
 */
#ifndef SANDBOX_CONFIG_H
#define SANDBOX_CONFIG_H

#include "base/ip.h"
#include "sandbox/network.h"

enum {
	CONFIG_FILE_BYTES = 65536, /* a larger file is refused */
	CONFIG_TEXT_BYTES = 8192,  /* the same for all its strings together */
	CONFIG_LIST_MAX = 8,       /* and for the entries of a list */
};

/* Texts end with NUL. */
struct config_list {
	const char *values[CONFIG_LIST_MAX];
	size_t n;
};

/* Texts that were not given and have no default are NULL, such numbers 0. They point into `text` or
 * to static memory: a configuration stays where it is. */
struct sandbox_config {
	/* [firecracker] */
	const char *binary, *data_dir;
	const char *log_level;
	bool no_seccomp;
	const char *seccomp_filter;
	uint64_t http_api_max_payload_bytes, mmds_size_limit_bytes;
	uint64_t socket_timeout_secs;

	/* [firecracker.jailer]: the jailer is used when there is such a section. */
	struct {
		const char *binary; /* NULL: no jailer */
		uint64_t uid, gid;
		const char *chroot_base_dir, *netns;
		bool new_pid_ns;
		uint64_t cgroup_version;
		const char *parent_cgroup;
		struct config_list resource_limits;
	} jailer;

	/* [network] */
	struct cidr cidr;
	struct ip gateway;      /* the first host, unless the file says otherwise */
	struct config_list dns; /* addresses */

	/* [defaults] */
	uint64_t vcpus, memory_mib;
	const char *kernel, *rootfs, *boot_args;

	/* private */
	size_t text_bytes;
	char text[CONFIG_TEXT_BYTES];
};

void sandbox_config_default(struct sandbox_config *c);

/* Reads what a file named `path`, which is only told of, holds. E_OK, or what is wrong, which has
 * been logged; *c is the defaults then. */
enum err sandbox_config_parse(struct sandbox_config *c, struct span file, const char *path);

/* Reads a file. 0; -ENOENT, of which nothing is logged, when there is none; or another -errno
 * (-EINVAL: the file is bad), logged. *c is the defaults unless 0. Blocks: for the start. */
int sandbox_config_load(struct sandbox_config *c, const char *path);

#endif
