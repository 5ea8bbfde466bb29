"""A log on disk: records of many streams in one sequence, in numbered segments, bounded in size.

A segment is named by the number of its first record. Numbers are contiguous from 1 for ever; a torn last line, left by a keeper that was
killed while it wrote, is cut off when the log is opened again. When the disk is full, records are dropped and counted per label; once
there is room again a record says how many. A log has one writer at a time (a lock on its directory).
"""

import fcntl
import os
import time
from collections.abc import Callable
from typing import BinaryIO, NamedTuple

from .records import DROPPED, LINE_BYTES, Groups, decode, encode

SUFFIX = ".log"
SEGMENT_BYTES = 4 * 1024 * 1024
TOTAL_BYTES = 64 * 1024 * 1024
SEGMENT_SECONDS = 24 * 3600.0
RETRY_SECONDS = 0.25
"""How long a full disk is left alone before the next attempt."""


class LogInUseError(Exception):
    """Another keeper writes to this log."""


class Limits(NamedTuple):
    """When a segment ends (a batch of records is never divided), and how much all of them may hold."""

    segment_bytes: int = SEGMENT_BYTES
    total_bytes: int = TOTAL_BYTES
    segment_seconds: float = SEGMENT_SECONDS


class Segment(NamedTuple):
    first: int
    size: int


def segment_name(first: int) -> str:
    return f"{first:020d}{SUFFIX}"


def list_segments(directory: str | os.PathLike[str]) -> list[Segment]:
    """The segments of a log, oldest first; none where there is no such directory."""
    found = []
    try:
        with os.scandir(directory) as entries:
            for entry in entries:
                stem = entry.name.removesuffix(SUFFIX)
                if stem.isdigit() and stem != entry.name:
                    try:
                        found.append(Segment(int(stem), entry.stat().st_size))
                    except FileNotFoundError:
                        continue
    except FileNotFoundError:
        return []
    return sorted(found)


def surplus(sizes: list[int], limits: Limits) -> int:
    """How many of the oldest segments must go so that a full new one still fits. Pure; the newest always stays."""
    total, count = sum(sizes), 0
    while count < len(sizes) - 1 and total + limits.segment_bytes > limits.total_bytes:
        total -= sizes[count]
        count += 1
    return count


