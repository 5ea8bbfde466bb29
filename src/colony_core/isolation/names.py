"""Names inside a cell.

A cell reads the host's /etc/resolv.conf, so a socket born inside answers at the addresses that stand there: for the colony's own names
itself, and for all others by passing the question on to the host's resolver from the host's side, as it is (RFC 1035, 7766).

Where the cell reaches that resolver without us, the address is given to its loopback for half a minute at a time only: when nobody renews
that, because the daemon was killed, questions take the cable again.
"""

import ipaddress
import socket
import struct
from collections.abc import Callable, Iterable
from contextlib import AsyncExitStack, suppress
from functools import partial
from pathlib import Path
from typing import Any, Protocol

import attrs
import trio

from . import dns
from .cell import Nameserver
from .dns import HEADER_BYTES

Socket = socket.socket
Lookup = Callable[[str], tuple[str, ...] | None]
"""The addresses of a name; none where there is no such colony or service, None where it is no name of a colony at all."""
PORT = 53
MOST_QUESTIONS = 200
ANSWER_SECONDS = 5.0
LONGEST_UDP_BYTES = 4096
LONGEST_TCP_BYTES = 65535
IDLE_SECONDS = 10.0
LEASE_SECONDS, RENEWAL_SECONDS = 30, 10.0
MOST_ERRORS, PAUSE_SECONDS = 30, 0.01


class Inside(Protocol):
    """What is needed of a cell."""

    async def socket(self, family: int = ..., kind: int = ...) -> Socket: ...

    async def own(self, address: str, *, seconds: int = ...) -> None: ...

    async def disown(self, address: str) -> None: ...

    def nameservers(self, of_host: Iterable[str]) -> tuple[Nameserver, ...]: ...


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


def nothing_is_known(_name: str) -> tuple[str, ...] | None:
    """For cells without names of their own."""
    return None


async def serve_names(
    cell: Inside,
    nameservers: Callable[[], Iterable[str]],
    *,
    lookup: Lookup = nothing_is_known,
    port: int = PORT,
    task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED,
) -> None:
    """Answers inside the cell, UDP and TCP, for each of the host's `nameservers`, until cancelled; looks every ten seconds who they are.

    `port` is the host's side. A socket of the host's asks, so that names resolve even where the cell has no way out; a cell that is to have
    none is refused all names but those that `lookup` knows.

    Questions beyond 200 at a time are dropped, as a busy resolver would, and so are connections beyond 200; a question without an answer
    is forgotten after five seconds.
    """
    limits = trio.CapacityLimiter(MOST_QUESTIONS), trio.CapacityLimiter(MOST_QUESTIONS)
    served: dict[Nameserver, trio.CancelScope] = {}
    async with trio.open_nursery() as nursery:
        while True:
            wanted = cell.nameservers(nameservers())
            for server in served.keys() - set(wanted):
                served.pop(server).cancel()
            for server in wanted:
                if server not in served:
                    desk = _Desk(lookup, (server.address, port) if server.passes_on else None, *limits)
                    served[server] = await nursery.start(_serve, cell, server, desk)
                elif server.stands_in:
                    await _own(cell, server)
            task_status.started()
            task_status = trio.TASK_STATUS_IGNORED
            await trio.sleep(RENEWAL_SECONDS)


async def _serve(
    cell: Inside, server: Nameserver, desk: "_Desk", task_status: trio.TaskStatus[trio.CancelScope]
) -> None:
    """One nameserver's place, until it is cancelled; its address is given back then."""
    try:
        async with trio.open_nursery() as nursery:
            if server.given:
                await _own(cell, server)
            questions = await _bound(cell, server.address, socket.SOCK_DGRAM)
            nursery.start_soon(_serve_udp, questions, desk)
            calls = await _bound(cell, server.address, socket.SOCK_STREAM)
            calls.listen(MOST_QUESTIONS)
            nursery.start_soon(trio.serve_listeners, partial(_serve_tcp, desk=desk), [trio.SocketListener(calls)])
            task_status.started(nursery.cancel_scope)
    finally:
        if server.given:
            with trio.CancelScope(shield=True), suppress(OSError):  # the cell is gone
                await cell.disown(server.address)


