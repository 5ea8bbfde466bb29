"""A client of HumanLayer's daemon, and the daemon's every quirk (`fake_hld.py`); time is a clock of the tests."""

import contextlib
import json
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest
import trio
import trio.testing

from colony_core.backends import (
    AgentConfig,
    ApprovalAsked,
    ApprovalVoided,
    Command,
    Ended,
    Happening,
    Job,
    LimitReached,
    McpServer,
    Notice,
    Permissions,
    Program,
    Run,
    Started,
    Text,
    Thinking,
    ToolResult,
    ToolUse,
    Usage,
)
from colony_core.backends.hld import HldBackend
from colony_core.backends.hld_line import HldLine, hld_place
from colony_core.errors import Broken, Invalid, NotFound, TooSlow, Unreachable
from colony_core.sessions.state import goes_without_asking

from .fake_hld import HEARTBEAT_SECONDS, KEPT_EVENTS, FakeHld

SOCKET = Path("/run/hld.sock")
Act = Callable[[Run, Happening], Any]


@pytest.fixture
async def hld(nursery: trio.Nursery) -> FakeHld:
    return FakeHld(nursery)


@contextlib.asynccontextmanager
async def no_program(command: Command) -> AsyncIterator[Program]:
    raise AssertionError("with hld nothing is started by us")
    yield


def job(*steps: Any, **fields: Any) -> Job:
    config = AgentConfig(**fields.pop("config", {"permissions": "ask"}))
    instruction = steps[0] if steps and isinstance(steps[0], str) else json.dumps(steps)
    given = {"colony": "hello", "workdir": Path("/w"), "config": config, "start": no_program, **fields}
    return Job(instruction=instruction, **given)


async def play(hld: FakeHld, job: Job, act: Act | None = None) -> list[Happening]:
    found: list[Happening] = []
    async with HldBackend(HldLine(SOCKET, hld.connect)).run(job) as run:
        async for happening in run.happenings():
            found.append(happening)
            if act is not None:
                await act(run, happening)
    return found


def end_of(happenings: list[Happening]) -> Ended:
    assert isinstance(happenings[-1], Ended)
    assert happenings[-1].evidence
    return happenings[-1]


def texts(happenings: list[Happening]) -> list[str]:
    return [happening.text for happening in happenings if isinstance(happening, Text)]


async def stop_at_text(run: Run, happening: Happening) -> None:
    if isinstance(happening, Text):
        await run.interrupt()


# ---- a plain run


async def test_an_instruction_is_answered_with_its_cost_and_its_turns(
    hld: FakeHld, autojump_clock: trio.abc.Clock
) -> None:
    steps = [
        {"think": "hm"}, {"say": "I look."}, {"tool": "Bash", "input": {"command": "ls"}}, {"result": "a.txt"}, {"say": "Done."},
    ]  # fmt: skip
    assert await play(hld, job(*steps)) == [
        Started(session="session-1", model="sonnet", version="0.1.0"),
        Thinking(text="hm"),
        Text(text="I look."),
        ToolUse(id="t1", name="Bash", input={"command": "ls"}, kind="execute"),
        ToolResult(id="t1", text="a.txt"),
        Text(text="Done."),
        Usage(cost_usd=0.25, turns=2),
        Ended(outcome="done", text="Done.", evidence=("hld says that the session completed",)),
    ]


async def test_what_is_asked_for_has_the_names_that_the_daemon_knows(
    hld: FakeHld, autojump_clock: trio.abc.Clock
) -> None:
    server = McpServer(name="colony", command=("colony-mcp", "--x"), env={"A": "b"})
    config = {"max_turns": 7, "disallowed_tools": ("Bash",), "system_prompt": "S", "append_system_prompt": "A"}
    await play(hld, job("hello", config=config, mcp_servers=(server,)))
    assert hld.params("launchSession") == [
        {
            "query": "hello",
            "title": "hello",
            "model": "sonnet",
            "working_dir": "/w",
            "max_turns": 7,
            "system_prompt": "S",
            "append_system_prompt": "A",
            "allowed_tools": ["mcp__colony"],
            "disallowed_tools": ["Bash"],
            "mcp_config": {"mcpServers": {"colony": {"command": "colony-mcp", "args": ["--x"], "env": {"A": "b"}}}},
        }
    ]


