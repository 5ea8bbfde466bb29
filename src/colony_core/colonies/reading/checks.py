"""Checks of single values of a manifest. Pure.

A check takes what TOML gave and returns it in its normal form, or raises Mistake.
"""

import posixpath
import re
import shlex
from collections.abc import Callable
from typing import Any, NoReturn

from colony_core.config import parse_duration, parse_port, parse_size
from colony_core.errors import ColonyError, did_you_mean
from colony_core.naming import check_colony_name, check_service_name

from .mistakes import DOCS, Mistake, shortened

MOST_TEXT_BYTES = 100_000
"""The kernel takes no argument or variable of more than 128 KiB (MAX_ARG_STRLEN, see execve(2))."""
LONGEST_SECONDS = 86_400.0
MOST_LINKS = 100
OWN_VARIABLES = frozenset({"COLONY_NAME", "COLONY_SERVICE", "COLONY_URL"})
"""Set for every service, besides those that begin with COLONY_SERVICE_."""

_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f]")
_CONTROL_BUT_LINES = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f]")
_VARIABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_URL_PATH = re.compile(r"/[!-\"$-~]*")


def expected(what: str, value: Any, hint: str = DOCS) -> NoReturn:
    """Raises the mistake of a value that has another type or form."""
    raise Mistake(f"expected {what}, got {described(value)}", hint)


def described(value: Any) -> str:
    """What kind of value TOML gave, with the value where it is short."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, (int, float)):
        return f"the number {value:.12g}" if isinstance(value, float) else f"the number {shortened(value)}"
    if isinstance(value, str):
        return f"the text {shortened(value)}" if value else "an empty text"
    if isinstance(value, list):
        return "a list"
    return "a table" if isinstance(value, dict) else "a date or time"


def a_table(value: Any) -> dict[str, Any]:
    """A TOML table."""
    return value if isinstance(value, dict) else expected("a table", value)


def a_flag(value: Any) -> bool:
    """true or false."""
    return value if isinstance(value, bool) else expected("true or false", value, "write it without quotes")


def a_line(value: Any, *, most: int = 1000) -> str:
    """Text of one line."""
    if not isinstance(value, str):
        expected("text", value, "write it in quotes")
    if _CONTROL.search(value):
        raise Mistake("control characters are not allowed here", "one line of plain text")
    if len(value) > most:
        raise Mistake(f"longer than {most} characters ({len(value)})", "make it shorter")
    return value


def a_text(value: Any) -> str:
    """Text that may have lines and tabs, as commands and variables do."""
    if not isinstance(value, str):
        raise Mistake(f"expected text, got {_kind(value)}", "write it in quotes")
    if _CONTROL_BUT_LINES.search(value):
        raise Mistake("control characters are not allowed here", "only line breaks and tabs are")
    if len(value.encode()) > MOST_TEXT_BYTES:
        raise Mistake(f"longer than {MOST_TEXT_BYTES} bytes", "put it into a file")
    return value


def a_port(value: Any) -> int:
    """A TCP port, as a number."""
    if type(value) is not int:
        expected("a port from 1 to 65535", value, "write it as a number, without quotes")
    try:
        return parse_port(value)
    except ValueError:
        expected("a port from 1 to 65535", value, "services that serve nothing need no port")


def a_duration(value: Any, *, positive: bool = True) -> float:
    """Seconds from `"30s"` or a number, at most a day."""
    try:
        seconds = parse_duration(value)
    except (ValueError, OverflowError):
        expected('a duration such as "500ms", "30s" or "5m"', value, "or a number of seconds")
    if seconds > LONGEST_SECONDS or (positive and seconds <= 0):
        raise Mistake(f"{described(value)} is out of range", f"{'more than 0' if positive else '0'} up to 24h")
    return seconds


def a_count(value: Any, *, least: int = 0) -> int:
    """A whole number."""
    if type(value) is not int or not least <= value <= 1_000_000:
        expected(f"a whole number from {least} to 1000000", value)
    return value


def one_of(*known: str) -> Callable[[Any], str]:
    """One of a few words."""

    def check(value: Any) -> str:
        if not isinstance(value, str) or value not in known:
            nearest = did_you_mean(value, known) if isinstance(value, str) else ""
            expected(f"one of {', '.join(known)}", value, f"did you mean {nearest}?" if nearest else DOCS)
        return value

    return check


def a_command(value: Any) -> tuple[tuple[str, ...], str]:
    """The argument list and one line for people; text goes through /bin/sh."""
    if isinstance(value, str):
        text = a_text(value).strip()
        if not text:
            raise Mistake("the command is empty", "write what shall run")
        return ("/bin/sh", "-c", text), _one_line(text)
    if not isinstance(value, list):
        expected("text or a list of texts", value, '"npm start" runs in a shell, ["npm", "start"] without one')
    parts = listed(a_text)(value)
    if not parts or not parts[0].strip():
        raise Mistake("the command is empty", "write what shall run")
    return parts, _one_line(shlex.join(parts))


def a_path_inside(value: Any) -> str:
    """A path that stays in the colony's folder, as far as its letters tell."""
    path = a_line(value)
    if not path:
        raise Mistake("the path is empty", 'the colony\'s own folder is "."')
    if path.startswith(("/", "~")):
        raise Mistake(f"{shortened(path)} is not inside the colony's folder", "write it relative to that folder")
    normal = posixpath.normpath(path)
    if normal == ".." or normal.startswith("../"):
        raise Mistake(f"{shortened(path)} leads out of the colony's folder", "write a path inside it")
    return normal


