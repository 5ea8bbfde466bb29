"""A client of ACP and every quirk of agents: the agent is `fake_acp.py`, a process that does what its instruction says."""

import json
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import attrs
import pytest

from colony_core.backends import (
    AgentConfig,
    ApprovalAsked,
    ApprovalVoided,
    Ended,
    Happening,
    Job,
    LimitReached,
    McpServer,
    Notice,
    Permissions,
    Started,
    Text,
    TextDelta,
    Thinking,
    ToolResult,
    ToolUse,
    Usage,
)
from colony_core.backends.acp import AcpBackend
from colony_core.errors import Invalid, Missing, NotFound
from colony_core.sessions.state import goes_without_asking

from .contract import PATIENT, make_programs
from .programs import Programs

FAKE = str(Path(__file__).with_name("fake_acp.py"))
Make = Callable[..., Job]


def backend(**settings: Any) -> AcpBackend:
    return AcpBackend((sys.executable, "-S", FAKE, json.dumps(settings)), graces=PATIENT)


@pytest.fixture
def programs(tmp_path: Path) -> Programs:
    return make_programs(tmp_path)


@pytest.fixture
def make(programs: Programs) -> Make:
    """A job whose instruction is a list of steps."""

    def job(*steps: Any, **fields: Any) -> Job:
        config = AgentConfig(**{"model": None, "max_turns": None, **fields.pop("config", {})})
        instruction = steps[0] if steps and isinstance(steps[0], str) else json.dumps(steps)
        place = {"workdir": programs.workdir, "start": programs.start}
        return Job(colony="hello", instruction=instruction, config=config, **place, **fields)

    return job


async def told(agent: AcpBackend, job: Job) -> list[Happening]:
    async with agent.run(job) as run:
        return [happening async for happening in run.happenings()]


async def end(agent: AcpBackend, job: Job) -> Ended:
    last = (await told(agent, job))[-1]
    assert isinstance(last, Ended)
    return last


def texts(happenings: list[Happening]) -> list[str]:
    return [happening.text for happening in happenings if isinstance(happening, Text)]


# ---- a plain run


async def test_an_instruction_is_answered(make: Make) -> None:
    assert await told(backend(), make("hello")) == [
        Started(session="s-1", version="1.2"),
        TextDelta(text="echo: hello"),
        Text(text="echo: hello"),
        Usage(input_tokens=10, output_tokens=5, cache_read_tokens=2, cache_write_tokens=1),
        Ended(outcome="done", text="echo: hello", evidence=("the agent ended its turn",)),
    ]


async def test_chunks_of_a_message_are_one_text_and_another_message_is_another(make: Make) -> None:
    steps = [
        {"say": "", "message": "m1"}, {"say": "one ", "message": "m1"}, {"say": "text", "message": "m1"},
        {"say": "two", "message": "m2"}, {"think": "why "}, {"think": "not"}, {"say": "three"},
    ]  # fmt: skip
    happenings = await told(backend(), make(*steps))
    assert [h for h in happenings if isinstance(h, (Text, Thinking))] == [
        Text(text="one text"),
        Text(text="two"),
        Thinking(text="why not"),
        Text(text="three"),
    ]
    assert [h.text for h in happenings if isinstance(h, TextDelta)] == ["one ", "text", "two", "three"]


async def test_a_tool_is_told_again_when_more_is_known_and_its_result_once(make: Make) -> None:
    def tool(told: str, **fields: Any) -> dict[str, Any]:
        return {"update": {"sessionUpdate": told, "toolCallId": "t1", **fields}}

    steps = [
        {"say": "I run it."},
        tool("tool_call", title="Terminal", kind="execute", status="pending", rawInput={}),
        tool("tool_call_update", title="ls", rawInput={"command": "ls"}, _meta={"claudeCode": {"toolName": "Bash"}}),
        tool("tool_call_update", status="in_progress"),
        tool(
            "tool_call_update",
            status="completed",
            content=[{"type": "content", "content": {"type": "text", "text": "a"}}],
        ),
        tool("tool_call_update", status="completed", rawOutput="late"),
    ]
    happenings = await told(backend(), make(*steps))
    assert happenings[2:6] == [
        Text(text="I run it."),
        ToolUse(id="t1", name="execute", input={}, kind="execute", title="Terminal"),
        ToolUse(id="t1", name="Bash", input={"command": "ls"}, kind="execute", title="ls"),
        ToolResult(id="t1", text="a", ok=True),
    ]
    assert len([h for h in happenings if isinstance(h, ToolResult)]) == 1


