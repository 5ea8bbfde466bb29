"""One colony's walls, as a handle: what they are, and sockets that are born inside them."""

import errno
import ipaddress
import os
import signal
import socket
import struct
from collections.abc import Iterable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

import attrs
import trio

from colony_core.errors import TooSlow

from .addresses import Addresses
from .netlink import (
    CELL_INDEX,
    FOR_EVER,
    STATS64,
    NetlinkError,
    drop_loopback_address,
    find_link,
    loopback_address,
    messages,
    transact,
)

if TYPE_CHECKING:
    from .kernel import Kernel

Socket = socket.socket  # the classes below have a method of that name
NETLINK_SOCK_DIAG = 4
SOCK_DIAG_BY_FAMILY = 20
TCP_LISTEN = 10
KILL_SECONDS = 10.0
LONGEST_PAUSE_SECONDS = 0.1
ROUNDS_MAX = 5
LINKS_OF_ONE_THREAD = 3
"""Of /proc/PID/task: two of every folder, and one for each thread."""


@attrs.frozen
class Step:
    """One step of building, and the seconds it took."""

    name: str
    seconds: float
    detail: str = ""


@attrs.frozen
class Listener:
    """A TCP socket of the cell that listens."""

    address: str
    port: int


@attrs.frozen
class Traffic:
    """Bytes that crossed a cell's cable, as the cell sees them; what stays on its loopback does not count."""

    received: int = 0
    sent: int = 0


@attrs.frozen
class Nameserver:
    """An address of the host's resolv.conf, for which a socket inside the cell answers.

    `passes_on`: what is not a colony's name is asked of the host's resolver. `stands_in`: the cell reaches that resolver itself, when
    nobody answers in here. `given`: the address is not the cell's until it is given to it.
    """

    address: str
    passes_on: bool
    stands_in: bool
    given: bool


class Cell:
    """A namespace with its cable and addresses. Made and ended by Isolation; a destroyed cell answers every call with OSError."""

    def __init__(
        self, kernel: "Kernel", name: str, at: Addresses, *, fd: int, path: Path, steps: tuple[Step, ...]
    ) -> None:
        self.name = name
        self.slot = at.slot
        self.address = at.cell_ip
        self.gateway = at.host_ip
        self.link = at.link
        self.ifindex = at.ifindex
        self.path = path
        self.inode = os.fstat(fd).st_ino
        self.steps = steps
        self.fd = fd
        self.routed = True
        """Whether it is left to the cable what gets out; told by Isolation."""
        self.egress = True
        """Whether the cell is meant to reach the outside; told by Isolation."""
        self._kernel = kernel

    def __repr__(self) -> str:
        return f"<Cell {self.name} {self.address} on {self.link}>"

    async def socket(self, family: int = socket.AF_INET, kind: int = socket.SOCK_STREAM) -> Socket:
        """A socket of the cell's network; it stays one wherever it is used, and keeps the namespace alive until it is closed."""
        return await self._kernel.run(self._socket, family, kind, 0)

    async def connect(self, port: int) -> trio.SocketStream:
        """A connection to a port of the cell: on 127.0.0.1, else on ::1, else on the cell's own address.

        Raises OSError if nobody listens.
        """
        error: OSError | None = None
        for family, address in (
            (socket.AF_INET, "127.0.0.1"),
            (socket.AF_INET6, "::1"),
            (socket.AF_INET, self.address),
        ):
            try:
                sock = trio.socket.from_stdlib_socket(await self.socket(family))
                try:
                    await sock.connect((address, port))
                    return trio.SocketStream(sock)
                except BaseException:
                    sock.close()
                    raise
            except OSError as refused:
                error = error or refused
        assert error is not None
        try:
            raise error
        finally:
            del error  # it holds this frame

    async def listeners(self) -> tuple[Listener, ...]:
        """Every listening TCP socket of the cell, asked of the kernel directly (about 30 µs)."""
        return await self._kernel.run(self._listeners)

    async def traffic(self) -> Traffic:
        """What has crossed the cable since the cell was built."""
        return await self._kernel.run(self._traffic)

    async def pids(self) -> tuple[int, ...]:
        """Every process of the cell, found by its namespace, whoever started it."""
        self._check()
        return await trio.to_thread.run_sync(pids_in, self.inode)

    async def kill(self) -> int:
        """Kills every process of the cell and returns how many there were; looks again until nobody is left.

        Raises TooSlow (`unkillable`) naming those who are still there after ten seconds (uninterruptible sleep).
        """
        self._check()
        return await kill_namespace(self.inode)

    def nameservers(self, of_host: Iterable[str]) -> tuple[Nameserver, ...]:
        """How each of the host's nameservers is answered for in here; without any it is 127.0.0.1, as resolv.conf(5) has it."""
        return tuple(self._nameserver(address) for address in dict.fromkeys(of_host) or ("127.0.0.1",))

    def _nameserver(self, address: str) -> Nameserver:
        loopback = ipaddress.ip_address(address).is_loopback
        reached = self.routed and self.egress and not loopback and ":" not in address
        return Nameserver(address, passes_on=loopback or self.egress, stands_in=reached, given=not loopback)

    async def own(self, address: str, *, seconds: int = FOR_EVER) -> None:
        """Gives the cell's loopback an address more, for so many seconds from now, so that a socket inside can answer for it."""
        await self._kernel.run(self._loopback, loopback_address(address, seconds=seconds), errno.EEXIST)

    async def disown(self, address: str) -> None:
        """Takes such an address away again; one that is not there is fine."""
        await self._kernel.run(self._loopback, drop_loopback_address(address), errno.EADDRNOTAVAIL)

    def _loopback(self, request: bytes, fine: int) -> None:
        with self._socket(socket.AF_NETLINK, socket.SOCK_RAW, socket.NETLINK_ROUTE) as sock:
            try:
                transact(sock, request, 1)
            except NetlinkError as error:
                if error.errno != fine:
                    raise

    def _traffic(self) -> Traffic:
        with self._socket(socket.AF_NETLINK, socket.SOCK_RAW, socket.NETLINK_ROUTE) as sock:
            found = find_link(sock, ifindex=CELL_INDEX, statistics=True)
        if found is None or (counters := found[1].get(STATS64)) is None:
            return Traffic()
        _, _, received, sent = struct.unpack_from("=QQQQ", counters)
        return Traffic(received, sent)

    def _check(self) -> None:
        """A number of a namespace is given again as soon as it is gone: whoever asks after that would mean another cell."""
        if self.fd < 0:
            raise ConnectionRefusedError(errno.ECONNREFUSED, f"cell {self.name} is gone")

    def _socket(self, family: int, kind: int, protocol: int) -> Socket:
        self._check()
        with self._kernel.inside(self.fd):
            return socket.socket(family, kind | socket.SOCK_CLOEXEC, protocol)

    def _listeners(self) -> tuple[Listener, ...]:
        with self._socket(socket.AF_NETLINK, socket.SOCK_RAW, NETLINK_SOCK_DIAG) as sock:
            return tuple(found for family in (socket.AF_INET, socket.AF_INET6) for found in _listening(sock, family))


