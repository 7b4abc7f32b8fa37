#include "sandbox/config.h"

#include "base/log.h"
#include "codec/toml.h"
#include "sys/fs.h"

#include <errno.h>
#include <stdlib.h>

enum { KEY_BYTES = 256 }; /* of a key that is told of */

#define COUNT(array) (sizeof(array) / sizeof *(array))
#define AT(member)   offsetof(struct sandbox_config, member)

/* --- what a text may be: NULL, or what is wrong -------------------------------------------------
 */

static const char *check_path(struct span text)
{
	return text.n && text.p[0] == '/' ? NULL : "a path must begin with /";
}

static const char *check_ip(struct span text)
{
	struct ip ip;
	return ip_parse(text, &ip) == E_OK ? NULL : "it must be an IP address";
}

static const char *check_limit(struct span text)
{
	return span_find(text, '=') < text.n ? NULL : "it must be RESOURCE=VALUE";
}

static const char *check_level(struct span text)
{
	static const char *const levels[] = {
	    "Off", "Trace", "Debug", "Info", "Warn", "Warning", "Error"};

	for (size_t i = 0; i < COUNT(levels); i++)
		if (span_eq_nocase(text, span_str(levels[i])))
			return NULL;
	return "it must be Off, Error, Warning, Info, Debug or Trace";
}

/* --- the table ----------------------------------------------------------------------------------
 */

enum kind {
	TEXT,    /* const char * */
	LIST,    /* struct config_list */
	NUMBER,  /* uint64_t */
	SWITCH,  /* bool */
	SUBNET,  /* struct cidr */
	ADDRESS, /* struct ip, IPv4 */
};

#define JAILER "firecracker.jailer"

struct row {
	const char *path;
	enum kind kind;
	size_t offset;
	const char *text[2]; /* default of all but NUMBER and SWITCH */
	uint64_t number;     /* default of NUMBER */
	int64_t min, max;    /* of NUMBER */
	const char *(*check)(struct span text);
	bool required; /* where there is a jailer */
};

/* clang-format off */
static const struct row rows[] = {
    {.path = "firecracker.binary", .kind = TEXT, .offset = AT(binary),
        .text = {"/arcbox/bin/firecracker"}, .check = check_path},
    {.path = "firecracker.data_dir", .kind = TEXT, .offset = AT(data_dir),
        .text = {"/var/lib/arcbox"}, .check = check_path},
    {.path = "firecracker.log_level", .kind = TEXT, .offset = AT(log_level),
        .check = check_level},
    {.path = "firecracker.no_seccomp", .kind = SWITCH, .offset = AT(no_seccomp)},
    {.path = "firecracker.seccomp_filter", .kind = TEXT, .offset = AT(seccomp_filter),
        .check = check_path},
    {.path = "firecracker.http_api_max_payload_size", .kind = NUMBER,
        .offset = AT(http_api_max_payload_bytes), .min = 1, .max = 1 << 30},
    {.path = "firecracker.mmds_size_limit", .kind = NUMBER, .offset = AT(mmds_size_limit_bytes),
        .min = 1, .max = 1 << 30},
    {.path = "firecracker.socket_timeout_secs", .kind = NUMBER, .offset = AT(socket_timeout_secs),
        .number = 5, .min = 1, .max = 3600},

    {.path = JAILER ".binary", .kind = TEXT, .offset = AT(jailer.binary), .check = check_path,
        .required = true},
    {.path = JAILER ".uid", .kind = NUMBER, .offset = AT(jailer.uid), .max = UINT32_MAX - 1,
        .required = true},
    {.path = JAILER ".gid", .kind = NUMBER, .offset = AT(jailer.gid), .max = UINT32_MAX - 1,
        .required = true},
    {.path = JAILER ".chroot_base_dir", .kind = TEXT, .offset = AT(jailer.chroot_base_dir),
        .text = {"/srv/jailer"}, .check = check_path},
    {.path = JAILER ".netns", .kind = TEXT, .offset = AT(jailer.netns), .check = check_path},
    {.path = JAILER ".new_pid_ns", .kind = SWITCH, .offset = AT(jailer.new_pid_ns)},
    {.path = JAILER ".cgroup_version", .kind = NUMBER, .offset = AT(jailer.cgroup_version),
        .min = 1, .max = 2},
    {.path = JAILER ".parent_cgroup", .kind = TEXT, .offset = AT(jailer.parent_cgroup)},
    {.path = JAILER ".resource_limits", .kind = LIST, .offset = AT(jailer.resource_limits),
        .check = check_limit},

    {.path = "network.cidr", .kind = SUBNET, .offset = AT(cidr), .text = {"172.20.0.0/16"}},
    {.path = "network.gateway", .kind = ADDRESS, .offset = AT(gateway)},
    {.path = "network.dns", .kind = LIST, .offset = AT(dns), .text = {"1.1.1.1", "8.8.8.8"},
        .check = check_ip},

    {.path = "defaults.vcpus", .kind = NUMBER, .offset = AT(vcpus), .number = 1, .min = 1,
        .max = 32},
    {.path = "defaults.memory_mib", .kind = NUMBER, .offset = AT(memory_mib), .number = 512,
        .min = 1, .max = 1 << 20},
    {.path = "defaults.kernel", .kind = TEXT, .offset = AT(kernel),
        .text = {"/arcbox/bin/vmlinux"}, .check = check_path},
    {.path = "defaults.rootfs", .kind = TEXT, .offset = AT(rootfs),
        .text = {"/arcbox/bin/sandbox.ext4"}, .check = check_path},
    {.path = "defaults.boot_args", .kind = TEXT, .offset = AT(boot_args),
        .text = {"console=ttyS0 reboot=k panic=1 pci=off init=/sbin/vm-agent"}},
};
/* clang-format on */

