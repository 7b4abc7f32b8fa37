/* hosts_file.h - names that the operator gives: NAME=ADDR options and a file in hosts(5) form. */
#ifndef NAMES_HOSTS_FILE_H
#define NAMES_HOSTS_FILE_H

#include "names/registry.h"

enum { HOSTS_FILE_BYTES = 1024 * 1024 }; /* the largest file that is read */

/* Takes NAME=ADDR apart; *name views the text. E_MALFORMED for what is no name or no address. */
enum err host_option_parse(struct span text, struct span *name, struct ip *addr);

/* Registers the option with that number; one that is malformed is -EINVAL. Else as registry_set().
 */
int host_option_set(struct registry *r, unsigned number, struct span text);

/* A file whose lines are in the registry. */
struct hosts_file {
	struct registry *registry;
	const char *path; /* the caller's */
	unsigned entries; /* how many of its lines are registered */
};

static inline struct hosts_file hosts_file_of(struct registry *r, const char *path)
{
	return (struct hosts_file){r, path, 0};
}

/* Reads the file, for the first time or again: what is gone from it goes from the registry. A file
 * that cannot be read is logged and leaves what there was; lines and names that are of no use are
 * logged and skipped. Blocks: the file is small and on a local filesystem. 0 or -errno. */
int hosts_file_load(struct hosts_file *h);

/* Takes all of it out of the registry. */
void hosts_file_drop(struct hosts_file *h);

#endif
