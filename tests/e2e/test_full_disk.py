"""A disk that is full for a while: what runs goes on, what cannot be kept is refused, nothing acknowledged is lost, and all comes back."""

import subprocess
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from colony_core.errors import ColonyError
from colony_core.remote import calls

from .driver import PATIENCE_SECONDS, Daemon, alive, kill

pytestmark = [pytest.mark.kernel, pytest.mark.root, pytest.mark.slow]  # it mounts a small disk

IDLE = '[services.idle]\ncommand = ["sleep", "600"]\n'


@pytest.fixture
def small(tmp_path: Path) -> Iterator[Daemon]:
    """A daemon whose state lies on a disk of 24 MiB."""
    daemon = Daemon(tmp_path)
    daemon.state.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=24m", "none", str(daemon.state)], check=True)
    try:
        with daemon.running():
            yield daemon
    finally:
        subprocess.run(["umount", "--lazy", str(daemon.state)], check=True)


def fill(file: Path) -> None:
    """Writes until nothing more fits."""
    with file.open("wb", buffering=0) as stream:
        for size in (2**16, 1):
            with suppress(OSError):
                while True:
                    stream.write(bytes(size))


def events(daemon: Daemon, after: int) -> list[dict[str, Any]]:
    return list(daemon.send(calls.events(after=after, limit=1000)))


@pytest.mark.parametrize("killed", [False, True], ids=["stays", "is killed"])
def test_nothing_acknowledged_is_lost_and_everything_comes_back(small: Daemon, killed: bool) -> None:
    small.spawn("old", IDLE)
    pid = small.until_ready("old")["services"][0]["pid"]
    last = small.send(calls.system())["last_event"]
    filler = small.state / "filler"
    fill(filler)
    acknowledged = {"old"}
    for number in range(5):
        with suppress(ColonyError):
            small.spawn(f"new-{number}", IDLE)
            acknowledged.add(f"new-{number}")
    assert acknowledged == {"old"}, "the disk is full"
    kill(pid)
    again = small.until(lambda: (now := small.service("old", "idle")["pid"]) not in (pid, None) and now, "a restart")
    if killed:
        small.kill()
        assert alive(again)
    filler.unlink()
    if killed:
        small.start()
    small.until(lambda: spawned(small), "a colony can be spawned again")
    small.kill()
    small.start()
    names = {colony["name"] for colony in small.send(calls.colonies())}
    assert names >= acknowledged | {"late"}
    for name in sorted(acknowledged | {"late"}):
        small.until_ready(name)
    assert small.service("old", "idle")["pid"] == again
    told = events(small, last)
    numbers = [event["seq"] for event in told]
    assert numbers == sorted(set(numbers))
    assert any(event.get("colony") == "late" for event in told)


def test_what_needs_no_room_is_done_and_said_to_be(small: Daemon) -> None:
    small.spawn("old", IDLE)
    small.until_ready("old")
    fill(small.state / "filler")
    terminal = small.send(calls.open_terminal("old", command=["sleep", "600"]))
    assert [each["id"] for each in small.send(calls.terminals("old"))] == [terminal["id"]]
    small.cli("reload")
    small.cli("shutdown")
    assert small.process is not None
    assert small.process.wait(PATIENCE_SECONDS) == 0


def spawned(daemon: Daemon) -> bool:
    try:
        (daemon.folder / "app-late").mkdir(exist_ok=True)
        (daemon.folder / "app-late/colony.toml").write_text(IDLE)
        daemon.send(calls.spawn("late", str(daemon.folder / "app-late")))
    except ColonyError:
        return False
    return True
