"""All cells of one daemon: builds them, finds them again, takes them down, and gives a slot away only when the kernel has let it go."""

import socket
import struct
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from functools import partial
from pathlib import Path

import trio

from colony_core import naming
from colony_core.errors import AlreadyExists, Broken, LimitReached

from . import firewall, netlink
from .addresses import AddressPlan, Addresses
from .builder import Builder, LinkTakenError
from .cell import Cell, kill_namespace
from .firewall import EgressReport
from .kernel import Kernel, open_kernel
from .modes import Mode

SYSTEM_FOLDER = Path("/run/netns")
RTMGRP_LINK = 1
MOST_CLOSING = 8
"""Namespaces that are let go at the same time: while the kernel cleans up a large batch, nothing else of its networking moves."""
CLOSING_SECONDS = 0.05
STUCK_SECONDS = 5.0
"""A socket that somebody still holds keeps a dead cell's cable alive; after this long the cable is removed under it."""
FORWARD_NOTE = "ip_forward.before"


class Isolation:
    """Builds and ends cells. Made by `open_isolation`."""

    def __init__(
        self, kernel: Kernel, builder: Builder, *, mode: Mode, egress: EgressReport, news: trio.socket.SocketType
    ) -> None:
        self.mode = mode
        self.plan = builder.plan
        self.egress = egress
        self._kernel = kernel
        self._builder = builder
        self._news = news
        self._busy: set[int] = set()
        self._leaving: dict[int, tuple[int, float]] = {}
        self._changed = trio.Event()
        self._closing = trio.CapacityLimiter(MOST_CLOSING)

    @property
    def netns_dir(self) -> Path | None:
        """Where namespaces are bound by name; None where they are not bound at all."""
        return self._builder.folder

    async def build(self, name: str, *, slot: int | None = None) -> Cell:
        """A cell, up and reachable; `slot` is taken if it is free. Half-built or cancelled, nothing of it stays.

        Raises AlreadyExists (`cell-exists`), LimitReached (`no-address`), Broken (`cell-failed`) with the kernel's words.
        """
        naming.check_colony_name(name)
        while True:
            at = self._take_slot(slot)
            try:
                cell = await self._kernel.run(self._builder.build, name, at)
            except LinkTakenError:
                slot = None  # somebody else's link: the slot stays taken
                continue
            except FileExistsError as error:
                self._busy.discard(at.slot)
                raise AlreadyExists(
                    "cell-exists", f"namespace {naming.namespace_name(name)} exists", f"colony rm {name}"
                ) from error
            except OSError as error:
                self._busy.discard(at.slot)
                raise Broken(
                    "cell-failed", f"the kernel refused the walls of {name}: {error}", "colony doctor"
                ) from error
            try:
                await trio.lowlevel.checkpoint_if_cancelled()
            except trio.Cancelled:
                with trio.CancelScope(shield=True):
                    await self.destroy(cell)
                raise
            return cell

    async def adopt(self, name: str) -> Cell | None:
        """The whole cell that an earlier daemon left under `name`, or None; what is not whole is for `clear`."""
        naming.check_colony_name(name)
        try:
            cell = await self._kernel.run(self._builder.adopt, name)
        except OSError:
            return None
        if cell is not None:
            if cell.slot in self._busy:
                await self._kernel.run(self._builder.release, cell)
                return None
            self._busy.add(cell.slot)
        return cell

    async def destroy(self, cell: Cell) -> None:
        """Kills what runs in the cell and lets go of it. Paced; returns before the kernel has removed the last of it. Twice is fine."""
        if cell.fd < 0:
            return
        await kill_namespace(cell.inode)
        async with self._closing:
            self._leaving[cell.ifindex] = (cell.slot, trio.current_time())
            self._stir()
            await self._kernel.run(self._builder.drop, cell)
            with trio.move_on_after(CLOSING_SECONDS):
                while cell.ifindex in self._leaving:
                    await self._changed.wait()

    async def release(self, cell: Cell) -> None:
        """Closes our handle on a cell and leaves it standing for the next daemon."""
        await self._kernel.run(self._builder.release, cell)

    async def found(self) -> tuple[str, ...]:
        """The names of all colonies whose namespaces are bound here."""
        return await self._kernel.run(self._builder.found)

    async def clear(self, name: str) -> None:
        """Removes whatever an earlier daemon left under `name`: processes, cable, binding, also half-built ones. Nothing there is fine."""
        naming.check_colony_name(name)
        inode = await self._kernel.run(self._builder.inode, name)
        if inode is not None:
            await kill_namespace(inode)
        ifindex = await self._kernel.run(self._builder.alias_index, name)
        if ifindex is not None and ifindex not in self._leaving:
            await self._kernel.run(self._builder.delete_link, ifindex)
        await self._kernel.run(self._builder.unbind, name)

    @asynccontextmanager
    async def open_cell(self, name: str, *, slot: int | None = None) -> AsyncIterator[Cell]:
        """Builds the walls of one colony and takes them down again when the block ends."""
        cell = await self.build(name, slot=slot)
        try:
            yield cell
        finally:
            with trio.CancelScope(shield=True):
                await self.destroy(cell)

    def _take_slot(self, wanted: int | None) -> Addresses:
        if wanted is not None and wanted not in self._busy and 0 <= wanted < self.plan.capacity:
            slot = wanted
        else:
            free = (n for n in range(self.plan.capacity) if n not in self._busy)
            slot = next(free, self.plan.capacity)
        if slot == self.plan.capacity:
            raise LimitReached(
                "no-address",
                f"{self.plan.base} has no room for more colonies",
                "set isolation.base to a larger network",
            )
        self._busy.add(slot)
        return self.plan.addresses(slot)

    async def _hear_links(self) -> None:
        """Frees the slots of cables that are gone; the kernel tells, and what it may have told too fast is looked up."""
        while True:
            try:
                data = await self._news.recv(1 << 16)
            except OSError:  # ENOBUFS: some news was lost
                await self._look_up()
                continue
            for kind, _, payload in netlink.messages(data):
                if kind == netlink.DELLINK:
                    self._free(struct.unpack_from("=i", payload, 4)[0])

    async def _reap(self) -> None:
        """Removes the cables of dead cells that somebody's socket keeps alive."""
        while True:
            while not self._leaving:
                await self._changed.wait()
            await trio.sleep(STUCK_SECONDS / 5)
            for ifindex, (_, since) in list(self._leaving.items()):
                if trio.current_time() - since >= STUCK_SECONDS:
                    await self._kernel.run(self._builder.delete_link, ifindex)
                    self._free(ifindex)

    async def _look_up(self) -> None:
        for ifindex in list(self._leaving):
            if not await self._kernel.run(self._builder.link_exists, ifindex):
                self._free(ifindex)

    def _free(self, ifindex: int) -> None:
        slot, _ = self._leaving.pop(ifindex, (None, 0.0))
        if slot is not None:
            self._busy.discard(slot)
            self._stir()

    def _stir(self) -> None:
        changed, self._changed = self._changed, trio.Event()
        changed.set()


