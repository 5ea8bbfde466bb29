"""Keys that detach, and what attach and exec -it refuse; how they behave in a real terminal stands in tests/e2e/test_terminals.py."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from colony_cli.terminal import DetachKeys
from colony_core.errors import Invalid

from .conftest import Command
from .stand_in import StandIn

CTRL_P, CTRL_Q = b"\x10", b"\x11"


@pytest.mark.parametrize(
    ("keys", "typed", "passed", "detaches"),
    [
        ("ctrl-q", b"ls\r", b"ls\r", False),
        ("ctrl-q", CTRL_Q, b"", True),
        ("ctrl-q", b"ls" + CTRL_Q + b"never", b"ls", True),
        ("ctrl-q", b"\x1b[27;5;113~", b"", True),
        ("ctrl-q", b"\x1b[113;5u", b"", True),
        ("ctrl-q", b"\x1b[27;5;112~", b"\x1b[27;5;112~", False),
        ("ctrl-]", b"\x1d", b"", True),
        ("CTRL-Q", CTRL_Q, b"", True),
        ("ctrl-p,ctrl-q", CTRL_P, b"", False),
        ("ctrl-p,ctrl-q", CTRL_P + CTRL_Q, b"", True),
        ("ctrl-p,ctrl-q", CTRL_Q, CTRL_Q, False),
        ("ctrl-p,ctrl-q", CTRL_P + b"x", CTRL_P + b"x", False),
        ("ctrl-p,ctrl-q", CTRL_P + CTRL_P + CTRL_Q, CTRL_P, True),
        ("none", CTRL_Q + CTRL_P, CTRL_Q + CTRL_P, False),
    ],
)
def test_keys_detach_or_are_passed_on(keys: str, typed: bytes, passed: bytes, detaches: bool) -> None:
    assert DetachKeys(keys).feed(typed) == (passed, detaches)


def test_the_beginning_of_a_sequence_is_held_until_it_is_clear() -> None:
    keys = DetachKeys("ctrl-p,ctrl-q")
    assert keys.feed(CTRL_P) == (b"", False)
    assert keys.feed(b"k") == (CTRL_P + b"k", False)
    assert keys.feed(CTRL_P) == (b"", False)
    assert keys.feed(CTRL_Q) == (b"", True)


@given(st.lists(st.binary(max_size=8), max_size=12))
def test_what_does_not_detach_is_passed_on_whole(pieces: list[bytes]) -> None:
    keys, passed = DetachKeys("ctrl-p,ctrl-q"), b""
    pieces = [piece.replace(CTRL_Q, b"q") for piece in pieces] + [b"end"]
    for piece in pieces:
        given, detaches = keys.feed(piece)
        assert not detaches
        passed += given
    assert passed == b"".join(pieces)


@pytest.mark.parametrize("keys", ["", "q", "ctrl-", "ctrl-qq", "alt-x", "ctrl-p,", "ctrl-5"])
def test_what_is_no_key_is_refused(keys: str) -> None:
    with pytest.raises(Invalid):
        DetachKeys(keys)


def test_attach_wants_a_terminal_and_sensible_words(house: StandIn, colony: Command) -> None:
    house.add("hello")
    ended = colony("attach", "hello")
    assert (ended.code, "this is none" in ended.err) == (2, True)
    assert colony.shown("attach", "hello", "--detach-keys", "q")[0] == 2
    assert colony.shown("attach", "hello", "4f0c", "--new")[0] == 2
    assert colony.shown("attach", "hello", "--new", "--read-only")[0] == 2
    assert colony("attach", "hello", "--json").code == 2
    assert house.asked == []


def test_exec_on_a_terminal_wants_one(house: StandIn, colony: Command) -> None:
    house.add("hello")
    assert colony("exec", "-it", "hello", "--", "true").code == 2
    assert colony.shown("exec", "-i", "hello", "--", "true")[0] == 2
    assert house.exec_requests == []


def test_exec_on_a_terminal_tells_its_screen_and_gives_the_exit_code(house: StandIn, colony: Command) -> None:
    house.add("hello")
    code, shown = colony.shown("exec", "-it", "hello", "--", "exit", "7", width=93, COLORTERM="truecolor")
    assert code == 7
    assert "exit 7" in shown
    [request] = house.exec_requests
    assert request["screen"] == {"rows": 40, "columns": 93, "term": "xterm-256color"}
    assert request["env"] == {"LANG": "C.UTF-8", "COLORTERM": "truecolor"}
