"""System calls that Python 3.11 has no names for."""

import ctypes
import os

CLONE_NEWNS, CLONE_NEWPID = 0x00020000, 0x20000000
MS_RDONLY, MS_BIND, MS_REC, MS_PRIVATE = 1, 4096, 16384, 1 << 18
MNT_DETACH = 2
PR_SET_PDEATHSIG = 1
_PIVOT_ROOT = {"x86_64": 155, "aarch64": 41}

_libc = ctypes.CDLL(None, use_errno=True)


def _check(result):
    if result < 0:
        error = ctypes.get_errno()
        raise OSError(error, os.strerror(error))


def unshare(flags):
    _check(_libc.unshare(flags))


def setns(fd):
    _check(_libc.setns(fd, 0))


def mount(source, target, kind="none", flags=0, data=""):
    _check(
        _libc.mount(
            *(os.fsencode(text) for text in (source, target, kind)),
            ctypes.c_ulong(flags),
            os.fsencode(data),
        )
    )


def pivot_root(new, old):
    """Makes `new` the root; the one before is at `old`, below it."""
    number = _PIVOT_ROOT[os.uname().machine]
    _check(_libc.syscall(number, os.fsencode(new), os.fsencode(old)))


def umount(target):
    _check(_libc.umount2(os.fsencode(target), MNT_DETACH))


def die_with_parent(sig):
    _check(_libc.prctl(PR_SET_PDEATHSIG, sig, 0, 0, 0))


def private_mounts():
    """From here on no mount of this process is seen by any other."""
    unshare(CLONE_NEWNS)
    mount("none", "/", flags=MS_REC | MS_PRIVATE)


def change_root(new):
    """Makes the directory `new`, a mount point, the root of this process; the old one is gone."""
    old = os.path.join(new, ".old")
    os.makedirs(old, exist_ok=True)
    pivot_root(new, old)
    os.chdir("/")
    umount("/.old")
    os.rmdir("/.old")