class LogWriter:
    """Appends records; `advanced` is called with this writer after each success."""

    def __init__(
        self,
        directory: str,
        limits: Limits,
        *,
        advanced: Callable[["LogWriter"], None] = lambda _: None,
        monotonic: Callable[[], float] = time.monotonic,
        wall: Callable[[], float] = time.time,
    ) -> None:
        self.directory = directory
        self.limits = limits
        self.next = 1
        self.dropped: dict[bytes, int] = {}
        self._advanced = advanced
        self._monotonic = monotonic
        self._wall = wall
        self._fd = -1
        self._born_ms = 0
        self._closed: list[Segment] = []
        self._first = 1
        self._size = 0
        self._retry_at = 0.0
        os.makedirs(directory, mode=0o700, exist_ok=True)
        self._lock = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            os.close(self._lock)
            raise LogInUseError(directory) from error
        self._recover()

    def append(self, label: bytes, groups: Groups) -> None:
        """Writes the records, or counts them as dropped; never raises for a disk that is full or broken."""
        count = sum(len(texts) for _, texts in groups)
        if self.dropped and not self.tell_dropped():
            self._drop(label, count)
            return
        at_ms = int(self._wall() * 1000)
        written = self._write(encode(self.next, at_ms, label, groups), at_ms)
        if written < count:
            self._drop(label, count - written)
            self._retry_at = self._monotonic() + RETRY_SECONDS

    def tell_dropped(self) -> bool:
        """Writes how many records were dropped, if the disk takes it again; whether nothing is left to tell."""
        if self._monotonic() < self._retry_at:
            return not self.dropped
        for label, count in list(self.dropped.items()):
            at_ms = int(self._wall() * 1000)
            if not self._write(encode(self.next, at_ms, label, [(DROPPED, [b"%d" % count])]), at_ms):
                self._retry_at = self._monotonic() + RETRY_SECONDS
                return False
            del self.dropped[label]
        return True

    def close(self) -> None:
        for fd in (self._fd, self._lock):
            if fd >= 0:
                os.close(fd)
        self._fd = self._lock = -1

    def _drop(self, label: bytes, count: int) -> None:
        self.dropped[label] = self.dropped.get(label, 0) + count

    def _write(self, data: bytes, at_ms: int) -> int:
        """How many records of `data` are on disk now; what is torn is cut off."""
        written = 0
        try:
            self._make_room(len(data), at_ms)
            view = memoryview(data)
            while written < len(data):
                written += os.write(self._fd, view[written:])
        except OSError:
            written = self._cut_torn(data, written)
        count = data.count(b"\n", 0, written)
        self._size += written
        self.next += count
        if count:
            self._advanced(self)
        return count

    def _cut_torn(self, data: bytes, written: int) -> int:
        """Takes a half-written record back; how many bytes stay."""
        keep = data.rfind(b"\n", 0, written) + 1
        if keep < written:
            try:
                os.ftruncate(self._fd, self._size + keep)
            except OSError:
                self._size += self.limits.segment_bytes  # what stands there cannot be mended: go on in a new segment
        return keep

    def _make_room(self, length: int, at_ms: int) -> None:
        old = at_ms - self._born_ms > self.limits.segment_seconds * 1000
        if self._fd >= 0 and not (self._size and (self._size + length > self.limits.segment_bytes or old)):
            if not self._size:
                self._born_ms = at_ms
            return
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1
            self._closed.append(Segment(self._first, self._size))
            self._size = 0
        self._first, self._born_ms = self.next, at_ms
        sizes = [segment.size for segment in self._closed] + [0]
        for _ in range(surplus(sizes, self.limits)):
            self._forget_oldest()
        self._fd = self._open(self._first)

    def _forget_oldest(self) -> None:
        oldest = self._closed.pop(0)
        try:
            os.unlink(segment_name(oldest.first), dir_fd=self._lock)
        except FileNotFoundError:
            return

    def _open(self, first: int) -> int:
        flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_NOFOLLOW
        return os.open(segment_name(first), flags, 0o600, dir_fd=self._lock)

    def _recover(self) -> None:
        segments = list_segments(self.directory)
        if not segments:
            return
        *self._closed, last = segments
        path = os.path.join(self.directory, segment_name(last.first))
        with open(path, "rb") as file:
            quick = _ends_sound(file, last)
            self._born_ms, self.next, self._size = quick or sound_part(file.read(), last.first)
        self._first = last.first
        self._fd = self._open(last.first)
        os.ftruncate(self._fd, self._size)


def _ends_sound(file: BinaryIO, segment: Segment) -> tuple[int, int, int] | None:
    """The answer of `sound_part` from the first and the last line alone, or None when these do not tell."""
    first = decode(file.readline().rstrip(b"\n"))
    file.seek(max(segment.size - LINE_BYTES - 128, 0))
    lines = file.read().split(b"\n")
    file.seek(0)
    last = decode(lines[-2]) if len(lines) > 2 and not lines[-1] else None
    if first is None or last is None or first.seq != segment.first or last.seq < first.seq:
        return None
    return first[1], last.seq + 1, segment.size


def sound_part(data: bytes, first: int) -> tuple[int, int, int]:
    """Of a segment's bytes: the time of its first record, the number after its last sound record, the bytes up to there. Pure."""
    born_ms, seq, size = 0, first, 0
    while (end := data.find(b"\n", size)) >= 0:
        record = decode(data[size:end])
        if record is None or record.seq != seq:
            break
        born_ms = born_ms or record[1]
        seq, size = seq + 1, end + 1
    return born_ms, seq, size
