"""`/ws` for many: order, no loss, places to go on from, readers that are slow, stuck or gone; over real sockets."""

import ctypes
import json
import socket
import struct
import tracemalloc
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import aclosing
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import trio
import trio.testing
from quart_trio import QuartTrio
from wsproto.frame_protocol import FrameProtocol, Opcode

from colony_core.bus import Bus
from colony_core.events import HouseEvent
from colony_core.journal import EVERYTHING, Selection
from colony_core.testing import fake_walls, open_test_house
from colony_web.auth import PEER
from colony_web.frames import PAGE_ENTRIES, SharedPages, websocket_frame
from colony_web.serve import serve

from .conftest import OWNER
from .house import CardboardHouse, with_connections
from .wire import Served, read_until

Start = Callable[..., Any]
DROP_EVERYTHING = struct.pack("HBBI", 0x06, 0, 0, 0)
"""A packet filter of one instruction, `ret 0` (bpf(2)): what comes to the socket is never seen, nor acknowledged."""


def upgrade(path: str, **headers: str) -> bytes:
    lines = {"Host": "localhost", "Upgrade": "websocket", "Connection": "Upgrade", "Sec-WebSocket-Version": "13"}
    lines |= {"Sec-WebSocket-Key": "AAAAAAAAAAAAAAAAAAAAAA=="} | headers
    return "\r\n".join(
        [f"GET {path} HTTP/1.1", *(f"{name}: {value}" for name, value in lines.items()), "\r\n"]
    ).encode()


async def opened(stream: trio.SocketStream, path: str, **headers: str) -> bytes:
    """Opens the WebSocket; what came behind the head already."""
    await stream.send_all(upgrade(path, **headers))
    said = await read_until(stream, b"\r\n\r\n")
    assert said.startswith(b"HTTP/1.1 101"), said
    return said.partition(b"\r\n\r\n")[2]


class Reading:
    """Takes events out of their frames by the book, wherever the bytes are cut on their way; `farewell` is why the other side closed."""

    def __init__(self) -> None:
        self.farewell: Any = None
        self.begun = ""
        """Of an event whose end has not come yet."""
        self._frames = FrameProtocol(client=True, extensions=[])

    def of(self, data: bytes) -> Iterator[Any]:
        self._frames.receive_bytes(data)
        for frame in self._frames.received_frames():
            if frame.opcode is Opcode.CLOSE:
                self.farewell = frame.payload
            elif frame.opcode is Opcode.TEXT:
                assert frame.message_finished is frame.frame_finished, "one event is one frame"
                self.begun += str(frame.payload)
                if frame.message_finished:
                    text, self.begun = self.begun, ""
                    yield json.loads(text)


async def told(stream: trio.SocketStream, path: str) -> AsyncIterator[Any]:
    """The events of a socket."""
    reading, data = Reading(), await opened(stream, path)
    while True:
        for event in reading.of(data):
            yield event
        data = await stream.receive_some(65536)
        assert data, "it ended"


def publish(house: Any, message: str = "x") -> None:
    house.bus.publish(HouseEvent(what="started", message=message))


