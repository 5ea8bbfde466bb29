"""Agents at work in real colonies of a real house; what they say is played by the tests."""

import sqlite3
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, closing
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import trio

from colony_core.backends import (
    ApprovalAsked,
    ApprovalVoided,
    Ended,
    Health,
    LimitReached,
    Started,
    Text,
    TextDelta,
    ToolResult,
    ToolUse,
    Usage,
)
from colony_core.errors import ColonyError, Invalid, NotFound, WrongState
from colony_core.errors import LimitReached as Refused
from colony_core.mycelium import Mycelium
from colony_core.sessions.pauses import SLACK_SECONDS
from colony_core.sessions.session import Session
from colony_core.testing import fake_walls, open_test_house, wait_for
from colony_core.views import AgentSettings, AgentView, Decision, NewColony, NewInstruction

from .played import PATIENCE_SECONDS, PlayedBackend, Scene

MANIFEST = """
[colony]
description = "a colony with an agent"

[agent]
backend = "fake"
{agent}
"""


@asynccontextmanager
async def house_at(tmp_path: Path, *backends: PlayedBackend, **settings: Any) -> AsyncIterator[Mycelium]:
    named = {backend.name: backend for backend in backends}
    walls = fake_walls(tmp_path / "run")
    dotted = {f"agent.{key}": value for key, value in settings.items()}
    async with open_test_house(tmp_path, walls=walls, settings=dotted, backends=named) as house:
        yield house


async def spawned(house: Mycelium, tmp_path: Path, name: str = "hello", agent: str = "", **request: Any) -> None:
    folder = tmp_path / f"home-{name}"
    folder.mkdir(exist_ok=True)
    (folder / "colony.toml").write_text(MANIFEST.format(agent=agent))
    await house.spawn(NewColony(name=name, path=str(folder), **request), owner="test")
    await wait_for(house, name, lambda view: view.state == "running", timeout=PATIENCE_SECONDS)


async def instructed(house: Mycelium, text: str = "add a login", name: str = "hello", **agent: Any) -> AgentView:
    settings = AgentSettings(**agent) if agent else None
    request = NewInstruction(instruction=text, agent=settings)
    return await house.sessions.instruct(name, request, follow_up=False, by="test")


async def reached(house: Mycelium, state: str, name: str = "hello") -> AgentView:
    with trio.fail_after(PATIENCE_SECONDS):
        while (view := house.sessions.view(name)).state != state:
            await house.bus.beyond(house.bus.last_seq)
    return view


async def lines_of(house: Mycelium, name: str = "hello") -> list[tuple[str, str]]:
    await house.sessions.feed.flush()
    return [(line.kind, line.content) for line in await house.sessions.page(name)]


async def test_an_instruction_is_carried_out_and_its_result_told(tmp_path: Path) -> None:
    """Every line is in the feed in its order, and the state says what the agent is at, and at last the result with evidence."""
    agent = PlayedBackend()
    async with house_at(tmp_path, agent) as house:
        await spawned(house, tmp_path)
        assert house.sessions.view("hello").state == "idle"
        assert (await instructed(house)).state == "working"
        scene = await agent.scene()
        assert (scene.job.instruction, scene.job.resume) == ("add a login", None)
        assert scene.job.config.model == "sonnet"
        assert scene.job.config.max_turns == 50
        await scene.begin()
        await scene.say(
            Text(text="I will."),
            ToolUse(id="t", name="Read", input={"file_path": "a"}),
            ToolResult(id="t", text="A", ok=True),
            Usage(cost_usd=0.5, input_tokens=10, output_tokens=5, turns=2),
            Ended(outcome="done", text="It is done.", evidence=("exit 0",)),
        )
        view = await reached(house, "done")
        assert (view.result, view.evidence, view.session, view.cost_usd, view.turns) == (
            "It is done.", ("exit 0",), "s-1", 0.5, 2,
        )  # fmt: skip
        kinds = [line for line in await lines_of(house) if line[0] != "notice"]
        assert kinds == [
            ("instruction", "add a login"),
            ("text", "I will."),
            ("tool_use", "Read: a"),
            ("tool_result", "Read: A"),
            ("usage", "$0.50, 2 turns, 15 tokens"),
            ("status", "completed"),
        ]


async def test_events_have_the_shape_that_the_first_readers_know(tmp_path: Path) -> None:
    agent = PlayedBackend()
    async with house_at(tmp_path, agent) as house:
        await spawned(house, tmp_path)
        after = house.bus.last_seq
        await instructed(house)
        scene = await agent.scene()
        await scene.say(TextDelta(text="I'll "), TextDelta(text="do it"), Text(text="I'll do it"), Text(text="Alone."))
        await scene.say(Ended(outcome="done"))
        await reached(house, "done")
        _, numbered = house.bus.after(after)
        told = [each.event for each in numbered if each.event.type_name == "agent_event"]
        found: list[tuple[str, str, bool]] = []
        for event in told:
            kind, content, kept = event.event_type, event.content, bool(event.line)  # type: ignore[attr-defined]
            if found and not kept and found[-1][2] is False:  # pieces come as many as the house finds time for
                content = found.pop()[1] + content
            if kind != "notice":
                found.append((kind, content, kept))
        assert found == [
            ("instruction", "add a login", True),
            ("text_delta", "I'll do it", False),
            ("text", "I'll do it", True),
            ("text_delta", "Alone.", True),
            ("status", "completed", True),
        ]
        assert all(event.timestamp > 10**12 and event.colony_id for event in told)  # type: ignore[attr-defined]


