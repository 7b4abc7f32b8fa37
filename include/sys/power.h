/* power.h - the end of the machine: reboot(2) and all processes at once. For PID 1 only. */
#ifndef SYS_POWER_H
#define SYS_POWER_H

#include <stdbool.h>

/* Whether this process's namespace of PIDs is the machine's own: then its disks are, too. Else the
 * PID 1 of this namespace may end all processes in it, but what is mounted may be others'. */
bool power_is_machines(void);

/* Has ctrl-alt-del reach PID 1 as SIGINT instead of resetting the machine. 0 or -errno. */
int power_take_ctrl_alt_del(void);

/* Signals every process but this one and those of the kernel. */
void power_signal_all(int sig);

/* Powers off, or, where PID 1 is that of a PID namespace, ends that. Does not come back but on
 * failure, with -errno. Disks are not synced by it. */
int power_off(void);

/* Likewise, but the machine starts again. */
int power_restart(void);

#endif
