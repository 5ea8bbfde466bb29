"""First starts: one by one, acknowledged, undone as a whole."""

import contextvars

import pytest
import trio
import trio.testing

from colony_core.supervision import (
    ChildSpec,
    ChildStartError,
    ExitKind,
    Ignore,
    PlannedStop,
    Restart,
    State,
    Strategy,
    open_supervisor,
    supervisor_spec,
)  # fmt: skip


async def test_children_start_left_to_right_each_awaited(autojump_clock, stage):
    async with open_supervisor(
        [stage.spec("a", 1), stage.spec("b", 2), stage.spec("c")], on_event=stage.on_event
    ) as supervisor:
        assert trio.current_time() == 3
        assert stage.trace == ["a start", "a up", "b start", "b up", "c start", "c up"]
        assert [child.value for child in supervisor.children()] == [1, 1, 1]
        assert [child.state for child in supervisor.children()] == [State.UP] * 3
    assert stage.trace == ["c end", "b end", "a end"]
    assert stage.told == [("ChildStarted", (name,)) for name in "abc"]


async def test_a_failed_start_stops_what_is_up_in_reverse_and_says_whose_it_was(autojump_clock, stage):
    specs = [stage.spec("a"), stage.spec("b"), stage.spec("c", ValueError("no")), stage.spec("d")]
    with pytest.raises(ChildStartError) as caught:
        async with open_supervisor(specs, on_event=stage.on_event):
            raise AssertionError("the block must not run")
    assert caught.value.child == "c"
    assert isinstance(caught.value.__cause__, ValueError)
    assert stage.trace == ["a start", "a up", "b start", "b up", "c start", "c end", "b end", "a end"]
    assert stage.told == [("ChildStarted", ("a",)), ("ChildStarted", ("b",)), ("StartFailed", ("c",))]


async def test_nested_start_failures_make_a_chain(autojump_clock, stage):
    inner = supervisor_spec("inner", [stage.spec("a", ValueError("no"))])
    with pytest.raises(ChildStartError) as caught:
        async with open_supervisor([stage.spec("x"), inner], on_event=stage.on_event):
            pass
    assert caught.value.child == "inner"
    assert isinstance(caught.value.__cause__, ChildStartError)
    assert caught.value.__cause__.child == "a"
    assert isinstance(caught.value.__cause__.__cause__, ValueError)
    assert stage.trace == ["x start", "x up", "a start", "a end", "x end"]
    assert stage.told == [("ChildStarted", ("x",)), ("StartFailed", ("inner", "a")), ("StartFailed", ("inner",))]


@pytest.mark.parametrize("early_end", [PlannedStop(), ValueError(), None])
async def test_any_end_before_the_acknowledgement_is_a_failed_start(autojump_clock, stage, early_end):
    async def run(*, status):
        if early_end is not None:
            raise early_end

    with pytest.raises(ChildStartError) as caught:
        async with open_supervisor([ChildSpec(id="a", run=run)], on_event=stage.on_event):
            pass
    if early_end is None:
        assert "returned without calling status.started()" in str(caught.value.__cause__)
    else:
        assert caught.value.__cause__ is early_end


async def test_ignore_keeps_the_spec_with_nothing_running_unless_it_is_temporary(autojump_clock, stage):
    specs = [stage.spec("a", Ignore()), stage.spec("b", Ignore(), restart=Restart.TEMPORARY), stage.spec("c")]
    async with open_supervisor(specs, on_event=stage.on_event) as supervisor:
        assert [(child.id, child.state) for child in supervisor.children()] == [("a", State.DOWN), ("c", State.UP)]
        assert supervisor.counts().active == 1
    assert stage.told == [("ChildStarted", ("c",))]


async def test_ignore_after_the_start_is_a_failure(autojump_clock, stage):
    async with open_supervisor([stage.spec("a", restart=Restart.TEMPORARY)], on_event=stage.on_event) as supervisor:
        child = supervisor.child("a")
        await stage.tell("a", Ignore())
        assert child.last_exit.kind is ExitKind.FAILED


async def test_starting_twice_is_the_childs_error(autojump_clock, stage):
    async def run(*, status):
        status.started()
        status.started()

    async with open_supervisor(
        [ChildSpec(id="a", run=run, restart=Restart.TEMPORARY)], on_event=stage.on_event
    ) as supervisor:
        await trio.testing.wait_all_tasks_blocked()
        assert supervisor.children() == ()
    assert "called started() twice" in str(stage.events[-1].exit.error)


async def test_a_status_is_a_plain_task_status(autojump_clock, stage):
    async def server(port, *, task_status=trio.TASK_STATUS_IGNORED):
        task_status.started(port)
        await trio.sleep_forever()

    async def run(*, status):
        await server(80, task_status=status)

    async with open_supervisor([ChildSpec(id="a", run=run)], on_event=stage.on_event) as supervisor:
        assert supervisor.child("a").value == 80


async def test_a_child_that_ends_while_another_starts_is_looked_at_afterwards(autojump_clock, stage):
    async def short(*, status):
        status.started()
        await trio.sleep(1)
        stage.note("short", "end")

    async with open_supervisor(
        [ChildSpec(id="short", run=short), stage.spec("slow", 5)], on_event=stage.on_event
    ) as supervisor:
        assert trio.current_time() == 5
        assert stage.times("end") == [(1, "short")]
        await supervisor.child("short").wait_up()
        assert supervisor.child("short").incarnation == 2
        assert trio.current_time() == 5


async def test_children_have_the_context_of_the_supervisor_also_when_restarted(autojump_clock, stage):
    variable = contextvars.ContextVar("variable", default="none")
    seen = []

    async def run(*, status):
        seen.append(variable.get())
        variable.set("left over")
        status.started()
        if len(seen) == 1:
            raise ValueError

        await trio.sleep_forever()

    variable.set("outer")
    async with open_supervisor([ChildSpec(id="a", run=run)], on_event=stage.on_event) as supervisor:
        variable.set("of the block")
        await trio.testing.wait_all_tasks_blocked()
        await supervisor.stop_child("a")
        await supervisor.restart_child("a")
    assert seen == ["outer"] * 3


async def test_an_empty_supervisor_is_fine_with_any_strategy(autojump_clock, stage):
    for strategy in Strategy:
        async with open_supervisor(strategy=strategy) as supervisor:
            assert supervisor.children() == ()
