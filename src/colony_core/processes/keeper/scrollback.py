"""What a terminal has said last, as bytes with places; and in which modes it was left. Pure.

A *place* is the number of bytes that came before, counted from the terminal's first one.
"""

import re
from collections import deque
from typing import NamedTuple

BLOCK_BYTES = 64 * 1024
LINE_BYTES_MAX = 4096
"""How far a cut is moved to fall between two lines."""
JUMP_PART = 4
"""Who fell behind goes on at the newest part of what is kept, one of so many: what is old is of no use to the slow."""

_SWITCH = re.compile(rb"\x1b(?:\[\?([0-9;]{1,64})([hl])|([=>])|(c|\[!p))")
_SEQUENCE_BYTES_MAX = 72
_ON_AT_FIRST = frozenset({b"7", b"25"})
"""Line wrap and the cursor; every other private mode is off in a fresh terminal."""


class Modes:
    """Private modes (other screen, cursor, mouse, pasting …) and keypad of a terminal, as the bytes that it was fed have set them."""

    def __init__(self) -> None:
        self._modes: dict[bytes, bool] = {}
        self._keypad = False
        self._rest = b""

    def feed(self, data: bytes) -> None:
        """Takes the next bytes; a sequence may be cut anywhere between two calls."""
        data = self._rest + data
        end = 0
        for found in _SWITCH.finditer(data):
            end = found.end()
            numbers, switch, keypad, reset = found.groups()
            if reset:
                self._modes.clear()
                self._keypad = False
            elif keypad:
                self._keypad = keypad == b"="
            else:
                for number in filter(None, numbers.split(b";")):
                    self._modes.pop(number, None)  # the last that was switched comes last again
                    self._modes[number] = switch == b"h"
        begun = data.rfind(b"\x1b", max(end, len(data) - _SEQUENCE_BYTES_MAX))
        self._rest = data[begun:] if begun >= 0 else b""

    def copy(self) -> "Modes":
        other = Modes()
        other._modes, other._keypad, other._rest = dict(self._modes), self._keypad, self._rest
        return other

    @property
    def other_screen(self) -> bool:
        """Whether a full-screen program has the screen for itself."""
        return any(self._modes.get(number, False) for number in (b"47", b"1047", b"1049"))

    def restore(self) -> bytes:
        """What brings a fresh terminal into these modes."""
        return b"".join(_switch(*each) for each in self._changed()) + (b"\x1b=" if self._keypad else b"")

    def undo(self) -> bytes:
        """What brings a terminal in these modes back to those of a fresh one."""
        changed = b"".join(_switch(number, not on) for number, on in self._changed())
        return changed + (b"\x1b>" if self._keypad else b"")

    def _changed(self) -> list[tuple[bytes, bool]]:
        return [(number, on) for number, on in self._modes.items() if on != (number in _ON_AT_FIRST)]


class Begin(NamedTuple):
    """Where a viewer begins or goes on: at `at`, with `missed` bytes before it gone, and what restores the modes that were left there."""

    at: int
    missed: int
    restore: bytes


class Scrollback:
    """The last bytes of a terminal, at most about `limit` of them; what goes, goes in blocks."""

    def __init__(self, limit: int) -> None:
        self.start = 0
        self.end = 0
        self._limit = limit
        self._blocks: deque[bytearray] = deque()
        self._before = Modes()

    def add(self, data: bytes) -> None:
        if not self._blocks or len(self._blocks[-1]) >= min(BLOCK_BYTES, self._limit // JUMP_PART + 1):
            self._blocks.append(bytearray())
        self._blocks[-1] += data
        self.end += len(data)
        while len(self._blocks) > 1 and self.end - self.start - len(self._blocks[0]) >= self._limit:
            gone = self._blocks.popleft()
            self._before.feed(bytes(gone))
            self.start += len(gone)

    def read(self, at: int, most: int) -> bytes:
        """Some bytes from `at` on, nothing at the end; `at` must not be before the start."""
        first = self.end
        for block in reversed(self._blocks):
            first -= len(block)
            if first <= at:
                return bytes(block[at - first : at - first + most])
        return b""

    def begin(self, after: int | None) -> Begin:
        """Behind the place `after`, as far as that is kept; without it, at the oldest that is."""
        if after is None:
            return self._cut(self.start, missed_from=0) if self.start else Begin(0, 0, b"")
        if after >= self.start:
            return Begin(min(after, self.end), 0, b"")
        return self._cut(max(self.start, self.end - self._limit // JUMP_PART), missed_from=after)

    def _cut(self, at: int, *, missed_from: int) -> Begin:
        """A clean beginning near `at`: behind the end of a line, if there is one, and never inside a character."""
        line = self._span(at, LINE_BYTES_MAX)
        found = line.find(b"\n") + 1
        if not found:
            found = next((n for n, byte in enumerate(line[:4]) if byte & 0xC0 != 0x80), 0)
        modes = self._before.copy()
        place = self.start
        while place < at + found:
            data = self.read(place, at + found - place)
            modes.feed(data)
            place += len(data)
        return Begin(place, place - missed_from, modes.restore())

    def _span(self, at: int, most: int) -> bytes:
        """As `read`, across blocks."""
        found = b""
        while len(found) < most and (data := self.read(at + len(found), most - len(found))):
            found += data
        return found


def _switch(number: bytes, on: bool) -> bytes:
    return b"\x1b[?%s%s" % (number, b"h" if on else b"l")
