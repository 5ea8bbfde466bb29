"""A terminal in a colony, looked at from anywhere: a lost connection is taken up where it ended.

What was shown is acknowledged by asking for more, so that the daemon never sends much further ahead than its reader reads.
"""

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from functools import partial
from typing import Any

import attrs
import trio
from trio_websocket import ConnectionClosed, WebSocketConnection

from colony_core.errors import Broken, ColonyError, TooSlow, Unreachable
from colony_core.views import TerminalEnd, TerminalPlace, TerminalSize

from . import calls
from .problems import error_from_problem
from .sockets import PIECE_BYTES, as_lost, open_socket, server_version, ungrouped
from .target import Target

FIRST_RETRY_SECONDS = 0.05
LAST_RETRY_SECONDS = 1.0
GIVE_UP_SECONDS = 300.0
ACKNOWLEDGE_BYTES = 64 * 1024
"""Far less than the daemon's window, so that it never waits for a reader that reads."""
PING_SECONDS = 15.0
PONG_SECONDS = 10.0
HELD_INPUT_BYTES = 64 * 1024
"""What is typed while the connection is away waits for it, up to so much."""


@attrs.frozen
class Away:
    """The connection is gone since `seconds`, or (None) back again."""

    seconds: float | None


Told = bytes | TerminalPlace | TerminalSize | TerminalEnd | Away


class TerminalSession:
    """A terminal as it is shown here. `receive` is for one task, `type` and `resize` are for any."""

    def __init__(self, *, size: TerminalSize | None, after: int | None, read_only: bool) -> None:
        self.place = after
        """Behind the last byte that `receive` has given; None before the first place is known."""
        self.size = size
        self.read_only = read_only
        self.server_version: str | None = None
        self._incoming: trio.MemoryReceiveChannel[Told | ColonyError]
        self._connection: WebSocketConnection | None = None
        self._acknowledged = after or 0
        self._came = after
        """Behind the last byte that came: there a lost connection is taken up."""
        self._held = bytearray()

    async def receive(self) -> Told:
        """The next output, or what is to be known of it. Raises what the daemon says, and `daemon-unreachable` when it stays away."""
        if self.place is not None and self.place - self._acknowledged >= ACKNOWLEDGE_BYTES:
            self._acknowledged = self.place
            await self._tell({"ack": self.place})
        told = await self._incoming.receive()
        if isinstance(told, ColonyError):
            raise told
        if isinstance(told, bytes):
            self.place = (self.place or 0) + len(told)
        elif isinstance(told, TerminalPlace):
            self.place = self._acknowledged = told.at
        return told

    async def type(self, data: bytes) -> bool:
        """Input for the program; while the connection is away it is held, and False says that there is no room for that."""
        connection = self._connection
        if connection is None:
            if len(self._held) + len(data) > HELD_INPUT_BYTES:
                return False
            self._held += data
            return True
        with suppress(ConnectionClosed):  # lost with what was under way to it
            for start in range(0, len(data), PIECE_BYTES):
                await connection.send_message(data[start : start + PIECE_BYTES])
        return True

    async def resize(self, size: TerminalSize) -> None:
        """Our screen has another size."""
        if self.size is not None:
            self.size = size
            await self._tell({"resize": {"rows": size.rows, "columns": size.columns}})

    async def _tell(self, message: dict[str, Any]) -> None:
        if self._connection is not None:
            with suppress(ConnectionClosed):
                await self._connection.send_message(json.dumps(message))

    async def _attend(
        self, connection: WebSocketConnection, outgoing: trio.MemorySendChannel[Told | ColonyError]
    ) -> None:
        """Gives on what comes, until the end of the terminal; raises ConnectionClosed at that of the connection."""
        self.server_version = server_version(connection)
        while True:
            told = _told(await connection.get_message())
            if isinstance(told, TerminalPlace):
                self._came = told.at
                await self._take_up(connection)
            await outgoing.send(told)
            if isinstance(told, bytes):
                self._came = (self._came or 0) + len(told)
            elif isinstance(told, TerminalEnd | ColonyError):
                return

    async def _take_up(self, connection: WebSocketConnection) -> None:
        """From now on what is typed goes there, first of all what was held."""
        if self._connection is None:
            self._connection = connection
            held, self._held = bytes(self._held), bytearray()
            await self.type(held)


