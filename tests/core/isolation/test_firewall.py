"""The firewall, met with real packets in a private network whose hub forwards; and what is read from another's ruleset."""

import errno
import socket
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import trio
from pytest_trio import trio_fixture

from colony_core.isolation import Cell, Isolation, docker_blocks_forwarding, firewall, open_isolation

from .conftest import private_mode
from .inside import answering, hear, hub_socket, nft, tool

pytestmark = pytest.mark.kernel

REFUSED = (errno.EHOSTUNREACH, errno.EACCES, errno.EPERM, errno.ECONNREFUSED)
LISTEN_ALL = ("0.0.0.0", 4001)
OUTSIDE = "outside"


@trio_fixture
async def pair(walls: Isolation) -> AsyncIterator[tuple[Isolation, Cell, Cell]]:
    async with walls.open_cell("ant") as ant, walls.open_cell("bee") as bee:
        yield walls, ant, bee


async def call(cell: Cell, address: str, port: int) -> str:
    """What is heard from inside a cell at an address outside it."""
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    sock = trio.socket.from_stdlib_socket(await cell.socket(family, socket.SOCK_STREAM))
    with trio.fail_after(60):
        try:
            await sock.connect((address, port))
        except BaseException:
            sock.close()
            raise
        return await hear(trio.SocketStream(sock))


async def test_colonies_do_not_reach_each_other_and_learn_it_at_once(pair: tuple[Isolation, Cell, Cell]) -> None:
    walls, ant, bee = pair
    assert await walls.run_in_thread(firewall.FORWARD.read_text) == "1\n", (
        "it is the firewall that refuses, not the router"
    )
    async with answering(bee, *LISTEN_ALL):
        with pytest.raises(OSError) as caught:
            await call(ant, bee.address, 4001)
        assert caught.value.errno in REFUSED
        sock = await hub_socket(walls)
        await sock.connect((bee.address, 4001))
        assert await hear(trio.SocketStream(sock)) == "bee"


async def test_without_the_ruleset_they_would_reach_each_other(pair: tuple[Isolation, Cell, Cell]) -> None:
    walls, ant, bee = pair
    await walls.run_in_thread(nft, "flush", "ruleset")
    async with answering(bee, *LISTEN_ALL):
        assert await call(ant, bee.address, 4001) == "bee"


@pytest.mark.parametrize("through", ["gateway", "neighbour"])
async def test_the_hosts_ports_are_refused(pair: tuple[Isolation, Cell, Cell], through: str) -> None:
    walls, ant, bee = pair
    address = ant.gateway if through == "gateway" else bee.gateway
    with await hub_socket(walls) as listener:
        await listener.bind(LISTEN_ALL)
        listener.listen(1)
        with pytest.raises(OSError) as caught:
            await call(ant, address, 4001)
    assert caught.value.errno in REFUSED


async def test_a_resolver_of_the_host_may_be_asked(pair: tuple[Isolation, Cell, Cell]) -> None:
    walls, ant, _ = pair
    with await hub_socket(walls, socket.AF_INET, socket.SOCK_DGRAM) as resolver:
        await resolver.bind((ant.gateway, 53))
        with trio.socket.from_stdlib_socket(await ant.socket(socket.AF_INET, socket.SOCK_DGRAM)) as asker:
            await asker.sendto(b"who?", (ant.gateway, 53))
            with trio.fail_after(60):
                question, address = await resolver.recvfrom(100)
                await resolver.sendto(b"me", address)
                assert (question, await asker.recv(100)) == (b"who?", b"me")


async def test_what_is_sent_in_anothers_name_is_dropped_and_counted(pair: tuple[Isolation, Cell, Cell]) -> None:
    walls, ant, bee = pair
    await ant.own(bee.address)
    with (
        await hub_socket(walls, socket.AF_INET, socket.SOCK_DGRAM) as honest,
        trio.socket.from_stdlib_socket(await ant.socket(socket.AF_INET, socket.SOCK_DGRAM)) as liar,
    ):
        await honest.bind((ant.gateway, 53))
        await liar.bind((bee.address, 0))
        await liar.sendto(b"I am bee", (ant.gateway, 53))
        await liar.sendto(b"I am bee", (ant.gateway, 53))
        with trio.fail_after(60):  # on a busy machine packets wait in the kernel as well
            while "counter packets 2" not in await dropped(walls):
                await trio.sleep(0.01)
        with pytest.raises(BlockingIOError):
            honest._sock.recv(100)  # type: ignore[attr-defined]


async def dropped(walls: Isolation) -> str:
    """The rule that drops what comes in another's name."""
    listed = await walls.run_in_thread(nft, "list", "ruleset")
    (rule,) = (line for line in listed.splitlines() if "fib saddr" in line)
    return rule


async def make_outside(walls: Isolation, cell: Cell) -> None:
    """From now on this cell is some machine of the world, as far as the firewall knows."""
    await walls.run_in_thread(tool, "ip", "link", "set", cell.link, "down", "name", OUTSIDE, "group", "0")
    await walls.run_in_thread(tool, "ip", "link", "set", OUTSIDE, "up")


