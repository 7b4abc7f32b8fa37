/* hosts_file.h - names that the operator gives: NAME=ADDR options and a file in hosts(5) form. */
#ifndef NAMES_HOSTS_FILE_H
#define NAMES_HOSTS_FILE_H

#include "names/registry.h"
#include "sys/child.h"

enum { HOSTS_FILE_BYTES = 1024 * 1024 }; /* the largest file that is read */

/* Takes NAME=ADDR apart; *name views the text. E_MALFORMED for what is no name or no address. */
enum err host_option_parse(struct span text, struct span *name, struct ip *addr);

/* Registers the option with that number; one that is malformed is -EINVAL. Else as registry_set().
 */
int host_option_set(struct registry *r, unsigned number, struct span text);

/* A file whose lines are in the registry. Memory owned by the caller, in place until
 * hosts_file_done(). Private. */
struct hosts_file {
	struct registry *registry;
	struct reaper *reaper;
	const char *path;
	unsigned entries;     /* how many of its lines are registered */
	struct worker worker; /* reads it */
	int fd;               /* the file in memory that it is read into */
	bool again;           /* it may have changed since the reading began */
};

/* The registry must outlive it; so must the path. Reads nothing yet. */
void hosts_file_init(
    struct hosts_file *h, struct reaper *reaper, struct registry *registry, const char *path);

/* Reads the file, for the first time or again, without waiting for it: it may lie on a filesystem
 * that hangs. What is gone from it goes from the registry. A file that cannot be read is logged and
 * leaves what there was; lines and names that are of no use are logged and skipped. */
void hosts_file_load(struct hosts_file *h);

/* Stops a reading that is under way; what is registered stays. One that is zeroed is left alone. */
void hosts_file_done(struct hosts_file *h);

#endif
