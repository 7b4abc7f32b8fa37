#include "names/hosts_file.h"

#include "base/container.h"
#include "base/log.h"
#include "codec/hosts.h"
#include "sys/fs.h"

#include <errno.h>
#include <stdlib.h>
#include <unistd.h>

enum {
	OWNER_BYTES = 32,
	NAMES_A_LINE = HOSTS_LINE_BYTES / 2,
	PROBLEMS_LOGGED = 8, /* a file that is no hosts file at all has thousands */
	READ_MS = 5000,      /* for a filesystem that hangs */
};

/* The owner "<kind>:<number>". */
static struct span owner_of(char buf[OWNER_BYTES], const char *kind, unsigned number)
{
	struct wr w = wr_of(buf, OWNER_BYTES);

	wr_str(&w, kind);
	wr_dec(&w, number);
	return wr_span(&w);
}

/* --- options --------------------------------------------------------------------------------- */

enum err host_option_parse(struct span text, struct span *name, struct ip *addr)
{
	struct span addr_text = text;
	struct span name_text = span_split(&addr_text, '=');
	struct dns_name parsed;
	struct ip ip;

	if (dns_name_from_text(name_text, &parsed) != E_OK || ip_parse(addr_text, &ip) != E_OK)
		return E_MALFORMED;
	*name = name_text;
	*addr = ip;
	return E_OK;
}

int host_option_set(struct registry *r, unsigned number, struct span text)
{
	char owner[OWNER_BYTES];
	struct span name;
	struct ip addr;

	if (host_option_parse(text, &name, &addr) != E_OK)
		return -EINVAL;
	return registry_set(r, owner_of(owner, "option:", number), &name, 1, &addr, 1);
}

/* --- the file -------------------------------------------------------------------------------- */

/* One reading of the file. */
struct reading {
	const struct hosts_file *file;
	unsigned entries, problems;
};

static void log_problem(struct reading *r, const struct hosts_entry *e, struct log_kv why)
{
	if (++r->problems <= PROBLEMS_LOGGED)
		log_warn("dns", "hosts file: skipped", KV_STR("file", r->file->path),
		    KV_NUM("line", e->line), why);
}

static void register_entry(struct reading *r, const struct hosts_entry *e)
{
	struct registry *registry = r->file->registry;
	struct span names[NAMES_A_LINE], rest = e->names, owner;
	char buf[OWNER_BYTES];
	size_t n = 0;
	int rc;

	while (n < NAMES_A_LINE && hosts_name_next(&rest, &names[n]))
		n++;
	owner = owner_of(buf, "hosts:", r->entries++);
	rc = registry_set(registry, owner, names, n, &e->ip, 1);
	if (rc > 0)
		log_problem(r, e, KV_NUM("names", rc));
	if (rc >= 0)
		return;
	registry_drop(registry, owner); /* what another line was called before */
	log_problem(r, e, KV_ERR(rc));
}

/* Takes those entries out of the registry that the file had beyond the first ones. */
static void drop_from(struct hosts_file *h, unsigned first)
{
	char buf[OWNER_BYTES];

	for (unsigned i = first; i < h->entries; i++)
		registry_drop(h->registry, owner_of(buf, "hosts:", i));
}

static void register_file(struct hosts_file *h, struct span file)
{
	struct hosts_reader reader = hosts_reader_of(file);
	struct reading r = {.file = h};
	struct hosts_entry e;

	while (hosts_next(&reader, &e)) {
		if (e.problem)
			log_problem(&r, &e, KV_STR("problem", e.problem));
		else
			register_entry(&r, &e);
	}
	drop_from(h, r.entries);
	h->entries = r.entries;
	log_info("dns", "hosts file read", KV_STR("file", h->path), KV_NUM("entries", r.entries),
	    KV_NUM("problems", r.problems));
}

/* --- reading it ------------------------------------------------------------------------------ */

/* In the worker. Reports how many bytes there are, or why there are none. */
static int read_file(void *arg, int report_fd)
{
	const struct hosts_file *h = arg;
	int64_t n = fs_copy_range(h->path, 0, HOSTS_FILE_BYTES + 1, h->fd);

	return fs_write_all(report_fd, span_of(&n, sizeof n)) < 0;
}

/* Registers what was read. 0 or -errno. */
static int register_copy(struct hosts_file *h, size_t bytes)
{
	void *buf = malloc(bytes + 1);
	ssize_t n = buf ? pread(h->fd, buf, bytes, 0) : -1;
	int rc = !buf ? -ENOMEM : n < 0 ? -errno : 0;

	if (rc == 0)
		register_file(h, span_of(buf, (size_t)n));
	free(buf);
	return rc;
}

/* The end of a reading. */
static void end(struct hosts_file *h, int rc)
{
	if (rc < 0)
		log_warn("dns", "cannot read the hosts file, keeping what is known of it",
		    KV_STR("file", h->path), KV_ERR(rc));
	if (h->fd >= 0)
		close(h->fd);
	h->fd = -1;
}

static void worked(struct worker *w, int rc, struct span report)
{
	struct hosts_file *h = container_of(w, struct hosts_file, worker);
	int64_t n = rc < 0 ? rc : -EIO;

	if (rc == 0 && report.n == sizeof n)
		memcpy(&n, report.p, sizeof n);
	if (n > HOSTS_FILE_BYTES)
		n = -EFBIG;
	end(h, n < 0 ? (int)n : register_copy(h, (size_t)n));
	if (h->again)
		hosts_file_load(h);
}

void hosts_file_load(struct hosts_file *h)
{
	int rc;

	h->again = h->worker.running;
	if (h->again)
		return;
	h->fd = fs_memfd("hosts");
	h->worker.keep_fd = h->fd;
	rc = h->fd < 0 ? h->fd : worker_start(&h->worker, h->reaper, read_file, h, READ_MS);
	if (rc < 0)
		end(h, rc);
}

void hosts_file_init(
    struct hosts_file *h, struct reaper *reaper, struct registry *registry, const char *path)
{
	*h = (struct hosts_file){
	    .registry = registry,
	    .reaper = reaper,
	    .path = path,
	    .worker = {.fn = worked},
	    .fd = -1,
	};
}

void hosts_file_done(struct hosts_file *h)
{
	if (!h->worker.running)
		return;
	worker_cancel(&h->worker);
	end(h, 0);
}
