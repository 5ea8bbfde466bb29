"""The server over real sockets: what clients do wrong costs them their own connection, and nothing keeps it from ending."""

import gc
import json
import os
import socket
import stat
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import trio
import trio.testing
from quart import websocket
from quart_trio import QuartTrio
from trio_websocket import ConnectionClosed, wrap_client_stream

from colony_core.errors import AlreadyExists, Invalid
from colony_core.events import HouseEvent
from colony_web import connection as connection_module
from colony_web import serve as serve_module
from colony_web.app import ColonyApp
from colony_web.listeners import open_unix_listener
from colony_web.protocol import Settings
from colony_web.serve import serve

from .house import CardboardHouse, config_in, with_connections
from .wire import Served, ask, read_all, read_answer, read_until

UPGRADE = (
    b"GET %b HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n"
)
Start = Callable[..., Any]
PATIENCE_SECONDS = 120.0


async def send_for_ever(stream: trio.SocketStream) -> None:
    while True:
        await stream.send_all(b"x")
        await trio.sleep(0.01)


async def alive(served: Served) -> bool:
    return (await served.ask("/api/system")).status == 200


async def test_the_seeds_lines_work(serving: Start, house: CardboardHouse) -> None:
    served = await serving()
    token = (await house.keys.mint("curl", "ape", owner="me")).token
    assert [each["name"] for each in (await served.ask("/api/colonies")).json] == ["hello"]
    assert [each["name"] for each in (await served.ask("/api/colonies", token=token)).json] == ["hello"]
    assert (await served.ask("/api/colonies", token="")).status == 401


async def test_curl_itself_is_answered(serving: Start, house: CardboardHouse) -> None:
    served = await serving()
    token = (await house.keys.mint("curl", "ape", owner="me")).token
    by_socket = ["curl", "-sf", "--unix-socket", served.socket, "http://localhost/api/colonies"]
    by_port = ["curl", "-sf", "-H", f"Authorization: Bearer {token}", f"http://localhost:{served.port}/api/colonies"]
    for command in (by_socket, by_port):
        done = await trio.run_process(command, capture_stdout=True)
        assert json.loads(done.stdout)[0]["name"] == "hello"


async def test_one_byte_behind_an_upgrade_costs_only_its_connection(serving: Start) -> None:
    served = await serving()
    async with await served.unix() as stream:
        await stream.send_all(UPGRADE % b"/ws" + b"\r\nx")
        answer = await read_answer(stream)
    assert answer.status == 400
    assert answer.json["code"] == "malformed-request"
    assert answer.headers["colony-version"] == "0.1.0"
    assert await alive(served)


async def test_bytes_before_an_upgrade_is_answered_cost_only_their_connection(
    serving: Start, house: CardboardHouse
) -> None:
    waiting, goes_on = trio.Event(), trio.Event()
    app = ColonyApp("slow")

    @app.websocket("/slow")
    async def slow() -> None:
        waiting.set()
        await goes_on.wait()

    served = await serving(app)
    async with await served.unix() as stream:
        await stream.send_all(UPGRADE % b"/slow" + b"\r\n")
        await waiting.wait()
        await stream.send_all(b"x")
        await read_all(stream)
    goes_on.set()
    assert (await served.ask("/nothing")).status == 404


async def test_a_subprotocol_that_is_not_ascii_costs_only_its_connection(serving: Start) -> None:
    served = await serving()
    async with await served.unix() as stream:
        await stream.send_all(UPGRADE % b"/ws" + b"Sec-WebSocket-Protocol: \xff\xfe\r\n\r\n")
        assert (await read_answer(stream)).status == 400
    assert await alive(served)


@pytest.mark.parametrize(
    "noise",
    [
        b"\x00" * 100,
        b"\xff\xfe\r\n\r\n",
        b"GET\r\n\r\n",
        b"GET / HTTP/9.9\r\n\r\n",
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
        b"GET / HTTP/1.1\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: localhost\r\nContent-Length: x\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n",
        b"POST /api/colonies HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\nZZ\r\n",
        b"POST / HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: gzip, chunked\r\nContent-Length: 4\r\n\r\nabcd",
        b"GET http://evil.example/ HTTP/1.1\r\nHost: localhost\r\n\r\n",
        b"CONNECT evil.example:80 HTTP/1.1\r\nHost: localhost\r\n\r\n",
        b"GET /%ff%00%2f..%2f HTTP/1.1\r\nHost: localhost\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: localhost\r\nUpgrade: h2c\r\nConnection: Upgrade\r\nHTTP2-Settings: x\r\n\r\n",
        b"GET /ws HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\n",
        UPGRADE % b"/ws" + b"Content-Length: 3\r\n\r\nabc",
        UPGRADE % b"/ws" + b"Sec-WebSocket-Extensions: \xff\r\n\r\n",
    ],
)
async def test_noise_never_ends_the_server(serving: Start, noise: bytes) -> None:
    served = await serving()
    async with await served.unix() as stream:
        await stream.send_all(noise)
        await stream.send_eof()
        said = await read_all(stream)
    assert said == b"" or said.startswith((b"HTTP/1.1 4", b"HTTP/1.1 5", b"HTTP/1.1 200"))
    assert await alive(served)


