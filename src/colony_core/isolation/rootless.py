"""Rights without root: a user namespace in which this user owns the networks it makes.

The process keeps its user id, mapped to itself, so that files keep their owner and services see who they are. The main thread stays in the
host's network: only the kernel thread lives in the hub.
"""

import errno
import os
import struct
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from ctypes import CDLL

from colony_core.errors import Missing

from . import syscalls

CAP_NET_ADMIN, CAP_SYS_ADMIN = 12, 21
NEEDED = (1 << CAP_NET_ADMIN) | (1 << CAP_SYS_ADMIN)
PR_CAP_AMBIENT, PR_CAP_AMBIENT_RAISE, PR_CAP_AMBIENT_LOWER = 47, 2, 3
_CAP_VERSION_3 = 0x20080522
_libc = CDLL(None, use_errno=True)


def effective_capabilities() -> int:
    """The effective capabilities of the calling thread, as a bit mask."""
    return _status("CapEff")


def is_rootless() -> bool:
    """Whether this process lives in a user namespace as `enter_rootless` makes them."""
    own = str(os.getuid())
    with open("/proc/self/uid_map") as file:
        return file.read().split() == [own, own, "1"] and effective_capabilities() & NEEDED == NEEDED


def enter_rootless(holder_pid: int | None = None) -> None:
    """Takes this process into a user namespace of its own, or into that of `holder_pid` (a keeper that lives on). Twice is fine.

    Call it before any thread exists. Raises Missing (`no-user-namespaces`, `threads-exist`, `holder-gone`) with the next thing to type.
    """
    if is_rootless():
        return
    if len(os.listdir("/proc/self/task")) > 1:
        raise Missing(
            "threads-exist",
            "rootless mode must be entered before any thread exists",
            "call isolation.enter_rootless() first in your program",
        )
    try:
        if holder_pid is not None:
            _join(holder_pid)
        else:
            _make()
    except (FileNotFoundError, ProcessLookupError) as error:
        raise Missing(
            "holder-gone", f"process {holder_pid}, whose namespaces were to be joined, has ended", "try again"
        ) from error
    except OSError as error:
        why = "none are left (user.max_user_namespaces)" if error.errno == errno.ENOSPC else error.strerror
        raise Missing("no-user-namespaces", f"this machine lets you make no user namespace: {why}", _mend()) from error


@contextmanager
def ambient_for_child() -> Iterator[None]:
    """Programs that the calling thread starts in this block may change networks, though they are not root's."""
    raised = [] if os.geteuid() == 0 else [c for c in (CAP_NET_ADMIN, CAP_SYS_ADMIN) if _raise_ambient(c)]
    try:
        yield
    finally:
        for capability in raised:
            _libc.prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_LOWER, capability, 0, 0)


def _raise_ambient(capability: int) -> bool:
    """Whether the capability had to be, and was, made one that the calling thread hands on."""
    bit = 1 << capability
    permitted, inherited = _status("CapPrm"), _status("CapInh")
    if _status("CapAmb") & bit or not permitted & bit:
        return False
    if not inherited & bit:
        header, data = struct.pack("=Ii", _CAP_VERSION_3, 0), bytearray(24)
        for half in range(2):
            masks = [
                mask >> (32 * half) & 0xFFFFFFFF for mask in (effective_capabilities(), permitted, inherited | bit)
            ]
            struct.pack_into("=III", data, 12 * half, *masks)
        if _libc.capset(header, bytes(data)):
            return False
    return not _libc.prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_RAISE, capability, 0, 0)


def _make() -> None:
    uid, gid = os.getuid(), os.getgid()
    syscalls.unshare(syscalls.CLONE_NEWUSER | syscalls.CLONE_NEWNS)
    for name, text in (("setgroups", "deny"), ("uid_map", f"{uid} {uid} 1"), ("gid_map", f"{gid} {gid} 1")):
        with open(f"/proc/self/{name}", "w") as file:
            file.write(text)
    syscalls.make_mounts_follow()


def _join(pid: int) -> None:
    with ExitStack() as opened:
        here, user, mounts = (
            opened.enter_context(_opened(path)) for path in (".", f"/proc/{pid}/ns/user", f"/proc/{pid}/ns/mnt")
        )
        syscalls.setns(user, syscalls.CLONE_NEWUSER)
        syscalls.setns(mounts, syscalls.CLONE_NEWNS)
        os.fchdir(here)


@contextmanager
def _opened(path: str) -> Iterator[int]:
    fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        yield fd
    finally:
        os.close(fd)


def _mend() -> str:
    for path, bad, line in (
        (
            "/proc/sys/kernel/apparmor_restrict_unprivileged_userns",
            "1",
            "sudo sysctl -w kernel.apparmor_restrict_unprivileged_userns=0",
        ),
        ("/proc/sys/kernel/unprivileged_userns_clone", "0", "sudo sysctl -w kernel.unprivileged_userns_clone=1"),
        ("/proc/sys/user/max_user_namespaces", "0", "sudo sysctl -w user.max_user_namespaces=10000"),
    ):
        try:
            with open(path) as file:
                if file.read().strip() == bad:
                    return line
        except OSError:
            continue
    return "run Colony as root, or in a machine that allows user namespaces"


def _status(key: str) -> int:
    with open("/proc/thread-self/status") as file:
        for line in file:
            if line.startswith(key):
                return int(line.split()[1], 16)
    return 0
