"""Opens what does not end, under Trio: events as they happen, commands in a colony, terminals.

All are WebSockets over the daemon's Unix socket or its address. A door of its own, because it brings Trio along.
"""

import json
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager, suppress
from functools import partial
from typing import Any
from urllib.parse import urlencode

import trio
from trio_websocket import ConnectionClosed, WebSocketConnection

from colony_core import wire
from colony_core.errors import Broken, ColonyError, TooSlow, Unreachable
from colony_core.views import ExecRequest, TerminalSize

from . import calls
from .blocking import Client
from .problems import error_from_problem
from .sockets import PIECE_BYTES, QUEUED_MESSAGES, as_lost, open_socket, server_version, ungrouped
from .target import Target
from .terminals import Away, TerminalSession, open_terminal

__all__ = ["Away", "EventStream", "ExecSession", "TerminalSession", "open_events", "open_exec", "open_terminal"]

FIRST_RETRY_SECONDS = 0.1
LAST_RETRY_SECONDS = 2.0
GIVE_UP_SECONDS = 30.0
_STDOUT, _STDERR = 1, 2


class EventStream:
    """The events of a daemon, as flat JSON objects, in order and for ever; `seq` is the number of the last one that was given."""

    def __init__(self, after: int) -> None:
        self.seq = after
        self.server_version: str | None = None
        self._incoming: trio.MemoryReceiveChannel[dict[str, Any] | ColonyError]

    def __aiter__(self) -> "EventStream":
        return self

    async def __anext__(self) -> dict[str, Any]:
        try:
            item = await self._incoming.receive()
        except trio.EndOfChannel:
            raise StopAsyncIteration from None
        if isinstance(item, ColonyError):
            raise item
        self.seq = item["seq"]
        return item


@asynccontextmanager
async def open_events(
    target: Target,
    after: int | None = None,
    *,
    colonies: Iterable[str] = (),
    services: Iterable[str] = (),
    kinds: Iterable[str] = (),
    give_up_seconds: float = GIVE_UP_SECONDS,
) -> AsyncIterator[EventStream]:
    """Listens to a daemon's events behind `after`, or from now on, all or some; a lost connection is taken up where it ended.

    Raises what the daemon raises and `daemon-unreachable` when it cannot be opened; iterating raises it once the daemon was away for
    `give_up_seconds`. What the daemon no longer holds comes as an object of the type `missed`.
    """
    if after is None:
        client = Client(target)
        system = await trio.to_thread.run_sync(client.send_raw, calls.system(), abandon_on_cancel=True)
        after = int(system["last_event"])
    stream = EventStream(after)
    chosen = calls.follow_events(colonies=colonies, services=services, kinds=kinds).query
    outgoing, stream._incoming = trio.open_memory_channel[dict[str, Any] | ColonyError](QUEUED_MESSAGES)
    with ungrouped():
        async with trio.open_nursery() as nursery:
            await nursery.start(partial(_pump, target, chosen, stream, outgoing, give_up_seconds))
            yield stream
            nursery.cancel_scope.cancel()


class ExecSession:
    """A command that runs in a colony. Read both outputs: who does not read one holds up the other, as with any pipe.

    `stdin` takes bytes, its `aclose` tells the command that no more will come. `stdout` and `stderr` end when the command has; then
    `wait` returns its exit code.
    """

    def __init__(self, connection: WebSocketConnection) -> None:
        self.server_version = server_version(connection)
        self.stdin: trio.abc.SendStream = _Input(connection)
        self.stdout: trio.abc.ReceiveStream
        self.stderr: trio.abc.ReceiveStream
        self._connection = connection
        self._sinks: dict[int, trio.MemorySendChannel[bytes]] = {}
        self._sinks[_STDOUT], stdout = trio.open_memory_channel[bytes](QUEUED_MESSAGES)
        self._sinks[_STDERR], stderr = trio.open_memory_channel[bytes](QUEUED_MESSAGES)
        self.stdout, self.stderr = _Output(stdout), _Output(stderr)
        self._ended = trio.Event()
        self._result: int | ColonyError = Unreachable(
            "connection-lost", "the connection broke while the command ran; it was ended", "colony status"
        )

    async def resize(self, size: TerminalSize) -> None:
        """Another size for the command's terminal; it must have been asked for with a screen."""
        with suppress(ConnectionClosed):  # `wait` tells it
            await self._connection.send_message(json.dumps({"resize": {"rows": size.rows, "columns": size.columns}}))

    async def wait(self) -> int:
        """The exit code, once the command has ended and its output was read. Raises what kept it from running, or broke it off."""
        await self._ended.wait()
        if isinstance(self._result, ColonyError):
            raise self._result
        return self._result

    async def _receive(self) -> None:
        try:
            while True:
                message = await self._connection.get_message()
                if isinstance(message, bytes):
                    await self._sort(message)
                    continue
                self._result = _result(message)
                return
        except ConnectionClosed:
            pass
        except ColonyError as error:
            self._result = error
        finally:
            for sink in self._sinks.values():
                sink.close()
            self._ended.set()

    async def _sort(self, message: bytes) -> None:
        sink = self._sinks.get(message[0] if message else 0)
        if sink is None:
            raise _malformed("a frame belongs to no output")
        try:
            await sink.send(message[1:])
        except trio.BrokenResourceError:
            return  # nobody reads this one any more


