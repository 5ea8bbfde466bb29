"""What the kernel says of links: news that was lost is looked up, and no old answer is taken for a new one."""

import os
import socket
import struct
from collections.abc import Iterator
from pathlib import Path

import pytest
import trio
import trio.testing

from colony_core.errors import AlreadyExists
from colony_core.isolation import AddressPlan, Isolation, netlink, open_isolation
from colony_core.isolation import walls as walls_module

from .conftest import private_mode
from .inside import eventually


def test_an_answer_that_nobody_waited_for_is_not_taken_for_the_next() -> None:
    with netlink.open_socket() as sock:
        answers = netlink.dump(sock, netlink.GETLINK, socket.AF_UNSPEC)
        next(answers)
        answers.close()  # type: ignore[attr-defined]
        found = netlink.find_link(sock, ifindex=1)
        assert found is not None
        assert found[1][netlink.LINK_NAME] == b"lo\0"
        assert netlink.find_link(sock, ifindex=2**31 - 1) is None
        with pytest.raises(netlink.NetlinkError):
            netlink.transact(sock, netlink.delete_link(2**31 - 1) * 3, 3)
        assert netlink.find_link(sock, ifindex=1) is not None


@pytest.mark.kernel
async def test_news_that_was_lost_is_looked_up(walls: Isolation, monkeypatch: pytest.MonkeyPatch) -> None:
    looked = trio.Event()
    real = Isolation._look_up

    async def look_up(self: Isolation) -> None:
        await real(self)
        looked.set()

    monkeypatch.setattr(Isolation, "_look_up", look_up)
    walls._news.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 0)  # the least there is: one message
    namespace = await walls.run_in_thread(os.open, "/proc/thread-self/ns/net", os.O_RDONLY | os.O_CLOEXEC)
    at = AddressPlan().addresses(5)
    cable = netlink.cable_template()
    request = cable.fill(
        link=at.link.encode(),
        ifindex=netlink.index(at.ifindex),
        namespace=netlink.index(namespace),
        host_mac=at.host_mac,
        cell_mac=at.cell_mac,
    )
    for _ in range(4):  # without a checkpoint: nobody listens meanwhile
        netlink.transact(walls._builder.routing, request, cable.requests)
        walls._builder.delete_link(at.ifindex)
    netlink.transact(walls._builder.routing, request, cable.requests)
    os.close(namespace)
    with trio.fail_after(60):
        await looked.wait()
    async with walls.open_cell("hello", slot=5) as cell:
        assert cell.slot != 5, "a cable that somebody made unheard"
    walls._builder.delete_link(at.ifindex)
    await eventually(lambda: 5 not in walls._busy, "the slot is free again")


@pytest.mark.kernel
async def test_a_cable_that_is_cut_while_its_processes_die_keeps_its_slot(
    walls: Isolation, monkeypatch: pytest.MonkeyPatch
) -> None:
    cell = await walls.build("hello", slot=0)
    seen: list[int] = []

    async def kill(_: int, **__: object) -> int:
        monkeypatch.undo()
        walls._builder.delete_link(cell.ifindex)
        await trio.testing.wait_all_tasks_blocked(0.01)
        async with walls.open_cell("other", slot=0) as other:
            seen.append(other.slot)
        return 0

    monkeypatch.setattr(walls_module, "kill_namespace", kill)
    await walls.destroy(cell)
    assert seen == [1]


@pytest.mark.kernel
async def test_a_route_whose_link_is_going_is_in_nobodys_way(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    route = struct.pack("=BBBBBBBBI", socket.AF_INET, 31, 0, 0, 255, 2, 253, 1, 0)
    route += struct.pack("=HH4sHHI", 8, 1, socket.inet_aton("10.200.0.2"), 8, 4, 2**31 - 1)
    real = netlink.dump

    def dump(sock: socket.socket, request: int, family: int) -> Iterator[bytes]:
        return iter([route]) if request == netlink.GETROUTE else real(sock, request, family)

    monkeypatch.setattr(netlink, "dump", dump)
    async with open_isolation(run_dir=tmp_path, mode=private_mode(), private=True):
        pass
    route = route[:-4] + bytes(4)
    with pytest.raises(AlreadyExists, match="no link"):  # a route to nowhere is in the way
        async with open_isolation(run_dir=tmp_path, mode=private_mode(), private=True):
            pass


@pytest.mark.kernel
async def test_whoever_hears_the_news_may_fall_and_what_was_told_meanwhile_is_looked_up(
    walls: Isolation, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    real, faults = netlink.messages, [ValueError("what is this")]

    def messages(data: bytes) -> Iterator[tuple[int, int, tuple[int, bytes]]]:
        if faults and trio.lowlevel.in_trio_task():  # and not in the kernel thread
            raise faults.pop()
        return real(data)

    cell = await walls.build("hello", slot=9)
    monkeypatch.setattr(netlink, "messages", messages)
    await walls.destroy(cell)
    await eventually(lambda: not faults and 9 not in walls._busy, "the slot comes back")
    assert "walls/links ended: failed: ValueError('what is this')" in caplog.text
