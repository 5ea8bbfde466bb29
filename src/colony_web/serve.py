"""Runs the face of a house on a Unix socket and a port, until the house ends or the caller cancels.

Ending: no new connections; whoever streams is told (server-sent events get `end`, WebSockets 1001); answers under way have
`GRACEFUL_SECONDS`; then everything is cut. The app's lifespan ends last and in order, even where the caller cancelled.
"""

import socket
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from functools import partial
from typing import Any

import trio
from hypercorn.app_wrappers import ASGIWrapper
from hypercorn.trio.lifespan import Lifespan
from hypercorn.trio.worker_context import WorkerContext
from hypercorn.utils import LifespanTimeoutError

from colony_core.routing import open_tcp_listener

from .app import create_app
from .auth import DRAINING, PEER, group_number
from .connection import AsgiApp, Connection
from .house import House
from .listeners import open_unix_listener, peer_of
from .protocol import Settings

TOO_MANY = (
    b"HTTP/1.1 503 Service Unavailable\r\ncontent-type: application/problem+json\r\nconnection: close\r\nretry-after: 1\r\n"
    b"content-length: %d\r\n\r\n%b"
)
TOO_MANY_BODY = (
    b'{"type":"urn:colony:error:too-many-connections","title":"Service Unavailable","status":503,"detail":"too many connections",'
    b'"code":"too-many-connections","hint":"close some, and keep others alive"}'
)


async def serve(
    mycelium: House,
    *,
    app: Any = None,
    settings: Settings | None = None,
    task_status: trio.TaskStatus[tuple[str, ...]] = trio.TASK_STATUS_IGNORED,
) -> None:
    """Serves `app` (default: `create_app(mycelium)`) on the house's Unix socket and port; reports the addresses once it listens.

    Returns when `mycelium.shutdown_requested` is set and all is told and closed. Raises AlreadyExists (`port-taken`), Invalid or
    Unreachable where it cannot listen. Cancelled, it ends at once but in order: the socket's file is gone, the app's lifespan is shut.
    """
    config = mycelium.config
    async with AsyncExitStack() as stack:
        tcp = await open_tcp_listener(config.server.bind, config.server.port, what="the API", config_key="server.port")
        await stack.enter_async_context(tcp)
        unix = await stack.enter_async_context(
            open_unix_listener(config.folders.socket, group=group_number(config.access.group))
        )
        addresses = (f"unix:{config.folders.socket}", _url(tcp))
        await serve_app(
            app or create_app(mycelium, origins=config.server.origins),
            (unix, tcp),
            stop=mycelium.shutdown_requested.wait,
            settings=settings,
            most=config.server.connections,
            started=partial(task_status.started, addresses),
        )


async def serve_app(
    app: AsgiApp,
    listeners: Iterable[trio.SocketListener],
    *,
    stop: Callable[[], Awaitable[None]],
    settings: Settings | None = None,
    most: int = 512,
    started: Callable[[], None] = lambda: None,
) -> None:
    """Serves any ASGI app on open listeners until `stop` returns; calls `started` once connections are accepted.

    Each listener takes `most` connections, so that a flood of the port does not lock the socket's owner out; beyond that, who asks nothing
    or has no key must go.
    """
    settings = settings or Settings()
    async with _open_lifespan(app, settings) as state:
        server = _Server(app, settings, state, most)
        async with trio.open_nursery() as connections, server.aborting():
            async with trio.open_nursery() as accepting:
                for listener in listeners:
                    handler = partial(server.handle, set())
                    await accepting.start(
                        partial(trio.serve_listeners, handler, [listener], handler_nursery=connections)
                    )
                started()
                await stop()
                accepting.cancel_scope.cancel()
            await server.drain()
            with trio.move_on_after(settings.graceful_timeout):
                await server.emptied()
            connections.cancel_scope.cancel()


