"""The real Claude Code against a model of ours on loopback: what the contract does not ask of every backend."""

import json
import os
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import attrs
import pytest
import trio

from colony_core.backends import (
    AgentConfig,
    ApprovalAsked,
    ClaudeBackend,
    Ended,
    Happening,
    Job,
    LimitReached,
    McpServer,
    Notice,
    Run,
    Started,
    Text,
    TextDelta,
    Thinking,
    ToolResult,
    ToolUse,
    Usage,
)
from colony_core.backends.claude import Permissions

from . import tool_server
from .contract import DEADLINE_SECONDS, PATIENT, Act, follow, make_programs, model_variables, real_claude
from .fake_model import FakeModel, open_fake_model
from .programs import Programs

pytestmark = pytest.mark.claude

HOUR = 3600


@attrs.define
class Scene:
    """A Claude Code, its model, and a workspace."""

    model: FakeModel
    programs: Programs
    backend: ClaudeBackend

    @property
    def workdir(self) -> Path:
        return self.programs.workdir

    def is_written_down(self, text: str) -> bool:
        """Whether a session on disk has it; Claude Code writes a moment after it has said so."""
        return any(text in path.read_text() for path in self.programs.home.rglob("*.jsonl"))

    async def play(self, *steps: dict[str, Any], act: Act | None = None, **more: Any) -> list[Happening]:
        """What happens when the model answers with these steps. `AgentConfig`'s and `Job`'s fields by name."""
        fields = {name: more.pop(name) for name in list(more) if name in attrs.fields_dict(AgentConfig)}
        job = Job(
            colony="test",
            instruction=more.pop("instruction", f"FAKE:{json.dumps(steps)}"),
            workdir=self.workdir,
            start=self.programs.start,
            config=AgentConfig(**fields),
            **more,
        )
        with trio.fail_after(DEADLINE_SECONDS):
            async with self.backend.run(job) as run:
                return await follow(run, act)


@pytest.fixture
async def scene(tmp_path: Path) -> AsyncIterator[Scene]:
    with open_fake_model() as model:
        programs = make_programs(tmp_path, model_variables(model.url))
        yield Scene(model, programs, ClaudeBackend(program=real_claude(), graces=PATIENT))
        assert programs.living() == []
        assert programs.left_to_us == []


def of(happenings: list[Happening], kind: type[Any]) -> list[Any]:
    return [happening for happening in happenings if isinstance(happening, kind)]


def end_of(happenings: list[Happening]) -> Ended:
    end = happenings[-1]
    assert isinstance(end, Ended)
    return end


def bash(command: str) -> dict[str, Any]:
    return {"tool": "Bash", "input": {"command": command}}


async def grant(run: Run, happening: Happening) -> None:
    if isinstance(happening, ApprovalAsked):
        await run.answer(happening.id, allow=True)


AT_WORK = bash("touch began; sleep 1000")


def when_at_work(scene: Scene, deed: Callable[[Run], Awaitable[None]]) -> Act:
    """Does it as soon as the tool of `AT_WORK` is really at work."""

    async def act(run: Run, happening: Happening) -> None:
        if isinstance(happening, ToolUse):
            while not (scene.workdir / "began").exists():
                await trio.sleep(0.02)
            await deed(run)

    return act


async def interrupt(run: Run) -> None:
    await run.interrupt()


async def test_an_answer_comes_in_pieces_and_as_a_whole_with_its_price(scene: Scene) -> None:
    happenings = await scene.play({"thinking": "easy", "text": "It is forty-two, as you know well enough."})
    text = "".join(delta.text for delta in of(happenings, TextDelta))
    assert [said.text for said in of(happenings, Text)] == [text] == ["It is forty-two, as you know well enough."]
    assert [thought.text for thought in of(happenings, Thinking)] == ["easy"]
    assert end_of(happenings) == Ended(outcome="done", text=text, evidence=("claude told its result: success",))
    used = of(happenings, Usage)[-1]
    assert used.cost_usd > 0
    assert used.turns == 1
    assert used.input_tokens > 0 < used.output_tokens
    [started] = of(happenings, Started)
    assert started.model.startswith("claude-sonnet")
    assert (await scene.backend.check({"PATH": os.environ["PATH"]})).version == started.version


async def test_edits_of_the_workspace_go_without_asking_and_commands_do_not(scene: Scene) -> None:
    path = scene.workdir / "new.txt"
    happenings = await scene.play(
        {"tool": "Write", "input": {"file_path": str(path), "content": "written"}},
        bash("sh -c 'echo granted > asked.txt'"),
        {"text": "done"},
        act=grant,
    )
    assert end_of(happenings).outcome == "done"
    assert path.read_text() == "written"
    assert [(ask.tool, ask.kind, ask.input["command"]) for ask in of(happenings, ApprovalAsked)] == [
        ("Bash", "execute", "sh -c 'echo granted > asked.txt'")
    ]
    assert (scene.workdir / "asked.txt").read_text() == "granted\n"
    assert [use.kind for use in of(happenings, ToolUse)] == ["edit", "execute"]
    assert [result.ok for result in of(happenings, ToolResult)] == [True, True]


