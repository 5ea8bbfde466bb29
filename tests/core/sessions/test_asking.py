"""What an agent asks and reports from inside of its colony, beside what its backend tells."""

from pathlib import Path

import pytest
import trio

from colony_core.backends import ApprovalAsked, Ended
from colony_core.errors import LimitReached, WrongState
from colony_core.mycelium import Mycelium
from colony_core.sessions.questions import MOST_OPEN
from colony_core.views import AgentView, Decision

from .played import PATIENCE_SECONDS, PlayedBackend, Scene
from .test_sessions import house_at, instructed, lines_of, reached, spawned


async def at_work(house: Mycelium, agent: PlayedBackend) -> Scene:
    await instructed(house)
    scene = await agent.scene()
    await scene.begin()
    with trio.fail_after(PATIENCE_SECONDS):
        while house.sessions.view("hello").session is None:
            await house.bus.beyond(house.bus.last_seq)
    return scene


async def asked(house: Mycelium, question: str = "Which database?") -> Decision:
    return await house.sessions.ask("hello", "ask", kind="question", summary=question, given={"question": question})


async def test_a_question_waits_for_a_person_whose_words_come_back(tmp_path: Path) -> None:
    agent = PlayedBackend()
    async with house_at(tmp_path, agent) as house:
        await spawned(house, tmp_path)
        scene = await at_work(house, agent)
        found: list[Decision] = []

        async def ask() -> None:
            found.append(await asked(house))

        async with trio.open_nursery() as nursery:
            nursery.start_soon(ask)
            view = await reached(house, "waiting")
            assert view.reason == "asks: Which database?"
            (question,) = view.approvals
            assert (question.tool, question.kind, question.input) == (
                "ask",
                "question",
                {"question": "Which database?"},
            )
            await house.sessions.decide("hello", None, Decision(allow=True, message="PostgreSQL"), by="ann")
        assert found == [Decision(allow=True, message="PostgreSQL")]
        assert house.sessions.view("hello").state == "working"
        assert scene.answers == {}, "the backend was asked nothing, and is told nothing"
        assert ("approval", "Which database?") in await lines_of(house)
        await scene.say(Ended(outcome="done"))
        await reached(house, "done")


async def test_the_agent_works_again_only_when_all_that_it_asks_is_answered(tmp_path: Path) -> None:
    agent = PlayedBackend()
    async with house_at(tmp_path, agent) as house:
        await spawned(house, tmp_path)
        scene = await at_work(house, agent)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(asked, house)
            await reached(house, "waiting")
            await scene.say(ApprovalAsked(id="q", tool="Bash", kind="execute", input={"command": "make"}))
            with trio.fail_after(PATIENCE_SECONDS):
                while len(view.approvals if (view := house.sessions.view("hello")) else ()) < 2:
                    await house.bus.beyond(house.bus.last_seq)
            with pytest.raises(WrongState, match="asks 2"):
                await house.sessions.decide("hello", None, Decision(allow=True), by="ann")
            ours, theirs = sorted(view.approvals, key=lambda each: each.tool, reverse=True)
            assert (ours.tool, theirs.tool) == ("ask", "Bash")
            await house.sessions.decide("hello", theirs.id, Decision(allow=True), by="ann")
            assert house.sessions.view("hello").state == "waiting"
            await house.sessions.decide("hello", ours.id, Decision(allow=False), by="ann")
        assert house.sessions.view("hello").state == "working"
        assert scene.answers == {"q": (True, "")}


async def test_a_question_that_is_taken_back_is_void(tmp_path: Path) -> None:
    agent = PlayedBackend()
    async with house_at(tmp_path, agent) as house:
        await spawned(house, tmp_path)
        await at_work(house, agent)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(asked, house)
            await reached(house, "waiting")
            nursery.cancel_scope.cancel()
        view = house.sessions.view("hello")
        assert (view.state, view.approvals) == ("working", ())
        assert [each.decision for each in await house.sessions.approvals("hello")] == ["void"]


