"""A WebSocket to a daemon, opened and closed within bounds, with its troubles told in our words."""

import json
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager

import trio
from trio_websocket import ConnectionClosed, ConnectionRejected, WebSocketConnection, wrap_client_stream

from colony_core.errors import ColonyError, Unreachable

from .blocking import CONNECT_SECONDS, VERSION_HEADER
from .problems import error_from_answer, error_from_problem, unreachable
from .target import Target
from .tls import trust

HANDSHAKE_SECONDS = 10.0
GOODBYE_SECONDS = 1.0
MAX_MESSAGE_BYTES = 4 * 2**20
QUEUED_MESSAGES = 64
PIECE_BYTES = 64 * 1024
Stream = trio.SocketStream | trio.SSLStream[trio.SocketStream]


@asynccontextmanager
async def open_socket(target: Target, resource: str) -> AsyncIterator[WebSocketConnection]:
    """A WebSocket at `resource`. Raises what the daemon raises, `daemon-unreachable`, `socket-denied` or `connection-lost`; and over TLS
    `certificate-refused`, `tls-failed`, `invalid-ca-file`.
    """
    stream = await _connect(target)
    headers = [(name.encode(), value.encode()) for name, value in target.headers.items()]
    try:
        with ungrouped():
            async with trio.open_nursery() as nursery:
                with trio.move_on_after(HANDSHAKE_SECONDS) as handshake:
                    reader = _Reader(nursery, handshake)
                    connection = await wrap_client_stream(
                        reader,  # type: ignore[arg-type]
                        stream,
                        target.authority,
                        resource,
                        extra_headers=headers,
                        message_queue_size=QUEUED_MESSAGES,
                        max_message_size=MAX_MESSAGE_BYTES,
                        receive_buffer_size=PIECE_BYTES,
                    )
                if handshake.cancelled_caught:
                    raise _refusal(target, reader.trouble)
                yield connection
                # Without an error there is time for a goodbye; otherwise the library's own could take a minute.
                with trio.move_on_after(GOODBYE_SECONDS):
                    await connection.aclose()
                nursery.cancel_scope.cancel()
    finally:
        await trio.aclose_forcefully(stream)


def server_version(connection: WebSocketConnection) -> str | None:
    """What the daemon said of itself."""
    wanted = VERSION_HEADER.lower().encode()
    return next((value.decode("latin-1") for name, value in connection.handshake_headers if name == wanted), None)


@contextmanager
def as_lost(target: Target) -> Iterator[None]:
    """Tells the end of a connection as `connection-lost`."""
    try:
        yield
    except ConnectionClosed as error:
        why = f"{error.reason.code} {error.reason.reason or ''}".strip() if error.reason else "closed"
        raise Unreachable("connection-lost", f"the connection to {target} broke ({why})", "colony status") from error


@contextmanager
def ungrouped() -> Iterator[None]:
    """A nursery of one wraps what it raises; callers want the error itself."""
    try:
        yield
    except BaseExceptionGroup as group:
        error: BaseException = group
        while isinstance(error, BaseExceptionGroup) and len(error.exceptions) == 1:
            error = error.exceptions[0]
        if error is group:
            raise
        raise error from error.__cause__


async def _connect(target: Target) -> Stream:
    try:
        with trio.fail_after(CONNECT_SECONDS):
            if target.socket:
                return await trio.open_unix_socket(target.socket)
            if target.tls:
                return await _connect_securely(target)
            return await trio.open_tcp_stream(target.host, target.port)
    except trio.TooSlowError as error:
        raise unreachable(target, TimeoutError("nobody takes the connection")) from error
    except trio.BrokenResourceError as error:
        raise unreachable(target, error.__cause__ or error) from error
    except (OSError, ValueError) as error:
        raise unreachable(target, error) from error


async def _connect_securely(target: Target) -> Stream:
    context = await trio.to_thread.run_sync(trust, target.ca_file, abandon_on_cancel=True)
    stream = await trio.open_tcp_stream(target.host, target.port)
    try:
        # A WebSocket says goodbye by itself, so that the end of the connection needs none of TLS.
        secured = trio.SSLStream(stream, context, server_hostname=target.host, https_compatible=True)
        await secured.do_handshake()
    except BaseException:
        await trio.aclose_forcefully(stream)
        raise
    return secured


class _Reader:
    """Stands in for a nursery: runs the library's reader so that its end, whatever it is, ends a handshake that would wait in vain."""

    def __init__(self, nursery: trio.Nursery, handshake: trio.CancelScope) -> None:
        self.trouble: Exception | None = None
        self._nursery = nursery
        self._handshake = handshake

    def start_soon(self, reader: Callable[[], Awaitable[None]]) -> None:
        self._nursery.start_soon(self._run, reader)

    async def _run(self, reader: Callable[[], Awaitable[None]]) -> None:
        try:
            await reader()
        except (
            Exception
        ) as error:  # bytes that are no WebSocket end it in many ways, and the channel of messages is closed in all
            self.trouble = error
        finally:
            self._handshake.cancel()


def _refusal(target: Target, trouble: Exception | None) -> ColonyError:
    if not isinstance(trouble, ConnectionRejected):
        why = f": {trouble}" if trouble else ""
        return Unreachable(
            "connection-lost", f"{target} opened no WebSocket{why}", "is this address Colony's? colony doctor looks"
        )
    headers = {name.lower(): value.decode("latin-1") for name, value in trouble.headers}
    body = bytes(trouble.body or b"")
    try:
        problem = json.loads(body)
    except ValueError:
        problem = None
    if isinstance(problem, dict) and trouble.status_code >= 400:
        return error_from_problem(trouble.status_code, problem)
    kind, location = headers.get(b"content-type", ""), headers.get(b"location", "")
    return error_from_answer(trouble.status_code, kind, body, where=str(target), location=location)
