"""Opens the walls of one daemon, and takes down with the last cell what they needed of the host: firewall and forwarding."""

import errno
import os
import socket
import sys
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from functools import partial
from pathlib import Path

import trio

from colony_core.errors import Broken, ColonyError, Missing, translating
from colony_core.supervision import Backoff, ChildSpec, ChildStarted, Event, Limit, log_event, open_supervisor

from . import firewall, netlink, syscalls
from .addresses import AddressPlan
from .builder import Builder
from .firewall import EgressReport
from .kernel import Kernel, open_kernel
from .modes import SYSTEM_FOLDER, Mode
from .passages import Passages
from .walls import Isolation

RTMGRP_LINK = 1
PROXIED = "HTTP and HTTPS by a proxy in each colony; for all else run as root, or as a system service"
"""What a cell has for a way out where its cable leads nowhere, and what would help."""
FORWARD_NOTE = "ip_forward.before"
TASKS_LIMIT = Limit(10, 60.0)


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
        tasks = [
            ChildSpec(id=name, run=run, backoff=Backoff(first=0.1))
            for name, run in (("links", walls._hear_links), ("reaper", walls._reap))
        ]
        async with open_supervisor(tasks, name="walls", limit=TASKS_LIMIT, on_event=_tell_failures):
            try:
                yield walls
            finally:
                with trio.CancelScope(shield=True):
                    await walls._settle()


def _tell_failures(event: Event) -> None:
    if not isinstance(event, ChildStarted):
        log_event(event)


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
    passages = Passages(table, note, builder.address, egress=egress)
    routed = not (own_hub and egress)
    walls = Isolation(kernel, builder, mode=mode, egress=report, routed=routed, passages=passages, news=news)
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
        return EgressReport(True, PROXIED, proxied=True)
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
        if builder.folder is not None:
            await kernel.run(builder.await_dying)  # of a builder that was killed, perhaps
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
            device = _device(int.from_bytes(found.get(4, b"\0"), sys.byteorder))  # RTA_OIF
            if device is not None:
                routed.append((f"{socket.inet_ntoa(found[1])}/{payload[1]}", device))
    plan.check_free(routed)


def _device(ifindex: int) -> str | None:
    """A link's name; None if it went while we looked, as the cables of a daemon do that was killed a moment ago."""
    if not ifindex:
        return "no link"
    try:
        return socket.if_indextoname(ifindex)
    except OSError:
        return None


def _unopened(error: OSError) -> ColonyError:
    """What kept the walls from opening, as a situation."""
    said = f"{error.filename}: {error.strerror}" if error.filename else str(error)
    if error.errno in (errno.EPERM, errno.EACCES):
        hint = f"sudo install -d -o {os.getuid()} {SYSTEM_FOLDER}" if str(SYSTEM_FOLDER) in said else "colony doctor"
        return Missing("no-rights", f"networks may not be made here: {said}", hint)
    return Broken("isolation-failed", f"the walls could not be opened: {said}", "colony doctor")
