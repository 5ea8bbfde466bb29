"""Terminals of a colony: in its cell and folder, by its manifest, gone with it."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
import trio

from colony_core.errors import LimitReached, NotFound, WrongState
from colony_core.events import TerminalClosed, TerminalOpened
from colony_core.processes import View
from colony_core.views import NewTerminal, TerminalEnd, TerminalPlace, TerminalSize
from colony_core.views import Screen as Shown

from .homes import PATIENCE_SECONDS, Home, alive, kill, open_home, service

PLAIN = "[colony]\n"
TOP = NewTerminal(command=("sh", "-c", "echo up; exec sleep 1000"))


class Screen:
    """What a view has shown."""

    def __init__(self, view: View) -> None:
        self.view = view
        self._bytes = b""
        self.ended: TerminalEnd | None = None

    @property
    def shown(self) -> str:
        """All of it: a line's end, or a letter, may come in two parts."""
        return self._bytes.decode(errors="replace").replace("\r\n", "\n")

    async def until(self, text: str) -> str:
        with trio.fail_after(PATIENCE_SECONDS):
            while text not in self.shown:
                await self._take()
        return self.shown

    async def end(self) -> int:
        with trio.fail_after(PATIENCE_SECONDS):
            while self.ended is None:
                await self._take()
        return self.ended.code

    async def _take(self) -> None:
        seen = await self.view.receive()
        if isinstance(seen, bytes):
            self._bytes += seen
        elif isinstance(seen, TerminalEnd):
            self.ended = seen


@asynccontextmanager
async def looking(home: Home, name: str, terminal: str, **more: Any) -> AsyncIterator[Screen]:
    async with home.house.view_terminal(name, terminal, **more) as view:
        yield Screen(view)


def closings(home: Home) -> list[tuple[int | None, str]]:
    return [(event.code, event.reason) for event in home.told if isinstance(event, TerminalClosed)]


@pytest.mark.kernel
async def test_a_terminal_is_in_the_cell_the_folder_and_the_environment_of_its_colony(tmp_path: Path) -> None:
    async with open_home(tmp_path) as home:
        view = await home.up("hello", '[colony.environment]\nGREETING = "hi"\n' + service("web"))
        assert view.address is not None
        opened = await home.house.open_terminal(
            "hello", NewTerminal(command=("sh",), screen=Shown(term="vt100")), opened_by="ape"
        )
        async with looking(home, "hello", opened.id) as screen:
            await screen.view.type(b"pwd; ip -br addr; echo $GREETING $TERM $COLONY_NAME $COLONY_TERMINAL; exit 4\r")
            assert await screen.end() == 4
            assert str(tmp_path / "app-hello") in screen.shown
            assert view.address in screen.shown
            assert f"hi vt100 hello {opened.id}\n" in screen.shown


async def test_the_manifest_says_what_a_terminal_runs(tmp_path: Path) -> None:
    async with open_home(tmp_path, fake=True) as home:
        await home.up("hello", '[terminal]\ncommand = "echo from the manifest; cat"\n')
        opened = await home.house.open_terminal("hello", NewTerminal(), opened_by="ape")
        assert opened.command == "echo from the manifest; cat"
        async with looking(home, "hello", opened.id) as screen:
            await screen.until("from the manifest\n")


async def test_without_a_word_in_the_manifest_it_is_the_users_shell(tmp_path: Path) -> None:
    async with open_home(tmp_path, fake=True) as home:
        await home.up("hello", PLAIN)
        opened = await home.house.open_terminal(
            "hello", NewTerminal(screen=Shown(rows=33, columns=99)), opened_by="ape"
        )
        assert opened.command.startswith("/")
        async with looking(home, "hello", opened.id) as screen:
            await screen.view.type(b"stty size\r")
            await screen.until("33 99\n")


async def test_terminals_are_listed_with_who_opened_them_and_who_looks(tmp_path: Path) -> None:
    async with open_home(tmp_path, fake=True) as home:
        await home.up("hello", PLAIN)
        first = await home.house.open_terminal("hello", TOP, opened_by="ape")
        second = await home.house.open_terminal("hello", TOP, opened_by="scout")
        async with looking(home, "hello", second.id, size=TerminalSize(50, 150)) as screen:
            await screen.until("up\n")
            listed = await home.house.terminals("hello")
            assert [(view.id, view.opened_by, view.viewers) for view in listed] == [
                (first.id, "ape", 0),
                (second.id, "scout", 1),
            ]
            assert (listed[1].rows, listed[1].columns, listed[1].command) == (
                50,
                150,
                "sh -c 'echo up; exec sleep 1000'",
            )
        assert [e.terminal for e in home.told if isinstance(e, TerminalOpened)] == [first.id, second.id]


