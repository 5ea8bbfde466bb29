"""What holds for every backend, over each of them: one end, last; interrupts heeded in every phase; nothing left behind."""

from itertools import pairwise
from typing import Any

import pytest
import trio

from colony_core.backends import (
    ApprovalAsked,
    ApprovalVoided,
    Ended,
    Happening,
    Run,
    Started,
    Text,
    TextDelta,
    ToolResult,
    ToolUse,
    Usage,
)
from colony_core.errors import NotFound

from .contract import DEADLINE_SECONDS, Stage, follow, stages

SPOKE = (Text, TextDelta, ToolUse)


def kinds(happenings: list[Happening], kind: type[Any]) -> list[Any]:
    return [happening for happening in happenings if isinstance(happening, kind)]


def check_order(happenings: list[Happening]) -> Ended:
    """What holds for every run; gives its end."""
    assert len(kinds(happenings, Ended)) == 1
    assert len(kinds(happenings, Started)) <= 1
    used = kinds(happenings, Usage)
    for before, after in pairwise(used):
        assert after.input_tokens >= before.input_tokens
        assert after.output_tokens >= before.output_tokens
    asked, voided = kinds(happenings, ApprovalAsked), kinds(happenings, ApprovalVoided)
    assert {void.id for void in voided} <= {question.id for question in asked}
    end = happenings[-1]
    assert isinstance(end, Ended)
    assert end.evidence
    return end


@stages("speaks")
async def test_a_run_tells_its_session_what_is_said_and_its_end(stage: Stage) -> None:
    happenings = await stage.play("speaks")
    end = check_order(happenings)
    assert (end.outcome, end.code) == ("done", "")
    assert "hello" in end.text
    assert [said.text for said in kinds(happenings, Text)] == ["hello"]
    [started] = kinds(happenings, Started)
    assert started.session
    assert stage.programs.left_to_us == []


@stages("speaks")
async def test_it_is_healthy_where_it_is_installed(stage: Stage) -> None:
    health = await stage.backend.check({"PATH": "/usr/bin:/bin"})
    assert health.ready, health.detail


@stages("speaks_on")
async def test_an_interrupt_while_it_speaks(stage: Stage) -> None:
    async def act(run: Run, happening: Happening) -> None:
        if isinstance(happening, SPOKE):
            await run.interrupt()

    assert check_order(await stage.play("speaks_on", act)).outcome == "stopped"
    assert stage.programs.left_to_us == []


@stages("works_on")
async def test_an_interrupt_while_a_tool_works(stage: Stage) -> None:
    async def act(run: Run, happening: Happening) -> None:
        if isinstance(happening, SPOKE):
            await run.interrupt()

    assert check_order(await stage.play("works_on", act)).outcome == "stopped"


@stages("asks")
async def test_an_interrupt_while_it_waits_for_an_answer_voids_the_question(stage: Stage) -> None:
    async def act(run: Run, happening: Happening) -> None:
        if isinstance(happening, ApprovalAsked):
            await run.interrupt()

    happenings = await stage.play("asks", act)
    assert check_order(happenings).outcome == "stopped"
    assert [void.id for void in kinds(happenings, ApprovalVoided)] == [
        ask.id for ask in kinds(happenings, ApprovalAsked)
    ]


@stages("begins")
async def test_an_interrupt_before_anything_was_told(stage: Stage) -> None:
    with trio.fail_after(DEADLINE_SECONDS):
        async with stage.backend.run(stage.job("begins")) as run:
            await run.interrupt()
            await run.interrupt()
            assert check_order(await follow(run)).outcome == "stopped"


@stages("speaks")
async def test_an_interrupt_after_the_end_changes_nothing(stage: Stage) -> None:
    async def act(run: Run, happening: Happening) -> None:
        if isinstance(happening, Ended):
            await run.interrupt()

    assert check_order(await stage.play("speaks", act)).outcome == "done"


@stages("asks")
async def test_a_question_that_is_granted(stage: Stage) -> None:
    async def act(run: Run, happening: Happening) -> None:
        if isinstance(happening, ApprovalAsked):
            await run.answer(happening.id, allow=True)
            with pytest.raises(NotFound):
                await run.answer(happening.id, allow=True)

    happenings = await stage.play("asks", act)
    assert check_order(happenings).outcome == "done"
    [question], [result] = kinds(happenings, ApprovalAsked), kinds(happenings, ToolResult)
    assert (question.tool, question.kind) == ("Bash", "execute")
    assert (question.tool_use, result.ok) == (result.id, True if stage.tells_outcomes else None)
    assert kinds(happenings, ApprovalVoided) == []


@stages("asks")
async def test_a_question_that_is_denied_is_denied_with_its_reason(stage: Stage) -> None:
    async def act(run: Run, happening: Happening) -> None:
        if isinstance(happening, ApprovalAsked):
            await run.answer(happening.id, allow=False, message="not today")

    happenings = await stage.play("asks", act)
    assert check_order(happenings).outcome == "done"
    [result] = kinds(happenings, ToolResult)
    assert not result.ok
    assert result.text == "not today" or not stage.tells_reasons


@stages("speaks")
async def test_an_answer_to_nothing_is_refused(stage: Stage) -> None:
    with trio.fail_after(DEADLINE_SECONDS):
        async with stage.backend.run(stage.job("speaks")) as run:
            with pytest.raises(NotFound):
                await run.answer("nobody-asked", allow=True)


@stages("works_on")
async def test_a_run_that_is_left_or_cancelled_leaves_nothing(stage: Stage) -> None:
    with trio.fail_after(DEADLINE_SECONDS):
        async with stage.backend.run(stage.job("works_on")) as run:
            async for happening in run.happenings():
                if isinstance(happening, SPOKE):
                    break
        assert stage.programs.living() == []
        with trio.CancelScope() as scope:
            async with stage.backend.run(stage.job("works_on")) as run:
                async for happening in run.happenings():
                    if isinstance(happening, SPOKE):
                        scope.cancel()
        assert scope.cancelled_caught
    assert stage.programs.left_to_us == []


@stages("begins")
async def test_the_error_of_the_block_leaves_as_it_is(stage: Stage) -> None:
    with trio.fail_after(DEADLINE_SECONDS), pytest.raises(KeyError, match="mine"):
        async with stage.backend.run(stage.job("begins")):
            raise KeyError("mine")


@stages("dies")
async def test_an_agent_that_is_killed_has_failed_and_its_last_words_are_told(stage: Stage) -> None:
    end = check_order(await stage.play("dies"))
    assert (end.outcome, end.code) == ("failed", "agent-died")
    assert any("SIGKILL" in line for line in end.evidence)
    assert any("boom" in line for line in end.evidence)


@stages("speaks", "resume")
async def test_a_session_goes_on_in_another_run(stage: Stage) -> None:
    [first] = kinds(await stage.play("speaks"), Started)
    happenings = await stage.play("speaks", resume=first.session)
    assert check_order(happenings).outcome == "done"
    [second] = kinds(happenings, Started)
    assert second.session == first.session