def a_url_path(value: Any) -> str:
    """The path of a URL."""
    path = a_line(value)
    if not _URL_PATH.fullmatch(path):
        expected("the path of a URL", value, 'such as "/health": ASCII, no spaces, no #')
    return path


def a_pattern(value: Any) -> str:
    """Text that a line shall hold, `*` for anything."""
    pattern = a_line(value)
    if not pattern.strip("*"):
        expected('text of a log line, such as "listening on *"', value)
    return pattern


def a_size(value: Any) -> str:
    """Bytes, kept as written."""
    try:
        size = parse_size(value)
    except ValueError:
        expected('a size such as "512M" or "4G"', value)
    return str(value) if 0 < size < 2**63 else expected("a size above 0", value)


def a_link(value: Any) -> dict[str, str | None]:
    """Another colony, or one service of it."""
    if not isinstance(value, str):
        expected('a colony such as "other", or a service of one such as "other:api"', value, "write it in quotes")
    colony, separator, service = value.partition(":")
    return {
        "colony": by_rule(check_colony_name)(colony),
        "service": by_rule(check_service_name)(service) if separator else None,
    }


def links(value: Any) -> tuple[dict[str, str | None], ...]:
    """Links, each of them once."""
    found = listed(a_link)(value)
    if len(found) > MOST_LINKS:
        raise Mistake(f"more than {MOST_LINKS} links", "name whole colonies rather than each of their services")
    for number, link in enumerate(found):
        if link in found[:number]:
            raise Mistake(f"{shortened(value[number])} stands here twice", "leave one out", below=(number,))
    return found


def listed(check: Callable[[Any], Any]) -> Callable[[Any], tuple[Any, ...]]:
    """A list whose items pass `check`."""

    def check_all(value: Any) -> tuple[Any, ...]:
        if not isinstance(value, list):
            expected("a list", value)
        items = []
        for number, item in enumerate(value):
            try:
                items.append(check(item))
            except Mistake as mistake:
                mistake.below = (number, *mistake.below)
                raise
        return tuple(items)

    return check_all


def one_or_more(check: Callable[[Any], Any]) -> Callable[[Any], tuple[Any, ...]]:
    """One value, or a list of them."""
    return lambda value: listed(check)(value) if isinstance(value, list) else (check(value),)


def variables(value: Any) -> dict[str, str]:
    """Environment variables; a mistake never shows a value, which may be a secret."""
    for name, text in a_table(value).items():
        try:
            variable_name(name)
            a_text(text)
        except Mistake as mistake:
            mistake.below = (name,)
            raise
    return dict(value)


def variable_name(name: str) -> str:
    """The name of an environment variable that Colony does not set itself."""
    if not _VARIABLE.fullmatch(name) or len(name) > 256:
        raise Mistake(
            f"{shortened(name)} is no name of a variable", "letters, digits and '_', not beginning with a digit"
        )
    if name in OWN_VARIABLES or name.startswith("COLONY_SERVICE_"):
        raise Mistake(f"{name} is set by Colony itself", "take another name")
    return name


def by_rule(check: Callable[[str], str]) -> Callable[[Any], str]:
    """A text that a check of the ground floor accepts; its error becomes a mistake with the same code."""

    def checked(value: Any) -> str:
        if not isinstance(value, str):
            expected("text", value, "write it in quotes")
        try:
            return check(value)
        except ColonyError as error:
            raise Mistake(error.message, error.hint, code=error.code) from None

    return checked


def _kind(value: Any) -> str:
    if isinstance(value, bool):
        return "true or false"
    return "a number" if isinstance(value, (int, float)) else described(value)


def _one_line(text: str) -> str:
    return " ".join(text.split())