async def test_closing_one_ends_it_alone(tmp_path: Path) -> None:
    async with open_home(tmp_path, fake=True) as home:
        await home.up("hello", PLAIN)
        first = await home.house.open_terminal("hello", TOP, opened_by="ape")
        second = await home.house.open_terminal("hello", TOP, opened_by="ape")
        await home.house.close_terminal("hello", first.id)
        assert not alive(first.pid)
        assert alive(second.pid)
        assert [view.id for view in await home.house.terminals("hello")] == [second.id]
        with pytest.raises(NotFound) as caught:
            await home.house.close_terminal("hello", first.id)
        assert caught.value.code == "terminal-not-found"
        with pytest.raises(NotFound):
            async with looking(home, "hello", first.id):
                pass


async def test_a_colony_takes_its_terminals_along_when_it_stops(tmp_path: Path) -> None:
    async with open_home(tmp_path, fake=True) as home:
        await home.up("hello", PLAIN)
        opened = await home.house.open_terminal("hello", NewTerminal(command=("bash", "--norc")), opened_by="ape")
        async with looking(home, "hello", opened.id) as screen:
            await screen.view.type(b"echo up; sleep 1000 &\r")
            await screen.until("\rup")
            await home.house.stop("hello")
            await screen.end()
        await home.until_state("hello", "stopped")
        assert not alive(opened.pid)
        assert closings(home)[0][1] == "the colony was stopped"
        assert await home.house.terminals("hello") == ()
        with pytest.raises(WrongState) as caught:
            await home.house.open_terminal("hello", NewTerminal(), opened_by="ape")
        assert caught.value.code == "colony-not-running"


async def test_the_end_of_a_program_is_told_and_forgotten(tmp_path: Path) -> None:
    async with open_home(tmp_path, fake=True) as home:
        await home.up("hello", PLAIN)
        opened = await home.house.open_terminal("hello", NewTerminal(command=("sh", "-c", "exit 9")), opened_by="ape")
        with trio.fail_after(PATIENCE_SECONDS):
            while not closings(home):
                await trio.sleep(0.01)
        assert closings(home) == [(9, "exit 9")]
        assert opened.id not in [view.id for view in await home.house.terminals("hello")]


async def test_a_terminal_that_nobody_uses_ends_with_its_reason(tmp_path: Path) -> None:
    async with open_home(tmp_path, fake=True, terminals__idle="100ms") as home:
        await home.up("hello", PLAIN)
        await home.house.open_terminal("hello", TOP, opened_by="ape")
        with trio.fail_after(PATIENCE_SECONDS):
            while not closings(home):
                await trio.sleep(0.01)
        assert closings(home)[0][1] == "nobody used it"


async def test_a_colony_has_so_many_terminals_and_no_more(tmp_path: Path) -> None:
    async with open_home(tmp_path, fake=True, terminals__most=2) as home:
        await home.up("hello", PLAIN)
        for _ in range(2):
            opened = await home.house.open_terminal("hello", TOP, opened_by="ape")
        with pytest.raises(LimitReached) as caught:
            await home.house.open_terminal("hello", TOP, opened_by="ape")
        assert caught.value.code == "too-many-terminals"
        await home.house.close_terminal("hello", opened.id)
        await home.house.open_terminal("hello", TOP, opened_by="ape")


async def test_a_small_scrollback_says_what_it_lost(tmp_path: Path) -> None:
    async with open_home(tmp_path, fake=True, terminals__scrollback="4K") as home:
        await home.up("hello", PLAIN)
        command = ("sh", "-c", "seq 1 5000; echo end; exec sleep 1000")
        opened = await home.house.open_terminal("hello", NewTerminal(command=command), opened_by="ape")
        async with looking(home, "hello", opened.id) as screen:
            await screen.until("end\n")
        async with home.house.view_terminal("hello", opened.id) as view:
            place = await view.receive()
            assert isinstance(place, TerminalPlace)
            assert place.missed > 15_000


async def test_a_killed_program_is_told_and_another_terminal_can_be_opened(tmp_path: Path) -> None:
    async with open_home(tmp_path, fake=True) as home:
        await home.up("hello", PLAIN)
        opened = await home.house.open_terminal("hello", TOP, opened_by="ape")
        async with looking(home, "hello", opened.id) as screen:
            await screen.until("up\n")
        kill(opened.pid)
        with trio.fail_after(PATIENCE_SECONDS):
            while not closings(home):
                await trio.sleep(0.01)
        assert closings(home) == [(-9, "killed by SIGKILL")]
        again = await home.house.open_terminal("hello", TOP, opened_by="ape")
        assert again.id != opened.id
