"""Passages between cells: who reaches whom, tried with real packets of every kind between every pair, and when that ends."""

import errno
import itertools
import socket
import struct
from collections.abc import AsyncIterator, Callable, Iterable
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

import pytest
import trio

from colony_core.errors import Broken
from colony_core.isolation import Cell, Isolation, Passage, firewall, open_isolation
from colony_core.isolation.firewall import Opening
from colony_core.isolation.passages import openings

from .conftest import private_mode
from .inside import nft, tool

PORTS = (4001, 4002)
REFUSED = (errno.EHOSTUNREACH, errno.EACCES, errno.EPERM, errno.ENETUNREACH)
ICMP_PAUSE = Path("/proc/sys/net/ipv4/icmp_ratelimit")
"""How often refusals are told, in the network that is asked."""
kernel = pytest.mark.kernel


def test_a_passage_is_open_while_both_its_ends_have_an_address() -> None:
    passages = [Passage("ant", "bee"), Passage("bee", "cat", 80), Passage("cat", "dog"), Passage("ant", "ant")]
    addresses = {"ant": "10.0.0.1", "bee": "10.0.0.2", "cat": "10.0.0.3"}
    assert openings(passages, addresses.get) == {
        Opening("10.0.0.1", "10.0.0.2"),
        Opening("10.0.0.2", "10.0.0.3", 80),
    }
    assert openings(passages, {}.get) == frozenset()


def test_openings_are_told_to_nft_in_one_step_whatever_their_order() -> None:
    some = [Opening("10.0.0.1", "10.0.0.2"), Opening("10.0.0.1", "10.0.0.2", 80)]
    assert firewall.openings("colony_x", some).splitlines() == [
        "flush set inet colony_x passages",
        "flush set inet colony_x port_passages",
        "add element inet colony_x passages { 10.0.0.1 . 10.0.0.2 }",
        "add element inet colony_x port_passages { 10.0.0.1 . 10.0.0.2 . tcp . 80 }",
        "add element inet colony_x port_passages { 10.0.0.1 . 10.0.0.2 . udp . 80 }",
    ]
    assert firewall.openings("colony_x", reversed(some)) == firewall.openings("colony_x", some)


@asynccontextmanager
async def echoing(*cells: Cell) -> AsyncIterator[None]:
    """In each cell something says back what it hears, at two ports, by TCP and UDP, to IPv4 and IPv6."""

    async def say_back(stream: trio.SocketStream) -> None:
        async with stream:
            async for data in stream:
                await stream.send_all(data)

    async def send_back(sock: trio.socket.SocketType) -> None:
        while True:
            data, sender = await sock.recvfrom(100)
            await sock.sendto(data, sender)

    async with AsyncExitStack() as stack:
        nursery = await stack.enter_async_context(trio.open_nursery())
        for cell, port in itertools.product(cells, PORTS):
            calls = trio.socket.from_stdlib_socket(await cell.socket(socket.AF_INET6, socket.SOCK_STREAM))
            calls.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
            await calls.bind(("::", port))
            calls.listen(16)
            nursery.start_soon(trio.serve_listeners, say_back, [trio.SocketListener(calls)])
            packets = trio.socket.from_stdlib_socket(await cell.socket(socket.AF_INET6, socket.SOCK_DGRAM))
            packets.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
            stack.enter_context(packets)
            await packets.bind(("::", port))
            nursery.start_soon(send_back, packets)
        yield
        nursery.cancel_scope.cancel()


async def reaches(cell: Cell, address: str, kind: str, port: int = 4001) -> bool:
    """Whether an answer comes, or a refusal; silence is neither."""
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    types = {"tcp": socket.SOCK_STREAM, "udp": socket.SOCK_DGRAM, "icmp": socket.SOCK_DGRAM}
    if kind == "icmp":
        protocol = socket.IPPROTO_ICMPV6 if ":" in address else socket.IPPROTO_ICMP
        raw = await cell._kernel.run(cell._socket, family, socket.SOCK_DGRAM, protocol)
    else:
        raw = await cell.socket(family, types[kind])
    with trio.socket.from_stdlib_socket(raw) as sock:
        try:
            with trio.fail_after(60):
                await sock.connect((address, port if kind != "icmp" else 0))
                data = b"hello" if kind != "icmp" else struct.pack(">BBHHH", 128 if ":" in address else 8, 0, 0, 0, 1)
                while True:  # the kernel tells refusals of packets no more often than it likes to (icmp_ratelimit)
                    await sock.send(data)
                    with trio.move_on_after(0.3):
                        return len(await sock.recv(100)) >= len(data)
        except OSError as error:
            if error.errno not in REFUSED:
                raise
            return False