async def test_it_listens_before_it_launches_so_that_no_early_event_is_missed(
    hld: FakeHld, autojump_clock: trio.abc.Clock
) -> None:
    await play(hld, job("hello"))
    assert hld.methods()[:3] == ["health", "Subscribe", "launchSession"]


async def test_events_wake_it_at_once(hld: FakeHld, autojump_clock: trio.abc.Clock) -> None:
    async def act(run: Run, happening: Happening) -> None:
        if isinstance(happening, Text):
            at.append(trio.current_time())

    at: list[float] = []
    began = trio.current_time()
    await play(hld, job({"sleep": 10.3}, {"say": "x"}), act)
    assert at[0] - began == pytest.approx(10.3)


# ---- what the daemon does not tell


async def test_a_failure_that_nobody_is_told_of_is_found_by_asking(
    hld: FakeHld, autojump_clock: trio.abc.Clock
) -> None:
    happenings = await play(hld, job({"say": "API Error: 400 bad"}, {"sleep": 30}, {"fail": True}))
    end = end_of(happenings)
    assert (end.outcome, end.code, end.text) == ("failed", "api-error", "API Error: 400 bad")
    assert happenings[-2] == Usage(cost_usd=0.125)


async def test_nothing_is_lost_where_no_event_comes_at_all(hld: FakeHld, autojump_clock: trio.abc.Clock) -> None:
    assert texts(await play(hld, job({"quiet": True}, {"say": "one"}, {"sleep": 5}, {"say": "two"}))) == ["one", "two"]


async def test_a_daemon_that_takes_no_subscription_is_asked_all_the_same(
    hld: FakeHld, autojump_clock: trio.abc.Clock
) -> None:
    hld.acknowledges = False
    assert texts(await play(hld, job("hello"))) == ["echo: hello"]


async def test_what_a_full_subscriber_loses_is_pulled(hld: FakeHld, autojump_clock: trio.abc.Clock) -> None:
    steps = [{"say": str(number)} for number in range(3 * KEPT_EVENTS)]
    happenings = await play(hld, job(*steps))
    assert texts(happenings) == [str(number) for number in range(3 * KEPT_EVENTS)]


async def test_rows_of_ancestors_and_rows_seen_are_not_told_again(hld: FakeHld, autojump_clock: trio.abc.Clock) -> None:
    first = await play(hld, job({"say": "old"}))
    assert isinstance(first[0], Started)
    happenings = await play(hld, job({"say": "new"}, {"sleep": 5}, resume=first[0].session))
    assert texts(happenings) == ["new"]
    assert happenings[0] == Started(session="session-2", model="sonnet", version="0.1.0")


async def test_rows_of_another_shape_are_passed_over(hld: FakeHld, autojump_clock: trio.abc.Clock) -> None:
    odd = [
        {"id": 900, "session_id": "session-1", "event_type": "weather"},
        {"id": "x", "session_id": "session-1", "event_type": "message", "role": "assistant", "content": "no number"},
        {"session_id": 7},
        {"id": 901, "session_id": "session-1", "event_type": "tool_call", "tool_input_json": "{"},
        {"id": 902, "session_id": "session-1", "event_type": "message", "role": "assistant", "content": 7},
        {"id": 903, "session_id": "session-1", "event_type": "message", "role": "assistant", "content": "fine"},
    ]
    happenings = await play(hld, job(*({"row": row} for row in odd)))
    assert [h for h in happenings if isinstance(h, (Text, ToolUse))] == [
        ToolUse(id="", name="", input={}),
        Text(text="fine"),
    ]


async def test_a_death_of_the_agent_is_one(hld: FakeHld, autojump_clock: trio.abc.Clock) -> None:
    end = end_of(await play(hld, job({"die": "exit status 1"})))
    assert (end.code, end.text) == ("agent-died", "claude process failed: exit status 1")


async def test_a_limit_stands_in_the_last_words_only(hld: FakeHld, autojump_clock: trio.abc.Clock) -> None:
    happenings = await play(hld, job({"say": "Claude AI usage limit reached|1700000000"}, {"fail": True}))
    assert end_of(happenings).code == "limit"
    assert LimitReached(text="Claude AI usage limit reached|1700000000", until=1700000000.0) in happenings


