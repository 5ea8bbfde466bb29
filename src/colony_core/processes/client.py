"""A daemon's end of the line to its keeper.

The file is long because a process and its keeper share the line.
"""

import contextlib
import os
import signal
import socket
from collections.abc import AsyncIterator, Mapping
from pathlib import Path
from typing import Any

import trio

from colony_core import errors
from colony_core.errors import TooSlow, WrongState
from colony_core.views import TerminalSize

from .inline import run_inline_engine
from .keeper.requests import OLDEST_PROTOCOL, PROTOCOL, TERMINALS_PROTOCOL
from .launch import Exited, KeeperLost, Launch, LogTarget
from .line import Line
from .logs import LogBook, LogNews
from .starting import lock_run_dir, reach_keeper
from .terminals import TerminalState, View

SHUTDOWN_GRACE_SECONDS = 5.0
SHUTDOWN_PATIENCE_SECONDS = 20.0
"""How much longer than the grace a shutdown may take."""


class Process:
    """A process that the keeper holds, or held until its end was acknowledged."""

    def __init__(self, line: Line, view: Mapping[str, Any]) -> None:
        self.key: str = view["key"]
        self.pid: int = view["pid"]
        self.label: str = view["label"]
        self.started_at: float = view["started_at"]
        """Unix seconds."""
        self.started_ticks: int = view["started_ticks"]
        """Clock ticks from boot to its start: with the pid it names a process for as long as the machine runs."""
        self.note: Mapping[str, str] = view.get("note", {})
        self.on_terminal: bool = view.get("terminal", False)
        self.exited: Exited | None = None
        self._line = line
        self._news = trio.Event()
        self._stuck: tuple[int, ...] = ()

    def __repr__(self) -> str:
        state = "running" if self.exited is None else self.exited.reason
        return f"<Process {self.key} pid {self.pid}: {state}>"

    @property
    def running(self) -> bool:
        return self.exited is None

    async def wait(self) -> Exited:
        """How it ended, once its whole tree is gone. Cancelling only ends the waiting. Raises KeeperLost."""
        while self.exited is None:
            self._line.check()
            await self._news.wait()
        await trio.lowlevel.checkpoint()
        return self.exited

    async def stop(self, *, grace: float) -> Exited:
        """SIGTERM to the whole tree, after `grace` seconds SIGKILL; gives how it ended, at once where it has already.

        Cancelling only ends the waiting: the keeper goes on. Raises KeeperLost, and TooSlow when even SIGKILL does not end it.
        """
        if self.exited is None:
            with contextlib.suppress(errors.NotFound):  # it ended while we asked
                await self._line.ask({"op": "stop", "key": self.key, "grace": grace})
        while self.exited is None:
            self._line.check()
            if self._stuck:
                pids = ", ".join(map(str, self._stuck))
                raise TooSlow(
                    "will-not-die", f"SIGKILL does not end {self.label} (pid {pids})", "see what it waits for"
                )
            await self._news.wait()
        return self.exited

    async def signal(self, number: signal.Signals, *, group: bool = False) -> None:
        """Signals the main process, or its process group; quietly nothing when it has ended."""
        with contextlib.suppress(errors.NotFound):
            await self._line.ask({"op": "signal", "key": self.key, "signal": int(number), "group": group})

    def _tell(self, *, exited: Exited | None = None, stuck: tuple[int, ...] = ()) -> None:
        self.exited = exited
        self._stuck = stuck
        news, self._news = self._news, trio.Event()
        news.set()