@asynccontextmanager
async def open_isolation(
    *, run_dir: Path, mode: Mode, plan: AddressPlan | None = None, egress: bool = True, private: bool = False
) -> AsyncIterator[Isolation]:
    """The walls of one daemon: the kernel thread, the firewall, the way out.

    In root and ambient mode namespaces are bound in /run/netns; in rootless mode, which `enter_rootless` must have entered, below `run_dir`,
    and the host's ends live in a hub network of ours. `private` keeps everything in a network of this process that goes with it: for tests.
    Cells that still stand when the block ends are left standing. Raises AlreadyExists (`address-range-taken`), Missing (`nft-missing`), Broken.
    """
    plan = plan or AddressPlan()
    bound = not private
    hub_needed = private or mode is Mode.ROOTLESS
    folder = None if private else (run_dir / "netns" if hub_needed else SYSTEM_FOLDER)
    async with AsyncExitStack() as stack:
        run_dir.mkdir(parents=True, exist_ok=True, mode=0o700)
        if folder is not None:
            folder.mkdir(parents=True, exist_ok=True, mode=0o755)
        kernel = await stack.enter_async_context(
            open_kernel(private=private, hub=run_dir / "netns" / "hub" if hub_needed and bound else None)
        )
        await kernel.run(netlink.warm_up)
        routing = stack.enter_context(await kernel.run(netlink.open_socket))
        await kernel.run(_check_range, routing, plan)
        await kernel.run(partial(firewall.load, plan.base, egress=egress))
        report = EgressReport(False, "none, as configured")
        if egress and not hub_needed:
            note = run_dir / FORWARD_NOTE
            report = await kernel.run(firewall.set_forwarding, note)
        if hub_needed:
            await kernel.run(
                firewall.set_forwarding, run_dir / "hub.forwarding"
            )  # so that a refusal is told at once, not by silence
        if egress and hub_needed:
            report = EgressReport(
                False, "none: without root the cells' network ends in this process; run as root for a way out"
            )
        links = await kernel.run(netlink.open_socket, RTMGRP_LINK)
        news = stack.enter_context(trio.socket.from_stdlib_socket(links))
        walls = Isolation(kernel, Builder(kernel, plan, folder, routing), mode=mode, egress=report, news=news)
        try:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(walls._hear_links)
                nursery.start_soon(walls._reap)
                yield walls
                nursery.cancel_scope.cancel()
        finally:
            with trio.CancelScope(shield=True):
                await _close(kernel, walls, run_dir)


async def _close(kernel: Kernel, walls: Isolation, run_dir: Path) -> None:
    """With the last cell, the firewall and the forwarding go as well; while cells stand they are needed."""
    standing = walls._busy - {slot for slot, _ in walls._leaving.values()}
    if not standing and not await walls.found():
        await kernel.run(firewall.unload, walls.plan.base)
        await kernel.run(firewall.restore_forwarding, run_dir / FORWARD_NOTE)


def _check_range(routing: socket.socket, plan: AddressPlan) -> None:
    routed = []
    for payload in netlink.dump(routing, netlink.GETROUTE, socket.AF_INET):
        found = netlink.attributes(payload, 12)
        if 1 in found and payload[4] == 254:  # RTA_DST; the main table
            device = _device(int.from_bytes(found.get(4, b"\0"), "little"))
            routed.append((f"{socket.inet_ntoa(found[1])}/{payload[1]}", device))
    plan.check_free(routed)


def _device(ifindex: int) -> str:
    try:
        return socket.if_indextoname(ifindex)
    except OSError:
        return f"link {ifindex}"