async def test_two_questions_at_once_are_answered_one_by_one(scene: Scene) -> None:
    async def act(run: Run, happening: Happening) -> None:
        if isinstance(happening, ApprovalAsked):
            await run.answer(happening.id, allow=happening.input["command"].endswith("two"))

    both = {"tools": [["Bash", {"command": "sh -c 'touch one' one"}], ["Bash", {"command": "sh -c 'touch two' two"}]]}
    happenings = await scene.play(both, {"text": "ok"}, act=act)
    verdicts = {use.input["command"][-3:]: use.id for use in of(happenings, ToolUse)}
    results = {result.id: result.ok for result in of(happenings, ToolResult)}
    assert {name: results[key] for name, key in verdicts.items()} == {"one": False, "two": True}
    assert [path.name for path in scene.workdir.iterdir()] == ["two"]


async def test_what_is_denied_does_not_happen(scene: Scene) -> None:
    async def act(run: Run, happening: Happening) -> None:
        if isinstance(happening, ApprovalAsked):
            await run.answer(happening.id, allow=False, message="not today")

    happenings = await scene.play(bash("touch denied"), {"text": "I see"}, act=act, permissions="ask")
    assert [(result.ok, result.text) for result in of(happenings, ToolResult)] == [(False, "not today")]
    assert not (scene.workdir / "denied").exists()
    assert end_of(happenings).outcome == "done"
    assert "uses of tools that were denied: 1" in end_of(happenings).evidence


async def test_an_edit_beyond_the_workspace_is_asked_and_no_mere_edit(scene: Scene) -> None:
    path = scene.workdir.parent / "beyond.txt"
    writing = {"tool": "Write", "input": {"file_path": str(path), "content": "x"}}
    happenings = await scene.play(writing, {"text": "ok"}, act=grant)
    [asked] = of(happenings, ApprovalAsked)
    assert asked.kind == "other"
    assert "outside" in asked.reason
    assert path.exists()


async def test_an_edit_through_a_link_out_of_the_workspace_is_asked(scene: Scene) -> None:
    elsewhere = scene.workdir.parent / "elsewhere"
    elsewhere.mkdir()
    (scene.workdir / "link").symlink_to(elsewhere)
    writing = {"tool": "Write", "input": {"file_path": str(scene.workdir / "link" / "new.txt"), "content": "x"}}
    happenings = await scene.play(writing, {"text": "ok"}, act=grant)
    [asked] = of(happenings, ApprovalAsked)
    assert (asked.tool, asked.kind) == ("Write", "other")
    assert (elsewhere / "new.txt").exists()


@pytest.mark.parametrize(("permissions", "asked"), [("ask", 1), ("all", 0)])
async def test_everything_may_go_without_asking_also_for_root(
    scene: Scene, permissions: Permissions, asked: int
) -> None:
    happenings = await scene.play(bash("rm -rf x; touch done"), {"text": "ok"}, act=grant, permissions=permissions)
    assert len(of(happenings, ApprovalAsked)) == asked
    assert (scene.workdir / "done").exists()


async def test_only_the_allowed_tools_are_there_and_a_pattern_allows_no_more(scene: Scene) -> None:
    happenings = await scene.play(
        bash("echo hi"), bash("touch beyond"), {"text": "ok"}, allowed_tools=("Read", "Bash(echo *)"), permissions="all"
    )
    assert set(scene.model.requests[0]["tools"]) == {"Read", "Bash"}
    assert [result.ok for result in of(happenings, ToolResult)] == [True, False]
    assert not (scene.workdir / "beyond").exists()
    assert of(happenings, ApprovalAsked) == []


async def test_no_tools_at_all_or_all_but_some(scene: Scene) -> None:
    await scene.play({"text": "hm"}, allowed_tools=())
    await scene.play({"text": "hm, hm"}, disallowed_tools=("Bash", "Write"))
    none, some = scene.model.requests
    assert none["tools"] == []
    assert "Read" in some["tools"]
    assert not {"Bash", "Write"} & set(some["tools"])


async def test_prompts_and_the_model_reach_the_model(scene: Scene) -> None:
    (scene.workdir / "CLAUDE.md").write_text("Snails are never late.")
    await scene.play(
        {"text": "hm"}, model="claude-opus-x", system_prompt="-You are a snail.", append_system_prompt="Be \n'slow'."
    )
    [request] = scene.model.requests
    assert request["model"] == "claude-opus-x"
    assert "Snails are never late." in request["messages"]
    assert "-You are a snail." in request["system"]
    assert json.dumps("Be \n'slow'.").strip('"') in request["system"]


