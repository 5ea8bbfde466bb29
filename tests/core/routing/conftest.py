"""A proxy on a real port, in front of services that a test writes as plain functions over a stream.

Every test of the contract runs twice, directly and through a real Caddy. What Caddy does with a message before we see it is Caddy's; where
that changes what holds, the test says what holds instead.
"""

import math
import tempfile
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import h11
import pytest
import trio
import trio.testing

from colony_core.routing import (
    Refusal,
    Site,
    Target,
    Upstream,
    open_tcp_listener,
    open_unix_listener,
    reconcile,
    serve_proxy,
    withdraw,
)

from .caddies import Caddy, free_port, running_caddy

DEADLINE_SECONDS = 300
"""Only what hangs takes so long."""
WEB = Target("hello", service="web")
Handler = Callable[["Peer"], Awaitable[None]]


class Peer:
    """One end of a connection, read by line and by length."""

    def __init__(self, stream: trio.SocketStream) -> None:
        self.stream = stream
        self.buffer = b""

    async def send(self, data: bytes) -> None:
        await self.stream.send_all(data)

    async def more(self) -> bool:
        data = await self.stream.receive_some(65536)
        self.buffer += data
        return bool(data)

    async def until(self, mark: bytes) -> bytes:
        """Everything up to and with `mark`; what there was when the other side ended."""
        while mark not in self.buffer and await self.more():
            pass
        end = self.buffer.find(mark) + len(mark) if mark in self.buffer else len(self.buffer)
        data, self.buffer = self.buffer[:end], self.buffer[end:]
        return data

    async def exactly(self, count: int) -> bytes:
        while len(self.buffer) < count and await self.more():
            pass
        data, self.buffer = self.buffer[:count], self.buffer[count:]
        return data

    async def head(self) -> bytes:
        return await self.until(b"\r\n\r\n")

    async def rest(self) -> bytes:
        while await self.more():
            pass
        data, self.buffer = self.buffer, b""
        return data

    async def answer(self, method: str = "GET") -> tuple[int, dict[str, str], bytes]:
        """The next final answer, as an independent parser sees it."""
        parser = h11.Connection(h11.CLIENT)
        parser.send(h11.Request(method=method, target="/", headers=[("Host", "x")]))
        parser.send(h11.EndOfMessage())
        if self.buffer:
            parser.receive_data(self.buffer)
        self.buffer, status, headers, body = b"", 0, {}, b""
        while True:
            event = parser.next_event()
            if event is h11.NEED_DATA:
                parser.receive_data(await self.stream.receive_some(65536))
            elif isinstance(event, h11.Response):
                status = event.status_code
                headers = {name.decode(): value.decode() for name, value in event.headers}
            elif isinstance(event, h11.Data):
                body += bytes(event.data)
            elif isinstance(event, (h11.EndOfMessage, h11.ConnectionClosed)):
                self.buffer = bytes(parser.trailing_data[0])
                return status, headers, body


class Previews:
    """The proxy under test: `places` is what it resolves, `port` where it listens."""

    def __init__(self, nursery: trio.Nursery, caddy: Caddy | None = None) -> None:
        self.nursery = nursery
        self.caddy = caddy
        self.places: dict[Target, Upstream | Refusal] = {}
        self.known = {"hello", "other"}
        self.port = 0
        self.connects = 0
        self.clients: list[Peer] = []
        self.drain = trio.Event()
        self.stopped = trio.Event()

    def resolve(self, target: Target) -> Upstream | Refusal:
        return self.places.get(target, Refusal(404, "No such service", f"There is no {target}."))

    async def start(self, **options: Any) -> None:
        await self.nursery.start(partial(self._serve, options))

    async def _serve(self, options: dict[str, Any], task_status: trio.TaskStatus[None]) -> None:
        serving = partial(serve_proxy, domain="colony.localhost", known=self.known, drain=self.drain.wait)
        if self.caddy is None:
            listener = await open_tcp_listener("127.0.0.1", 0, what="the preview proxy", config_key="routing.port")
            self.port = listener.socket.getsockname()[1]
            await serving([listener], self.resolve, task_status=task_status, **options)
            self.stopped.set()
            return
        self.port = free_port()
        with tempfile.TemporaryDirectory() as folder:
            socket = Path(folder) / "previews.sock"
            site = Site(domain="colony.localhost", socket=str(socket), listen=f"127.0.0.1:{self.port}", tls="off")
            async with open_unix_listener(socket) as listener:
                await reconcile(self.caddy.admin, site)
                try:
                    await serving(
                        [listener], self.resolve, task_status=task_status, **({"trusted_proxies": [""]} | options)
                    )
                    self.stopped.set()
                finally:
                    with trio.CancelScope(shield=True):
                        await withdraw(self.caddy.admin)

    async def service(self, handler: Handler, target: Target = WEB) -> int:
        """Runs `handler` for each connection to a service, and routes `target` to it; returns its port."""
        listeners = await trio.open_tcp_listeners(0, host="127.0.0.1")
        port = listeners[0].socket.getsockname()[1]

        async def serve(stream: trio.SocketStream) -> None:
            async with stream:
                try:
                    await handler(Peer(stream))
                except (trio.BrokenResourceError, trio.ClosedResourceError):
                    return

        await self.nursery.start(trio.serve_listeners, serve, listeners)
        self.route(port, target)
        return port

    def route(self, number: int, target: Target = WEB, **place: Any) -> None:
        async def connect() -> trio.SocketStream:
            self.connects += 1
            return await trio.open_tcp_stream("127.0.0.1", number)

        self.places[target] = Upstream(connect, f"{target} at {number}", **place)

    async def connected(self, count: int) -> None:
        """Returns when so many connections to services were made."""
        while self.connects < count:
            await trio.testing.wait_all_tasks_blocked(0.01)

    async def held_up(self, clock: trio.testing.MockClock, seconds: float, until: trio.Event) -> None:
        """Lets so much time pass until that ends something; again where Caddy had not brought us all that it is to end."""
        while not until.is_set():
            clock.jump(seconds)
            await trio.testing.wait_all_tasks_blocked(1)

    async def client(self) -> Peer:
        peer = Peer(await trio.open_tcp_stream("127.0.0.1", self.port))
        self.clients.append(peer)
        return peer


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Directly, and through Caddy."""
    if "front" in metafunc.fixturenames:
        metafunc.parametrize("front", ["direct", pytest.param("caddy", marks=pytest.mark.caddy)])


@pytest.fixture(scope="session")
def caddy(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Caddy]:
    """A Caddy for all tests, which take turns with our one site in it."""
    with running_caddy(tmp_path_factory.mktemp("caddy")) as caddy:
        yield caddy


@pytest.fixture
async def idle_previews(front: str, nursery: trio.Nursery, request: pytest.FixtureRequest) -> AsyncIterator[Previews]:
    """A proxy that a test starts itself, with options of its own."""
    previews = Previews(nursery, request.getfixturevalue("caddy") if front == "caddy" else None)
    mocked = "mock_clock" in request.fixturenames or "autojump_clock" in request.fixturenames
    try:
        with trio.fail_after(math.inf if mocked else DEADLINE_SECONDS):
            yield previews
            nursery.cancel_scope.cancel()
    finally:
        for client in previews.clients:
            client.stream.socket.close()


@pytest.fixture
async def previews(idle_previews: Previews) -> Previews:
    """A running proxy."""
    await idle_previews.start()
    return idle_previews
