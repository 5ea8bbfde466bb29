"""A terminal seen from afar survives what a connection can do to it; the daemon's side is played, frame by frame."""

import json
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any

import pytest
import trio
from trio_websocket import ConnectionClosed, WebSocketConnection, wrap_server_stream

from colony_core.errors import Broken, NotFound, Unreachable
from colony_core.remote import Target, terminals
from colony_core.remote.streaming import Away, open_terminal
from colony_core.views import TerminalEnd, TerminalPlace, TerminalSize

from .conftest import PATIENCE_SECONDS

Handler = Callable[[WebSocketConnection], Awaitable[None]]
SIZE = TerminalSize(24, 80)


class Daemon:
    """Serves one handler after the other, a connection each; then nobody is there any more."""

    def __init__(self, socket: Path, *handlers: Handler) -> None:
        self.target = Target(socket=str(socket))
        self.paths: list[str] = []
        self.heard: list[Any] = []
        self._handlers = list(handlers)
        self.gone = trio.Event()

    async def serve(self, stream: trio.SocketStream) -> None:
        async with trio.open_nursery() as nursery:
            request = await wrap_server_stream(nursery, stream)
            self.paths.append(request.path)
            connection = await request.accept()
            handler = self._handlers.pop(0)
            if not self._handlers:
                self.gone.set()
            with suppress(ConnectionClosed):
                await handler(connection)
            nursery.cancel_scope.cancel()
        await trio.aclose_forcefully(stream)

    async def hear(self, connection: WebSocketConnection, count: int) -> None:
        """Takes what the client says."""
        for _ in range(count):
            message = await connection.get_message()
            self.heard.append(message if isinstance(message, bytes) else json.loads(message))


@asynccontextmanager
async def played(tmp_path: Path, *handlers: Handler) -> AsyncIterator[Daemon]:
    daemon = Daemon(tmp_path / "c.sock", *handlers)
    listener = trio.SocketListener(await _bound(tmp_path / "c.sock"))
    async with trio.open_nursery() as nursery:

        async def until_gone() -> None:
            await daemon.gone.wait()
            listening.cancel()

        listening = trio.CancelScope()

        async def serve() -> None:
            with listening:
                await trio.serve_listeners(daemon.serve, [listener], handler_nursery=nursery)

        nursery.start_soon(serve)
        nursery.start_soon(until_gone)
        with trio.fail_after(PATIENCE_SECONDS):
            yield daemon
        nursery.cancel_scope.cancel()


async def _bound(path: Path) -> Any:
    sock = trio.socket.socket(trio.socket.AF_UNIX)
    await sock.bind(str(path))
    sock.listen(5)
    return sock


def says(*messages: Any, then: Handler | None = None) -> Handler:
    async def handler(connection: WebSocketConnection) -> None:
        for message in messages:
            await connection.send_message(message if isinstance(message, bytes) else json.dumps(message))
        if then is not None:
            await then(connection)

    return handler


def at(place: int, *, missed: int = 0, restore: str = "") -> dict[str, Any]:
    return {"at": place, "missed": missed, "restore": restore}


async def received(session: Any, count: int) -> list[Any]:
    """What is told, without that the connection is away."""
    found: list[Any] = []
    while len(found) < count:
        told = await session.receive()
        if not (isinstance(told, Away) and told.seconds is not None):
            found.append(told)
    return found


