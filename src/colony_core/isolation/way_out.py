"""The way out of a cell whose cable leads nowhere: a proxy for HTTP, inside the cell, that dials from the host's side.

A socket born in the cell listens on its loopback, so nobody else reaches it; `CONNECT` gives a tunnel to any port, as NAT would, and plain
HTTP is asked for in the program's name. Names are looked up once, by the host's resolver, and what was judged is what is dialled. Nothing
of what passes is kept or logged.
"""

import errno
import ipaddress
import os
import socket
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from functools import partial
from math import inf
from typing import Protocol

import attrs
import trio

from . import netlink
from .asked import END, Asked, NotUnderstoodError, read_head
from .outside import Address, Route, plain, refusal, route_refusal

PORT = 13128
"""Inside every cell, on 127.0.0.1."""
MOST_CONNECTIONS = 256
MOST_LOOKUPS = 8
"""Of one cell at once: a lookup holds a thread, and gives it back only when the resolver has answered."""
MOST_HEAD_BYTES = 32 * 1024
PART_BYTES = 64 * 1024
HEAD_SECONDS = 30.0
DIAL_SECONDS = 30.0
ONE_ADDRESS_SECONDS = 10.0
HALF_CLOSED_SECONDS = 600.0
"""How long the one side may be silent once the other has said its last."""
RETRY_SECONDS = 1.0
PARTING_SECONDS = 1.0
KEEPALIVE = ((socket.TCP_KEEPIDLE, 60), (socket.TCP_KEEPINTVL, 15), (socket.TCP_KEEPCNT, 4))

_BROKEN = (trio.BrokenResourceError, trio.ClosedResourceError)
_REASONS = {200: "OK", 400: "Bad Request", 403: "Forbidden", 431: "Request Header Fields Too Large"} | {
    502: "Bad Gateway",
    503: "Service Unavailable",
    504: "Gateway Timeout",
}


class Inside(Protocol):
    """What is needed of a cell."""

    async def socket(self, family: int = ..., kind: int = ...) -> socket.socket: ...


@attrs.frozen
class Found:
    """The addresses of a host that may be dialled, or why there is none."""

    addresses: tuple[str, ...] = ()
    refused: str = ""


async def serve_way_out(
    cell: Inside,
    *,
    cells: tuple[ipaddress.IPv4Network, ...],
    port: int = PORT,
    task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED,
) -> None:
    """Serves the proxy at 127.0.0.1:`port` inside the cell, until cancelled; `cells` are networks of colonies, where it lets nobody.

    It lets nobody to the host's own addresses, loopback, link-local and metadata addresses either, however they are written. At most 256
    connections at a time; more are answered 503. Where the port is taken it has started all the same, and tries again each second.
    """
    desk = _Desk(cells, trio.CapacityLimiter(MOST_CONNECTIONS), trio.CapacityLimiter(MOST_LOOKUPS))
    while (sock := await _listening(cell, port)) is None:
        task_status.started()  # a service that holds the port is no reason to keep the colony waiting
        task_status = trio.TASK_STATUS_IGNORED
        await trio.sleep(RETRY_SECONDS)
    with sock:
        task_status.started()
        await trio.serve_listeners(partial(_serve, desk=desk), [trio.SocketListener(sock)])


async def _listening(cell: Inside, port: int) -> trio.socket.SocketType | None:
    """The proxy's socket; None where another one of the cell has the port."""
    sock = trio.socket.from_stdlib_socket(await cell.socket(socket.AF_INET, socket.SOCK_STREAM))
    try:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        await sock.bind(("127.0.0.1", port))
        sock.listen(MOST_CONNECTIONS)
    except BaseException as error:
        sock.close()
        if isinstance(error, OSError) and error.errno == errno.EADDRINUSE:
            return None
        raise
    return sock


@attrs.frozen
class _Desk:
    cells: tuple[ipaddress.IPv4Network, ...]
    connections: trio.CapacityLimiter
    lookups: trio.CapacityLimiter


class _NotReachedError(Exception):
    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status


async def _serve(client: trio.SocketStream, *, desk: _Desk) -> None:
    """One connection from inside is at most one to the outside."""
    async with client:
        with suppress(*_BROKEN):
            try:
                desk.connections.acquire_nowait()
            except trio.WouldBlock:  # and nobody is heard out: that would be the next crowd
                await client.send_all(_answer(503, f"{MOST_CONNECTIONS} connections are open: close some"))
                return
            try:
                await _serve_one(client, desk)
            finally:
                desk.connections.release()


async def _serve_one(client: trio.SocketStream, desk: _Desk) -> None:
    async with AsyncExitStack() as stack:
        try:
            head, rest = await _head(client)
            asked = read_head(head)
            server = await stack.enter_async_context(_reached(asked, desk))
        except EOFError:
            return
        except (NotUnderstoodError, _NotReachedError) as refused:
            await _part(client, _answer(refused.status, str(refused)))
            return
        if asked.head:
            await server.send_all(asked.head)
        else:
            await client.send_all(b"HTTP/1.1 200 Connection established\r\n\r\n")
        await _relay(client, server, rest, until_answered=bool(asked.head))


