"""ACP end to end: the real adapter over the real Claude Code, against a model of ours. What every backend does stands in the contract."""

import json
import os
import signal
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import attrs
import pytest
import trio

from colony_core.backends import (
    AgentConfig,
    ApprovalAsked,
    Ended,
    Happening,
    LimitReached,
    Run,
    Started,
    Text,
    ToolResult,
    ToolUse,
    Usage,
)

from .contract import Stage, follow, open_real_acp

pytestmark = [pytest.mark.acp, pytest.mark.slow]


@pytest.fixture
async def stage(tmp_path: Path) -> AsyncIterator[Stage]:
    async with open_real_acp(tmp_path) as found:
        yield found
        assert found.programs.living() == []


def said(*steps: dict[str, Any]) -> str:
    return f"FAKE:{json.dumps(steps)}"


async def play(stage: Stage, *steps: dict[str, Any], act: Any = None, **more: Any) -> list[Happening]:
    stage.scenes = {**stage.scenes, "it": said(*steps)}
    return await stage.play("it", act, **more)


def end_of(happenings: list[Happening]) -> Ended:
    assert isinstance(happenings[-1], Ended)
    return happenings[-1]


async def test_an_edit_of_the_workspace_is_made_without_asking_and_its_cost_is_told(stage: Stage) -> None:
    write = {"tool": "Write", "input": {"file_path": str(stage.programs.workdir / "a.txt"), "content": "written"}}
    happenings = await play(
        stage, {"text": "I write.", **write}, {"text": "done"}, config=AgentConfig(permissions="edits")
    )
    assert (stage.programs.workdir / "a.txt").read_text() == "written"
    assert not any(isinstance(happening, ApprovalAsked) for happening in happenings)
    uses = [happening for happening in happenings if isinstance(happening, ToolUse)]
    assert (uses[-1].name, uses[-1].kind) == ("Write", "edit")
    assert uses[-1].input["content"] == "written"
    [result] = [happening for happening in happenings if isinstance(happening, ToolResult)]
    assert (result.id, result.ok) == (uses[-1].id, True)
    assert [happening.text for happening in happenings if isinstance(happening, Text)] == ["I write.", "done"]
    usage = [happening for happening in happenings if isinstance(happening, Usage)][-1]
    assert usage.cost_usd is not None
    assert usage.cost_usd > 0
    assert usage.output_tokens > 0
    assert end_of(happenings).outcome == "done"


@pytest.mark.parametrize(
    ("path", "reason"), [("link/a.txt", "leads to {elsewhere}/a.txt"), (".claude/settings.json", ".claude is acted on")]
)
async def test_an_edit_that_leaves_the_workspace_or_binds_the_agent_is_asked_for(
    stage: Stage, tmp_path: Path, path: str, reason: str
) -> None:
    workdir, elsewhere = stage.programs.workdir, tmp_path / "elsewhere"
    elsewhere.mkdir()
    (workdir / "link").symlink_to(elsewhere)
    asked: list[ApprovalAsked] = []

    async def act(run: Run, happening: Happening) -> None:
        if isinstance(happening, ApprovalAsked):
            asked.append(happening)
            await run.answer(happening.id, allow=False)

    write = {"tool": "Write", "input": {"file_path": str(workdir / path), "content": "{}"}}
    await play(stage, write, {"text": "as you like"}, act=act, config=AgentConfig(permissions="edits"))
    [question] = asked
    assert (question.tool, question.kind) == ("Write", "other")
    assert question.reason.startswith(reason.format(elsewhere=elsewhere.resolve()))
    assert not (workdir / path).exists()


async def test_a_limit_of_turns_and_forbidden_tools_are_kept(stage: Stage) -> None:
    config = AgentConfig(model="haiku", max_turns=1, allowed_tools=("Read", "Write"), disallowed_tools=("Write",))
    write = {"tool": "Write", "input": {"file_path": "a.txt", "content": "written"}}
    happenings = await play(stage, write, {"text": "done"}, config=config)
    assert [happening.ok for happening in happenings if isinstance(happening, ToolResult)] == [False]
    end = end_of(happenings)
    assert (end.outcome, end.code) == ("failed", "max-turns")


