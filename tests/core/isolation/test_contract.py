"""What real walls and those of cardboard have in common: whoever tests against the fakes must not be deceived."""

import socket
from typing import Any

import pytest
import trio

from colony_core.errors import AlreadyExists, Invalid
from colony_core.isolation import Isolation

from .inside import hear

REAL = pytest.param("walls", marks=pytest.mark.kernel, id="real")


@pytest.fixture(params=[REAL, pytest.param("fake_walls", id="fake")])
def either(request: pytest.FixtureRequest) -> Any:
    return request.getfixturevalue(request.param)


async def _listen(walls: Isolation, name: str) -> tuple[Any, trio.SocketListener, int]:
    cell = await walls.build(name)
    sock = trio.socket.from_stdlib_socket(await cell.socket(socket.AF_INET, socket.SOCK_STREAM))
    await sock.bind(("127.0.0.1", 0))
    sock.listen(8)
    return cell, trio.SocketListener(sock), sock.getsockname()[1]


async def test_a_cell_says_who_and_where_it_is(either: Isolation) -> None:
    async with either.open_cell("hello") as cell:
        assert cell.name == "hello"
        assert cell.slot >= 0
        assert socket.inet_aton(cell.address)
        assert cell.path.exists()
        assert cell.path.stat().st_ino == cell.inode
        assert [step.name for step in cell.steps] == ["namespace", "veth"]
        assert "hello" in repr(cell)
        assert await either.found() == ("hello",)
    assert await either.found() == ()


async def test_what_listens_in_a_cell_is_reached_and_listed(either: Isolation) -> None:
    cell, listener, port = await _listen(either, "hello")
    async with listener:
        assert any(found.port == port and found.address == "127.0.0.1" for found in await cell.listeners())
        stream = await cell.connect(port)
        accepted = await listener.accept()
        async with accepted:
            await accepted.send_all(b"good day")
        assert await hear(stream) == "good day"
    await either.destroy(cell)


async def test_where_nobody_listens_connecting_is_an_os_error(either: Isolation) -> None:
    cell, listener, port = await _listen(either, "hello")
    await listener.aclose()
    with pytest.raises(OSError):
        await cell.connect(port)
    assert all(found.port != port for found in await cell.listeners())
    await either.destroy(cell)


async def test_an_empty_cell_has_no_processes_and_killing_them_is_fine(either: Isolation) -> None:
    async with either.open_cell("hello") as cell:
        assert await cell.pids() == ()
        assert await cell.kill() == 0


async def test_a_name_is_taken_while_its_cell_stands(either: Isolation) -> None:
    async with either.open_cell("hello"):
        with pytest.raises(AlreadyExists) as caught:
            await either.build("hello")
        assert caught.value.code == "cell-exists"
    async with either.open_cell("hello"):
        pass


@pytest.mark.parametrize("name", ["", "../etc", "a b", "x" * 300, "UP", "a\n", "hub"])
async def test_a_bad_name_is_refused_before_anything_is_made(either: Isolation, name: str) -> None:
    for refused in (either.build, either.clear, either.adopt):
        with pytest.raises(Invalid):
            await refused(name)
    assert await either.found() == ()


async def test_a_wanted_slot_is_given_and_another_if_it_is_busy(either: Isolation) -> None:
    async with either.open_cell("first", slot=5) as first, either.open_cell("second", slot=5) as second:
        assert first.slot == 5
        assert second.slot != 5


async def test_ending_a_cell_twice_is_fine_and_spares_its_successor(either: Isolation) -> None:
    old = await either.build("hello")
    await either.destroy(old)
    async with either.open_cell("hello") as new:
        await either.destroy(old)
        assert await either.found() == ("hello",)
        (await new.socket()).close()


async def test_a_destroyed_cell_answers_with_an_os_error(either: Isolation) -> None:
    cell = await either.build("hello")
    await either.destroy(cell)
    with pytest.raises(OSError):
        await cell.socket()
    with pytest.raises(OSError):
        await cell.connect(1)
    for asked in (cell.listeners, cell.pids, cell.kill):
        with pytest.raises(OSError):
            await asked()


async def test_clearing_a_name_that_nobody_has_is_fine_and_one_that_stands_goes(either: Isolation) -> None:
    await either.clear("hello")
    cell = await either.build("hello")
    await either.clear("hello")
    assert await either.found() == ()
    with pytest.raises(OSError):
        await cell.socket()


async def test_nothing_is_adopted_where_nothing_was_left(either: Isolation) -> None:
    assert await either.adopt("hello") is None