async def test_the_outside_is_reached_by_nat_and_cannot_call_in(pair: tuple[Isolation, Cell, Cell]) -> None:
    walls, ant, world = pair
    await make_outside(walls, world)
    with trio.socket.from_stdlib_socket(await world.socket()) as server:
        await server.bind(LISTEN_ALL)
        server.listen(1)
        with trio.socket.from_stdlib_socket(await ant.socket()) as sock, trio.fail_after(60):
            await sock.connect((world.address, 4001))
            accepted, (seen_as, _) = await server.accept()
            accepted.close()
    assert seen_as == world.gateway, "the cell's own address stays at home"
    async with answering(ant, *LISTEN_ALL):
        with trio.move_on_after(0.3) as waited:
            await call(world, ant.address, 4001)
        assert waited.cancelled_caught, "dropped without a word"


@pytest.mark.parametrize("address", ["169.254.169.254", "169.254.1.1", "100.100.100.200", "168.63.129.16"])
async def test_the_addresses_of_a_clouds_secrets_are_refused_but_to_who_asks_for_names(
    pair: tuple[Isolation, Cell, Cell], address: str
) -> None:
    walls, ant, world = pair
    await make_outside(walls, world)
    await world.own(address)
    await walls.run_in_thread(tool, "ip", "route", "add", address, "dev", OUTSIDE)
    async with answering(world, address, 80), answering(world, address, 53):
        with pytest.raises(OSError) as caught:
            await call(ant, address, 80)
        assert caught.value.errno in REFUSED
        assert await call(ant, address, 53) == world.name


async def test_without_egress_the_outside_is_refused_at_once(tmp_path: Path) -> None:
    opened = open_isolation(run_dir=tmp_path, mode=private_mode(), private=True, egress=False)
    async with opened as walls, walls.open_cell("ant") as ant, walls.open_cell("world") as world:
        await make_outside(walls, world)
        assert not walls.egress.allowed
        async with answering(world, *LISTEN_ALL):
            with pytest.raises(OSError) as caught:
                await call(ant, world.address, 4001)
    assert caught.value.errno in REFUSED


async def test_loading_again_replaces_and_two_daemons_have_tables_of_their_own(
    walls: Isolation, tmp_path: Path
) -> None:
    def load(run_dir: Path) -> str:
        firewall.load(firewall.table_name(run_dir), "10.200.0.0/16", egress=False)
        return nft("list", "tables")

    before = (await walls.run_in_thread(load, tmp_path)).splitlines()
    assert len(before) == 1
    assert before[0].startswith("table inet colony_")
    assert len((await walls.run_in_thread(load, tmp_path / "other")).splitlines()) == 2
    assert len((await walls.run_in_thread(load, tmp_path)).splitlines()) == 2
    await walls.run_in_thread(firewall.unload, firewall.table_name(tmp_path / "other"))
    listed = await walls.run_in_thread(nft, "list", "tables")
    assert listed.splitlines() == before


async def test_a_policy_that_drops_what_is_forwarded_is_seen(walls: Isolation) -> None:
    def load(feed: str) -> None:
        nft("-f", "-", feed=feed)

    assert not await walls.run_in_thread(docker_blocks_forwarding)
    feed = "table ip filter { chain FORWARD { type filter hook forward priority 0; policy drop; }\nchain DOCKER-USER { }\n}"
    await walls.run_in_thread(load, feed)
    assert await walls.run_in_thread(docker_blocks_forwarding)
    await walls.run_in_thread(load, 'add rule ip filter DOCKER-USER iifname "vc-*" accept')
    assert not await walls.run_in_thread(docker_blocks_forwarding), "the way out that doctor names"


async def test_forwarding_is_set_noted_and_restored(walls: Isolation, tmp_path: Path) -> None:
    note = tmp_path / "noted"

    def forwarding() -> str:
        return firewall.FORWARD.read_text().strip()

    await walls.run_in_thread(firewall.FORWARD.write_text, "0")
    report = await walls.run_in_thread(firewall.set_forwarding, note)
    assert report.allowed
    assert "ip_forward" in str(report)
    assert await walls.run_in_thread(forwarding) == "1"
    again = await walls.run_in_thread(firewall.set_forwarding, note)
    assert again.allowed
    await walls.run_in_thread(firewall.restore_forwarding, note)
    assert await walls.run_in_thread(forwarding) == "0"
    assert not note.exists()


async def test_forwarding_that_was_on_before_is_left_on(walls: Isolation, tmp_path: Path) -> None:
    note = tmp_path / "noted"
    report = await walls.run_in_thread(firewall.set_forwarding, note)
    assert report.allowed
    assert not note.exists()
    await walls.run_in_thread(firewall.restore_forwarding, note)
    assert await walls.run_in_thread(firewall.FORWARD.read_text) == "1\n"


async def test_a_refused_ruleset_is_told_with_what_nft_said(tmp_path: Path) -> None:
    from colony_core.errors import Broken

    async with open_isolation(run_dir=tmp_path, mode=private_mode(), private=True) as walls:
        with pytest.raises(Broken) as caught:
            await walls.run_in_thread(lambda: firewall.load("colony_x", "not a range", egress=True))
    assert caught.value.code == "firewall"
    assert "error" in caught.value.message.lower()
