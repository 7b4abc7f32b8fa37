#include "sys/power.h"

#include <errno.h>
#include <signal.h>
#include <string.h>
#include <sys/reboot.h>
#include <unistd.h>

#define FIRST_PID_NAMESPACE "pid:[4026531836]" /* PROC_PID_INIT_INO in the kernel */

bool power_is_machines(void)
{
	char name[64];
	ssize_t n = readlink("/proc/self/ns/pid", name, sizeof name);

	return n == (ssize_t)strlen(FIRST_PID_NAMESPACE) &&
	    memcmp(name, FIRST_PID_NAMESPACE, (size_t)n) == 0;
}

int power_take_ctrl_alt_del(void)
{
	return reboot(RB_DISABLE_CAD) < 0 ? -errno : 0;
}

void power_signal_all(int sig)
{
	kill(-1, sig);
}

int power_off(void)
{
	return reboot(RB_POWER_OFF) < 0 ? -errno : 0;
}

int power_restart(void)
{
	return reboot(RB_AUTOBOOT) < 0 ? -errno : 0;
}
