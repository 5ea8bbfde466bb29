"""All cells of one daemon: builds them, finds them again, takes them down, and gives a slot away only when the kernel has let it go.

The file is long because the life of a slot is told in it, from its taking to its freeing.
"""

import errno
import logging
import socket
import struct
from collections.abc import AsyncIterator, Callable, Iterable
from contextlib import asynccontextmanager, suppress
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import trio

from colony_core import naming
from colony_core.errors import AlreadyExists, Broken, ColonyError, LimitReached, Missing, TooSlow, translating
from colony_core.supervision import Status

from . import netlink
from .addresses import FIRST_IFINDEX, Addresses
from .builder import Builder, LinkNameTakenError, LinkTakenError
from .cell import Cell, kill_namespace
from .firewall import EgressReport
from .kernel import Kernel
from .modes import Mode
from .passages import Passage, Passages

logger = logging.getLogger("colony.isolation")
T = TypeVar("T")
MOST_CLOSING = 8
"""Namespaces that are let go at the same time: while the kernel cleans up a large batch, nothing else of its networking moves."""
CLOSING_SECONDS = 0.05
LOOK_UP_PAUSE_SECONDS = 0.05
STUCK_SECONDS = 5.0
"""A socket that somebody still holds keeps a dead cell's cable alive; after this long the cable is removed under it."""
SETTLE_SECONDS = 0.5
"""At the end of the daemon nobody has five seconds."""