def _listening(sock: socket.socket, family: int) -> Iterator[Listener]:
    request = struct.pack("=BBBBI", family, socket.IPPROTO_TCP, 0, 0, 1 << TCP_LISTEN) + bytes(48)
    sock.send(struct.pack("=IHHII", 16 + len(request), SOCK_DIAG_BY_FAMILY, 0x301, 1, 0) + request)
    while True:
        for kind, _, payload in messages(sock.recv(1 << 17)):
            if kind != SOCK_DIAG_BY_FAMILY:
                return
            (port,) = struct.unpack_from(">H", payload, 4)
            size = 4 if family == socket.AF_INET else 16
            yield Listener(socket.inet_ntop(family, payload[8 : 8 + size]), port)


async def kill_namespace(inode: int, *, scanning: trio.CapacityLimiter | None = None) -> int:
    """Kills every process in the network namespace `inode` until none is found, and returns how many there were.

    `scanning` bounds how many threads look through /proc at once: each holds the interpreter, and the loop waits. Not to be cancelled,
    but bounded: raises TooSlow (`unkillable`) naming who is left after ten seconds.
    """
    killed: set[int] = set()
    pause = 0.001
    with trio.move_on_after(KILL_SECONDS, shield=True):
        while pids := await trio.to_thread.run_sync(_kill_once, inode, limiter=scanning):
            killed.update(pids)
            await trio.sleep(pause)
            pause = min(2 * pause, LONGEST_PAUSE_SECONDS)
        return len(killed)
    left = ", ".join(str(pid) for pid in pids_in(inode))
    raise TooSlow(
        "unkillable",
        f"processes {left} do not die within {KILL_SECONDS:g} s",
        "they wait for the kernel (state D in ps), or belong to somebody else; look at dmesg",
    )


def pids_in(inode: int) -> tuple[int, ...]:
    """The processes that live in a network namespace; zombies without living threads do not count. Never this process.

    To look at all takes a while, in which some die and leave a child that was not listed: that is looked at as well.
    """
    looked, found = {os.getpid()}, []
    for _ in range(ROUNDS_MAX):
        new = [pid for name in os.listdir("/proc") if name.isdigit() and (pid := int(name)) not in looked]
        if not new:
            break
        looked.update(new)
        found += [pid for pid in new if _lives_in(pid, inode)]
    return tuple(found)


def _kill_once(inode: int) -> tuple[int, ...]:
    found = pids_in(inode)
    for pid in found:
        with suppress(ProcessLookupError, PermissionError):
            process = os.pidfd_open(pid)
            try:
                if _lives_in(
                    pid, inode
                ):  # looked at again behind the descriptor: the number may be somebody else's by now
                    signal.pidfd_send_signal(process, signal.SIGKILL)
            finally:
                os.close(process)
    return found


def _lives_in(pid: int, inode: int) -> bool:
    """Decided by the leader; by the other threads only where it is a zombie (a leader may end before its threads)."""
    found = namespace_of(f"/proc/{pid}")
    if found is not None:
        return found == inode
    try:
        if os.stat(f"/proc/{pid}/task").st_nlink <= LINKS_OF_ONE_THREAD:
            return False
        threads = os.listdir(f"/proc/{pid}/task")
    except OSError:
        return False
    return any(namespace_of(f"/proc/{pid}/task/{thread}") == inode for thread in threads)


def namespace_of(task: str) -> int | None:
    """The network namespace of a task's folder in /proc; None for what is gone or a zombie, 0 where it is not ours to see."""
    try:
        return os.stat(f"{task}/ns/net").st_ino
    except (FileNotFoundError, ProcessLookupError):  # gone, or a zombie
        return None
    except PermissionError:  # not ours to look at, so not ours to kill
        return 0
