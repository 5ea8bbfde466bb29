"""Cells of cardboard: every colony shares the host's network. Used only where a test asks for it by name."""

import socket
from collections.abc import AsyncIterator, Callable, Iterable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, TypeVar

import trio

from colony_core import naming
from colony_core.errors import AlreadyExists

from .cell import Cell, Listener, Nameserver, Socket, Step, Traffic, _listening
from .firewall import EgressReport
from .modes import Mode
from .passages import Passage
from .walls import Isolation

T = TypeVar("T")


class FakeCell(Cell):
    """A cell without walls: its network is that of this process."""

    def __init__(self, name: str, slot: int) -> None:
        self.name = name
        self.slot = slot
        self.address = self.gateway = "127.0.0.1"
        self.link = "lo"
        self.path = Path("/proc/self/ns/net")
        self.inode = self.path.stat().st_ino
        self.steps = (Step("namespace", 0.0, "fake"), Step("veth", 0.0, "fake"))
        self.fd = 0
        self.routed = self.egress = True

    async def socket(self, family: int = socket.AF_INET, kind: int = socket.SOCK_STREAM) -> Socket:
        """A socket of this process's network."""
        self._check()
        await trio.lowlevel.checkpoint()
        return socket.socket(family, kind | socket.SOCK_CLOEXEC)

    async def listeners(self) -> tuple[Listener, ...]:
        """Every listening TCP socket of this process's network."""
        self._check()
        await trio.lowlevel.checkpoint()
        with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, 4) as sock:
            return tuple(found for family in (socket.AF_INET, socket.AF_INET6) for found in _listening(sock, family))

    async def traffic(self) -> Traffic:
        """None: there is no cable."""
        self._check()
        await trio.lowlevel.checkpoint()
        return Traffic()

    async def pids(self) -> tuple[int, ...]:
        """Nobody: who belongs to a cell without walls cannot be told."""
        self._check()
        await trio.lowlevel.checkpoint()
        return ()

    async def kill(self) -> int:
        """Kills nobody."""
        self._check()
        await trio.lowlevel.checkpoint()
        return 0

    def nameservers(self, of_host: Iterable[str]) -> tuple[Nameserver, ...]:
        """None: whatever the host's programs ask, they ask the host."""
        return ()

    async def own(self, address: str, *, seconds: int = 0) -> None:
        """Nothing: the loopback here is the host's."""
        await trio.lowlevel.checkpoint()

    async def disown(self, address: str) -> None:
        """Nothing, as well."""
        await trio.lowlevel.checkpoint()


class FakeIsolation(Isolation):
    """Cells of cardboard, with the names and slots of real ones."""

    def __init__(self) -> None:
        self.mode = Mode.ROOTLESS
        self.egress = EgressReport(True, "the host's own: these walls are fakes")
        self.trouble = ""
        self.standing: dict[str, FakeCell] = {}

    @property
    def netns_dir(self) -> Path | None:
        """Nowhere."""
        return None

    @property
    def networks(self) -> tuple[int, ...]:
        """None of their own."""
        return ()

    async def allow(self, passages: Iterable[Passage]) -> None:
        """Nothing: cardboard keeps nobody from anybody."""
        await trio.lowlevel.checkpoint()

    async def build(self, name: str, *, slot: int | None = None) -> Cell:
        """A cell of cardboard; raises AlreadyExists as a real one would."""
        naming.check_colony_name(name)
        await trio.lowlevel.checkpoint()
        if name in self.standing:
            raise AlreadyExists("cell-exists", f"namespace {naming.namespace_name(name)} exists", f"colony rm {name}")
        taken = {cell.slot for cell in self.standing.values()}
        if slot is None or slot in taken:
            slot = next(n for n in range(len(taken) + 1) if n not in taken)
        cell = self.standing[name] = FakeCell(name, slot)
        return cell

    async def adopt(self, name: str) -> Cell | None:
        """Nothing: cardboard does not outlive its process."""
        naming.check_colony_name(name)
        await trio.lowlevel.checkpoint()
        return None

    async def destroy(self, cell: Cell) -> None:
        """Forgets the cell."""
        await trio.lowlevel.checkpoint()
        cell.fd = -1
        if self.standing.get(cell.name) is cell:
            del self.standing[cell.name]

    async def release(self, cell: Cell) -> None:
        """As `destroy`: nothing would be left standing."""
        await self.destroy(cell)

    async def found(self) -> tuple[str, ...]:
        """The names of the standing cells."""
        await trio.lowlevel.checkpoint()
        return tuple(sorted(self.standing))

    async def clear(self, name: str) -> None:
        """Forgets the cell of that name."""
        await trio.lowlevel.checkpoint()
        cell = self.standing.pop(naming.check_colony_name(name), None)
        if cell is not None:
            cell.fd = -1

    async def run_in_thread(self, fn: Callable[..., T], *args: Any) -> T:
        """`fn(*args)`, here and now."""
        await trio.lowlevel.checkpoint()
        return fn(*args)


@asynccontextmanager
async def open_fake_isolation(*, run_dir: Path | None = None) -> AsyncIterator[FakeIsolation]:
    """Walls of cardboard; `run_dir` is taken so that they can stand in for real ones."""
    yield FakeIsolation()