class Isolation:
    """Builds and ends cells. Made by `open_isolation`."""

    def __init__(
        self,
        kernel: Kernel,
        builder: Builder,
        *,
        mode: Mode,
        egress: EgressReport,
        routed: bool,
        passages: Passages,
        news: trio.socket.SocketType,
    ) -> None:
        self.mode = mode
        self.plan = builder.plan
        self.egress = egress
        self._kernel = kernel
        self._builder = builder
        self._routed = routed
        self._passages = passages
        self._news = news
        self._scanning = trio.CapacityLimiter(1)
        self._busy: set[int] = set()
        """Slots with a cable in the kernel, or one about to be there; whoever's it is."""
        self._building: dict[int, str] = {}
        self._standing: dict[int, Cell] = {}
        self._ending: set[int] = set()
        """Slots whose processes are being killed; whatever becomes of their cables meanwhile, nobody else may have them yet."""
        self._leaving: dict[int, float] = {}
        """Slots whose cells were let go, and when; busy until the kernel says that the cable is gone."""
        self.trouble = ""
        """Why the firewall does not have the passages that are wanted."""
        self._dying: set[str] = set()
        """Colonies whose cells are coming down: nobody is let to them any more, though they are still bound by name."""
        self._spoiled: set[int] = set()
        """Slots that nobody may have any more: the firewall would not forget whom their addresses may reach."""
        self._changed = trio.Event()

    @property
    def netns_dir(self) -> Path | None:
        """Where namespaces are bound by name; None where they are not bound at all."""
        return self._builder.folder

    @property
    def networks(self) -> tuple[int, ...]:
        """The inodes of the namespaces of all cells that stand."""
        return tuple(cell.inode for cell in self._standing.values())

    async def allow(self, passages: Iterable[Passage]) -> None:
        """Lets these colonies reach those others and nobody else anybody, as soon as and as long as both have a cell.

        Raises Missing (`nft-missing`), Broken (`firewall`, `no-forwarding`); what could not be opened or closed is tried again at every
        change.
        """
        self._passages.wanted = frozenset(passages)
        await self._open_passages()

    async def build(self, name: str, *, slot: int | None = None) -> Cell:
        """A cell, up at both ends; `slot` is taken if it is free. Half-built or cancelled, nothing of it stays.

        Raises AlreadyExists (`cell-exists`), LimitReached (`no-address`, `too-many`), TooSlow (`cable-down`), Missing (`no-rights`), Broken
        (`cell-failed`) with the kernel's words.
        """
        naming.check_colony_name(name)
        if name in self._building.values() or any(cell.name == name for cell in self._standing.values()):
            raise _exists(name)
        if self._passages.unsure:
            await self._open_passages()  # an earlier daemon's may lead to an address that is about to be given away
        while True:
            at = self._take_slot(slot) or await self._find_slot()
            self._building[at.slot] = name
            try:
                cell = await self._kernel.run(self._builder.build, name, at)
            except LinkTakenError:
                slot = None  # somebody else's cable: its slot stays busy until that is gone
                continue
            except BaseException as error:
                self._busy.discard(at.slot)
                if isinstance(error, OSError):
                    raise _refused(name, error) from error
                raise
            finally:
                del self._building[at.slot]
            self._take_in(cell)
            await self._try_to_open(cell)
            return cell

    async def adopt(self, name: str) -> Cell | None:
        """The whole cell that an earlier daemon left under `name`, or None; what is not whole is for `clear`."""
        naming.check_colony_name(name)
        if any(cell.name == name for cell in self._standing.values()):
            return None
        try:
            cell = await self._kernel.run(self._builder.adopt, name)
        except OSError:
            return None
        if cell is None or cell.slot in self._standing or cell.slot in self._leaving or cell.slot in self._building:
            if cell is not None:
                await self._kernel.run(self._builder.release, cell)
            return None
        self._take_in(cell)
        await self._try_to_open(cell)
        return cell

    async def destroy(self, cell: Cell) -> None:
        """Kills what runs in the cell and lets go of it; returns before the kernel has removed the last of it. Twice is fine.

        Cancelled or not, the cell is let go. Raises TooSlow (`unkillable`) after that, if a process would not die.
        """
        if self._standing.get(cell.slot) is not cell:
            return
        del self._standing[cell.slot]
        self._ending.add(cell.slot)
        self._dying.add(name := cell.name)
        with trio.CancelScope(shield=True):
            try:
                await self._close_to(cell)
                await kill_namespace(cell.inode, scanning=self._scanning)
            finally:
                await self._let_go(cell)
                self._dying.discard(name)

    async def release(self, cell: Cell) -> None:
        """Closes our handle on a cell and leaves it standing for the next daemon."""
        if self._standing.get(cell.slot) is cell:
            del self._standing[cell.slot]
            await self._kernel.run(self._builder.release, cell)

    async def found(self) -> tuple[str, ...]:
        """The names of all colonies whose namespaces we have bound; where nothing is bound, of those that stand."""
        if self.netns_dir is None:
            return tuple(sorted(cell.name for cell in self._standing.values()))
        return await self._kernel.run(self._builder.found)

    async def clear(self, name: str) -> None:
        """Removes what is left of ours under `name`: processes, cable, binding, also half-built ones. Nothing there is fine.

        A namespace or a link that somebody else made is left alone; `build` will say that it is in the way.
        """
        naming.check_colony_name(name)
        for cell in [cell for cell in self._standing.values() if cell.name == name]:
            await self.destroy(cell)
        self._dying.add(name)
        try:
            await self._open_passages()
            await self._clear(name)
        finally:
            self._dying.discard(name)

    async def _clear(self, name: str) -> None:
        with translating({OSError: partial(_refused, name)}):
            inode = await self._kernel.run(self._builder.bound, name)
            if inode is not None:
                await kill_namespace(inode, scanning=self._scanning)
            slot = await self._kernel.run(self._builder.unbind_all, name)
        if slot is not None and slot not in self._standing and slot not in self._building:
            self._leaving.setdefault(slot, trio.current_time())
            self._stir()

    @asynccontextmanager
    async def open_cell(self, name: str, *, slot: int | None = None) -> AsyncIterator[Cell]:
        """Builds the walls of one colony and takes them down again when the block ends."""
        cell = await self.build(name, slot=slot)
        try:
            yield cell
        finally:
            await self.destroy(cell)

    async def run_in_thread(self, fn: Callable[..., T], *args: Any) -> T:
        """`fn(*args)` in the kernel thread, in the network where the hosts' ends are. For short calls: every cell waits behind it."""
        return await self._kernel.run(fn, *args)

    async def _find_slot(self) -> Addresses:
        """A slot that is busy in our books only. Raises LimitReached (`no-address`)."""
        with suppress(OSError):
            await self._look_up()
        if (at := self._take_slot(None)) is None:
            raise LimitReached(
                "no-address",
                f"{self.plan.base} has no room for more colonies",
                "set isolation.base to a larger network",
            )
        return at

    def _take_slot(self, wanted: int | None) -> Addresses | None:
        if wanted is not None and wanted not in self._busy and 0 <= wanted < self.plan.capacity:
            slot = wanted
        else:
            free = (n for n in range(self.plan.capacity) if n not in self._busy)
            slot = next(free, self.plan.capacity)
        if slot == self.plan.capacity:
            return None
        self._busy.add(slot)
        return self.plan.addresses(slot)

    def _take_in(self, cell: Cell) -> None:
        cell.routed, cell.egress = self._routed, self._passages.egress
        self._busy.add(cell.slot)
        self._standing[cell.slot] = cell

    async def _open_passages(self) -> None:
        if self._passages.idle:
            return
        addresses: dict[str, str | None] = {cell.name: cell.address for cell in self._standing.values()}
        addresses |= dict.fromkeys(self._dying)
        try:
            with translating({OSError: _not_opened}):
                await self._kernel.run(self._passages.open, addresses)
        except ColonyError as error:
            self.trouble = error.message
            raise
        self.trouble = ""

    async def _try_to_open(self, cell: Cell) -> None:
        """A cell is whole without its passages: where they are refused it says so, and stands. Cancelled, it is for whoever asked."""
        try:
            with trio.CancelScope(shield=True):
                await self._open_passages()
        except ColonyError as error:
            logger.error("%s: its links are not open: %s", cell.name, error)

    async def _close_to(self, cell: Cell) -> None:
        """Before its address can be anybody else's; where that is refused, it never is, while this daemon lives."""
        try:
            await self._open_passages()
        except ColonyError as error:
            logger.error("%s: its links stay open, and its address is not given away: %s", cell.name, error)
            self._spoiled.add(cell.slot)

    async def _let_go(self, cell: Cell) -> None:
        while self._closing_now() >= MOST_CLOSING:
            with trio.move_on_after(CLOSING_SECONDS / 5):
                await self._changed.wait()
        self._ending.discard(cell.slot)
        self._leaving[cell.slot] = trio.current_time()
        self._stir()
        await self._kernel.run(self._builder.drop, cell)

    def _closing_now(self) -> int:
        recently = trio.current_time() - CLOSING_SECONDS
        return sum(since > recently for since in self._leaving.values())

    async def _hear_links(self, *, status: Status) -> None:
        """Frees the slots of cables that are gone; the kernel tells, and what it may have told too fast is looked up."""
        fell = status.previous is not None
        status.started(self)
        if fell:
            await self._look_up_again()
        while True:
            try:
                data = await self._news.recv(1 << 16)
            except OSError:  # ENOBUFS: some news was lost
                await self._look_up_again()
                continue
            for kind, _, payload in netlink.messages(data):
                if kind == netlink.DELLINK and payload[0] == socket.AF_UNSPEC:  # a bridge says so of ports that live on
                    self._free(struct.unpack_from("=i", payload, 4)[0] - FIRST_IFINDEX)

    async def _look_up_again(self) -> None:
        """Looks up until it succeeds: an answer of the kernel can itself be disturbed by what changes meanwhile."""
        while True:
            try:
                return await self._look_up()
            except OSError:
                await trio.sleep(LOOK_UP_PAUSE_SECONDS)

    async def _look_up(self) -> None:
        """What is busy in the kernel, asked anew."""
        there = {ifindex - FIRST_IFINDEX for ifindex in await self._kernel.run(self._builder.links)}
        for slot in self._busy - there:
            self._free(slot)
        self._busy |= {slot for slot in there if 0 <= slot < self.plan.capacity}

    def _free(self, slot: int) -> None:
        if slot not in self._standing and slot not in self._building and slot not in self._ending:
            if slot not in self._spoiled:
                self._busy.discard(slot)
            if self._leaving.pop(slot, None) is not None:
                self._stir()

    async def _reap(self, *, status: Status) -> None:
        """Removes the cables of dead cells that somebody's socket keeps alive."""
        status.started()
        while True:
            while not self._leaving:
                await self._changed.wait()
            oldest, since = min(self._leaving.items(), key=lambda item: item[1])
            await trio.sleep_until(since + STUCK_SECONDS)
            if self._leaving.get(oldest) == since:
                await self._cut(oldest)

    async def _settle(self) -> None:
        """Before the end: what is leaving is gone, if need be by force."""
        with trio.move_on_after(SETTLE_SECONDS):
            while self._leaving:
                await self._changed.wait()
        for slot in list(self._leaving):
            await self._cut(slot)

    async def _cut(self, slot: int) -> None:
        if slot in self._standing or slot in self._building:  # gone unheard, and given away again
            self._leaving.pop(slot, None)
            return
        try:
            await self._kernel.run(self._builder.delete_link, FIRST_IFINDEX + slot)
        except OSError:
            self._leaving[slot] = trio.current_time()  # asked again later
        else:
            self._free(slot)

    def _stir(self) -> None:
        changed, self._changed = self._changed, trio.Event()
        changed.set()