class Keeper:
    """The keeper as its daemon sees it; made by `open_keeper` or `open_inline_keeper`."""

    def __init__(self, sock: trio.socket.SocketType, *, fresh: bool) -> None:
        self.pid = 0
        self.identity = ""
        self.fresh = fresh
        """Whether it was just started, so that nothing of an earlier daemon's can be running in it."""
        self.news = LogNews()
        self._line = Line(sock, self._take)
        self._processes: dict[str, Process] = {}
        self._protocol = PROTOCOL

    def __repr__(self) -> str:
        state = "lost" if self.lost.is_set() else f"{len(self._processes)} processes"
        return f"<Keeper pid {self.pid}: {state}>"

    @property
    def lost(self) -> trio.Event:
        """Set when the keeper died, was shut down or closed the line."""
        return self._line.lost

    async def start(self, launch: Launch) -> Process:
        """Starts a command; raises NotFound, NotAllowed, Invalid … with what is wrong with it.

        A cancellation is held back until the keeper has answered, so that a process never runs unknown to its caller: it is the
        caller's to stop, also when cancelled.
        """
        if launch.terminal is not None or launch.tty:
            self._check_terminals()
        with trio.CancelScope(shield=True):
            view = await self._line.ask(launch.request(), fds=launch.stdio or ())
        return self._processes.get(launch.key) or self._learn(view)

    def processes(self) -> tuple[Process, ...]:
        """The living, and those whose end nobody has acknowledged."""
        return tuple(self._processes.values())

    def find(self, key: str) -> Process | None:
        return self._processes.get(key)

    async def forget(self, key: str) -> None:
        """Acknowledges an end: the keeper drops its record. Forgetting twice is fine; a living process is refused."""
        process = self._processes.get(key)
        if process is not None and process.running:
            raise WrongState("process-running", f"{key} is still running", "stop it first")
        await self._line.ask({"op": "forget", "key": key})
        self._processes.pop(key, None)

    @contextlib.asynccontextmanager
    async def view(
        self, key: str, *, after: int | None = None, size: TerminalSize | None = None
    ) -> AsyncIterator[View]:
        """A view of a process's terminal, behind the place `after` or from the oldest byte that is kept; it ends with the block.

        With a size it has a say in that of the terminal. Raises NotFound, and WrongState for a process without a terminal.
        """
        self._check_terminals()
        ours, theirs = socket.socketpair()
        view = View(ours)
        try:
            with theirs:
                wanted = size and (size.rows, size.columns)
                request = {"op": "view", "key": key, "after": after, "size": wanted, "fds": 1}
                await self._line.ask(request, fds=(theirs.fileno(),))
            yield view
        finally:
            await view.aclose()

    async def terminals(self, prefix: str) -> dict[str, TerminalState]:
        """Where the terminals stand whose keys begin with `prefix`."""
        if self._protocol < TERMINALS_PROTOCOL:
            return {}
        found = await self._line.ask({"op": "terminals", "prefix": prefix})
        return {key: TerminalState(**state) for key, state in found.items()}

    async def note(self, log: LogTarget, text: str) -> int:
        """Writes a line of Colony's own into a log, in sequence with those of the services; gives its number, 0 if dropped."""
        return int(await self._line.ask({"op": "note", "log": log.request(), "text": text}))

    def log_book(self, directory: Path) -> LogBook:
        """The log in a folder, whose followers this keeper wakes."""
        return LogBook(directory, news=self.news)

    async def shutdown(self, *, grace: float = SHUTDOWN_GRACE_SECONDS) -> None:
        """Stops every process and ends the keeper; returns when it is gone. Ends that nobody acknowledged stay on disk."""
        await self._line.ask({"op": "shutdown", "grace": grace})
        with trio.move_on_after(grace + SHUTDOWN_PATIENCE_SECONDS) as patience:
            await self.lost.wait()
        if patience.cancelled_caught:
            alive = ", ".join(process.label for process in self._processes.values() if process.running)
            raise TooSlow("keeper-will-not-end", f"the keeper could not end {alive or 'itself'}", "see `ps`, then kill")

    def _check_terminals(self) -> None:
        if self._protocol < TERMINALS_PROTOCOL:
            raise WrongState(
                "keeper-too-old",
                f"the running keeper (pid {self.pid}) is of a Colony before terminals",
                "stop the colonies and the daemon (colony shutdown --colonies), then start anew",
            )

    async def _greet(self) -> None:
        hello = await self._line.ask({"op": "hello", "protocol": PROTOCOL, "pid": os.getpid()})
        if not hello["protocol"] >= OLDEST_PROTOCOL:
            raise WrongState(
                "keeper-too-old",
                f"the running keeper (pid {hello['pid']}) speaks protocol {hello['protocol']}, this Colony {PROTOCOL}",
                "stop the colonies with the older Colony first",
            )
        self.pid, self.identity, self._protocol = hello["pid"], hello["identity"], hello["protocol"]
        for view in hello["living"]:
            self._learn(view)
        for record in hello["ended"]:
            self._take_exit(record)
        self.news.tell(hello["logs"])

    def _learn(self, view: Mapping[str, Any]) -> Process:
        return self._processes.setdefault(view["key"], Process(self._line, view))

    def _take_exit(self, record: Mapping[str, Any]) -> None:
        self._learn(record)._tell(
            exited=Exited(
                key=record["key"],
                code=record["code"],
                at=record["at"],
                survivors=tuple(record["survivors"]),
                why=record.get("why", ""),
            )
        )

    def _take(self, message: dict[str, Any]) -> None:
        match message.get("event"):
            case "exit":
                self._take_exit(message["exit"])
            case "logs":
                self.news.tell(message["logs"])
            case "stuck":
                if (process := self._processes.get(message["key"])) is not None:
                    process._tell(stuck=tuple(message["pids"]))
            case _:
                return  # a newer keeper's news

    async def _listen(self) -> None:
        try:
            await self._line.listen()
        finally:
            self.news.stop()
            for process in self._processes.values():
                if process.running:
                    process._tell()