@pytest.mark.parametrize("frames", [b"\xff\xff\xff\xff", b"\x81\x85\x00\x00\x00\x00\xff\xff\xff\xff\xff", b"\x88\x01x"])
async def test_broken_frames_cost_only_their_connection(serving: Start, frames: bytes) -> None:
    served = await serving()
    async with await served.unix() as stream:
        await stream.send_all(UPGRADE % b"/ws" + b"\r\n")
        assert (await read_until(stream, b"\r\n\r\n")).startswith(b"HTTP/1.1 101")
        await stream.send_all(frames)
        assert b"\x88" in await read_all(stream)
    assert await alive(served)


async def test_a_head_beyond_its_bound_is_refused(serving: Start) -> None:
    served = await serving()
    async with await served.unix() as stream:
        await stream.send_all(b"GET / HTTP/1.1\r\nHost: localhost\r\nX-Big: " + b"a" * 200_000)
        answer = await read_answer(stream)
    assert (answer.status, answer.json["code"]) == (431, "head-too-large")
    assert await alive(served)


async def test_a_request_with_two_lengths_is_refused_and_its_connection_ends(serving: Start) -> None:
    served = await serving()
    async with await served.unix() as stream:
        await stream.send_all(
            b"GET /api/system HTTP/1.1\r\nHost: localhost\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n"
            b"GET /smuggled HTTP/1.1\r\nHost: localhost\r\n\r\n"
        )
        said = await read_all(stream)
    assert said.startswith(b"HTTP/1.1 400 ")
    assert said.count(b"HTTP/1.1 ") == 1
    assert b"two lengths" in said


async def test_a_head_that_never_ends_is_cut(serving: Start, mock_clock: trio.testing.MockClock) -> None:
    served = await serving(head_timeout=5)
    async with await served.unix() as stream:
        await stream.send_all(b"GET / HTTP/1.1\r\nHost: loc")
        await trio.testing.wait_all_tasks_blocked(0.05)
        mock_clock.jump(6)
        assert await read_all(stream) == b""


async def test_a_connection_that_says_nothing_is_cut(serving: Start) -> None:
    served = await serving(head_timeout=0.05)
    async with await served.unix() as stream:
        assert await read_all(stream) == b""


async def test_a_connection_is_kept_for_many_requests(serving: Start) -> None:
    served = await serving()
    async with await served.unix() as stream:
        for _ in range(20):
            assert (await ask(stream, "GET", "/api/system", {"host": "localhost"})).status == 200


async def test_a_kept_connection_is_cut_when_it_idles(serving: Start) -> None:
    served = await serving(keep_alive_timeout=0.05)
    async with await served.unix() as stream:
        assert (await ask(stream, "GET", "/api/system", {"host": "localhost"})).status == 200
        assert await read_all(stream) == b""


@pytest.fixture
def lingering(monkeypatch: pytest.MonkeyPatch) -> None:
    """What a client still sends behind its last answer is read, however long the machine takes for it."""
    monkeypatch.setattr(connection_module, "LINGER_SECONDS", 10_000.0)


async def test_an_answer_before_the_body_was_read_arrives_and_the_connection_ends(
    serving: Start, lingering: None
) -> None:
    served = await serving()
    async with await served.unix() as stream:
        head = b"POST /api/colonies HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
        await stream.send_all(head + b"Content-Length: 10000000\r\n\r\n" + b"x" * 1000)
        answer = await read_answer(stream)
        assert (answer.status, answer.headers["connection"]) == (413, "close")
        await stream.send_all(b"GET /api/system HTTP/1.1\r\nHost: localhost\r\n\r\n")
        with trio.fail_after(PATIENCE_SECONDS):
            assert await stream.receive_some(1000) == b""
    assert await alive(served)


