"""Names inside a cell: the host's resolver is asked by a socket of the host, and nothing that is said to it brings it down."""

import ipaddress
import socket
import struct
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from functools import partial
from pathlib import Path

import pytest
import trio
import trio.testing
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pytest_trio import trio_fixture

from colony_core.isolation import Cell, Isolation, dns, host_nameservers, names, needs_forwarding, serve_names

from .test_dns import question

QUESTION = struct.pack(">HHHHHH", 0x1234, 0x0100, 1, 0, 0, 0) + b"\x05hello\x05local\0" + struct.pack(">HH", 1, 1)


def test_nameservers_are_read_as_the_resolver_does(tmp_path: Path) -> None:
    conf = tmp_path / "resolv.conf"
    conf.write_text(
        "# nameserver 1.1.1.1\nnameserver 127.0.0.53\nnameserver\nsearch example.org\nnameserver nonsense\n"
        "  nameserver ::1\nnameserver fe80::1%eth0\nnameserver 192.0.2.7 # home\n"
    )
    assert host_nameservers(conf) == ("127.0.0.53", "::1", "fe80::1", "192.0.2.7")
    assert needs_forwarding(host_nameservers(conf)) == ("127.0.0.53", "::1")
    assert host_nameservers(tmp_path / "none") == ()


@given(st.binary(max_size=300))
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])
def test_a_resolv_conf_of_any_bytes_names_addresses_or_nothing(tmp_path: Path, lines: bytes) -> None:
    conf = tmp_path / "resolv.conf"
    conf.write_bytes(lines + b"\nnameserver 192.0.2.1\n")
    assert host_nameservers(conf)[-1] == "192.0.2.1"
    for address in host_nameservers(conf):
        ipaddress.ip_address(address)


async def on_one_port() -> tuple[trio.socket.SocketType, trio.socket.SocketType]:
    """A socket for UDP and a listening one for TCP. A number that is free for the one may be taken for the other."""
    while True:
        calls = trio.socket.socket(socket.AF_INET, socket.SOCK_STREAM)
        questions = trio.socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        try:
            await calls.bind(("127.0.0.1", 0))
            await questions.bind(calls.getsockname())
        except OSError:
            calls.close()
            questions.close()
        else:
            calls.listen(16)
            return questions, calls


@trio_fixture
async def resolver() -> AsyncIterator[int]:
    """A resolver on the host's loopback that answers a question with itself and a word; its port."""
    questions, calls = await on_one_port()
    port = questions.getsockname()[1]

    async def answer_udp() -> None:
        while True:
            question, asker = await questions.recvfrom(5000)
            await questions.sendto(b"\0\0 for somebody else", asker)
            await questions.sendto(question + b" 192.0.2.80", asker)

    async def answer_tcp(stream: trio.SocketStream) -> None:
        async with stream:
            head = await stream.receive_some(2)
            assert len(head) == 2, "only whole questions are passed on"
            size = struct.unpack(">H", head)[0]
            assert size > 12
            answer = await stream.receive_some(size) + b" 192.0.2.80"
            await stream.send_all(struct.pack(">H", len(answer)) + answer)

    with questions:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(answer_udp)
            nursery.start_soon(trio.serve_listeners, answer_tcp, [trio.SocketListener(calls)])
            yield port
            nursery.cancel_scope.cancel()


@trio_fixture
async def cell(walls: Isolation, resolver: int) -> AsyncIterator[Cell]:
    """A cell in which 127.0.0.1 answers names; it has no way out of its own."""
    async with walls.open_cell("hello") as cell, trio.open_nursery() as nursery:
        serve = lambda task_status: serve_names(cell, lambda: ["127.0.0.1"], port=resolver, task_status=task_status)  # noqa: E731
        await nursery.start(serve)
        yield cell
        nursery.cancel_scope.cancel()


async def ask(cell: Cell, question: bytes, server: str = "127.0.0.1") -> bytes:
    with trio.socket.from_stdlib_socket(await cell.socket(socket.AF_INET, socket.SOCK_DGRAM)) as sock:
        await sock.connect((server, 53))
        await sock.send(question)
        with trio.fail_after(60):
            return await sock.recv(5000)