@pytest.mark.parametrize(
    ("said", "code"),
    [
        ("You've hit your session limit · resets 3pm (UTC)", "limit"),
        ("Credit balance is too low", "limit"),
        ("Invalid API key · Fix external API key", "not-logged-in"),
        ("API Error: 400 bad", "api-error"),
        ("The JWT authentication is in, with a rate limit of 500 a minute.", "agent-error"),
        ("POST /login answers 401 where the quota is used up", "agent-error"),
    ],
)
async def test_what_an_agent_wrote_last_about_its_work_is_no_reason_why_it_failed(
    hld: FakeHld, autojump_clock: trio.abc.Clock, said: str, code: str
) -> None:
    """A limit would pause the account and begin the work again; a failure for too many turns gives no reason at all."""
    happenings = await play(hld, job({"say": said}, {"fail": True}))
    assert (end_of(happenings).code, end_of(happenings).text) == (code, said)
    assert any(isinstance(happening, LimitReached) for happening in happenings) is (code == "limit")


async def test_a_failure_without_any_reason_says_so(hld: FakeHld, autojump_clock: trio.abc.Clock) -> None:
    end = end_of(await play(hld, job({"fail": True})))
    assert (end.code, end.text) == ("agent-error", "hld gives no reason")


async def test_an_interrupt_by_somebody_else_is_no_stop_of_ours(hld: FakeHld, autojump_clock: trio.abc.Clock) -> None:
    assert end_of(await play(hld, job({"interrupted": True}))).code == "interrupted"


# ---- the line


async def test_a_silence_is_bridged_by_signs_of_life(hld: FakeHld, autojump_clock: trio.abc.Clock) -> None:
    assert texts(await play(hld, job({"sleep": 5 * HEARTBEAT_SECONDS}, {"say": "still here"}))) == ["still here"]
    assert hld.methods().count("Subscribe") == 1


async def test_a_restart_of_the_daemon_ends_the_session(hld: FakeHld, autojump_clock: trio.abc.Clock) -> None:
    async def act(run: Run, happening: Happening) -> None:
        if isinstance(happening, Text):
            await hld.stop()
            await trio.sleep(5)
            hld.start()

    end = end_of(await play(hld, job({"say": "x"}, {"hang": True}), act))
    assert (end.code, end.text) == ("agent-died", "daemon restarted while session was active")
    assert hld.methods().count("Subscribe") == 2


async def test_a_daemon_that_stays_away_is_given_up_after_a_minute(
    hld: FakeHld, autojump_clock: trio.abc.Clock
) -> None:
    async def act(run: Run, happening: Happening) -> None:
        if isinstance(happening, Text):
            await hld.stop()
            gone.append(trio.current_time())

    gone: list[float] = []
    end = end_of(await play(hld, job({"say": "x"}, {"hang": True}), act))
    assert 60 <= trio.current_time() - gone[0] < 70
    assert (end.outcome, end.code) == ("failed", "agent-died")
    assert "make hld-start" in end.text


async def test_a_daemon_that_does_not_run_is_an_error_with_the_next_step(tmp_path: Path) -> None:
    backend = HldBackend(HldLine(tmp_path / "daemon.sock"))
    with pytest.raises(Unreachable, match="hld daemon not running") as raised:
        async with backend.run(job("hello")):
            pass
    assert (raised.value.code, raised.value.hint) == ("hld-not-running", "make hld-start, or colony backend hld start")
    health = await backend.check({})
    assert not health.ready
    assert health.hint == raised.value.hint


async def test_its_health_is_its_answer(hld: FakeHld, autojump_clock: trio.abc.Clock) -> None:
    backend = HldBackend(HldLine(SOCKET, hld.connect))
    health = await backend.check({})
    assert (health.ready, health.version) == (True, "0.1.0")
    hld.deaf = True
    assert "did not answer health" in (await backend.check({})).detail
    hld.deaf, hld.answers = False, {"health": b'{"jsonrpc":"2.0","id":1,"error":{"code":-32603,"message":"ill"}}\n'}
    assert "ill" in (await backend.check({})).detail
    hld.answers = {"health": b'{"jsonrpc":"2.0","id":1,"result":{"status":"degraded"}}\n'}
    assert "degraded" in (await backend.check({})).detail


async def test_a_request_that_the_daemon_would_not_read_is_not_sent(
    hld: FakeHld, autojump_clock: trio.abc.Clock
) -> None:
    with pytest.raises(Broken, match="longer than hld reads"):
        await HldLine(SOCKET, hld.connect).call("launchSession", query="x" * 11 * 2**20)
    assert hld.asked == []


