"""What an agent does, as the command prints it."""

import io
from typing import Any

import click
import pytest

from colony_cli.commands.sessions import agent_options, agent_settings, show_line
from colony_cli.output import Output
from colony_core import wire
from colony_core.views import AgentSettings


def printed(kind: str, content: str, **data: Any) -> str:
    out = io.TextIOWrapper(io.BytesIO(), encoding="utf-8")
    output = Output(out, io.StringIO(), {})
    show_line(output, {"seq": 1, "kind": kind, "content": content, "data": data})
    output.flush()
    out.seek(0)
    return out.read()


@pytest.mark.parametrize(("verdict", "mark"), [("verified", "✓"), ("with-gaps", "~"), ("not-verified", "✗")])
def test_only_verified_work_has_a_tick(verdict: str, mark: str) -> None:
    assert printed("receipt", f"{verdict}: because", verdict=verdict) == f"{mark} {verdict}: because\n"


def test_of_a_result_the_beginning_is_shown_and_of_a_text_everything() -> None:
    assert printed("tool_result", "Bash: 1\n2\n3\n4\n5").splitlines()[-2:] == ["  3", "  … 2 lines more"]
    assert printed("text", "1\n2\x1b[31m\n3\n4") == "  1\n  2^[[31m\n  3\n  4\n"


def test_a_line_of_a_kind_that_a_newer_daemon_tells_is_printed_all_the_same() -> None:
    assert printed("weather", "sunny") == "  sunny\n"


def given(*words: str) -> AgentSettings:
    found: dict[str, Any] = {}
    command = click.command("instruct")(agent_options(lambda **agent: found.update(agent_settings(agent))))
    command.main(list(words), standalone_mode=False)
    return wire.load(found, AgentSettings)


def test_how_an_agent_shall_work_is_said_with_the_instruction() -> None:
    assert given() == AgentSettings()
    assert given(
        *("--backend", "claude", "--model", "opus", "--max-turns", "0", "--permissions", "all"),
        *("--allowed-tool", "Read", "--allowed-tool", "Bash(git *)", "--disallowed-tool", "WebSearch"),
        *("--system-prompt", "-Be brief", "--append-system-prompt", "Be kind", "--agent-timeout", "5m"),
        *("--budget-usd", "2.5", "--budget-tokens", "9000", "--budget-turns", "40", "--budget-minutes", "7.5"),
    ) == AgentSettings(
        backend="claude",
        model="opus",
        max_turns=0,
        permissions="all",
        allowed_tools=("Read", "Bash(git *)"),
        disallowed_tools=("WebSearch",),
        system_prompt="-Be brief",
        append_system_prompt="Be kind",
        budget_usd=2.5,
        budget_tokens=9000,
        budget_turns=40,
        budget_minutes=7.5,
        timeout=300.0,
    )