async def test_a_follow_up_goes_on_with_the_conversation_and_a_new_instruction_begins_another(tmp_path: Path) -> None:
    agent = PlayedBackend()
    async with house_at(tmp_path, agent) as house:
        await spawned(house, tmp_path)
        with pytest.raises(WrongState, match="no conversation"):
            await house.sessions.instruct("hello", NewInstruction(instruction="and now?"), follow_up=True, by="test")
        for follow_up, resume in ((False, None), (True, "s-1"), (False, None)):
            await house.sessions.instruct("hello", NewInstruction(instruction="go"), follow_up=follow_up, by="test")
            scene = await agent.scene()
            assert scene.job.resume == resume
            await scene.begin()
            await scene.say(Ended(outcome="done"))
            await reached(house, "done")


async def test_a_conversation_is_gone_on_with_by_the_backend_that_began_it_or_by_none(tmp_path: Path) -> None:
    one, other = PlayedBackend("claude"), PlayedBackend("acp")
    async with house_at(tmp_path, one, other) as house:
        await spawned(house, tmp_path)

        async def work(agent: PlayedBackend, backend: str, *, follow_up: bool) -> None:
            request = NewInstruction(instruction="go", agent=AgentSettings(backend=backend))
            await house.sessions.instruct("hello", request, follow_up=follow_up, by="test")
            scene = await agent.scene()
            await scene.begin()
            await scene.say(Ended(outcome="done"))
            await reached(house, "done")

        await work(one, "claude", follow_up=False)
        await work(one, "claude", follow_up=True)
        with pytest.raises(WrongState) as refused:
            await work(other, "acp", follow_up=True)
        assert (refused.value.code, "--new --backend acp" in refused.value.hint) == ("other-backend", True)
        with pytest.raises(Invalid, match="there is no backend"):
            await work(other, "acpp", follow_up=True)
        await work(other, "acp", follow_up=False)


async def test_a_working_agent_takes_no_second_instruction_and_an_idle_one_no_interrupt(tmp_path: Path) -> None:
    agent = PlayedBackend()
    async with house_at(tmp_path, agent) as house:
        await spawned(house, tmp_path)
        with pytest.raises(WrongState, match="is idle"):
            await house.sessions.interrupt("hello", by="test")
        await instructed(house)
        with pytest.raises(WrongState, match="is working"):
            await instructed(house)
        (await agent.scene()).closed  # noqa: B018 - it is left running, and ends with the house


async def test_an_interrupted_agent_is_idle_and_its_outcome_is_kept(tmp_path: Path) -> None:
    agent = PlayedBackend()
    async with house_at(tmp_path, agent) as house:
        await spawned(house, tmp_path)
        await instructed(house)
        scene = await agent.scene()
        await scene.begin()
        await scene.say(Text(text="half of it"))
        await house.sessions.interrupt("hello", by="ada")
        with trio.fail_after(PATIENCE_SECONDS):
            await scene.interrupted.wait()
        await scene.say(Ended(outcome="failed", code="error", text="half done"))
        view = await reached(house, "idle")
        assert (view.reason, view.result) == ("interrupted by ada", "half done")
        assert ("status", "interrupted") in await lines_of(house)


async def test_a_question_waits_for_a_person_and_the_answer_reaches_the_agent(tmp_path: Path) -> None:
    agent = PlayedBackend()
    async with house_at(tmp_path, agent) as house:
        await spawned(house, tmp_path)
        await instructed(house)
        scene = await agent.scene()
        await scene.begin()
        await scene.say(ApprovalAsked(id="q", tool="Bash", input={"command": "rm -rf build"}, kind="execute"))
        view = await reached(house, "waiting")
        (question,) = view.approvals
        assert (question.summary, question.decision) == ("Bash: rm -rf build", None)
        with pytest.raises(NotFound):
            await house.sessions.decide("hello", "nobody", Decision(allow=True), by="ada")
        answered = await house.sessions.decide("hello", None, Decision(allow=False, message="keep it"), by="ada")
        assert (answered.decision, answered.decided_by) == ("denied", "ada")
        assert scene.answers == {"q": (False, "keep it")}
        await reached(house, "working")
        with pytest.raises(WrongState, match="asks nothing"):
            await house.sessions.decide("hello", None, Decision(allow=True), by="ada")
        await scene.say(Ended(outcome="done"))
        await reached(house, "done")
        assert ("decision", "denied Bash: rm -rf build") in await lines_of(house)
        assert [each.decision for each in await house.sessions.approvals("hello")] == ["denied"]


