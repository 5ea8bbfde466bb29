"""The last words of a terminal: places, cuts, and the modes that a cut leaves behind."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from colony_core.processes.keeper.scrollback import Modes, Scrollback

PIECES = st.lists(st.binary(min_size=1, max_size=300), max_size=60)


def everything(scrollback: Scrollback, at: int, most: int = 100) -> bytes:
    found = b""
    while data := scrollback.read(at + len(found), most):
        found += data
    return found


@given(PIECES, st.integers(1, 2000))
def test_what_is_kept_is_the_end_of_what_was_said(pieces: list[bytes], limit: int) -> None:
    scrollback, said = Scrollback(limit), b""
    for piece in pieces:
        scrollback.add(piece)
        said += piece
        assert scrollback.end == len(said)
        assert everything(scrollback, scrollback.start) == said[scrollback.start :]
        assert scrollback.end - scrollback.start >= min(limit, len(said))
        assert scrollback.end - scrollback.start <= limit + limit // 4 + 1 + 300


@given(PIECES, st.integers(1, 2000), st.none() | st.integers(0, 20_000))
def test_who_comes_back_misses_what_is_gone_and_nothing_else(
    pieces: list[bytes], limit: int, after: int | None
) -> None:
    scrollback = Scrollback(limit)
    for piece in pieces:
        scrollback.add(piece)
    begin = scrollback.begin(after)
    assert scrollback.start <= begin.at <= scrollback.end
    if after is not None and after >= scrollback.start:
        assert (begin.at, begin.missed, begin.restore) == (min(after, scrollback.end), 0, b"")
    else:
        assert begin.missed == begin.at - (after or 0)


def test_a_cut_falls_between_lines_and_never_into_a_character() -> None:
    lines = Scrollback(400)
    for number in range(200):
        lines.add(b"line %d\n" % number)
    begin = lines.begin(None)
    assert begin.missed > 0
    assert everything(lines, begin.at).startswith(b"line ")
    one_line = Scrollback(400)
    for _ in range(500):
        one_line.add("€".encode())
    one_line.add(b"x")
    assert everything(one_line, one_line.begin(None).at).decode().startswith("€")


def test_a_slow_reader_goes_on_with_the_newest() -> None:
    scrollback = Scrollback(4000)
    for number in range(3000):
        scrollback.add(b"%07d\n" % number)
    begin = scrollback.begin(8)
    assert scrollback.end - begin.at <= 1000
    assert begin.missed == begin.at - 8


def test_the_modes_of_a_cut_are_those_of_the_bytes_before_it() -> None:
    scrollback = Scrollback(1000)
    scrollback.add(b"\x1b[?1049h\x1b[?25l\x1b[?1000;1006h\x1b=")
    scrollback.add(b"\x1b[?1000l")
    for _ in range(300):
        scrollback.add(b"screen full of letters\n")
    assert scrollback.begin(None).restore == b"\x1b[?1049h\x1b[?25l\x1b[?1006h\x1b="
    scrollback.add(b"\x1b[?1049l\x1b[?25h\x1b[?1006l\x1b>\n")
    for _ in range(300):
        scrollback.add(b"screen full of letters\n")
    assert scrollback.begin(None).restore == b""


@given(st.lists(st.sampled_from([1, 7, 25, 1000, 1049, 2004]), max_size=20), st.data())
def test_modes_are_the_same_wherever_the_bytes_are_cut(switches: list[int], data: st.DataObject) -> None:
    text = b"".join(b"word\x1b[?%d%s" % (number, b"hl"[n % 2 : n % 2 + 1]) for n, number in enumerate(switches))
    whole, cut = Modes(), Modes()
    whole.feed(text)
    while text:
        size = data.draw(st.integers(1, len(text)))
        cut.feed(text[:size])
        text = text[size:]
    assert (cut.restore(), cut.undo()) == (whole.restore(), whole.undo())


@pytest.mark.parametrize("reset", [b"\x1bc", b"\x1b[!p"])
def test_a_reset_forgets_all_modes(reset: bytes) -> None:
    modes = Modes()
    modes.feed(b"\x1b[?1049h\x1b[?7l\x1b=")
    assert modes.other_screen
    assert modes.undo() == b"\x1b[?1049l\x1b[?7h\x1b>"
    modes.feed(reset)
    assert (modes.restore(), modes.undo(), modes.other_screen) == (b"", b"", False)


def test_what_restores_modes_and_what_undoes_them_leave_a_fresh_terminal() -> None:
    modes = Modes()
    modes.feed(b"\x1b[?25l\x1b[?2004h\x1b=")
    other = Modes()
    other.feed(modes.restore())
    other.feed(modes.undo())
    assert (other.restore(), other.undo()) == (b"", b"")
