"""Where a message's body ends, found without copying or decoding it. Pure.

Each kind has `feed(data)`, which says how many bytes of `data` belong to the body and are checked, and whether the body is complete.
Bytes after that (half a chunk's line) are kept by the caller and fed again in front of what comes next.
"""

import re
from typing import Protocol

CHUNKED = -1
UNTIL_CLOSE = -2
"""In place of a length: how the body says where it ends."""

_MAX_LINE_BYTES = 4096
_MAX_TRAILER_BYTES = 16384
_SIZE = re.compile(rb"([0-9a-fA-F]{1,15})(?:[ \t]*;[\t\x20-\x7e\x80-\xff]*+)?\r\n")
_TRAILER = re.compile(rb"([!#$%&'*+.^_`|~0-9A-Za-z-]++):[\t\x20-\x7e\x80-\xff]*+\r\n")
_NEVER_IN_TRAILERS = re.compile(
    rb"host|connection|content-.*|transfer-encoding|upgrade|te|trailer|expect|cookie|set-cookie|authorization|proxy-.*|x[-_]forwarded.*|forwarded",
    re.IGNORECASE,
)


class BadFraming(Exception):
    """The body is not framed as HTTP/1.1 demands; nothing after it can be trusted."""


class Body(Protocol):
    """A body that is passing by."""

    def feed(self, data: bytes) -> tuple[int, bool]:
        """How many bytes of `data` may pass, and whether the body ends there; raises BadFraming."""


def body_of(length: int) -> Body:
    """The watcher for a body of `length` bytes, or `CHUNKED`, or `UNTIL_CLOSE`."""
    if length >= 0:
        return Counted(length)
    return Chunked() if length == CHUNKED else Endless()


class Counted:
    """A body whose length is told."""

    def __init__(self, length: int) -> None:
        self._left = length

    def feed(self, data: bytes) -> tuple[int, bool]:
        """See Body."""
        size = len(data)
        if size < self._left:
            self._left -= size
            return size, False
        size, self._left = self._left, 0
        return size, True


class Endless:
    """A body that ends where its connection does."""

    def feed(self, data: bytes) -> tuple[int, bool]:
        """See Body."""
        return len(data), False


class Chunked:
    """A chunked body. Strict: every line ends with CRLF, sizes are hexadecimal, trailers are fields and harmless ones."""

    def __init__(self) -> None:
        self._left = 0
        self._in_chunk = False
        self._in_trailer = False
        self._trailer_bytes = 0

    def feed(self, data: bytes) -> tuple[int, bool]:
        """See Body."""
        at, size = 0, len(data)
        while True:
            if self._in_trailer:
                return self._trailer(data, at)
            if self._in_chunk:
                if size - at < self._left:
                    self._left -= size - at
                    return size, False
                end = at + self._left
                if size - end < 2:
                    self._left = 0
                    if data[end:] not in (b"", b"\r"):
                        raise BadFraming("a chunk is longer than it says")
                    return end, False
                if data[end : end + 2] != b"\r\n":
                    raise BadFraming("a chunk is longer than it says")
                at = end + 2
                self._in_chunk = False
            found = _SIZE.match(data, at)
            if found is None:
                return _incomplete(data, at), False
            if found.end() - at > _MAX_LINE_BYTES:
                raise BadFraming("a chunk's line is too long")
            at = found.end()
            self._left = int(found[1], 16)
            self._in_chunk = self._left > 0
            self._in_trailer = self._left == 0

    def _trailer(self, data: bytes, at: int) -> tuple[int, bool]:
        while not data.startswith(b"\r\n", at):
            found = _TRAILER.match(data, at)
            if found is None:
                return _incomplete(data, at), False
            self._trailer_bytes += found.end() - at
            if self._trailer_bytes > _MAX_TRAILER_BYTES or _NEVER_IN_TRAILERS.fullmatch(found[1]):
                raise BadFraming("a trailer that may not be one")
            at = found.end()
        return at + 2, True


def _incomplete(data: bytes, at: int) -> int:
    """`at`, when more bytes may still complete the line that begins there."""
    if b"\n" in data[at : at + _MAX_LINE_BYTES] or len(data) - at >= _MAX_LINE_BYTES:
        raise BadFraming("a line of a chunked body is malformed")
    return at
