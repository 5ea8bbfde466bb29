"""Stops: in reverse, softly, then cut when the grace is over; also when all is cancelled from outside."""

from math import inf

import pytest
import trio
from trio.testing import wait_all_tasks_blocked

from colony_core.supervision import (
    ChildOverdue,
    ExitKind,
    Limit,
    NotRunning,
    Restart,
    RestartLimit,
    StopFailed,
    open_supervisor,
    supervisor_spec,
)


async def test_children_stop_right_to_left_one_at_a_time(autojump_clock, stage):
    async with open_supervisor([stage.spec("a", cleanup=1), stage.spec("b", cleanup=2), stage.spec("c", cleanup=4)]):
        pass
    assert stage.times("end") == [(4, "c"), (6, "b"), (7, "a")]


async def test_a_deadline_outside_becomes_an_orderly_stop_bounded_by_the_graces(autojump_clock, stage):
    specs = [stage.spec("a", cleanup=1), stage.spec("b", cleanup=60, grace=5), stage.spec("c", cleanup=1)]
    with trio.move_on_at(10) as scope:
        async with open_supervisor(specs, on_event=stage.on_event):
            await trio.sleep_forever()
    assert scope.cancelled_caught
    assert stage.times("end") == [(11, "c"), (16, "b"), (17, "a")]
    assert [(type(event), event.path, event.exit.kind) for event in stage.events[3:]] == [
        (StopFailed, ("b",), ExitKind.KILLED)
    ]


async def test_the_same_two_levels_deep(autojump_clock, stage):
    inner = supervisor_spec("inner", [stage.spec("b", cleanup=60, grace=5), stage.spec("c", cleanup=1)])
    with trio.move_on_at(10):
        async with open_supervisor(
            [stage.spec("a", cleanup=1), inner, stage.spec("d", cleanup=1)], on_event=stage.on_event
        ):
            await trio.sleep_forever()
    assert stage.times("end") == [(11, "d"), (12, "c"), (17, "b"), (18, "a")]


async def test_a_cancellation_during_the_first_starts_undoes_them_in_order(autojump_clock, stage):
    specs = [stage.spec("a", cleanup=1), stage.spec("b", cleanup=1), stage.spec("c", 100)]
    with trio.move_on_at(10) as scope:
        async with open_supervisor(specs, on_event=stage.on_event):
            raise AssertionError("the block must not run")
    assert scope.cancelled_caught
    assert stage.times("end") == [(10, "c"), (11, "b"), (12, "a")]


async def test_a_cancellation_while_it_stops_changes_nothing(autojump_clock, stage):
    with trio.move_on_at(1) as scope:
        async with open_supervisor([stage.spec("a", cleanup=3), stage.spec("b", cleanup=3)], on_event=stage.on_event):
            pass
    assert scope.cancelled_caught
    assert stage.times("end") == [(3, "b"), (6, "a")]


async def test_a_cancellation_from_outside_hides_neither_an_error_of_the_block_nor_the_limit(autojump_clock, stage):
    async def fail(child: ValueError | None, block: KeyError | None) -> None:
        specs = [stage.spec("a"), stage.spec("b", cleanup=1)]
        with trio.CancelScope() as scope:
            async with open_supervisor(specs, limit=Limit(0, 1), on_event=stage.on_event):
                if child is not None:
                    await stage.tell("a", child)
                scope.cancel()
                if block is not None:
                    raise block
                await trio.sleep_forever()

    with pytest.raises(KeyError):
        await fail(None, KeyError())
    with pytest.raises(RestartLimit):
        await fail(ValueError(), None)


async def test_an_error_of_the_block_stops_the_children_and_goes_on(autojump_clock, stage):
    with pytest.raises(KeyError, match="mine"):
        async with open_supervisor([stage.spec("a", cleanup=1), stage.spec("b")], on_event=stage.on_event):
            raise KeyError("mine")
    assert stage.times("end") == [(0, "b"), (1, "a")]


async def test_grace_zero_is_a_brutal_kill(autojump_clock, stage):
    async with open_supervisor([stage.spec("a", cleanup=60, grace=0)], on_event=stage.on_event) as supervisor:
        end = await supervisor.stop_child("a")
        assert (end.kind, trio.current_time()) == (ExitKind.KILLED, 0)
    assert not any(isinstance(event, StopFailed) for event in stage.events)


async def test_an_infinite_grace_waits(autojump_clock, stage):
    async with open_supervisor([stage.spec("a", cleanup=10_000, grace=inf)], on_event=stage.on_event) as supervisor:
        end = await supervisor.stop_child("a")
        assert (end.kind, trio.current_time()) == (ExitKind.SHUTDOWN, 10_000)


async def test_whoever_touches_stopping_is_not_cancelled_within_the_grace(autojump_clock, stage):
    async with open_supervisor([stage.spec("a", soft=3)], on_event=stage.on_event) as supervisor:
        end = await supervisor.stop_child("a")
        assert (end.kind, end.at) == (ExitKind.NORMAL, 3)
    assert [type(event).__name__ for event in stage.events] == ["ChildStarted"]


async def test_a_soft_stop_that_takes_too_long_is_cut(autojump_clock, stage):
    async with open_supervisor([stage.spec("a", soft=30, grace=2, cleanup=60)], on_event=stage.on_event) as supervisor:
        end = await supervisor.stop_child("a")
        assert (end.kind, end.at) == (ExitKind.KILLED, 2)
        assert "clean done" not in stage.trace


