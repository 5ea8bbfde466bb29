"""Terminals as people use them: `colony attach` and `colony exec -it` in a real terminal, with full-screen programs, through deaths."""

import os
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from colony_core.remote import calls

from .driver import COLONY, PATIENCE_SECONDS, Daemon, alive
from .screen import Tmux, open_tmux

pytestmark = [pytest.mark.kernel, pytest.mark.slow, pytest.mark.tmux]

SHELL = '[terminal]\ncommand = ["env", "PS1=inner$ ", "bash", "--norc", "--noprofile"]\n'


def needs(program: str) -> pytest.MarkDecorator:
    return pytest.mark.skipif(shutil.which(program) is None, reason=f"needs {program}: apt install {program}")


@pytest.fixture(scope="module")
def daemon(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Daemon]:
    with Daemon(tmp_path_factory.mktemp("terminals")).running() as running:
        running.spawn("den", SHELL)
        running.until_ready("den")
        yield running


@pytest.fixture
def tmux(daemon: Daemon) -> Iterator[Tmux]:
    """A terminal in which nothing of an earlier test is left."""
    with open_tmux(daemon.environment) as tmux:
        yield tmux
    for view in terminals(daemon):
        daemon.send(calls.close_terminal("den", view["id"]))


def terminals(daemon: Daemon) -> list[dict[str, object]]:
    found: list[dict[str, object]] = daemon.send(calls.terminals("den"))
    return found


def attach(tmux: Tmux, *options: str, colony: str = "den") -> None:
    tmux.line(f"colony attach {colony} {' '.join(options)}")
    tmux.until("inner$")


def vim(tmux: Tmux, command: str) -> None:
    """Starts vim and waits for its empty lines."""
    tmux.line(command)
    tmux.until(lambda screen: screen.count("\n~") > 10)


def interrupted(tmux: Tmux) -> None:
    """Interrupts a program of the shell inside, which has the terminal for itself when it speaks."""
    tmux.line("sh -c 'echo up-$((1)); exec sleep 1000'")
    tmux.until("up-1")
    tmux.press("C-c")
    tmux.line("echo code-$?")
    tmux.until("code-130")


def is_sane(tmux: Tmux) -> bool:
    """Whether the outer terminal is as it was before a program made it raw."""
    tmux.line("clear; stty -a")
    screen = tmux.until(lambda screen: "cchars" in screen or "-tostop" in screen)
    words = screen.replace(";", " ").split()
    return all(mode in words for mode in ("icanon", "echo", "isig", "opost", "icrnl"))


@needs("vim")
def test_vim_edits_a_file_leaves_a_clean_screen_and_survives_a_detach(daemon: Daemon, tmux: Tmux) -> None:
    attach(tmux)
    vim(tmux, "vim -u NONE -N edited.txt")
    tmux.type("ihello from vim")
    tmux.press("Enter")
    tmux.type("second line")
    before = tmux.until("second line")
    tmux.press("C-q")
    tmux.until("detached; again: colony attach den")
    assert "second line" not in tmux.screen, "the screen under the full-screen program is back"
    assert is_sane(tmux)
    tmux.line("colony attach den")
    assert tmux.until("second line") == before
    tmux.press("Escape")
    tmux.line(":wq")
    tmux.until("inner$")
    assert (daemon.folder / "app-den/edited.txt").read_text() == "hello from vim\nsecond line\n"
    assert "second line" not in tmux.screen


@pytest.mark.parametrize(
    "program", [pytest.param("htop", marks=needs("htop")), pytest.param("top", marks=needs("top"))]
)
def test_a_process_viewer_draws_itself_follows_the_size_and_quits(daemon: Daemon, tmux: Tmux, program: str) -> None:
    attach(tmux)
    tmux.line("for i in $(seq 40); do sleep 600 & done 2>/dev/null; clear")  # there may be few others to show
    tmux.line(program)
    tmux.until(lambda screen: "PID" in screen and "CPU" in screen)
    tmux.resize(120, 40)
    tmux.until(lambda screen: len(screen.splitlines()) > 32 and "PID" in screen)
    tmux.press("q")
    tmux.until(lambda screen: screen.endswith("inner$"))
    tmux.line("stty size")
    tmux.until("40 120")


@needs("less")
def test_less_pages_searches_and_gives_the_screen_back(daemon: Daemon, tmux: Tmux) -> None:
    (daemon.folder / "app-den/long.txt").write_text("".join(f"this is line {n}\n" for n in range(1, 2001)))
    attach(tmux)
    tmux.line("less long.txt")
    tmux.until("this is line 29")
    tmux.press("Space")
    tmux.until("this is line 58")
    tmux.line("/line 1234")
    tmux.until("this is line 1234")
    tmux.press("G")
    tmux.until("this is line 2000")
    tmux.press("q")
    tmux.until(lambda screen: screen.endswith("inner$"))


