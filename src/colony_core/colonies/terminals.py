"""The terminals of one colony: opened in its cell, held by the keeper, found again by the next daemon, ended with the colony."""

import secrets
import shlex
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

import attrs
import trio

from colony_core import clock
from colony_core.errors import LimitReached, NotFound, WrongState
from colony_core.events import TerminalClosed, TerminalOpened
from colony_core.processes import (
    Keeper,
    KeeperLost,
    Launch,
    OnTerminal,
    Process,
    TerminalState,
    View,
)
from colony_core.supervision import Status
from colony_core.views import NewTerminal, TerminalSize, TerminalView

from .environment import overlaid, setup_environment
from .launching import inherited_environment, launch, user_shell, way_out

if TYPE_CHECKING:
    from .colony import Colony

KEY_PART = "_terminal"
"""Stands in the keys of its processes where others have the name of a service, which cannot begin so."""


class Terminals:
    """What a colony's terminals are asked for; works while its task in the colony's subtree does."""

    def __init__(self, colony: "Colony") -> None:
        self.grace: float | None = None
        """Seconds between hanging up and SIGKILL when the colony stops; None: the house's."""
        self._colony = colony
        self._prefix = f"{colony.id}.{KEY_PART}."
        self._watching: trio.Nursery | None = None
        self._opening = trio.Lock()

    async def keep(self, *, status: Status) -> None:
        """Watches over all of them, those of an earlier daemon as well; ends them with the colony, unless the house leaves them behind."""
        stopping, means = status.stopping, self._colony.means
        status.started()
        try:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(self._watch_for_ever)
                await stopping.wait()
                nursery.cancel_scope.cancel()
        finally:
            if not means.leaving:
                with status.cleanup():
                    await self._end_all()

    async def open(self, request: NewTerminal, *, opened_by: str) -> TerminalView:
        """A new terminal; raises WrongState where the colony is not up, LimitReached, and what is wrong with the request."""
        colony, most = self._colony, self._colony.means.config.terminals.most
        async with self._opening:
            keeper = await colony.means.keeper.get()
            if self._watching is None or colony.cell is None:
                raise self._not_up()
            if len(self._living(keeper)) >= most:
                raise LimitReached(
                    "too-many-terminals", f"“{colony.name}” has {most} terminals", f"colony terminal ls {colony.name}"
                )
            process = await keeper.start(self._launch(request, opened_by=opened_by))
            if self._watching is None:
                raise self._not_up()  # what was started is ended with the others
            self._watching.start_soon(self._watch, keeper, process)
        colony.means.bus.publish(
            TerminalOpened(
                colony=colony.name,
                colony_id=colony.id,
                owner=colony.record.owner,
                terminal=self._id(process),
                command=process.note["command"],
                opened_by=opened_by,
            )
        )
        state = TerminalState(
            rows=request.screen.rows, columns=request.screen.columns, viewers=0, idle=0.0, start=0, end=0
        )
        return self._view(process, state)

    async def views(self) -> tuple[TerminalView, ...]:
        """All of them, the oldest first."""
        keeper = self._colony.means.keeper.current
        if keeper is None:
            return ()
        states = await keeper.terminals(self._prefix)
        living = [process for process in self._living(keeper) if process.key in states]
        return tuple(self._view(process, states[process.key]) for process in living)

    async def close(self, terminal: str) -> None:
        """Ends one with its whole tree; returns when it is gone."""
        process = self._find(terminal)
        try:
            await process.stop(grace=self._colony.means.config.processes.grace)
        except KeeperLost:
            return  # and the terminal with it

    @asynccontextmanager
    async def view(self, terminal: str, *, after: int | None, size: TerminalSize | None) -> AsyncIterator[View]:
        """A view of one, for the time of the block; also of one that ended just now, before anybody had looked at it."""
        keeper = await self._colony.means.keeper.get()
        opened = False
        try:
            async with keeper.view(self._prefix + terminal, after=after, size=size) as view:
                opened = True
                yield view
        except NotFound:
            if opened:
                raise
            raise self._not_found(terminal) from None

    async def _watch_for_ever(self) -> None:
        while True:
            keeper = await self._colony.means.keeper.get()
            async with trio.open_nursery() as self._watching:
                for process in self._ours(keeper):
                    self._watching.start_soon(self._watch, keeper, process)
                try:
                    await keeper.lost.wait()
                finally:
                    self._watching = None

    async def _watch(self, keeper: Keeper, process: Process) -> None:
        """Tells the end of one and has the keeper forget it."""
        code, reason = None, "the keeper died"
        try:
            exited = await process.wait()
            code, reason = exited.code, "nobody used it" if exited.why == "idle" else exited.reason
            await keeper.forget(process.key)
        except KeeperLost:
            pass  # and the terminal with it
        self._tell_closed(process, code, reason)

    async def _end_all(self) -> None:
        async with self._opening:
            if (keeper := self._colony.means.keeper.current) is None:
                return  # and the terminals with it
            async with trio.open_nursery() as nursery:
                for process in self._ours(keeper):
                    nursery.start_soon(self._end, keeper, process)

    async def _end(self, keeper: Keeper, process: Process) -> None:
        grace = self._colony.means.config.processes.grace if self.grace is None else self.grace
        code = None
        try:
            code = (await process.stop(grace=grace)).code
            await keeper.forget(process.key)
        except KeeperLost:
            pass  # and the terminal with it
        self._tell_closed(process, code, "the colony was stopped")

    def _tell_closed(self, process: Process, code: int | None, reason: str) -> None:
        colony = self._colony
        colony.means.bus.publish(
            TerminalClosed(
                colony=colony.name,
                colony_id=colony.id,
                owner=colony.record.owner,
                terminal=self._id(process),
                code=code,
                reason=reason,
            )
        )

    def _launch(self, request: NewTerminal, *, opened_by: str) -> Launch:
        colony, settings = self._colony, self._colony.means.config.terminals
        argv, text = _command(colony, request)
        terminal = secrets.token_hex(4)
        environment = setup_environment(
            base=inherited_environment(colony),
            manifest=colony.manifest,
            colony=colony.name,
            url=colony.url,
            way_out=way_out(colony),
        )
        order = launch(
            colony,
            label="terminal",
            argv=argv,
            environment=overlaid(environment, {"TERM": request.screen.term, "COLONY_TERMINAL": terminal}, request.env),
            cwd=request.cwd,
            key=f"{KEY_PART}.{terminal}",
        )
        on_terminal = OnTerminal(
            rows=request.screen.rows, columns=request.screen.columns, scrollback=settings.scrollback, idle=settings.idle
        )
        return attrs.evolve(order, log=None, terminal=on_terminal, note={"command": text, "opened_by": opened_by})

    def _ours(self, keeper: Keeper) -> list[Process]:
        return [process for process in keeper.processes() if process.key.startswith(self._prefix)]

    def _living(self, keeper: Keeper) -> list[Process]:
        return sorted((p for p in self._ours(keeper) if p.running), key=lambda process: process.started_at)

    def _find(self, terminal: str) -> Process:
        keeper = self._colony.means.keeper.current
        known = {self._id(process): process for process in (self._living(keeper) if keeper is not None else ())}
        if terminal not in known:
            raise self._not_found(terminal)
        return known[terminal]

    def _not_found(self, terminal: str) -> NotFound:
        what = f"“{self._colony.name}” has no terminal {terminal[:80]!r}"
        return NotFound("terminal-not-found", what, f"colony terminal ls {self._colony.name}")

    def _id(self, process: Process) -> str:
        return process.key.removeprefix(self._prefix)

    def _view(self, process: Process, state: TerminalState) -> TerminalView:
        return TerminalView(
            id=self._id(process),
            colony=self._colony.name,
            colony_id=self._colony.id,
            command=process.note.get("command", ""),
            opened_by=process.note.get("opened_by", ""),
            opened_at=clock.rfc3339(process.started_at),
            pid=process.pid,
            rows=state.rows,
            columns=state.columns,
            viewers=state.viewers,
            idle_seconds=state.idle,
        )

    def _not_up(self) -> WrongState:
        name, state = self._colony.name, self._colony.state.value
        return WrongState("colony-not-running", f"colony “{name}” is {state}", f"colony start {name}")


def _command(colony: "Colony", request: NewTerminal) -> tuple[tuple[str, ...], str]:
    """What runs, and the same in a line for people."""
    if request.command:
        return request.command, shlex.join(request.command)
    if colony.manifest.terminal is not None:
        return ("/bin/sh", "-c", colony.manifest.terminal), colony.manifest.terminal
    shell = user_shell(colony.source)
    return (shell,), shell
