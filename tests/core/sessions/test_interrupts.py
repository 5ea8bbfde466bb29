"""What becomes of an interrupt, whenever it comes; and of questions that nobody waits for any more."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path

import pytest
import trio

from colony_core.backends import ApprovalAsked, Ended, Job, LimitReached
from colony_core.colonies import Colony
from colony_core.errors import WrongState
from colony_core.events import AgentEvent, Numbered
from colony_core.processes import KeeperLost
from colony_core.testing import wait_for

from .played import PATIENCE_SECONDS, PlayedBackend, Scene
from .test_sessions import house_at, instructed, lines_of, reached, spawned

LOST = KeeperLost("keeper-lost", "the keeper died or closed the line", "open a keeper again")


async def test_an_interrupt_that_was_accepted_counts_for_the_next_daemon_too(tmp_path: Path) -> None:
    """The daemon ends before the agent has heeded it: nobody goes on with what was to stop."""
    agent = PlayedBackend()
    async with house_at(tmp_path, agent) as house:
        await spawned(house, tmp_path)
        await instructed(house)
        scene = await agent.scene()
        await scene.begin()
        await house.sessions.interrupt("hello", by="ada")
        await scene.interrupted.wait()
        assert house.sessions.view("hello").state == "working"
    async with house_at(tmp_path, agent) as house:
        await wait_for(house, "hello", lambda view: view.state == "running", timeout=PATIENCE_SECONDS)
        view = await reached(house, "idle")
        assert (view.reason, view.code) == ("interrupted by ada", "")
        assert (await lines_of(house))[-1] == ("status", "interrupted")
        await instructed(house, "something else")
        assert (await agent.scene()).job.instruction == "something else"


async def test_what_an_agent_does_after_it_was_interrupted_makes_nobody_forget_that(tmp_path: Path) -> None:
    agent = PlayedBackend()
    async with house_at(tmp_path, agent) as house:
        await spawned(house, tmp_path)
        await instructed(house)
        scene = await agent.scene()
        await house.sessions.interrupt("hello", by="ada")
        await scene.begin("vendor-7")
        await scene.say(ApprovalAsked(id="q", tool="Bash", input={"command": "x"}, kind="execute"))
        await reached(house, "waiting")
    async with house_at(tmp_path, agent) as house:
        assert (await reached(house, "idle")).session == "vendor-7"


async def test_an_interrupt_before_the_work_has_begun_ends_it(tmp_path: Path) -> None:
    """At each checkpoint of the taking of an instruction."""
    agent = PlayedBackend()
    async with house_at(tmp_path, agent) as house:
        await spawned(house, tmp_path)
        for steps in range(12):
            async with trio.open_nursery() as nursery:
                nursery.start_soon(instructed, house)
                while house.sessions.view("hello").state != "working":
                    await trio.lowlevel.checkpoint()
                for _ in range(steps):
                    await trio.lowlevel.checkpoint()
                await house.sessions.interrupt("hello", by="ada")
            async with trio.open_nursery() as nursery:
                nursery.start_soon(_heed, agent)
                assert (await reached(house, "idle")).reason == "interrupted by ada"
                nursery.cancel_scope.cancel()


async def _heed(agent: PlayedBackend) -> None:
    """Each by itself: a run that was cut off as it began is never interrupted."""

    async def end(scene: Scene) -> None:
        await scene.interrupted.wait()
        await scene.say(Ended(outcome="stopped"))

    async with trio.open_nursery() as nursery:
        while True:
            nursery.start_soon(end, await agent.scene())


async def test_an_interrupted_agent_that_meets_a_limit_does_not_go_on(tmp_path: Path) -> None:
    agent = PlayedBackend()
    async with house_at(tmp_path, agent) as house:
        await spawned(house, tmp_path)
        await instructed(house)
        scene = await agent.scene()
        await scene.begin()
        await house.sessions.interrupt("hello", by="ada")
        await scene.say(LimitReached(text="usage limit", until=None), Ended(outcome="failed", code="limit"))
        assert (await reached(house, "idle")).paused_until is None


@pytest.mark.parametrize("verb", ["stop", "restart"])
async def test_a_question_is_void_when_its_colony_goes_down(tmp_path: Path, verb: str) -> None:
    agent = PlayedBackend()
    async with house_at(tmp_path, agent) as house:
        await spawned(house, tmp_path)
        await instructed(house)
        scene = await agent.scene()
        await scene.say(ApprovalAsked(id="q", tool="Bash", input={"command": "x"}, kind="execute"))
        await reached(house, "waiting")
        await getattr(house, verb)("hello")
        assert (await reached(house, "idle")).approvals == ()
        assert [each.decision for each in await house.sessions.approvals("hello")] == ["void"]


async def test_a_keeper_that_is_lost_while_an_agent_begins_is_no_failure_of_the_agents(tmp_path: Path) -> None:
    """The line to the keeper breaks under the start of a program, or under a check: it is tried again, with the next keeper."""
    agent = LosesKeepers(2)
    async with house_at(tmp_path, agent) as house:
        house.sessions.fingerprint = Flaky()
        await spawned(house, tmp_path, agent='[checks]\ntests = "true"')
        await instructed(house)
        scene = await agent.scene()
        await scene.say(Ended(outcome="done", text="It is done."))
        view = await reached(house, "done")
        assert view.receipt is not None
        assert view.receipt.verdict == "verified"
        lines = await lines_of(house)
        assert lines.count(("notice", "the keeper was lost, and the agent with it; the work goes on")) == 2
        assert [kind for kind, _ in lines].count("receipt") == 1


class LosesKeepers(PlayedBackend):
    """Meets a lost keeper the first times that it begins."""

    def __init__(self, times: int) -> None:
        super().__init__()
        self._left = times

    @asynccontextmanager
    async def run(self, job: Job) -> AsyncIterator[Scene]:
        if self._left:
            self._left -= 1
            raise ExceptionGroup("of a nursery", [LOST])
        async with super().run(job) as scene:
            yield scene


class Flaky:
    """A hash of a workspace that is there at the second asking."""

    asked = 0

    async def __call__(self, colony: Colony) -> str:
        await trio.lowlevel.checkpoint()
        self.asked += 1
        if self.asked == 1:
            raise LOST
        return "tree"


async def test_an_interrupt_while_an_end_is_written_down_ends_nothing_twice(tmp_path: Path) -> None:
    """It is told already; the next instruction is given as soon as the agent rests."""
    agent, told = PlayedBackend(), [trio.Event()]

    def hear(numbered: Numbered) -> None:
        if isinstance(numbered.event, AgentEvent) and numbered.event.content == "completed":
            told[0].set()

    async with house_at(tmp_path, agent) as house:
        await spawned(house, tmp_path)
        house.bus.on_publish(hear)
        for steps in range(8):
            told[0] = trio.Event()
            await instructed(house, f"first {steps}")
            scene = await agent.scene()
            await scene.begin()
            await scene.say(Ended(outcome="done"))
            await told[0].wait()
            for _ in range(steps):
                await trio.lowlevel.checkpoint()
            with suppress(WrongState):
                await house.sessions.interrupt("hello", by="ada")
            while house.sessions.view("hello").state == "working":
                await trio.lowlevel.checkpoint()
            await instructed(house, f"second {steps}")
            scene = await agent.scene()
            await scene.begin()
            view = house.sessions.view("hello")
            assert (view.state, view.instruction) == ("working", f"second {steps}")
            await scene.say(Ended(outcome="done"))
            await reached(house, "done")
            await house.sessions.feed.flush()
            page = await house.sessions.page("hello", limit=1000)
            assert [line.kind for line in page].count("status") == 2 * (steps + 1)
