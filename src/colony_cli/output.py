"""Tables for people, JSON for programs, colour where it is welcome. The only place that prints.

Results go to stdout; progress, warnings, hints and errors to stderr.
"""

import json
import os
import re
import sys
from collections.abc import Callable, Mapping, Sequence
from typing import IO, Any

from colony_core.errors import ColonyError, Invalid, did_you_mean

from .tables import Cell, Column, aligned, tabbed
from .words import clean, shape_of

_CODES = {"green": "32", "blue": "34", "grey": "90", "amber": "33", "red": "31", "bold": "1"}
_STEERING = re.compile("[\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069]")
"""What JSON lets pass though it ends lines or turns their direction: C1 controls, separators, marks of direction."""
_FIELD = re.compile(r"\{\{|\}\}|\{([a-zA-Z0-9_.]*)\}|[{}]")
_ESCAPES = {"\\t": "\t", "\\n": "\n", "\\\\": "\\"}
_NEAREST = "did you mean "


class Output:
    """How this run speaks. Plain attributes: `terminal` (stdout is one), `json`, `quiet`, `format`, `wide`, `verbose`, `width`."""

    def __init__(self, stdout: IO[str], stderr: IO[str], environ: Mapping[str, str]) -> None:
        self.stdout, self.stderr = stdout, stderr
        self.environ = environ
        self.terminal = stdout.isatty()
        self.progress = stderr.isatty()
        self.json = self.quiet = self.wide = self.no_color = self.streams = False
        self.format = ""
        self.verbose = 0
        self.ascii = environ.get("COLONY_ASCII", "0") not in ("", "0") or not _speaks_unicode(stdout)
        self.ellipsis = "..." if self.ascii else "…"

    @property
    def colour(self) -> bool:
        """Whether stdout gets colours."""
        return self._coloured(self.terminal)

    @property
    def width(self) -> int | None:
        """Columns of the terminal; None where lines are not cut."""
        return None if self.wide or not self.terminal else _columns(self.stdout, self.environ)

    def paint(self, text: str, colour: str) -> str:
        """`text` for stdout in a colour, or in bold."""
        return f"\x1b[{_CODES[colour]}m{text}\x1b[0m" if self.colour else text

    def state(self, word: str) -> Cell:
        """A state as shape and word; the word alone for programs."""
        if not self.terminal and not self.colour:
            return Cell(clean(word))
        shape = shape_of(word)
        return Cell(f"{self.mark(word)} {clean(word)}", lambda text: self.paint(text, shape.colour))

    def mark(self, state: str) -> str:
        """The shape of a state, without colour."""
        shape = shape_of(state)
        return shape.ascii if self.ascii else shape.mark

    # results

    def results(self, views: Sequence[Mapping[str, Any]], table: Callable[[], None], *, name: str = "name") -> None:
        """Many views: one JSON array, or names, or by format, or `table()`."""
        if self.json:
            self.value(list(views))
        elif self.quiet:
            self.lines(clean(view[name]) for view in views)
        elif self.format:
            self.lines([formatted(self.format, view) for view in views])
        else:
            table()

    def result(self, view: Mapping[str, Any], show: Callable[[], None], *, name: str = "name") -> None:
        """One view: one JSON object, or its name, or by format, or `show()`."""
        if self.json:
            self.value(view)
        else:
            self.results([view], show, name=name)

    def table(self, columns: Sequence[Column], rows: Sequence[Sequence[Cell]]) -> None:
        """A table, cut to the terminal; fields between tabs where there is none."""
        if self.terminal or self.colour:
            lines = aligned(columns, rows, width=self.width, ellipsis=self.ellipsis)
            self.lines([self.paint(lines[0], "bold"), *lines[1:]])
        else:
            self.lines(tabbed(columns, rows))

    def value(self, value: object) -> None:
        """JSON: indented for people, on one line for programs and in streams."""
        self._write(self.stdout, _json(value, indent=2 if self.terminal and not self.streams else None) + "\n")

    def item(self, value: object) -> None:
        """One object of a stream, on one line."""
        self._write(self.stdout, _json(value) + "\n")

    def line(self, text: str) -> None:
        """One line on stdout; whatever came from outside must be `clean`."""
        self._write(self.stdout, text + "\n")

    def clear(self) -> None:
        """Empties the screen."""
        self._write(self.stdout, "\x1b[H\x1b[2J")

    def lines(self, lines: Any) -> None:
        """Many lines on stdout."""
        self._write(self.stdout, "".join(line + "\n" for line in lines))

    def flush(self) -> None:
        """Gives what was printed to whoever reads; a closed pipe is told here."""
        self.stdout.flush()

    # beside the results

    def note(self, text: str, colour: str = "") -> None:
        """A line of progress, a warning or a hint on stderr."""
        painted = f"\x1b[{_CODES[colour]}m{text}\x1b[0m" if colour and self._coloured(self.progress) else text
        self.stdout.flush()
        self._write(self.stderr, painted + "\n")
        self.stderr.flush()

    def urgent(self, text: str) -> None:
        """A line on stderr from within a signal handler, where the stream itself may be in the middle of a word."""
        os.write(
            self.stderr.fileno(),
            (text + "\n").encode(getattr(self.stderr, "encoding", None) or "utf-8", "backslashreplace"),
        )

    def transient(self, text: str) -> None:
        """What is being waited for, on a line that the next one takes; only where stderr is a terminal."""
        if self.progress and self.environ.get("TERM") != "dumb":
            self._write(self.stderr, f"\r\x1b[2K{text}")
            self.stderr.flush()

    def ask(self, question: str) -> bool:
        """Shows a question on stderr; False where that is no terminal."""
        if self.progress:
            self._write(self.stderr, question)
            self.stderr.flush()
        return self.progress

    def step(self, state: str, name: str, detail: str, took: str) -> None:
        """One line of a list of steps, on stderr."""
        shape = shape_of(state)
        mark = shape.ascii if self.ascii else shape.mark
        if self._coloured(self.progress):
            mark = f"\x1b[{_CODES[shape.colour]}m{mark}\x1b[0m"
        self.note(f"  {mark} {clean(name):<12} {clean(detail):<46} {took:>8}".rstrip())

    def would(self, name: str, what: str) -> None:
        """One line of what a dry run leaves undone, on stdout: it is what was asked for."""
        self.line(f"  {self.mark('waiting')} {clean(name):<12} {clean(what)}")

    def warning(self, code: str, message: str, hint: str) -> None:
        """Something to know that stops nothing: words on stderr, or one JSON object."""
        if self.json:
            self.note(_json({"warning": {"code": code, "message": message, "hint": hint}}))
        else:
            self.note(f"warning: {clean(message)}\nhint: {clean(hint)}", "amber")

    def error(self, error: ColonyError) -> None:
        """What went wrong and the next thing to try: words on stderr, or one JSON object."""
        nearest = error.hint.startswith(_NEAREST)
        if self.json:
            fields = {"code": error.code, "message": error.message, "hint": error.hint}
            self.note(_json({"error": fields | ({"details": error.details} if error.details else {})}))
            return
        red = "\x1b[31m" if self._coloured(self.progress) else ""
        self.note(f"{red}error:{red and chr(27) + '[0m'} {clean(error.message)}")
        if nearest:
            first, _, rest = error.hint.partition("; ")
            self.note(f"  {clean(first)}")
            if rest:
                self.note(f"hint: {clean(rest)}")
        elif error.hint:
            self.note(f"hint: {clean(error.hint)}")
        for other in error.details.get("errors", [])[1:]:
            if isinstance(other, dict):  # one more mistake of a manifest
                place = f"line {other.get('line')}: {other.get('path')}"
                self.note("  " + clean(f"{place}: {other.get('message')}; {other.get('hint')}"))
        if self.verbose:
            for key, value in {"code": error.code, **error.details}.items():
                self.note(f"  {clean(key)}: {clean(value if isinstance(value, str) else _json(value))}")

    def _coloured(self, terminal: bool) -> bool:
        if self.environ.get("FORCE_COLOR"):
            return True
        return not (self.no_color or self.environ.get("NO_COLOR") or self.environ.get("TERM") == "dumb") and terminal

    def _write(self, stream: IO[str], text: str) -> None:
        stream.write(text)