async def test_an_answer_that_is_garbled_ends_the_run_and_the_session(
    hld: FakeHld, autojump_clock: trio.abc.Clock
) -> None:
    async def act(run: Run, happening: Happening) -> None:
        if isinstance(happening, Text):
            hld.answers = {"getConversation": b"<html>\n"}

    end = end_of(await play(hld, job({"say": "x"}, {"hang": True}), act))
    assert (end.outcome, end.code) == ("failed", "hld-garbled")
    assert hld.sessions["session-1"].state["status"] == "interrupted"


@pytest.mark.parametrize(
    ("params", "code"),
    [({"workdir": Path("/no/such")}, "agent-error"), ({"resume": "session-9"}, "session-lost")],
)
async def test_what_the_daemon_refuses_is_told_in_its_words(
    hld: FakeHld, autojump_clock: trio.abc.Clock, params: dict[str, Any], code: str
) -> None:
    end = end_of(await play(hld, job("hello", **params)))
    assert (end.outcome, end.code) == ("failed", code)
    assert "exist" in end.text or "not found" in end.text


# ---- models and settings


@pytest.mark.parametrize(
    ("model", "sent", "notice"),
    [
        ("sonnet", "sonnet", None),
        (None, None, None),
        ("claude-sonnet-4-5", "sonnet", "hld takes families of models only: claude-sonnet-4-5 became sonnet"),
        ("claude-3-OPUS-latest", "opus", "hld takes families of models only: claude-3-OPUS-latest became opus"),
    ],
)
async def test_a_model_that_the_daemon_would_drop_is_mapped_with_a_word(
    hld: FakeHld, model: str | None, sent: str | None, notice: str | None
) -> None:
    happenings = await play(hld, job("hello", config={"model": model}))
    assert hld.params("launchSession")[0].get("model") == sent
    assert [h.text for h in happenings if isinstance(h, Notice)] == ([notice] if notice else [])


@pytest.mark.parametrize(
    ("config", "code"), [({"model": "gpt-5"}, "hld-model"), ({"allowed_tools": ("Read",)}, "setting-refused")]
)
async def test_what_cannot_be_kept_is_refused_before_anything_begins(
    hld: FakeHld, config: dict[str, Any], code: str
) -> None:
    with pytest.raises(Invalid) as raised:
        await play(hld, job("hello", config=config))
    assert raised.value.code == code
    assert hld.asked == []


async def test_variables_that_do_not_reach_the_agent_are_named_and_not_shown(
    hld: FakeHld, autojump_clock: trio.abc.Clock
) -> None:
    happenings = await play(hld, job("hello", environment={"ANTHROPIC_API_KEY": "secret"}))
    [notice] = [happening for happening in happenings if isinstance(happening, Notice)]
    assert notice == Notice(text="hld's agents see its own environment: not ANTHROPIC_API_KEY", code="setting-left")


async def test_going_on_tells_its_limits_again_and_its_servers_as_text(
    hld: FakeHld, autojump_clock: trio.abc.Clock
) -> None:
    await play(hld, job("hello"))
    server = McpServer(name="colony", command=("colony-mcp",))
    happenings = await play(
        hld, job("more", resume="session-1", config={"model": "opus", "max_turns": 3}, mcp_servers=(server,))
    )
    [given] = hld.params("continueSession")
    assert (given["session_id"], given["query"], given["max_turns"]) == ("session-1", "more", 3)
    assert json.loads(given["mcp_config"])["mcpServers"]["colony"]["command"] == "colony-mcp"
    assert Notice(text="hld goes on with the session's model, sonnet", code="setting-left") in happenings


# ---- approvals


async def test_a_question_is_asked_and_granted(hld: FakeHld, autojump_clock: trio.abc.Clock) -> None:
    async def act(run: Run, happening: Happening) -> None:
        if isinstance(happening, ApprovalAsked):
            assert happening == ApprovalAsked(
                id="local-2", tool="Bash", input={"command": "ls"}, kind="execute", tool_use="t1"
            )
            await run.answer(happening.id, allow=True)
            with pytest.raises(NotFound):
                await run.answer(happening.id, allow=True)

    happenings = await play(hld, job({"ask": "Bash", "input": {"command": "ls"}}, {"say": "ran"}), act)
    assert (texts(happenings), end_of(happenings).outcome) == (["ran"], "done")
    assert hld.approvals["local-2"]["status"] == "approved"


