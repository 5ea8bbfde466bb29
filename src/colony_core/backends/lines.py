"""JSON lines from a stream that somebody else writes: framed by hand, bounded, and never stopped by what is not JSON.

Agents print banners where they promised protocol, cut text in the middle of a character, and put whole files on one line.
"""

import re
from collections import deque
from typing import Any

import attrs
import trio

from colony_core import wire
from colony_core.errors import Invalid

LINE_BYTES = 64 * 1024 * 1024
READ_BYTES = 64 * 1024
TAIL_BYTES = 8 * 1024
SHOWN_CHARACTERS = 200

# An escaped backslash is taken as a whole, so that the text `\\ud800` is left alone; the second group is a half without the other.
_ESCAPES = re.compile(rb"\\(?:(u[dD][89abAB]..\\u[dD][c-fC-F]..)|(u[dD][89a-fA-F][0-9a-fA-F]{2})|.)", re.DOTALL)


@attrs.frozen
class Skipped:
    """A line that was passed over, and how it began. `cut` when it was the unfinished last one."""

    reason: str
    """`not-json`, `too-long` or `cut`."""
    start: str


class Framer:
    """Bytes to lines. Holds at most `limit` bytes of a line; the rest of a longer one is thrown away as it comes."""

    def __init__(self, limit: int = LINE_BYTES) -> None:
        self._limit = limit
        self._parts: list[bytes] = []
        self._size = 0

    def feed(self, data: bytes) -> list[bytes | Skipped]:
        """The lines that `data` completes."""
        found: list[bytes | Skipped] = []
        *lines, rest = data.split(b"\n")
        for line in lines:
            self._add(line)
            found.append(self._take())
        self._add(rest)
        return found

    def end(self) -> bytes | Skipped:
        """What stood behind the last line end; empty when nothing did."""
        return self._take()

    def _add(self, data: bytes) -> None:
        if data:
            self._size += len(data)
            if self._size <= self._limit or not self._parts:
                self._parts.append(data)
            else:
                del self._parts[1:]

    def _take(self) -> bytes | Skipped:
        whole, size = b"".join(self._parts), self._size
        self._parts, self._size = [], 0
        return whole if size <= self._limit else Skipped("too-long", shown(whole))


class Lines:
    """The lines of a stream, and `Skipped` in place of each that is too long; ends with the stream, or when it breaks.

    For one reader. Cancelling loses no line.
    """

    def __init__(self, stream: trio.abc.ReceiveStream, *, limit: int = LINE_BYTES) -> None:
        self._stream = stream
        self._framer = Framer(limit)
        self._ready: deque[bytes | Skipped] = deque()
        self.ended = False

    def __aiter__(self) -> "Lines":
        return self

    async def __anext__(self) -> bytes | Skipped:
        while not self._ready:
            if self.ended:
                raise StopAsyncIteration
            await self._read()
        return self._ready.popleft()

    async def _read(self) -> None:
        try:
            data = await self._stream.receive_some(READ_BYTES)
        except trio.BrokenResourceError:
            data = b""
        if data:
            self._ready.extend(self._framer.feed(bytes(data)))
            return
        self.ended = True
        if rest := self._framer.end():
            self._ready.append(rest)


class JsonLines:
    """The JSON objects of a stream, one a line, and `Skipped` in place of each line that is none; otherwise as `Lines`.

    What is not UTF-8, and halves of surrogate pairs, become replacement characters.
    """

    def __init__(self, stream: trio.abc.ReceiveStream, *, limit: int = LINE_BYTES) -> None:
        self._lines = Lines(stream, limit=limit)

    def __aiter__(self) -> "JsonLines":
        return self

    async def __anext__(self) -> dict[str, Any] | Skipped:
        async for line in self._lines:
            if isinstance(line, Skipped):
                return line
            if line and not line.isspace():
                found = parse_object(line)
                return found if found is not None else Skipped("cut" if self._lines.ended else "not-json", shown(line))
        raise StopAsyncIteration


class Tail:
    """The last bytes of a stream of text: what a program said before it ended."""

    def __init__(self, limit: int = TAIL_BYTES) -> None:
        self._limit = limit
        self._data = b""

    @property
    def text(self) -> str:
        return self._data.decode(errors="replace").strip()

    def feed(self, data: bytes) -> None:
        self._data = (self._data + data)[-self._limit :]

    async def drain(self, stream: trio.abc.ReceiveStream) -> None:
        """Reads to the end. Must run all the while: a full pipe would stall the program that writes."""
        try:
            while data := await stream.receive_some(READ_BYTES):
                self.feed(bytes(data))
        except trio.BrokenResourceError:
            return


def parse_object(line: bytes) -> dict[str, Any] | None:
    """The JSON object of a line, repaired where its text is not sound; None if it is none."""
    if not line.lstrip().startswith(b"{"):
        return None
    for attempt in (line, _repaired(line)) if b"\\u" in line or not line.isascii() else (line,):
        try:
            value = wire.parse_json(attempt)
        except Invalid:
            continue
        return value if isinstance(value, dict) else None
    return None


def shown(line: bytes) -> str:
    """The beginning of a line, fit to be shown."""
    return line[: 4 * SHOWN_CHARACTERS].decode(errors="replace").strip()[:SHOWN_CHARACTERS]


def _repaired(line: bytes) -> bytes:
    text = line.decode(errors="replace").encode()
    return _ESCAPES.sub(lambda found: rb"\ufffd" if found[2] else found[0], text)
