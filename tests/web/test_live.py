"""What does not end: log streams, events, commands. In memory where time matters, over real sockets where the kernel does."""

import json
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
import trio
import trio.testing
from quart_trio import QuartTrio
from trio_websocket import ConnectionClosed, WebSocketConnection, wrap_client_stream

from colony_core.access import AuditRecord
from colony_core.bus import Bus
from colony_core.events import ColonyCreated, HouseEvent
from colony_web.auth import DRAINING, PEER
from colony_web.live.stream import HEARTBEAT_SECONDS, WAITING_PARTS, WRITE_BYTES, EventStream, send_joined

from .conftest import OWNER
from .house import CardboardHouse, colony_view
from .wire import Served, read_all

STREAM = "/api/colonies/hello/logs/stream"
Start = Callable[..., Any]


@asynccontextmanager
async def streaming(app: QuartTrio, path: str, **headers: str) -> AsyncIterator[Any]:
    """Reads a stream of server-sent events in memory, frame by frame."""
    connection = app.test_client().request(
        path,
        headers={name.replace("_", "-"): text for name, text in headers.items()},
        scope_base={"state": {PEER: OWNER}},
    )
    async with connection:
        waiting: list[str] = []

        async def frame() -> str:
            while not waiting:
                waiting.extend(part for part in (await connection.receive()).decode().split("\n\n") if part)
            return waiting.pop(0)

        await connection.send_complete()
        assert await frame() == "retry: 2000"
        yield frame
        await connection.disconnect()
        await trio.testing.wait_all_tasks_blocked()
        await connection._client_send.aclose()  # quart-trio's client would wait for an end that nobody sends any more


async def test_lines_come_as_they_are_written(app: QuartTrio, house: CardboardHouse) -> None:
    house.write("before")
    async with streaming(app, STREAM) as frame:
        await trio.testing.wait_all_tasks_blocked()
        house.write("one\nline")
        identity, event, data = (await frame()).split("\n")
    assert (identity, event) == ("id: 2", "event: line")
    line = json.loads(data.removeprefix("data: "))
    assert line == {"seq": 2, "at": "2026-01-31T08:15:00.000Z", "service": "web", "stream": "out", "text": "one\nline"}


async def ids(frame: Any, number: int) -> list[str]:
    return [(await frame()).partition("\n")[0].removeprefix("id: ") for _ in range(number)]


async def test_a_stream_begins_where_it_is_told(app: QuartTrio, house: CardboardHouse) -> None:
    for number in range(5):
        house.write(str(number), service="web" if number % 2 else "api")
    async with streaming(app, f"{STREAM}?after=3") as frame:
        assert await ids(frame, 2) == ["4", "5"]
    async with streaming(app, f"{STREAM}?tail=2") as frame:
        assert await ids(frame, 2) == ["4", "5"]
        house.write("next")
        assert await ids(frame, 1) == ["6"]
    async with streaming(app, f"{STREAM}?after=0&service=api") as frame:
        assert await ids(frame, 3) == ["1", "3", "5"]


async def test_a_client_that_comes_back_goes_on_where_it_was(app: QuartTrio, house: CardboardHouse) -> None:
    for number in range(5):
        house.write(str(number))
    async with streaming(app, f"{STREAM}?after=0&tail=5", last_event_id="3") as frame:
        assert await ids(frame, 2) == ["4", "5"]


async def test_dropped_lines_are_told(app: QuartTrio, house: CardboardHouse) -> None:
    house.first_line = 11
    house.write("eleven")
    async with streaming(app, f"{STREAM}?after=4") as frame:
        missed = await frame()
        assert await ids(frame, 1) == ["11"]
    assert missed == 'id: 10\nevent: missed\ndata: {"first":5,"last":10,"count":6}'


@pytest.mark.parametrize(
    ("query", "header", "status"),
    [("", "x", 422), ("", "-1", 422), ("?after=x", "", 422), ("?limit=5", "", 422), ("?service=wep", "", 404)],
)
async def test_a_stream_that_makes_no_sense_never_begins(client: Any, query: str, header: str, status: int) -> None:
    answer = await client.get(STREAM + query, headers={"Last-Event-ID": header})
    assert answer.status_code == status
    assert answer.content_type == "application/problem+json"