async def test_what_a_sub_agent_says_is_not_the_answer(make: Make) -> None:
    parent = {"_meta": {"claudeCode": {"parentToolUseId": "t0"}}}
    chunk = {"sessionUpdate": "agent_message_chunk", "content": {"type": "text", "text": "below"}, **parent}
    happenings = await told(backend(), make({"say": "above"}, {"update": chunk}))
    assert Text(text="below", parent="t0") in happenings
    assert not any(isinstance(h, TextDelta) and h.text == "below" for h in happenings)
    assert isinstance(happenings[-1], Ended)
    assert happenings[-1].text == "above"


async def test_a_plan_is_a_notice_and_told_when_it_changes(make: Make) -> None:
    plan = {
        "sessionUpdate": "plan",
        "entries": [{"content": "look", "status": "completed"}, {"content": "act", "status": "pending"}],
    }
    happenings = await told(backend(), make({"update": plan}, {"update": plan}))
    assert [h for h in happenings if isinstance(h, Notice)] == [Notice(text="✓ look\n· act", code="plan")]


async def test_cost_is_that_of_the_run_and_never_falls(make: Make) -> None:
    def cost(amount: float, currency: str = "USD") -> dict[str, Any]:
        return {"sessionUpdate": "usage_update", "used": 1, "size": 9, "cost": {"amount": amount, "currency": currency}}

    history = [cost(0.5)]
    agent = backend(history=history)
    job = make(
        {"update": cost(0.75)},
        {"update": cost(0.7)},
        {"update": cost(9.0, "EUR")},
        {"update": cost(9.0, "EUR")},
        resume="s-1",
    )
    happenings = await told(agent, job)
    assert [h.cost_usd for h in happenings if isinstance(h, Usage)] == [0.25, 0.25]
    assert [h.code for h in happenings if isinstance(h, Notice)] == ["cost-unknown"]


async def test_a_limit_that_an_agent_tells_is_told_with_its_end(make: Make) -> None:
    info = {"_claude/rateLimit": {"status": "rejected", "resetsAt": 1700000000, "rateLimitType": "five_hour"}}
    happenings = await told(backend(), make({"update": {"sessionUpdate": "usage_update", "_meta": info}}))
    assert LimitReached(text="usage limit reached five hour", until=1700000000.0) in happenings


# ---- what agents do wrong


async def test_noise_on_stdout_and_updates_that_nobody_knows_are_passed_over(make: Make) -> None:
    steps = [
        {"raw": "INFO starting up"}, {"raw": "[]"}, {"raw": '{"jsonrpc":"2.0","id":77,"result":{}}'},
        {"raw": '{"jsonrpc":"2.0","id":[1],"result":{}}'}, {"raw": '{"jsonrpc":"2.0","id":true,"result":{}}'},
        {"raw": '{"jsonrpc":"2.0","method":"agent/gossip","params":[1]}'}, {"raw": "{}"}, {"raw": "[" * 5000},
        {"update": {"sessionUpdate": "weather", "rain": True}}, {"update": {"sessionUpdate": "tool_call"}},
        {"update": {"sessionUpdate": "agent_message_chunk", "content": 7}}, {"update": {}},
        {"session": "another", "update": {"sessionUpdate": "agent_message_chunk", "content": {"type": "text", "text": "not ours"}}},
        {"say": "fine"},
    ]  # fmt: skip
    assert texts(await told(backend(banner="Welcome!"), make(*steps))) == ["fine"]


