"""Reading a log on disk by number, while its writer goes on; blocking, for a thread.

Every answer is made of what the folder holds at that moment: a segment that rotation takes away while it is read counts as forgotten.
"""

import math
import os
from collections import deque
from collections.abc import Iterable, Iterator
from itertools import pairwise
from pathlib import Path
from typing import Literal

import attrs

from .keeper.records import DROPPED, ERR, NOTE, OUT, Record, decode
from .keeper.segments import Segment, list_segments, segment_name

Stream = Literal["out", "err", "note", "dropped"]

PAGE_CHARACTERS = 8 * 1024 * 1024
"""A page ends, or begins, where its lines hold about so many: whoever writes long lines would else fill the memory of who reads them."""
READ_BYTES = 256 * 1024
BISECT_BYTES = 4 * 1024
"""Below this a segment is searched from the front."""

FLOAT_NOISE = 0.001
"""Of a moment in milliseconds that was a float of seconds: the last bit of those is about 0.0002 ms."""

_STREAMS: dict[bytes, Stream] = {OUT: "out", ERR: "err", NOTE: "note", DROPPED: "dropped"}


@attrs.frozen
class LogLine:
    """One record of a log."""

    seq: int
    at: float
    """Unix seconds."""
    service: str
    stream: Stream
    """`dropped`: the disk was full, and `text` says how many lines of this service are missing here."""
    text: str
    """Bytes that are not UTF-8, and NULs, are shown as `\\xff`."""
    continued: bool = False
    """The line goes on in the next record of the same service and stream."""


@attrs.frozen
class Missed:
    """Lines `first` to `last` that rotation took away before they were read."""

    first: int
    last: int


@attrs.frozen
class Page:
    """Some lines of a log, oldest first; `first` and `last` are the numbers that the whole log holds (last = first - 1: none).

    `next` is where to go on with `after`; it is ahead of the last line where lines of other services were left out.
    """

    lines: tuple[LogLine, ...]
    first: int
    last: int
    next: int
    missed: Missed | None = None


def read_after(directory: Path, after: int, *, limit: int, labels: frozenset[str] | None = None) -> Page:
    """Up to `limit` lines with a number above `after`, fewer where they are long, and which were already forgotten."""
    segments = list_segments(directory)
    first, last = _bounds(directory, segments)
    missed = Missed(after + 1, first - 1) if after + 1 < first else None
    lines: list[LogLine] = []
    reached, held = max(after, first - 1), 0
    for record in _records_from(directory, segments, reached + 1):
        if len(lines) >= limit or held >= PAGE_CHARACTERS:
            break
        reached = record.seq
        if (line := _line(record, labels)) is not None:
            lines.append(line)
            held += len(line.text)
    return Page(tuple(lines), first, max(last, lines[-1].seq if lines else 0), reached, missed)


def read_before(directory: Path, before: int | None, *, limit: int, labels: frozenset[str] | None = None) -> Page:
    """The last `limit` lines with a number below `before`, fewer where they are long; of the whole log where that is None."""
    segments = list_segments(directory)
    first, last = _bounds(directory, segments)
    end = min(before or last + 1, last + 1)
    if labels is None:
        lines = _newest(_lines(directory, segments, max(end - limit, first), end, None), limit)
        return Page(lines, first, last, end - 1)
    lines = ()
    for segment in reversed([segment for segment in segments if segment.first < end]):
        found = (*_newest(_lines(directory, [segment], segment.first, end, labels), limit), *lines)
        lines = _newest(found, limit)
        if len(lines) >= limit or len(lines) < len(found):
            break
    return Page(lines, first, last, end - 1)


def _lines(
    directory: Path, segments: list[Segment], start: int, end: int, labels: frozenset[str] | None
) -> Iterator[LogLine]:
    for record in _records_from(directory, segments, start):
        if record.seq >= end:
            return
        if (line := _line(record, labels)) is not None:
            yield line


def _newest(lines: Iterable[LogLine], limit: int) -> tuple[LogLine, ...]:
    """The last ones that fit into a page."""
    kept: deque[LogLine] = deque()
    held = 0
    for line in lines:
        kept.append(line)
        held += len(line.text)
        while kept and (len(kept) > limit or held - len(kept[0].text) >= PAGE_CHARACTERS):
            held -= len(kept.popleft().text)
    return tuple(kept)


