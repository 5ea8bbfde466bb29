"""[agent]: how a colony's coding agent shall work. Pure."""

from typing import Any

from colony_core.config import BACKENDS

from . import checks as check
from .mistakes import Table

MOST_PROMPT = 64 * 2**10


def normal_agent(table: Table) -> dict[str, Any]:
    """The settings that the table names, in the form of `views.AgentSettings`; None for what it says nothing of."""
    words = check.listed(check.a_line)
    settings = {
        "backend": table.take("backend", check.one_of(*BACKENDS)),
        "model": table.take("model", check.a_line),
        "max_turns": table.take("max_turns", check.a_count),
        "allowed_tools": table.take("allowed_tools", words),
        "disallowed_tools": table.take("disallowed_tools", words),
        "system_prompt": table.take("system_prompt", _a_prompt),
        "append_system_prompt": table.take("append_system_prompt", _a_prompt),
        "permissions": table.take("permissions", check.one_of("ask", "edits", "all")),
        "timeout": table.take("timeout", _a_timeout),
    }
    budget = table.below("budget", check.a_table)
    settings |= {
        "budget_usd": budget.take("usd", _an_amount),
        "budget_tokens": budget.take("tokens", _an_amount_of),
        "budget_turns": budget.take("turns", check.a_count),
        "budget_minutes": budget.take("minutes", _an_amount),
    }
    budget.finish({"dollars": "write usd", "cost": "write usd"})
    table.finish({"prompt": "write append_system_prompt", "tools": "write allowed_tools"})
    return {key: list(value) if isinstance(value, tuple) else value for key, value in settings.items()}


def _a_prompt(value: Any) -> str:
    text = check.a_text(value)
    if len(text) > MOST_PROMPT:
        check.expected(f"text of at most {MOST_PROMPT} characters", value, "put it into a file of the workspace")
    return text


def _a_timeout(value: Any) -> float:
    return check.a_duration(value, positive=False)


def _an_amount_of(value: Any) -> int:
    if type(value) is not int or not 0 <= value <= 10**12:
        check.expected("a whole number from 0 on", value, "0 is no limit")
    return int(value)


def _an_amount(value: Any) -> float:
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0 <= value < 1e9:
        check.expected("a number from 0 on", value, "0 is no limit")
    return float(value)