@attrs.frozen
class _Desk:
    """Where questions come in: who knows the colony's names, which resolver is asked for the others, and how many at once.

    Connections have a limit of their own: those that are held open and say nothing keep no question by UDP waiting.
    """

    lookup: Lookup
    resolver: tuple[str, int] | None
    limit: trio.CapacityLimiter
    calls: trio.CapacityLimiter

    def answer(self, packet: bytes) -> bytes | None:
        """What can be said at once, nothing to what is no question; None where the resolver is to be asked."""
        question = dns.read_question(packet)
        addresses = self.lookup(question.name) if question is not None else None
        if question is not None and addresses is not None:
            if addresses:
                return dns.answer(packet, question, addresses)
            return dns.decline(packet, question, dns.NO_SUCH_NAME)
        if self.resolver is not None:
            return None
        return dns.decline(packet, question, dns.REFUSED) if question is not None else b""


async def _own(cell: Inside, server: Nameserver) -> None:
    if server.stands_in:
        await cell.own(server.address, seconds=LEASE_SECONDS)
    else:
        await cell.own(server.address)


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


async def _serve_udp(questions: trio.socket.SocketType, desk: _Desk) -> None:
    """Raises OSError where nothing can be received for seconds: an error that lasts is none of an earlier answer's."""
    errors = 0
    with questions:
        async with trio.open_nursery() as nursery:
            while True:
                try:
                    question, asker = await questions.recvfrom(LONGEST_UDP_BYTES)
                except OSError:
                    errors += 1
                    if errors > MOST_ERRORS:
                        raise
                    await trio.sleep(errors * PAUSE_SECONDS)
                    continue
                errors = 0
                if len(question) <= HEADER_BYTES:
                    continue
                if (answer := desk.answer(question)) is None:
                    if desk.limit.available_tokens > 0:
                        nursery.start_soon(_pass_on, questions, question, asker, desk)
                elif answer:
                    with suppress(OSError):  # whoever asked cannot be reached
                        await questions.sendto(answer, asker)


async def _pass_on(questions: trio.socket.SocketType, question: bytes, asker: tuple[Any, ...], desk: _Desk) -> None:
    assert desk.resolver is not None
    async with desk.limit:
        family = socket.AF_INET6 if ":" in desk.resolver[0] else socket.AF_INET
        with trio.move_on_after(ANSWER_SECONDS), trio.socket.socket(family, socket.SOCK_DGRAM) as line:
            try:
                await line.connect(desk.resolver)
                await line.send(question)
                while True:
                    answer = await line.recv(LONGEST_TCP_BYTES)
                    if answer[:2] == question[:2]:
                        await questions.sendto(answer, asker)
                        return
            except OSError:
                return


async def _serve_tcp(stream: trio.SocketStream, *, desk: _Desk) -> None:
    """One connection from inside is at most one to the resolver; both end together, or when neither says anything for a while."""
    async with stream, AsyncExitStack() as stack:
        if desk.calls.available_tokens <= 0:
            return
        resolver = None
        async with desk.calls:
            with suppress(OSError, trio.BrokenResourceError, trio.ClosedResourceError, trio.TooSlowError, EOFError):
                while True:
                    with trio.fail_after(IDLE_SECONDS):
                        question = await _message(stream)
                        answer = desk.answer(question[2:])
                        if answer == b"":
                            return
                        if answer is not None:
                            await stream.send_all(struct.pack(">H", len(answer)) + answer)
                            continue
                        if resolver is None:  # not before: many connect and say nothing
                            assert desk.resolver is not None
                            resolver = await stack.enter_async_context(await trio.open_tcp_stream(*desk.resolver))
                        await resolver.send_all(question)
                        await stream.send_all(await _message(resolver))


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