async def test_a_stream_of_no_colony_never_begins(client: Any) -> None:
    assert (await client.get("/api/colonies/nobody/logs/stream")).status_code == 404


async def test_a_head_of_a_stream_has_no_body(client: Any) -> None:
    answer = await client.head(STREAM)
    assert (answer.status_code, answer.content_type, await answer.get_data()) == (200, "text/event-stream", b"")


async def test_a_quiet_stream_is_kept_alive_far_beyond_the_frameworks_patience(
    app: QuartTrio, house: CardboardHouse, autojump_clock: Any
) -> None:
    assert app.config["RESPONSE_TIMEOUT"] == 60
    async with streaming(app, STREAM) as frame:
        began = trio.current_time()
        for _ in range(20):
            assert await frame() == ": still here"
        assert trio.current_time() - began == pytest.approx(20 * HEARTBEAT_SECONDS, abs=1)
        house.write("at last")
        assert "at last" in await frame()


async def test_a_log_that_ends_ends_its_stream(app: QuartTrio, house: CardboardHouse) -> None:
    async with streaming(app, STREAM) as frame:
        await trio.testing.wait_all_tasks_blocked()
        house.write("the end")
        assert await frame() == 'event: end\ndata: {"reason":"log-ended"}'


async def test_a_log_ends_with_its_colony(app: QuartTrio, house: CardboardHouse) -> None:
    async with streaming(app, STREAM) as frame:
        await trio.testing.wait_all_tasks_blocked()
        await house.remove("hello")
        assert await frame() == 'event: end\ndata: {"reason":"log-ended"}'


async def test_a_log_that_breaks_says_why_before_it_ends(app: QuartTrio, house: CardboardHouse) -> None:
    async with streaming(app, STREAM) as frame:
        await trio.testing.wait_all_tasks_blocked()
        house.write("trouble")
        error = await frame()
        assert await frame() == 'event: end\ndata: {"reason":"error"}'
    assert error.startswith("event: error\n")
    assert json.loads(error.partition("data: ")[2])["code"] == "log-broken"


@pytest.mark.parametrize("by_server", [True, False])
async def test_a_stream_ends_when_server_or_house_goes_down(
    app: QuartTrio, house: CardboardHouse, by_server: bool
) -> None:
    draining = trio.Event()
    state = {PEER: OWNER} | ({DRAINING: draining} if by_server else {})
    connection = app.test_client().request(STREAM, scope_base={"state": state})
    async with connection:
        await connection.send_complete()
        await connection.receive()
        (draining if by_server else house.shutdown_requested).set()
        assert await connection.receive() == b'event: end\ndata: {"reason":"draining"}\n\n'


async def test_lines_written_at_once_are_sent_at_once(serving: Start, house: CardboardHouse) -> None:
    served = await serving()
    for number in range(200):
        house.write(str(number))
    async with await served.unix() as stream:
        await stream.send_all(f"GET {STREAM}?after=0 HTTP/1.1\r\nHost: localhost\r\n\r\n".encode())
        said = b""
        chunks = 0
        while b'"text":"199"' not in said:
            said += await stream.receive_some(2**20)
        chunks = said.count(b"\r\n") // 2
    assert said.count(b"event: line") == 200
    assert chunks < 100


async def test_frames_are_joined_into_parts_and_few_parts_wait_for_a_slow_client(nursery: trio.Nursery) -> None:
    taken: list[int] = []

    def frames() -> Iterator[bytes]:
        for number in range(10_000):
            taken.append(number)
            yield b"%06d" % number * 100

    async def fill(send: trio.MemorySendChannel[bytes]) -> None:
        await send_joined(frames(), send)

    async with EventStream(fill) as stream:
        await trio.testing.wait_all_tasks_blocked()
        assert len(taken) * 600 < (WAITING_PARTS + 2) * WRITE_BYTES
        parts = [part async for part in stream]
    assert b"".join(parts) == b"".join(b"%06d" % number * 100 for number in range(10_000))
    assert len(parts) < 10_000 * 600 / WRITE_BYTES + 1


