"""What HumanLayer's daemon keeps of a session, in neutral words. Pure.

Its events are only told to whoever listens at the moment, and some are never told: what counts are the rows that it keeps, whose ids only
grow, and the state of the session.
"""

import json
import re
from collections.abc import Iterable, Mapping
from typing import Any

from colony_core.errors import Invalid

from .acp_ends import code_of, limit_of
from .backend import Job
from .claude_lines import kind_of
from .happenings import Ended, Happening, LimitReached, Notice, Text, Thinking, ToolResult, ToolUse, Usage
from .loose import as_arguments, as_dict, as_dicts, as_number, as_text

FINAL = frozenset({"completed", "failed", "interrupted"})
MODELS = ("opus", "sonnet", "haiku")
_CLAUDES_OWN = re.compile(
    r"API Error|Failed to authenticate|Invalid API key|Not logged in|OAuth token|Claude (AI )?usage limit|Credit balance|"
    r"You've (hit|reached) your |You're out of "
)
"""How Claude Code begins where it, and not the model, speaks last. An agent may write about limits and logins, too."""


def model_of(model: str | None) -> tuple[str | None, Notice | None]:
    """The model as the daemon knows it: it takes three names, and drops any other without a word.

    Raises Invalid (`hld-model`) for one of another family.
    """
    if model is None or model in MODELS:
        return model, None
    family = next((family for family in MODELS if family in model.lower()), None)
    if family is None:
        raise Invalid(
            "hld-model", f"hld knows no model {model}", f"take one of {', '.join(MODELS)}, or another backend"
        )
    return family, Notice(text=f"hld takes families of models only: {model} became {family}", code="model-mapped")


def check_settings(job: Job) -> None:
    """Raises Invalid (`setting-refused`) for what must hold and cannot: the daemon has no list of the only tools."""
    if job.config.allowed_tools is not None:
        raise Invalid(
            "setting-refused",
            "hld cannot be held to allowed_tools",
            "forbid the others by disallowed_tools, or take the backend claude",
        )


def settings_of(job: Job) -> dict[str, Any]:
    """What launching and continuing are both told."""
    config = job.config
    return {
        "query": job.instruction,
        "max_turns": config.max_turns,
        "system_prompt": config.system_prompt,
        "append_system_prompt": config.append_system_prompt,
        # Pre-approvals, not a limit: the colony's own tools ask nobody.
        "allowed_tools": [f"mcp__{server.name}" for server in job.mcp_servers] or None,
        "disallowed_tools": list(config.disallowed_tools) or None,
    }


def servers_of(job: Job) -> dict[str, Any] | None:
    """The tool servers, as `launchSession` takes them; `continueSession` takes the same as a JSON text."""
    if not job.mcp_servers:
        return None
    return {
        "mcpServers": {
            server.name: {"command": server.command[0], "args": list(server.command[1:]), "env": dict(server.env)}
            for server in job.mcp_servers
        }
    }


class Rows:
    """The rows of one session, each told once however often they are read. `last_text` is the newest text of the agent itself."""

    def __init__(self, session: str) -> None:
        self.last_text = ""
        self._session = session
        self._last_id = -1.0

    def new(self, answer: Mapping[str, Any]) -> list[Happening]:
        """What `getConversation` tells that was not told before; rows of the session's ancestors are theirs."""
        told: list[Happening] = []
        for row in as_dicts(answer.get("events")):
            number = as_number(row.get("id"))
            if row.get("session_id") != self._session or number is None or number <= self._last_id:
                continue
            self._last_id = number
            happening = _row(row)
            if happening is not None:
                told.append(happening)
            if isinstance(happening, Text) and not happening.parent:
                self.last_text = happening.text
        return told


def usage_of(state: Mapping[str, Any], info: Mapping[str, Any]) -> Usage | None:
    """The bill: cost from the session's state, turns from its entry in the list, where they stand for sessions that completed.

    Its counts of tokens are those of the last call to the model, not of the session, and so are left out.
    """
    cost, turns = as_number(state.get("cost_usd")), as_number(as_dict(info.get("result")).get("num_turns"))
    if cost is None and turns is None:
        return None
    return Usage(cost_usd=cost, turns=None if turns is None else int(turns))


def ended_by(
    state: Mapping[str, Any], info: Mapping[str, Any], last_text: str, *, stopping: bool
) -> tuple[list[LimitReached], Ended]:
    """The end that a final state means, and the limit that was its reason.

    After an interrupt every final state is the stop: a tool that was cut off makes it `failed`, a quick answer `completed`.
    """
    status, error = as_text(state.get("status")), as_text(state.get("error_message"))
    evidence = (f"hld says that the session {status}", *((error,) if error else ()))
    if stopping:
        return [], Ended(outcome="stopped", text=last_text, evidence=("it was asked to stop", *evidence))
    if status == "completed":
        final = as_text(as_dict(info.get("result")).get("result"))
        return [], Ended(outcome="done", text=final or last_text, evidence=evidence)
    if status == "interrupted":
        text = "it was interrupted by another client of hld"
        return [], Ended(outcome="failed", code="interrupted", text=text, evidence=evidence)
    # Errors of the model's API stand nowhere but in what the agent said last.
    text = error or last_text or "hld gives no reason"
    if "daemon restarted" in error or error.startswith("claude process failed"):
        return [], Ended(outcome="failed", code="agent-died", text=text, evidence=evidence)
    code = (code_of(text) if error or _CLAUDES_OWN.match(text) else "") or "agent-error"
    limits = [limit_of(text)] if code == "limit" else []
    return limits, Ended(outcome="failed", code=code, text=text, evidence=evidence)


def _row(row: Mapping[str, Any]) -> Happening | None:
    kind, content, parent = row.get("event_type"), as_text(row.get("content")), as_text(row.get("parent_tool_use_id"))
    if kind == "message" and row.get("role") == "assistant" and content:
        return Text(text=content, parent=parent)
    if kind == "thinking" and content:
        return Thinking(text=content, parent=parent)
    if kind == "tool_call":
        name = as_text(row.get("tool_name"))
        return ToolUse(
            id=as_text(row.get("tool_id")),
            name=name,
            input=input_of(row.get("tool_input_json")),
            kind=kind_of(name),
            parent=parent,
        )
    if kind == "tool_result":
        told = as_text(row.get("tool_result_content"))
        return ToolResult(id=as_text(row.get("tool_result_for_id")), text=told, parent=parent)
    return None


def input_of(given: object) -> dict[str, Any]:
    """A tool's input, which rows hold as JSON text and approvals as an object."""
    if isinstance(given, str):
        try:
            given = json.loads(given)
        except (ValueError, RecursionError):
            return {}
    return as_arguments(given)


def approvals_of(answer: Mapping[str, Any]) -> Iterable[dict[str, Any]]:
    """The open questions, which `fetchApprovals` gives as null where there is none."""
    return [approval for approval in as_dicts(answer.get("approvals")) if as_text(approval.get("id"))]
