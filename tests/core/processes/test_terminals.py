"""Terminals at the keeper; the same tests over a keeper of its own and over the engine in this program."""

import os
import re
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import attrs
import pytest
import trio

from colony_core.errors import Invalid, NotFound, WrongState
from colony_core.processes import OnTerminal, User, open_inline_keeper
from colony_core.views import TerminalEnd, TerminalSize

SMALL = OnTerminal(scrollback=64 * 1024)
WIDE = TerminalSize(40, 120)


@pytest.fixture(params=["program", "inline"])
def opened(request: pytest.FixtureRequest, place: Any) -> Callable[[], Any]:
    return place.open if request.param == "program" else lambda: open_inline_keeper(state_dir=place.state_dir)


async def test_a_program_gets_a_terminal_of_its_own(opened: Any, place: Any, look: Any) -> None:
    async with opened() as keeper:
        process = await keeper.start(place.on_terminal("t.1", "sh", "-c", "tty; stty size; ps -o tty= -p $$; exit 3"))
        assert process.on_terminal
        async with look(keeper, "t.1") as screen:
            await screen.until(lambda: screen.ended)
            lines = screen.shown.splitlines()
            assert lines[0].startswith("/dev/pts/")
            assert lines[1:] == ["24 80", lines[0].removeprefix("/dev/")]
            assert screen.ended == TerminalEnd(3, "")
        assert (await process.wait()).code == 3


async def test_what_is_typed_is_echoed_and_read(opened: Any, place: Any, look: Any) -> None:
    async with opened() as keeper:
        await keeper.start(place.on_terminal("t.1", "sh"))
        async with look(keeper, "t.1") as screen:
            await screen.until("$ ")
            await screen.type("echo $((6 * 7)) grün\r")
            shown = await screen.until("42 grün")
            assert "echo $((6 * 7)) grün\n" in shown
            await screen.type("\x04")
            await screen.until(lambda: screen.ended)
            assert screen.ended == TerminalEnd(0, "")


async def test_keys_that_signal_work_and_so_does_job_control(
    opened: Any, place: Any, look: Any, tmp_path: Path
) -> None:
    job = tmp_path / "job.py"
    job.write_text(
        "import signal\nsignal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGCONT])\nprint('here', flush=True)\n"
        "while signal.sigwait([signal.SIGCONT]): print('again', flush=True)\n"  # one that came early is waited for as well
    )
    async with opened() as keeper:
        await keeper.start(place.on_terminal("t.1", "bash", "--norc", "--noprofile"))
        async with look(keeper, "t.1") as screen:
            await screen.until("$ ")
            await screen.type("sh -c 'echo up; exec sleep 1000'\r")
            await screen.until("\rup\n")
            await screen.type("\x03")
            await screen.until(lambda: screen.shown.endswith("$ "))
            await screen.type("echo code $?\r")
            await screen.until("code 130\n")
            await screen.type(f"python3 -S {job}\r")
            await screen.until("\rhere\n")
            await screen.type("\x1a")
            await screen.until(lambda: "Stopped" in screen.shown and screen.shown.endswith("$ "))
            await screen.type("jobs; fg\r")
            await screen.until("again\n")
            await screen.type("\x1c")
            await screen.until(lambda: "Quit" in screen.shown and screen.shown.endswith("$ "))
            await screen.type("exit 7\r")
            await screen.until(lambda: screen.ended)
            assert screen.ended == TerminalEnd(7, "")


async def test_a_resize_is_seen_by_the_program_and_by_every_viewer(opened: Any, place: Any, look: Any) -> None:
    async with opened() as keeper:
        source = (  # each size is told once, however the signals fall together, and no echo comes in between
            "import os, signal, termios\nsignal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGWINCH])\ntold = None\n"
            "modes = termios.tcgetattr(0)\nmodes[3] &= ~termios.ECHO\ntermios.tcsetattr(0, termios.TCSANOW, modes)\n"
            "while True:\n    size = os.get_terminal_size()\n    if size != told: print(size.lines, size.columns, flush=True)\n"
            "    told = size\n    signal.sigwait([signal.SIGWINCH])\n"
        )
        await keeper.start(place.on_terminal("t.1", "python3", "-S", "-c", source))
        async with look(keeper, "t.1", size=TerminalSize(30, 100)) as first:
            await first.until("30 100\n")
            async with look(keeper, "t.1", size=WIDE) as second:
                await second.until("40 120\n")
                await first.until(lambda: first.sizes[-1] == WIDE)
                await first.view.resize(TerminalSize(31, 101))
                await second.until("31 101\n")
                await second.type("x")
                await first.until(lambda: first.shown.count("40 120\n") == 2)
                await second.until(lambda: second.sizes == [WIDE, TerminalSize(31, 101), WIDE])
            await first.until(lambda: first.shown.count("31 101\n") == 2)
            async with look(keeper, "t.1") as onlooker:
                await onlooker.until(lambda: onlooker.sizes == [TerminalSize(31, 101)])
        [state] = (await keeper.terminals("t.")).values()
        assert (state.rows, state.columns) == (31, 101)