@pytest.fixture(autouse=True)
def _soon(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(terminals, "FIRST_RETRY_SECONDS", 0.001)
    monkeypatch.setattr(terminals, "LAST_RETRY_SECONDS", 0.005)


async def test_everything_that_is_told_comes_in_order(tmp_path: Path) -> None:
    size = {"size": {"rows": 30, "columns": 90}}
    handler = says(at(7, missed=7, restore="\x1b[?1049h"), size, b"ab", b"c", {"exit": -9, "why": "idle"})
    async with played(tmp_path, handler) as daemon:
        async with open_terminal(daemon.target, "he llo", "t1", size=SIZE) as session:
            assert await received(session, 5) == [
                TerminalPlace(7, 7, "\x1b[?1049h"), TerminalSize(30, 90), b"ab", b"c", TerminalEnd(-9, "idle")
            ]  # fmt: skip
            assert session.place == 10
        assert daemon.paths == ["/api/colonies/he%20llo/terminals/t1?rows=24&columns=80"]


async def test_a_lost_connection_is_taken_up_behind_the_last_byte(tmp_path: Path) -> None:
    second = says(at(103), b"de", {"exit": 0, "why": ""})
    async with played(tmp_path, says(at(100), b"abc"), second) as daemon:
        async with open_terminal(daemon.target, "hello", "t1", after=100, read_only=True) as session:
            told = await received(session, 6)
        assert told == [
            TerminalPlace(100, 0, ""),
            b"abc",
            Away(None),
            TerminalPlace(103, 0, ""),
            b"de",
            TerminalEnd(0, ""),
        ]
        assert [path.partition("?")[2] for path in daemon.paths] == [
            "after=100&read_only=true",
            "after=103&read_only=true",
        ]


async def test_what_was_shown_is_acknowledged_when_more_is_asked_for(tmp_path: Path) -> None:
    daemon: Daemon

    async def listen(connection: WebSocketConnection) -> None:
        await daemon.hear(connection, 2)
        await connection.send_message(json.dumps({"exit": 0, "why": ""}))

    chunks = [bytes(40_000)] * 4
    async with played(tmp_path, says(at(5), *chunks, then=listen)) as daemon:
        async with open_terminal(daemon.target, "hello", "t1") as session:
            await received(session, 6)
        assert daemon.heard == [{"ack": 80_005}, {"ack": 160_005}]


async def test_typing_and_sizes_reach_the_daemon_and_wait_for_it_while_it_is_away(tmp_path: Path) -> None:
    daemon: Daemon

    async def listen(connection: WebSocketConnection) -> None:
        await daemon.hear(connection, 2)

    async def listen_again(connection: WebSocketConnection) -> None:
        await daemon.hear(connection, 1)
        await connection.send_message(json.dumps({"exit": 0, "why": ""}))

    async with played(tmp_path, says(at(0), then=listen), says(at(0), then=listen_again)) as daemon:
        async with open_terminal(daemon.target, "hello", "t1", size=SIZE) as session:
            await received(session, 1)
            assert await session.type(b"ls\r")
            await session.resize(TerminalSize(31, 91))
            while not isinstance(told := await session.receive(), Away):
                pass
            assert await session.type(b"typed ")
            assert await session.type(b"meanwhile")
            assert not await session.type(bytes(terminals.HELD_INPUT_BYTES))
            while not isinstance(told, TerminalEnd):
                told = await session.receive()
        assert daemon.heard == [b"ls\r", {"resize": {"rows": 31, "columns": 91}}, b"typed meanwhile"]
        assert daemon.paths[1].endswith("after=0&rows=31&columns=91")


async def test_who_only_looks_tells_no_size(tmp_path: Path) -> None:
    daemon: Daemon

    async def listen(connection: WebSocketConnection) -> None:
        await daemon.hear(connection, 1)

    async with played(tmp_path, says(at(0), then=listen)) as daemon:
        async with open_terminal(daemon.target, "hello", "t1", read_only=True) as session:
            await received(session, 1)
            await session.resize(SIZE)
            await session._tell({"ack": 0})
            with trio.fail_after(PATIENCE_SECONDS):
                while not daemon.heard:
                    await trio.sleep(0.001)
        assert daemon.heard == [{"ack": 0}]


async def test_a_daemon_that_stays_away_is_given_up_in_the_end(tmp_path: Path) -> None:
    async with (
        played(tmp_path, says(at(0))) as daemon,
        open_terminal(daemon.target, "hello", "t1", give_up_seconds=0.05) as session,
    ):
        with pytest.raises(Unreachable):
            await received(session, 99)


async def test_a_daemon_that_is_not_there_at_first_is_told_at_once(tmp_path: Path) -> None:
    with pytest.raises(Unreachable):
        async with open_terminal(Target(socket=str(tmp_path / "nobody.sock")), "hello", "t1"):
            pass


async def test_what_the_daemon_says_is_wrong_is_raised(tmp_path: Path) -> None:
    problem = {"status": 404, "code": "terminal-not-found", "detail": "no such", "hint": "", "title": "", "type": ""}
    async with (
        played(tmp_path, says(at(0)), says({"error": problem})) as daemon,
        open_terminal(daemon.target, "hello", "t1") as session,
    ):
        with pytest.raises(NotFound) as caught:
            await received(session, 99)
    assert caught.value.code == "terminal-not-found"


@pytest.mark.parametrize("frame", [{"at": "x", "missed": 0, "restore": ""}, {"exit": None}, [], {"size": {"rows": 1}}])
async def test_nonsense_is_told_as_such(tmp_path: Path, frame: Any) -> None:
    async with played(tmp_path, says(frame)) as daemon, open_terminal(daemon.target, "hello", "t1") as session:
        with pytest.raises(Broken) as caught:
            await session.receive()
    assert caught.value.code == "malformed-answer"
