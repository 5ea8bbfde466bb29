"""A log on disk: numbers without a hole, segments within their bounds, torn ends and full disks survived."""

import errno
import os
import tempfile
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from colony_core.processes.keeper import segments
from colony_core.processes.keeper.records import decode
from colony_core.processes.keeper.segments import (
    Limits,
    LogInUseError,
    LogWriter,
    list_segments,
    segment_name,
    sound_part,
    surplus,
)
from colony_core.processes.ring_log import read_after


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


def write(writer: LogWriter, *texts: str, label: bytes = b"web") -> None:
    writer.append(label, [(b"o", [text.encode() for text in texts])])


def seqs(directory: Path) -> list[int]:
    return [line.seq for line in read_after(directory, 0, limit=10**6).lines]


def texts(directory: Path) -> list[str]:
    return [line.text for line in read_after(directory, 0, limit=10**6).lines]


@given(
    st.lists(st.lists(st.text("ab", max_size=30), min_size=1, max_size=5)), st.integers(1, 300), st.integers(1, 1500)
)
def test_rotation_keeps_numbers_contiguous_and_sizes_bounded(
    batches: list[list[str]], segment_bytes: int, total_bytes: int
) -> None:
    with tempfile.TemporaryDirectory() as name:
        directory = Path(name) / "log"
        writer = LogWriter(str(directory), Limits(segment_bytes, total_bytes))
        longest = 0
        for batch in batches:
            before = writer.next
            write(writer, *batch)
            assert writer.next == before + len(batch)
            longest = max(longest, sum(len(text) + 40 for text in batch))
            held = list_segments(directory)
            assert sum(segment.size for segment in held) <= max(total_bytes, segment_bytes) + longest
        writer.close()
        kept = seqs(directory)
        assert kept == list(range(writer.next - len(kept), writer.next))
        for segment, following in zip(list_segments(directory), list_segments(directory)[1:], strict=False):
            lines = (directory / segment_name(segment.first)).read_bytes().splitlines()
            assert segment.first + len(lines) == following.first


@given(st.lists(st.integers(0, 100), min_size=1), st.integers(1, 100), st.integers(1, 500))
def test_only_what_must_go_goes(sizes: list[int], segment_bytes: int, total_bytes: int) -> None:
    gone = surplus(sizes, Limits(segment_bytes, total_bytes))
    assert 0 <= gone < len(sizes)
    kept = sum(sizes[gone:])
    assert kept + segment_bytes <= total_bytes or gone == len(sizes) - 1
    if gone:
        assert sum(sizes[gone - 1 :]) + segment_bytes > total_bytes


@given(st.integers(0, 400), st.binary(max_size=20))
def test_whatever_end_a_crash_leaves_the_numbers_go_on(cut: int, garbage: bytes) -> None:
    with tempfile.TemporaryDirectory() as name:
        directory = Path(name)
        writer = LogWriter(name, Limits())
        write(writer, *(f"line {n}" for n in range(10)))
        writer.close()
        path = directory / segment_name(1)
        data = path.read_bytes()[:cut] + garbage
        path.write_bytes(data)
        _, following, sound = sound_part(data, 1)
        writer = LogWriter(name, Limits())
        assert writer.next == following
        assert path.stat().st_size == sound
        write(writer, "after")
        writer.close()
        assert seqs(directory) == list(range(1, following + 1))
        assert texts(directory)[-1] == "after"


def test_a_log_has_one_writer(tmp_path: Path) -> None:
    writer = LogWriter(str(tmp_path), Limits())
    with pytest.raises(LogInUseError):
        LogWriter(str(tmp_path), Limits())
    writer.close()
    LogWriter(str(tmp_path), Limits()).close()