async def test_a_viewer_gets_what_was_said_before_and_goes_on_where_it_left(opened: Any, place: Any, look: Any) -> None:
    async with opened() as keeper:
        process = await keeper.start(place.on_terminal("t.1", "sh"))
        async with look(keeper, "t.1") as screen:
            await screen.type("echo one-$((1))\r")
            before = await screen.until("one-1\n")
            place_then = screen.at
        async with look(keeper, "t.1") as again, look(keeper, "t.1", after=place_then) as later:
            assert (again.places[0].at, again.places[0].missed, later.places[0].at) == (0, 0, place_then)
            await later.type("echo two-$((2))\r")
            await later.until("two-2\n")
            assert "one-1" not in later.shown
            assert (await again.until("two-2\n")).startswith(before)
        assert process.running
        assert (await keeper.terminals(""))["t.1"].viewers == 0


async def test_a_slow_viewer_is_told_what_it_missed_and_holds_nobody_up(opened: Any, place: Any, look: Any) -> None:
    async with opened() as keeper:
        script = "stty raw -echo; i=0; while [ $i -lt 40000 ]; do i=$((i+1)); echo line-$i; done; echo done; exec cat"
        await keeper.start(place.on_terminal("t.1", "sh", "-c", script, terminal=SMALL))
        async with look(keeper, "t.1", after=0) as slow:
            async with look(keeper, "t.1", after=0) as quick:
                await quick.until("done\n")
            await slow.until("done\n")
            assert len(slow.places) > 1
            for jump in slow.places[1:]:
                assert jump.missed > 0
            lines = [int(line.removeprefix("line-")) for line in slow.shown.splitlines()[:-1]]
            assert lines == list(range(lines[0], 40001))


async def test_a_full_screen_program_is_made_to_draw_anew_for_who_missed_its_beginning(
    opened: Any, place: Any, look: Any
) -> None:
    async with opened() as keeper:
        source = (
            "import signal, os, sys, time\n"
            "def draw(*_):\n    print('\\x1b[Hdrawn for', *os.get_terminal_size(), flush=True)\n"
            "signal.signal(signal.SIGWINCH, draw)\n"
            "print('\\x1b[?1049h\\x1b[?25l', flush=True)\n"
            "for _ in range(4000): print('full of letters ' * 4, flush=True)\n"
            "print('up', flush=True)\n"
            "while True: signal.pause()\n"
        )
        await keeper.start(place.on_terminal("t.1", "python3", "-S", "-c", source, terminal=SMALL))
        size = TerminalSize(24, 80)
        async with look(keeper, "t.1", size=size) as screen:
            await screen.until("up\n")
        async with look(keeper, "t.1", size=size) as screen:
            assert screen.places[0].missed > 0
            assert screen.places[0].restore == "\x1b[?1049h\x1b[?25l"
            await screen.until("drawn for 80 24")


async def test_a_program_that_does_not_read_is_waited_for_without_holding_up_its_output(
    opened: Any, place: Any, look: Any
) -> None:
    async with opened() as keeper:
        script = "stty raw -echo; echo ready; while [ ! -e go ]; do sleep 0.01; done; exec head -c 300000 | wc -c"
        folder = place.run_dir.parent
        await keeper.start(place.launch("t.1", "sh", "-c", script, terminal=OnTerminal(), cwd=str(folder)))
        async with look(keeper, "t.1") as screen:
            await screen.until("ready")
            with trio.move_on_after(0.3) as patience:
                await screen.type("x" * 3_000_000)
            assert patience.cancelled_caught, "it waits while nobody reads"
        async with look(keeper, "t.1") as screen:
            (folder / "go").touch()
            async with trio.open_nursery() as nursery:
                nursery.start_soon(screen.type, "y" * 300_000)
                await screen.until("300000")
                nursery.cancel_scope.cancel()