async def test_nothing_that_a_project_says_decides_what_the_daemon_runs_to_ask_for_an_agent(tmp_path: Path) -> None:
    agent = PlayedBackend()
    async with house_at(tmp_path, agent) as house:
        planted = """
            [colony.environment]
            PATH = "/planted"
            LD_PRELOAD = "/planted/it.so"
        """
        (tmp_path / "home-hello").mkdir()
        (tmp_path / "home-hello/.env").write_text("ANTHROPIC_BASE_URL=http://planted\n")
        await spawned(house, tmp_path, agent=planted)
        await instructed(house)
        scene = await agent.scene()
        assert scene.job.environment["ANTHROPIC_BASE_URL"] == "http://planted"
        assert agent.asked_in
        assert "planted" not in str(agent.asked_in)
        assert all(environment["PATH"] for environment in agent.asked_in)


@pytest.mark.parametrize(("permissions", "kind", "asks"), [
    ("ask", "read", False), ("ask", "edit", True), ("edits", "edit", False), ("edits", "execute", True),
    ("edits", "fetch", True), ("all", "execute", False), ("all", "other", False), ("all", "question", True),
])  # fmt: skip
async def test_what_goes_without_asking_is_a_setting(tmp_path: Path, permissions: str, kind: Any, asks: bool) -> None:
    agent = PlayedBackend()
    async with house_at(tmp_path, agent) as house:
        await spawned(house, tmp_path, agent=f'permissions = "{permissions}"')
        await instructed(house)
        scene = await agent.scene()
        await scene.say(ApprovalAsked(id="q", tool="Tool", input={}, kind=kind))
        if asks:
            await reached(house, "waiting")
            assert scene.answers == {}
        else:
            with trio.fail_after(PATIENCE_SECONDS):
                await scene.answered.wait()
            assert scene.answers == {"q": (True, "")}


@pytest.mark.parametrize("kind", ["read", "edit"])
async def test_no_agent_s_word_for_it_makes_a_look_or_an_edit_through_a_link_a_mere_one(
    tmp_path: Path, kind: Any
) -> None:
    agent = PlayedBackend()
    async with house_at(tmp_path, agent) as house:
        await spawned(house, tmp_path, agent='permissions = "edits"')
        (tmp_path / "home-hello" / "link").symlink_to("/etc")
        await instructed(house)
        scene = await agent.scene()
        await scene.say(ApprovalAsked(id="in", tool="Write", input={"file_path": "new/a.txt"}, kind=kind))
        await scene.say(ApprovalAsked(id="out", tool="Write", input={"file_path": "link/a.txt"}, kind=kind))
        [question] = (await reached(house, "waiting")).approvals
        assert (question.kind, question.summary) == ("other", "Write: link/a.txt (leads to /etc/a.txt)")
        assert scene.answers == {"in": (True, "")}


async def test_a_question_that_the_agent_takes_back_waits_no_longer(tmp_path: Path) -> None:
    agent = PlayedBackend()
    async with house_at(tmp_path, agent) as house:
        await spawned(house, tmp_path)
        await instructed(house)
        scene = await agent.scene()
        await scene.say(ApprovalAsked(id="q", tool="Bash", input={"command": "x"}, kind="execute"))
        await reached(house, "waiting")
        await scene.say(ApprovalVoided(id="q"))
        assert (await reached(house, "working")).approvals == ()
        assert [each.decision for each in await house.sessions.approvals("hello")] == ["void"]


async def test_a_question_that_is_taken_back_before_a_setting_answers_it_does_no_harm(tmp_path: Path) -> None:
    agent = PlayedBackend()
    async with house_at(tmp_path, agent) as house:
        await spawned(house, tmp_path, agent='permissions = "all"')
        await instructed(house)
        scene = await agent.scene()
        await scene.say(
            ApprovalAsked(id="q", tool="Bash", input={}, kind="execute"), ApprovalVoided(id="q"), Ended(outcome="done")
        )
        await reached(house, "done")
        assert scene.answers == {}


async def test_an_agent_that_takes_too_long_is_interrupted_and_has_failed(tmp_path: Path) -> None:
    """The code and the words are the ones that the seeds know."""
    agent = PlayedBackend()
    async with house_at(tmp_path, agent) as house:
        await spawned(house, tmp_path, agent='timeout = "500ms"')
        await instructed(house)
        scene = await agent.scene()
        with trio.fail_after(PATIENCE_SECONDS):
            await scene.interrupted.wait()
        await scene.say(Ended(outcome="stopped"))
        view = await reached(house, "failed")
        assert (view.code, view.reason) == ("agent-timed-out", "Agent timed out (0.5s)")


