"""The daemon's own log, as text for people or as one JSON object per line for programs.

One message is one line in both; what somebody else said is a value in it and can neither begin a line, nor end a value, nor be the secret
of a token, not even in a crash. A record's `fields` (`log.info("request", extra={"fields": {…}})`) stand behind its message.
"""

import json
import logging
import sys
from collections.abc import Mapping
from contextvars import ContextVar
from typing import IO, Any

from colony_core import clock
from colony_core.access import redacted
from colony_core.config import Log

FIELDS = "fields"
TEXT = "%(asctime)s %(levelname)s %(name)s: %(message)s"
BELOW = "  | "
"""Before every further line of a message in text (a traceback's), which could look like a line of its own otherwise."""
_CONTROLS = {number: f"\\x{number:02x}" for number in (*range(32), *range(127, 160)) if number != 9}
_CONTROLS |= {0x2028: "\\u2028", 0x2029: "\\u2029"}
_PLAIN = frozenset("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_-+./:<>")


class Asked:
    """A request that is being answered. Tasks that it began and that outlive it must not speak in its name."""

    __slots__ = ("request_id",)

    def __init__(self, request_id: str) -> None:
        self.request_id: str | None = request_id

    def over(self) -> None:
        """Nothing is said in its name any more."""
        self.request_id = None


asked: ContextVar[Asked | None] = ContextVar("asked", default=None)


class SafeFormatter(logging.Formatter):
    """Formats as another formatter does; what somebody put into a message can neither begin a line nor be a token."""

    def __init__(self, inner: logging.Formatter) -> None:
        super().__init__()
        self._inner = inner

    def format(self, record: logging.LogRecord) -> str:
        """The line, and a crash's traceback below it."""
        words = [record.getMessage().translate(_CONTROLS)]
        words += [f"{name}={_value(value)}" for name, value in _fields(record).items()]
        plain = logging.makeLogRecord(record.__dict__ | {"msg": " ".join(words), "args": None})
        first, *below = self._inner.format(plain).split("\n")
        return redacted("\n".join([first, *(BELOW + line.translate(_CONTROLS) for line in below)]))


class JsonFormatter(logging.Formatter):
    """One object per line: `at`, `level`, `logger`, `message`, the fields, and `error` with the traceback of a crash."""

    def format(self, record: logging.LogRecord) -> str:
        """The line; ASCII only, so that no reader sees another end of it."""
        own: dict[str, Any] = {
            "at": clock.rfc3339(record.created),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
        }
        if record.exc_info:
            own["error"] = self.formatException(record.exc_info)
        document = {**own, **{name: value for name, value in _fields(record).items() if name not in own}}
        return redacted(json.dumps(document, default=str)).encode("ascii", "backslashreplace").decode()


def speak(log: Log, stream: IO[str] | None = None) -> None:
    """Makes the whole program log by these settings, to `stream` or stderr; a second call replaces the first."""
    stream = sys.stderr if stream is None else stream
    chosen = log.format if log.format != "auto" else "text" if stream.isatty() else "json"
    handler = logging.StreamHandler(stream)
    handler.setFormatter(JsonFormatter() if chosen == "json" else SafeFormatter(logging.Formatter(TEXT)))
    logging.basicConfig(handlers=[handler], level=log.level.upper(), force=True)
    logging.getLogger("alembic").setLevel(logging.WARNING)  # says at each start what it is made of


def _fields(record: logging.LogRecord) -> dict[str, Any]:
    given: Mapping[str, Any] = getattr(record, FIELDS, None) or {}
    request = asked.get()
    ours = {"request_id": request.request_id} if request is not None and request.request_id else {}
    return {**given, **ours}


def _value(value: Any) -> str:
    """A value as text: bare where it is one plain word, else in quotes."""
    text = value if isinstance(value, str) else json.dumps(value, default=str)
    return text if text and _PLAIN.issuperset(text) else json.dumps(text)
