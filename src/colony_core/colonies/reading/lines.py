"""In which line of a TOML text each key stands; tomllib does not tell. Pure.

The scanner is given only what tomllib has accepted, so it looks for ends and checks nothing.
"""

import re
import tomllib
from bisect import bisect_left
from collections.abc import Mapping
from contextlib import suppress

Path = tuple[str | int, ...]

DEEPEST = 8
"""Keys below this depth are not noted: none of ours lies there, and a hostile text could make the notes grow with its square."""
MOST_ELEMENTS = 1000
"""Nor are elements of an array beyond this one: their lines are those of the array."""

_BLANK = re.compile(r"(?:[ \t\r\n]+|#[^\n]*)*")
_SPACE = re.compile(r"[ \t]*")
_BARE = re.compile(r"[A-Za-z0-9_-]+")
_PLAIN = re.compile(r"[^,\]}\n#]+")
_STRINGS = tuple(
    (opening, re.compile(pattern, re.DOTALL))
    for opening, pattern in (
        ('"""', r'"""(?:[^\\]|\\.)*?"""(?:"{0,2})'),
        ("'''", r"'''.*?'''(?:'{0,2})"),
        ('"', r'"(?:[^"\\]|\\.)*"'),
        ("'", r"'[^']*'"),
    )
)


def locate(text: str) -> Mapping[Path, int]:
    """The line of every table and key of a well-formed text, by path; elements of arrays are numbered from 0."""
    scanner = _Scanner(text)
    with suppress(RecursionError):  # arrays within arrays to no end: what was noted so far is right
        scanner.run()
    return scanner.lines


class _Scanner:
    def __init__(self, text: str) -> None:
        self.text = text
        self.at = 0
        self.lines: dict[Path, int] = {}
        self._ends = [found.start() for found in re.finditer("\n", text)]
        self._elements: dict[Path, int] = {}

    def run(self) -> None:
        table: Path = ()
        self._skip(_BLANK)
        while self.at < len(self.text):
            if self.text.startswith("[", self.at):
                table = self._header()
            else:
                self._pair(table)
            self._skip(_BLANK)

    def _header(self) -> Path:
        start = self.at
        array = self.text.startswith("[[", start)
        self.at += 2 if array else 1
        path: Path = ()
        parts = self._key()
        for number, part in enumerate(parts, 1):
            path = (*path, part)
            if array and number == len(parts):
                self._elements[path] = self._elements.get(path, -1) + 1
            if path in self._elements:
                path = (*path, self._elements[path])
        self._note(path, start)
        self.at += 2 if array else 1
        return path

    def _pair(self, table: Path) -> None:
        start = self.at
        path = (*table, *self._key())
        self._note(path, start)
        self.at += 1
        self._value(path)

    def _key(self) -> Path:
        parts: list[str] = []
        while True:
            self._skip(_SPACE)
            raw = self._string() or self._skip(_BARE)
            if len(parts) < DEEPEST:
                parts.append(tomllib.loads(f"key = {raw}")["key"] if raw[0] in "\"'" else raw)
            self._skip(_SPACE)
            if not self.text.startswith(".", self.at):
                return tuple(parts)
            self.at += 1

    def _value(self, path: Path) -> None:
        self._skip(_BLANK)
        opening = self.text[self.at]
        if opening == "[":
            self._items(path, "]")
        elif opening == "{":
            self._items(path, "}")
        elif not self._string():
            self._skip(_PLAIN)

    def _items(self, path: Path, closing: str) -> None:
        self.at += 1
        self._skip(_BLANK)
        number = 0
        while not self.text.startswith(closing, self.at):
            if closing == "}":
                self._pair(path)
            else:
                element = path
                if len(path) < DEEPEST and number < MOST_ELEMENTS:
                    element = (*path, number)
                    self._note(element, self.at)
                self._value(element)
            number += 1
            self._skip(_BLANK)
            if self.text.startswith(",", self.at):
                self.at += 1
                self._skip(_BLANK)
        self.at += 1

    def _string(self) -> str:
        for opening, pattern in _STRINGS:
            if self.text.startswith(opening, self.at):
                return self._skip(pattern)
        return ""

    def _skip(self, pattern: re.Pattern[str]) -> str:
        found = pattern.match(self.text, self.at)
        if found is None:
            return ""
        self.at = found.end()
        return found[0]

    def _note(self, path: Path, offset: int) -> None:
        line = bisect_left(self._ends, offset) + 1
        for length in range(min(len(path), DEEPEST), 0, -1):
            if self.lines.setdefault(path[:length], line) != line:
                return