def test_a_tmux_inside_runs_splits_and_is_left(daemon: Daemon, tmux: Tmux) -> None:
    attach(tmux)
    tmux.line("tmux -L inside -f /dev/null new-session 'sh -c \"echo in the inner tmux; exec cat\"'")
    tmux.until("in the inner tmux")
    tmux.line("typed there")
    tmux.until(lambda screen: screen.count("typed there") == 2)
    tmux.press("C-b")
    tmux.press("%")
    tmux.until("│")
    tmux.press("C-b")
    tmux.press("d")
    tmux.until("[detached")
    tmux.line("tmux -L inside kill-server; echo all-$((1))")
    tmux.until("all-1")


def test_the_keys_of_a_shell_work(daemon: Daemon, tmux: Tmux) -> None:
    attach(tmux)
    interrupted(tmux)
    tmux.type("echo wrongword")
    tmux.press("C-w")
    tmux.line("right-$((2))")
    tmux.until("right-2")
    tmux.press("C-d")
    tmux.until("terminal den")
    tmux.until("ended: exit 0")
    assert is_sane(tmux)
    assert terminals(daemon) == []


@pytest.mark.parametrize("end", [signal.SIGKILL, signal.SIGTERM], ids=["killed", "restarted"])
def test_a_daemon_that_ends_costs_an_attached_terminal_nothing_but_a_moment(
    daemon: Daemon, tmux: Tmux, end: signal.Signals
) -> None:
    attach(tmux)
    [view] = terminals(daemon)
    tmux.line("echo pid-$$.")
    pid = re.findall(r"pid-(\d+)\.", tmux.until(lambda screen: re.search(r"pid-\d+\.", screen)))[-1]
    tmux.line("for i in $(seq 1 200); do echo count-$i; sleep 0.02; done; echo counted-$((1))-$$")
    tmux.until(lambda _: "count-20\n" in tmux.history)
    assert daemon.process is not None
    daemon.process.send_signal(end)
    daemon.process.wait(PATIENCE_SECONDS)
    tmux.until(lambda _: "the daemon is away" in tmux.history)
    daemon.start()
    tmux.until(f"counted-1-{pid}")
    assert re.findall(r"^count-(\d+)$", tmux.history, re.MULTILINE) == [str(number) for number in range(1, 201)]
    [again] = terminals(daemon)
    assert (again["id"], again["pid"], again["opened_by"]) == (view["id"], view["pid"], view["opened_by"])
    tmux.press("C-q")
    tmux.until("detached")


@needs("vim")
def test_vim_is_drawn_anew_when_the_daemon_was_away(daemon: Daemon, tmux: Tmux) -> None:
    attach(tmux)
    vim(tmux, "vim -u NONE -N other.txt")
    tmux.type("ia line to keep")
    before = tmux.until("a line to keep")
    daemon.kill()
    tmux.until("the daemon is away")
    daemon.start()
    tmux.until(lambda screen: screen == before)
    tmux.press("Escape")
    tmux.line(":q!")
    tmux.until("inner$")


def test_ctrl_c_works_though_the_daemon_was_started_in_the_background_of_a_script(tmp_path: Path) -> None:
    daemon = Daemon(tmp_path)
    log = (tmp_path / "daemon.log").open("ab")
    script = f"{' '.join(COLONY)} serve & echo $!; wait"
    try:
        started = subprocess.Popen(["sh", "-c", script], env=daemon.environment, stdout=log, stderr=log)
        daemon.until(lambda: daemon.cli("status", check=None).returncode == 0, "the daemon answers")
        daemon.spawn("lair", SHELL)
        daemon.until_ready("lair")
        with open_tmux(daemon.environment) as tmux:
            attach(tmux, colony="lair")
            interrupted(tmux)
    finally:
        daemon.send(calls.shutdown(colonies=True))
        started.wait(PATIENCE_SECONDS)
        log.close()


def test_two_screens_show_the_same_and_the_last_that_was_used_decides_the_size(daemon: Daemon, tmux: Tmux) -> None:
    attach(tmux)
    with open_tmux(daemon.environment, columns=80, rows=20) as other:
        other.line("colony attach den")
        other.until("inner$")
        other.line("stty size")
        tmux.until("20 80")
        tmux.line("stty size")
        other.until("30 100")
        with open_tmux(daemon.environment, columns=60, rows=10) as reader:
            reader.line("colony attach den --read-only")
            reader.until("inner$")
            reader.line("exit")
            tmux.line("clear; stty size; echo same-$((1))")
            reader.until("same-1")
            tmux.until(lambda screen: "30 100" in screen and "same-1" in screen)
            reader.press("C-q")
            reader.until("detached")
    [view] = terminals(daemon)
    daemon.until(lambda: terminals(daemon)[0]["viewers"] == 1, "the others are gone")
    assert view["command"].startswith("env 'PS1=inner$ ' bash")


