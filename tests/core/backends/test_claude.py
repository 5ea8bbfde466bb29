"""How Claude Code is found, started and answered for; and, with a scripted one, what the real one does too seldom."""

import json
import signal
from pathlib import Path
from typing import Any

import pytest
import trio

from colony_core.backends import (
    AgentConfig,
    ClaudeBackend,
    Command,
    Ended,
    Happening,
    Health,
    Job,
    McpServer,
    Notice,
    Text,
)
from colony_core.backends.claude import ARGUMENT_BYTES, INSTALL, command_of, permit
from colony_core.errors import Invalid

from .contract import QUICK, Stage, make_programs, open_scripted_claude, scripted_claude

ALWAYS = (
    "claude",
    "-p",
    "--input-format=stream-json",
    "--output-format=stream-json",
    "--verbose",
    "--include-partial-messages",
    "--permission-prompt-tool=stdio",
)


def job(folder: Path, instruction: str = "do it", **more: Any) -> Job:
    config = AgentConfig(**{name: more.pop(name) for name in list(more) if hasattr(AgentConfig, name)})
    return Job(
        colony="c", instruction=instruction, workdir=folder, config=config, start=make_programs(folder).start, **more
    )


def options(command: Command) -> dict[str, str]:
    assert command.argv[: len(ALWAYS)] == ALWAYS
    return dict(word.split("=", 1) for word in command.argv[len(ALWAYS) :])  # type: ignore[misc]


def test_the_defaults_are_sonnet_fifty_turns_all_tools_and_edits_without_asking(tmp_path: Path) -> None:
    command = command_of(job(tmp_path))
    assert options(command) == {"--permission-mode": "acceptEdits", "--model": "sonnet", "--max-turns": "50"}
    assert command.env == {"DISABLE_AUTOUPDATER": "1"}


def test_each_field_has_its_option_and_a_value_is_never_read_as_one(tmp_path: Path) -> None:
    given = job(
        tmp_path,
        model="--danger",
        max_turns=None,
        allowed_tools=("Read", "Bash(git *)", "Bash(ls)"),
        disallowed_tools=("Write", "WebFetch"),
        system_prompt="-s",
        append_system_prompt="",
        permissions="ask",
        resume="--id",
        cost_limit=1.5,
    )
    assert options(command_of(given)) == {
        "--permission-mode": "default",
        "--model": "--danger",
        "--tools": "Read,Bash",
        "--allowedTools": "Bash(git *),Bash(ls)",
        "--disallowedTools": "Write,WebFetch",
        "--system-prompt": "-s",
        "--append-system-prompt": "",
        "--resume": "--id",
        "--max-budget-usd": "1.500000",
    }


@pytest.mark.parametrize(
    ("limit", "option"), [(0.0, "0.000001"), (-1.0, "0.000001"), (1e-9, "0.000001"), (2.0, "2.000000")]
)
def test_a_budget_of_nothing_is_the_smallest_that_there_is(tmp_path: Path, limit: float, option: str) -> None:
    assert options(command_of(job(tmp_path, cost_limit=limit)))["--max-budget-usd"] == option


def test_keys_go_by_variables_and_the_instruction_by_no_command_line(tmp_path: Path) -> None:
    server = McpServer(name="own", command=("serve", "a", "${HOME}"), env={"TOKEN": "hush"})
    given = job(
        tmp_path,
        "the instruction",
        environment={"ANTHROPIC_API_KEY": "key", "DISABLE_AUTOUPDATER": "0"},
        mcp_servers=(server,),
    )
    command = command_of(given)
    assert command.env == {
        "ANTHROPIC_API_KEY": "key",
        "DISABLE_AUTOUPDATER": "0",
        "COLONY_MCP_0": "${HOME}",
        "COLONY_MCP_1": "hush",
    }
    servers = {"own": {"command": "serve", "args": ["a", "${COLONY_MCP_0}"], "env": {"TOKEN": "${COLONY_MCP_1}"}}}
    assert json.loads(options(command)["--mcp-config"]) == {"mcpServers": servers}
    assert options(command)["--allowedTools"] == "mcp__own"
    assert not any(word in " ".join(command.argv) for word in ("hush", "key", "the instruction"))


def test_a_prompt_that_no_command_line_takes_is_refused_by_name(tmp_path: Path) -> None:
    with pytest.raises(Invalid, match="system-prompt is longer") as caught:
        command_of(job(tmp_path, system_prompt="x" * ARGUMENT_BYTES))
    assert caught.value.code == "argument-too-long"


