"""A place for a keeper of a test's own, taken down whatever happens; and real programs to keep."""

import contextlib
import os
import sys
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import Any

import attrs
import pytest
import trio

from colony_core.processes import (
    Launch,
    LogTarget,
    OnTerminal,
    View,
    kill_leftovers,
    open_keeper,
)
from colony_core.views import TerminalEnd, TerminalPlace, TerminalSize

DEADLINE_SECONDS = 60.0


@attrs.frozen
class Place:
    """The folders of one keeper, and launches whose output goes to one log."""

    run_dir: Path
    state_dir: Path
    log: LogTarget

    def open(self) -> Any:
        return open_keeper(run_dir=self.run_dir, state_dir=self.state_dir)

    def launch(self, key: str, *argv: str, **more: Any) -> Launch:
        values: dict[str, Any] = {"cwd": "/", "env": dict(os.environ), "label": key.partition(".")[0], "log": self.log}
        return Launch(key=key, argv=argv, **{**values, **more})

    def python(self, key: str, source: str, **more: Any) -> Launch:
        return self.launch(key, sys.executable, "-I", "-S", "-c", source, **more)

    def shell(self, key: str, source: str, **more: Any) -> Launch:
        return self.launch(key, "sh", "-c", source, **more)

    def on_terminal(self, key: str, *argv: str, terminal: OnTerminal | None = None, **env: str) -> Launch:
        environment = {**os.environ, "TERM": "xterm", "PS1": "$ ", **env}
        return self.launch(key, *argv, terminal=terminal or OnTerminal(), env=environment)

    async def until(self, true: Callable[[], Any]) -> Any:
        """Waits for something the kernel does in its own time."""
        with trio.fail_after(DEADLINE_SECONDS):
            while not (result := true()):
                await trio.sleep(0.005)
            return result

    async def line(self, keeper: Any, text: str) -> Any:
        """The first line of the log that starts with `text`, as soon as it is there."""
        with trio.fail_after(DEADLINE_SECONDS):
            async with contextlib.aclosing(keeper.log_book(self.log.directory).follow()) as lines:
                async for line in lines:
                    if getattr(line, "text", "").startswith(text):
                        return line
        raise AssertionError("a follower never ends by itself")


class Screen:
    """What a view of a terminal has shown."""

    def __init__(self, view: View) -> None:
        self.view = view
        self.places: list[TerminalPlace] = []
        self.sizes: list[TerminalSize] = []
        self.ended: TerminalEnd | None = None
        self.output = b""

    @property
    def at(self) -> int:
        """The place behind the last byte."""
        return self.places[-1].at + len(self.output)

    async def take(self) -> None:
        """The next thing that is told; output before a jump is left aside."""
        match await self.view.receive():
            case bytes() as data:
                self.output += data
            case TerminalPlace() as told:
                self.places.append(told)
                self.output = b""
            case TerminalSize() as size:
                self.sizes.append(size)
            case TerminalEnd() as ended:
                self.ended = ended

    async def until(self, true: "str | Callable[[], Any]") -> str:
        """What is shown as soon as it holds a text, or as something is so."""
        with trio.move_on_after(DEADLINE_SECONDS):
            while not (true in self.shown if isinstance(true, str) else true()):
                await self.take()
            return self.shown
        raise AssertionError(f"not seen: {true!r} in {self.shown[-2000:]!r}")

    @property
    def shown(self) -> str:
        return self.output.decode(errors="replace").replace("\r\n", "\n")

    async def type(self, text: str) -> None:
        await self.view.type(text.encode())


@contextlib.asynccontextmanager
async def looking(keeper: Any, key: str, **more: Any) -> AsyncIterator[Screen]:
    """A view of a terminal for the time of the block."""
    async with keeper.view(key, **more) as view:
        screen = Screen(view)
        await screen.take()
        yield screen


def alive(pid: int) -> bool:
    """Whether a process runs; a zombie does not."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
    except (FileNotFoundError, ProcessLookupError):
        return False


async def _clear(place: Place) -> None:
    with contextlib.suppress(Exception):
        async with place.open() as keeper:
            await keeper.shutdown(grace=0)
            await kill_leftovers(keeper=keeper.identity)


@pytest.fixture
def place(tmp_path: Path) -> Iterator[Place]:
    place = Place(tmp_path / "run", tmp_path / "state", LogTarget(directory=tmp_path / "log"))
    yield place
    if place.run_dir.exists():
        trio.run(_clear, place)


@pytest.fixture
def look() -> Callable[..., Any]:
    return looking


@pytest.fixture
def is_alive() -> Callable[[int], bool]:
    return alive
