"""The few system calls that Python does not offer, by their C names; each raises OSError."""

import ctypes
import errno
import os

CLONE_NEWNS = 0x00020000
CLONE_NEWUSER = 0x10000000
CLONE_NEWNET = 0x40000000
MS_BIND = 0x1000
MS_REC = 0x4000
MS_SLAVE = 0x80000
MS_SHARED = 0x100000
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


def make_mounts_follow() -> None:
    """What is mounted here stays here; what is unmounted outside goes here too, so that nothing is pinned by our copy of it."""
    _check(_libc.mount(b"none", b"/", None, MS_REC | MS_SLAVE, None))


def share_mounts_below(folder: str) -> None:
    """Makes a folder a mount of its own whose mounts all namespaces share, as ip-netns(8) does when it comes first.

    If it came after us, it would bind the folder over itself, and our bindings would live on below, out of reach.
    """
    name = os.fsencode(folder)
    if _libc.mount(b"", name, b"none", MS_SHARED | MS_REC, None):
        if ctypes.get_errno() != errno.EINVAL:  # EINVAL: not a mount point yet
            _check(-1)
        _check(_libc.mount(name, name, b"none", MS_BIND | MS_REC, None))
        _check(_libc.mount(b"", name, b"none", MS_SHARED | MS_REC, None))


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