async def test_what_we_do_not_offer_is_refused_by_its_number(make: Make) -> None:
    assert texts(await told(backend(), make({"call": "fs/read_text_file"}))) == [
        '{"code": -32601, "message": "Method not found"}'
    ]


async def test_another_version_of_the_protocol_is_refused(make: Make) -> None:
    ended = await end(backend(hello={"protocolVersion": 2}), make("hello"))
    assert (ended.outcome, ended.code) == ("failed", "acp-version")
    assert "fake speaks version 2 of ACP, Colony speaks 1" in ended.text


@pytest.mark.parametrize(
    "hello", [{"agentInfo": "me", "authMethods": 7, "agentCapabilities": []}, {"agentInfo": None, "authMethods": None}]
)
async def test_an_introduction_of_another_shape_is_enough(make: Make, hello: dict[str, Any]) -> None:
    assert (await end(backend(hello=hello), make("hello"))).outcome == "done"


async def test_an_agent_that_wants_a_login_says_how(make: Make) -> None:
    agent = backend(
        hello={"authMethods": [{"id": "oauth", "name": "Log in with Fake"}]},
        errors={"session/new": {"code": -32000, "message": "Authentication required"}},
    )
    ended = await end(agent, make("hello"))
    assert ended.code == "not-logged-in"
    assert "fake wants a login (Log in with Fake)" in ended.text
    assert "set its key in the environment" in ended.text


@pytest.mark.parametrize(
    ("step", "code"),
    [
        ({"stop": "max_tokens"}, "max-tokens"),
        ({"stop": "max_turn_requests"}, "max-turns"),
        ({"stop": "refusal"}, "refused"),
        ({"stop": "cancelled"}, "agent-stopped"),
        ({"stop": "boredom"}, "protocol"),
        ({"error": {"code": -32603, "message": "Internal error: API Error: 400 bad"}}, "api-error"),
        ({"error": {"code": -32603, "message": "Internal error: Reached maximum number of turns (1)"}}, "max-turns"),
        ({"error": {"code": -32603, "message": "Reached maximum budget ($1)"}}, "budget"),
        ({"error": {"code": -32603, "message": "x", "data": {"errorKind": "authentication_failed"}}}, "not-logged-in"),
        ({"error": {"code": -32000, "message": "Authentication required"}}, "not-logged-in"),
        ({"error": {"code": -32603, "message": "something odd"}}, "agent-error"),
        ({"error": "just words"}, "agent-error"),
    ],
)
async def test_each_way_to_fail_has_its_code(make: Make, step: dict[str, Any], code: str) -> None:
    ended = await end(backend(), make({"say": "half"}, step))
    assert (ended.outcome, ended.code) == ("failed", code)


@pytest.mark.parametrize("data", [{"errorKind": "rate_limit"}, None])
async def test_a_rate_limit_is_told_as_one(make: Make, data: Any) -> None:
    message = "API Error: Request rejected (429) limit reached|1700000000"
    happenings = await told(backend(), make({"error": {"code": -32603, "message": message, "data": data}}))
    assert happenings[-2] == LimitReached(text=message, until=1700000000.0)
    assert isinstance(happenings[-1], Ended)
    assert happenings[-1].code == "limit"


# ---- deaths


@pytest.mark.parametrize("when", ["initialize", "session/new", "session/prompt"])
async def test_an_agent_that_dies_is_told_with_its_exit(make: Make, when: str) -> None:
    ended = await end(backend(dies_at=[when]), make("hello"))
    assert (ended.outcome, ended.code) == ("failed", "agent-died")
    assert "exit 3" in ended.evidence


