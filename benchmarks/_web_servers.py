"""The servers that `benchmarks.web` measures, each a process of its own: a house with its face, and two others with one small route."""

import json
import mmap
import os
import socket
import struct
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from subprocess import PIPE, Popen
from typing import Any, Protocol

import trio
from hypercorn.config import Config
from hypercorn.trio import serve as serve_hypercorn

from benchmarks.proxy import cpu_seconds
from colony_core.events import HouseEvent
from colony_core.mycelium import Mycelium
from colony_core.testing import open_test_house
from colony_web.daemon import calm_collector
from colony_web.serve import serve

AT_ONCE = 100
"""Events that a storm publishes before others have their turn."""
AHEAD = 2_000
"""Events by which a storm may be ahead of its slowest group of readers: more would be measuring the store."""
MOST_EVENTS = 4_000_000
MESSAGE = "a message of the usual length, " * 4
PLACE = struct.Struct("=d")
ANSWER = json.dumps({"status": "ok", "version": "0.1.0"}).encode()


class Server:
    """A process of this module in one of its roles. What it says first is where it listens."""

    def __init__(self, process: "Popen[str]") -> None:
        self._process = process
        self.pid = process.pid
        self.told: dict[str, Any] = json.loads(self._line())

    def ask(self, **order: Any) -> dict[str, Any]:
        """Has the house do something; waits until it is done."""
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps(order) + "\n")
        self._process.stdin.flush()
        answer: dict[str, Any] = json.loads(self._line())
        return answer

    @property
    def cpu_seconds(self) -> float:
        """CPU time that it has used."""
        return cpu_seconds(self.pid)

    def memory(self) -> tuple[float, float]:
        """MB that are resident now, and at most since `forget_peak`."""
        text = Path(f"/proc/{self.pid}/status").read_text()
        fields = dict(line.split(":", 1) for line in text.splitlines())
        return int(fields["VmRSS"].split()[0]) / 1024, int(fields["VmHWM"].split()[0]) / 1024

    def forget_peak(self) -> None:
        """Begins to measure the peak anew (proc_pid_clear_refs)."""
        Path(f"/proc/{self.pid}/clear_refs").write_text("5")

    def _line(self) -> str:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            raise RuntimeError("the server has ended")
        return line


@contextmanager
def server(*role: str) -> Iterator[Server]:
    """A server in one of the roles `house`, `hypercorn`, `uvicorn`."""
    process = Popen([sys.executable, "-m", "benchmarks._web_servers", *role], stdin=PIPE, stdout=PIPE, text=True)
    try:
        yield Server(process)
    finally:
        assert process.stdin is not None
        process.stdin.close()  # what every role takes for its end
        process.wait(60)


def uvicorn_is_here() -> bool:
    """Whether Starlette under uvicorn can be measured."""
    return find_spec("uvicorn") is not None and find_spec("starlette") is not None


class Clock:
    """When each event was published, by number, and how far its readers are: shared by writer and readers in a file."""

    def __init__(self, path: Path) -> None:
        size = PLACE.size * (MOST_EVENTS + 1)
        if not path.exists():
            path.touch()
            os.truncate(path, size)
        with path.open("r+b") as file:
            self._map = mmap.mmap(file.fileno(), size)

    def publish(self, seq: int) -> None:
        """Notes that an event is published now."""
        PLACE.pack_into(self._map, PLACE.size * seq, time.monotonic())

    def published(self, seq: int) -> float:
        """When that was, on the monotonic clock."""
        moment: float = PLACE.unpack_from(self._map, PLACE.size * seq)[0]
        return moment

    def reach(self, seq: int) -> None:
        """Notes that all readers have seen so much."""
        PLACE.pack_into(self._map, 0, float(seq))

    def slowest(self) -> int:
        """What all of them have seen."""
        return int(PLACE.unpack_from(self._map, 0)[0])


class Source(Protocol):
    """What numbers events and tells them to its readers."""

    @property
    def last(self) -> int: ...
    def publish(self) -> None: ...
    async def settle(self) -> None: ...


class HouseEvents:
    """Those of a house."""

    def __init__(self, house: Mycelium) -> None:
        self._house = house

    @property
    def last(self) -> int:
        """The newest one's number."""
        return self._house.bus.last_seq

    def publish(self) -> None:
        """One more."""
        self._house.bus.publish(HouseEvent(what="bench", message=MESSAGE))

    async def settle(self) -> None:
        """Returns when all of them are told."""
        await self._house.journal.beyond(self.last - 1)


