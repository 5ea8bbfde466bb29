"""Where the face listens: a Unix socket that appears whole and with the right mode, and who is at its other end."""

import os
import signal
import socket
import struct
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path

import trio

from colony_core.errors import Invalid, Unreachable, translating

from .auth import Peer

BACKLOG = 128
MAX_PATH_BYTES = 107
"""sockaddr_un.sun_path holds 108 with the closing zero (unix(7))."""
_SO_PEERGROUPS = 59
MOST_GROUPS = 256  # Python asks the kernel for at most 1024 bytes; who is in more groups has none here
_SO_PEERPIDFD = 77  # asm-generic/socket.h, since Linux 6.5; not in Python's socket module


@asynccontextmanager
async def open_unix_listener(path: Path, *, group: int | None = None) -> AsyncIterator[trio.SocketListener]:
    """Listens at `path`; a leftover there is replaced, and what was made is removed at the end.

    It is for this user only, or for a `group` besides, which may then pass through its folder, but not look into it.

    The file is born under another name with its final mode and then renamed: there is never a moment with a wrong mode or without a
    file. Raises Invalid (`socket-path-too-long`) or Unreachable (`socket-not-opened`).
    """
    birth = path.with_name(f".s{os.getpid()}")
    mode = 0o600 if group is None else 0o660
    if len(os.fsencode(path)) > MAX_PATH_BYTES or len(os.fsencode(birth)) > MAX_PATH_BYTES:
        raise Invalid(
            "socket-path-too-long",
            f"{path} is longer than the {MAX_PATH_BYTES} bytes that a Unix socket's name may have",
            "choose a shorter run folder: COLONY_RUN=/run/user/$UID/colony",
        )
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as bare:
        with translating(
            {OSError: lambda e: Unreachable("socket-not-opened", f"{path}: {e}", "is its folder there, and yours?")}
        ):
            path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            birth.unlink(missing_ok=True)
            # On Linux the file takes the mode of the unbound socket; umask is the whole process's and must not be touched.
            os.fchmod(bare.fileno(), mode)
            bare.bind(os.fspath(birth))
            if group is not None:
                os.chown(birth, -1, group)
                os.chown(path.parent, -1, group)
                path.parent.chmod(0o710)
            birth.chmod(mode)
            bare.listen(BACKLOG)
            birth.rename(path)
        made = path.stat().st_ino
        try:
            bare.setblocking(False)
            async with trio.SocketListener(trio.socket.from_stdlib_socket(bare)) as listener:
                yield listener
        finally:
            with suppress(OSError):
                if path.stat().st_ino == made:
                    path.unlink()


def peer_of(stream: trio.SocketStream) -> Peer:
    """Who connected: by the kernel's word at the moment of connecting, its namespace by its process, if that still lives."""
    pid, uid, gid = struct.unpack("3i", stream.socket.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12))
    groups = _groups(stream)
    try:
        pidfd = stream.socket.getsockopt(socket.SOL_SOCKET, _SO_PEERPIDFD)
    except OSError:
        return Peer(pid=pid, uid=uid, gid=gid, netns=_netns(pid), groups=groups)
    try:
        netns = _netns(pid)
        # The number may have gone to another process by now; the descriptor cannot.
        signal.pidfd_send_signal(pidfd, 0)
    except ProcessLookupError:
        netns = None
    except PermissionError:
        pass
    finally:
        os.close(pidfd)
    return Peer(pid=pid, uid=uid, gid=gid, netns=netns, groups=groups)


def _groups(stream: trio.SocketStream) -> frozenset[int]:
    """The peer's further groups; none where the kernel does not tell."""
    try:
        raw = stream.socket.getsockopt(socket.SOL_SOCKET, _SO_PEERGROUPS, 4 * MOST_GROUPS)
    except OSError:
        return frozenset()
    return frozenset(struct.unpack(f"{len(raw) // 4}I", raw))


def _netns(pid: int) -> int | None:
    try:
        return os.stat(f"/proc/{pid}/ns/net").st_ino if pid > 0 else None
    except OSError:
        return None