async def test_a_terminal_that_nobody_uses_is_ended(opened: Any, place: Any, look: Any) -> None:
    async with opened() as keeper:
        idle = OnTerminal(idle=5.0)  # and no less, so that it is looked at in time
        process = await keeper.start(place.on_terminal("t.1", "bash", "--norc", "-i", terminal=idle))
        async with look(keeper, "t.1") as screen:
            later = await keeper.start(place.on_terminal("t.2", "bash", "--norc", "-i", terminal=idle))
            assert (await later.wait()).why == "idle"
            await screen.type("echo still-$((1))\r")
            await screen.until("still-1")
        assert (await process.wait()).why == "idle"


async def test_stopping_hangs_up_and_takes_the_whole_tree(
    opened: Any, place: Any, look: Any, is_alive: Callable[[int], bool]
) -> None:
    async with opened() as keeper:
        process = await keeper.start(place.on_terminal("t.1", "bash", "--norc", "--noprofile"))
        async with look(keeper, "t.1") as screen:
            await screen.until("$ ")
            await screen.type("(setsid sleep 1000 & echo pid-$!.)\r")
            await screen.until(lambda: re.search(r"pid-\d+\.", screen.shown))
            stray = int(re.findall(r"pid-(\d+)\.", screen.shown)[0])
            assert is_alive(stray)
            exited = await process.stop(grace=20)
            assert exited.code != -signal.SIGKILL, "an interactive shell ignores SIGTERM, but not SIGHUP"
            await screen.until(lambda: screen.ended)
            assert not is_alive(stray)
        with pytest.raises(NotFound):
            async with look(keeper, "t.1"):
                pass


async def test_who_overhears_that_the_terminal_is_gone_is_told_again(opened: Any, place: Any, look: Any) -> None:
    async with opened() as keeper:
        source = (
            "import signal\nsignal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGHUP, signal.SIGTERM])\nprint('here', flush=True)\n"
            "for _ in range(2): signal.sigwait([signal.SIGHUP])\nraise SystemExit(3)\n"
        )
        process = await keeper.start(place.on_terminal("t.1", "python3", "-S", "-c", source))
        async with look(keeper, "t.1") as screen:
            await screen.until("here")
            assert (await process.stop(grace=4)).code == 3


async def test_a_viewer_of_a_program_that_has_ended_reads_its_last_words(opened: Any, place: Any, look: Any) -> None:
    async with opened() as keeper:
        process = await keeper.start(place.on_terminal("t.1", "sh", "-c", "read go; seq 1 20000; echo last; exit 5"))
        async with look(keeper, "t.1") as screen:
            await screen.type("\r")
            await process.wait()
            await screen.until(lambda: screen.ended)
            assert screen.shown.endswith("20000\nlast\n")
            assert screen.ended == TerminalEnd(5, "")


async def test_who_comes_just_after_the_end_still_reads_why(opened: Any, place: Any, look: Any) -> None:
    async with opened() as keeper:
        process = await keeper.start(place.on_terminal("t.1", "sh", "-c", "echo no such thing >&2; exit 2"))
        await process.wait()
        await keeper.forget("t.1")
        async with look(keeper, "t.1", size=WIDE) as screen:
            await screen.until(lambda: screen.ended)
            assert (screen.shown, screen.ended) == ("no such thing\n", TerminalEnd(2, ""))


@pytest.mark.parametrize(
    ("argv", "terminal", "kind", "code"),
    [
        (("nowhere-to-be-found",), OnTerminal(), NotFound, "command-not-found"),
        (("/nowhere/program",), OnTerminal(), NotFound, "command-not-found"),
        (("sh",), OnTerminal(rows=0), Invalid, "bad-terminal"),
        (("sh",), OnTerminal(columns=100_000), Invalid, "bad-terminal"),
        (("sh",), OnTerminal(idle=-1.0), Invalid, "bad-terminal"),
    ],
)
async def test_what_cannot_be_opened_says_why(
    opened: Any, place: Any, argv: tuple[str, ...], terminal: OnTerminal, kind: type, code: str
) -> None:
    async with opened() as keeper:
        with pytest.raises(kind) as caught:
            await keeper.start(place.on_terminal("t.1", *argv, terminal=terminal))
        assert caught.value.code == code
        assert keeper.processes() == ()