@pytest.mark.parametrize("size", [0, 1, 125, 126, 127, 65_535, 65_536, 200_000])
def test_a_frame_is_one_that_another_implementation_reads(size: int) -> None:
    text = "é" * (size // 2) + "x" * (size % 2)
    frames = FrameProtocol(client=True, extensions=[])
    frames.receive_bytes(websocket_frame(text) * 2)
    found = list(frames.received_frames())
    assert "".join(str(frame.payload) for frame in found) == text * 2
    assert {frame.opcode for frame in found} <= {Opcode.TEXT, Opcode.CONTINUATION}
    assert found[-1].message_finished


async def test_readers_at_the_same_place_share_the_same_bytes(house: CardboardHouse) -> None:
    made: list[int] = []

    def write(entry: Any) -> bytes:
        made.append(entry.seq)
        return b"%d " % entry.seq

    pages = SharedPages(house, write)
    for _ in range(3):
        publish(house)
    first, second = [await pages.behind(1, EVERYTHING) for _ in range(2)]
    assert first == (b"2 3 ", 3)
    assert first[0] is second[0]
    assert made == [2, 3]
    other = await pages.behind(1, Selection(kinds=frozenset({"missed", "house"})))
    assert other == first
    assert other[0] is not first[0]
    publish(house)
    assert await pages.behind(3, EVERYTHING) == (b"4 ", 4)


async def test_what_is_not_wanted_is_passed_over_and_waited_behind(
    house: CardboardHouse, nursery: trio.Nursery
) -> None:
    pages = SharedPages(house, lambda entry: b"%d " % entry.seq)
    found: list[tuple[bytes, int]] = []

    async def wait() -> None:
        found.append(await pages.behind(0, Selection(kinds=frozenset({"colony_created"}))))

    nursery.start_soon(wait)
    for _ in range(3):
        publish(house)
        await trio.testing.wait_all_tasks_blocked()
    assert found == []
    await house.spawn(await _new_colony(), owner="ape")
    await trio.testing.wait_all_tasks_blocked()
    assert found == [(b"4 ", 4)]


async def _new_colony() -> Any:
    from colony_core.views import NewColony

    return NewColony(name="late", path="/")


async def test_a_page_is_bounded_and_the_rest_comes_behind_it(house: CardboardHouse) -> None:
    pages = SharedPages(house, lambda entry: b".")
    for _ in range(PAGE_ENTRIES + 3):
        publish(house)
    data, after = await pages.behind(0, EVERYTHING)
    assert (len(data), after) == (PAGE_ENTRIES, PAGE_ENTRIES)
    assert await pages.behind(after, EVERYTHING) == (b"...", PAGE_ENTRIES + 3)


EVENTS = 4_000
READERS = 12


async def test_everybody_gets_everything_once_and_in_order_also_who_comes_back(tmp_path: Path) -> None:
    """A real house with its journal on disk; readers leave at different places, without a word, and come back with the last they saw."""
    async with (
        trio.open_nursery() as nursery,
        open_test_house(tmp_path, walls=fake_walls(tmp_path / "run")) as house,
    ):
        unix, _ = await nursery.start(partial(serve, house))
        served = Served(unix.removeprefix("unix:"), 0)
        begin = house.journal.last
        seen: list[list[int]] = [[] for _ in range(READERS)]

        async def read(number: int) -> None:
            mine = seen[number]
            while not mine or mine[-1] < begin + EVENTS:
                leave = len(mine) + 100 + 317 * number
                async with await served.unix() as stream:
                    events = told(stream, f"/ws?after={mine[-1] if mine else begin}")
                    async with aclosing(events):  # type: ignore[type-var]
                        async for event in events:
                            mine.append(event["seq"])
                            if len(mine) >= leave or mine[-1] >= begin + EVENTS:
                                break

        async with trio.open_nursery() as readers:
            for number in range(READERS):
                readers.start_soon(read, number)
            for number in range(EVENTS):
                publish(house, str(number))
                if number % 50 == 0:
                    await trio.lowlevel.checkpoint()
        assert seen == [list(range(begin + 1, begin + EVENTS + 1))] * READERS
        house.shutdown_requested.set()


async def test_a_slow_reader_is_told_exactly_what_it_missed(serving: Start, house: CardboardHouse) -> None:
    house.bus = Bus(kept=30)
    served = await serving()
    async with await served.unix() as stream:
        early = await opened(stream, "/ws?after=0")
        for _ in range(400):
            publish(house, "x" * 20_000)
            await trio.lowlevel.checkpoint()
        reading, data = Reading(), early
        last, holes = 0, 0
        while last < 400:
            for event in reading.of(data):
                assert event.get("first", event["seq"]) == last + 1
                holes += event["type"] == "missed"
                last = event["seq"]
            if last < 400:
                data = await stream.receive_some(65536)
    assert holes >= 1


async def test_an_end_in_the_middle_of_a_storm_tears_no_frame_and_is_told(
    serving: Start, house: CardboardHouse, nursery: trio.Nursery
) -> None:
    served = await serving()
    ends: list[tuple[list[int], Any]] = []

    async def read(stream: trio.SocketStream, early: bytes) -> None:
        reading = Reading()
        seen = [event["seq"] for event in reading.of(early)]
        async with stream:
            while data := await stream.receive_some(65536):
                seen += [event["seq"] for event in reading.of(data)]
        assert reading.begun == ""
        ends.append((seen, reading.farewell))

    async with trio.open_nursery() as readers:
        for _ in range(10):
            stream = await served.unix()
            readers.start_soon(read, stream, await opened(stream, "/ws"))
        for number in range(3_000):
            publish(house)
            if number == 1_500:
                house.shutdown_requested.set()
            if number % 20 == 0:
                await trio.lowlevel.checkpoint()
    assert [end[1] for end in ends] == [(1001, "the daemon is going down")] * 10
    assert all(seen == list(range(1, len(seen) + 1)) for seen, _ in ends)


async def test_who_never_reads_costs_no_more_than_what_is_kept(serving: Start, house: CardboardHouse) -> None:
    house.bus = Bus(kept=20)
    served = await serving()
    stuck = [await served.unix() for _ in range(5)]
    for stream in stuck:
        await opened(stream, "/ws")
    text = "x" * 100_000

    async def storm(number: int) -> None:
        for _ in range(number):
            publish(house, text)
            await trio.lowlevel.checkpoint()

    await storm(50)
    tracemalloc.start()
    try:
        await storm(500)  # 50 MB, for each of them
        held, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert held < 20e6
    for stream in stuck:
        await stream.aclose()


@pytest.mark.root  # some kernels let nobody else filter what comes to a socket
async def test_who_vanishes_without_a_word_is_let_go(serving: Start, house: CardboardHouse) -> None:
    house.config = with_connections(house.config, 1)
    served = await serving(vanish_timeout=0.3)
    token = (await house.keys.mint("gone", "viewer", owner="me")).token
    host = f"localhost:{served.port}"
    async with await served.tcp() as stream:
        await opened(stream, "/ws", Authorization=f"Bearer {token}", Host=host)
        code = ctypes.create_string_buffer(DROP_EVERYTHING)
        program = struct.pack("HL", 1, ctypes.addressof(code))
        stream.setsockopt(
            socket.SOL_SOCKET, 26, program
        )  # SO_ATTACH_FILTER; from here on it is as if its cable were cut
        assert (await served.ask("/api/system", token=token)).status == 503
        with trio.fail_after(120):
            while (await served.ask("/api/system", token=token)).status == 503:
                publish(house)
                await trio.sleep(0.05)


async def test_a_server_that_takes_no_frames_gets_a_message_for_each_event(
    app: QuartTrio, house: CardboardHouse
) -> None:
    """As `mount` on another server than ours has it."""
    for number in range(3):
        publish(house, str(number))
    sent: list[Any] = []
    go, inbox = trio.open_memory_channel[Any](2)
    await go.send({"type": "websocket.connect"})
    scope = {
        "type": "websocket",
        "path": "/ws",
        "root_path": "",
        "query_string": b"after=1",
        "headers": [(b"host", b"localhost")],
        "state": {PEER: OWNER},
        "extensions": {},
        "client": None,
        "server": None,
    }

    async def send(message: Any) -> None:
        sent.append(message)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(app.asgi_app, scope, inbox.receive, send)
        await trio.testing.wait_all_tasks_blocked()
        publish(house, "3")
        await trio.testing.wait_all_tasks_blocked()
        await go.send({"type": "websocket.disconnect", "code": 1006})
    assert [message["type"] for message in sent] == ["websocket.accept", *["websocket.send"] * 3]
    assert [json.loads(message["text"])["seq"] for message in sent[1:]] == [2, 3, 4]


async def test_who_asks_without_a_websocket_is_told_what_to_do(serving: Start, house: CardboardHouse) -> None:
    answer = await (await serving()).ask("/ws")
    assert (answer.status, answer.json["code"]) == (426, "upgrade-required")
    assert "/api/events/stream" in answer.json["hint"]


async def test_a_journal_that_breaks_closes_with_1011(
    serving: Start, house: CardboardHouse, monkeypatch: pytest.MonkeyPatch, caplog: Any
) -> None:
    async def page(after: int, **choice: Any) -> Any:
        raise RuntimeError("the disk is on fire")

    monkeypatch.setattr(house.journal, "page", page)
    served = await serving()
    async with await served.unix() as stream:
        said = await opened(stream, "/ws")
        publish(house)
        while part := await stream.receive_some(1000):
            said += part
    assert said == b"\x88\x02" + (1011).to_bytes(2, "big")
    assert "the disk is on fire" in caplog.text


async def test_no_event_comes_behind_the_answer_to_a_close(serving: Start, house: CardboardHouse) -> None:
    served = await serving()
    async with await served.unix() as stream:
        await opened(stream, "/ws")
        await stream.send_all(b"\x88\x82\0\0\0\0" + (1000).to_bytes(2, "big"))
        said = b""
        while part := await stream.receive_some(1000):
            said += part
            publish(house)
    assert said == b"\x88\x02" + (1000).to_bytes(2, "big")
