"""One accepted connection: reads, writes, times and ends it, whatever the client or the app does.

Promises, each tested over real sockets: no client can end more than its own connection; no write waits longer than its deadline, so a
client that stops reading holds up nothing; closing is never torn in the middle; an app that failed is answered for.
"""

import logging
from collections.abc import Awaitable, Callable
from contextlib import suppress
from math import inf
from typing import Any

import h11
import trio
import wsproto.utilities
from hypercorn.events import Closed, Event, RawData, Updated
from hypercorn.trio.worker_context import WorkerContext
from hypercorn.typing import ConnectionState

from .protocol import Protocol, Settings
from .scope import FRAMES, STRANGER

READ_BYTES = 64 * 1024
WRITE_BYTES = 64 * 1024
LINGER_SECONDS = 2.0
LEAVING_SECONDS = 0.25
LINGER_BYTES = 32 * 2**20
"""After a last answer the rest of what the client still sends is read and dropped, so that a reset does not overtake the answer."""
DISCONNECT_SECONDS = 1.0
WAITING_MESSAGES = 10

log = logging.getLogger("colony.web.connection")

_CLIENTS_DOING = (
    OSError,
    trio.BrokenResourceError,
    trio.ClosedResourceError,
    h11.ProtocolError,
    wsproto.utilities.ProtocolError,
)
AsgiApp = Callable[[Any, Any, Any], Awaitable[None]]