async def test_last_words_are_evidence_and_what_was_said_before_is_told(make: Make) -> None:
    steps = [{"say": "I was"}, {"raw": "Segmentation fault"}, {"stderr": "out of memory"}, {"signal": signal.SIGKILL}]
    happenings = await told(backend(), make(*steps))
    assert texts(happenings) == ["I was"]
    ended = happenings[-1]
    assert isinstance(ended, Ended)
    assert set(ended.evidence) == {
        "it hung up",
        "killed by SIGKILL",
        "stderr: out of memory",
        "stdout: Segmentation fault",
    }


async def test_a_death_is_noticed_although_another_process_holds_the_output(make: Make) -> None:
    assert (await end(backend(), make({"orphan": True}, {"exit": 4}))).code == "agent-died"


async def test_half_a_line_at_the_end_is_a_death(make: Make) -> None:
    steps = [{"raw": '{"jsonrpc":"2.0","id":2,"result":{"stopReason":'}, {"exit": 0}]
    assert (await end(backend(), make(*steps))).code == "agent-died"


async def test_a_line_without_end_fails_at_once(make: Make) -> None:
    """A lost message may be the answer that we wait for: going on could be waiting for ever."""
    ended = await end(backend(), make({"long": 65}, {"hang": True}))
    assert ended.code == "agent-died"
    assert "longer than we read" in ended.text


# ---- permissions


EDIT = {"toolCallId": "t1", "kind": "edit", "title": "Write a.txt", "rawInput": {"file_path": "a.txt"}}
RUN = {"toolCallId": "t2", "kind": "execute", "title": "ls", "rawInput": {"command": "ls"}}


@pytest.mark.parametrize(("allow", "option"), [(True, "1"), (False, "0")])
async def test_a_question_is_asked_and_answered_by_the_kind_of_option(make: Make, allow: bool, option: str) -> None:
    async with backend().run(make({"ask": RUN})) as run:
        happenings = []
        async for happening in run.happenings():
            happenings.append(happening)
            if isinstance(happening, ApprovalAsked):
                assert happening == ApprovalAsked(
                    id="t2.1", tool="execute", input={"command": "ls"}, kind="execute", title="ls", tool_use="t2"
                )
                await run.answer(happening.id, allow=allow)
                with pytest.raises(NotFound):
                    await run.answer(happening.id, allow=allow)
    assert json.loads(texts(happenings)[0]) == {"outcome": {"outcome": "selected", "optionId": option}}
    assert ToolUse(id="t2", name="execute", input={"command": "ls"}, kind="execute", title="ls") in happenings


@pytest.mark.parametrize(
    ("permissions", "call", "asked"),
    [
        ("ask", EDIT, True),
        ("edits", EDIT, False),
        ("edits", {**EDIT, "rawInput": {"file_path": "../a.txt"}}, True),
        ("edits", {**EDIT, "locations": [{"path": "/etc/passwd"}]}, True),
        ("edits", {**EDIT, "locations": [{"line": 1}]}, True),
        ("edits", {**EDIT, "content": [{"type": "diff", "path": "/etc/passwd", "newText": ""}]}, True),
        ("edits", {**EDIT, "rawInput": {"file_path": "link/a.txt"}}, True),
        ("edits", {**EDIT, "rawInput": {"file_path": ".git/hooks/pre-commit"}}, True),
        ("edits", {**EDIT, "rawInput": {}}, True),
        ("edits", RUN, True),
        ("all", RUN, False),
    ],
)
async def test_what_goes_without_asking_is_allowed_once(
    make: Make, programs: Programs, permissions: Permissions, call: dict[str, Any], asked: bool
) -> None:
    (programs.workdir / "link").symlink_to("/etc")
    async with backend().run(make({"ask": call}, config={"permissions": permissions})) as run:
        happenings = []
        async for happening in run.happenings():
            happenings.append(happening)
            if isinstance(happening, ApprovalAsked):
                await run.answer(happening.id, allow=True)
    put = [each for each in happenings if isinstance(each, ApprovalAsked)]
    assert bool(put) == asked
    assert not any(goes_without_asking(permissions, each.kind) for each in put), "a person is asked in the end"
    assert json.loads(texts(happenings)[0]) == {"outcome": {"outcome": "selected", "optionId": "1"}}