async def test_a_denial_always_has_a_reason(hld: FakeHld, autojump_clock: trio.abc.Clock) -> None:
    async def act(run: Run, happening: Happening) -> None:
        if isinstance(happening, ApprovalAsked):
            await run.answer(happening.id, allow=False)

    await play(hld, job({"ask": "Bash"}), act)
    assert hld.params("sendDecision")[0]["comment"]


@pytest.mark.parametrize(
    ("permissions", "tool", "given", "asked"),
    [
        ("edits", "Write", {"file_path": "/w/a.txt"}, False),
        ("edits", "Write", {"file_path": "/etc/passwd"}, True),
        ("edits", "Bash", {}, True),
        ("ask", "Write", {"file_path": "/w/a.txt"}, True),
        ("all", "Bash", {}, False),
    ],
)
async def test_what_goes_without_asking_is_approved(
    hld: FakeHld, permissions: Permissions, tool: str, given: dict[str, Any], asked: bool
) -> None:
    async def act(run: Run, happening: Happening) -> None:
        if isinstance(happening, ApprovalAsked):
            await run.answer(happening.id, allow=True)

    happenings = await play(hld, job({"ask": tool, "input": given}, config={"permissions": permissions}), act)
    put = [each for each in happenings if isinstance(each, ApprovalAsked)]
    assert bool(put) == asked
    assert not any(goes_without_asking(permissions, each.kind) for each in put), "a person is asked in the end"
    assert end_of(happenings).outcome == "done"


async def test_an_edit_through_a_link_out_of_the_workspace_is_asked_for(
    hld: FakeHld, tmp_path: Path, autojump_clock: trio.abc.Clock
) -> None:
    (tmp_path / "w").mkdir()
    (tmp_path / "w" / "link").symlink_to("/etc")
    asked: list[ApprovalAsked] = []

    async def act(run: Run, happening: Happening) -> None:
        if isinstance(happening, ApprovalAsked):
            asked.append(happening)
            await run.answer(happening.id, allow=False)

    step = {"ask": "Write", "input": {"file_path": str(tmp_path / "w" / "link" / "a.txt")}}
    await play(hld, job(step, workdir=tmp_path / "w", config={"permissions": "edits"}), act)
    assert [(each.kind, each.reason) for each in asked] == [("other", "leads to /etc/a.txt")]


async def test_tools_of_the_colony_ask_nobody(hld: FakeHld, autojump_clock: trio.abc.Clock) -> None:
    own = McpServer(name="colony", command=("colony-mcp",))
    happenings = await play(hld, job({"ask": "mcp__colony__report"}, mcp_servers=(own,)))
    assert not any(isinstance(happening, ApprovalAsked) for happening in happenings)
    assert hld.approvals["local-2"]["status"] == "approved"


async def test_a_question_that_another_client_answers_is_void(hld: FakeHld, autojump_clock: trio.abc.Clock) -> None:
    async def act(run: Run, happening: Happening) -> None:
        if isinstance(happening, ApprovalAsked):
            await hld.on_sendDecision({"approval_id": happening.id, "decision": "approve"})

    happenings = await play(hld, job({"ask": "Bash"}, {"sleep": 5}), act)
    assert ApprovalVoided(id="local-2") in happenings


async def test_an_answer_that_comes_second_is_refused(hld: FakeHld, autojump_clock: trio.abc.Clock) -> None:
    async def act(run: Run, happening: Happening) -> None:
        if isinstance(happening, ApprovalAsked):
            await hld.on_sendDecision({"approval_id": happening.id, "decision": "approve"})
            with pytest.raises(NotFound, match="somebody else"):
                await run.answer(happening.id, allow=True)

    await play(hld, job({"ask": "Bash"}, {"sleep": 5}), act)


async def test_nothing_is_decided_for_a_session_that_has_ended(hld: FakeHld, autojump_clock: trio.abc.Clock) -> None:
    """The daemon would call it running again."""

    async def act(run: Run, happening: Happening) -> None:
        if isinstance(happening, ApprovalAsked):
            hld.sessions["session-1"].state["status"] = "failed"
            with pytest.raises(NotFound):
                await run.answer(happening.id, allow=True)

    assert end_of(await play(hld, job({"ask": "Bash"}), act)).outcome == "failed"
    assert hld.sessions["session-1"].state["status"] == "failed"
    assert "sendDecision" not in hld.methods()


# ---- interrupts