@asynccontextmanager
async def open_terminal(
    target: Target,
    ref: str,
    terminal: str,
    *,
    after: int | None = None,
    size: TerminalSize | None = None,
    read_only: bool = False,
    give_up_seconds: float = GIVE_UP_SECONDS,
) -> AsyncIterator[TerminalSession]:
    """Looks at a terminal behind the place `after`, or from the oldest byte that is kept; the terminal outlives the block.

    With a size it has a say in the terminal's. A lost connection is opened again, on the first byte that was not received; `receive`
    tells of it as `Away`. Raises what the daemon raises and `daemon-unreachable` when it cannot be opened.
    """
    session = TerminalSession(size=size, after=after, read_only=read_only)
    outgoing, session._incoming = trio.open_memory_channel[Told | ColonyError](0)
    with ungrouped():
        async with trio.open_nursery() as nursery:
            connect = partial(_keep_connected, session, target, ref, terminal, outgoing, give_up_seconds)
            await nursery.start(connect)
            yield session
            nursery.cancel_scope.cancel()


async def _keep_connected(
    session: TerminalSession,
    target: Target,
    ref: str,
    terminal: str,
    outgoing: trio.MemorySendChannel[Told | ColonyError],
    give_up_seconds: float,
    *,
    task_status: trio.TaskStatus[None],
) -> None:
    opened, lost_at, wait = False, trio.current_time(), FIRST_RETRY_SECONDS
    while True:
        try:
            async with open_socket(target, _path(session, ref, terminal)) as connection, _pinging(connection):
                if opened:
                    await outgoing.send(Away(None))
                else:
                    task_status.started()
                opened, wait = True, FIRST_RETRY_SECONDS
                try:
                    with as_lost(target):
                        await session._attend(connection, outgoing)
                    return
                finally:
                    session._connection, lost_at = None, trio.current_time()
        except ColonyError as error:
            if not opened:
                raise
            away = trio.current_time() - lost_at
            if not isinstance(error, (Unreachable, TooSlow)) or away > give_up_seconds:
                await outgoing.send(error)
                return
            await outgoing.send(Away(away))
        await trio.sleep(wait)
        wait = min(2 * wait, LAST_RETRY_SECONDS)


@asynccontextmanager
async def _pinging(connection: WebSocketConnection) -> AsyncIterator[None]:
    """Notices a connection that is dead without having said so."""

    async def ping() -> None:
        while True:
            await trio.sleep(PING_SECONDS)
            try:
                with trio.fail_after(PONG_SECONDS):
                    await connection.ping()
            except trio.TooSlowError:
                nursery.cancel_scope.cancel()
                raise Unreachable("connection-lost", "the daemon does not answer any more", "colony status") from None
            except ConnectionClosed:
                return

    with ungrouped():
        async with trio.open_nursery() as nursery:
            nursery.start_soon(ping)
            yield
            nursery.cancel_scope.cancel()


def _path(session: TerminalSession, ref: str, terminal: str) -> str:
    size = session.size
    return calls.terminal_path(
        ref,
        terminal,
        after=session._came,
        rows=None if size is None else size.rows,
        columns=None if size is None else size.columns,
        read_only=session.read_only,
    )


def _told(message: bytes | str) -> Told | ColonyError:
    if isinstance(message, bytes):
        return message
    try:
        match json.loads(message):
            case {"at": int(at), "missed": int(missed), "restore": str(restore)}:
                return TerminalPlace(at, missed, restore)
            case {"size": {"rows": int(rows), "columns": int(columns)}}:
                return TerminalSize(rows, columns)
            case {"exit": int(code), "why": str(why)}:
                return TerminalEnd(code, why)
            case {"error": {"status": int(status)} as problem}:
                return error_from_problem(status, problem)
    except ValueError:
        pass
    return Broken(
        "malformed-answer", "the daemon said something else than agreed: a frame of a terminal", "colony version"
    )
