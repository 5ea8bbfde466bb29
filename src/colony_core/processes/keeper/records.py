r"""The line format of a log. Pure.

One record is one line: `<seq> <unix-ms> <label> <kind> <text>\n`. `text` holds the bytes of the service unchanged (also NULs, `\r` and
what is not UTF-8), so nothing is lost on disk; readers make odd bytes visible. Kinds: `o` output, `e` errors, `n` a note of Colony's own,
`!` lines that were dropped (text: how many). `O` and `E` say that the line goes on in the next record of the same label and stream.
"""

import re
from collections.abc import Iterator

LINE_BYTES = 64 * 1024
"""A longer line is cut into several records."""

OUT, ERR, NOTE, DROPPED = b"o", b"e", b"n", b"!"

_LABEL = re.compile(r"[A-Za-z0-9][A-Za-z0-9._@-]{0,63}", re.ASCII)

Groups = list[tuple[bytes, list[bytes]]]
"""Texts in order, each group with the kind that all its records share."""


class Record(tuple[int, int, bytes, bytes, bytes]):
    """One parsed line: seq, unix milliseconds, label, kind, text."""

    __slots__ = ()

    @property
    def seq(self) -> int:
        return self[0]


def is_label(text: str) -> bool:
    """Whether a label can stand in a record: letters, digits, `._@-`, at most 64."""
    return _LABEL.fullmatch(text) is not None


def encode(first: int, at_ms: int, label: bytes, groups: Groups) -> bytes:
    """The records of `groups`, numbered from `first`."""
    parts: list[bytes] = []
    for kind, texts in groups:
        head = b" %d %b %b " % (at_ms, label, kind)
        parts.extend([b"%d%b%b\n" % (seq, head, text) for seq, text in enumerate(texts, first)])
        first += len(texts)
    return b"".join(parts)


def decode(line: bytes) -> Record | None:
    """The record in a line without its line feed, or None where there is none (a torn or foreign line)."""
    parts = line.split(b" ", 4)
    if len(parts) != 5 or not (parts[0].isdigit() and parts[1].isdigit()) or len(parts[3]) != 1:
        return None
    return Record((int(parts[0]), int(parts[1]), parts[2], parts[3], parts[4]))


class Splitter:
    """Cuts the bytes of one stream into texts of records; keeps the unfinished last line until its rest arrives."""

    def __init__(self, kind: bytes) -> None:
        self.kind = kind
        self.rest = b""

    def feed(self, chunk: bytes) -> Groups:
        """The records that `chunk` completes."""
        longest = len(self.rest) + len(chunk)
        lines = (self.rest + chunk).split(b"\n")
        self.rest = lines.pop()
        groups: Groups = [(self.kind, lines)] if longest <= LINE_BYTES else list(self._cut_all(lines))
        if len(self.rest) > LINE_BYTES:
            *pieces, self.rest = _pieces(self.rest)
            groups.append((self.kind.upper(), pieces))
        return [group for group in groups if group[1]]

    def pause(self) -> Groups:
        """The unfinished line, said to go on; for a prompt that waits for an answer."""
        rest, self.rest = self.rest, b""
        return [(self.kind.upper(), [rest])] if rest else []

    def end(self) -> Groups:
        """The unfinished line, at the end of the stream."""
        rest, self.rest = self.rest, b""
        return [(self.kind, [rest])] if rest else []

    def _cut_all(self, lines: list[bytes]) -> Iterator[tuple[bytes, list[bytes]]]:
        for line in lines:
            *pieces, last = _pieces(line)
            if pieces:
                yield self.kind.upper(), pieces
            yield self.kind, [last]


def _pieces(line: bytes) -> list[bytes]:
    """The line in parts of at most LINE_BYTES, never through the middle of a UTF-8 character."""
    pieces = []
    while len(line) > LINE_BYTES:
        end = LINE_BYTES
        while end > LINE_BYTES - 4 and line[end] & 0xC0 == 0x80:
            end -= 1
        if line[end] & 0xC0 == 0x80:
            end = LINE_BYTES
        pieces.append(line[:end])
        line = line[end:]
    return [*pieces, line]