OWN = McpServer(name="colony", command=("colony-mcp",))


def named(tool: str) -> dict[str, Any]:
    return {"toolCallId": "t3", "kind": "other", "rawInput": {}, "_meta": {"claudeCode": {"toolName": tool}}}


async def test_tools_of_the_colony_ask_nobody_and_questions_to_a_person_always_do(make: Make) -> None:
    asked: list[str] = []
    steps = [{"ask": named("mcp__colony__report")}, {"ask": named("AskUserQuestion") | {"toolCallId": "t4"}}]
    async with backend().run(make(*steps, mcp_servers=(OWN,), config={"permissions": "all"})) as run:
        async for happening in run.happenings():
            if isinstance(happening, ApprovalAsked):
                asked.append(f"{happening.tool} {happening.kind}")
                await run.answer(happening.id, allow=True)
    assert asked == ["AskUserQuestion question"]


async def test_what_cannot_be_allowed_stays_open_and_a_denial_without_choice_is_a_cancellation(make: Make) -> None:
    async with backend().run(make({"ask": RUN, "options": [{"optionId": 7}, "x"]})) as run:
        happenings = []
        async for happening in run.happenings():
            happenings.append(happening)
            if isinstance(happening, ApprovalAsked):
                with pytest.raises(Invalid):
                    await run.answer(happening.id, allow=True)
                await run.answer(happening.id, allow=False)
    assert json.loads(texts(happenings)[0]) == {"outcome": {"outcome": "cancelled"}}


@pytest.mark.parametrize("steps", [[{"void": True}], []])
async def test_a_question_that_the_agent_gives_up_is_void(make: Make, steps: list[Any]) -> None:
    happenings = await told(backend(), make({"ask": RUN, "no_wait": True}, *steps))
    assert ApprovalVoided(id="t2.1") in happenings


# ---- interrupts


async def test_an_interrupt_is_heeded_and_takes_back_every_question(make: Make) -> None:
    job = make({"say": "begun"}, {"ask": RUN, "no_wait": True}, {"wait_cancel": True})
    async with backend(asks_when_cancelled=True).run(job) as run:
        happenings = []
        async for happening in run.happenings():
            happenings.append(happening)
            if isinstance(happening, ApprovalAsked):
                await run.interrupt()
                await run.interrupt()
    assert ApprovalVoided(id="t2.1") in happenings
    assert len([h for h in happenings if isinstance(h, ApprovalAsked)]) == 1
    assert Thinking(text='{"outcome": {"outcome": "cancelled"}}') in happenings
    assert happenings[-1] == Ended(
        outcome="stopped",
        text="begun",
        evidence=("it was asked to stop", "the agent stopped by itself, as if it had been asked to"),
    )


@pytest.mark.parametrize("settings", [{"silent_at": ["initialize"]}, {"silent_at": ["session/new"]}])
async def test_an_interrupt_before_the_prompt_ends_the_run(make: Make, settings: dict[str, Any]) -> None:
    async with backend(**settings).run(make("hello")) as run:
        await run.interrupt()
        ended = [happening async for happening in run.happenings()][-1]
    assert isinstance(ended, Ended)
    assert ended.outcome == "stopped"


async def test_an_end_by_itself_after_an_interrupt_is_stopped(make: Make) -> None:
    async with backend().run(
        make({"say": "x"}, {"wait_cancel": True}, {"error": {"code": 1, "message": "oops"}})
    ) as run:
        async for happening in run.happenings():
            if isinstance(happening, TextDelta):
                await run.interrupt()
    assert isinstance(happening, Ended)
    assert (happening.outcome, happening.text) == ("stopped", "oops")


