"""What clients leave behind when they go: nothing that only the garbage collector would find, which comes seldom to the daemon."""

import gc
import socket
import struct
import weakref
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
import trio
import trio.testing

from colony_core.supervision import ChildSpec, open_supervisor
from colony_web.daemon import FULL_PASS_SECONDS, collect_old

from .test_fanout import upgrade
from .test_terminals import PATH, PATIENCE_SECONDS, Place, place
from .wire import Served, read_until

__all__ = ["place"]
RESET = struct.pack("ii", 1, 0)
ASKED = {
    "an answer": (b"GET /api/system HTTP/1.1", 200),
    "a write": (b"POST /api/colonies/hello/apply HTTP/1.1\r\nContent-Length: 0", 200),
    "a problem": (b"GET /api/colonies/nobody HTTP/1.1", 404),
    "a log": (b"GET /api/colonies/hello/logs/stream HTTP/1.1", 200),
    "events": (b"GET /api/events/stream HTTP/1.1", 200),
}
SOCKETS = {"events by socket": "/ws", "a command": "/api/colonies/hello/exec", "a terminal": ""}


class Circle:
    """Holds itself."""

    def __init__(self) -> None:
        self.itself = self


async def test_what_grew_old_before_it_was_garbage_is_taken_away_all_the_same(
    autojump_clock: trio.testing.MockClock,
) -> None:
    circle = Circle()
    gc.collect()  # it is among the oldest now
    seen = weakref.ref(circle)
    del circle
    async with open_supervisor([ChildSpec(id="collector", run=collect_old)]):
        gc.collect(1)
        assert seen() is not None
        await trio.sleep(FULL_PASS_SECONDS + 1)
        assert seen() is None


@contextmanager
def nothing_left() -> Iterator[None]:
    """Of what goes on in the block nothing waits for the collector: no object of ours, no error, no task."""
    gc.collect()
    gc.disable()
    try:
        yield
        gc.set_debug(gc.DEBUG_SAVEALL)
        gc.collect()
        left = Counter(type(each).__qualname__ for each in gc.garbage if _matters(each))
    finally:
        gc.set_debug(0)
        gc.garbage.clear()
        gc.enable()
    assert left == Counter()


def _matters(thing: object) -> bool:
    kind = type(thing)
    return kind.__module__.startswith("colony_") or issubclass(kind, BaseException | trio.lowlevel.Task)


async def come_and_go(served: Served, request: bytes, status: int, *, reset: bool) -> None:
    """Reads the beginning of an answer and leaves; returns when the server has nothing more to do with it."""
    before = trio.lowlevel.current_statistics().tasks_living
    async with await served.tcp() as stream:
        await stream.send_all(request)
        said = await read_until(stream, b"\r\n\r\n")
        assert said.startswith(b"HTTP/1.1 %d" % status), said
        await trio.testing.wait_all_tasks_blocked(0.05)
        if reset:
            stream.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
    with trio.fail_after(PATIENCE_SECONDS):
        while trio.lowlevel.current_statistics().tasks_living > before:
            await trio.sleep(0.01)


@pytest.mark.parametrize("reset", [False, True], ids=["hangs up", "resets"])
@pytest.mark.parametrize("what", [*ASKED, *SOCKETS])
async def test_who_asked_and_has_gone_leaves_nothing_to_the_collector(place: Place, what: str, reset: bool) -> None:
    token = (await place.house.keys.mint("gone", "ape", owner="test")).token
    who = {"Authorization": f"Bearer {token}", "Host": f"localhost:{place.served.port}"}
    if what in SOCKETS:
        request, status = upgrade(SOCKETS[what] or f"{PATH}/{await place.open()}", **who), 101
    else:
        line, status = ASKED[what]
        request = b"\r\n".join((line, *(f"{name}: {value}".encode() for name, value in who.items()), b"", b""))
    await come_and_go(place.served, request, status, reset=reset)  # what is made once and kept
    with nothing_left():
        for _ in range(3):
            await come_and_go(place.served, request, status, reset=reset)
