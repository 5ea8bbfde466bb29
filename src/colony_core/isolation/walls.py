"""All cells of one daemon: builds them, finds them again, takes them down, and gives a slot away only when the kernel has let it go."""

import errno
import os
import socket
import struct
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import trio

from colony_core import naming
from colony_core.errors import AlreadyExists, Broken, ColonyError, LimitReached, Missing, TooSlow, translating

from . import firewall, netlink, syscalls
from .addresses import FIRST_IFINDEX, Addresses, AddressPlan
from .builder import Builder, LinkNameTakenError, LinkTakenError
from .cell import Cell, kill_namespace
from .firewall import EgressReport
from .kernel import Kernel, open_kernel
from .modes import SYSTEM_FOLDER, Mode

T = TypeVar("T")
RTMGRP_LINK = 1
MOST_CLOSING = 8
"""Namespaces that are let go at the same time: while the kernel cleans up a large batch, nothing else of its networking moves."""
CLOSING_SECONDS = 0.05
STUCK_SECONDS = 5.0
"""A socket that somebody still holds keeps a dead cell's cable alive; after this long the cable is removed under it."""
SETTLE_SECONDS = 0.5
"""At the end of the daemon nobody has five seconds."""
FORWARD_NOTE = "ip_forward.before"


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
        news: trio.socket.SocketType,
    ) -> None:
        self.mode = mode
        self.plan = builder.plan
        self.egress = egress
        self._kernel = kernel
        self._builder = builder
        self._routed = routed
        self._news = news
        self._busy: set[int] = set()
        """Slots with a cable in the kernel, or one about to be there; whoever's it is."""
        self._building: dict[int, str] = {}
        self._standing: dict[int, Cell] = {}
        self._ending: set[int] = set()
        """Slots whose processes are being killed; whatever becomes of their cables meanwhile, nobody else may have them yet."""
        self._leaving: dict[int, float] = {}
        """Slots whose cells were let go, and when; busy until the kernel says that the cable is gone."""
        self._changed = trio.Event()

    @property
    def netns_dir(self) -> Path | None:
        """Where namespaces are bound by name; None where they are not bound at all."""
        return self._builder.folder

    async def build(self, name: str, *, slot: int | None = None) -> Cell:
        """A cell, up at both ends; `slot` is taken if it is free. Half-built or cancelled, nothing of it stays.

        Raises AlreadyExists (`cell-exists`), LimitReached (`no-address`, `too-many`), TooSlow (`cable-down`), Missing (`no-rights`), Broken
        (`cell-failed`) with the kernel's words.
        """
        naming.check_colony_name(name)
        if name in self._building.values() or any(cell.name == name for cell in self._standing.values()):
            raise _exists(name)
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
            return self._take_in(cell)

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
        return self._take_in(cell)

    async def destroy(self, cell: Cell) -> None:
        """Kills what runs in the cell and lets go of it; returns before the kernel has removed the last of it. Twice is fine.

        Cancelled or not, the cell is let go. Raises TooSlow (`unkillable`) after that, if a process would not die.
        """
        if self._standing.get(cell.slot) is not cell:
            return
        del self._standing[cell.slot]
        self._ending.add(cell.slot)
        with trio.CancelScope(shield=True):
            try:
                await kill_namespace(cell.inode)
            finally:
                await self._let_go(cell)

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
        with translating({OSError: partial(_refused, name)}):
            inode = await self._kernel.run(self._builder.bound, name)
            if inode is not None:
                await kill_namespace(inode)
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

    def _take_in(self, cell: Cell) -> Cell:
        cell.routed = self._routed
        self._busy.add(cell.slot)
        self._standing[cell.slot] = cell
        return cell

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

    async def _hear_links(self) -> None:
        """Frees the slots of cables that are gone; the kernel tells, and what it may have told too fast is looked up."""
        while True:
            try:
                data = await self._news.recv(1 << 16)
            except OSError:  # ENOBUFS: some news was lost
                with suppress(OSError):
                    await self._look_up()
                continue
            for kind, _, payload in netlink.messages(data):
                if kind == netlink.DELLINK and payload[0] == socket.AF_UNSPEC:  # a bridge says so of ports that live on
                    self._free(struct.unpack_from("=i", payload, 4)[0] - FIRST_IFINDEX)

    async def _look_up(self) -> None:
        """What is busy in the kernel, asked anew."""
        there = {ifindex - FIRST_IFINDEX for ifindex in await self._kernel.run(self._builder.links)}
        for slot in self._busy - there:
            self._free(slot)
        self._busy |= {slot for slot in there if 0 <= slot < self.plan.capacity}

    def _free(self, slot: int) -> None:
        if slot not in self._standing and slot not in self._building and slot not in self._ending:
            self._busy.discard(slot)
            if self._leaving.pop(slot, None) is not None:
                self._stir()

    async def _reap(self) -> None:
        """Removes the cables of dead cells that somebody's socket keeps alive."""
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