async def test_an_error_of_the_block_leaves_as_it_is(make: Make) -> None:
    with pytest.raises(ZeroDivisionError):
        async with backend().run(make({"wait_cancel": True})):
            raise ZeroDivisionError


# ---- sessions and settings


def record(happenings: list[Happening]) -> dict[str, Any]:
    """What the agent was told, by method."""
    return dict(json.loads(texts(happenings)[-1]))


async def test_a_session_gets_its_folder_and_its_tool_servers(make: Make, programs: Programs) -> None:
    server = McpServer(name="colony", command=("colony-mcp", "--x"), env={"A": "b"})
    said = record(await told(backend(), make({"record": True}, mcp_servers=(server,))))
    assert said["initialize"]["clientCapabilities"] == {
        "fs": {"readTextFile": False, "writeTextFile": False},
        "terminal": False,
    }
    assert said["session/new"] == {
        "cwd": str(programs.workdir),
        "mcpServers": [
            {"name": "colony", "command": "colony-mcp", "args": ["--x"], "env": [{"name": "A", "value": "b"}]}
        ],
    }


async def test_a_loaded_session_does_not_tell_its_history_again(make: Make) -> None:
    history = [
        {"sessionUpdate": "user_message_chunk", "content": {"type": "text", "text": "old question"}},
        {"sessionUpdate": "agent_message_chunk", "content": {"type": "text", "text": "old answer"}},
    ]
    happenings = await told(backend(history=history), make({"say": "new"}, resume="s-1"))
    assert texts(happenings) == ["new"]
    assert happenings[0] == Started(session="s-1", version="1.2")


async def test_resume_is_taken_where_it_is_offered(make: Make) -> None:
    agent = backend(hello={"agentCapabilities": {"loadSession": True, "sessionCapabilities": {"resume": {}}}})
    said = record(await told(agent, make({"record": True}, resume="s-1")))
    assert said["session/resume"]["sessionId"] == "s-1"
    assert "session/load" not in said


async def test_an_agent_that_cannot_go_on_says_so(make: Make) -> None:
    ended = await end(backend(hello={"agentCapabilities": {}}), make("hello", resume="s-1"))
    assert ended.code == "resume-not-offered"
    agent = backend(errors={"session/load": {"code": -32002, "message": "Resource not found"}})
    assert (await end(agent, make("hello", resume="s-1"))).code == "session-lost"


SELECT = {
    "modes": {"currentModeId": "default", "availableModes": [{"id": "default"}, {"id": "auto_edit"}, {"id": "yolo"}]},
    "configOptions": [
        {"id": "brain", "category": "model", "currentValue": "m-1", "options": [{"value": "m-1"}, {"value": "m-2-sonnet"}]},
    ],
}  # fmt: skip


@pytest.mark.parametrize(
    ("config", "model", "mode", "left"),
    [
        ({"model": "sonnet"}, "m-2-sonnet", "auto_edit", None),
        ({"model": "m-1", "permissions": "ask"}, None, None, None),
        (
            {"model": "gpt-9", "max_turns": 7, "permissions": "all"},
            None,
            "yolo",
            "fake could not be told: model gpt-9, max_turns 7",
        ),
    ],
)
async def test_settings_are_set_where_the_agent_offers_them(
    make: Make, config: dict[str, Any], model: str | None, mode: str | None, left: str | None
) -> None:
    happenings = await told(backend(session=SELECT), make({"record": True}, config=config))
    said = record(happenings)
    assert said.get("session/set_config_option", {}).get("value") == model
    assert said.get("session/set_mode", {}).get("modeId") == mode
    assert [h.text for h in happenings if isinstance(h, Notice)] == ([left] if left else [])


async def test_a_setting_that_the_agent_refuses_is_left_with_its_words(make: Make) -> None:
    agent = backend(session=SELECT, errors={"session/set_mode": {"code": -32602, "message": "not today"}})
    happenings = await told(agent, make("hello"))
    assert Notice(text="fake could not be told: mode (not today)", code="setting-left") in happenings


