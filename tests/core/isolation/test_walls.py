"""Real cells in a private network: whole or not at all, killed to the last process, slots back when the kernel says so."""

import errno
import os
import signal
import socket
import sys
from contextlib import suppress
from pathlib import Path

import pytest
import trio

from colony_core.errors import AlreadyExists, Broken, ColonyError, LimitReached, Missing, TooSlow
from colony_core.isolation import AddressPlan, Isolation, builder, netlink, open_isolation
from colony_core.isolation import walls as walls_module

from .conftest import private_mode
from .inside import answering, eventually, hear, hub_socket, reap, start_in, tool

pytestmark = pytest.mark.kernel

IP_ADDRESS_SHOW = "ip -o address show; ip -o -6 address show; cat /proc/sys/net/ipv4/ip_unprivileged_port_start"


async def links(walls: Isolation) -> set[str]:
    """The cables in the hub, by name."""
    names = await walls.run_in_thread(socket.if_nameindex)
    return {name for _, name in names if name.startswith("vc-")}


async def test_a_cell_is_reached_from_the_host_side_at_its_address_at_once(walls: Isolation) -> None:
    async with walls.open_cell("hello") as cell, answering(cell, "0.0.0.0", 80):
        sock = await hub_socket(walls)
        await sock.connect((cell.address, 80))
        assert await hear(trio.SocketStream(sock)) == "hello"


@pytest.mark.parametrize("address", ["127.0.0.1", "::1", "0.0.0.0", "::", "own"])
async def test_whatever_address_a_service_chose_it_is_reached_and_seen(walls: Isolation, address: str) -> None:
    async with walls.open_cell("hello") as cell:
        at = cell.address if address == "own" else address
        async with answering(cell, at, 4001):
            assert await hear(await cell.connect(4001)) == "hello"
            assert (at, 4001) in {(found.address, found.port) for found in await cell.listeners()}


async def test_the_cable_is_known_by_its_readable_name_and_has_no_link_local_address(walls: Isolation) -> None:
    async with walls.open_cell("agent-frontend") as cell:
        shown = await walls.run_in_thread(tool, "ip", "-o", "address", "show", "dev", "veth-agent-frontend-host")
        assert cell.link in shown
        assert cell.gateway in shown
        assert "fe80" not in shown
        process = await walls.run_in_thread(start_in(cell, walls, "sh", "-c", IP_ADDRESS_SHOW))
        inside = process.communicate()[0].decode()
    assert f"{cell.address}/31" in inside
    assert "::1/128" in inside
    assert "fe80" not in inside
    assert inside.splitlines()[-1] == "0", "services may listen on port 80 without being root"


async def test_twenty_at_once_get_twenty_slots(walls: Isolation) -> None:
    built: list[object] = []

    async def build(number: int) -> None:
        built.append(await walls.build(f"cell-{number}"))

    async with trio.open_nursery() as nursery:
        for number in range(20):
            nursery.start_soon(build, number)
    assert len({cell.slot for cell in built}) == len({cell.inode for cell in built}) == 20
    assert len(await links(walls)) == 20
    for cell in built:
        await walls.destroy(cell)
    with trio.fail_after(60):
        while await links(walls):
            await trio.sleep(0.01)


STEPS = [
    (builder.netlink, "open_socket"),
    (builder.Builder, "_bind"),
    (builder, "_tune"),
    (builder.Builder, "_connect"),
    (builder.Builder, "_set_alias"),
    (builder.Builder, "_await_up"),
    (builder, "Cell"),
]


@pytest.mark.parametrize(("where", "step"), STEPS, ids=[step for _, step in STEPS])
async def test_a_failure_at_any_step_leaves_nothing(
    walls: Isolation, monkeypatch: pytest.MonkeyPatch, where: object, step: str
) -> None:
    real = getattr(where, step)

    def done_and_then_failed(*args: object, **kwargs: object) -> None:
        made = real(*args, **kwargs)
        if isinstance(made, socket.socket):
            made.close()
        raise OSError(errno.EIO, "the disk of the moon")

    before = set(os.listdir("/proc/self/fd"))
    with monkeypatch.context() as patch:
        patch.setattr(where, step, done_and_then_failed)
        with pytest.raises(Broken, match="the disk of the moon") as caught:
            await walls.build("hello", slot=3)
    assert caught.value.code == "cell-failed"
    assert await walls.found() == ()
    assert set(os.listdir("/proc/self/fd")) == before
    with trio.fail_after(60):
        while await links(walls):
            await trio.sleep(0.005)
    async with walls.open_cell("hello", slot=3) as cell, answering(cell, "0.0.0.0", 80):
        sock = await hub_socket(walls)
        await sock.connect((cell.address, 80))
        assert await hear(trio.SocketStream(sock)) == "hello"


