"""Many alike children: concurrent, forgotten when down."""

# ruff: noqa: PT012 - it is the whole block that ends with the error

import pytest
import trio
from trio.testing import wait_all_tasks_blocked

from colony_core.supervision import (
    ActorDied,
    AutoShutdown,
    Backoff,
    ChildStartError,
    Ignore,
    Limit,
    NoSuchChild,
    NotForDynamic,
    Restart,
    RestartLimit,
    State,
    StopFailed,
    TooManyChildren,
    open_dynamic_supervisor,
)  # fmt: skip


async def test_children_start_concurrently_and_are_numbered(autojump_clock, stage):
    async with open_dynamic_supervisor(stage.spec("w", 5), on_event=stage.on_event) as many:
        async with trio.open_nursery() as nursery:
            for _ in range(3):
                nursery.start_soon(many.spawn)
        assert trio.current_time() == 5
        assert [child.id for child in many.children()] == [1, 2, 3]
    assert stage.told == []


async def test_a_slow_start_keeps_nobody_waiting(autojump_clock, stage):
    async with open_dynamic_supervisor(on_event=stage.on_event) as many, trio.open_nursery() as nursery:
        nursery.start_soon(many.start_child, stage.spec("slow", 100))
        await wait_all_tasks_blocked()
        await many.start_child(stage.spec("quick"))
        await stage.tell("quick", ValueError())
        assert (trio.current_time(), stage.starts["quick"]) == (0, 2)
        nursery.cancel_scope.cancel()


async def test_arguments_follow_those_of_the_template_and_are_kept_for_restarts(autojump_clock, stage):
    seen = []

    async def run(*args, status):
        seen.append(args)
        status.started()
        await trio.sleep(1)
        raise ValueError

    async with open_dynamic_supervisor(run, args=(1,), limit=Limit(9, 5), on_event=stage.on_event) as many:
        await many.spawn(2, 3)
        await trio.sleep(1.5)
        assert seen == [(1, 2, 3)] * 2


async def test_the_stop_asks_all_at_once_and_takes_as_long_as_the_slowest(autojump_clock, stage):
    async with open_dynamic_supervisor(on_event=stage.on_event) as many:
        await many.start_child(stage.spec("a", cleanup=2))
        await many.start_child(stage.spec("b", cleanup=60, grace=5))
        await many.start_child(stage.spec("c", cleanup=60, grace=3))
    assert stage.times("end") == [(2, "a"), (3, "c"), (5, "b")]


async def test_a_mass_stop_folds_equal_ends_into_one_event(autojump_clock, stage):
    async with open_dynamic_supervisor(on_event=stage.on_event, name="many") as many:
        for n in range(4):
            await many.start_child(stage.spec(f"bad{n}", bad_end=ValueError("same")))
        await many.start_child(stage.spec("other", bad_end=KeyError("other")))
        await many.start_child(stage.spec("good"))
    told = {(type(each), each.path, str(each.exit.error), each.count) for each in stage.events}
    assert told == {(StopFailed, ("many",), "same", 4), (StopFailed, ("many",), "'other'", 1)}
    assert len(stage.events) == 2


async def test_what_is_stopped_is_forgotten(autojump_clock, stage):
    async with open_dynamic_supervisor(stage.spec("w"), on_event=stage.on_event) as many:
        child = await many.spawn()
        await many.stop_child(child)
        assert (many.children(), child.state) == ((), State.DOWN)
        with pytest.raises(NoSuchChild):
            await many.stop_child(child)
        for request in (many.restart_child, many.delete_child):
            with pytest.raises(NotForDynamic):
                await request(child)


async def test_ids_need_not_be_unique_but_then_only_handles_tell_them_apart(autojump_clock, stage):
    async with open_dynamic_supervisor(on_event=stage.on_event) as many:
        one, two = await many.start_child(stage.spec("w")), await many.start_child(stage.spec("w"))
        with pytest.raises(NoSuchChild, match="2 children are called 'w'"):
            await many.stop_child("w")
        await many.stop_child(one)
        assert many.child("w") is two
        await many.stop_child("w")
        assert many.children() == ()


async def test_who_comes_back_in_a_dynamic_supervisor(autojump_clock, stage):
    async with open_dynamic_supervisor(on_event=stage.on_event, limit=Limit(10, 5)) as many:
        await many.start_child(stage.spec("permanent"))
        await many.start_child(stage.spec("transient", restart=Restart.TRANSIENT))
        await many.start_child(stage.spec("temporary", restart=Restart.TEMPORARY))
        await stage.tell("transient", ValueError())
        await stage.tell("permanent", "return")
        await stage.tell("temporary", ValueError())
        assert [(child.id, child.restarts) for child in many.children()] == [("permanent", 1), ("transient", 1)]
        await stage.tell("transient", "return")
        assert [child.id for child in many.children()] == ["permanent"]


async def test_ignore_on_restart_removes_the_child(autojump_clock, stage):
    async with open_dynamic_supervisor(stage.spec("w", None, Ignore()), on_event=stage.on_event) as many:
        await many.spawn()
        await stage.tell("w", ValueError())
        assert many.children() == ()


