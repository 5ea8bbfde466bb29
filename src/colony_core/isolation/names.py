"""Names inside a cell where the host's resolver listens on loopback.

The cell reads the host's /etc/resolv.conf, but its 127.0.0.53 is its own and nobody answers there. So a socket born inside answers, and
passes each question on to the host's resolver from the host's side.
Nothing is decoded: a question is its id and its bytes (RFC 1035, 7766).
"""

import ipaddress
import socket
import struct
from collections.abc import Iterable
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any, Protocol

import trio

Socket = socket.socket
PORT = 53
MOST_QUESTIONS = 200
ANSWER_SECONDS = 5.0
HEADER_BYTES = 12
LONGEST_UDP_BYTES = 4096
LONGEST_TCP_BYTES = 65535
IDLE_SECONDS = 10.0


class Inside(Protocol):
    """What is needed of a cell."""

    async def socket(self, family: int = ..., kind: int = ...) -> Socket: ...

    async def own(self, address: str) -> None: ...

    def unanswered(self, nameservers: Iterable[str]) -> tuple[str, ...]: ...


def host_nameservers(resolv_conf: Path) -> tuple[str, ...]:
    """The addresses that resolv.conf(5) names, in order."""
    try:
        lines = resolv_conf.read_text(errors="replace").splitlines()
    except OSError:
        return ()
    found = []
    for line in lines:
        words = line.split()
        if len(words) > 1 and words[0] == "nameserver":
            try:
                found.append(str(ipaddress.ip_address(words[1].partition("%")[0])))
            except ValueError:
                continue
    return tuple(found)


def needs_forwarding(nameservers: Iterable[str]) -> tuple[str, ...]:
    """Those that a cell cannot reach, because they are addresses of the host's own loopback."""
    return tuple(server for server in nameservers if ipaddress.ip_address(server).is_loopback)


async def serve_names(
    cell: Inside,
    nameservers: Iterable[str],
    *,
    port: int = PORT,
    task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED,
) -> None:
    """Answers inside the cell, UDP and TCP, for each of `nameservers` that it cannot reach itself, until cancelled; else it only waits.

    `port` is the host's side. A socket of the host's asks, so that names resolve even where the cell has no way out.

    Questions beyond 200 at a time are dropped, as a busy resolver would; a question without an answer is forgotten after five seconds.
    """
    limit = trio.CapacityLimiter(MOST_QUESTIONS)
    async with trio.open_nursery() as nursery:
        for server in cell.unanswered(nameservers):
            if not ipaddress.ip_address(server).is_loopback:
                await cell.own(server)
            questions = await _bound(cell, server, socket.SOCK_DGRAM)
            nursery.start_soon(_serve_udp, questions, server, port, limit)
            calls = await _bound(cell, server, socket.SOCK_STREAM)
            calls.listen(MOST_QUESTIONS)
            handler = partial(_serve_tcp, server=server, port=port, limit=limit)
            nursery.start_soon(trio.serve_listeners, handler, [trio.SocketListener(calls)])
        task_status.started()
        await trio.sleep_forever()


async def _bound(cell: Inside, server: str, kind: int) -> trio.socket.SocketType:
    family = socket.AF_INET6 if ":" in server else socket.AF_INET
    sock = trio.socket.from_stdlib_socket(await cell.socket(family, kind))
    try:
        if kind == socket.SOCK_STREAM:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        await sock.bind((server, PORT))
    except BaseException:
        sock.close()
        raise
    return sock


async def _serve_udp(questions: trio.socket.SocketType, server: str, port: int, limit: trio.CapacityLimiter) -> None:
    with questions:
        async with trio.open_nursery() as nursery:
            while True:
                try:
                    question, asker = await questions.recvfrom(LONGEST_UDP_BYTES)
                except OSError:  # an ICMP error of an earlier answer, told on this socket
                    continue
                if len(question) > HEADER_BYTES and limit.available_tokens > 0:
                    nursery.start_soon(_pass_on, questions, question, asker, (server, port), limit)


async def _pass_on(
    questions: trio.socket.SocketType,
    question: bytes,
    asker: tuple[Any, ...],
    resolver: tuple[str, int],
    limit: trio.CapacityLimiter,
) -> None:
    async with limit:
        family = socket.AF_INET6 if ":" in resolver[0] else socket.AF_INET
        with trio.move_on_after(ANSWER_SECONDS), trio.socket.socket(family, socket.SOCK_DGRAM) as line:
            try:
                await line.connect(resolver)
                await line.send(question)
                while True:
                    answer = await line.recv(LONGEST_TCP_BYTES)
                    if answer[:2] == question[:2]:
                        await questions.sendto(answer, asker)
                        return
            except OSError:
                return


async def _serve_tcp(stream: trio.SocketStream, *, server: str, port: int, limit: trio.CapacityLimiter) -> None:
    """One connection from inside is one to the resolver; both end together, or when neither says anything for a while."""
    async with stream:
        if limit.available_tokens <= 0:
            return
        async with limit:
            with suppress(OSError, trio.BrokenResourceError, trio.ClosedResourceError, trio.TooSlowError, EOFError):
                with trio.fail_after(IDLE_SECONDS):
                    question = await _message(stream)  # before the resolver is called: many connect and say nothing
                async with await trio.open_tcp_stream(server, port) as resolver:
                    while True:
                        with trio.fail_after(IDLE_SECONDS):
                            await resolver.send_all(question)
                            await stream.send_all(await _message(resolver))
                            question = await _message(stream)


async def _message(stream: trio.SocketStream) -> bytes:
    """One message with its two bytes of length; what cannot be one is an end."""
    head = await _exactly(stream, 2)
    (size,) = struct.unpack(">H", head)
    if size <= HEADER_BYTES:
        raise EOFError
    return head + await _exactly(stream, size)


async def _exactly(stream: trio.SocketStream, count: int) -> bytes:
    data = b""
    while len(data) < count:
        part = await stream.receive_some(count - len(data))
        if not part:
            raise EOFError
        data += part
    return data