async def seen(cells: Iterable[Cell], port: int = 4001) -> set[tuple[str, str, str]]:
    """Every pair between which packets of a kind pass."""
    return {
        (one.name, kind, other.name)
        for one, other in itertools.permutations(cells, 2)
        for kind in ("tcp", "udp", "icmp")
        if await reaches(one, other.address, kind, port)
    }


def whole(source: str, target: str) -> set[tuple[str, str, str]]:
    return {(source, kind, target) for kind in ("tcp", "udp", "icmp")}


@kernel
async def test_a_passage_is_for_one_direction_and_everybody_else_stays_apart(walls: Isolation) -> None:
    await walls.run_in_thread(ICMP_PAUSE.write_text, "0")
    async with (
        walls.open_cell("ant") as ant,
        walls.open_cell("bee") as bee,
        walls.open_cell("cat") as cat,
        echoing(ant, bee, cat),
    ):
        assert await seen([ant, bee, cat]) == set()
        await walls.allow([Passage("ant", "bee"), Passage("cat", "ant", 4002)])
        assert await seen([ant, bee, cat]) == whole("ant", "bee")
        assert await seen([ant, bee, cat], 4002) == whole("ant", "bee") | {("cat", k, "ant") for k in ("tcp", "udp")}
        await walls.allow([Passage("bee", "ant")])
        assert await seen([ant, bee, cat]) == whole("bee", "ant")
        await walls.allow([])
        assert await seen([ant, bee, cat], 4002) == set()


@kernel
@pytest.mark.parametrize("linked", [False, True])
async def test_there_is_no_way_round_by_ipv6(walls: Isolation, linked: bool) -> None:
    async with walls.open_cell("ant") as ant, walls.open_cell("bee") as bee, echoing(ant, bee):
        await walls.allow([Passage("ant", "bee")] if linked else [])
        for cell, address in ((ant, "fd00:c0::1"), (bee, "fd00:c0::2")):
            await cell.own(address)  # a colony may call itself what it likes
        for address in ("fd00:c0::2", f"::ffff:{bee.address}"):
            for kind in ("tcp", "udp", "icmp"):
                mapped = address.startswith("::ffff")
                if mapped and kind == "icmp":
                    continue
                assert await reaches(ant, address, kind) is (linked and mapped), "mapped addresses are IPv4"
        inside = await walls.run_in_thread(_in(ant, "ip", "-6", "addr", "show", "dev", "eth0"))
        assert inside == "", "a cable has no IPv6 at all"


def _in(cell: Cell, *command: str) -> Callable[[], str]:
    def run() -> str:
        with cell._kernel.inside(cell.fd):
            return tool(*command)

    return run


@asynccontextmanager
async def talking(source: Cell, target: Cell, port: int = 4001) -> AsyncIterator[trio.SocketStream]:
    """A conversation that is under way."""
    sock = trio.socket.from_stdlib_socket(await source.socket())
    await sock.connect((target.address, port))
    async with trio.SocketStream(sock) as stream:
        await heard(stream)
        yield stream


async def heard(stream: trio.SocketStream) -> None:
    await stream.send_all(b"still there?")
    with trio.fail_after(60):
        assert await stream.receive_some(100) == b"still there?"


async def is_mute(stream: trio.SocketStream) -> bool:
    await stream.send_all(b"still there?")
    with trio.move_on_after(0.5) as waited:
        await stream.receive_some(100)
    return waited.cancelled_caught


