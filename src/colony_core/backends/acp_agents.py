"""The agents that speak the Agent Client Protocol, and how each is told our settings. Pure.

The protocol itself knows neither models nor turns nor tools: an agent may offer options of a session, and take more in `_meta`.
"""

from collections.abc import Mapping
from typing import Any

import attrs

from .backend import AgentConfig, Job, Permissions
from .claude import tools_of
from .loose import as_dict, as_dicts

AGENTS: Mapping[str, tuple[str, ...]] = {
    "claude-agent-acp": ("claude-agent-acp",),
    "codex": ("codex-acp",),
    "gemini": ("gemini", "--acp"),
    "goose": ("goose", "acp"),
    "opencode": ("opencode", "acp"),
}
"""The commands of those that we know, in the order in which they are looked for."""

CLAUDE = "@agentclientprotocol/claude-agent-acp"
MODES: Mapping[Permissions, tuple[str, ...]] = {
    "ask": ("default", "ask", "approve", "read-only"),
    "edits": ("acceptEdits", "autoEdit", "auto_edit", "default", "ask", "approve", "auto"),
    "all": ("bypassPermissions", "yolo", "full-access", "acceptEdits", "autoEdit", "auto"),
}
"""Modes of agents for what may go without asking, the nearest first. A mode is a courtesy: what an agent still asks, we answer."""


@attrs.frozen(kw_only=True)
class Setting:
    """An option of the session to be set: by `session/set_config_option`, or `session/set_mode` where it offers no more."""

    method: str
    params: dict[str, str]
    what: str


@attrs.frozen(kw_only=True)
class Plan:
    """How a job's settings reach an agent: what to set, what to say before the instruction, and what it cannot be told."""

    settings: tuple[Setting, ...] = ()
    preface: tuple[str, ...] = ()
    left: tuple[str, ...] = ()


def new_session(job: Job, agent: str) -> dict[str, Any]:
    """What `session/new`, `session/load` and `session/resume` are given."""
    servers = [
        {
            "name": server.name,
            "command": server.command[0],
            "args": list(server.command[1:]),
            "env": [{"name": name, "value": value} for name, value in server.env.items()],
        }
        for server in job.mcp_servers
    ]
    given: dict[str, Any] = {"cwd": str(job.workdir), "mcpServers": servers}
    if agent == CLAUDE:
        given["_meta"] = _claude_meta(job)
    return given


def refused(config: AgentConfig, agent: str) -> str:
    """Which setting this agent cannot heed and may not pass over, because it forbids something; empty if there is none."""
    if agent == CLAUDE:
        return ""
    return ", ".join(name for name in ("allowed_tools", "disallowed_tools") if getattr(config, name) not in (None, ()))


def plan(config: AgentConfig, agent: str, session: Mapping[str, Any]) -> Plan:
    """How the settings of `config` reach an agent that answered `session` to `session/new`, `load` or `resume`."""
    settings: list[Setting] = []
    left: list[str] = []
    mode = _mode(config.permissions, session)
    if mode is not None:
        settings.append(mode)
    if agent == CLAUDE:
        return Plan(settings=tuple(settings))
    if config.model is not None:
        model = _model(config.model, session)
        if model is None:
            left.append(f"model {config.model}")
        elif model.params["value"] != option_of(session, "model").get("currentValue"):
            settings.append(model)
    if config.max_turns is not None:
        left.append(f"max_turns {config.max_turns}")
    preface = tuple(text for text in (config.system_prompt, config.append_system_prompt) if text)
    return Plan(settings=tuple(settings), preface=preface, left=tuple(left))


def _claude_meta(job: Job) -> dict[str, Any]:
    config = job.config
    tools = tools_of(config.allowed_tools)
    granted = [*tools.patterns, *(f"mcp__{server.name}" for server in job.mcp_servers)]
    options: dict[str, Any] = {
        "model": config.model,
        "maxTurns": config.max_turns,
        "tools": list(tools.names) if tools.only else None,
        "allowedTools": granted or None,
        "disallowedTools": list(config.disallowed_tools) or None,
        "maxBudgetUsd": job.cost_limit,
    }
    meta: dict[str, Any] = {
        "claudeCode": {"options": {key: value for key, value in options.items() if value is not None}}
    }
    if config.system_prompt:
        meta["systemPrompt"] = "\n\n".join(text for text in (config.system_prompt, config.append_system_prompt) if text)
    elif config.append_system_prompt:
        meta["systemPrompt"] = {"append": config.append_system_prompt}
    return meta


def _mode(permissions: Permissions, session: Mapping[str, Any]) -> Setting | None:
    modes = as_dict(session.get("modes"))
    known = [mode.get("id") for mode in as_dicts(modes.get("availableModes"))]
    wanted = next((mode for mode in MODES[permissions] if mode in known), None)
    if wanted is None or wanted == modes.get("currentModeId"):
        return None
    if wanted in _values(option_of(session, "mode")):
        option = str(option_of(session, "mode").get("id"))
        return Setting(method="session/set_config_option", params={"configId": option, "value": wanted}, what="mode")
    return Setting(method="session/set_mode", params={"modeId": wanted}, what="mode")


def _model(model: str, session: Mapping[str, Any]) -> Setting | None:
    """The model of that name, or the first whose name or family it is."""
    option = option_of(session, "model")
    values = _values(option)
    found = next((value for value in values if value == model), None)
    found = found or next((value for value in values if model in value or value in model.split("-")), None)
    if found is None:
        return None
    return Setting(
        method="session/set_config_option", params={"configId": str(option.get("id")), "value": found}, what="model"
    )


def option_of(session: Mapping[str, Any], category: str) -> dict[str, Any]:
    """The option of a session that is about `category`, or an empty one."""
    options = as_dicts(session.get("configOptions"))
    return next((option for option in options if category in (option.get("category"), option.get("id"))), {})


def _values(option: Mapping[str, Any]) -> list[str]:
    """The choices of an option, which may come in groups."""
    choices = as_dicts(option.get("options"))
    flat = [choice for choice in choices if "value" in choice]
    flat += [inner for choice in choices for inner in as_dicts(choice.get("options"))]
    return [choice["value"] for choice in flat if isinstance(choice.get("value"), str)]
