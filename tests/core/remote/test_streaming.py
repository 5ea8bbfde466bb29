"""Events and commands over WebSockets survive what a connection can do to them."""

import json
import math
import subprocess
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import attrs
import pytest
import trio
from trio_websocket import ConnectionClosed, WebSocketConnection, wrap_server_stream

from colony_core.errors import Broken, ColonyError, NotAllowed, NotFound, Unreachable
from colony_core.remote import Target, sockets, streaming
from colony_core.remote.streaming import open_events, open_exec
from colony_core.views import ExecRequest

from .authority import Authority, serving
from .conftest import PATIENCE_SECONDS, request_of

Handler = Callable[[WebSocketConnection], Awaitable[None]]
Stream = trio.SocketStream | trio.SSLStream[trio.SocketStream]
Raw = Callable[[Stream], Awaitable[None]]
LIBRARYS_GOODBYE_SECONDS = 60.0
"""How long trio-websocket would wait for an answer to its own goodbye."""
TRUE = ExecRequest(command=("true",), env={"A": "b"})


class Daemon:
    """Serves one handler after the other; the last one again and again."""

    def __init__(self, target: Target) -> None:
        self.target = target
        self.paths: list[str] = []
        self.headers: list[dict[bytes, bytes]] = []
        self.handlers: list[Handler] = []
        self.raw: Raw | None = None
        self.life = trio.CancelScope()

    async def run(self, listeners: Sequence[trio.abc.Listener[Stream]]) -> None:
        with self.life:
            await trio.serve_listeners(self.serve, listeners)

    async def serve(self, stream: Stream) -> None:
        if isinstance(stream, trio.SSLStream):
            await stream.do_handshake()
        if self.raw:
            await self.raw(stream)
            await stream.aclose()
            return
        async with trio.open_nursery() as nursery:
            request = await wrap_server_stream(nursery, stream)
            self.paths.append(request.path)
            self.headers.append(dict(request.headers))
            handler = self.handlers.pop(0) if len(self.handlers) > 1 else self.handlers[0]
            connection = await request.accept(extra_headers=[(b"Colony-Version", b"9.9.9")])
            try:
                await handler(connection)
                with trio.move_on_after(1):
                    await connection.aclose()
            except ConnectionClosed:
                pass
            nursery.cancel_scope.cancel()
        await trio.aclose_forcefully(stream)


@asynccontextmanager
async def open_daemon(target: Target, *handlers: Handler, raw: Raw | None = None) -> AsyncIterator[Daemon]:
    listeners: Sequence[trio.abc.Listener[Stream]]
    if target.socket:
        Path(target.socket).unlink(missing_ok=True)
        sock = trio.socket.socket(trio.socket.AF_UNIX)
        await sock.bind(target.socket)
        sock.listen(5)
        listeners = [trio.SocketListener(sock)]
    else:
        plain = await trio.open_tcp_listeners(target.port, host=target.host)
        target = attrs.evolve(target, port=plain[0].socket.getsockname()[1])
        tls = serving(target.ca_file) if target.ca_file else None
        listeners = [trio.SSLListener(each, tls, https_compatible=True) for each in plain] if tls else plain
    daemon = Daemon(target)
    daemon.handlers, daemon.raw = list(handlers), raw
    async with trio.open_nursery() as nursery:
        nursery.start_soon(daemon.run, listeners)
        yield daemon
        nursery.cancel_scope.cancel()


@pytest.fixture(params=["unix", "tcp", "tls"])
def target(request: pytest.FixtureRequest, tmp_path: Path, authority: Authority) -> Target:
    if request.param == "unix":
        return Target(socket=str(tmp_path / "c.sock"), token="cut_1_x")
    if request.param == "tls":
        return Target(host="127.0.0.1", port=0, token="cut_1_x", tls=True, ca_file=str(authority.root))
    return Target(host="127.0.0.1", port=0, token="cut_1_x")


