"""Listening sockets, and who holds a port that is taken."""

import errno
import grp
import ipaddress
import os
import re
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import trio

from colony_core.errors import AlreadyExists, ColonyError, Invalid, NotAllowed, NotFound

BACKLOG = 512
ASK_AFTER_SECONDS, ASK_EACH_SECONDS, ASKED_TIMES = 15, 5, 3
LOST_SECONDS = 30
"""Who is silent for so long though something waits for an answer, data or the kernel's own question, has vanished (tcp(7))."""
_LISTENING = "0A"
_SOCKET_LINK = re.compile(r"socket:\[(\d+)\]")


async def open_tcp_listener(host: str, port: int, *, what: str, config_key: str) -> trio.SocketListener:
    """Listens on an IP address and port (0: any free one); the socket is not inherited by children.

    A client that vanishes without a word ends its connection within a minute, also where nobody writes to it.
    Raises AlreadyExists (`port-taken`) naming the process that holds the port where that can be known, NotAllowed or Invalid; `what`
    ("the preview proxy") and `config_key` ("routing.port") make the message. The caller closes the listener.
    """
    family = socket.AF_INET6 if ipaddress.ip_address(host).version == 6 else socket.AF_INET
    sock = trio.socket.socket(family, socket.SOCK_STREAM)
    try:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if family == socket.AF_INET6:
            sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        await sock.bind((host, port))
        _notice_the_lost(sock)
        sock.listen(BACKLOG)
    except OSError as error:
        sock.close()
        holder = await trio.to_thread.run_sync(port_holder, port) if error.errno == errno.EADDRINUSE else None
        raise _refused(error, host, port, what=what, config_key=config_key, holder=holder) from error
    except BaseException:
        sock.close()
        raise
    return trio.SocketListener(sock)


@asynccontextmanager
async def open_unix_listener(path: Path, *, group: str = "") -> AsyncIterator[trio.SocketListener]:
    """Listens at `path`, for this user alone or also for `group`; a leftover there is replaced, and nothing stays at the end.

    Raises NotFound (`no-such-group`), NotAllowed (`socket-not-allowed`) where the group is not ours to give, Invalid (`socket-not-usable`).
    """
    try:
        number = grp.getgrnam(group).gr_gid if group else -1
    except KeyError:
        raise NotFound("no-such-group", f"there is no group {group}", "mend caddy.group") from None
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as bare:
        try:
            path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            path.unlink(missing_ok=True)
            os.fchmod(bare.fileno(), 0o600)  # the file is born with this mode
            bare.bind(os.fspath(path))
            if group:
                for place, mode in ((path, 0o660), (path.parent, 0o710)):
                    os.chown(place, -1, number)
                    place.chmod(mode)
            bare.listen(BACKLOG)
        except PermissionError as error:
            path.unlink(missing_ok=True)
            hint = f"be root or a member of {group}" if group else "is its folder yours?"
            raise NotAllowed("socket-not-allowed", f"{path}: {error.strerror}", hint) from error
        except OSError as error:
            raise Invalid("socket-not-usable", f"{path}: {error}", "choose a shorter run folder: COLONY_RUN") from error
        bare.setblocking(False)
        try:
            async with trio.SocketListener(trio.socket.from_stdlib_socket(bare)) as listener:
                yield listener
        finally:
            path.unlink(missing_ok=True)


def port_holder(port: int, proc: Path = Path("/proc")) -> tuple[int, str] | None:
    """Process id and command name of a process that listens on a TCP port in this network namespace; None where it cannot be known."""
    inodes = _listening_inodes(port, proc)
    if not inodes:
        return None
    for process in proc.iterdir():
        if not process.name.isdigit():
            continue
        try:
            for link in (process / "fd").iterdir():
                found = _SOCKET_LINK.fullmatch(str(link.readlink()))
                if found and found[1] in inodes:
                    return int(process.name), (process / "comm").read_text(errors="replace").strip()
        except OSError:
            continue  # it has ended, or belongs to somebody else
    return None


def _notice_the_lost(sock: trio.socket.SocketType) -> None:
    """For all that a socket will accept, which have their options from it."""
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, ASK_AFTER_SECONDS)
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPINTVL, ASK_EACH_SECONDS)
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPCNT, ASKED_TIMES)
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, LOST_SECONDS * 1000)


def _listening_inodes(port: int, proc: Path) -> set[str]:
    inodes = set()
    for table in ("tcp", "tcp6"):
        try:
            lines = (proc / "net" / table).read_text().splitlines()[1:]
        except OSError:
            continue
        for line in lines:
            fields = line.split()
            if len(fields) > 9 and fields[3] == _LISTENING and int(fields[1].rpartition(":")[2], 16) == port:
                inodes.add(fields[9])
    return inodes


def _refused(
    error: OSError, host: str, port: int, *, what: str, config_key: str, holder: tuple[int, str] | None
) -> ColonyError:
    place = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
    details = {"host": host, "port": port}
    another = f"set {config_key} to another port (0 takes any free one)"
    if error.errno == errno.EADDRINUSE:
        if holder is None:
            message = f"{what} cannot listen on {place}: another process holds the port"
            return AlreadyExists(
                "port-taken", message, f"{another}; `ss -ltnp` as root shows who holds it", details=details
            )
        pid, command = holder
        message = f"{what} cannot listen on {place}: {command} (process {pid}) holds the port"
        return AlreadyExists(
            "port-taken", message, f"stop it, or {another}", details={**details, "pid": pid, "command": command}
        )
    if error.errno in (errno.EACCES, errno.EPERM):
        message = f"{what} may not listen on {place}: {error.strerror}"
        return NotAllowed("port-not-allowed", message, f"ports below 1024 are root's; {another}", details=details)
    message = f"{what} cannot listen on {place}: {error.strerror}"
    return Invalid(
        "address-not-usable",
        message,
        f"set {config_key.rpartition('.')[0]}.bind to an address of this machine",
        details=details,
    )