async def test_a_shield_of_ones_own_can_only_be_waited_for_and_is_told(autojump_clock, stage):
    async with open_supervisor([stage.spec("a", refuse=30, grace=2)], on_event=stage.on_event) as supervisor:
        end = await supervisor.stop_child("a")
        assert (end.kind, end.at) == (ExitKind.KILLED, 30)
    overdue = [event for event in stage.events if isinstance(event, ChildOverdue)]
    assert [(event.path, event.at, event.since) for event in overdue] == [(("a",), 3, 2)]


async def test_an_error_while_stopping_is_told_and_stopping_goes_on(autojump_clock, stage):
    specs = [stage.spec("a"), stage.spec("b", bad_end=ValueError("late")), stage.spec("c")]
    async with open_supervisor(specs, on_event=stage.on_event):
        stage.forget()
    assert stage.trace == ["c end", "b end", "a end"]
    assert [(event.path, str(event.exit.error)) for event in stage.events] == [(("b",), "late")]


async def test_a_child_that_ends_by_itself_meanwhile_is_not_restarted(autojump_clock, stage):
    async def act():
        async with open_supervisor(
            [stage.spec("a"), stage.spec("b", cleanup=4)], on_event=stage.on_event
        ) as supervisor:
            handles.extend(supervisor.children())

    handles = []
    async with trio.open_nursery() as nursery:
        nursery.start_soon(act)
        await trio.sleep(1)
        await stage.tell("a", ValueError("alone"))
    assert [str(child.last_exit) for child in handles] == ["failed: ValueError('alone')", "shutdown"]
    assert stage.starts == {"a": 1, "b": 1}


async def test_stop_ends_the_block_quietly_once_the_children_are_gone(autojump_clock, stage):
    async with open_supervisor([stage.spec("a", cleanup=2)], on_event=stage.on_event) as supervisor:
        supervisor.stop()
        supervisor.stop()
        await trio.sleep_forever()
    assert trio.current_time() == 2


async def test_wait_returns_when_all_have_stopped(autojump_clock, stage):
    async with open_supervisor([stage.spec("a", cleanup=2)], on_event=stage.on_event) as supervisor:
        supervisor.stop()
        await supervisor.wait()
        assert trio.current_time() == 2
        with pytest.raises(NotRunning):
            await supervisor.start_child(stage.spec("b"))
        with pytest.raises(NotRunning):
            await supervisor.restart_child("a")


async def test_what_queued_up_is_refused_when_the_supervisor_stops(autojump_clock, stage):
    refused = []

    async def add(supervisor, spec):
        try:
            await supervisor.start_child(spec)
        except Exception as error:
            refused.append((spec.id, type(error).__name__))

    async with trio.open_nursery() as nursery, open_supervisor(on_event=stage.on_event) as supervisor:
        nursery.start_soon(add, supervisor, stage.spec("slow", 100))
        await wait_all_tasks_blocked()
        nursery.start_soon(add, supervisor, stage.spec("next"))
        await wait_all_tasks_blocked()
        supervisor.stop()
    assert sorted(refused) == [("next", "NotRunning"), ("slow", "ChildStartError")]
    assert stage.trace == ["slow start", "slow end"]


async def test_cutting_a_nested_supervisor_cuts_everything_below(autojump_clock, stage):
    deep = supervisor_spec("deep", [stage.spec("a", cleanup=60, grace=inf), stage.spec("b", cleanup=60, grace=inf)])
    async with open_supervisor([supervisor_spec("mid", [deep], grace=3)], on_event=stage.on_event) as supervisor:
        end = await supervisor.stop_child("mid")
        assert (end.kind, trio.current_time()) == (ExitKind.KILLED, 3)
        assert sorted(stage.times("end")) == [(3, "a"), (3, "b")]


async def test_a_nested_supervisor_may_be_killed_before_its_first_step(autojump_clock, stage):
    spec = supervisor_spec("inner", [stage.spec("a")], restart=Restart.TEMPORARY)
    async with open_supervisor(on_event=stage.on_event) as supervisor:
        with trio.CancelScope() as scope:
            scope.cancel()
            await supervisor.start_child(spec)
        assert supervisor.children() == ()
    assert stage.trace == []


async def test_no_task_is_left(autojump_clock, stage):
    before = len(trio.lowlevel.current_root_task().child_nurseries[0].child_tasks)
    statistics = trio.lowlevel.current_statistics().tasks_living
    async with open_supervisor([stage.spec("a"), supervisor_spec("b", [stage.spec("c")])], on_event=stage.on_event):
        pass
    assert trio.lowlevel.current_statistics().tasks_living == statistics
    assert len(trio.lowlevel.current_root_task().child_nurseries[0].child_tasks) == before


async def test_an_idle_supervisor_takes_no_step(autojump_clock, stage):
    class Steps(trio.abc.Instrument):
        count = 0

        def before_task_step(self, task):
            self.count += 1

    steps = Steps()
    specs = [stage.spec("a"), supervisor_spec("b", [stage.spec("c")])]
    async with open_supervisor(specs, on_event=stage.on_event):
        await wait_all_tasks_blocked()
        trio.lowlevel.add_instrument(steps)
        await trio.sleep(3600)
        trio.lowlevel.remove_instrument(steps)
    assert steps.count <= 1