async def _head(client: trio.SocketStream) -> tuple[bytes, bytes]:
    """A request's head, and what was said behind it. Raises EOFError, NotUnderstoodError."""
    data = bytearray()
    with trio.move_on_after(HEAD_SECONDS):
        while (end := data.find(END)) < 0:
            if len(data) > MOST_HEAD_BYTES:
                raise NotUnderstoodError(431, f"a head of more than {MOST_HEAD_BYTES} bytes")
            part = await client.receive_some(PART_BYTES)
            if not part:
                raise EOFError
            data += part
        return bytes(data[: end + len(END)]), bytes(data[end + len(END) :])
    raise EOFError


@asynccontextmanager
async def _reached(asked: Asked, desk: _Desk) -> AsyncIterator[trio.SocketStream]:
    """A connection to where somebody wants to go. Raises _NotReachedError."""
    where = f"{asked.host} port {asked.port}"
    server = None
    with trio.move_on_after(DIAL_SECONDS):
        find = partial(find_addresses, asked.host, desk.cells)
        try:
            found = await trio.to_thread.run_sync(find, limiter=desk.lookups, abandon_on_cancel=True)
        except OSError as error:
            raise _NotReachedError(502, f"{asked.host} is not found: {error.strerror}") from None
        if found.refused:
            raise _NotReachedError(403, f"{asked.host} is {found.refused}: colonies are not let there")
        for number, address in enumerate(found.addresses, 1):
            try:
                server = await _dial(address, asked.port)
                break
            except (OSError, trio.TooSlowError) as error:
                if number == len(found.addresses):
                    why = os.strerror(error.errno or 0) if isinstance(error, OSError) else "no answer"
                    raise _NotReachedError(502, f"{where} is not reached: {why}") from None
    if server is None:
        raise _NotReachedError(504, f"{where} is not reached within {DIAL_SECONDS:g} s")
    async with server:
        yield server


async def _dial(address: str, port: int) -> trio.SocketStream:
    """Raises OSError, TooSlowError."""
    sock = trio.socket.socket(socket.AF_INET6 if ":" in address else socket.AF_INET, socket.SOCK_STREAM)
    try:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        for option, value in KEEPALIVE:
            sock.setsockopt(socket.IPPROTO_TCP, option, value)
        with trio.fail_after(ONE_ADDRESS_SECONDS):
            await sock.connect((address, port))
        return trio.SocketStream(sock)
    except BaseException:
        sock.close()
        raise


def find_addresses(
    host: str,
    cells: tuple[ipaddress.IPv4Network, ...],
    *,
    resolve: Callable[[str], list[Address]] | None = None,
    route: Callable[[str], Route] | None = None,
) -> Found:
    """Where a host may be dialled, IPv4 first. Blocks: for a thread of the host's network.

    Raises OSError where it is not known, or no route leads to any of its addresses: what the kernel does not judge is not dialled.
    """
    reasons, allowed = [], []
    lost: OSError | None = None
    for address in dict.fromkeys(map(plain, (resolve or _resolve)(host))):
        try:
            reason = refusal(address, cells) or route_refusal((route or _route)(str(address)))
        except OSError as error:
            lost = error
            continue
        if reason:
            reasons.append(reason)
        else:
            allowed.append(address)
    if reasons and not allowed:
        return Found(refused=reasons[0])
    if lost is not None and not allowed:
        raise lost
    return Found(tuple(str(each) for each in sorted(allowed, key=lambda each: each.version)))


def _resolve(host: str) -> list[Address]:
    found = socket.getaddrinfo(host.encode(), None, type=socket.SOCK_STREAM)  # as bytes: nothing is to be translated
    return [ipaddress.ip_address(str(sockaddr[0]).partition("%")[0]) for *_, sockaddr in found]


def _route(address: str) -> Route:
    with netlink.open_socket() as sock:
        kind, link = netlink.route_to(sock, address)
    return Route(kind, socket.if_indextoname(link) if link else "")


async def _relay(client: trio.SocketStream, server: trio.SocketStream, rest: bytes, *, until_answered: bool) -> None:
    """Everything both ways, each side's end to the other; a request (not a tunnel) is over when it is answered."""

    async def pass_on(source: trio.SocketStream, sink: trio.SocketStream, first: bytes) -> None:
        try:
            await sink.send_all(first)
            async for part in source:
                if scope.deadline < inf:
                    scope.deadline = trio.current_time() + HALF_CLOSED_SECONDS
                await sink.send_all(part)
            await sink.send_eof()
            scope.deadline = trio.current_time() + HALF_CLOSED_SECONDS
            if until_answered and source is server:
                scope.cancel()
        except _BROKEN:
            scope.cancel()

    async with trio.open_nursery() as nursery:
        scope = nursery.cancel_scope
        nursery.start_soon(pass_on, client, server, rest)
        nursery.start_soon(pass_on, server, client, b"")


def _answer(status: int, message: str) -> bytes:
    body = f"colony: {message}\n".encode()
    head = f"HTTP/1.1 {status} {_REASONS[status]}\r\nContent-Type: text/plain; charset=utf-8\r\n"
    return f"{head}Content-Length: {len(body)}\r\nConnection: close\r\n\r\n".encode() + body


async def _part(client: trio.SocketStream, answer: bytes) -> None:
    """Says why not, and hears the program out for a moment: closed at once, the answer might be lost with what was not read."""
    await client.send_all(answer)
    await client.send_eof()
    with trio.move_on_after(PARTING_SECONDS):
        while await client.receive_some(PART_BYTES):
            pass