@asynccontextmanager
async def connected(served: Served, path: str) -> AsyncIterator[WebSocketConnection]:
    async with await served.unix() as stream, trio.open_nursery() as nursery:
        connection = await wrap_client_stream(nursery, stream, "localhost", path)
        yield connection
        await connection.aclose()
        nursery.cancel_scope.cancel()


def publish(house: CardboardHouse, number: int) -> None:
    house.bus.publish(HouseEvent(what="started", message=str(number)))


async def test_one_event_is_one_text_frame_is_one_object(serving: Start, house: CardboardHouse) -> None:
    served = await serving()
    for number in range(3):
        publish(house, number)
    async with connected(served, "/ws?after=1") as socket:
        first = await socket.get_message()
        assert isinstance(first, str)
        event = json.loads(first)
        assert (event["seq"], event["type"], event["what"], event["message"]) == (2, "house", "started", "1")
        assert json.loads(await socket.get_message())["seq"] == 3
        publish(house, 3)
        assert json.loads(await socket.get_message())["seq"] == 4


async def test_without_a_cursor_only_news_are_told(serving: Start, house: CardboardHouse) -> None:
    served = await serving()
    publish(house, 0)
    async with connected(served, "/ws") as socket:
        await trio.testing.wait_all_tasks_blocked(0.05)
        publish(house, 1)
        assert json.loads(await socket.get_message())["seq"] == 2


async def test_events_that_are_no_longer_kept_are_told_as_missed(serving: Start, house: CardboardHouse) -> None:
    house.bus = Bus(first_seq=100, kept=2)
    served = await serving()
    for number in range(4):
        publish(house, number)
    async with connected(served, "/ws?after=7") as socket:
        assert json.loads(await socket.get_message()) == {"seq": 101, "type": "missed", "first": 8, "last": 101}
        assert json.loads(await socket.get_message())["seq"] == 102


@pytest.mark.parametrize("query", ["after=x", "after=-1", "aftr=1", "kind=colour"])
async def test_a_cursor_that_makes_no_sense_opens_nothing(serving: Start, query: str) -> None:
    served = await serving()
    upgrade = {"connection": "upgrade", "upgrade": "websocket", "sec-websocket-version": "13"}
    answer = await served.ask(f"/ws?{query}", sec_websocket_key="AAAAAAAAAAAAAAAAAAAAAA==", **upgrade)
    assert answer.status == 422
    assert answer.headers["content-type"] == "application/problem+json"


async def test_a_cursor_that_nobody_was_told_opens_nothing(serving: Start, house: CardboardHouse) -> None:
    served = await serving()
    publish(house, 0)
    answer = await served.ask("/api/events/stream?after=2")
    assert (answer.status, answer.json["code"]) == (409, "cursor-ahead")


async def test_events_of_a_choice_are_told_to_each_face(serving: Start, house: CardboardHouse, app: QuartTrio) -> None:
    served = await serving()
    for name in ("hello", "other", "hello"):
        house.bus.publish(ColonyCreated(colony=name, colony_id=f"col_{name}"))
        publish(house, 0)
    async with connected(served, "/ws?after=0&colony=hello") as socket:
        assert [json.loads(await socket.get_message())["seq"] for _ in range(2)] == [1, 5]
    async with connected(served, "/ws?after=0&kind=house&kind=colony_removed") as socket:
        assert [json.loads(await socket.get_message())["seq"] for _ in range(3)] == [2, 4, 6]
    async with streaming(app, "/api/events/stream?colony=col_other&after=0") as frame:
        assert await ids(frame, 1) == ["3"]
        house.bus.publish(ColonyCreated(colony="other", colony_id="col_other"))
        assert await ids(frame, 1) == ["7"]


async def test_a_stream_of_events_goes_on_where_its_reader_was(app: QuartTrio, house: CardboardHouse) -> None:
    house.bus = Bus(first_seq=10, kept=3)
    for number in range(5):
        publish(house, number)
    async with streaming(app, "/api/events/stream?after=0", last_event_id="10") as frame:
        assert await frame() == 'id: 11\nevent: missed\ndata: {"seq":11,"type":"missed","first":11,"last":11}'
        identity, event, data = (await frame()).split("\n")
        assert (identity, event) == ("id: 12", "event: event")
        assert json.loads(data.removeprefix("data: "))["message"] == "2"
        house.shutdown_requested.set()
        assert await ids(frame, 2) == ["13", "14"]
        assert await frame() == 'event: end\ndata: {"reason":"draining"}'


