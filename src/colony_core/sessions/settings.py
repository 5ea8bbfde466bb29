"""How an agent shall work: what the machine says, over it the project, the colony, and who gives the instruction. Pure."""

import attrs

from colony_core.backends import AgentConfig
from colony_core.config import Agent
from colony_core.views import AgentSettings

from .budget import Budget


@attrs.frozen(kw_only=True)
class Resolved:
    """Everything that counts for one instruction. Seconds."""

    backend: str
    config: AgentConfig
    timeout: float
    budget: Budget
    """Of the colony, over its whole life."""


def resolve(machine: Agent, *over: AgentSettings | None) -> Resolved:
    """What holds: of each setting the last that says something; where nobody does, the machine's."""
    said = {field.name: getattr(machine, field.name) for field in attrs.fields(AgentSettings)}
    for settings in over:
        if settings is not None:
            said |= {k: v for k, v in attrs.asdict(settings, recurse=False).items() if v is not None}
    return Resolved(
        backend=said["backend"],
        config=AgentConfig(
            model=said["model"] or None,
            max_turns=said["max_turns"] or None,
            allowed_tools=said["allowed_tools"] or None,
            disallowed_tools=said["disallowed_tools"] or (),
            system_prompt=said["system_prompt"] or None,
            append_system_prompt=said["append_system_prompt"] or None,
            permissions=said["permissions"],
        ),
        timeout=said["timeout"],
        budget=Budget(
            usd=said["budget_usd"] or None,
            tokens=said["budget_tokens"] or None,
            turns=said["budget_turns"] or None,
            minutes=said["budget_minutes"] or None,
        ),
    )


def machine_budget(machine: Agent) -> Budget:
    """What all agents of this machine may use on one day (UTC)."""
    return Budget(usd=machine.day_usd or None, tokens=machine.day_tokens or None)