async def test_a_process_without_a_terminal_cannot_be_viewed(opened: Any, place: Any, look: Any) -> None:
    async with opened() as keeper:
        await keeper.start(place.launch("web.1", "sleep", "1000"))
        with pytest.raises(WrongState):
            async with look(keeper, "web.1"):
                pass
        assert await keeper.terminals("") == {}


async def test_a_keeper_from_before_there_were_terminals_says_so_and_keeps_the_rest(place: Any, look: Any) -> None:
    async with place.open() as keeper:
        keeper._protocol = 1
        with pytest.raises(WrongState) as caught:
            await keeper.start(place.on_terminal("t.1", "sh"))
        assert caught.value.code == "keeper-too-old"
        assert await keeper.terminals("") == {}
        assert (await keeper.start(place.launch("web.1", "sleep", "1000"))).running


async def test_nonsense_from_a_viewer_ends_its_view_alone(place: Any, look: Any) -> None:
    async with place.open() as keeper:
        process = await keeper.start(place.on_terminal("t.1", "sh"))
        for nonsense in (b"i\xff\xff\xff\xff", b"j\0\0\0\2{]", b'j\0\0\0\x0e{"size":[0,0]}', b"x\0\0\0\1x"):
            async with look(keeper, "t.1") as screen:
                await screen.view._stream.send_all(nonsense)
                with pytest.raises(Exception, match="gone"):
                    await screen.until("never")
        assert process.running


async def test_a_killed_daemon_costs_a_terminal_nothing(place: Any, look: Any, tmp_path: Path) -> None:
    go = tmp_path / "go"
    async with place.open() as keeper:
        process = await keeper.start(place.on_terminal("t.1", "sh"))
        async with look(keeper, "t.1") as screen:
            await screen.type(f"echo before-$((1)); until [ -e {go} ]; do sleep 0.01; done; echo meanwhile-$((2))\r")
            await screen.until("before-1\n")
            left_at = screen.at
    go.touch()
    async with place.open() as keeper:
        [found] = keeper.processes()
        assert (found.pid, found.on_terminal, found.running) == (process.pid, True, True)
        async with look(keeper, "t.1", after=left_at) as screen:
            assert screen.places[0].at == left_at
            await screen.until("meanwhile-2\n")
            assert "before-1" not in screen.shown
            await screen.type("echo $$\r")
            await screen.until(f"{process.pid}\n")


async def test_ctrl_c_works_under_a_daemon_that_ignores_it(place: Any, look: Any) -> None:
    ignored = [signal.SIGINT, signal.SIGQUIT, signal.SIGTSTP, signal.SIGHUP]
    before = [signal.signal(number, signal.SIG_IGN) for number in ignored]
    script = "trap 'exit 42' INT; echo up; while :; do sleep 0.01; done"
    try:
        async with place.open() as keeper:
            await keeper.start(place.on_terminal("t.1", "sh", "-c", script))
            async with look(keeper, "t.1") as screen:
                await screen.until("up\n")
                await screen.type("\x03")
                await screen.until(lambda: screen.ended)
                assert screen.ended == TerminalEnd(42, "")
    finally:
        for number, handler in zip(ignored, before, strict=True):
            signal.signal(number, handler)


@pytest.mark.root
async def test_the_terminal_belongs_to_the_user_of_its_program(place: Any, look: Any) -> None:
    async with place.open() as keeper:
        launch = place.on_terminal("t.1", "sh", "-c", "exec 3<>$(tty) && stat -c %u $(tty)")
        nobody = User(uid=65534, gid=65534)
        await keeper.start(attrs.evolve(launch, user=nobody))
        async with look(keeper, "t.1") as screen:
            await screen.until(lambda: screen.ended)
            assert screen.shown == "65534\n"


@pytest.mark.root  # the keeper lets nobody else look at its descriptors
async def test_descriptors_of_ended_terminals_are_given_back(place: Any, look: Any) -> None:
    async with place.open() as keeper:

        def held() -> int:
            return len(os.listdir(f"/proc/{keeper.pid}/fd"))

        before = held()
        for number in range(5):
            process = await keeper.start(place.on_terminal(f"t.{number}", "sh"))
            async with look(keeper, process.key), look(keeper, process.key) as screen:
                await process.stop(grace=60)
                await screen.until(lambda screen=screen: screen.ended)
            await keeper.forget(process.key)
        await place.until(lambda: held() == before)
