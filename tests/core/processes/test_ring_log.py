"""Reading a log by number: any page of it, by bisection, while it rotates."""

import tempfile
from itertools import accumulate
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from colony_core.processes import LogLine, Missed
from colony_core.processes.keeper.segments import Limits, LogWriter, list_segments, segment_name
from colony_core.processes.ring_log import PAGE_CHARACTERS, number_at, read_after, read_before

LIMITS = Limits()


def fill(directory: Path, count: int, *, limits: Limits = LIMITS, width: int = 0) -> None:
    writer = LogWriter(str(directory), limits, wall=lambda: 1.5)
    for n in range(1, count + 1):
        writer.append(b"even" if n % 2 == 0 else b"odd", [(b"o", [b"%d".ljust(width + 2) % n])])
    writer.close()


@pytest.fixture(scope="module")
def log(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """1000 lines in segments of about 100 KiB, so that bisection has something to do."""
    directory = tmp_path_factory.mktemp("log")
    fill(directory, 1000, limits=Limits(100_000, 10**9), width=300)
    return directory


def numbers(lines: tuple[LogLine, ...]) -> list[int]:
    assert all(int(line.text) == line.seq for line in lines)
    return seqs(lines)


def seqs(lines: tuple[LogLine, ...]) -> list[int]:
    return [line.seq for line in lines]


@given(st.integers(0, 1100), st.integers(0, 300))
def test_a_page_starts_after_its_number(log: Path, after: int, limit: int) -> None:
    page = read_after(log, after, limit=limit)
    assert numbers(page.lines) == list(range(after + 1, min(after + limit, 1000) + 1))
    assert (page.first, page.missed) == (1, None)
    assert page.last == 1000
    assert page.next == max(after, page.lines[-1].seq if page.lines else 0)


@given(st.integers(1, 1100), st.integers(0, 300), st.sampled_from(["odd", "even"]))
def test_a_page_before_a_number_ends_there(log: Path, before: int, limit: int, label: str) -> None:
    expected = list(range(1, min(before, 1001)))
    page = read_before(log, before, limit=limit)
    assert numbers(page.lines) == expected[max(len(expected) - limit, 0) :]
    own = [n for n in expected if n % 2 == (label == "odd")]
    page = read_before(log, before, limit=limit, labels=frozenset({label}))
    assert numbers(page.lines) == own[max(len(own) - limit, 0) :]


def test_the_tail_is_the_last_lines(log: Path) -> None:
    assert numbers(read_before(log, None, limit=3).lines) == [998, 999, 1000]
    assert numbers(read_before(log, None, limit=2, labels=frozenset({"odd"})).lines) == [997, 999]


def test_lines_of_others_move_the_cursor_along(log: Path) -> None:
    page = read_after(log, 0, limit=5, labels=frozenset({"nobody"}))
    assert (page.lines, page.next, page.last) == ((), 1000, 1000)


@pytest.mark.parametrize("labels", [None, frozenset({"web"})])
def test_long_lines_make_a_page_short(tmp_path: Path, labels: frozenset[str] | None) -> None:
    writer = LogWriter(str(tmp_path), Limits())
    for _ in range(6):
        writer.append(b"web", [(b"o", [b"x" * 60_000] * 50)])
    writer.close()
    fit = -(-PAGE_CHARACTERS // 60_000)
    page = read_after(tmp_path, 10, limit=1000, labels=labels)
    assert seqs(page.lines) == list(range(11, 11 + fit))
    assert (page.next, page.last) == (10 + fit, 300)
    page = read_before(tmp_path, None, limit=1000, labels=labels)
    assert seqs(page.lines) == list(range(301 - fit, 301))
    assert seqs(read_before(tmp_path, 200, limit=3, labels=labels).lines) == [197, 198, 199]


@given(st.lists(st.integers(0, 5), min_size=1, max_size=60), st.integers(-1, 310), st.booleans())
def test_a_moment_is_found_by_halving(steps: list[int], wanted: int, rotate: bool) -> None:
    times = [1_769_847_300_000 + at for at in accumulate(steps)]
    moment = 1_769_847_300_000 + wanted
    with tempfile.TemporaryDirectory() as name:
        clock = iter(times)
        now = [0.0]
        writer = LogWriter(name, Limits(200, 1000) if rotate else LIMITS, wall=lambda: now[0])
        for at in clock:
            now[0] = at / 1000
            writer.append(b"web", [(b"o", [b"text"])])
        writer.close()
        first = list_segments(Path(name))[0].first
        expected = next((n for n, at in enumerate(times, 1) if at >= moment), len(times) + 1)
        assert number_at(Path(name), moment / 1000) == max(expected, first)


def test_a_moment_in_a_log_that_was_never_written_is_its_first_line(tmp_path: Path) -> None:
    assert number_at(tmp_path / "none", 5.0) == 1


def test_what_rotation_took_is_told(tmp_path: Path) -> None:
    fill(tmp_path, 100, limits=Limits(500, 1500))
    first = list_segments(tmp_path)[0].first
    page = read_after(tmp_path, 10, limit=1000)
    assert first > 12
    assert page.missed == Missed(11, first - 1)
    assert numbers(page.lines) == list(range(first, 101))
    assert read_after(tmp_path, first - 1, limit=1).missed is None


def test_a_log_that_was_never_written_is_empty(tmp_path: Path) -> None:
    for page in (read_after(tmp_path / "none", 0, limit=5), read_before(tmp_path / "none", None, limit=5)):
        assert (page.lines, page.first, page.last, page.next) == ((), 1, 0, 0)


@given(st.integers(0, 200))
def test_a_line_that_is_being_written_is_not_there_yet(cut: int) -> None:
    with tempfile.TemporaryDirectory() as name:
        fill(Path(name), 10)
        path = Path(name) / segment_name(1)
        data = path.read_bytes()[:cut]
        path.write_bytes(data)
        page = read_after(Path(name), 0, limit=100)
        assert numbers(page.lines) == list(range(1, data.count(b"\n") + 1))
        assert page.last == data.count(b"\n")


def test_odd_bytes_are_shown(tmp_path: Path) -> None:
    writer = LogWriter(str(tmp_path), Limits())
    writer.append(b"web", [(b"o", [b"\xff\0\r\x1b[1m", "ü".encode()]), (b"E", [b"goes on"]), (b"n", [b"said"])])
    writer.close()
    lines = read_after(tmp_path, 0, limit=10).lines
    assert [(line.stream, line.text, line.continued) for line in lines] == [
        ("out", "\\xff\\x00\r\x1b[1m", False),
        ("out", "ü", False),
        ("err", "goes on", True),
        ("note", "said", False),
    ]
