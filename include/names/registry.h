/* registry.h - the names that the agent itself answers for, and whose they are.
 *
 * An owner (a container, a sandbox, a line of the hosts file) has names and addresses, and each of
 * its names leads to each of its addresses. What an owner has is replaced as a whole. A name lives
 * until its last owner goes, and leads to the addresses of all its owners.
 *
 * Names are kept relative to the domain: "web.proj" answers as web.proj.<domain>, and one that ends
 * in the domain is taken for what stands before it. A name without a dot answers bare, too; one
 * with dots only with `bare_dotted`, since a container that is called github.com must not answer
 * for github.com. Case does not matter (RFC 4343). */
#ifndef NAMES_REGISTRY_H
#define NAMES_REGISTRY_H

#include "codec/dns.h"

struct registry;

struct registry_conf {
	struct dns_name domain;
	bool bare_dotted;
	size_t max_owners;
	size_t max_names; /* of all owners; each label of a name counts, "web.proj" is 2 */
	size_t max_names_per_owner, max_addrs_per_owner;
	uint64_t seed[2]; /* random, for the hash maps */
};

/* NULL without memory. `conf` is copied. */
struct registry *registry_new(const struct registry_conf *conf);

/* NULL is left alone. */
void registry_free(struct registry *r);

/* Replaces all that `owner` (any bytes, e.g. "docker:<id>") has. Everything is copied. Returns how
 * many names were skipped because they are no DNS names; doubled names and addresses count once. Or
 * -ENOSPC over a limit, -ENOMEM: then all is as it was. An owner without any usable name is
 * dropped. The same names and addresses again change nothing. */
int registry_set(struct registry *r, struct span owner, const struct span *names, size_t n_names,
    const struct ip *addrs, size_t n_addrs);

/* Takes all that `owner` has away; an unknown owner is left alone. */
void registry_drop(struct registry *r, struct span owner);

size_t registry_owners(const struct registry *r);

/* Rises with every change: the serial number of the zone. */
uint32_t registry_serial(const struct registry *r);

const struct dns_name *registry_domain(const struct registry *r);

enum registry_match {
	REGISTRY_FOREIGN, /* not ours: outside of the domain, and nobody's bare name */
	REGISTRY_APEX,    /* the domain itself */
	REGISTRY_ABSENT,  /* in the domain, but there is no such name */
	REGISTRY_BETWEEN, /* no name, but there are names below it: it exists (RFC 8020) */
	REGISTRY_FOUND,   /* somebody's name */
};

enum {
	REGISTRY_ANSWER_ADDRS = 256, /* addresses of a name that are found at most */
	REGISTRY_ANSWER_NAMES = 16,  /* names of an address that are found at most */
};

struct registry_answer {
	size_t n;                                      /* addresses of the family asked for */
	const struct ip *addrs[REGISTRY_ANSWER_ADDRS]; /* only the first n are defined */
};

/* Looks a name up. For REGISTRY_FOUND *out has the addresses of `family` (4 or 6; 0 = none), each
 * once, rotated by one with every call; else none. The views live until the registry is changed. */
enum registry_match registry_lookup(
    struct registry *r, const struct dns_name *name, uint8_t family, struct registry_answer *out);

/* The names in the domain that lead to an address: those of its newest owner first, and of an owner
 * in the order in which they were given. How many there are; 0 when it is nobody's address. */
size_t registry_reverse(
    const struct registry *r, const struct ip *ip, struct dns_name out[REGISTRY_ANSWER_NAMES]);

#endif