@asynccontextmanager
async def open_isolation(
    *, run_dir: Path, mode: Mode, plan: AddressPlan | None = None, egress: bool = True, private: bool = False
) -> AsyncIterator[Isolation]:
    """The walls of one daemon: the kernel thread, the firewall, the way out.

    In root and ambient mode namespaces are bound in /run/netns; in rootless mode, which `enter_rootless` must have entered, below
    `run_dir`, and the host's ends live in a hub network of ours. `private` keeps everything in a network of this process that goes with
    it: for tests, and for programs that embed Colony. Cells that still stand when the block ends are left standing.

    Raises AlreadyExists (`address-range-taken`), Missing (`nft-missing`, `no-rights`), Broken (`firewall`, `isolation-failed`).
    """
    async with AsyncExitStack() as stack:
        with translating({OSError: _unopened}):
            walls = await _open(stack, run_dir, mode=mode, plan=plan or AddressPlan(), egress=egress, private=private)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(walls._hear_links)
            nursery.start_soon(walls._reap)
            try:
                yield walls
            finally:
                with trio.CancelScope(shield=True):
                    await walls._settle()
                nursery.cancel_scope.cancel()


async def _open(
    stack: AsyncExitStack, run_dir: Path, *, mode: Mode, plan: AddressPlan, egress: bool, private: bool
) -> Isolation:
    own_hub = private or mode is Mode.ROOTLESS
    run_dir.mkdir(parents=True, exist_ok=True, mode=0o700)
    folder = None if private else run_dir / "netns" if own_hub else SYSTEM_FOLDER
    if folder is not None:
        folder.mkdir(parents=True, exist_ok=True, mode=0o755)
    if folder is SYSTEM_FOLDER:
        syscalls.share_mounts_below(str(folder))
    kernel = await stack.enter_async_context(
        open_kernel(private=private, hub=None if folder is None or not own_hub else folder / "hub")
    )
    routing = stack.enter_context(await kernel.run(netlink.open_socket))
    links = await kernel.run(netlink.open_socket, RTMGRP_LINK)
    news = stack.enter_context(trio.socket.from_stdlib_socket(links))
    await kernel.run(_check_range, routing, plan)
    await kernel.run(netlink.warm_up)
    table, note = firewall.table_name(run_dir), run_dir / FORWARD_NOTE
    builder = Builder(kernel, plan, folder, routing, mark=table)
    stack.push_async_callback(_take_down, kernel, builder, table, note)
    await kernel.run(partial(firewall.load, table, plan.base, egress=egress))
    report = await kernel.run(_egress, note, egress, own_hub)
    walls = Isolation(kernel, builder, mode=mode, egress=report, routed=not (own_hub and egress), news=news)
    await walls._look_up()
    stack.push_async_callback(_release_all, walls)
    return walls


def _egress(note: Path, egress: bool, own_hub: bool) -> EgressReport:
    if own_hub:
        # Forwarding in the hub: so that the firewall refuses at once what would else be met with silence.
        firewall.FORWARD.write_text("1")
    if not egress:
        return EgressReport(False, "none, as configured")
    if own_hub:
        return EgressReport(False, "none: the cells' network ends in this process; run as root, or as a system service")
    report = firewall.set_forwarding(note)
    if report.allowed and firewall.docker_blocks_forwarding():
        return EgressReport(False, "blocked: another firewall (Docker's?) drops what is forwarded; see colony doctor")
    return report


async def _release_all(walls: Isolation) -> None:
    with trio.CancelScope(shield=True):
        for cell in list(walls._standing.values()):
            await walls.release(cell)


async def _take_down(kernel: Kernel, builder: Builder, table: str, note: Path) -> None:
    """With the last cell the firewall goes as well, and with the last of anybody's the forwarding; while they stand they need both."""
    with trio.CancelScope(shield=True):
        standing = await kernel.run(builder.links)
        if not any(standing.values()):
            with suppress(ColonyError):  # a machine without nft, which is why we go
                await kernel.run(firewall.unload, table)
        if not standing:
            await kernel.run(firewall.restore_forwarding, note)


def _check_range(routing: socket.socket, plan: AddressPlan) -> None:
    routed = []
    for payload in netlink.dump(routing, netlink.GETROUTE, socket.AF_INET):
        found = netlink.attributes(payload, 12)
        if 1 in found:  # RTA_DST; a default route has none
            device = _device(int.from_bytes(found.get(4, b"\0"), "little"))
            routed.append((f"{socket.inet_ntoa(found[1])}/{payload[1]}", device))
    plan.check_free(routed)


def _device(ifindex: int) -> str:
    try:
        return socket.if_indextoname(ifindex)
    except OSError:
        return f"link {ifindex}"


def _exists(name: str) -> AlreadyExists:
    return AlreadyExists("cell-exists", f"namespace {naming.namespace_name(name)} exists", f"colony rm {name}")


def _refused(name: str, error: OSError) -> ColonyError:
    """What the kernel said to a cell, as a situation."""
    said = f"the kernel refused the walls of {name}: {error.strerror or error}"
    if isinstance(error, FileExistsError):
        return _exists(name)
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


def _unopened(error: OSError) -> ColonyError:
    """What kept the walls from opening, as a situation."""
    said = f"{error.filename}: {error.strerror}" if error.filename else str(error)
    if error.errno in (errno.EPERM, errno.EACCES):
        hint = f"sudo install -d -o {os.getuid()} {SYSTEM_FOLDER}" if str(SYSTEM_FOLDER) in said else "colony doctor"
        return Missing("no-rights", f"networks may not be made here: {said}", hint)
    return Broken("isolation-failed", f"the walls could not be opened: {said}", "colony doctor")
