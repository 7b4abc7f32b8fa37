/* firewall.h - has the guest forward packets: accept rules in the FORWARD chain, through iptables.
 *
 * Docker sets the chain's policy to DROP, and its rules and those of a person are to stay as they
 * are; so each rule is looked for first (iptables -C) and put in front of the others (-I) only when
 * it is not there. One command runs at a time, as a child, while the loop goes on. A rule that
 * cannot be made is logged, once, and left out; without the program there are no rules. */
#ifndef INIT_FIREWALL_H
#define INIT_FIREWALL_H

#include "sys/child.h"

struct firewall;

/* What to accept: packets of which all that is given is true. A rule that gives nothing is none. */
struct firewall_rule {
	const char *in, *out;             /* name of the interface they come from, leave by */
	const char *source, *destination; /* ADDR/PREFIX, IPv4 */
	bool established;                 /* answers: connections that were made the other way */
};

enum { FIREWALL_RULES = 16 }; /* that wait; more are refused */

/* `iptables` is the program's path, which must outlive it; a command is killed after timeout_ms.
 * NULL without memory; the functions below take NULL and do nothing. */
struct firewall *firewall_new(
    struct loop *l, struct reaper *r, const char *iptables, uint64_t timeout_ms);

/* Kills the command that runs, and forgets the rules that wait. */
void firewall_free(struct firewall *fw);

/* Makes the rule once those before it are made. Its texts are copied. */
void firewall_accept(struct firewall *fw, const struct firewall_rule *rule);

/* Whether nothing runs and nothing waits. */
bool firewall_is_idle(const struct firewall *fw);

#endif