@pytest.mark.parametrize(
    ("tool", "permissions", "allowed", "answer"),
    [
        ("Bash", "ask", None, None),
        ("Bash", "edits", None, None),
        ("Bash", "all", None, True),
        ("Bash", "all", ("Read",), False),
        ("Bash", "all", ("Bash(git *)",), False),
        ("Bash", "all", ("Bash", "Bash(git *)"), True),
        ("Bash", "ask", ("Bash",), None),
        ("mcp__own__show", "ask", None, True),
        ("mcp__own__show", "ask", ("Read",), True),
        ("mcp__theirs__show", "ask", None, None),
        ("mcp__theirs__show", "all", ("Read",), False),
        ("AskUserQuestion", "all", None, None),
        ("AskUserQuestion", "all", ("Read",), False),
    ],
)
def test_who_answers_for_a_tool(
    tool: str, permissions: Any, allowed: tuple[str, ...] | None, answer: bool | None
) -> None:
    config = AgentConfig(permissions=permissions, allowed_tools=allowed)
    assert permit(config, (McpServer(name="own", command=("x",)),))(tool) is answer


async def test_what_is_missing_is_said_with_how_to_get_it(tmp_path: Path) -> None:
    assert await ClaudeBackend().check({"PATH": str(tmp_path)}) == Health(
        ready=False, detail="no claude on PATH", hint=INSTALL
    )


async def test_one_that_lies_beside_path_is_pointed_at(tmp_path: Path) -> None:
    folder = tmp_path / ".local/bin"
    folder.mkdir(parents=True)
    scripted_claude(folder)
    health = await ClaudeBackend().check({"PATH": "/nonexistent", "HOME": str(tmp_path)})
    assert not health.ready
    assert (health.detail, health.hint) == (f"claude is in {folder}, which is not on PATH", f"PATH={folder}:$PATH")


@pytest.mark.parametrize(
    ("script", "said"),
    [
        ("#!/bin/sh\necho broken >&2; exit 3\n", "ended with code 3: broken"),
        ("#!/nonexistent/shell\n", "cannot be started"),
        ("#!/bin/sh\nexec sleep 1000\n", "did not tell its version"),
    ],
)
async def test_one_that_does_not_work_is_not_ready(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, script: str, said: str
) -> None:
    if "sleep" in script:
        monkeypatch.setattr("colony_core.backends.claude.VERSION_SECONDS", 0.5)
    program = tmp_path / "claude"
    program.write_text(script)
    program.chmod(0o755)
    health = await ClaudeBackend().check({"PATH": f"{tmp_path}:/usr/bin:/bin"})
    assert not health.ready
    assert said in health.detail


async def test_one_that_works_tells_its_version(tmp_path: Path) -> None:
    program = scripted_claude(tmp_path)
    assert await ClaudeBackend().check({"PATH": str(tmp_path)}) == Health(ready=True, detail=program, version="9.9.9")


async def play(folder: Path, *steps: dict[str, Any]) -> list[Happening]:
    async with open_scripted_claude(folder) as stage:
        return await Stage(stage.backend, stage.programs, {"it": json.dumps(steps)}).play("it")


def end_of(happenings: list[Happening]) -> Ended:
    end = happenings[-1]
    assert isinstance(end, Ended)
    return end


async def test_leaving_with_code_0_and_no_result_is_no_success(tmp_path: Path) -> None:
    end = end_of(await play(tmp_path, {"exit": 0}))
    assert (end.outcome, end.code, end.text) == ("failed", "agent-died", "claude ended with code 0")


async def test_a_usage_error_is_told_in_the_words_of_the_program(tmp_path: Path) -> None:
    end = end_of(await play(tmp_path, {"stderr": "error: unknown option"}, {"exit": 1}))
    assert (end.code, end.text) == ("agent-died", "error: unknown option")


async def test_a_flood_on_stderr_does_not_stall_it(tmp_path: Path) -> None:
    end = end_of(await play(tmp_path, {"stderr": "x" * 2_000_000}, {"stderr": "the last"}, {"exit": 2}))
    assert end.text == "the last"
    assert sum(map(len, end.evidence)) < 20_000


async def test_lines_of_two_mebibytes_and_lines_of_noise(tmp_path: Path) -> None:
    big = {"type": "assistant", "message": {"content": [{"type": "text", "text": "y" * 2_000_000}]}}
    happenings = await play(tmp_path, {"raw": "Welcome to Claude!\n\n[1]\n"}, {"print": big})
    assert [len(happening.text) for happening in happenings if isinstance(happening, Text)] == [2_000_000]
    assert [happening for happening in happenings if isinstance(happening, Notice)] == []
    assert end_of(happenings).outcome == "done"


async def test_a_child_that_holds_the_output_does_not_keep_the_run_alive(tmp_path: Path) -> None:
    end = end_of(await play(tmp_path, {"hold": 1000}, {"die": signal.SIGKILL}))
    assert "claude was killed by SIGKILL" in end.evidence


async def test_an_instruction_of_many_mebibytes_arrives(tmp_path: Path) -> None:
    steps = [{"raw": " " * 4_000_000 + "\n"}]
    assert end_of(await play(tmp_path, *steps)).outcome == "done"


async def test_a_program_that_is_not_there_is_the_starters_to_tell(tmp_path: Path) -> None:
    backend = ClaudeBackend(program=str(tmp_path / "nothing"), graces=QUICK)
    with pytest.raises(FileNotFoundError):
        async with backend.run(job(tmp_path)):
            await trio.sleep_forever()