@pytest.fixture(autouse=True)
def _soon(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(streaming, "FIRST_RETRY_SECONDS", 0.001)


def events(*numbers: int, end: Handler | None = None) -> Handler:
    async def handler(connection: WebSocketConnection) -> None:
        for number in numbers:
            await connection.send_message(json.dumps({"seq": number, "type": "house"}))
        if end:
            await end(connection)

    return handler


async def for_ever(connection: WebSocketConnection) -> None:
    await trio.sleep_forever()


async def abort(connection: WebSocketConnection) -> None:
    await trio.aclose_forcefully(connection._stream)


async def take(stream: AsyncIterator[dict[str, Any]], number: int) -> list[int]:
    return [(await anext(stream))["seq"] for _ in range(number)]


async def test_events_come_in_order_and_carry_the_token(target: Target) -> None:
    async with open_daemon(target, events(5, 6, 7, end=for_ever)) as daemon, open_events(daemon.target, 4) as stream:
        assert await take(stream, 3) == [5, 6, 7]
        assert stream.seq == 7
        assert stream.server_version == "9.9.9"
        assert daemon.paths == ["/ws?after=4"]
        assert daemon.headers[0][b"authorization"] == b"Bearer cut_1_x"


@pytest.mark.parametrize("end", [None, abort])
async def test_a_lost_connection_is_taken_up_behind_the_last_event(target: Target, end: Handler | None) -> None:
    handlers = [events(5, 6, end=end), events(end=end), events(7, 8, end=for_ever)]
    async with open_daemon(target, *handlers) as daemon, open_events(daemon.target, 4) as stream:
        assert await take(stream, 4) == [5, 6, 7, 8]
        assert daemon.paths == ["/ws?after=4", "/ws?after=6", "/ws?after=6"]


async def test_a_daemon_that_comes_back_is_found_again(tmp_path: Path) -> None:
    target = Target(socket=str(tmp_path / "c.sock"))
    async with open_daemon(target, events(1, end=for_ever)) as first, open_events(target, 0) as stream:
        assert await take(stream, 1) == [1]
        first.life.cancel()
        async with open_daemon(target, events(2, end=for_ever)) as second:
            assert await take(stream, 1) == [2]
            assert second.paths == ["/ws?after=1"]


async def test_a_daemon_that_does_not_come_back_is_told(tmp_path: Path) -> None:
    target = Target(socket=str(tmp_path / "c.sock"))
    async with (
        open_daemon(target, events(1, end=for_ever)) as daemon,
        open_events(target, 0, give_up_seconds=0.02) as stream,
    ):
        assert await take(stream, 1) == [1]
        daemon.life.cancel()
        with pytest.raises(Unreachable):
            await take(stream, 1)
        with pytest.raises(StopAsyncIteration):
            await anext(stream)


async def test_without_a_cursor_events_come_from_now_on(target: Target) -> None:
    asked: list[bytes] = []

    async def http_then_websocket(stream: Stream) -> None:
        asked.append(await request_of(stream))
        body = b'{"last_event": 41}'
        head = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n" % len(body)
        await stream.send_all(head + body)
        daemon.raw = None

    async with open_daemon(target, events(42, end=for_ever), raw=http_then_websocket) as daemon:
        async with open_events(daemon.target) as stream:
            assert await take(stream, 1) == [42]
        assert daemon.paths == ["/ws?after=41"]
        assert asked[0].startswith(b"GET /api/system HTTP/1.1\r\n")


def refusing(status: int, body: bytes, kind: str, heard: bytearray | None = None) -> Raw:
    async def raw(stream: Stream) -> None:
        (bytearray() if heard is None else heard).extend(await request_of(stream))
        head = f"HTTP/1.1 {status} No\r\nContent-Type: {kind}\r\nContent-Length: {len(body)}\r\n\r\n"
        await stream.send_all(head.encode() + body)

    return raw


async def test_a_refusal_is_the_error_that_the_daemon_raised(target: Target) -> None:
    problem = json.dumps({"code": "token-unknown", "detail": "opens nothing", "hint": "make one"}).encode()
    heard = bytearray()
    async with open_daemon(target, raw=refusing(401, problem, "application/problem+json", heard)) as daemon:
        for opened in (open_events(daemon.target, 0), open_exec(daemon.target, "hello", TRUE)):
            with pytest.raises(NotAllowed) as caught:
                async with opened:
                    raise AssertionError("opened")
            assert (caught.value.code, caught.value.hint) == ("token-unknown", "make one")
        assert heard.lower().count(f"\r\nhost: {daemon.target.authority}\r\n".encode()) == 2


async def test_a_refusal_after_a_lost_connection_is_told_and_ends_the_events(target: Target) -> None:
    async def lose(connection: WebSocketConnection) -> None:
        daemon.raw = refusing(404, b'{"code": "gone"}', "application/problem+json")

    async with open_daemon(target, events(1, end=lose)) as daemon, open_events(daemon.target, 0) as stream:
        assert await take(stream, 1) == [1]
        with pytest.raises(NotFound):
            await take(stream, 1)


async def _hangs_up(stream: Stream) -> None:
    await request_of(stream)


async def _hangs_up_at_once(stream: Stream) -> None:
    pass


async def _speaks_something_else(stream: Stream) -> None:
    await stream.send_all(b"SSH-2.0-OpenSSH_9.2\r\n\r\n")
    await stream.receive_some(65536)
    await trio.sleep_forever()


async def _is_silent(stream: Stream) -> None:
    await trio.sleep_forever()


@pytest.mark.parametrize("raw", [_hangs_up, _hangs_up_at_once, _speaks_something_else, _is_silent])
async def test_what_is_no_daemon_is_told(target: Target, raw: Raw, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sockets, "HANDSHAKE_SECONDS", 0.05 if raw is _is_silent else math.inf)
    async with open_daemon(target, raw=raw) as daemon:
        with trio.fail_after(PATIENCE_SECONDS), pytest.raises(Unreachable) as caught:
            async with open_events(daemon.target, 0):
                raise AssertionError("opened")
        assert caught.value.code == "connection-lost"


async def test_nobody_there_says_how_to_start_one(tmp_path: Path) -> None:
    for target in (Target(socket=str(tmp_path / "none")), Target(socket="/" + "x" * 200), Target(port=1)):
        with pytest.raises(Unreachable) as caught:
            async with open_events(target, 0):
                raise AssertionError("opened")
        assert (caught.value.code, caught.value.hint) == ("daemon-unreachable", "colony serve")


@pytest.mark.parametrize("message", ["{nonsense", "[1]", '{"type": "house"}', '{"seq": "1"}', b"\xff\x00"])
async def test_a_frame_that_is_no_event_is_told(target: Target, message: str | bytes) -> None:
    async def handler(connection: WebSocketConnection) -> None:
        await connection.send_message(message)

    async with open_daemon(target, handler) as daemon, open_events(daemon.target, 0) as stream:
        with pytest.raises(Broken) as caught:
            await take(stream, 1)
        assert caught.value.code == "malformed-answer"


async def test_an_error_in_the_block_comes_out_as_it_is(target: Target) -> None:
    async with open_daemon(target, for_ever) as daemon:
        for opened in (open_events(daemon.target, 0), open_exec(daemon.target, "hello", TRUE)):
            with trio.fail_after(LIBRARYS_GOODBYE_SECONDS / 2), pytest.raises(ZeroDivisionError):
                async with opened:
                    raise ZeroDivisionError


async def test_leaving_does_not_wait_for_a_daemon_that_no_longer_reads(
    target: Target, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sockets, "GOODBYE_SECONDS", 0.02)
    upgraded = trio.Event()

    async def deaf(stream: Stream) -> None:
        async with trio.open_nursery() as nursery:
            request = await wrap_server_stream(nursery, stream)
            await request.accept()
            upgraded.set()
            nursery.cancel_scope.cancel()
        await trio.sleep_forever()

    async with open_daemon(target, raw=deaf) as daemon:
        with trio.fail_after(LIBRARYS_GOODBYE_SECONDS / 2):
            async with open_exec(daemon.target, "hello", TRUE):
                await upgraded.wait()


async def send_for_ever(stream: trio.abc.SendStream) -> None:
    while True:
        await stream.send_all(b"x" * 100_000)


async def echo(connection: WebSocketConnection) -> None:
    request = json.loads(await connection.get_message())
    received = b""
    while isinstance(message := await connection.get_message(), bytes):
        received += message
    assert json.loads(message) == {"eof": True}
    for start in range(0, len(received), 50_000):
        await connection.send_message(b"\x01" + received[start : start + 50_000])
    await connection.send_message(b"\x02" + json.dumps(request).encode())
    await connection.send_message('{"exit": 7}')


async def read_all(stream: trio.abc.ReceiveStream, into: bytearray) -> None:
    while data := await stream.receive_some(1000):
        assert len(data) <= 1000
        into += data


async def test_a_command_gets_its_input_and_gives_output_and_code(target: Target) -> None:
    data = bytes(range(256)) * 1000
    out, err = bytearray(), bytearray()
    async with open_daemon(target, echo) as daemon:
        async with open_exec(daemon.target, "hello", TRUE) as session:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(read_all, session.stdout, out)
                nursery.start_soon(read_all, session.stderr, err)
                await session.stdin.send_all(data)
                await session.stdin.aclose()
                await session.stdin.aclose()
            assert await session.wait() == 7
            assert session.server_version == "9.9.9"
            with pytest.raises(trio.ClosedResourceError):
                await session.stdin.send_all(b"late")
        assert daemon.paths == ["/api/colonies/hello/exec"]
    assert bytes(out) == data
    assert json.loads(err) == {"command": ["true"], "cwd": None, "env": {"A": "b"}, "screen": None}


async def test_an_output_that_is_closed_does_not_hold_up_the_other(target: Target) -> None:
    async def handler(connection: WebSocketConnection) -> None:
        await connection.get_message()
        for _ in range(500):
            await connection.send_message(b"\x02noise")
        await connection.send_message(b"\x01end")
        await connection.send_message('{"exit": 0}')

    async with open_daemon(target, handler) as daemon, open_exec(daemon.target, "hello", TRUE) as session:
        await session.stderr.aclose()
        out = bytearray()
        await read_all(session.stdout, out)
        assert out == b"end"
        assert await session.wait() == 0


async def test_a_command_that_could_not_start_is_told(target: Target) -> None:
    async def handler(connection: WebSocketConnection) -> None:
        await connection.get_message()
        problem = {"status": 404, "code": "command-not-found", "detail": "no such program", "hint": "install it"}
        await connection.send_message(json.dumps({"error": problem}))
        await connection.aclose(4404, "command-not-found")

    async with open_daemon(target, handler) as daemon, open_exec(daemon.target, "hello", TRUE) as session:
        with pytest.raises(NotFound) as caught:
            await session.wait()
        assert caught.value.code == "command-not-found"
        assert await session.stdout.receive_some() == b""


@pytest.mark.parametrize(
    ("message", "code"),
    [
        ("{nonsense", "malformed-answer"),
        ('{"exit": "0"}', "malformed-answer"),
        (b"\x07abc", "malformed-answer"),
        (b"", "malformed-answer"),
        (None, "connection-lost"),
    ],
)
async def test_a_command_whose_connection_goes_wrong_is_told(
    target: Target, message: str | bytes | None, code: str
) -> None:
    async def handler(connection: WebSocketConnection) -> None:
        await connection.get_message()
        if message is None:
            await abort(connection)
        else:
            await connection.send_message(message)

    async with open_daemon(target, handler) as daemon, open_exec(daemon.target, "hello", TRUE) as session:
        with pytest.raises(ColonyError) as caught:
            await session.wait()
        assert caught.value.code == code
        assert await session.stderr.receive_some() == b""
        with pytest.raises(trio.BrokenResourceError):
            await send_for_ever(session.stdin)


async def test_a_message_without_bound_is_not_taken(target: Target, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sockets, "MAX_MESSAGE_BYTES", 1000)

    async def handler(connection: WebSocketConnection) -> None:
        await connection.get_message()
        await connection.send_message(b"\x01" + b"x" * 2000)

    async with open_daemon(target, handler) as daemon, open_exec(daemon.target, "hello", TRUE) as session:
        with pytest.raises(Unreachable):
            await session.wait()


async def test_leaving_the_block_hangs_up_so_that_the_command_is_ended(target: Target) -> None:
    gone = trio.Event()

    async def handler(connection: WebSocketConnection) -> None:
        await connection.get_message()
        try:
            await connection.get_message()
        except ConnectionClosed:
            gone.set()

    async with open_daemon(target, handler) as daemon:
        async with open_exec(daemon.target, "hello", TRUE):
            pass
        with trio.fail_after(PATIENCE_SECONDS):
            await gone.wait()


def test_the_streaming_door_needs_no_web_framework() -> None:
    program = "import sys, colony_core.remote.streaming; print([m for m in sys.argv[1:] if m in sys.modules])"
    heavy = ["quart", "hypercorn", "sqlalchemy", "asyncio", "click"]
    done = subprocess.run([sys.executable, "-c", program, *heavy], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"