class _Server:
    """What the connections of one server share."""

    def __init__(self, app: AsgiApp, settings: Settings, state: dict[str, Any], most: int) -> None:
        self._app = app
        self._settings = settings
        self._most = most
        self._context = WorkerContext(None)
        self._draining = trio.Event()
        self._state = {**state, DRAINING: self._draining}
        self._open: set[Connection] = set()
        self._empty = trio.Event()

    async def handle(self, siblings: set[Connection], stream: trio.SocketStream) -> None:
        """Serves one connection of a listener with these others, unless there are too many that are busy."""
        if len(siblings) >= self._most and not _make_room(siblings):
            await _say_too_many(stream)
            return
        try:
            connection = self._connection(stream)
        except OSError:  # the client has hung up already
            await trio.aclose_forcefully(stream)
            return
        siblings.add(connection)
        try:
            await self._run(connection)
        finally:
            siblings.discard(connection)

    async def drain(self) -> None:
        """Tells everyone that it ends; connections with nothing under way end now."""
        self._draining.set()
        await self._context.terminated.set()
        for connection in list(self._open):
            connection.drain()

    async def emptied(self) -> None:
        """Returns when the last connection is closed."""
        while self._open:
            self._empty = trio.Event()
            await self._empty.wait()

    @asynccontextmanager
    async def aborting(self) -> AsyncIterator[None]:
        """At its end, also when cancelled, no write waits any more."""
        try:
            yield
        finally:
            for connection in list(self._open):
                connection.abort()

    async def _run(self, connection: Connection) -> None:
        self._open.add(connection)
        try:
            await connection.run()
        finally:
            self._open.discard(connection)
            if not self._open:
                self._empty.set()

    def _connection(self, stream: trio.SocketStream) -> Connection:
        unix = stream.socket.family == socket.AF_UNIX
        if not unix:
            milliseconds = round(self._settings.vanish_timeout * 1000)
            stream.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, milliseconds)
        name = stream.socket.getsockname()
        return Connection(
            self._app,
            self._settings,
            self._context,
            stream,
            state={**self._state, PEER: peer_of(stream)} if unix else self._state,
            client=None if unix else stream.socket.getpeername()[:2],
            server=None if unix else name[:2],
        )


@asynccontextmanager
async def _open_lifespan(app: AsgiApp, settings: Settings) -> AsyncIterator[dict[str, Any]]:
    """Runs the app's lifespan. It is shielded: a caller that cancels must not end it before its own shutdown ran."""
    state: dict[str, Any] = {}

    lifespan = Lifespan(ASGIWrapper(app), settings, state)
    shield = trio.CancelScope(shield=True)

    async def run(*, task_status: trio.TaskStatus[None]) -> None:
        with shield:
            await lifespan.handle_lifespan(task_status=task_status)

    async with trio.open_nursery() as nursery:
        await nursery.start(run)
        try:
            await lifespan.wait_for_startup()
            yield state
        finally:
            with trio.CancelScope(shield=True), suppress(trio.ClosedResourceError, LifespanTimeoutError):
                if lifespan.startup.is_set():
                    await lifespan.wait_for_shutdown()
            shield.cancel()


def _make_room(connections: set[Connection]) -> bool:
    """Ends the oldest of those that ask nothing, or have no key and take no answer; False where all others are busy."""
    spare = [connection for connection in connections if connection.spare]
    if not spare:
        return False
    oldest = min(spare, key=lambda connection: connection.idle_since)
    connections.discard(oldest)
    oldest.make_way()
    return True


async def _say_too_many(stream: trio.SocketStream) -> None:
    with trio.move_on_after(1), suppress(trio.BrokenResourceError, trio.ClosedResourceError):
        await stream.send_all(TOO_MANY % (len(TOO_MANY_BODY), TOO_MANY_BODY))
    await trio.aclose_forcefully(stream)


def _url(listener: trio.SocketListener) -> str:
    host, port = listener.socket.getsockname()[:2]
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"
