/* modules.h - the kernel modules that the guest's image asks for. */
#ifndef INIT_MODULES_H
#define INIT_MODULES_H

#include <stdint.h>

/* Loads what /etc/modules-load.conf lists, else /lib/modules/load.list: one a line, in that order,
 * as module_load() takes them; '#' begins a comment. Those that cannot be loaded are logged and
 * left out. A module whose start hangs costs timeout_ms, and those behind it are left to the
 * worker. */
void modules_load(uint64_t timeout_ms);

#endif