async def test_system_prompts_are_said_before_the_instruction(make: Make) -> None:
    config = {"system_prompt": "Be a poet.", "append_system_prompt": "Be brief."}
    said = record(await told(backend(), make({"record": True}, config=config)))
    assert [block["text"] for block in said["session/prompt"]["prompt"]][:2] == ["Be a poet.", "Be brief."]


@pytest.mark.parametrize("config", [{"allowed_tools": ("Read",)}, {"disallowed_tools": ("Bash",)}])
async def test_forbidding_tools_to_an_agent_that_would_not_heed_it_is_refused(
    make: Make, config: dict[str, Any]
) -> None:
    ended = await end(backend(), make("hello", config=config))
    assert ended.code == "setting-refused"
    assert f"fake cannot be held to {next(iter(config))}" in ended.text


async def test_the_adapter_of_claude_takes_every_setting(make: Make) -> None:
    agent = backend(hello={"agentInfo": {"name": "@agentclientprotocol/claude-agent-acp", "version": "0.49.0"}})
    config = {
        "model": "haiku", "max_turns": 3, "allowed_tools": ("Read", "Bash(git *)"), "disallowed_tools": ("WebFetch",),
        "append_system_prompt": "Be brief.",
    }  # fmt: skip
    happenings = await told(agent, make({"record": True}, config=config, cost_limit=2.5, mcp_servers=(OWN,)))
    assert record(happenings)["session/new"]["_meta"] == {
        "claudeCode": {
            "options": {
                "model": "haiku", "maxTurns": 3, "tools": ["Read", "Bash"], "disallowedTools": ["WebFetch"],
                "allowedTools": ["Bash(git *)", "mcp__colony"], "maxBudgetUsd": 2.5,
            }
        },
        "systemPrompt": {"append": "Be brief."},
    }  # fmt: skip
    assert happenings[0] == Started(session="s-1", model="haiku", version="0.49.0")
    assert not any(isinstance(happening, Notice) for happening in happenings)


# ---- whether it is here


async def test_a_check_lets_the_agent_introduce_itself() -> None:
    health = await backend().check({"PATH": "/usr/bin:/bin"})
    assert health.ready
    assert health.version == "1.2"
    assert "fake 1.2" in health.detail


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"dies_at": ["initialize"]}, "it hung up"),
        ({"hello": {"protocolVersion": 9}}, "version 9"),
        ({"errors": {"initialize": {"code": 1, "message": "no key"}}}, "no key"),
    ],
)
async def test_a_check_says_what_is_wrong(settings: dict[str, Any], words: str) -> None:
    health = await backend(**settings).check({"PATH": "/usr/bin:/bin"})
    assert not health.ready
    assert words in health.detail
    assert health.hint


async def test_an_agent_that_is_not_here_is_missing(make: Make, tmp_path: Path) -> None:
    health = await AcpBackend().check({"PATH": str(tmp_path)})
    assert not health.ready
    assert "npm install -g @agentclientprotocol/claude-agent-acp" in health.hint
    with pytest.raises(Missing):
        async with AcpBackend(("no-such-agent",)).run(make("hello")):
            pass


async def test_the_first_of_the_known_agents_on_path_is_taken(make: Make, tmp_path: Path) -> None:
    for name, note in (("goose", "--unused"), ("gemini", "")):
        script = tmp_path / name
        script.write_text(f'#!/bin/sh\necho {name} "$@" {note} >> {tmp_path}/called\nexec {sys.executable} -S {FAKE}\n')
        script.chmod(0o755)
    job = attrs.evolve(make("hello"), environment={"PATH": f"{tmp_path}:/usr/bin:/bin"})
    assert (await end(AcpBackend(), job)).outcome == "done"
    assert (tmp_path / "called").read_text() == "gemini --acp\n"
    health = await AcpBackend().check(job.environment)
    assert health.detail == "gemini --acp (fake 1.2)"
