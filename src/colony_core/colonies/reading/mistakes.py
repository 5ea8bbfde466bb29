"""What is wrong with a manifest, collected so that all of it is told at once. Pure.

A Table hands its keys to checks one by one, notes the mistakes with their lines, and at its end refuses the keys that nobody asked for.
"""

import re
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import attrs

from colony_core.errors import Invalid, did_you_mean

from .lines import Path

DOCS = "see docs/manifest.md"
MOST_MISTAKES = 100


class Mistake(Exception):
    """One thing that is wrong; `below` leads from the checked key to the place."""

    def __init__(self, message: str, hint: str = DOCS, *, code: str = "invalid-manifest", below: Path = ()) -> None:
        super().__init__(message)
        self.message, self.hint, self.code, self.below = message, hint, code, below
        self.nearest = ""


@attrs.define
class Mistakes:
    """Every mistake of one text, and in the end the error that tells them."""

    where: str
    lines: Callable[[], Mapping[Path, int]]
    _found: list[dict[str, Any]] = attrs.field(factory=list)

    def add(self, mistake: Mistake, path: Path, *, at: Path | None = None) -> None:
        """Notes `mistake` at `path`; `at` is the path as the text spells it, where that differs."""
        if len(self._found) >= MOST_MISTAKES:
            return
        entry = {
            "code": mistake.code,
            "message": mistake.message,
            "hint": mistake.hint,
            "path": dotted((*path, *mistake.below)),
            "line": self.line((*(path if at is None else at), *mistake.below)),
        }
        if mistake.nearest:
            entry["nearest"] = mistake.nearest
        self._found.append(entry)

    def line(self, at: Path) -> int | None:
        """The line of `at`, or of the nearest thing around it that the text has."""
        lines = self.lines()
        return next((lines[at[:length]] for length in range(len(at), 0, -1) if at[:length] in lines), None)

    def tell(self) -> None:
        """Raises Invalid if there were any; the first one by line is its message."""
        if not self._found:
            return
        found = sorted(self._found, key=lambda entry: entry["line"] or 0)
        first = found[0]
        place = self.where if first["line"] is None else f"{self.where}:{first['line']}"
        more = f" (and {len(found) - 1} more mistake{'s' * (len(found) > 2)})" if len(found) > 1 else ""
        path = f"{first['path']}: " if first["path"] else ""
        raise Invalid(
            first["code"],
            f"{place}: {path}{first['message']}{more}",
            first["hint"],
            details={
                "file": self.where,
                **{k: first[k] for k in ("path", "line", "nearest") if k in first},
                "errors": found,
            },
        )


class Table:
    """One table of the text, whose keys are taken one by one."""

    def __init__(self, raw: Mapping[str, Any], path: Path, mistakes: Mistakes, *, at: Path | None = None) -> None:
        self.path = path
        self._left = dict(raw)
        self._at = path if at is None else at
        self._mistakes = mistakes
        self._known: list[str] = []

    def has(self, key: str) -> bool:
        """Whether the text gave `key`."""
        return key in self._left

    def take(self, key: str, check: Callable[[Any], Any], default: Any = None) -> Any:
        """The checked value of `key`, or `default` where there is none or it is wrong."""
        self._known.append(key)
        if key not in self._left:
            return default
        value = self._left.pop(key)
        try:
            return check(value)
        except Mistake as mistake:
            self.wrong(mistake, key)
        return default

    def below(self, key: str, check: Callable[[Any], Any]) -> "Table":
        """The table at `key`, empty where there is none."""
        return Table(self.take(key, check, {}), (*self.path, key), self._mistakes, at=(*self._at, key))

    def wrong(self, mistake: Mistake, *below: str | int) -> None:
        """Notes a mistake at this table or a key of it."""
        self._mistakes.add(mistake, (*self.path, *below), at=(*self._at, *below))

    def finish(self, instead: Mapping[str, str] | None = None) -> None:
        """Refuses what is left; `instead` says what to write for words that people know from elsewhere."""
        for key in self._left:
            self.wrong(unknown_key(key, self._known, instead or {}), key)


def unknown_key(key: str, known: Iterable[str], instead: Mapping[str, str]) -> Mistake:
    """The mistake of a key that does not exist."""
    known = sorted(known)
    nearest = did_you_mean(key, known)
    guess = f"did you mean {nearest}?" if nearest else f"known here: {', '.join(known)}"
    hint = instead.get(key, guess)
    mistake = Mistake(f"unknown key {shortened(key)}", hint, code="unknown-key")
    mistake.nearest = nearest
    return mistake


def dotted(path: Path) -> str:
    """A path for people: `services.web.port`, `setup.commands[1]`."""
    text = ""
    for part in path:
        if isinstance(part, int):
            text += f"[{part}]"
        else:
            shown = part if re.fullmatch(r"[A-Za-z0-9_-]{1,64}", part) else shortened(part)
            text += f".{shown}" if text else shown
    return text


def shortened(value: Any) -> str:
    """`repr` of a value, cut where it is long."""
    try:
        text = repr(value)
    except ValueError:  # more digits than Python prints
        return "with very many digits"
    return text if len(text) <= 60 else f"{text[:56]}…{text[-1]}"