def standard_output(environ: Mapping[str, str]) -> Output:
    """Speaks on the process's own streams; what the encoding lacks is written as `\\uXXXX`, so that no character stops a run."""
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="backslashreplace")
    return Output(sys.stdout, sys.stderr, environ)


def formatted(template: str, view: Mapping[str, Any]) -> str:
    """`template` with `{field}` and `{field.inner}` filled in, `\\t` and `\\n` understood; raises Invalid for a field that is not there."""

    def fill(found: re.Match[str]) -> str:
        if found[0] in ("{{", "}}"):
            return found[0][0]
        if found[1] is None:
            raise Invalid("invalid-format", f"a lone {found[0]!r} in --format", "write {field}, or {{ for a brace")
        return _shown(_field(view, found[1]))

    text = re.sub(r"\\[tn\\]", lambda found: _ESCAPES[found[0]], template)
    return _FIELD.sub(fill, text)


def _field(view: Mapping[str, Any], path: str) -> Any:
    value: Any = view
    for part in path.split("."):
        if isinstance(value, Mapping) and part in value:
            value = value[part]
        elif isinstance(value, list) and part.isdigit() and int(part) < len(value):
            value = value[int(part)]
        else:
            known = list(value) if isinstance(value, Mapping) else []
            nearest = did_you_mean(part, known)
            hint = f"{_NEAREST}{nearest}?" if nearest else f"known: {', '.join(known)}" if known else "see --json"
            raise Invalid("unknown-field", f"--format: no field {path!r}", hint)
    return value


def _shown(value: Any) -> str:
    if value is None:
        return ""
    return clean(value) if isinstance(value, str) else _json(value)


def _json(value: object, indent: int | None = None) -> str:
    text = json.dumps(value, ensure_ascii=False, indent=indent)
    return _STEERING.sub(lambda found: f"\\u{ord(found[0]):04x}", text)


def _columns(stream: IO[str], environ: Mapping[str, str]) -> int:
    told = environ.get("COLUMNS", "")
    if told.isdigit() and int(told) > 0:
        return int(told)
    try:
        return os.get_terminal_size(stream.fileno()).columns or 80
    except (OSError, ValueError):
        return 80


def _speaks_unicode(stream: IO[str]) -> bool:
    return (getattr(stream, "encoding", None) or "").lower().replace("-", "").startswith("utf")