def number_at(directory: Path, at: float) -> int:
    """The number of the first line that was written at or after `at` (Unix seconds), or the next one to be written.

    Found by halving, so that it costs the same in any log; while the clock was set back it is one of several answers.
    """
    wanted = math.ceil(at * 1000 - FLOAT_NOISE)
    segments = list_segments(directory)
    first, last = _bounds(directory, segments)
    low, high = first, last + 1
    while low < high:
        middle = (low + high) // 2
        record = next(_records_from(directory, segments, middle), None)
        if record is not None and record[1] < wanted:
            low = middle + 1
        else:
            high = middle
    return low


def _bounds(directory: Path, segments: list[Segment]) -> tuple[int, int]:
    """The numbers of the oldest and the newest record."""
    if not segments:
        return 1, 0
    newest = segments[-1]
    for record in _backwards_last(directory, newest):
        return segments[0].first, record.seq
    return segments[0].first, newest.first - 1


def _backwards_last(directory: Path, segment: Segment) -> Iterator[Record]:
    """The last whole record of a segment, if there is one."""
    wanted = 4096
    while True:
        start = max(segment.size - wanted, 0)
        lines = _read_at(directory, segment, start, segment.size - start).split(b"\n")
        if len(lines) > (2 if start else 1):
            if (record := decode(lines[-2])) is not None:
                yield record
            return
        if start == 0:
            return
        wanted *= 8


def _records_from(directory: Path, segments: list[Segment], seq: int) -> Iterator[Record]:
    """All records from `seq` on; ends at the first that is torn or out of order."""
    starts = [segment.first for segment in segments]
    skip = sum(1 for _, following in pairwise(starts) if following <= seq)
    for segment in segments[skip:]:
        offset = _find(directory, segment, seq)
        expected = None
        for record in _records_at(directory, segment, offset):
            if expected is not None and record.seq != expected:
                return
            expected = record.seq + 1
            if record.seq >= seq:
                yield record


def _find(directory: Path, segment: Segment, seq: int) -> int:
    """An offset at the start of a record that is not behind `seq`, near to it."""
    if seq <= segment.first:
        return 0
    low, high = 0, segment.size
    while high - low > BISECT_BYTES:
        middle = (low + high) // 2
        found = _first_record_at(directory, segment, middle, high)
        if found is None or found[1].seq > seq:
            high = middle
        else:
            low = found[0]
    return low


def _first_record_at(directory: Path, segment: Segment, offset: int, end: int) -> tuple[int, Record] | None:
    """The first record that starts behind `offset` and ends before `end`, with its own offset."""
    data = b""
    while True:
        chunk = _read_at(directory, segment, offset + len(data), min(4096, end - offset - len(data)))
        data += chunk
        start = data.find(b"\n") + 1
        stop = data.find(b"\n", start) if start else -1
        if stop >= 0:
            record = decode(data[start:stop])
            return None if record is None else (offset + start, record)
        if not chunk:
            return None


def _records_at(directory: Path, segment: Segment, offset: int) -> Iterator[Record]:
    rest = b""
    size = READ_BYTES // 16
    while chunk := _read_at(directory, segment, offset, size):
        offset += len(chunk)
        size = min(2 * size, READ_BYTES)  # a page may be much smaller, and what is behind it is read in vain
        *lines, rest = (rest + chunk).split(b"\n")
        for line in lines:
            if (record := decode(line)) is None:
                return
            yield record


def _read_at(directory: Path, segment: Segment, offset: int, size: int) -> bytes:
    try:
        fd = os.open(directory / segment_name(segment.first), os.O_RDONLY | os.O_CLOEXEC)
    except FileNotFoundError:
        return b""
    try:
        return os.pread(fd, size, offset)
    finally:
        os.close(fd)


def _line(record: Record, labels: frozenset[str] | None) -> LogLine | None:
    seq, at_ms, label, kind, text = record
    service = label.decode("ascii", "backslashreplace")
    if labels is not None and service not in labels:
        return None
    stream = _STREAMS.get(kind.lower())
    if stream is None:
        return None
    shown = text.decode("utf-8", "backslashreplace").replace("\0", "\\x00")
    return LogLine(seq, at_ms / 1000, service, stream, shown, kind.isupper())