@contextlib.asynccontextmanager
async def open_keeper(*, run_dir: Path, state_dir: Path) -> AsyncIterator[Keeper]:
    """The keeper of a run folder: the living one, or a new one, which first ends what a dead predecessor left behind.

    Leaving the block only hangs up: keeper and processes live on, unless `shutdown` was called. Raises AlreadyExists while another
    daemon uses it, WrongState for a keeper of another age, Broken when it cannot be started.
    """
    lock = lock_run_dir(run_dir)
    try:
        sock, fresh = await trio.to_thread.run_sync(reach_keeper, run_dir, state_dir)
        async with _conversation(sock, fresh=fresh) as keeper:
            yield keeper
    finally:
        os.close(lock)


@contextlib.asynccontextmanager
async def open_inline_keeper(*, state_dir: Path) -> AsyncIterator[Keeper]:
    """The same engine in a thread of this program, for those who embed Colony; every process is stopped when the block ends.

    Should the program be killed, the next keeper on the same state folder ends what is left. Signals that the program ignores are
    ignored in its processes as well, and orphans that hide every mark are not found: a keeper of its own does better in both.
    """
    ours, theirs = socket.socketpair()
    engine = await run_inline_engine(state_dir, theirs)
    try:
        async with _conversation(ours, fresh=True) as keeper:
            try:
                yield keeper
            finally:
                with trio.CancelScope(shield=True), contextlib.suppress(KeeperLost):
                    await keeper.shutdown()
    finally:
        ours.close()
        with trio.CancelScope(shield=True):
            await trio.to_thread.run_sync(engine.join)


@contextlib.asynccontextmanager
async def _conversation(sock: socket.socket, *, fresh: bool) -> AsyncIterator[Keeper]:
    sock.setblocking(False)
    alone: BaseException | None = None
    with trio.socket.from_stdlib_socket(sock) as line:
        keeper = Keeper(line, fresh=fresh)
        try:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(keeper._listen)
                try:
                    await keeper._greet()
                    yield keeper
                finally:
                    nursery.cancel_scope.cancel()
        except BaseExceptionGroup as group:  # the nursery is our affair: the block's error leaves as it is
            if len(group.exceptions) > 1:
                raise
            alone = group.exceptions[0]
    if alone is not None:
        raise alone