def test_a_segment_ends_with_its_day_also_across_a_restart(tmp_path: Path) -> None:
    clock = Clock()
    for hours in (0, 1, 24, 25):
        clock.now = 1000.0 + hours * 3600 + 1
        writer = LogWriter(str(tmp_path), Limits(segment_seconds=24 * 3600), wall=clock)
        write(writer, f"{hours}")
        writer.close()
    assert [segment.first for segment in list_segments(tmp_path)] == [1, 4]
    assert texts(tmp_path) == ["0", "1", "24", "25"]


class FullDisk:
    """Stands for `os.write` on a disk with `room` bytes."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.room = 10**9
        self._write = os.write
        monkeypatch.setattr(segments.os, "write", self)

    def __call__(self, fd: int, data: memoryview) -> int:
        if not self.room:
            raise OSError(errno.ENOSPC, "full")
        written = self._write(fd, data[: self.room])
        self.room -= written
        return written


def test_a_full_disk_drops_lines_and_says_how_many(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    disk, clock = FullDisk(monkeypatch), Clock()
    writer = LogWriter(str(tmp_path), Limits(), monotonic=clock)
    write(writer, "before")
    disk.room = 50  # one record and a half
    write(writer, "one", "two", "three")
    write(writer, "four")
    write(writer, "five", label=b"api")
    assert seqs(tmp_path) == [1, 2]
    assert writer.dropped == {b"web": 3, b"api": 1}
    disk.room = 10**9
    write(writer, "six")
    assert writer.dropped == {b"web": 4, b"api": 1}, "a full disk is left alone for a moment"
    clock.now += 1
    write(writer, "seven")
    writer.close()
    lines = read_after(tmp_path, 0, limit=100).lines
    assert [(line.seq, line.service, line.stream, line.text) for line in lines] == [
        (1, "web", "out", "before"),
        (2, "web", "out", "one"),
        (3, "web", "dropped", "4"),
        (4, "api", "dropped", "1"),
        (5, "web", "out", "seven"),
    ]


def test_a_service_that_never_pauses_is_heard_again_soon(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    disk, clock = FullDisk(monkeypatch), Clock()
    writer = LogWriter(str(tmp_path), Limits(), monotonic=clock)
    disk.room = 0
    write(writer, "lost")
    disk.room = 10**9
    for _ in range(50):
        clock.now += 0.01
        write(writer, "again")
    writer.close()
    lines = read_after(tmp_path, 0, limit=100).lines
    assert lines[0].stream == "dropped"
    assert len(lines) - 1 + int(lines[0].text) == 51
    assert len(lines) > 20


@given(st.lists(st.tuples(st.integers(0, 120), st.integers(1, 4)), max_size=12))
def test_on_a_full_disk_every_line_is_there_or_counted(steps: list[tuple[int, int]]) -> None:
    with tempfile.TemporaryDirectory() as name, pytest.MonkeyPatch.context() as monkeypatch:
        disk, clock = FullDisk(monkeypatch), Clock()
        writer = LogWriter(name, Limits(200, 10**6), monotonic=clock)
        sent = 0
        for room, count in steps:
            disk.room = room
            clock.now += 1
            write(writer, *(str(sent + n) for n in range(count)))
            sent += count
        disk.room, clock.now = 10**9, clock.now + 1
        assert writer.tell_dropped()
        writer.close()
        lines = read_after(Path(name), 0, limit=10**6).lines
        assert [line.seq for line in lines] == list(range(1, writer.next))
        position = 0
        for line in lines:
            if line.stream == "dropped":
                position += int(line.text)
            else:
                assert int(line.text) == position
                position += 1
        assert position == sent


def test_the_files_are_for_their_owner_alone(tmp_path: Path) -> None:
    writer = LogWriter(str(tmp_path / "log"), Limits())
    write(writer, "secret")
    writer.close()
    assert (tmp_path / "log").stat().st_mode & 0o077 == 0
    assert (tmp_path / "log" / segment_name(1)).stat().st_mode & 0o077 == 0
    assert decode((tmp_path / "log" / segment_name(1)).read_bytes().rstrip(b"\n")) is not None