class Connection:
    """Serves one stream. `state` becomes the `state` of every ASGI scope; `address` is the client's, None on a Unix socket."""

    def __init__(
        self,
        app: AsgiApp,
        settings: Settings,
        context: WorkerContext,
        stream: trio.SocketStream,
        *,
        state: dict[str, Any],
        client: tuple[str, int] | None,
        server: tuple[str, int] | None,
    ) -> None:
        self._app = app
        self._settings = settings
        self._context = context
        self._stream = stream
        self._nursery: trio.Nursery
        self._reading = trio.CancelScope()
        self._writing: trio.CancelScope | None = None
        self._send_lock = trio.Lock()
        self._held = b""
        self._asked: dict[str, Any] = {}
        self._hold_next = self._idle = self._closing = self._gone = self._aborted = False
        self.idle_since = trio.current_time()
        self._protocol = Protocol(
            app, settings, context, self, ConnectionState(state), False, client, server, self._send, hold=self._hold
        )

    async def run(self) -> None:
        """Serves until both sides are done. Raises nothing but Cancelled; the stream is closed in any case."""
        try:
            async with trio.open_nursery() as pings:
                self._pings = pings
                async with trio.open_nursery() as self._nursery:
                    try:
                        await self._read()
                    except _CLIENTS_DOING as error:
                        log.debug("a client broke its connection: %r", error)
                        # Cancelled here and not by the error's passing: the frame of Trio's that cancels then would hold the errors of all
                        # that is cancelled, and their tracebacks hold it: a circle, which waits for the garbage collector.
                        self._nursery.cancel_scope.cancel()
                pings.cancel_scope.cancel()
        except* _CLIENTS_DOING as group:
            log.debug("a client broke its connection: %r", group.exceptions[0])
        except* Exception as group:
            log.warning("a connection failed", exc_info=group)
        finally:
            del self._protocol  # they hold each other
            await trio.aclose_forcefully(self._stream)

    @property
    def idle(self) -> bool:
        """Whether no request is under way; `idle_since` is when the last one ended."""
        return self._idle

    @property
    def spare(self) -> bool:
        """Whether nothing is under way, or only for somebody who has no key."""
        return self._idle or STRANGER in self._asked

    def make_way(self) -> None:
        """Ends the connection now, whatever is under way on it."""
        self.abort()
        self._reading.cancel()

    def drain(self) -> None:
        """Ends the connection now if nothing is under way on it, else after the answer."""
        if self._idle:
            self._reading.cancel()

    def abort(self) -> None:
        """Gives up writing; whoever writes, or tries to from now on, goes on at once."""
        self._aborted = True
        if self._writing is not None:
            self._writing.cancel()

    # What hypercorn's streams call their task group.

    async def spawn_app(
        self, app: Any, config: Any, scope: Any, send: Callable[[Any], Awaitable[None]]
    ) -> Callable[[Any], Awaitable[None]]:
        """Runs the app for one request; the answer puts messages into its `receive`."""
        if scope["type"] == "websocket":
            scope["extensions"][FRAMES] = {}
        self._asked = scope["state"]
        mailbox, inbox = trio.open_memory_channel[Any](WAITING_MESSAGES)
        running = trio.CancelScope()
        self._nursery.start_soon(self._run_app, scope, inbox, send, running)

        async def put(message: Any) -> None:
            with suppress(trio.BrokenResourceError, trio.ClosedResourceError):
                if message["type"].endswith(".disconnect"):
                    # An app that is busy with an earlier message would learn of the end too late, or never.
                    if scope["type"] == "websocket":
                        running.deadline = trio.current_time() + DISCONNECT_SECONDS
                    with suppress(trio.WouldBlock):
                        mailbox.send_nowait(message)
                else:
                    await mailbox.send(message)

        return put

    def spawn(self, function: Callable[..., Awaitable[None]], *args: Any) -> None:
        """Runs a WebSocket's pings; they end with the connection."""
        self._pings.start_soon(function, *args)

    async def _run_app(
        self,
        scope: Any,
        inbox: trio.MemoryReceiveChannel[Any],
        send: Callable[[Any], Awaitable[None]],
        running: trio.CancelScope,
    ) -> None:
        # Quart cancels a request's tasks while its last message is being written; a torn write would corrupt the connection.
        # The shield is no risk: every write below has a deadline, and `abort` ends them all.
        async def whole(message: Any) -> None:
            with trio.CancelScope(shield=True):
                await send(message)

        try:
            with running:
                await self._app(scope, inbox.receive, whole)
        except Exception as error:
            log.error("the app failed at %s", scope.get("path"), exc_info=error)
        finally:
            inbox.close()
            await whole(None)

    async def _read(self) -> None:
        self._become_idle(self._settings.head_timeout)
        dropped = 0
        with self._reading:
            while data := await self._stream.receive_some(READ_BYTES):
                if self._closing:
                    dropped += len(data)
                    if dropped > LINGER_BYTES:
                        break
                    continue
                if self._idle:
                    soon = trio.current_time() + self._settings.head_timeout
                    self._reading.deadline = min(self._reading.deadline, soon)
                await self._protocol.handle(RawData(bytes(data)))
        await self._protocol.handle(Closed())

    async def _send(self, event: Event) -> None:
        if isinstance(event, RawData):
            if self._hold_next and event.data:
                self._hold_next, self._held = False, event.data
            elif event.data or self._held:
                await self._flush(event.data)
        elif isinstance(event, Updated):
            if event.idle:
                await self._flush()
                self._become_idle(self._settings.keep_alive_timeout)
                if self._context.terminated.is_set():
                    self._reading.cancel()
            else:
                self._idle = False
                self._reading.deadline = inf
        elif isinstance(event, Closed):
            await self._finish()

    def _hold(self) -> None:
        self._hold_next = True

    def _become_idle(self, seconds: float) -> None:
        self._idle = True
        self.idle_since = trio.current_time()
        self._reading.deadline = trio.current_time() + seconds

    async def _flush(self, data: bytes = b"") -> None:
        data, self._held = self._held + data, b""
        if data:
            await self._write(data)

    async def _write(self, data: bytes) -> None:
        async with self._send_lock:
            with memoryview(data) as view:
                for start in range(0, len(view), WRITE_BYTES):
                    if self._gone or not await self._write_part(view[start : start + WRITE_BYTES]):
                        break
        if self._gone:
            await self._protocol.handle(Closed())

    async def _write_part(self, part: memoryview) -> bool:
        deadline = trio.current_time() + self._settings.write_timeout
        scope = self._writing = trio.CancelScope(shield=True, deadline=-inf if self._aborted else deadline)
        with scope, suppress(trio.BrokenResourceError, trio.ClosedResourceError):
            await self._stream.send_all(part)
            return True
        self._gone = True
        await trio.aclose_forcefully(self._stream)
        self._reading.cancel()
        return False

    async def _finish(self) -> None:
        """Says goodbye so that the client still gets all that was written: half-closes, then reads until it hangs up, for a while."""
        if self._closing:
            return
        await self._flush()
        self._closing = True
        linger = LEAVING_SECONDS if self._context.terminated.is_set() else LINGER_SECONDS
        self._reading.deadline = trio.current_time() + linger
        if not self._send_lock.locked():  # whoever writes just now goes on; the end is then seen when all is closed
            async with self._send_lock:
                with suppress(OSError, trio.BrokenResourceError, trio.ClosedResourceError):
                    await self._stream.send_eof()
        await self._protocol.handle(Closed())