@pytest.mark.kernel
async def test_a_question_by_udp_is_answered_by_the_hosts_resolver(cell: Cell) -> None:
    assert await ask(cell, QUESTION) == QUESTION + b" 192.0.2.80"


@pytest.mark.kernel
async def test_a_question_by_tcp_is_answered_too(cell: Cell) -> None:
    async with await cell.connect(53) as stream:
        await stream.send_all(struct.pack(">H", len(QUESTION)) + QUESTION)
        expected = struct.pack(">H", len(QUESTION) + 11) + QUESTION + b" 192.0.2.80"
        answer = b""
        with trio.fail_after(60):
            while len(answer) < len(expected):
                answer += await stream.receive_some(1000)
    assert answer == expected


@pytest.mark.kernel
async def test_malformed_packets_are_survived(cell: Cell) -> None:
    with trio.socket.from_stdlib_socket(await cell.socket(socket.AF_INET, socket.SOCK_DGRAM)) as sock:
        for packet in (b"", b"\0", b"x" * 11, b"\xff" * 4000, bytes(60_000)):
            await sock.sendto(packet, ("127.0.0.1", 53))
    for start in (b"", b"\0", b"\xff\xff", b"\xff\xffhalf", b"\0\0"):
        async with await cell.connect(53) as stream:
            if start:
                await stream.send_all(start)
    assert await ask(cell, QUESTION) == QUESTION + b" 192.0.2.80"


@pytest.mark.kernel
async def test_a_flood_of_questions_does_not_end_it(cell: Cell) -> None:
    with trio.socket.from_stdlib_socket(await cell.socket(socket.AF_INET, socket.SOCK_DGRAM)) as sock:
        for _ in range(2000):
            await sock.sendto(QUESTION, ("127.0.0.1", 53))
    answer = b""
    while not answer:  # a question in the flood may be lost, and is then asked again, as resolvers do
        with trio.move_on_after(1):
            answer = await ask(cell, QUESTION)
    assert answer == QUESTION + b" 192.0.2.80"


@pytest.mark.kernel
async def test_connections_that_say_nothing_keep_no_question_waiting(cell: Cell) -> None:
    async with AsyncExitStack() as silent:
        for _ in range(names.MOST_QUESTIONS + 20):
            await silent.enter_async_context(await cell.connect(53))
        assert await ask(cell, QUESTION) == QUESTION + b" 192.0.2.80"


@pytest.mark.kernel
async def test_a_resolver_that_does_not_answer_harms_nobody(walls: Isolation) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))  # nobody listens there: every question meets an ICMP error
        async with walls.open_cell("hello") as cell, trio.open_nursery() as nursery:
            port = taken.getsockname()[1]
            serve = lambda task_status: serve_names(cell, lambda: ["127.0.0.1"], port=port, task_status=task_status)  # noqa: E731
            await nursery.start(serve)
            with trio.socket.from_stdlib_socket(await cell.socket(socket.AF_INET, socket.SOCK_DGRAM)) as sock:
                await sock.sendto(QUESTION, ("127.0.0.1", 53))
            for _ in range(3):
                async with await cell.connect(53) as stream:
                    await stream.send_all(struct.pack(">H", len(QUESTION)) + QUESTION)
                    with trio.fail_after(60):
                        assert b"".join([part async for part in stream]) == b""
            nursery.cancel_scope.cancel()


def how(cell: Cell, server: str) -> tuple[bool, bool, bool]:
    (found,) = cell.nameservers([server, server])
    return found.passes_on, found.stands_in, found.given


