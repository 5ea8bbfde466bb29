"""The daemon's own log: one message is one line, and no line holds the secret of a token, not even of a crash."""

import logging

from colony_core.access import redacted

_CONTROLS = {number: f"\\x{number:02x}" for number in (*range(32), *range(127, 160)) if number != 9}


class SafeFormatter(logging.Formatter):
    """Formats as another formatter does; what somebody put into a message can neither begin a line nor be a token."""

    def __init__(self, inner: logging.Formatter) -> None:
        super().__init__()
        self._inner = inner

    def format(self, record: logging.LogRecord) -> str:
        """The line, and a crash's traceback below it."""
        plain = logging.makeLogRecord(record.__dict__ | {"msg": record.getMessage().translate(_CONTROLS), "args": None})
        return redacted(self._inner.format(plain))


def say_no_secrets() -> None:
    """Makes every handler of the program's log speak so."""
    for handler in logging.getLogger().handlers:
        if not isinstance(handler.formatter, SafeFormatter):
            handler.setFormatter(SafeFormatter(handler.formatter or logging.Formatter()))