/* Accepted, since files have it, and of no use here. */
static const char unused_section[] = "grpc";

/* --- defaults -----------------------------------------------------------------------------------
 */

static void *member(struct sandbox_config *c, const struct row *row)
{
	return (char *)c + row->offset;
}

static void set_default(struct sandbox_config *c, const struct row *row)
{
	struct config_list *list = member(c, row);

	if (row->kind == TEXT)
		*(const char **)member(c, row) = row->text[0];
	else if (row->kind == NUMBER)
		*(uint64_t *)member(c, row) = row->number;
	else if (row->kind == SUBNET)
		cidr_parse(span_str(row->text[0]), member(c, row));
	else if (row->kind == LIST)
		for (; list->n < COUNT(row->text) && row->text[list->n]; list->n++)
			list->values[list->n] = row->text[list->n];
}

static void reset(struct sandbox_config *c)
{
	*c = (struct sandbox_config){0};
	for (size_t i = 0; i < COUNT(rows); i++)
		set_default(c, &rows[i]);
}

static void choose_gateway(struct sandbox_config *c)
{
	if (c->gateway.family == 0)
		c->gateway = cidr_at(&c->cidr, 1);
}

void sandbox_config_default(struct sandbox_config *c)
{
	reset(c);
	choose_gateway(c);
}

/* --- reading ------------------------------------------------------------------------------------
 */

struct reading {
	struct toml toml;
	struct sandbox_config *config;
	const char *file;
	unsigned lines[COUNT(rows)]; /* where a key is given; 0: it is not */
	unsigned jailer_line;        /* where the jailer is first spoken of; 0: nowhere */
};

static enum err tell(
    const struct reading *r, enum err err, unsigned line, const char *key, const char *problem)
{
	log_error("sandbox", "bad configuration, going on with the defaults",
	    KV_STR("file", r->file), KV_NUM("line", line), KV_STR("key", key),
	    KV_STR("problem", problem));
	return err;
}

/* The path of the last key as a C string, cut where it is too long. */
static void key_text(const struct toml *t, char key[KEY_BYTES])
{
	struct wr w = wr_of(key, KEY_BYTES - 1);

	toml_path(t, &w);
	key[w.n] = '\0';
}

static void warn_unknown(const struct reading *r)
{
	char key[KEY_BYTES];

	if (toml_path_is_in(&r->toml, unused_section))
		return;
	key_text(&r->toml, key);
	log_warn("sandbox", "unknown key in the configuration", KV_STR("file", r->file),
	    KV_NUM("line", toml_line(&r->toml)), KV_STR("key", key));
}

static void refuse(struct reading *r, const char *problem)
{
	toml_fail(&r->toml, E_MALFORMED, problem);
}

/* The text of a string, kept with the configuration; NULL when it is none or not fit for the row.
 */
static const char *take_text(
    struct reading *r, const struct row *row, const struct toml_token *value)
{
	struct sandbox_config *c = r->config;
	char *text = c->text + c->text_bytes;
	struct wr w = wr_of(text, sizeof c->text - c->text_bytes);
	const char *problem = NULL;

	toml_string(value, &w);
	wr_nul(&w);
	if (w.err == E_SPACE)
		toml_fail(&r->toml, E_SPACE, "the texts of the file are too long together");
	else if (w.err)
		refuse(r, "it must be a text in quotes");
	else if (span_find(wr_span(&w), '\0') < w.n)
		refuse(r, "a NUL cannot be in a text");
	else if (row->check && (problem = row->check(wr_span(&w))))
		refuse(r, problem);
	if (r->toml.err)
		return NULL;
	c->text_bytes += w.n + 1;
	return text;
}

static void take_list(struct reading *r, const struct row *row, const struct toml_token *value)
{
	struct config_list list = {.n = 0};
	struct toml_token item;

	if (value->type != TOML_ARRAY)
		refuse(r, "it must be a list of texts");
	while ((item = toml_next(&r->toml)).type != TOML_END && item.type != TOML_ARRAY_END) {
		if (list.n == CONFIG_LIST_MAX)
			toml_fail(&r->toml, E_LIMIT, "the list has more than 8 entries");
		else
			list.values[list.n++] = take_text(r, row, &item);
	}
	*(struct config_list *)member(r->config, row) = list;
}