@pytest.mark.parametrize(("how", "status"), [("hang", "interrupted"), ("in_tool", "failed")])
async def test_an_interrupt_is_a_stop_whatever_the_daemon_calls_it(
    hld: FakeHld, autojump_clock: trio.abc.Clock, how: str, status: str
) -> None:
    happenings = await play(hld, job({"say": "begun"}, {how: True}), stop_at_text)
    assert end_of(happenings) == Ended(
        outcome="stopped", text="begun", evidence=("it was asked to stop", f"hld says that the session {status}")
    )


async def test_a_question_blocks_an_interrupt_so_it_is_denied_first(
    hld: FakeHld, autojump_clock: trio.abc.Clock
) -> None:
    async def act(run: Run, happening: Happening) -> None:
        if isinstance(happening, ApprovalAsked):
            await run.interrupt()

    happenings = await play(hld, job({"ask": "Bash"}, {"hang": True}), act)
    assert end_of(happenings).outcome == "stopped"
    assert ApprovalVoided(id="local-2") in happenings
    assert hld.approvals["local-2"]["status"] == "denied"


async def test_a_session_that_does_not_heed_is_given_up(
    hld: FakeHld, autojump_clock: trio.abc.Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(FakeHld, "_signal", lambda hld, session: session.state.update(status="interrupting"))
    end = end_of(await play(hld, job({"say": "x"}, {"hang": True}), stop_at_text))
    assert end.outcome == "stopped"
    assert "its process is hld's" in end.evidence[0]


async def test_whoever_leaves_interrupts_the_session(hld: FakeHld, autojump_clock: trio.abc.Clock) -> None:
    with contextlib.suppress(ZeroDivisionError):
        async with HldBackend(HldLine(SOCKET, hld.connect)).run(job({"say": "x"}, {"hang": True})) as run:
            async for _ in run.happenings():
                if texts([_]):
                    raise ZeroDivisionError
    assert hld.sessions["session-1"].state["status"] == "interrupted"
    assert hld.connections == set()


async def test_going_on_with_a_session_that_waits_for_an_answer_denies_it_first(
    hld: FakeHld, autojump_clock: trio.abc.Clock
) -> None:
    """As after a kill -9 of ours: the session went on by itself, up to its question."""
    session = hld._launch({"query": json.dumps([{"ask": "Bash"}, {"hang": True}])}, None)
    await trio.testing.wait_all_tasks_blocked()
    assert session.state["status"] == "waiting_input"
    assert end_of(await play(hld, job("more", resume=session.id))).outcome == "done"
    assert session.state["status"] == "interrupted"


async def test_a_session_that_a_restart_left_interrupting_cannot_be_gone_on_with(
    hld: FakeHld, autojump_clock: trio.abc.Clock
) -> None:
    session = hld._launch({"query": json.dumps([{"hang": True}])}, None)
    session.state["status"] = "interrupting"
    await hld.stop()
    hld.start()
    end = end_of(await play(hld, job("more", resume=session.id)))
    assert (end.code, "stays interrupting" in end.text) == ("session-stuck", True)


# ---- where it is


def test_colony_has_an_instance_of_its_own_that_variables_move() -> None:
    own = hld_place({"HOME": "/home/ann"})
    assert (str(own.socket), str(own.database), own.http_port) == (
        "/home/ann/.humanlayer/colony/daemon.sock", "/home/ann/.humanlayer/colony/daemon.db", 7779,
    )  # fmt: skip
    moved = hld_place(
        {
            "HOME": "/home/ann",
            "HUMANLAYER_DAEMON_SOCKET": "~/x/d.sock",
            "HUMANLAYER_DATABASE_PATH": "/y/d.db",
            "HUMANLAYER_DAEMON_HTTP_PORT": "7780",
        }
    )
    assert (str(moved.socket), str(moved.database), moved.http_port) == ("/home/ann/x/d.sock", "/y/d.db", 7780)
    assert own.folder == moved.folder == Path("/home/ann/.humanlayer/colony")
    assert hld_place({"HUMANLAYER_DAEMON_HTTP_PORT": "99999"}).http_port == 7779


async def test_silence_of_the_subscription_is_a_loss(
    autojump_clock: trio.abc.Clock, nursery: trio.Nursery, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tests.core.backends.fake_hld.HEARTBEAT_SECONDS", 1e6)
    async with HldLine(SOCKET, FakeHld(nursery).connect).events() as events:
        with pytest.raises(TooSlow, match="75 s"):
            await anext(events)