@pytest.mark.parametrize("chunked", [False, True])
async def test_ten_megabytes_are_refused_and_the_answer_arrives(serving: Start, lingering: None, chunked: bool) -> None:
    served = await serving()
    body = b"x" * 10_000_000
    framing = b"Transfer-Encoding: chunked" if chunked else b"Content-Length: %d" % len(body)
    async with await served.tcp() as stream:
        head = b"POST /api/colonies HTTP/1.1\r\nHost: localhost:%d\r\nAuthorization: Bearer ape-1\r\n" % served.port
        await stream.send_all(head + b"Content-Type: application/json\r\n" + framing + b"\r\n\r\n")
        await stream.send_all(b"%x\r\n" % len(body) + body + b"\r\n0\r\n\r\n" if chunked else body)
        assert (await read_answer(stream)).status == 401
    async with await served.unix() as stream:
        head = b"POST /api/colonies HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
        await stream.send_all(head + framing + b"\r\n\r\n")
        await stream.send_all(b"%x\r\n" % len(body) + body + b"\r\n0\r\n\r\n" if chunked else body)
        assert (await read_answer(stream)).status == 413
    assert await alive(served)


async def test_an_expected_continue_is_said(serving: Start) -> None:
    served = await serving()
    async with await served.unix() as stream:
        head = b"POST /api/tokens HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
        await stream.send_all(head + b"Content-Length: 12\r\nExpect: 100-continue\r\n\r\n")
        assert (await read_until(stream, b"\r\n\r\n")).startswith(b"HTTP/1.1 100")
        await stream.send_all(b'{"name":"x"}')
        assert (await read_answer(stream)).status == 201


async def test_requests_sent_ahead_are_answered_in_order(serving: Start) -> None:
    served = await serving()
    one = b"GET %b HTTP/1.1\r\nHost: localhost\r\n%b\r\n"
    async with await served.unix() as stream:
        await stream.send_all(
            one % (b"/api/system", b"") + one % (b"/nothing", b"") + one % (b"/docs", b"Connection: close\r\n")
        )
        said = await read_all(stream)
    assert [said.count(head) for head in (b"HTTP/1.1 200", b"HTTP/1.1 404")] == [2, 1]
    assert said.index(b"HTTP/1.1 404") > said.index(b"HTTP/1.1 200")


async def test_a_client_that_asked_ahead_of_a_stream_and_vanished_leaves_no_task(
    serving: Start, house: CardboardHouse
) -> None:
    served = await serving()
    await alive(served)
    await trio.testing.wait_all_tasks_blocked(0.05)
    before = trio.lowlevel.current_statistics().tasks_living
    async with await served.unix() as stream:
        one = b"GET %b HTTP/1.1\r\nHost: localhost\r\n\r\n"
        await stream.send_all(one % b"/api/colonies/hello/logs/stream" + one % b"/api/system")
        await stream.receive_some(100)
    with trio.fail_after(PATIENCE_SECONDS):
        while trio.lowlevel.current_statistics().tasks_living != before:
            house.write("to nobody")
            await trio.sleep(0.01)


async def test_too_many_connections_are_told_so(serving: Start, house: CardboardHouse) -> None:
    app = ColonyApp("busy")
    asked = trio.Semaphore(0)

    @app.get("/busy")
    async def busy() -> str:
        asked.release()
        await trio.sleep_forever()
        raise AssertionError

    @app.get("/")
    async def home() -> str:
        return "here"

    house.config = with_connections(house.config, 2)
    served = await serving(app)
    host = {"host": f"localhost:{served.port}"}
    async with await served.tcp() as first, await served.tcp() as second:
        for stream in (first, second):
            await stream.send_all(b"GET /busy HTTP/1.1\r\nHost: localhost:%d\r\n\r\n" % served.port)
            await asked.acquire()
        async with await served.tcp() as third:
            answer = await read_answer(third)
        assert (answer.status, answer.json["code"]) == (503, "too-many-connections")
        async with await served.unix() as other:
            assert (await ask(other, "GET", "/", {"host": "localhost"})).status == 200
        await first.aclose()
        await second.aclose()
    with trio.fail_after(PATIENCE_SECONDS):
        while True:
            async with await served.tcp() as fourth:
                if (await ask(fourth, "GET", "/", host)).status == 200:
                    break


