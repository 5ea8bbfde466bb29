"""The built-in reverse proxy: one port for all previews, in Trio, with nothing between it and the sockets."""

import logging
from collections.abc import Awaitable, Callable, Collection, Iterable
from functools import partial

import trio

from .connection import HEAD_SECONDS, Connection
from .exchange import Rules, Upstream
from .pages import Refusal, busy, render
from .routes import Target
from .wires import BROKEN, wire_of

IDLE_SECONDS = 75
"""How long a connection is kept between two requests."""
SWEEP_SECONDS = 5
DRAIN_SECONDS = 2
MAX_CONNECTIONS = 1024

log = logging.getLogger("colony.routing")


async def serve_proxy(
    listeners: Iterable[trio.abc.Listener[trio.abc.Stream]],
    resolve: Callable[[Target], Upstream | Refusal],
    *,
    domain: str,
    known: Callable[[str], bool] | Collection[str],
    trusted_proxies: Collection[str] = (),
    max_connections: int = MAX_CONNECTIONS,
    drain: Callable[[], Awaitable[object]] = trio.sleep_forever,
    task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED,
) -> None:
    """Serves previews until `drain()` returns, then lets running answers end for two seconds; cancelled, it stops at once.

    `resolve` is asked anew for every request, must be quick, and says where a target is or why it cannot be shown. `known` says which
    colonies live. `trusted_proxies` are addresses whose `X-Forwarded-*` are believed; `""` is whoever comes over a Unix socket. The
    listeners are closed at the end. No client and no service can make it fail; what goes wrong on one connection ends that connection only.
    """
    lives = known if callable(known) else known.__contains__
    rules = Rules(resolve=resolve, known=lives, domain=domain, trusted_proxies=frozenset(trusted_proxies))
    connections: set[Connection] = set()
    handler = partial(_serve_client, rules=rules, connections=connections, limit=max_connections)
    async with trio.open_nursery() as clients:
        async with trio.open_nursery() as accepting:
            accepting.start_soon(_sweep, connections)
            await accepting.start(partial(trio.serve_listeners, handler, list(listeners), handler_nursery=clients))
            task_status.started()
            await drain()
            accepting.cancel_scope.cancel()
        clients.cancel_scope.deadline = trio.current_time() + DRAIN_SECONDS
        for connection in connections:
            connection.drain()


async def _serve_client(stream: trio.abc.Stream, *, rules: Rules, connections: set[Connection], limit: int) -> None:
    wire = wire_of(stream)
    try:
        if len(connections) >= limit and not _make_room(connections):
            await wire.write(render(busy(limit)))
            await wire.close()
            return
        connection = Connection(wire, _peer(stream), rules)
    except BROKEN:
        await wire.close()
        return
    connections.add(connection)
    try:
        await connection.run()
    except* Exception as group:
        log.error("a preview's connection failed", exc_info=group)
    finally:
        connections.discard(connection)


def _make_room(connections: set[Connection]) -> bool:
    """Ends the connection that has been idle longest; False where all are busy."""
    idle = [connection for connection in connections if connection.idle]
    if not idle:
        return False
    oldest = min(idle, key=lambda connection: connection.idle_since)
    oldest.cut()
    connections.discard(oldest)
    return True


def _peer(stream: trio.abc.Stream) -> str:
    """The client's address; empty where it has none. Raises OSError when the client is gone already."""
    if not isinstance(stream, trio.SocketStream):
        return ""
    name = stream.socket.getpeername()
    return str(name[0]).removeprefix("::ffff:") if isinstance(name, tuple) else ""


async def _sweep(connections: set[Connection]) -> None:
    """Ends connections on which nothing was asked for long; a fresh one has as long as a head has."""
    while True:
        await trio.sleep(SWEEP_SECONDS)
        now = trio.current_time()
        for connection in list(connections):
            if connection.idle and now - connection.idle_since > (IDLE_SECONDS if connection.served else HEAD_SECONDS):
                connection.cut()