async def test_a_question_to_a_person_is_asked_also_where_everything_is_allowed(scene: Scene) -> None:
    options = [{"label": "red", "description": "r"}, {"label": "blue", "description": "b"}]
    question = {"question": "Which colour?", "header": "Colour", "options": options, "multiSelect": False}

    async def act(run: Run, happening: Happening) -> None:
        if isinstance(happening, ApprovalAsked):
            await run.answer(happening.id, allow=True, message="blue")

    asking = {"tool": "AskUserQuestion", "input": {"questions": [question]}}
    happenings = await scene.play(asking, {"text": "ok"}, act=act, permissions="all")
    assert [(ask.tool, ask.kind) for ask in of(happenings, ApprovalAsked)] == [("AskUserQuestion", "question")]
    [result] = of(happenings, ToolResult)
    assert "blue" in result.text


async def test_of_several_questions_each_gets_its_own_answer(scene: Scene) -> None:
    options = [{"label": "red", "description": "r"}, {"label": "blue", "description": "b"}]
    questions = [
        {"question": f"Which {what.lower()}?", "header": what, "options": options, "multiSelect": False}
        for what in ("Wall", "Door")
    ]

    async def act(run: Run, happening: Happening) -> None:
        if isinstance(happening, ApprovalAsked):
            await run.answer(happening.id, allow=True, message="2: red\nwall: deep blue")

    happenings = await scene.play(
        {"tool": "AskUserQuestion", "input": {"questions": questions}}, {"text": "ok"}, act=act
    )
    [result] = of(happenings, ToolResult)
    assert '"Which wall?"="deep blue"' in result.text
    assert '"Which door?"="red"' in result.text


async def test_an_interrupt_ends_the_tool_that_is_at_work(scene: Scene) -> None:
    happenings = await scene.play(AT_WORK, act=when_at_work(scene, interrupt), permissions="all")
    assert end_of(happenings).outcome == "stopped"
    assert of(happenings, ToolResult)[0].ok is False


async def test_an_interrupt_while_the_api_is_tried_again(scene: Scene) -> None:
    async def act(run: Run, happening: Happening) -> None:
        if isinstance(happening, Notice):
            await run.interrupt()

    happenings = await scene.play({"status": 429, "headers": {"retry-after": "30"}}, act=act)
    assert [notice.code for notice in of(happenings, Notice)] == ["retry"]
    assert end_of(happenings).outcome == "stopped"


async def test_an_interrupted_session_goes_on_and_knows_what_was_said(scene: Scene) -> None:
    first = await scene.play({"text": "I begin", **AT_WORK}, act=when_at_work(scene, interrupt), permissions="all")
    [started] = of(first, Started)
    happenings = await scene.play({"text": "I remember"}, resume=started.session)
    assert end_of(happenings) == Ended(outcome="done", text="I remember", evidence=("claude told its result: success",))
    assert of(happenings, Started)[0].session == started.session
    assert "I begin" in scene.model.requests[-1]["messages"]


async def test_a_session_that_is_not_there_cannot_go_on(scene: Scene) -> None:
    happenings = await scene.play({"text": "x"}, resume="11111111-2222-4333-8444-555555555555")
    assert (end_of(happenings).outcome, end_of(happenings).code) == ("failed", "session-lost")
    assert of(happenings, Started) == []


async def test_turns_are_limited(scene: Scene) -> None:
    happenings = await scene.play(bash("echo 1"), bash("echo 2"), {"text": "x"}, permissions="all", max_turns=1)
    assert (end_of(happenings).outcome, end_of(happenings).code) == ("failed", "max-turns")
    assert of(happenings, Usage)[-1].turns == 1


async def test_money_is_limited(scene: Scene) -> None:
    dear = {"usage": {"input_tokens": 10_000_000}}
    happenings = await scene.play({**bash("echo 1"), **dear}, {"text": "x"}, permissions="all", cost_limit=0.5)
    assert (end_of(happenings).outcome, end_of(happenings).code) == ("failed", "budget")
    assert of(happenings, Usage)[-1].cost_usd > 0.5


@pytest.mark.parametrize(
    ("status", "code"),
    [
        (400, "api-error"),
        (401, "not-logged-in"),
        (403, "not-logged-in"),
        (404, "api-error"),
        (413, "api-error"),
        (500, "api-error"),
    ],
)
async def test_an_error_of_the_api_fails_the_run_with_its_text(scene: Scene, status: int, code: str) -> None:
    end = end_of(await scene.play({"status": status, "message": f"no {status} today"}))
    assert (end.outcome, end.code) == ("failed", code)
    assert end.text
    assert any(str(status) in line for line in (*end.evidence, end.text))