class PlainEvents:
    """Texts of the same length in memory."""

    def __init__(self) -> None:
        self.texts: list[str] = []
        self.news = trio.Event()

    @property
    def last(self) -> int:
        """The newest one's number."""
        return len(self.texts)

    def publish(self) -> None:
        """One more."""
        at = "2026-01-31T08:15:00.250Z"
        text = {"seq": self.last + 1, "at": at, "type": "house", "what": "bench", "message": MESSAGE}
        self.texts.append(json.dumps(text, separators=(",", ":")))
        news, self.news = self.news, trio.Event()
        news.set()

    async def settle(self) -> None:
        """They are told as they are published."""

    async def app(self, scope: Any, receive: Any, send: Any) -> None:
        """A small route, and every event to every WebSocket: one message each, as ASGI has it."""
        if scope["type"] == "lifespan":
            for moment in ("startup", "shutdown"):
                await receive()
                await send({"type": f"lifespan.{moment}.complete"})
            return
        if scope["type"] == "http":
            headers = [(b"content-type", b"application/json"), (b"content-length", str(len(ANSWER)).encode())]
            await send({"type": "http.response.start", "status": 200, "headers": headers})
            await send({"type": "http.response.body", "body": ANSWER})
            return
        await send({"type": "websocket.accept"})
        sent = self.last
        while True:
            news = self.news
            while sent < self.last:
                sent += 1
                await send({"type": "websocket.send", "text": self.texts[sent - 1]})
            await news.wait()


async def _house(folder: Path) -> None:
    async with open_test_house(folder, keeper="process") as house, trio.open_nursery() as nursery:
        addresses = await nursery.start(partial(serve, house))
        token = await house.keys.mint("bench", "ape", owner="bench")
        calm_collector()
        _say(socket=addresses[0].removeprefix("unix:"), port=int(addresses[1].rpartition(":")[2]), token=token.token)
        await _obey(HouseEvents(house), Clock(folder / "clock"))
        await house.shutdown(colonies=True)


async def _hypercorn(folder: Path) -> None:
    events, config = PlainEvents(), Config()
    config.bind = ["127.0.0.1:0"]
    config.errorlog = None
    config.keep_alive_max_requests = 1_000_000
    async with trio.open_nursery() as nursery:
        addresses = await nursery.start(partial(serve_hypercorn, events.app, config))
        calm_collector()
        _say(port=int(addresses[0].rpartition(":")[2]))
        await _obey(events, Clock(folder / "clock"))
        nursery.cancel_scope.cancel()


async def _obey(source: Source, clock: Clock) -> None:
    while line := await trio.to_thread.run_sync(sys.stdin.readline):
        _say(**await _storm(source, clock, **json.loads(line)))


async def _storm(source: Source, clock: Clock, *, seconds: float, rate: float | None) -> dict[str, int]:
    """Publishes at a rate; without one as fast as all readers can be told."""
    first = source.last + 1
    began = time.monotonic()
    while (passed := time.monotonic() - began) < seconds:
        if rate is not None:
            due = int(passed * rate) - (source.last + 1 - first)
        else:
            due = AT_ONCE if source.last - max(clock.slowest(), first - 1) < AHEAD else 0
        for _ in range(due):
            clock.publish(source.last + 1)
            source.publish()
        await trio.sleep(0.001 if rate is not None or not due else 0)
    await source.settle()
    return {"first": first, "last": source.last}


def _say(**what: Any) -> None:
    print(json.dumps(what), flush=True)


def _uvicorn() -> None:
    import threading

    import uvicorn  # type: ignore[import-not-found,unused-ignore]
    from starlette.applications import Starlette  # type: ignore[import-not-found,unused-ignore]
    from starlette.responses import JSONResponse  # type: ignore[import-not-found,unused-ignore]
    from starlette.routing import Route  # type: ignore[import-not-found,unused-ignore]

    async def health(_: Any) -> Any:
        return JSONResponse({"status": "ok", "version": "0.1.0"})

    sock = socket.socket(proto=socket.IPPROTO_TCP)  # else asyncio leaves Nagle's algorithm on
    sock.bind(("127.0.0.1", 0))
    made = uvicorn.Server(uvicorn.Config(Starlette(routes=[Route("/api/health", health)]), log_level="error"))

    def until_told() -> None:
        sys.stdin.read()
        made.should_exit = True

    threading.Thread(target=until_told, daemon=True).start()
    _say(port=sock.getsockname()[1])
    made.run(sockets=[sock])


if __name__ == "__main__":
    match sys.argv[1:]:
        case ["house", folder]:
            trio.run(_house, Path(folder))
        case ["hypercorn", folder]:
            trio.run(_hypercorn, Path(folder))
        case ["uvicorn"]:
            _uvicorn()