@pytest.mark.kernel
async def test_how_a_nameserver_is_answered_for_depends_on_who_reaches_it(walls: Isolation) -> None:
    async with walls.open_cell("hello") as cell:
        for cell.routed, cell.egress in ((True, True), (True, False), (False, True)):
            assert cell.nameservers([]) == cell.nameservers(["127.0.0.1"]), "as resolv.conf(5) has it"
            assert how(cell, "127.0.0.53") == how(cell, "::1") == (True, False, False), "nobody but us"
        cell.routed, cell.egress = True, True
        assert how(cell, "192.0.2.7") == (True, True, True), "the cell itself, when we are not there"
        assert how(cell, "2001:db8::7") == (True, False, True), "a cable has no IPv6"
        cell.routed, cell.egress = False, True
        assert how(cell, "192.0.2.7") == (True, False, True), "a socket of the host's"
        cell.routed, cell.egress = True, False
        assert how(cell, "192.0.2.7") == (False, False, True), "nobody: the colony is to have no way out"


def known(name: str) -> tuple[str, ...] | None:
    """One name of a colony's own, and one that is none."""
    return {"api": ("127.0.0.1", "10.9.9.9"), "gone.colony.internal": ()}.get(name)


@pytest.mark.kernel
async def test_a_colonys_own_names_are_answered_inside_and_all_others_by_the_host(
    walls: Isolation, resolver: int
) -> None:
    async with walls.open_cell("hello") as cell, trio.open_nursery() as nursery:
        serve = partial(serve_names, cell, lambda: ["127.0.0.1"], lookup=known, port=resolver)
        await nursery.start(serve)
        said = await ask(cell, question("API"))
        assert [socket.inet_ntoa(said[at : at + 4]) for at in (len(said) - 20, len(said) - 4)] == [
            "127.0.0.1",
            "10.9.9.9",
        ]
        assert (await ask(cell, question("gone.colony.internal")))[3] & 15 == dns.NO_SUCH_NAME
        assert await ask(cell, QUESTION) == QUESTION + b" 192.0.2.80"
        async with await cell.connect(53) as stream:
            for asked, expected in ((question("api"), said[-4:]), (QUESTION, b"2.80"), (question("api"), said[-4:])):
                await stream.send_all(struct.pack(">H", len(asked)) + asked)
                with trio.fail_after(60):
                    size = struct.unpack(">H", await stream.receive_some(2))[0]
                    assert (await stream.receive_some(size))[-4:] == expected
        nursery.cancel_scope.cancel()


@pytest.mark.kernel
async def test_a_cell_that_is_to_have_no_way_out_is_told_its_own_names_only(walls: Isolation) -> None:
    async with walls.open_cell("hello") as cell, trio.open_nursery() as nursery:
        cell.routed, cell.egress = True, False
        await nursery.start(partial(serve_names, cell, lambda: ["192.0.2.7"], lookup=known))
        assert (await ask(cell, question("api"), "192.0.2.7"))[-4:] == socket.inet_aton("10.9.9.9")
        assert (await ask(cell, question("example.org"), "192.0.2.7"))[3] & 15 == dns.REFUSED
        nursery.cancel_scope.cancel()


async def is_local(cell: Cell, address: str) -> bool:
    """Whether an address is the cell's own at this moment."""
    with trio.socket.from_stdlib_socket(await cell.socket(socket.AF_INET, socket.SOCK_DGRAM)) as sock:
        try:
            await sock.bind((address, 0))
        except OSError:
            return False
        return True


@pytest.mark.kernel
async def test_a_reachable_nameservers_address_is_given_back_at_the_end(walls: Isolation) -> None:
    async with walls.open_cell("hello") as cell:
        cell.routed, cell.egress = True, True
        async with trio.open_nursery() as nursery:
            await nursery.start(partial(serve_names, cell, lambda: ["192.0.2.7"], lookup=known))
            assert await is_local(cell, "192.0.2.7")
            nursery.cancel_scope.cancel()
        assert not await is_local(cell, "192.0.2.7")
        await cell.disown("192.0.2.7")