static void take_number(struct reading *r, const struct row *row, const struct toml_token *value)
{
	int64_t v = 0;
	enum err err = toml_i64(value, row->min, row->max, &v);

	if (err == E_RANGE)
		toml_fail(&r->toml, err, "the number is too small or too large");
	else if (err)
		refuse(r, "it must be an integer");
	*(uint64_t *)member(r->config, row) = (uint64_t)v;
}

static void take_switch(struct reading *r, const struct row *row, const struct toml_token *value)
{
	if (value->type != TOML_TRUE && value->type != TOML_FALSE)
		refuse(r, "it must be true or false");
	*(bool *)member(r->config, row) = value->type == TOML_TRUE;
}

static void take_subnet(struct reading *r, const struct row *row, const struct toml_token *value)
{
	const char *text = take_text(r, row, value);

	if (text && cidr_parse(span_str(text), member(r->config, row)))
		refuse(r, "it must be an IPv4 ADDRESS/PREFIX with a prefix from 1 to 30");
}

static void take_address(struct reading *r, const struct row *row, const struct toml_token *value)
{
	const char *text = take_text(r, row, value);
	struct ip *ip = member(r->config, row);

	if (text && (ip_parse(span_str(text), ip) || ip->family != 4))
		refuse(r, "it must be an IPv4 address");
}

static void take_value(struct reading *r, const struct row *row, const struct toml_token *value)
{
	switch (row->kind) {
	case TEXT: *(const char **)member(r->config, row) = take_text(r, row, value); break;
	case LIST: take_list(r, row, value); break;
	case NUMBER: take_number(r, row, value); break;
	case SWITCH: take_switch(r, row, value); break;
	case SUBNET: take_subnet(r, row, value); break;
	case ADDRESS: take_address(r, row, value); break;
	}
}

/* An inline table is a section: its keys come next. */
static void take_key(struct reading *r)
{
	struct toml_token value = toml_next(&r->toml);
	size_t i = 0;

	while (i < COUNT(rows) && !toml_path_is(&r->toml, rows[i].path))
		i++;
	if (i < COUNT(rows)) {
		r->lines[i] = toml_line(&r->toml);
		take_value(r, &rows[i], &value);
	} else if (value.type != TOML_INLINE && value.type != TOML_END) {
		warn_unknown(r);
		toml_skip(&r->toml, &value);
	}
}

static void read_keys(struct reading *r)
{
	struct toml_token token;

	while ((token = toml_next(&r->toml)).type != TOML_END) {
		if (r->jailer_line == 0 && toml_path_is_in(&r->toml, JAILER))
			r->jailer_line = toml_line(&r->toml);
		if (token.type == TOML_KEY)
			take_key(r);
	}
}

/* What no key shows by itself. */
static enum err check_whole(struct reading *r)
{
	struct sandbox_config *c = r->config;

	choose_gateway(c);
	for (size_t i = 0; i < COUNT(rows); i++) {
		const struct row *row = &rows[i];

		if (row->required && r->jailer_line && r->lines[i] == 0)
			return tell(
			    r, E_MALFORMED, r->jailer_line, row->path, "a jailer needs this key");
		if (row->kind == ADDRESS && !cidr_has_host(&c->cidr, &c->gateway))
			return tell(
			    r, E_RANGE, r->lines[i], row->path, "it is no address of the subnet");
	}
	return E_OK;
}

enum err sandbox_config_parse(struct sandbox_config *c, struct span file, const char *path)
{
	struct reading r = {.config = c, .file = path};
	char key[KEY_BYTES];
	enum err err;

	reset(c);
	toml_init(&r.toml, file);
	read_keys(&r);
	key_text(&r.toml, key);
	if (r.toml.err)
		err = tell(&r, r.toml.err, toml_line(&r.toml), key, r.toml.problem);
	else
		err = check_whole(&r);
	if (err)
		sandbox_config_default(c);
	return err;
}

int sandbox_config_load(struct sandbox_config *c, const char *path)
{
	uint8_t *text = malloc(CONFIG_FILE_BYTES);
	ssize_t n = text ? fs_read_file(path, text, CONFIG_FILE_BYTES) : -ENOMEM;
	int rc = n < 0 ? (int)n : 0;

	sandbox_config_default(c);
	if (rc == 0 && sandbox_config_parse(c, span_of(text, (size_t)n), path))
		rc = -EINVAL;
	else if (rc < 0 && rc != -ENOENT)
		log_error("sandbox", "cannot read the configuration, going on with the defaults",
		    KV_STR("file", path), KV_ERR(rc));
	free(text);
	return rc;
}