async def test_whoever_asks_has_room_before_those_who_ask_nothing(serving: Start, house: CardboardHouse) -> None:
    house.config = with_connections(house.config, 2)
    served = await serving()
    host = {"host": f"localhost:{served.port}"}
    silent = [await served.tcp() for _ in range(5)]
    await silent[4].send_all(b"GET /docs HTTP/1.1\r\nHos")
    await trio.testing.wait_all_tasks_blocked(0.05)
    async with await served.tcp() as busy:
        assert (await ask(busy, "GET", "/docs", host)).status == 200
        assert (await ask(busy, "GET", "/docs", host)).status == 200
    for stream in silent[:4]:
        assert await stream.receive_some(10) == b""
    for stream in silent:
        await stream.aclose()


async def test_strangers_who_take_no_answer_make_room_for_who_has_a_key(serving: Start, house: CardboardHouse) -> None:
    house.config = with_connections(house.config, 2)
    served = await serving()
    token = (await house.keys.mint("ann", "viewer", owner="me")).token
    async with await served.tcp() as first, await served.tcp() as second:
        for stream, path in ((first, "/openapi.json"), (second, "/docs")):
            await stream.send_all(f"GET {path} HTTP/1.1\r\nHost: localhost:{served.port}\r\n\r\n".encode() * 200)
        await trio.testing.wait_all_tasks_blocked(0.05)
        assert (await served.ask("/api/system", token=token)).status == 200


async def test_a_reader_that_is_stuck_cannot_keep_the_server(house: CardboardHouse, nursery: trio.Nursery) -> None:
    """SSE and WebSocket clients that never read; their write deadline is far away, the end is not."""
    settings = Settings()
    settings.graceful_timeout = 0.1
    ended = trio.Event()

    async def run(task_status: Any) -> None:
        await serve(house, settings=settings, task_status=task_status)
        ended.set()

    unix, _ = await nursery.start(run)
    served = Served(unix.removeprefix("unix:"), 0)
    sse, ws = await served.unix(), await served.unix()
    await sse.send_all(b"GET /api/colonies/hello/logs/stream HTTP/1.1\r\nHost: localhost\r\n\r\n")
    await ws.send_all(UPGRADE % b"/ws" + b"\r\n")
    await sse.receive_some(10)
    await ws.receive_some(10)
    for _ in range(200):
        house.write("x" * 20_000)
        house.bus.publish(HouseEvent(what="started", message="x" * 20_000))
    await trio.testing.wait_all_tasks_blocked(0.05)
    house.shutdown_requested.set()
    with trio.fail_after(PATIENCE_SECONDS):
        await ended.wait()
    await sse.aclose()
    await ws.aclose()


async def test_a_stuck_reader_cannot_keep_it_from_being_cancelled(house: CardboardHouse) -> None:
    with trio.fail_after(PATIENCE_SECONDS):
        async with trio.open_nursery() as nursery:
            unix, _ = await nursery.start(serve_task, house)
            served = Served(unix.removeprefix("unix:"), 0)
            stream = await served.unix()
            await stream.send_all(b"GET /api/colonies/hello/logs/stream HTTP/1.1\r\nHost: localhost\r\n\r\n")
            await stream.receive_some(10)
            for _ in range(200):
                house.write("x" * 20_000)
            await trio.testing.wait_all_tasks_blocked(0.05)
            nursery.cancel_scope.cancel()
    await stream.aclose()
    assert not Path(served.socket).exists()


async def serve_task(house: CardboardHouse, task_status: Any = trio.TASK_STATUS_IGNORED) -> None:
    await serve(house, task_status=task_status)


async def test_a_stuck_reader_is_cut_after_its_deadline(serving: Start, house: CardboardHouse) -> None:
    served = await serving(write_timeout=0.1)
    async with await served.unix() as stream:
        await stream.send_all(b"GET /api/colonies/hello/logs/stream HTTP/1.1\r\nHost: localhost\r\n\r\n")
        await stream.receive_some(10)
        for _ in range(200):
            house.write("x" * 20_000)
        with trio.fail_after(PATIENCE_SECONDS), pytest.raises(trio.BrokenResourceError):
            await send_for_ever(stream)
    assert await alive(served)


async def test_streams_are_told_of_the_end_and_the_server_ends_at_once(house: CardboardHouse) -> None:
    settings = Settings()
    settings.graceful_timeout = 10_000.0
    with trio.fail_after(PATIENCE_SECONDS):
        await _end_with_streams(house, settings)