async def test_eight_work_at_once(stage: Stage) -> None:
    names = [f"agent-{number}" for number in range(8)]
    ends: list[str] = []

    async def one(name: str) -> None:
        scene = said({"tool": "Bash", "input": {"command": f"echo {name} > {name}"}}, {"text": name})
        own = attrs.evolve(stage, scenes={name: scene})
        ends.append(end_of(await own.play(name, config=AgentConfig(permissions="all"))).text)

    async with trio.open_nursery() as nursery:
        for name in names:
            nursery.start_soon(one, name)
    assert sorted(ends) == names
    assert [(stage.programs.workdir / name).read_text() for name in names] == [f"{name}\n" for name in names]


@pytest.mark.parametrize("step", [{"cut": True}, {"sse_error": "overloaded_error"}])
async def test_a_stream_that_breaks_is_asked_for_again(stage: Stage, step: dict[str, Any]) -> None:
    happenings = await play(stage, {"text": "a long text that is cut somewhere in its middle", **step})
    assert end_of(happenings).outcome == "done"
    # the adapter tells the second answer from where the first was cut
    assert (
        "".join(said.text for said in happenings if isinstance(said, Text))
        == "a long text that is cut somewhere in its middle"
    )


@pytest.mark.parametrize(
    ("status", "code"), [(400, "api-error"), (429, "limit"), (401, "not-logged-in"), (529, "api-error")]
)
async def test_errors_of_the_model_are_told_apart(stage: Stage, status: int, code: str) -> None:
    happenings = await play(stage, {"status": status, "message": f"model says {status}"})
    end = end_of(happenings)
    assert (end.outcome, end.code) == ("failed", code)
    assert any(isinstance(happening, LimitReached) for happening in happenings) == (code == "limit")


async def test_a_killed_adapter_is_a_death_and_leaves_no_tool(stage: Stage) -> None:
    began = stage.programs.workdir / "began"

    async def act(run: Run, happening: Happening) -> None:
        adapter = stage.programs.started[-1].process
        if isinstance(happening, ToolUse) and happening.input and adapter.poll() is None:
            while not began.exists():
                await trio.sleep(0.02)
            adapter.send_signal(signal.SIGKILL)

    step = {"tool": "Bash", "input": {"command": f"touch {began}; sleep 1000"}}
    happenings = await play(stage, step, act=act, config=AgentConfig(permissions="all"))
    end = end_of(happenings)
    assert (end.outcome, end.code) == ("failed", "agent-died")
    assert "killed by SIGKILL" in end.evidence


async def test_a_killed_claude_is_a_failure_of_the_adapter(stage: Stage) -> None:
    async def act(run: Run, happening: Happening) -> None:
        if isinstance(happening, Text | ToolUse):
            adapter = stage.programs.started[-1].process.pid
            for pid in stage.programs.living():
                if pid != adapter and b"claude" in Path(f"/proc/{pid}/cmdline").read_bytes():
                    os.kill(pid, signal.SIGKILL)

    happenings = await play(stage, {"tool": "Read", "input": {"file_path": "/dev/null"}}, {"delay": 1000}, act=act)
    end = end_of(happenings)
    assert (end.outcome, end.code) == ("failed", "agent-died")


async def test_a_session_remembers_what_was_said_after_an_interrupt(stage: Stage) -> None:
    async def act(run: Run, happening: Happening) -> None:
        if isinstance(happening, ToolUse):
            await run.interrupt()

    first = await play(stage, {"tool": "Read", "input": {"file_path": "/dev/null"}}, {"delay": 1000}, act=act)
    assert end_of(first).outcome == "stopped"
    session = getattr(first[0], "session", "")
    assert session
    async with stage.backend.run(stage.job("speaks", resume=session)) as run:
        second = await follow(run)
    assert end_of(second).outcome == "done"
    assert [happening.text for happening in second if isinstance(happening, Text)] == ["hello"]
    usage = [happening for happening in second if isinstance(happening, Usage)][-1]
    assert usage.cost_usd is not None


async def test_a_session_that_was_never_written_down_is_lost(stage: Stage) -> None:
    async with stage.backend.run(stage.job("speaks", resume="11111111-2222-4333-8444-555555555555")) as run:
        happenings = await follow(run)
    assert (end_of(happenings).outcome, end_of(happenings).code) == ("failed", "session-lost")
    assert not any(isinstance(happening, Started) for happening in happenings)