async def test_a_slow_listener_holds_up_nobody_and_is_told_what_it_missed(
    serving: Start, house: CardboardHouse
) -> None:
    house.bus = Bus(kept=50)
    served = await serving()
    upgrade = (
        b"GET /ws?after=0 HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n\r\n"
    )
    async with await served.unix() as slow, connected(served, "/ws?after=0") as quick:
        await slow.send_all(upgrade)
        await slow.receive_some(20)
        for number in range(300):
            house.bus.publish(HouseEvent(what="started", message=f"{number} " + "x" * 10_000))
            assert json.loads(await quick.get_message())["seq"] == number + 1
        said = b""
        with trio.fail_after(120):
            while b'"missed"' not in said:
                said += await slow.receive_some(2**20)


async def test_messages_to_the_events_socket_are_passed_over_and_its_close_is_seen(
    serving: Start, house: CardboardHouse
) -> None:
    served = await serving()
    async with connected(served, "/ws") as socket:
        for _ in range(50):
            await socket.send_message("hello?")
        publish(house, 0)
        assert json.loads(await socket.get_message())["seq"] == 1
        await socket.aclose(1000)
    assert socket.closed is not None
    assert socket.closed.code == 1000


async def test_the_server_pings(serving: Start) -> None:
    served = await serving(websocket_ping_interval=0.02)
    async with await served.unix() as stream:
        await stream.send_all(
            b"GET /ws HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
            b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n\r\n"
        )
        said = b""
        with trio.fail_after(120):
            while said.count(b"\x89\x00") < 3:
                said += await stream.receive_some(1000)


EXEC = "/api/colonies/hello/exec"
REQUEST = '{"command": ["cat"], "env": {"A": "b"}}'


async def test_a_command_gets_its_input_and_gives_its_output(serving: Start, house: CardboardHouse) -> None:
    served = await serving()
    async with connected(served, EXEC) as socket:
        await socket.send_message(REQUEST)
        await socket.send_message(b"hello")
        assert await house.run.input.receive_some(10) == b"hello"
        await house.run.output.send_all(b"out")
        assert await socket.get_message() == b"\x01out"
        await house.run.errors.send_all(b"err")
        assert await socket.get_message() == b"\x02err"
        await socket.send_message('{"eof": true}')
        assert await house.run.input.receive_some(10) == b""
        await house.run.output.send_all(b"last")
        await house.run.end(3)
        assert await socket.get_message() == b"\x01last"
        assert json.loads(await socket.get_message()) == {"exit": 3}
        with pytest.raises(ConnectionClosed) as closed:
            await socket.get_message()
    assert closed.value.reason.code == 1000
    assert house.run.killed.is_set()
    assert house.exec_requests[0].command == ("cat",)
    assert house.exec_requests[0].env == {"A": "b"}


@pytest.mark.parametrize(
    ("first", "code", "close"),
    [
        ("{", "malformed-json", 4400),
        ('{"command": []}', "empty-command", 4422),
        ('{"command": "ls"}', "invalid-body", 4422),
        ('{"command": ["nothing"]}', "command-not-found", 4422),
        (b"\x01", "exec-request-expected", 4422),
    ],
)
async def test_a_command_that_cannot_be_run_is_told(serving: Start, first: Any, code: str, close: int) -> None:
    served = await serving()
    async with connected(served, EXEC) as socket:
        await socket.send_message(first)
        error = json.loads(await socket.get_message())["error"]
        with pytest.raises(ConnectionClosed) as closed:
            await socket.get_message()
    assert error["code"] == code
    assert closed.value.reason.code == close


async def test_a_command_in_no_colony_opens_nothing(serving: Start) -> None:
    served = await serving()
    async with await served.unix() as stream:
        head = (
            b"GET /api/colonies/nobody/exec HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
            b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n\r\n"
        )
        await stream.send_all(head)
        assert (await read_all(stream)).startswith(b"HTTP/1.1 404")