async def _end_with_streams(house: CardboardHouse, settings: Settings) -> None:
    async with trio.open_nursery() as nursery:
        unix, _ = await nursery.start(partial(serve, house, settings=settings))
        served = Served(unix.removeprefix("unix:"), 0)
        stream = await served.unix()
        await stream.send_all(b"GET /api/colonies/hello/logs/stream HTTP/1.1\r\nHost: localhost\r\n\r\n")
        await stream.receive_some(10)
        socket_stream = await served.unix()
        connection = await wrap_client_stream(nursery, socket_stream, "localhost", "/ws")
        idle = await served.unix()
        house.shutdown_requested.set()
        said = await read_all(stream)
        with pytest.raises(ConnectionClosed) as closed:
            await connection.get_message()
        assert await read_all(idle) == b""
        for each in (stream, idle, socket_stream):
            await each.aclose()
    assert b'event: end\ndata: {"reason":"draining"}\n\n' in said
    assert said.endswith(b"0\r\n\r\n")
    assert closed.value.reason.code == 1001
    assert not Path(served.socket).exists()


async def test_an_answer_under_way_is_finished_at_the_end(house: CardboardHouse) -> None:
    house.pause = trio.Event()
    settings = Settings()
    settings.graceful_timeout = 10_000.0
    async with trio.open_nursery() as nursery:
        unix, _ = await nursery.start(partial(serve, house, settings=settings))
        served = Served(unix.removeprefix("unix:"), 0)
        body = b'{"name":"late","path":"/"}'

        async def spawn() -> None:
            answer = await served.ask("/api/colonies", method="POST", body=body, content_type="application/json")
            assert answer.status == 201

        nursery.start_soon(spawn)
        await trio.testing.wait_all_tasks_blocked(0.05)
        house.shutdown_requested.set()
        await trio.testing.wait_all_tasks_blocked(0.05)
        house.pause.set()


@pytest.mark.parametrize("cancelled", [False, True])
async def test_the_apps_own_end_is_run_in_order(house: CardboardHouse, cancelled: bool) -> None:
    story: list[str] = []
    app = QuartTrio("guest")

    @app.before_serving
    async def begin() -> None:
        story.append("begin")

    @app.after_serving
    async def end() -> None:
        await trio.lowlevel.checkpoint()
        story.append("end")

    async with trio.open_nursery() as nursery:
        await nursery.start(lambda task_status: serve(house, app=app, task_status=task_status))
        assert story == ["begin"]
        if cancelled:
            nursery.cancel_scope.cancel()
        else:
            house.shutdown_requested.set()
    assert story == ["begin", "end"]


async def test_our_app_owns_no_lifespan_and_no_nursery(app: Any) -> None:
    assert not app.before_serving_funcs
    assert not app.after_serving_funcs
    assert not app.while_serving_gens
    sources = Path(serve_module.__file__).parent.rglob("*.py")
    assert not [
        path for path in sources if "app.nursery" in path.read_text() or "add_background_task" in path.read_text()
    ]


async def test_a_handler_that_fails_closes_with_1011(serving: Start, caplog: Any) -> None:
    app = ColonyApp("failing")

    @app.websocket("/fails")
    async def fails() -> None:
        await websocket.accept()
        raise RuntimeError("no")

    served = await serving(app)
    async with await served.unix() as stream, trio.open_nursery() as nursery:
        connection = await wrap_client_stream(nursery, stream, "localhost", "/fails")
        with pytest.raises(ConnectionClosed) as closed:
            await connection.get_message()
    assert closed.value.reason.code == 1011
    assert "RuntimeError: no" in caplog.text


async def test_an_empty_binary_message_arrives(serving: Start) -> None:
    app = ColonyApp("echo")

    @app.websocket("/echo")
    async def echo() -> None:
        while True:
            await websocket.send(await websocket.receive())

    served = await serving(app)
    async with await served.unix() as stream, trio.open_nursery() as nursery:
        connection = await wrap_client_stream(nursery, stream, "localhost", "/echo")
        for message in (b"", "", b"x", "é"):
            await connection.send_message(message)
            assert await connection.get_message() == message
        await connection.aclose()


async def test_a_message_that_is_too_large_closes_with_1009(serving: Start) -> None:
    served = await serving()
    async with await served.unix() as stream, trio.open_nursery() as nursery:
        connection = await wrap_client_stream(nursery, stream, "localhost", "/ws")
        await connection.send_message(b"x" * (2**20 + 1))
        with pytest.raises(ConnectionClosed) as closed:
            await connection.get_message()
    assert closed.value.reason.code == 1009
    assert await alive(served)