async def test_what_is_overloaded_is_tried_again(scene: Scene) -> None:
    happenings = await scene.play({"status": 529, "times": 1, "text": "now it works"})
    [notice] = of(happenings, Notice)
    assert notice.code == "retry"
    assert "529 (overloaded)" in notice.text
    assert end_of(happenings).text == "now it works"


@pytest.mark.parametrize("step", [{"cut": True}, {"sse_error": "overloaded_error"}])
async def test_a_stream_that_breaks_is_asked_for_again_as_a_whole(scene: Scene, step: dict[str, Any]) -> None:
    happenings = await scene.play({"text": "a long text that is cut somewhere in its middle", **step})
    assert [said.text for said in of(happenings, Text)] == ["a long text that is cut somewhere in its middle"]
    assert end_of(happenings).outcome == "done"
    assert len(scene.model.requests) > 1


async def test_a_refused_connection_fails_the_run(scene: Scene) -> None:
    end = end_of(await scene.play({"text": "x"}, environment={"ANTHROPIC_BASE_URL": "http://127.0.0.1:1"}))
    assert (end.outcome, end.code) == ("failed", "api-error")


async def test_too_many_requests_are_a_limit(scene: Scene) -> None:
    happenings = await scene.play({"status": 429, "headers": {"retry-after": "1"}})
    assert [limit.until for limit in of(happenings, LimitReached)] == [None]
    assert end_of(happenings).code == "limit"


async def test_the_limit_of_an_account_tells_when_it_ends(scene: Scene) -> None:
    reset = int(time.time()) + HOUR
    headers = {
        "retry-after": str(HOUR),
        "anthropic-ratelimit-unified-status": "rejected",
        "anthropic-ratelimit-unified-reset": str(reset),
        "anthropic-ratelimit-unified-representative-claim": "five_hour",
    }
    subscriber = {"ANTHROPIC_API_KEY": "", "CLAUDE_CODE_OAUTH_TOKEN": "sk-ant-oat01-dummy"}
    happenings = await scene.play({"status": 429, "headers": headers}, environment=subscriber)
    assert [limit.until for limit in of(happenings, LimitReached)] == [reset]
    assert end_of(happenings).code == "limit"


async def test_kill_9_fails_the_run_ends_its_tools_and_the_session_can_go_on(scene: Scene) -> None:
    async def kill(run: Run) -> None:
        while not scene.is_written_down("I begin"):
            await trio.sleep(0.02)
        scene.programs.started[0].process.kill()

    happenings = await scene.play({"text": "I begin", **AT_WORK}, act=when_at_work(scene, kill), permissions="all")
    end = end_of(happenings)
    assert (end.outcome, end.code) == ("failed", "agent-died")
    assert "claude was killed by SIGKILL" in end.evidence
    again = await scene.play({"text": "I go on"}, resume=of(happenings, Started)[0].session)
    assert end_of(again).text == "I go on"
    assert "I begin" in scene.model.requests[-1]["messages"]


async def test_tool_servers_get_their_secrets_and_no_command_line_shows_them(scene: Scene) -> None:
    shower = McpServer(
        name="shower",
        command=(sys.executable, tool_server.__file__, "a b", "${HOME}"),
        env={"SECRET": "hush ${PATH}"},
    )
    absent = McpServer(name="absent", command=("/nonexistent",))
    happenings = await scene.play({"tool": "mcp__shower__show"}, {"text": "ok"}, mcp_servers=(shower, absent))
    [result] = of(happenings, ToolResult)
    assert json.loads(result.text) == {"words": ["a b", "${HOME}"], "secret": "hush ${PATH}"}
    assert of(happenings, ApprovalAsked) == []
    assert [(notice.code, "absent" in notice.text) for notice in of(happenings, Notice)] == [("mcp-failed", True)]
    [command] = scene.programs.commands
    assert "hush" not in " ".join(command.argv)
    assert "hush" not in repr(command)


async def test_eight_agents_at_once(scene: Scene) -> None:
    ends: dict[int, Ended] = {}

    async def one(number: int) -> None:
        happenings = await scene.play(
            bash(f"echo {number} > {number}.txt"), {"text": f"agent {number}"}, permissions="all"
        )
        ends[number] = end_of(happenings)

    async with trio.open_nursery() as nursery:
        for number in range(8):
            nursery.start_soon(one, number)
    assert {number: end.text for number, end in ends.items()} == {number: f"agent {number}" for number in range(8)}
    assert sorted(path.read_text().strip() for path in scene.workdir.iterdir()) == list("01234567")
