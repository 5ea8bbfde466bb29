"""HTTP/1.1 and WebSocket as hypercorn's protocol layer speaks them, with its sharp edges taken off.

What differs from hypercorn: no HTTP/2; a WebSocket client that speaks before it was answered is refused instead of crashing the server;
compression of frames is declined; a message that is too large, or a broken frame, ends its own connection with the right code; answers
to what is not HTTP are problems like all others.
"""

import secrets
from collections.abc import Callable
from dataclasses import replace
from http import HTTPStatus
from itertools import chain
from typing import Any

import h11
import msgspec
import trio
from hypercorn.config import Config
from hypercorn.events import Closed, Event, RawData, Updated
from hypercorn.protocol.events import Data, Request, Response, StreamClosed
from hypercorn.protocol.events import Event as StreamEvent
from hypercorn.protocol.h11 import STREAM_ID, H11Protocol, H11WSConnection
from hypercorn.protocol.http_stream import HTTPStream
from hypercorn.protocol.ws_stream import FrameTooLargeError, WSStream
from wsproto.connection import ConnectionState
from wsproto.events import CloseConnection, Message, Ping
from wsproto.frame_protocol import CloseReason

import colony_core
from colony_core.errors import ColonyError, Invalid, LimitReached

from .problems import MEDIA_TYPE, problem_of
from .scope import FRAMES

MAX_HEAD_BYTES = 64 * 1024
MAX_MESSAGE_BYTES = 2**20
_LENGTHS = frozenset({b"content-length", b"transfer-encoding"})
HELD_REQUESTS = 1_000_000
"""Requests on one kept-alive connection; pollers may stay as long as they like."""


class Settings(Config):
    """hypercorn's settings for a local API; nothing is logged by it."""

    errorlog = None
    accesslog = None
    include_server_header = False
    h11_max_incomplete_size = MAX_HEAD_BYTES
    websocket_max_message_size = MAX_MESSAGE_BYTES
    keep_alive_max_requests = HELD_REQUESTS
    keep_alive_timeout = 75.0
    graceful_timeout = 3.0
    shutdown_timeout = 10.0
    head_timeout = 10.0
    write_timeout = 30.0
    websocket_ping_interval = 20.0
    vanish_timeout = 30.0
    """A peer on the network that acknowledges nothing for so long is gone, although it never said so; a ping asks it before."""


