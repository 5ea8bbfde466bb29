"""[checks]: commands that show whether an agent's work is done. Pure."""

from typing import Any

from . import checks as check
from .mistakes import Mistake, Mistakes, Table

MOST_CHECKS = 20
TIMEOUT_SECONDS = 600.0


def normal_checks(raw: dict[str, Any], mistakes: Mistakes) -> list[dict[str, Any]]:
    """The checks in the order of the text: `tests = "make test"`, or a table with command, timeout and required."""
    if len(raw) > MOST_CHECKS:
        mistakes.add(Mistake(f"more than {MOST_CHECKS} checks", "let one command run several"), ("checks",))
        return []
    return [_one(name, value, mistakes) for name, value in raw.items()]


def _one(name: str, value: Any, mistakes: Mistakes) -> dict[str, Any]:
    table = Table(value if isinstance(value, dict) else {"command": value}, ("checks", name), mistakes)
    if not name or len(name) > 64 or any(not (c.isalnum() or c in "-_. ") for c in name):
        mistakes.add(Mistake(f"{name[:40]!r} is no name of a check", "letters, digits, - and _"), ("checks", name))
    if not table.has("command"):
        table.wrong(Mistake("the command is missing", 'write command = "make test"'))
    command, text = table.take("command", check.a_command, ((), ""))
    found = {
        "name": name,
        "command": list(command),
        "command_text": text,
        "timeout": table.take("timeout", check.a_duration, TIMEOUT_SECONDS),
        "required": table.take("required", check.a_flag, True),
    }
    table.finish()
    return found
