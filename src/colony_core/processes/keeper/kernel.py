"""Kernel calls that the standard library lacks: prctl, capabilities, setns; all of them act on the calling thread."""

import ctypes
import os

CAP_DAC_OVERRIDE = 1
CAP_DAC_READ_SEARCH = 2
CAP_KILL = 5
CAP_SETGID = 6
CAP_SETUID = 7
CAP_SETPCAP = 8
CAP_SYS_PTRACE = 19
CAP_SYS_ADMIN = 21
CAP_SYS_RESOURCE = 24

KEEPER_CAPABILITIES = (
    CAP_DAC_OVERRIDE,
    CAP_DAC_READ_SEARCH,
    CAP_KILL,
    CAP_SETGID,
    CAP_SETUID,
    CAP_SETPCAP,
    CAP_SYS_PTRACE,
    CAP_SYS_ADMIN,
    CAP_SYS_RESOURCE,
)
"""What a keeper can use: enter namespaces, become the owner of a workspace, read and kill what belongs to its processes."""

_CLONE_NEWNET = 0x40000000
_PR_SET_DUMPABLE = 4
_PR_CAPBSET_READ = 23
_PR_CAPBSET_DROP = 24
_PR_SET_CHILD_SUBREAPER = 36
_PR_SET_NO_NEW_PRIVS = 38
_PR_CAP_AMBIENT = 47
_PR_CAP_AMBIENT_RAISE = 2
_PR_CAP_AMBIENT_CLEAR_ALL = 4
_CAPABILITY_VERSION_3 = 0x20080522
_CAPABILITIES_MAX = 64

_libc = ctypes.CDLL(None, use_errno=True)


class _Header(ctypes.Structure):
    _fields_ = (("version", ctypes.c_uint32), ("pid", ctypes.c_int))


class _Sets(ctypes.Structure):
    _fields_ = (("effective", ctypes.c_uint32), ("permitted", ctypes.c_uint32), ("inheritable", ctypes.c_uint32))


def permitted() -> int:
    """The permitted capabilities of this thread, as bits."""
    sets = _capget()
    return int(sets[0].permitted) | int(sets[1].permitted) << 32


def raise_ambient(wanted: tuple[int, ...]) -> None:
    """Lets the programs that this thread executes keep those of `wanted` that it has itself."""
    held = permitted()
    bits = sum(1 << cap for cap in wanted if held >> cap & 1)
    _set_inheritable(bits)
    for cap in wanted:
        if bits >> cap & 1:
            prctl(_PR_CAP_AMBIENT, _PR_CAP_AMBIENT_RAISE, cap)


def leave_nothing_to_children() -> bool:
    """Sees to it that nothing this thread executes ever holds or gains a capability; the thread keeps its own.

    Without CAP_SETPCAP the bounding set stays as it is (False is returned): no_new_privs alone then keeps an ordinary user's children
    from gaining any, since neither set-uid programs nor file capabilities count any more.
    """
    prctl(_PR_SET_NO_NEW_PRIVS, 1)
    try:
        prctl(_PR_CAP_AMBIENT, _PR_CAP_AMBIENT_CLEAR_ALL)
    finally:
        _set_inheritable(0)
    for cap in range(_CAPABILITIES_MAX):
        try:
            if prctl(_PR_CAPBSET_READ, cap):
                prctl(_PR_CAPBSET_DROP, cap)
        except PermissionError:
            return False
        except OSError:
            break
    return True


def adopt_orphans() -> None:
    """Makes this process the parent of every descendant whose own parent ends."""
    prctl(_PR_SET_CHILD_SUBREAPER, 1)


def hide_memory() -> None:
    """Keeps processes of the same user from tracing this one and from reading its memory."""
    prctl(_PR_SET_DUMPABLE, 0)


def enter_network(fd: int) -> None:
    """Moves this thread into the network namespace behind `fd`."""
    if _libc.setns(fd, _CLONE_NEWNET) != 0:
        raise _os_error()


def prctl(option: int, first: int = 0, second: int = 0) -> int:
    result = int(_libc.prctl(option, *(ctypes.c_ulong(value) for value in (first, second, 0, 0))))
    if result < 0:
        raise _os_error()
    return result


def _set_inheritable(bits: int) -> None:
    sets = _capget()
    for word, part in enumerate(sets):
        part.inheritable = bits >> (32 * word) & 0xFFFFFFFF
        part.effective = part.permitted
    header = _Header(_CAPABILITY_VERSION_3, 0)
    if _libc.capset(ctypes.byref(header), sets) != 0:
        raise _os_error()


def _capget() -> ctypes.Array[_Sets]:
    header = _Header(_CAPABILITY_VERSION_3, 0)
    sets = (_Sets * 2)()
    if _libc.capget(ctypes.byref(header), sets) != 0:
        raise _os_error()
    return sets


def _os_error() -> OSError:
    number = ctypes.get_errno()
    return OSError(number, os.strerror(number))
