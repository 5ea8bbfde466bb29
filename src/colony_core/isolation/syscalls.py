"""The few system calls that Python does not offer, by their C names; each raises OSError."""

import ctypes
import os

CLONE_NEWNS = 0x00020000
CLONE_NEWUSER = 0x10000000
CLONE_NEWNET = 0x40000000
MS_BIND = 0x1000
MS_REC = 0x4000
MS_PRIVATE = 0x40000
MNT_DETACH = 2

_libc = ctypes.CDLL(None, use_errno=True)
_libc.mount.argtypes = [ctypes.c_char_p, ctypes.c_char_p, ctypes.c_char_p, ctypes.c_ulong, ctypes.c_void_p]


def unshare(flags: int) -> None:
    """unshare(2) for the calling thread."""
    _check(_libc.unshare(flags))


def setns(fd: int, kind: int) -> None:
    """setns(2) for the calling thread."""
    _check(_libc.setns(fd, kind))


def bind_mount(source: str, target: str) -> None:
    """mount(2) of `source` onto `target`."""
    _check(_libc.mount(os.fsencode(source), os.fsencode(target), b"none", MS_BIND, None))


def make_mounts_private() -> None:
    """What is mounted from now on stays in this mount namespace."""
    _check(_libc.mount(b"none", b"/", None, MS_REC | MS_PRIVATE, None))


def unmount(target: str) -> None:
    """umount2(2), lazily; nothing mounted there is no error."""
    if _libc.umount2(os.fsencode(target), MNT_DETACH):
        number = ctypes.get_errno()
        if number not in (22, 2):  # EINVAL: not a mount point; ENOENT
            raise OSError(number, os.strerror(number), target)


def _check(result: int) -> None:
    if result:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))
