"""exec: pipes and exit codes pass through."""

import signal
import subprocess
import sys

from .conftest import Command
from .stand_in import StandIn


def test_output_goes_to_where_it_went_and_the_command_is_passed_as_words(house: StandIn, colony: Command) -> None:
    house.add("hello")
    done = colony("exec", "hello", "--", "echo", "a b", "-x", "--json", "--")
    assert (done.code, done.out, done.err) == (0, "echo a b -x --json --\n", "to stderr\n")
    assert house.exec_requests == [
        {"command": ["echo", "a b", "-x", "--json", "--"], "cwd": None, "env": {}, "screen": None}
    ]


def test_the_exit_code_is_the_programs(house: StandIn, colony: Command) -> None:
    house.add("hello")
    assert colony("exec", "hello", "exit", "42").code == 42
    assert colony("exec", "hello", "--", "exit", "0").code == 0
    assert colony("exec", "hello", "--", "exit", "-9").code == 137


def test_input_passes_through_whole_and_ends(house: StandIn, colony: Command) -> None:
    house.add("hello")
    text = "".join(f"line {i}\n" for i in range(20_000))
    done = colony("exec", "hello", "--", "cat", stdin=text)
    assert done.code == 0
    assert done.out == "cat\n" + text


def test_folder_and_variables_reach_the_daemon(house: StandIn, colony: Command) -> None:
    house.add("hello")
    assert colony("exec", "-C", "sub", "-e", "A=1", "-e", "B=x=y", "hello", "env").code == 0
    assert house.exec_requests == [{"command": ["env"], "cwd": "sub", "env": {"A": "1", "B": "x=y"}, "screen": None}]
    assert colony("exec", "-e", "A", "hello", "env").code == 2


def test_ctrl_c_ends_it(house: StandIn, colony: Command) -> None:
    house.add("hello")
    process = colony.begin("exec", "hello", "--", "sleep", "100")
    house.until(lambda: bool(house.exec_requests))
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=120)
    assert (process.returncode, out, err) == (130, b"", b"")


def test_a_deadline_ends_it(house: StandIn, colony: Command) -> None:
    house.add("hello")
    done = colony("exec", "--timeout", "6s", "hello", "--", "sleep", "100")  # it holds for the questions before it too
    assert done.code == 7
    assert "was ended after 6 s" in done.err


def test_a_reader_that_leaves_ends_it_quietly(house: StandIn, colony: Command) -> None:
    house.add("hello")
    process = colony.begin("exec", "hello", "--", "cat")
    assert process.stdin is not None
    assert process.stdout is not None
    assert process.stderr is not None
    assert process.stdout.read(4) == b"cat\n"
    assert process.stderr.read(10) == b"to stderr\n"  # before it is quit: nobody waits for the rest then
    process.stdout.close()
    process.stdin.write(b"more\n" * 100)
    process.stdin.flush()
    assert process.wait(120) == 0
    assert process.stderr.read() == b""


def test_without_input_nothing_hangs(house: StandIn, colony: Command) -> None:
    house.add("hello")
    line = [sys.executable, "-m", "colony_cli", "exec", "hello", "--", "cat"]
    process = subprocess.run(
        line, stdin=subprocess.DEVNULL, capture_output=True, env=colony.environ, timeout=120, check=False
    )
    assert (process.returncode, process.stdout) == (0, b"cat\n")


def test_wrong_use_is_told(house: StandIn, colony: Command) -> None:
    house.add("hello")
    assert colony("exec", "ghost", "--", "ls").code == 3
    assert colony("exec", "hello").code == 2
    assert colony("exec", "hello", "--").code == 2
    assert colony("exec", "hello", "--json", "ls").code == 2
    assert "prints no result" in colony("--json", "exec", "hello", "ls").err
    assert house.exec_requests == []