@asynccontextmanager
async def open_exec(target: Target, ref: str, request: ExecRequest) -> AsyncIterator[ExecSession]:
    """Runs a command in the cell of a colony; when the block ends it is killed with its tree, if it still runs.

    Raises what the daemon raises; what it says only of the command itself (no such program) comes from `wait`.
    """
    async with open_socket(target, calls.exec_path(ref)) as connection:
        with ungrouped():
            async with trio.open_nursery() as nursery:
                session = ExecSession(connection)
                with as_lost(target):
                    await connection.send_message(wire.dump_json(request).decode())
                nursery.start_soon(session._receive)
                yield session
                nursery.cancel_scope.cancel()


async def _pump(
    target: Target,
    chosen: tuple[tuple[str, str], ...],
    stream: EventStream,
    outgoing: trio.MemorySendChannel[dict[str, Any] | ColonyError],
    give_up_seconds: float,
    *,
    task_status: trio.TaskStatus[None],
) -> None:
    cursor, opened, wait = stream.seq, False, FIRST_RETRY_SECONDS
    lost_at = trio.current_time()
    while True:
        try:
            async with open_socket(target, f"/ws?{urlencode((*chosen, ('after', cursor)))}") as connection:
                stream.server_version = server_version(connection)
                if not opened:
                    task_status.started()
                opened, wait = True, FIRST_RETRY_SECONDS
                try:
                    while True:
                        with as_lost(target):
                            message = await connection.get_message()
                        item = _event(message)
                        cursor = item["seq"]
                        await outgoing.send(item)
                finally:
                    lost_at = trio.current_time()
        except ColonyError as error:
            if not opened:
                raise
            away = isinstance(error, (Unreachable, TooSlow))
            if not away or trio.current_time() - lost_at > give_up_seconds:
                await outgoing.send(error)
                outgoing.close()
                return
        await trio.sleep(wait)
        wait = min(2 * wait, LAST_RETRY_SECONDS)


class _Input(trio.abc.SendStream):
    def __init__(self, connection: WebSocketConnection) -> None:
        self._connection = connection
        self._closed = False

    async def send_all(self, data: bytes | bytearray | memoryview) -> None:
        if self._closed:
            raise trio.ClosedResourceError("the input was ended")
        await trio.lowlevel.checkpoint()
        with memoryview(data) as view:
            for start in range(0, len(view), PIECE_BYTES):
                try:
                    await self._connection.send_message(bytes(view[start : start + PIECE_BYTES]))
                except ConnectionClosed as error:
                    raise trio.BrokenResourceError("the command, or the connection to it, is gone") from error

    async def wait_send_all_might_not_block(self) -> None:
        await trio.lowlevel.checkpoint()

    async def aclose(self) -> None:
        if not self._closed:
            self._closed = True
            with suppress(ConnectionClosed):
                await self._connection.send_message('{"eof": true}')
        await trio.lowlevel.checkpoint()


class _Output(trio.abc.ReceiveStream):
    def __init__(self, incoming: trio.MemoryReceiveChannel[bytes]) -> None:
        self._incoming = incoming
        self._rest = b""

    async def receive_some(self, max_bytes: int | None = None) -> bytes:
        if max_bytes is not None and max_bytes < 1:
            raise ValueError("max_bytes must be positive")
        while not self._rest:
            try:
                self._rest = await self._incoming.receive()
            except trio.EndOfChannel:
                return b""
        cut = len(self._rest) if max_bytes is None else max_bytes
        data, self._rest = self._rest[:cut], self._rest[cut:]
        return data

    async def aclose(self) -> None:
        self._incoming.close()
        await trio.lowlevel.checkpoint()


def _event(message: str | bytes) -> dict[str, Any]:
    try:
        item = json.loads(message)
    except ValueError:
        item = None
    if not isinstance(item, dict) or type(item.get("seq")) is not int:
        raise _malformed("a frame is no event")
    return item


def _result(message: str) -> int | ColonyError:
    try:
        told = json.loads(message)
    except ValueError:
        told = None
    if isinstance(told, dict) and type(told.get("exit")) is int:
        return int(told["exit"])
    if isinstance(told, dict) and isinstance(told.get("error"), dict):
        status = told["error"].get("status")
        return error_from_problem(status if isinstance(status, int) else 500, told["error"])
    return _malformed("a frame tells neither an end nor an error")


def _malformed(why: str) -> Broken:
    return Broken("malformed-answer", f"the daemon said something else than agreed: {why}", "compare colony version")