@pytest.mark.parametrize("end", ["by itself", "by force"])
async def test_a_question_ends_with_its_run(tmp_path: Path, end: str) -> None:
    agent = PlayedBackend()
    async with house_at(tmp_path, agent) as house:
        await spawned(house, tmp_path)
        scene = await at_work(house, agent)
        errors: list[WrongState] = []

        async def ask() -> None:
            with pytest.raises(WrongState) as caught:
                await asked(house)
            errors.append(caught.value)

        async with trio.open_nursery() as nursery:
            nursery.start_soon(ask)
            await reached(house, "waiting")
            if end == "by itself":
                await scene.say(Ended(outcome="done"))
            else:
                await house.stop("hello")
        assert [error.code for error in errors] == ["run-over"]
        await reached(house, "done" if end == "by itself" else "idle")
        assert [each.decision for each in await house.sessions.approvals("hello")] == ["void"]


async def test_where_no_agent_is_at_work_nobody_is_asked_but_a_report_is_kept(tmp_path: Path) -> None:
    async with house_at(tmp_path, PlayedBackend()) as house:
        await spawned(house, tmp_path)
        with pytest.raises(WrongState) as caught:
            await asked(house)
        assert caught.value.code == "agent-not-working"
        await house.sessions.report("hello", "half of it", status="progress")
        assert await lines_of(house) == [("report", "half of it")]
        (line,) = await house.sessions.page("hello")
        assert line.data == {"status": "progress"}


KEY = "sk-ant-canary-0123456789"


async def test_no_key_of_the_agent_s_stands_in_what_it_asks_or_reports(tmp_path: Path) -> None:
    agent = PlayedBackend()
    async with house_at(tmp_path, agent) as house:
        await spawned(house, tmp_path)
        (tmp_path / "home-hello" / ".env").write_text(f"ANTHROPIC_API_KEY={KEY}\n")
        await house.sessions.report("hello", f"before: {KEY}", status="progress")
        await at_work(house, agent)
        await house.sessions.report("hello", f"meanwhile: {KEY}", status="progress")
        async with trio.open_nursery() as nursery:
            nursery.start_soon(asked, house, f"{'May I send ' * 45}{KEY}?")
            (question,) = (await reached(house, "waiting")).approvals
            nursery.cancel_scope.cancel()
        told = await lines_of(house)
        assert ("report", "before: ‹ANTHROPIC_API_KEY›") in told
        assert ("report", "meanwhile: ‹ANTHROPIC_API_KEY›") in told
        assert question.input["question"].endswith("‹ANTHROPIC_API_KEY›?")
        assert "sk-" not in f"{question}{told}{await house.sessions.approvals('hello')}"


async def waiting(house: Mycelium, number: int) -> AgentView:
    with trio.fail_after(PATIENCE_SECONDS):
        while len((view := house.sessions.view("hello")).approvals) < number:
            await house.bus.beyond(house.bus.last_seq)
    return view


async def test_an_agent_may_have_so_many_open_questions_and_no_more(tmp_path: Path) -> None:
    agent = PlayedBackend()
    async with house_at(tmp_path, agent) as house:
        await spawned(house, tmp_path)
        scene = await at_work(house, agent)
        async with trio.open_nursery() as nursery:
            for _ in range(MOST_OPEN - 1):
                nursery.start_soon(asked, house)
            await waiting(house, MOST_OPEN - 1)
            await scene.say(ApprovalAsked(id="last", tool="Bash", kind="execute", input={"command": "make"}))
            view = await waiting(house, MOST_OPEN)
            with pytest.raises(LimitReached, match=f"{MOST_OPEN} questions") as caught:
                await asked(house)
            assert caught.value.code == "too-many-questions"
            await scene.say(ApprovalAsked(id="more", tool="Bash", kind="execute", input={"command": "make all"}))
            with trio.fail_after(PATIENCE_SECONDS):
                await scene.answered.wait()
            assert scene.answers == {"more": (False, f"{MOST_OPEN} questions of yours wait for an answer already")}
            assert ("decision", "denied Bash: make all") in await lines_of(house)
            await house.sessions.decide("hello", view.approvals[0].id, Decision(allow=True), by="ann")
            nursery.start_soon(asked, house)
            await waiting(house, MOST_OPEN)
            nursery.cancel_scope.cancel()
        assert [each.tool for each in house.sessions.view("hello").approvals] == ["Bash"]