def _not_opened(error: OSError) -> ColonyError:
    return Broken("firewall", f"the cells' addresses could not be read: {error.strerror or error}", "colony doctor")


def _exists(name: str) -> AlreadyExists:
    return AlreadyExists("cell-exists", f"namespace {naming.namespace_name(name)} exists", f"colony rm {name}")


def _refused(name: str, error: OSError) -> ColonyError:
    """What the kernel said to a cell, as a situation."""
    said = f"the kernel refused the walls of {name}: {error.strerror or error}"
    if isinstance(error, FileExistsError):
        bound = naming.namespace_name(name)
        hint = f"choose another name, or if nothing uses it: sudo ip netns del {bound}"
        return AlreadyExists("cell-exists", f"namespace {bound} exists, and is not of this daemon's making", hint)
    if isinstance(error, LinkNameTakenError):
        return AlreadyExists("link-exists", said, f"ip link show {naming.host_link_alias(name)}")
    if isinstance(error, TimeoutError):
        return TooSlow("cable-down", f"the cable of {name} did not come up: {error.strerror}", "colony doctor")
    if error.errno in (errno.EMFILE, errno.ENFILE):
        return LimitReached(
            "too-many", said, "raise the limit of open files: ulimit -n 65536, or LimitNOFILE in the unit"
        )
    if error.errno == errno.ENOSPC:
        return LimitReached(
            "too-many", said, "sudo sysctl -w user.max_net_namespaces=65536 user.max_mnt_namespaces=65536"
        )
    if error.errno in (errno.EPERM, errno.EACCES):
        return Missing("no-rights", said, "colony doctor")
    return Broken("cell-failed", said, "colony doctor")