def test_terminals_are_chosen_opened_listed_and_ended(daemon: Daemon, tmux: Tmux) -> None:
    attach(tmux)
    tmux.line("echo first-$((1))")
    tmux.until("first-1")
    tmux.press("C-q")
    tmux.until("detached")
    tmux.line("clear")
    attach(tmux, "--new", "--detach-keys", "ctrl-p,ctrl-q")
    tmux.press("C-q")
    tmux.line("echo second-$((2))")
    tmux.until("second-2")
    tmux.press("C-p", "C-q")
    tmux.until("detached")
    first, second = (str(view["id"]) for view in terminals(daemon))
    assert daemon.cli("terminal", "ls", "den", "-q").stdout.split() == [first, second]
    tmux.line(f"clear; colony attach den {first[:4]}")
    assert "second-2" not in tmux.until("first-1")
    tmux.press("C-q")
    tmux.until("detached")
    tmux.line("clear; colony attach den")
    tmux.until(lambda screen: "first-1" in screen and "detached" not in screen)
    assert daemon.cli("terminal", "rm", "den", first).stdout == f"{first} is gone\n"
    tmux.until("ended")
    assert is_sane(tmux)
    assert [view["id"] for view in terminals(daemon)] == [second]
    assert daemon.cli("terminal", "rm", "den", "nothere", check=3).stderr.startswith("error:")


def test_exec_on_a_terminal_passes_keys_sizes_and_the_exit_code(daemon: Daemon, tmux: Tmux) -> None:
    tmux.line("colony exec -it den -- sh -c 'tty; stty size; read word; echo got-$word; exit 7'; echo code-$?")
    tmux.until("30 100")
    tmux.line("this")
    tmux.until("got-this")
    tmux.until("code-7")
    script = "echo up-$((1)); exec sleep 1000"
    tmux.line(f"clear; colony exec -it den -- sh -c '{script}'; echo code-$?")
    tmux.until("up-1")
    tmux.press("C-c")
    tmux.until("code-130")
    tmux.line("clear; colony exec -it den -- nowhere-to-be-found; echo code-$?")
    tmux.until("command not found")
    tmux.until("code-3")
    assert is_sane(tmux)
    assert terminals(daemon) == []


@needs("vim")
def test_a_full_screen_program_works_under_exec(daemon: Daemon, tmux: Tmux) -> None:
    vim(tmux, "colony exec -it den -- vim -u NONE -N third.txt")
    tmux.resize(90, 25)
    tmux.type("itext of the third")
    tmux.until("text of the third")
    tmux.press("Escape")
    tmux.line(":wq")
    tmux.until("outer$")
    assert (daemon.folder / "app-den/third.txt").read_text() == "text of the third\n"


def test_a_command_on_a_terminal_ends_with_its_screen(daemon: Daemon, tmux: Tmux) -> None:
    tmux.line("colony exec -it den -- sh -c 'echo pid-$$.; exec sleep 1000'")
    screen = tmux.until(lambda screen: re.search(r"pid-\d+\.", screen))
    pid = int(re.findall(r"pid-(\d+)\.", screen)[0])
    os.kill(tmux.command, signal.SIGKILL)
    daemon.until(lambda: not alive(pid), "the command is gone")


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
def test_the_terminal_is_brought_back_when_the_command_is_told_to_end(
    daemon: Daemon, tmux: Tmux, number: signal.Signals
) -> None:
    attach(tmux)
    tmux.line("printf '\\033[?1049h\\033[?25l'; echo taken-$((1))")
    tmux.until("taken-1")
    os.kill(tmux.command, number)
    tmux.until("detached")
    assert "taken-1" not in tmux.screen
    assert is_sane(tmux)
    assert tmux("display-message", "-p", "-t", "0", "#{cursor_flag} #{alternate_on}").strip() == "1 0"
    assert len(terminals(daemon)) == 1


def test_the_terminal_is_brought_back_when_what_it_showed_is_lost(tmp_path: Path) -> None:
    with Daemon(tmp_path).running() as daemon, open_tmux(daemon.environment) as tmux:
        daemon.spawn("lair", SHELL)
        daemon.until_ready("lair")
        attach(tmux, colony="lair")
        keeper = daemon.send(calls.system())["keeper_pid"]
        os.kill(keeper, signal.SIGKILL)
        tmux.until("error:")
        assert is_sane(tmux)
        daemon.until(lambda: daemon.send(calls.system())["keeper_pid"] not in (keeper, None), "a new keeper")
        daemon.until(lambda: daemon.colony("lair")["state"] == "running", "it runs")
        attach(tmux, colony="lair")


def test_the_program_in_the_guide_shows_what_it_says(daemon: Daemon) -> None:
    guide = (Path(__file__).resolve().parents[2] / "docs/terminals.md").read_text()
    program = guide.partition("```python\n")[2].partition("```")[0].replace('"hello"', '"den"')
    done = subprocess.run(
        [sys.executable, "-c", program],
        env=daemon.environment,
        capture_output=True,
        text=True,
        timeout=PATIENCE_SECONDS,
        check=False,
    )
    assert (done.returncode, done.stdout) == (0, "42\n"), done.stderr


def test_what_needs_a_terminal_says_so(daemon: Daemon) -> None:
    for words in (("attach", "den"), ("exec", "-it", "den", "--", "true")):
        assert "this is none" in daemon.cli(*words, check=2).stderr
    assert "-i has no effect" in daemon.cli("exec", "-i", "den", "--", "true", check=2).stderr