async def test_the_time_of_an_instruction_goes_on_under_the_next_daemon(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is written down while the agent works; what is left of an hour of which all is used is nothing."""
    monkeypatch.setattr("colony_core.sessions.run.LOOK_SECONDS", 0.01)
    agent = PlayedBackend()
    async with house_at(tmp_path, agent) as house:
        await spawned(house, tmp_path, agent='timeout = "1h"')
        await instructed(house)
        await (await agent.scene()).begin()
        with trio.fail_after(PATIENCE_SECONDS):
            while not _known(tmp_path, WORKED):
                await trio.sleep(0.01)
    _known(tmp_path, WORKED, "update sessions set worked = 3600")
    async with house_at(tmp_path, agent) as house:
        scene = await agent.scene()
        with trio.fail_after(PATIENCE_SECONDS):
            await scene.interrupted.wait()
        await scene.say(Ended(outcome="stopped"))
        assert (await reached(house, "failed")).code == "agent-timed-out"
        await instructed(house)
        scene = await agent.scene()
        await scene.begin()
        await scene.say(Ended(outcome="done"))
        await reached(house, "done")


async def test_a_pause_does_not_begin_the_time_of_an_instruction_again(tmp_path: Path) -> None:
    agent = PlayedBackend()
    async with house_at(tmp_path, agent) as house:
        await spawned(house, tmp_path)
        await instructed(house)
        scene = await agent.scene()
        await scene.begin()
        await scene.say(LimitReached(text="limit", until=0.0), Ended(outcome="failed", code="limit"))
        scene = await agent.scene()
        before = _known(tmp_path, WORKED)
        assert before > 0
        await scene.say(Ended(outcome="done"))
        await reached(house, "done")
        assert _known(tmp_path, WORKED) > before


WORKED = "select worked from sessions"
MINUTES = "select coalesce(sum(minutes), 0) from agent_spendings"


def _known(tmp_path: Path, what: str, change: str = "") -> float:
    """What the store knows of the time of the only session."""
    with closing(sqlite3.connect(next(tmp_path.rglob("colony.db")))) as database:
        if change:
            database.execute(change)
            database.commit()
        found: float = database.execute(what).fetchone()[0]
    return found


async def test_a_budget_warns_at_80_percent_and_interrupts_at_100(tmp_path: Path) -> None:
    agent = PlayedBackend()
    async with house_at(tmp_path, agent) as house:
        await spawned(house, tmp_path, agent="budget = { usd = 1.0 }")
        await instructed(house)
        scene = await agent.scene()
        assert scene.job.cost_limit == 1.0
        await scene.say(Usage(cost_usd=0.85, turns=1), Text(text="on"))
        await scene.say(Usage(cost_usd=1.02, turns=2))
        with trio.fail_after(PATIENCE_SECONDS):
            await scene.interrupted.wait()
        await scene.say(Ended(outcome="stopped", text="half of it"))
        view = await reached(house, "failed")
        assert (view.code, view.reason) == ("budget-exhausted", "the budget is used up: $1.02 of $1.00")
        assert view.result == "half of it"
        assert ("notice", "85% of the budget is used: $0.85 of $1.00") in await lines_of(house)
        with pytest.raises(Refused, match="the colony's budget is used up"):
            await instructed(house)


async def test_work_that_had_ended_when_its_last_usage_reached_the_budget_is_done_and_checked(tmp_path: Path) -> None:
    """The overrun is told, and nothing more is begun."""
    agent = PlayedBackend()
    async with house_at(tmp_path, agent) as house:
        await spawned(house, tmp_path, agent='budget = { usd = 1.0 }\n[checks]\ntests = "true"')
        await instructed(house)
        scene = await agent.scene()
        await scene.say(Usage(cost_usd=1.02, turns=2), Ended(outcome="done", text="It is done."))
        view = await reached(house, "done")
        assert (view.result, view.code, view.reason) == ("It is done.", "", "")
        assert view.receipt is not None
        assert view.receipt.verdict == "verified"
        told = "the budget is used up: $1.02 of $1.00; the agent had ended by then"
        assert ("notice", told) in await lines_of(house)
        with pytest.raises(Refused, match="the colony's budget is used up"):
            await instructed(house)


@pytest.mark.parametrize(
    ("ended", "state", "code"),
    [
        (Ended(outcome="failed", code="max-turns", text="too many"), "failed", "max-turns"),
        (Ended(outcome="failed", code="budget", text="too much"), "failed", "budget-exhausted"),
        (Ended(outcome="stopped"), "failed", "budget-exhausted"),
    ],
)
async def test_only_what_the_budget_has_ended_is_said_to_have_ended_by_it(
    tmp_path: Path, ended: Ended, state: str, code: str
) -> None:
    agent = PlayedBackend()
    async with house_at(tmp_path, agent) as house:
        await spawned(house, tmp_path, agent="budget = { usd = 1.0 }")
        await instructed(house)
        scene = await agent.scene()
        await scene.say(Usage(cost_usd=1.02), ended)
        assert (await reached(house, state)).code == code


async def test_work_that_ends_by_itself_after_its_time_is_done(tmp_path: Path) -> None:
    agent = PlayedBackend()
    async with house_at(tmp_path, agent) as house:
        await spawned(house, tmp_path, agent='timeout = "100ms"')
        await instructed(house)
        scene = await agent.scene()
        with trio.fail_after(PATIENCE_SECONDS):
            await scene.interrupted.wait()
        await scene.say(Ended(outcome="done", text="It is done."))
        assert (await reached(house, "done")).result == "It is done."
        assert ("notice", "Agent timed out (0.1s); the agent had ended by then") in await lines_of(house)


async def test_an_agent_that_a_person_interrupts_is_idle_though_it_had_finished(tmp_path: Path) -> None:
    agent = PlayedBackend()
    async with house_at(tmp_path, agent) as house:
        await spawned(house, tmp_path)
        await instructed(house)
        scene = await agent.scene()
        await house.sessions.interrupt("hello", by="ada")
        await scene.say(Ended(outcome="done", text="It is done."))
        assert (await reached(house, "idle")).result == "It is done."


@pytest.mark.parametrize(("agent", "settings"), [("budget = { tokens = 1000 }", {}), ("", {"day_tokens": 1000})])
async def test_a_budget_of_what_a_backend_does_not_tell_is_refused(
    tmp_path: Path, agent: str, settings: dict[str, Any]
) -> None:
    mute = PlayedBackend()
    mute.uncounted = frozenset({"tokens"})
    async with house_at(tmp_path, mute, **settings) as house:
        await spawned(house, tmp_path, agent=agent)
        await instructed(house)
        view = await reached(house, "failed")
        assert view.code == "setting-refused"
        assert "fake does not tell its tokens" in view.reason


async def test_what_was_spent_is_known_to_the_next_daemon(tmp_path: Path) -> None:
    agent = PlayedBackend()
    async with house_at(tmp_path, agent) as house:
        await spawned(house, tmp_path, agent="budget = { usd = 1.0 }")
        await instructed(house)
        scene = await agent.scene()
        await scene.say(Usage(cost_usd=1.0, turns=1), Ended(outcome="done"))
        await reached(house, "done")
    async with house_at(tmp_path, agent) as house:
        await wait_for(house, "hello", lambda view: view.state == "running", timeout=PATIENCE_SECONDS)
        assert house.sessions.view("hello").cost_usd == 1.0
        with pytest.raises(Refused, match="used up"):
            await instructed(house)


async def test_the_minutes_of_an_agent_that_tells_no_usage_are_known_to_the_next_daemon(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """They are written down while it works, so that a kill takes at most the last of them out of the books."""
    monkeypatch.setattr("colony_core.sessions.run.LOOK_SECONDS", 0.01)
    agent = PlayedBackend()
    async with house_at(tmp_path, agent) as house:
        await spawned(house, tmp_path)
        await instructed(house)
        await (await agent.scene()).begin()
        with trio.fail_after(PATIENCE_SECONDS):
            while not _known(tmp_path, MINUTES):
                await trio.sleep(0.01)
    async with house_at(tmp_path, agent) as house:
        await agent.scene()
        assert house.sessions.view("hello").minutes > 0


async def test_what_was_used_while_a_person_is_asked_is_written_down_however_often_the_store_was_too_slow(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nothing more is used meanwhile, and time stands still, so that nothing else would bring it about."""
    monkeypatch.setattr("colony_core.sessions.run.LOOK_SECONDS", 0.01)
    real, slow, tried = Session.book, [True], [0]

    async def book(session: Session, *given: Any, **more: Any) -> None:
        tried[0] += 1
        if slow[0]:
            await trio.sleep_forever()
        await real(session, *given, **more)

    agent = PlayedBackend()
    async with house_at(tmp_path, agent) as house:
        await spawned(house, tmp_path)
        monkeypatch.setattr(Session, "book", book)
        await instructed(house)
        scene = await agent.scene()
        await scene.say(ApprovalAsked(id="q", tool="Bash", input={"command": "x"}, kind="execute"))
        await reached(house, "waiting")
        await scene.say(Usage(cost_usd=0.5, turns=1))
        with trio.fail_after(PATIENCE_SECONDS):
            while not house.sessions.view("hello").cost_usd:
                await trio.sleep(0.01)
            tried[0] = 0
            while tried[0] < 3:
                await trio.sleep(0.01)
            slow[0] = False
            while not _known(tmp_path, "select coalesce(sum(usd), 0) from agent_spendings"):
                await trio.sleep(0.01)


@pytest.fixture
def one_day(monkeypatch: pytest.MonkeyPatch) -> None:
    """No day ends while the test runs."""
    monkeypatch.setattr("colony_core.sessions.purses.DAY_SECONDS", 1e12)


@pytest.mark.usefixtures("one_day")
async def test_agents_that_begin_together_cannot_overspend_the_day(tmp_path: Path) -> None:
    """Each sets a share aside before it begins; who finds nothing left is told so before anything is spent."""
    agent = PlayedBackend()
    async with house_at(tmp_path, agent, day_usd=0.5) as house:
        for name in ("one", "two", "three"):
            await spawned(house, tmp_path, name)
        await instructed(house, name="one")
        await agent.scene()
        await instructed(house, name="two")
        await agent.scene()
        with pytest.raises(Refused, match="the day's budget of this machine is used up"):
            await instructed(house, name="three")


async def test_a_limit_of_the_account_pauses_all_its_agents_and_the_work_goes_on_by_itself(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The wall clock stands still until both are seen to wait."""
    at = [1_800_000_000.0]
    monkeypatch.setattr("colony_core.sessions.pauses.clock", SimpleNamespace(unix_now=lambda: at[0]))
    agent = PlayedBackend()
    async with house_at(tmp_path, agent) as house:
        await spawned(house, tmp_path, "one")
        await spawned(house, tmp_path, "two")
        await instructed(house, name="one")
        scene = await agent.scene()
        await scene.begin()
        until = at[0] + 1.0
        await scene.say(LimitReached(text="usage limit", until=until), Ended(outcome="failed", code="limit"))
        await waits_for_its_account(house, "one")
        await instructed(house, name="two")
        await waits_for_its_account(house, "two")
        assert agent.begun == 0
        at[0] = until + SLACK_SECONDS
        names = set()
        for _ in range(2):
            again = await agent.scene()
            names.add((again.job.colony, again.job.resume))
            assert again.job.instruction.endswith("add a login")
            await again.say(Ended(outcome="done"))
        assert names == {("one", "s-1"), ("two", None)}
        await reached(house, "done", "one")
        await reached(house, "done", "two")


async def waits_for_its_account(house: Mycelium, name: str) -> None:
    with trio.fail_after(PATIENCE_SECONDS):
        while (view := house.sessions.view(name)).reason != "waits until its account may work again":
            await house.bus.beyond(house.bus.last_seq)
    assert view.paused_until is not None


async def test_an_agent_that_went_on_after_a_limit_and_failed_by_itself_has_failed(tmp_path: Path) -> None:
    agent = PlayedBackend()
    async with house_at(tmp_path, agent) as house:
        await spawned(house, tmp_path)
        await instructed(house)
        scene = await agent.scene()
        await scene.say(LimitReached(text="opus limit", until=None), Text(text="sonnet goes on"))
        await scene.say(Ended(outcome="failed", code="max-turns", text="too many turns"))
        view = await reached(house, "failed")
        assert (view.code, view.paused_until) == ("max-turns", None)


async def test_a_stopped_colony_ends_its_agent_which_is_idle_then(tmp_path: Path) -> None:
    agent = PlayedBackend()
    async with house_at(tmp_path, agent) as house:
        await spawned(house, tmp_path)
        await instructed(house)
        scene = await agent.scene()
        await house.stop("hello")
        with trio.fail_after(PATIENCE_SECONDS):
            await scene.closed.wait()
        assert (await reached(house, "idle")).reason == "the colony was stopped"


async def test_the_next_daemon_goes_on_with_the_vendors_session_and_says_so(tmp_path: Path) -> None:
    """A house that ends leaves the work to the next one; a question that was open is void, the agent will ask again."""
    agent = PlayedBackend()
    async with house_at(tmp_path, agent) as house:
        await spawned(house, tmp_path)
        await instructed(house)
        scene = await agent.scene()
        await scene.begin("vendor-7")
        await scene.say(ApprovalAsked(id="q", tool="Bash", input={"command": "x"}, kind="execute"))
        await reached(house, "waiting")
    async with house_at(tmp_path, agent) as house:
        scene = await agent.scene()
        assert scene.job.resume == "vendor-7"
        assert "interrupted by a restart" in scene.job.instruction
        assert scene.job.instruction.endswith("\n\nadd a login")  # which the agent may not have written down
        assert [each.decision for each in await house.sessions.approvals("hello")] == ["void"]
        await scene.say(Ended(outcome="done", text="at last"))
        assert (await reached(house, "done")).result == "at last"
        assert ("notice", "the daemon was started anew; the work goes on") in await lines_of(house)


async def test_an_instruction_that_nobody_had_begun_is_begun_by_the_next_daemon(tmp_path: Path) -> None:
    agent = PlayedBackend()
    async with house_at(tmp_path, agent) as house:
        await spawned(house, tmp_path)
        await instructed(house, "write tests")
        await agent.scene()
    async with house_at(tmp_path, agent):
        scene = await agent.scene()
        assert (scene.job.instruction, scene.job.resume) == ("write tests", None)


LOST = Ended(outcome="failed", code="session-lost", text="no such session")


async def test_where_the_conversation_is_lost_a_follow_up_begins_another_and_says_so(tmp_path: Path) -> None:
    agent = PlayedBackend()
    async with house_at(tmp_path, agent) as house:
        await spawned(house, tmp_path)
        await instructed(house)
        await (await agent.scene()).say(Started(session="s-1"), Ended(outcome="stopped"))
        await reached(house, "idle")
        await house.sessions.instruct("hello", NewInstruction(instruction="and now?"), follow_up=True, by="test")
        scene = await agent.scene()
        assert (scene.job.instruction, scene.job.resume) == ("and now?", "s-1")
        await scene.say(LOST)
        anew = await agent.scene()
        assert anew.job.resume is None
        assert anew.job.instruction.startswith("The conversation so far is lost")
        assert anew.job.instruction.endswith("\n\nand now?")
        await anew.begin("s-2")
        await anew.say(Ended(outcome="done"))
        assert (await reached(house, "done")).session == "s-2"
        assert ("notice", "the conversation is lost, a new one begins: no such session") in await lines_of(house)


async def test_the_next_daemon_begins_anew_where_the_conversation_is_lost(tmp_path: Path) -> None:
    """As it is where the first daemon was killed before the agent had written anything down."""
    agent = PlayedBackend()
    async with house_at(tmp_path, agent) as house:
        await spawned(house, tmp_path)
        await instructed(house, "write tests")
        scene = await agent.scene()
        await scene.begin("s-1")
        await scene.say(ApprovalAsked(id="q", tool="Bash", input={"command": "x"}, kind="execute"))
        await reached(house, "waiting")
    async with house_at(tmp_path, agent) as house:
        scene = await agent.scene()
        assert scene.job.resume == "s-1"
        await scene.say(LOST)
        anew = await agent.scene()
        assert (anew.job.instruction.endswith("\n\nwrite tests"), anew.job.resume) == (True, None)
        await anew.say(LOST)
        view = await reached(house, "failed")
        assert (view.code, view.session) == ("session-lost", None)


async def test_a_conversation_that_is_lost_in_its_midst_is_a_failure(tmp_path: Path) -> None:
    agent = PlayedBackend()
    async with house_at(tmp_path, agent) as house:
        await spawned(house, tmp_path)
        await instructed(house)
        scene = await agent.scene()
        await scene.begin()
        await scene.say(LOST)
        assert (await reached(house, "failed")).code == "session-lost"


async def test_an_instruction_that_is_acknowledged_stands_in_the_feed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On disk, not on its way there while the feed rests: a kill at that moment leaves it in the history."""
    monkeypatch.setattr("colony_core.sessions.feed.MOST_REST_SECONDS", 3600.0)
    monkeypatch.setattr("colony_core.sessions.feed.REST_SECONDS", 3600.0)
    agent = PlayedBackend()
    async with house_at(tmp_path, agent) as house:
        await spawned(house, tmp_path)
        for text in ("write code", "write tests"):
            await instructed(house, text)
            assert text in [line.content for line in await house.sessions.page("hello")]
            await (await agent.scene()).say(Ended(outcome="done"))
            await reached(house, "done")


async def test_a_colony_is_born_with_its_task(tmp_path: Path) -> None:
    agent = PlayedBackend()
    async with house_at(tmp_path, agent) as house:
        folder = tmp_path / "home"
        folder.mkdir()
        (folder / "colony.toml").write_text(MANIFEST.format(agent=""))
        request = NewColony(
            name="born", path=str(folder), task="build it", agent=AgentSettings(model="opus", max_turns=3)
        )
        await house.spawn(request, owner="test")
        scene = await agent.scene()
        assert (scene.job.instruction, scene.job.config.model, scene.job.config.max_turns) == ("build it", "opus", 3)
        with pytest.raises(Invalid, match="an instruction is text"):
            await house.spawn(NewColony(name="other", path=str(folder), task=" "), owner="test")
        assert [view.name for view in house.colonies()] == ["born"]


async def test_auto_takes_the_first_that_is_ready_and_says_why(tmp_path: Path) -> None:
    absent = PlayedBackend("hld", Health(ready=False, detail="hld daemon not running", hint="make hld-start"))
    there = PlayedBackend("claude", Health(ready=True, detail="claude 2.1"))
    async with house_at(tmp_path, absent, there, backend="auto") as house:
        await spawned(house, tmp_path)
        await instructed(house, backend="auto")
        scene = await there.scene()
        await scene.say(Ended(outcome="done"))
        assert (await reached(house, "done")).backend == "claude"
        assert ("notice", "claude: claude 2.1 (hld: hld daemon not running)") in await lines_of(house)


async def test_where_no_backend_is_ready_the_agent_has_failed_with_what_to_do(tmp_path: Path) -> None:
    absent = PlayedBackend("hld", Health(ready=False, detail="hld daemon not running", hint="make hld-start"))
    async with house_at(tmp_path, absent) as house:
        await spawned(house, tmp_path)
        await instructed(house, backend="hld")
        view = await reached(house, "failed")
        assert view.code == "hld-not-ready"
        assert "make hld-start" in view.reason
        with pytest.raises(Invalid, match="there is no backend"):
            await instructed(house, backend="clade")


async def test_an_agent_finds_the_keys_of_its_user_and_nothing_else(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Row 5: an allow-list, from the daemon's environment and over it the `.env` of the workspace."""
    monkeypatch.setenv("ANTHROPIC_API_KEY", "sk-daemon")
    monkeypatch.setenv("DATABASE_URL", "postgres://canary")
    agent = PlayedBackend()
    async with house_at(tmp_path, agent) as house:
        await spawned(house, tmp_path)
        (tmp_path / "home-hello" / ".env").write_text("ANTHROPIC_API_KEY=sk-project\nCANARY=x\n")
        await instructed(house)
        scene: Scene = await agent.scene()
        assert scene.job.environment["ANTHROPIC_API_KEY"] == "sk-project"
        assert not {"DATABASE_URL", "CANARY"} & scene.job.environment.keys()
        assert "sk-project" not in repr(scene.job)


@pytest.mark.usefixtures("one_day")
async def test_a_removed_colony_leaves_no_word_of_its_agent_but_what_it_cost(tmp_path: Path) -> None:
    agent = PlayedBackend()
    async with house_at(tmp_path, agent, day_usd=1.0) as house:
        await spawned(house, tmp_path)
        await instructed(house)
        scene = await agent.scene()
        await scene.say(Usage(cost_usd=1.0, turns=1), Ended(outcome="done"))
        await reached(house, "done")
        await house.remove("hello")
        await spawned(house, tmp_path)
        assert house.sessions.view("hello").state == "idle"
        assert await lines_of(house) == []
        with pytest.raises(ColonyError, match="day's budget"):
            await instructed(house)


async def test_no_number_of_a_line_is_given_twice_also_when_the_colony_of_the_newest_is_gone(tmp_path: Path) -> None:
    """Or whoever follows another feed behind that number would miss what comes."""
    agent = PlayedBackend()

    async def works(name: str) -> int:
        await instructed(house, name=name)
        await (await agent.scene()).say(Text(text=f"by {name}"), Ended(outcome="done"))
        await reached(house, "done", name)
        return house.sessions.view(name).last

    async with house_at(tmp_path, agent) as house:
        for name in ("one", "two", "three"):
            await spawned(house, tmp_path, name)
            last = await works(name)
        await house.remove("two")
        await house.remove("three")
        assert house.sessions.view("one").last == last
    async with house_at(tmp_path, agent) as house:
        await wait_for(house, "one", lambda view: view.state == "running", timeout=PATIENCE_SECONDS)
        assert house.sessions.view("one").last == last
        await works("one")
        told = [line.content for line in await house.sessions.page("one", after=last)]
        assert told[0] == "add a login"
        assert "by one" in told


async def test_the_newest_number_of_a_feed_is_one_that_is_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("colony_core.sessions.feed.MOST_REST_SECONDS", 3600.0)
    monkeypatch.setattr("colony_core.sessions.feed.REST_SECONDS", 3600.0)
    agent = PlayedBackend()
    async with house_at(tmp_path, agent) as house:
        await spawned(house, tmp_path)
        await instructed(house)
        await (await agent.scene()).say(Text(text="I am there"))
        with trio.fail_after(PATIENCE_SECONDS):  # behind this there is nothing more to be kept
            while ("text", "I am there") not in await lines_of(house):
                await trio.sleep(0.01)
        before = house.sessions.view("hello").last
        await house.sessions.report("hello", "I have begun", status="progress")
        assert house.sessions.view("hello").last == before
        await house.sessions.feed.flush()
        assert house.sessions.view("hello").last > before
        assert ("report", "I have begun") in await lines_of(house)


async def test_a_feed_is_followed_from_a_cursor_without_a_gap(tmp_path: Path) -> None:
    agent = PlayedBackend()
    async with house_at(tmp_path, agent) as house:
        await spawned(house, tmp_path)
        await instructed(house)
        scene = await agent.scene()
        seen: list[int] = []

        async def follow() -> None:
            async with house.sessions.follow("hello", after=0) as lines:
                async for line in lines:
                    seen.append(line.seq)
                    if line.kind == "status":
                        return

        async with trio.open_nursery() as nursery:
            nursery.start_soon(follow)
            for number in range(700):
                await scene.say(Text(text=str(number)))
            await scene.say(Ended(outcome="done"))
        lines = await house.sessions.page("hello", after=0, limit=1000)
        assert seen == [line.seq for line in lines]
        assert [line.content for line in lines if line.kind == "text"] == [str(n) for n in range(700)]