async def test_failed_restarts_are_tried_again_and_counted(autojump_clock, stage):
    with pytest.raises(RestartLimit) as caught:
        async with open_dynamic_supervisor(
            stage.spec("w", None, KeyError()), limit=Limit(2, 5), on_event=stage.on_event
        ) as many:
            await many.spawn()
            await stage.tell("w", ValueError())
            await trio.sleep_forever()
    assert [type(error) for error in caught.value.exceptions] == [ValueError, KeyError, KeyError]


async def test_most_counts_those_that_restart(autojump_clock, stage):
    template = stage.spec("w", backoff=Backoff(first=9, jitter=0))
    async with open_dynamic_supervisor(template, most=1, on_event=stage.on_event) as many:
        child = await many.spawn()
        await stage.tell("w", ValueError())
        assert child.state is State.RESTARTING
        with pytest.raises(TooManyChildren, match="there are 1 children, and there may be 1 at most"):
            await many.spawn()
        await many.stop_child(child)
        await many.spawn()


async def test_a_failed_or_cancelled_spawn_leaves_nothing(autojump_clock, stage):
    async with open_dynamic_supervisor(on_event=stage.on_event) as many:
        with pytest.raises(ChildStartError):
            await many.start_child(stage.spec("a", ValueError()))
        with trio.move_on_after(1):
            await many.start_child(stage.spec("b", 100))
        assert many.children() == ()


async def test_spawn_needs_a_template(autojump_clock, stage):
    async with open_dynamic_supervisor(on_event=stage.on_event) as many:
        with pytest.raises(TypeError, match="no template"):
            await many.spawn()


async def test_all_significant_ends_a_brood(autojump_clock, stage):
    fields = {"restart": Restart.TEMPORARY, "significant": True}
    async with open_dynamic_supervisor(auto_shutdown=AutoShutdown.ALL_SIGNIFICANT, on_event=stage.on_event) as many:
        for name in "ab":
            await many.start_child(stage.spec(name, **fields))
        await stage.tell("a", "return")
        assert not many.stop_called
        stage.order("b", "return")
        await trio.sleep_forever()


async def test_run_returns_the_result_and_its_error_is_ours(autojump_clock, stage):
    async def add(a, b):
        await trio.sleep(1)
        return a + b

    async def fail():
        raise KeyError("mine")

    async with open_dynamic_supervisor(on_event=stage.on_event) as many:
        assert await many.run(add, 1, 2) == 3
        with pytest.raises(KeyError, match="mine"):
            await many.run(fail)
        with trio.move_on_after(0.5):
            await many.run(add, 1, 2)
        assert many.children() == ()
    assert stage.told == []


async def test_a_task_that_somebody_stops_has_died_for_whoever_waits(autojump_clock, stage):
    async with open_dynamic_supervisor(on_event=stage.on_event) as many, trio.open_nursery() as nursery:

        async def ask():
            with pytest.raises(ActorDied, match="'sleep_forever' was stopped: shutdown"):
                await many.run(trio.sleep_forever)

        nursery.start_soon(ask)
        await wait_all_tasks_blocked()
        await many.stop_child("sleep_forever")


async def test_a_thousand_crashes_in_one_tick_are_all_mended(autojump_clock, stage):
    go = trio.Event()

    async def run(*, status):
        status.started()
        if not go.is_set():
            await go.wait()
            raise ValueError
        await trio.sleep_forever()

    async with open_dynamic_supervisor(run, limit=Limit(1000, 5), on_event=lambda event: None) as many:
        for _ in range(1000):
            await many.spawn()
        go.set()
        await wait_all_tasks_blocked()
        assert {(child.state, child.restarts) for child in many.children()} == {(State.UP, 1)}


async def test_many_are_started_at_once(autojump_clock):
    async def child(seconds, *, status):
        await trio.sleep(seconds)
        status.started(seconds)
        await trio.sleep_forever()

    async with open_dynamic_supervisor(child) as supervisor:
        children = await supervisor.spawn_many((seconds,) for seconds in (3, 1, 2))
        assert [each.value for each in children] == [3, 1, 2]
        assert trio.current_time() == 3
        assert await supervisor.spawn_many([]) == []
        assert list(supervisor.children()) == children


async def test_of_many_either_all_come_up_or_none(autojump_clock):
    ends = []

    async def child(number, *, status):
        await trio.sleep(number)
        if number == 2:
            raise ValueError("two")
        status.started()
        try:
            await trio.sleep_forever()
        finally:
            ends.append((number, trio.current_time()))

    async with open_dynamic_supervisor(child, most=3, on_event=lambda _: None) as supervisor:
        with pytest.raises(ChildStartError) as caught:
            await supervisor.spawn_many([(1,), (2,), (3,)])
        assert repr(caught.value.__cause__) == "ValueError('two')"
        assert (sorted(ends), supervisor.children()) == ([(1, 3), (3, 3)], ())
        with pytest.raises(TooManyChildren):
            await supervisor.spawn_many([(1,)] * 4)
        assert supervisor.children() == ()


async def test_many_are_undone_when_the_caller_is_cancelled(autojump_clock):
    seen = []

    async def child(seconds, *, status):
        seen.append("start")
        try:
            await trio.sleep(seconds)
            status.started()
            await trio.sleep_forever()
        finally:
            seen.append("end")

    async with open_dynamic_supervisor(child) as supervisor:
        with trio.move_on_after(2) as scope:
            await supervisor.spawn_many([(1,), (3,)])
        assert scope.cancelled_caught
        assert (seen, supervisor.children()) == (["start", "start", "end", "end"], ())