@pytest.mark.parametrize(
    ("number", "kind", "code"),
    [
        (errno.EPERM, Missing, "no-rights"),
        (errno.EMFILE, LimitReached, "too-many"),
        (errno.ENOSPC, LimitReached, "too-many"),
        (errno.ETIMEDOUT, TooSlow, "cable-down"),
        (errno.EINVAL, Broken, "cell-failed"),
    ],
)
async def test_what_the_kernel_refuses_is_told_as_a_situation(
    walls: Isolation, monkeypatch: pytest.MonkeyPatch, number: int, kind: type[ColonyError], code: str
) -> None:
    def refuse() -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(builder, "_tune", refuse)
    with pytest.raises(kind) as caught:
        await walls.build("hello")
    assert caught.value.code == code
    assert caught.value.hint


async def test_a_cable_that_does_not_come_up_is_given_up(walls: Isolation, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(builder, "_is_up", lambda sock, ifindex: False)
    monkeypatch.setattr(builder, "UP_SECONDS", 0.01)
    with pytest.raises(TooSlow) as caught:
        await walls.build("hello")
    assert caught.value.code == "cable-down"
    assert await walls.found() == ()


async def test_cancelled_while_it_is_built_a_cell_is_there_whole_or_not_at_all(walls: Isolation) -> None:
    for _ in range(10):
        got: list[str] = []

        async def build(scope: trio.CancelScope, got: list[str]) -> None:
            with scope:
                cell = await walls.build("hello")
                got.append(cell.name)

        async with trio.open_nursery() as nursery:
            scope = trio.CancelScope()
            nursery.start_soon(build, scope, got)
            await trio.lowlevel.checkpoint()
            scope.cancel()
        assert list(await walls.found()) == got
        await walls.clear("hello")
    with trio.fail_after(60):
        while await links(walls):
            await trio.sleep(0.005)


async def test_a_leaked_socket_keeps_the_slot_but_not_the_name(
    walls: Isolation, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen, cut = trio.Event(), Isolation._cut

    async def cut_when_seen(self: Isolation, slot: int) -> None:
        await seen.wait()
        await cut(self, slot)

    monkeypatch.setattr(walls_module, "STUCK_SECONDS", 0.05)
    monkeypatch.setattr(Isolation, "_cut", cut_when_seen)
    old = await walls.build("hello", slot=4)
    with await old.socket():
        await walls.destroy(old)
        async with walls.open_cell("hello", slot=4) as new:
            assert new.slot != 4, "the old cable is still there"
            assert old.link in await links(walls)
        seen.set()
        with trio.fail_after(60):  # cut off by force, with the socket still open
            while old.link in await links(walls):
                await trio.sleep(0.01)
        async with walls.open_cell("third", slot=4) as third:
            assert third.slot == 4


async def test_a_slot_is_free_again_when_the_kernel_has_removed_the_cable(walls: Isolation) -> None:
    cell = await walls.build("hello", slot=9)
    await walls.destroy(cell)
    await eventually(lambda: 9 not in walls._busy, "the slot comes back")
    assert cell.link not in await links(walls)


async def test_somebody_elses_link_is_left_alone_and_its_slot_passed_over(walls: Isolation) -> None:
    add = ("ip", "link", "add", "vc-000000000", "type", "veth", "peer", "name", "theirs")
    await walls.run_in_thread(tool, *add)
    async with walls.open_cell("hello", slot=0) as cell:
        assert cell.slot != 0
        shown = await walls.run_in_thread(tool, "ip", "-o", "address", "show", "vc-000000000")
        assert "10.200" not in shown
    await walls.run_in_thread(tool, "ip", "link", "delete", "vc-000000000")


async def test_a_full_range_says_so(tmp_path: Path) -> None:
    plan = AddressPlan("10.201.0.0/29")
    assert plan.capacity == 2
    async with (
        open_isolation(run_dir=tmp_path, mode=private_mode(), plan=plan, private=True) as walls,
        walls.open_cell("one"),
        walls.open_cell("two"),
    ):
        with pytest.raises(LimitReached) as caught:
            await walls.build("three")
    assert caught.value.code == "no-address"


async def test_every_process_of_a_cell_is_found_and_killed_daemons_too(walls: Isolation) -> None:
    deaf = "trap '' TERM HUP; (setsid sh -c 'trap \"\" TERM HUP; sleep 1000 & wait' &) ; sleep 1000"
    async with walls.open_cell("hello") as cell, walls.open_cell("other") as other:
        process = await walls.run_in_thread(start_in(cell, walls, "sh", "-c", deaf))
        spared = await walls.run_in_thread(start_in(other, walls, "sleep", "1000"))
        with trio.fail_after(60):
            while [*map(name_of, await cell.pids())].count("sleep") < 2:  # each is the last of its shell
                await trio.sleep(0.01)
        assert process.pid in await cell.pids()
        assert os.getpid() not in await cell.pids()
        assert await cell.kill() >= 4
        assert await cell.pids() == ()
        assert reap(process) == -signal.SIGKILL
        assert await other.pids() == (spared.pid,)
    assert reap(spared) == -signal.SIGKILL, "destroying a cell kills what is left in it"


async def test_who_is_born_while_all_are_looked_at_is_seen_although_its_parent_dies(
    walls: Isolation, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    from colony_core.isolation import cell as cell_module

    go, real, born = tmp_path / "go", cell_module._lives_in, []
    leaving = f"until [ -e {go} ]; do sleep 0.01; done; sleep 1000 >&- & echo $!"
    async with walls.open_cell("hello") as cell:
        process = await walls.run_in_thread(start_in(cell, walls, "sh", "-c", leaving))

        def lives_in(pid: int, inode: int) -> bool:
            if pid == process.pid and not born:  # it was listed, and dies before anybody has looked at it
                go.touch()
                born.append(int(process.communicate()[0]))
            return real(pid, inode)

        monkeypatch.setattr(cell_module, "_lives_in", lives_in)
        seen = {*await cell.pids()}
        assert seen & {process.pid, *born} == {*born}


def name_of(pid: int) -> str:
    """What a process runs; nothing where it has just ended."""
    with suppress(FileNotFoundError, ProcessLookupError):
        return Path(f"/proc/{pid}/comm").read_text().strip()
    return ""


ZOMBIE_LEADER = """
import ctypes, threading, time
threading.Thread(target=time.sleep, args=(1000,)).start()
print("go", flush=True)
ctypes.CDLL(None).syscall({exit}, 0)  # the leader's thread ends, the other lives on
"""


@pytest.mark.skipif(os.uname().machine not in ("x86_64", "aarch64"), reason="the number of exit(2) is not known here")
async def test_a_process_whose_leader_is_a_zombie_counts_while_a_thread_lives(walls: Isolation) -> None:
    number = {"x86_64": 60, "aarch64": 93}[os.uname().machine]
    async with walls.open_cell("hello") as cell:
        program = ZOMBIE_LEADER.format(exit=number)
        process = await walls.run_in_thread(start_in(cell, walls, sys.executable, "-c", program))
        assert process.stdout is not None
        await trio.to_thread.run_sync(process.stdout.readline)
        state = Path(f"/proc/{process.pid}/stat")
        await eventually(lambda: state.read_text().rpartition(")")[2].split()[0] == "Z", "the leader ends")
        assert await cell.pids() == (process.pid,)
        assert await cell.kill() == 1
    assert reap(process) == -signal.SIGKILL


async def test_what_would_not_die_is_named(walls: Isolation, monkeypatch: pytest.MonkeyPatch) -> None:
    from colony_core.isolation import cell as cell_module

    monkeypatch.setattr(cell_module, "KILL_SECONDS", 0.05)
    monkeypatch.setattr(cell_module, "pids_in", lambda inode: (1_999_999_999,))
    cell = await walls.build("hello")
    with pytest.raises(TooSlow, match="1999999999") as caught:
        await walls.destroy(cell)
    assert caught.value.code == "unkillable"
    assert await walls.found() == (), "it is let go all the same"


async def test_without_nft_nothing_is_built(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from colony_core.isolation import firewall

    mode = private_mode()
    monkeypatch.setattr(firewall, "SYSTEM_PATH", str(tmp_path))
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(Missing) as caught:
        async with open_isolation(run_dir=tmp_path, mode=mode, private=True):
            raise AssertionError("opened without a firewall")
    assert caught.value.code == "nft-missing"
    assert "nftables" in caught.value.hint


async def test_a_range_that_is_routed_already_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real = netlink.open_socket
    done = []

    def with_a_route(groups: int = 0) -> socket.socket:
        if not done:
            done.append(True)
            for command in ("link add vpn7 type veth", "link set vpn7 up", "route add 10.200.4.0/24 dev vpn7"):
                tool("ip", *command.split())
        return real(groups)

    mode = private_mode()
    monkeypatch.setattr(netlink, "open_socket", with_a_route)
    with pytest.raises(AlreadyExists) as caught:
        async with open_isolation(run_dir=tmp_path, mode=mode, private=True):
            raise AssertionError("opened over a route")
    assert caught.value.code == "address-range-taken"
    assert "10.200.4.0/24" in caught.value.message
    assert "vpn7" in caught.value.message


async def test_closing_leaves_nothing_of_a_leaked_cell(tmp_path: Path) -> None:
    async with open_isolation(run_dir=tmp_path, mode=private_mode(), private=True) as walls:
        cell = await walls.build("hello")
        leaked = await cell.socket()
        await walls.destroy(cell)
    with leaked:
        assert cell.slot not in walls._leaving