async def test_compression_is_declined(serving: Start) -> None:
    served = await serving()
    async with await served.unix() as stream:
        await stream.send_all(UPGRADE % b"/ws" + b"Sec-WebSocket-Extensions: permessage-deflate\r\n\r\n")
        head = (await read_until(stream, b"\r\n\r\n")).lower()
    assert head.startswith(b"http/1.1 101")
    assert b"sec-websocket-extensions" not in head


async def test_listeners_are_not_inherited_and_the_socket_is_private(serving: Start) -> None:
    served = await serving()
    about = os.stat(served.socket)
    assert stat.S_ISSOCK(about.st_mode)
    assert stat.S_IMODE(about.st_mode) == 0o600
    ours = [int(name) for name in os.listdir("/proc/self/fd")]
    inherited = []
    for descriptor in ours:
        try:
            if stat.S_ISSOCK(os.fstat(descriptor).st_mode) and os.get_inheritable(descriptor):
                inherited.append(descriptor)
        except OSError:
            continue
    assert not inherited


async def test_a_leftover_socket_is_replaced_and_the_file_goes_at_the_end(tmp_path: Path) -> None:
    path = tmp_path / "run" / "colony.sock"
    path.parent.mkdir()
    with socket.socket(socket.AF_UNIX) as old:
        old.bind(str(path))
    async with open_unix_listener(path):
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
        (await trio.open_unix_socket(str(path))).socket.close()
        assert os.listdir(path.parent) == ["colony.sock"]
    assert not path.exists()


async def test_the_file_of_a_successor_is_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "colony.sock"
    async with open_unix_listener(path), open_unix_listener(path.with_name("next.sock")):
        path.with_name("next.sock").rename(path)
    assert path.exists()


async def test_a_path_that_is_too_long_is_told(tmp_path: Path) -> None:
    with pytest.raises(Invalid, match="longer than the 107 bytes"):
        async with open_unix_listener(tmp_path / ("x" * 120)):
            pass


async def test_a_taken_port_is_named_and_leaves_no_socket(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        house = CardboardHouse(config_in(tmp_path, port=taken.getsockname()[1]))
        with pytest.raises(AlreadyExists) as error:
            await serve(house)
    assert error.value.code == "port-taken"
    assert not house.config.folders.socket.exists()


async def test_no_task_and_no_descriptor_is_left_by_clients_that_vanish(serving: Start, house: CardboardHouse) -> None:
    served = await serving()
    await alive(served)
    await trio.testing.wait_all_tasks_blocked(0.05)
    gc.collect()  # what others left to the collector goes now, and not while we count
    before = (len(os.listdir("/proc/self/fd")), trio.lowlevel.current_statistics().tasks_living)
    for path in (b"/api/system", b"/api/colonies/hello/logs/stream"):
        for _ in range(5):
            stream = await served.unix()
            await stream.send_all(b"GET %b HTTP/1.1\r\nHost: localhost\r\n\r\n" % path)
            await stream.receive_some(10)
            await stream.aclose()
    for _ in range(5):
        stream = await served.unix()
        await stream.send_all(UPGRADE % b"/ws" + b"\r\n")
        await stream.receive_some(10)
        await stream.aclose()
    with trio.fail_after(PATIENCE_SECONDS):
        while (len(os.listdir("/proc/self/fd")), trio.lowlevel.current_statistics().tasks_living) != before:
            await trio.sleep(0.01)


async def test_a_websocket_is_refused_as_a_problem(serving: Start, house: CardboardHouse) -> None:
    served = await serving()
    async with await served.tcp() as stream:
        await stream.send_all((UPGRADE % b"/ws").replace(b"localhost", b"localhost:%d" % served.port) + b"\r\n")
        answer = await read_answer(stream)
    assert (answer.status, answer.json["code"]) == (401, "token-required")


async def test_a_client_that_hangs_up_while_it_waits_is_no_failure(serving: Start, caplog: Any) -> None:
    app = ColonyApp("waiting")
    waiting, over = trio.Event(), trio.Event()

    @app.get("/waits")
    async def waits() -> str:
        try:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(trio.sleep_forever)
                waiting.set()
        finally:
            over.set()
        return "never"

    served = await serving(app)
    stream = await served.unix()
    await stream.send_all(b"GET /waits HTTP/1.1\r\nHost: localhost\r\n\r\n")
    await waiting.wait()
    await stream.aclose()
    await over.wait()
    await trio.testing.wait_all_tasks_blocked()
    assert not caplog.records