@pytest.mark.kernel
async def test_an_edited_resolv_conf_is_followed(walls: Isolation, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(names, "RENEWAL_SECONDS", 0.01)
    servers = ["192.0.2.7"]
    async with walls.open_cell("hello") as cell, trio.open_nursery() as nursery:
        await nursery.start(partial(serve_names, cell, lambda: servers, lookup=known))
        assert (await ask(cell, question("api"), "192.0.2.7"))[-4:] == socket.inet_aton("10.9.9.9")
        servers[:] = ["192.0.2.8", "127.0.0.53"]
        with trio.fail_after(60):
            while await is_local(cell, "192.0.2.7") or not await is_local(cell, "192.0.2.8"):
                await trio.sleep(0.01)
            while {(found.address, found.port) for found in await cell.listeners()} != {
                ("192.0.2.8", 53),
                ("127.0.0.53", 53),
            }:
                await trio.sleep(0.01)
        assert (await ask(cell, question("api"), "127.0.0.53"))[-4:] == socket.inet_aton("10.9.9.9")
        nursery.cancel_scope.cancel()


@pytest.mark.kernel
async def test_an_address_that_nobody_renews_is_given_back_by_the_kernel(walls: Isolation) -> None:
    async with walls.open_cell("hello") as cell:
        await cell.own("192.0.2.8", seconds=1)
        await cell.own("192.0.2.8", seconds=3600)
        with trio.fail_after(60):
            while not await is_local(cell, "192.0.2.7"):
                await cell.own("192.0.2.7", seconds=1)
            while await is_local(cell, "192.0.2.7"):
                await trio.sleep(0.05)
        assert await is_local(cell, "192.0.2.8"), "it was renewed"


@pytest.mark.kernel
@pytest.mark.parametrize("server", ["192.0.2.7", "2001:db8::7", "127.0.0.53", "::1"])
async def test_without_a_way_out_any_nameserver_is_answered_for_inside(walls: Isolation, server: str) -> None:
    async with walls.open_cell("hello") as cell, trio.open_nursery() as nursery:
        cell.routed = False
        await nursery.start(lambda task_status: serve_names(cell, lambda: [server], task_status=task_status))
        assert (server, 53) in {(found.address, found.port) for found in await cell.listeners()}
        nursery.cancel_scope.cancel()


async def test_a_fake_cell_binds_nothing_on_the_host(fake_walls: Isolation) -> None:
    async with fake_walls.open_cell("hello") as cell, trio.open_nursery() as nursery:
        await nursery.start(lambda task_status: serve_names(cell, lambda: ["127.0.0.1"], task_status=task_status))
        assert all(found.port != 53 for found in await cell.listeners())
        nursery.cancel_scope.cancel()


def desk() -> names._Desk:
    """It knows one name, and asks nobody."""
    return names._Desk(known, None, trio.CapacityLimiter(1), trio.CapacityLimiter(1))


async def test_an_icmp_error_of_an_earlier_answer_is_passed_over() -> None:
    with trio.socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as questions:
        asker = trio.socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        await asker.bind(("127.0.0.1", 0))
        await questions.connect(place := asker.getsockname())
        asker.close()
        await questions.send(b"an answer that nobody takes")
        await trio.lowlevel.wait_readable(questions)  # the error is there, which stays so until it is taken
        with trio.socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as asker:
            await asker.bind(place)
            await asker.connect(questions.getsockname())
            async with trio.open_nursery() as nursery:
                nursery.start_soon(names._serve_udp, questions, desk())
                await asker.send(question("api"))
                with trio.fail_after(60):
                    assert (await asker.recv(5000))[-4:] == socket.inet_aton("10.9.9.9")
                nursery.cancel_scope.cancel()


async def test_an_error_that_lasts_ends_the_resolver_and_does_not_spin(autojump_clock: trio.testing.MockClock) -> None:
    began = trio.current_time()
    deaf = trio.socket.socket(socket.AF_INET, socket.SOCK_STREAM)  # nothing is ever received on what has no peer
    with deaf, pytest.RaisesGroup(pytest.RaisesExc(OSError)):
        await names._serve_udp(deaf, desk())
    assert trio.current_time() - began == pytest.approx(4.65)