async def test_a_command_never_runs_in_a_colony_that_took_over_the_name_meanwhile(
    serving: Start, house: CardboardHouse, monkeypatch: pytest.MonkeyPatch
) -> None:
    served = await serving()
    write_down = house.audit.record

    async def while_it_is_written_down(entry: AuditRecord) -> None:
        await write_down(entry)
        house._colonies["hello"] = colony_view(owner="somebody else", number=2)

    monkeypatch.setattr(house.audit, "record", while_it_is_written_down)
    async with connected(served, EXEC) as socket:
        await socket.send_message(REQUEST)
        assert json.loads(await socket.get_message())["error"]["code"] == "colony-not-found"
    assert house.exec_requests == []


async def test_a_client_that_names_no_command_is_cut(
    app: QuartTrio, house: CardboardHouse, autojump_clock: Any
) -> None:
    async with app.test_client().websocket(EXEC, scope_base={"state": {PEER: OWNER}}) as socket:
        assert json.loads(await socket.receive())["error"]["code"] == "exec-request-late"


async def test_the_command_is_killed_when_the_socket_goes(serving: Start, house: CardboardHouse) -> None:
    served = await serving()
    async with await served.unix() as stream, trio.open_nursery() as nursery:
        connection = await wrap_client_stream(nursery, stream, "localhost", EXEC)
        await connection.send_message(REQUEST)
        await connection.send_message(b"x")
        await house.run.input.receive_some(1)
        await stream.aclose()
        nursery.cancel_scope.cancel()
    with trio.fail_after(120):
        await house.run.killed.wait()


async def sent_until_held(connection: WebSocketConnection) -> int:
    """How many messages of 10,000 bytes go before the next one is not taken."""
    sent = 0
    while sent < 1000:
        with trio.move_on_after(0.3) as patience:
            await connection.send_message(b"x" * 10_000)
        if patience.cancelled_caught:
            break
        sent += 1
    return sent


async def test_the_command_is_killed_when_the_socket_goes_although_it_reads_nothing(
    serving: Start, house: CardboardHouse
) -> None:
    """More input is under way than all buffers hold, so only the ping tells that nobody is there any more."""
    served = await serving(websocket_ping_interval=0.05)
    async with await served.unix() as stream, trio.open_nursery() as nursery:
        connection = await wrap_client_stream(nursery, stream, "localhost", EXEC)
        await connection.send_message(REQUEST)
        await sent_until_held(connection)
        await stream.aclose()
        nursery.cancel_scope.cancel()
    with trio.fail_after(120):
        await house.run.killed.wait()


async def test_a_command_that_reads_nothing_holds_its_client_back(serving: Start, house: CardboardHouse) -> None:
    served = await serving()
    async with await served.unix() as stream, trio.open_nursery() as nursery:
        socket = await wrap_client_stream(nursery, stream, "localhost", EXEC)
        await socket.send_message(REQUEST)
        assert await sent_until_held(socket) < 1000
        await stream.aclose()
        nursery.cancel_scope.cancel()


async def test_output_that_a_grandchild_holds_open_does_not_keep_the_end_back(
    app: QuartTrio, house: CardboardHouse, autojump_clock: Any
) -> None:
    async with app.test_client().websocket(EXEC, scope_base={"state": {PEER: OWNER}}) as socket:
        await socket.send(REQUEST)
        await house.run.output.send_all(b"said")
        house.run.code.append(0)
        house.run.ended.set()
        assert await socket.receive() == b"\x01said"
        assert json.loads(await socket.receive()) == {"exit": 0}


async def test_an_unknown_text_frame_ends_the_command(serving: Start, house: CardboardHouse) -> None:
    served = await serving()
    async with connected(served, EXEC) as socket:
        await socket.send_message(REQUEST)
        await socket.send_message('{"resize": 1}')
        assert json.loads(await socket.get_message())["error"]["code"] == "unknown-message"
    assert house.run.killed.is_set()


async def test_a_command_ends_with_the_daemon(serving: Start, house: CardboardHouse) -> None:
    served = await serving()
    async with connected(served, EXEC) as socket:
        await socket.send_message(REQUEST)
        await socket.send_message(b"x")
        await house.run.input.receive_some(1)
        house.shutdown_requested.set()
        with pytest.raises(ConnectionClosed) as closed:
            await socket.get_message()
    assert closed.value.reason.code == 1001
    assert house.run.killed.is_set()