class Protocol(H11Protocol):
    """One connection's protocol. `hold` is told that the next bytes are a head whose body follows at once."""

    def __init__(self, *args: Any, hold: Callable[[], None]) -> None:
        super().__init__(*args)
        self._hold = hold

    async def handle(self, event: Event) -> None:
        """Bytes from the client, or its end."""
        if isinstance(event, RawData) and event.data and self._is_impatient():
            await self.send(Closed())
            return
        await super().handle(event)

    async def stream_send(self, event: StreamEvent) -> None:
        """An answer's next part."""
        if isinstance(event, Response) and event.status_code >= 200:
            if self.context.terminated.is_set() or event.status_code == HTTPStatus.REQUEST_ENTITY_TOO_LARGE:
                event = replace(event, headers=[*event.headers, (b"connection", b"close")])
            self._hold()
        await super().stream_send(event)

    async def refuse(self, error: ColonyError) -> None:
        """Answers in the app's stead and closes."""
        request_id = f"req_{secrets.token_hex(8)}"
        problem = problem_of(error, request_id=request_id)
        body = msgspec.json.encode(problem.document)
        headers = [
            (b"content-type", MEDIA_TYPE.encode()),
            (b"content-length", str(len(body)).encode()),
            (b"connection", b"close"),
            (b"colony-version", colony_core.__version__.encode()),
            (b"x-request-id", request_id.encode()),
        ]
        head = h11.Response(
            status_code=problem.status, headers=list(chain(headers, self.config.response_headers("h11")))
        )
        self._hold()
        for part in (head, h11.Data(data=body), h11.EndOfMessage()):
            await self._send_h11_event(part)
        await self.send(Closed())

    def _is_impatient(self) -> bool:
        stream = self.stream
        return isinstance(stream, WSStream) and not stream.handshake.accepted

    async def _check_protocol(self, event: h11.Request) -> None:
        """Upgrades to HTTP/2 are passed over, as RFC 9110 allows."""

    async def _send_error_response(self, status_code: int) -> None:
        if status_code == 431:
            await self.refuse(
                LimitReached("head-too-large", f"the head is larger than {MAX_HEAD_BYTES} bytes", "send fewer headers")
            )
        else:
            await self.refuse(Invalid("malformed-request", "this is not HTTP/1.1", "see RFC 9112"))

    async def _create_stream(self, request: h11.Request) -> None:
        headers = list(request.headers)
        if len({name for name, _ in headers} & _LENGTHS) > 1:  # what smugglers send (RFC 9112, 6.1)
            await self.refuse(
                Invalid("malformed-request", "its body has two lengths", "send Content-Length or Transfer-Encoding")
            )
            return
        kind: type[HTTPStream] | type[WSStream] = HTTPStream
        if _wants_websocket(request):
            reason = self._why_no_websocket(headers)
            if reason:
                await self.refuse(
                    Invalid("malformed-request", f"this WebSocket cannot be opened: {reason}", "see RFC 6455")
                )
                return
            kind = Socket
            headers = [pair for pair in headers if pair[0] != b"sec-websocket-extensions"]
            self.connection = H11WSConnection(self.connection)  # type: ignore[arg-type]
        self.stream = kind(
            self.app,
            self.config,
            self.context,
            self.task_group,
            self.ssl,
            self.client,
            self.server,
            self.stream_send,
            STREAM_ID,
        )
        await self.stream.handle(
            Request(
                stream_id=STREAM_ID,
                headers=headers,
                http_version=request.http_version.decode(),
                method=request.method.decode("ascii").upper(),
                raw_path=request.target,
                state=self.connection_state,
            )
        )
        self.keep_alive_requests += 1

    def _why_no_websocket(self, headers: list[tuple[bytes, bytes]]) -> str:
        if self.connection.trailing_data[0]:
            return "bytes came before it was answered"
        for name, value in headers:
            if name in _LENGTHS:
                return "its request has a body"
            if name.startswith(b"sec-websocket-") and not value.isascii():
                return f"{name.decode()} is not ASCII"
        return ""


class Socket(WSStream):
    """A WebSocket that ends by itself when the client breaks the rules, and that takes whole frames from an app that has them."""

    async def app_send(self, message: Any) -> None:
        """As hypercorn's; frames go to the line as they are, while the socket is open to both sides."""
        if message is None or message["type"] != FRAMES:
            await super().app_send(message)
        elif not self.closed and self.connection.state is ConnectionState.OPEN:
            await self.send(Data(stream_id=self.stream_id, data=message["data"]))

    async def _send_pings(self) -> None:
        # The first comes later than with hypercorn: one behind what was told at once meets clients that are closing, and breaks some.
        while not self.closed:
            await trio.sleep(self.config.websocket_ping_interval or 0.0)
            await self._send_wsproto_event(Ping())

    async def _handle_events(self) -> None:
        for event in self.connection.events():
            if isinstance(event, Message):
                try:
                    self.buffer.extend(event)
                except FrameTooLargeError:
                    await self._end(CloseConnection(code=CloseReason.MESSAGE_TOO_BIG))
                    return
                if event.message_finished:
                    message = self.buffer.to_message()
                    self.buffer.clear()
                    assert self.app_put is not None
                    await self.app_put(message)
            elif isinstance(event, Ping):
                await self._send_wsproto_event(event.response())
            elif isinstance(event, CloseConnection):
                # In any other state the client did not close: what it sent could not be parsed, and the event says why.
                closing = self.connection.state == ConnectionState.REMOTE_CLOSING
                await self._end(event.response() if closing else CloseConnection(code=event.code))
                return

    async def _end(self, farewell: CloseConnection) -> None:
        await self._send_wsproto_event(farewell)
        await self.send(StreamClosed(stream_id=self.stream_id))


def _wants_websocket(request: h11.Request) -> bool:
    upgrade, connection = b"", b""
    for name, value in request.headers:
        if name == b"upgrade":
            upgrade = value.strip().lower()
        elif name == b"connection":
            connection = value.lower()
    tokens = [token.strip() for token in connection.split(b",")]
    return b"upgrade" in tokens and upgrade == b"websocket" and request.method == b"GET"


__all__ = ["Closed", "Data", "Protocol", "RawData", "Settings", "Socket", "Updated"]
