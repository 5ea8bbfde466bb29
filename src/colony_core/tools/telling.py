"""What an agent reads for an answer: lines of JSON where it may want to reckon with them, and words. Pure."""

import json
from typing import Any

import attrs

from colony_core.access import redacted
from colony_core.errors import ColonyError
from colony_core.views import ColonyView, ServiceView

MOST_SUMMARY = 200
MOST_ANSWER = 64 * 1024
"""Characters; of a longer one the end is told."""


@attrs.frozen(kw_only=True)
class Answer:
    """What an agent reads; `ok` is false where it did not get what it asked for."""

    text: str
    ok: bool = True


def words_of(error: ColonyError) -> str:
    """An error for an agent: each mistake of a manifest has a line of its own."""
    mistakes = error.details.get("errors") or ()
    told = [
        f"{each.get('path')}, line {each.get('line')}: {each.get('message')} ({each.get('hint')})" for each in mistakes
    ]
    return within("\n".join([f"{error.code}: {error}", *(told if len(told) > 1 else ())]))


def service_of(view: ServiceView) -> dict[str, Any]:
    """A service, as far as it matters to an agent."""
    return {
        "name": view.name,
        "state": view.state,
        "reason": view.reason,
        "port": view.port,
        "url": view.url,
        "pid": view.pid,
        "restarts": view.restarts,
        "last_exit": view.last_exit,
        "depends_on": list(view.depends_on),
        "command": view.command,
    }


def sibling_of(view: ColonyView) -> dict[str, Any]:
    """Another colony, with nothing that is its own affair."""
    agent = view.agent
    return {
        "name": view.name,
        "state": view.state,
        "agent": None if agent is None else agent.state,
        "instruction": None if agent is None else redacted(cut(agent.instruction)),
        "preview": view.url,
    }


def listed(values: list[Any]) -> Answer:
    """Values, one a line."""
    return Answer(
        text=within(
            "\n".join(each if isinstance(each, str) else json.dumps(each, ensure_ascii=False) for each in values)
        )
        or "none"
    )


def cut(text: str) -> str:
    """A text in one short line."""
    line = " ".join(text.split())
    return line if len(line) <= MOST_SUMMARY else f"{line[: MOST_SUMMARY - 1]}…"


def within(text: str) -> str:
    """The end of a text that is too long."""
    return text if len(text) <= MOST_ANSWER else f"…{text[-MOST_ANSWER:]}"
