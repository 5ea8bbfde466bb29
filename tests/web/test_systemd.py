"""What a service manager is told."""

import os
import socket
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest
import trio
import trio.testing

from colony_web.systemd import Notifier, notifier


class Manager:
    """A real notification socket."""

    def __init__(self, address: str | bytes) -> None:
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK)
        self.sock.bind(address)

    def fill(self) -> None:
        """Gives it more to read than it takes in."""
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK) as busy, suppress(BlockingIOError):
            while True:
                busy.sendto(b"WATCHDOG=1", self.sock.getsockname())

    def heard(self) -> list[list[str]]:
        found = []
        while True:
            try:
                found.append(self.sock.recv(4096).decode().splitlines())
            except BlockingIOError:
                return found


@pytest.fixture
def manager(tmp_path: Path) -> Iterator[Manager]:
    heard = Manager(str(tmp_path / "notify"))
    with heard.sock:
        yield heard


async def test_readiness_reload_and_end_are_told_in_the_protocols_words(manager: Manager, tmp_path: Path) -> None:
    us = notifier({"NOTIFY_SOCKET": str(tmp_path / "notify")})
    assert us is not None
    await us.ready("API http://127.0.0.1:8000")
    await us.reloading()
    await us.stopping()
    ready, reloading, stopping = manager.heard()
    assert ready == ["READY=1", "STATUS=API http://127.0.0.1:8000", f"MAINPID={os.getpid()}"]
    assert reloading[0] == "RELOADING=1"
    assert reloading[1].startswith("MONOTONIC_USEC=")
    assert stopping[0] == "STOPPING=1"


async def test_a_manager_with_too_much_to_read_hears_in_the_end_what_is_said_once(
    manager: Manager, tmp_path: Path
) -> None:
    us = Notifier(str(tmp_path / "notify"), 0.003)
    manager.fill()
    with trio.fail_after(60):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(us.stopping)
            with trio.move_on_after(0.05):
                await us.live()  # which goes on, and gives up what finds no room
            heard = manager.heard()
            assert {words[0] for words in heard} == {"WATCHDOG=1"}
    assert manager.heard() == [["STOPPING=1", "STATUS=ending"]]


async def test_a_manager_that_reads_nothing_is_not_waited_for_for_ever(
    manager: Manager, tmp_path: Path, autojump_clock: trio.testing.MockClock
) -> None:
    us = Notifier(str(tmp_path / "notify"))
    manager.fill()
    await us.stopping()
    assert ["STOPPING=1", "STATUS=ending"] not in manager.heard()


async def test_an_abstract_socket_is_reached_too() -> None:
    name = f"colony-test-{os.getpid()}"
    manager = Manager("\0" + name)
    with manager.sock:
        us = notifier({"NOTIFY_SOCKET": "@" + name})
        assert us is not None
        await us.tell("READY=1")
        assert manager.heard() == [["READY=1"]]


async def test_signs_of_life_come_three_times_within_the_watchdogs_time(
    manager: Manager, tmp_path: Path, autojump_clock: trio.testing.MockClock
) -> None:
    us = notifier(
        {"NOTIFY_SOCKET": str(tmp_path / "notify"), "WATCHDOG_USEC": "3000000", "WATCHDOG_PID": str(os.getpid())}
    )
    assert us == Notifier(str(tmp_path / "notify"), 3.0)
    with trio.move_on_after(9.5):
        await us.live()
    assert manager.heard() == [["WATCHDOG=1"]] * 10


@pytest.mark.parametrize(
    "environ",
    [
        {"WATCHDOG_USEC": "1000000", "WATCHDOG_PID": str(os.getpid() + 1)},
        {"WATCHDOG_USEC": "0"},
        {"WATCHDOG_USEC": "soon"},
        {},
    ],
)
def test_where_nobody_watches_us_no_sign_is_given(environ: dict[str, str]) -> None:
    us = notifier({"NOTIFY_SOCKET": "/nowhere"} | environ)
    assert us == Notifier("/nowhere", None)


async def test_without_a_manager_nothing_is_told_and_a_manager_that_is_gone_harms_nobody(tmp_path: Path) -> None:
    assert notifier({}) is None
    assert notifier({"NOTIFY_SOCKET": "relative"}) is None
    await Notifier(str(tmp_path / "gone")).ready("nobody hears")