@kernel
@pytest.mark.parametrize("port", [None, 4001])
async def test_a_conversation_ends_with_its_passage_and_another_passage_is_none_of_its_business(
    walls: Isolation, port: int | None
) -> None:
    async with walls.open_cell("ant") as ant, walls.open_cell("bee") as bee, echoing(ant, bee):
        await walls.allow([Passage("ant", "bee", port)])
        async with talking(ant, bee) as stream:
            await walls.allow([Passage("ant", "bee", port), Passage("bee", "ant")])
            await heard(stream)
            await walls.allow([Passage("bee", "ant")])
            assert await is_mute(stream), "its answers do not pass by a passage of the other way"
            await walls.allow([Passage("ant", "bee")])
            with trio.fail_after(60):  # TCP sends again what was lost
                assert await stream.receive_some(100) == b"still there?"


@kernel
async def test_a_closed_port_of_a_linked_colony_says_so_at_once(walls: Isolation) -> None:
    async with walls.open_cell("ant") as ant, walls.open_cell("bee") as bee:
        await walls.allow([Passage("ant", "bee", 4001)])
        for kind in (socket.SOCK_STREAM, socket.SOCK_DGRAM):
            with pytest.raises(ConnectionRefusedError), trio.fail_after(60):
                await knock(await ant.socket(socket.AF_INET, kind), bee.address)


async def knock(at: socket.socket, address: str) -> bytes:
    with trio.socket.from_stdlib_socket(at) as sock:
        await sock.connect((address, 4001))
        await sock.send(b"hello")
        return await sock.recv(100)


@kernel
async def test_a_passage_follows_its_colonies_through_ends_and_new_addresses(walls: Isolation) -> None:
    await walls.allow([Passage("ant", "bee")])
    async with walls.open_cell("ant") as ant:
        bee = await walls.build("bee")
        async with echoing(bee):
            assert await reaches(ant, bee.address, "tcp")
        old, slot = bee.address, bee.slot
        await walls.destroy(bee)
        assert "elements" not in await walls.run_in_thread(nft, "list", "ruleset"), "closed with the cell"
        with trio.fail_after(60):
            while (stranger := await walls.build("stranger", slot=slot)).slot != slot:
                await walls.destroy(stranger)
                await trio.sleep(0.01)
        async with echoing(stranger), walls.open_cell("bee") as again:
            assert stranger.address == old
            assert not await reaches(ant, old, "tcp"), "the address is another colony's now"
            async with echoing(again):
                assert again.address != old
                assert await seen([ant, again, stranger]) == whole("ant", "bee")


@kernel
async def test_passages_outlive_their_daemon_and_are_brought_in_line_before_anything_is_built(tmp_path: Path) -> None:
    run = tmp_path / "run"
    table = firewall.table_name(run)
    async with open_isolation(run_dir=run, mode=private_mode(), private=True) as walls:
        left = [Opening("10.200.0.3", "10.200.0.5"), Opening("10.200.0.5", "10.200.0.3", 4001)]
        await walls.run_in_thread(firewall.set_openings, table, left)  # as one that was killed
        await walls.run_in_thread(lambda: firewall.load(table, walls.plan.base, egress=False))
        assert "10.200.0.3 . 10.200.0.5" in await walls.run_in_thread(nft, "list", "set", "inet", table, "passages")
        async with walls.open_cell("ant") as ant, walls.open_cell("bee") as bee, echoing(ant, bee):
            assert {ant.address, bee.address} == {"10.200.0.3", "10.200.0.5"}
            assert await seen([ant, bee]) == set(), "nobody has asked for them"


@kernel
async def test_a_refusing_firewall_is_told_and_no_address_is_given_away_that_it_still_lets_through(
    walls: Isolation, monkeypatch: pytest.MonkeyPatch
) -> None:
    await walls.allow([Passage("ant", "bee")])
    async with walls.open_cell("ant") as ant:
        bee = await walls.build("bee")
        slot = bee.slot
        with monkeypatch.context() as broken:
            broken.setattr(firewall, "find_nft", lambda: "/bin/false")
            with pytest.raises(Broken) as caught:
                await walls.allow([])
            assert caught.value.code == "firewall"
            assert walls.trouble == caught.value.message
            await walls.destroy(bee)
            with pytest.raises(Broken):
                await walls.build("cat")
        async with walls.open_cell("cat", slot=slot) as cat:
            assert cat.slot != slot
            assert walls.trouble == ""
            async with echoing(ant, cat):
                assert await seen([ant, cat]) == set()
