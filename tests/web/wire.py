"""A client that says exactly what it is told, over real sockets."""

import json
from contextlib import suppress
from typing import Any

import attrs
import h11
import trio


@attrs.frozen
class Served:
    """Where a server listens."""

    socket: str
    port: int

    async def unix(self) -> trio.SocketStream:
        return await trio.open_unix_socket(self.socket)

    async def tcp(self) -> trio.SocketStream:
        return await trio.open_tcp_stream("127.0.0.1", self.port)

    async def ask(
        self, path: str, *, method: str = "GET", token: str | None = None, body: bytes = b"", **headers: str
    ) -> "Answer":
        """One request on a connection of its own: over TCP with `token`, else over the Unix socket."""
        stream = await (self.tcp() if token is not None else self.unix())
        lines = {"host": f"localhost:{self.port}" if token is not None else "localhost"} | {
            name.replace("_", "-"): value for name, value in headers.items()
        }
        if token:
            lines["authorization"] = f"Bearer {token}"
        async with stream:
            return await ask(stream, method, path, lines, body)


@attrs.frozen
class Answer:
    """What came back."""

    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)


async def ask(stream: trio.SocketStream, method: str, path: str, headers: dict[str, str], body: bytes = b"") -> Answer:
    """One request on an open connection."""
    connection = h11.Connection(h11.CLIENT)
    if body:
        headers = headers | {"content-length": str(len(body))}
    head = h11.Request(method=method, target=path, headers=list(headers.items()))
    with suppress(trio.BrokenResourceError):  # who is refused early has an answer all the same
        await stream.send_all(connection.send(head) + (connection.send(h11.Data(data=body)) if body else b""))
    connection.send(h11.EndOfMessage())
    return await read_answer(stream, connection)


async def read_answer(stream: trio.SocketStream, connection: h11.Connection | None = None) -> Answer:
    """Reads one whole answer; fails where the connection ends before it does."""
    if connection is None:
        connection = h11.Connection(h11.CLIENT)
        connection.send(h11.Request(method="GET", target="/", headers=[("host", "x")]))
        connection.send(h11.EndOfMessage())
    response: h11.Response | None = None
    body = b""
    while True:
        event = connection.next_event()
        if event is h11.NEED_DATA:
            connection.receive_data(await stream.receive_some(65536))
        elif isinstance(event, h11.Response):
            response = event
        elif isinstance(event, h11.Data):
            body += bytes(event.data)
        elif isinstance(event, h11.EndOfMessage):
            assert response is not None
            names = {name.decode(): value.decode() for name, value in response.headers}
            return Answer(response.status_code, names, body)
        elif isinstance(event, h11.ConnectionClosed):
            raise AssertionError("the connection ended without an answer")


async def read_until(stream: trio.SocketStream, mark: bytes) -> bytes:
    """Everything up to the first piece that completes `mark`; fails where the connection ends before."""
    said = b""
    while mark not in said:
        part = await stream.receive_some(65536)
        assert part, f"the connection ended behind {said!r}"
        said += part
    return said


async def read_all(stream: trio.SocketStream) -> bytes:
    """Everything until the server closes."""
    parts = []
    while part := await stream.receive_some(65536):
        parts.append(part)
    return b"".join(parts)
