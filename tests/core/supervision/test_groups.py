"""One for all, and rest for one."""

# ruff: noqa: PT012 - it is the whole block that ends with the error

import pytest
import trio
from trio.testing import wait_all_tasks_blocked

from colony_core.supervision import (
    Backoff,
    ChildRestarting,
    Limit,
    Restart,
    RestartLimit,
    State,
    Strategy,
    open_supervisor,
)

ALL, REST = Strategy.ONE_FOR_ALL, Strategy.REST_FOR_ONE


async def test_one_for_all_stops_the_others_in_reverse_and_starts_all_in_order(autojump_clock, stage):
    specs = [stage.spec(name) for name in "abcd"]
    async with open_supervisor(specs, strategy=ALL, limit=Limit(1, 5), on_event=stage.on_event) as supervisor:
        stage.forget()
        await stage.tell("b", ValueError())
        assert stage.trace == [
            "b end", "d end", "c end", "a end",
            "a start", "a up", "b start", "b up", "c start", "c up", "d start", "d up",
        ]  # fmt: skip
        assert [child.restarts for child in supervisor.children()] == [1, 1, 1, 1]


async def test_rest_for_one_leaves_those_before_alone(autojump_clock, stage):
    specs = [stage.spec(name) for name in "abcd"]
    async with open_supervisor(specs, strategy=REST, limit=Limit(1, 5), on_event=stage.on_event) as supervisor:
        stage.forget()
        await stage.tell("b", ValueError())
        assert stage.trace == ["b end", "d end", "c end", "b start", "b up", "c start", "c up", "d start", "d up"]
        assert [child.incarnation for child in supervisor.children()] == [1, 2, 2, 2]


async def test_a_group_takes_the_time_of_its_stops_and_starts(autojump_clock, stage):
    specs = [stage.spec("a", 1), stage.spec("b", 2, cleanup=3), stage.spec("c", 1, cleanup=60, grace=4)]
    async with open_supervisor(specs, strategy=ALL, on_event=stage.on_event) as supervisor:
        assert trio.current_time() == 4
        stage.timed.clear()
        await stage.tell("a", ValueError())
        await supervisor.child("c").wait_up()
    assert stage.times("start") == [(11, "a"), (12, "b"), (14, "c")]
    assert stage.times("end")[:3] == [(4, "a"), (8, "c"), (11, "b")]


async def test_temporary_members_are_dropped_and_never_trigger(autojump_clock, stage):
    specs = [
        stage.spec("a"),
        stage.spec("t", restart=Restart.TEMPORARY),
        stage.spec("b"),
        stage.spec("u", restart=Restart.TEMPORARY),
    ]
    async with open_supervisor(specs, strategy=ALL, on_event=stage.on_event) as supervisor:
        stage.forget()
        await stage.tell("u", ValueError())
        assert stage.trace == ["u end"]
        await stage.tell("a", ValueError())
        assert stage.trace == ["a end", "b end", "t end", "a start", "a up", "b start", "b up"]
        assert [child.id for child in supervisor.children()] == ["a", "b"]


async def test_members_that_were_down_are_started_too(autojump_clock, stage):
    specs = [stage.spec("a"), stage.spec("b", restart=Restart.TRANSIENT), stage.spec("c")]
    async with open_supervisor(specs, strategy=ALL, on_event=stage.on_event) as supervisor:
        await supervisor.stop_child("c")
        await stage.tell("b", "return")
        assert [child.state for child in supervisor.children()] == [State.UP, State.DOWN, State.DOWN]
        await stage.tell("a", ValueError())
        assert [child.state for child in supervisor.children()] == [State.UP] * 3


async def test_one_for_all_retries_with_the_whole_group(autojump_clock, stage):
    specs = [stage.spec("a"), stage.spec("b"), stage.spec("c", None, ValueError(), None)]
    async with open_supervisor(specs, strategy=ALL, limit=Limit(2, 5), on_event=stage.on_event):
        stage.forget()
        await stage.tell("a", ValueError())
        assert stage.trace == [
            "a end", "c end", "b end", "a start", "a up", "b start", "b up", "c start", "c end",
            "b end", "a end", "a start", "a up", "b start", "b up", "c start", "c up",
        ]  # fmt: skip


async def test_rest_for_one_retries_from_the_failed_child_on(autojump_clock, stage):
    specs = [stage.spec("a"), stage.spec("b"), stage.spec("c", None, ValueError(), ValueError(), None), stage.spec("d")]
    async with open_supervisor(specs, strategy=REST, limit=Limit(3, 5), on_event=stage.on_event):
        stage.forget()
        await stage.tell("a", ValueError())
        assert stage.trace == [
            "a end", "d end", "c end", "b end", "a start", "a up", "b start", "b up", "c start", "c end",
            "c start", "c end", "c start", "c up", "d start", "d up",
        ]  # fmt: skip


@pytest.mark.parametrize("strategy", [ALL, REST])
async def test_one_group_restart_is_one_count(autojump_clock, stage, strategy):
    specs = [stage.spec(name) for name in "abcd"]
    with pytest.raises(RestartLimit) as caught:
        async with open_supervisor(specs, strategy=strategy, limit=Limit(2, 5), on_event=stage.on_event):
            for _ in range(3):
                await stage.tell("a", ValueError())
            await trio.sleep_forever()
    assert len(caught.value.exceptions) == 3


async def test_a_member_that_falls_while_the_group_stops_is_not_counted(autojump_clock, stage):
    specs = [stage.spec("a"), stage.spec("b"), stage.spec("c", cleanup=2)]
    async with open_supervisor(specs, strategy=ALL, limit=Limit(1, 50), on_event=stage.on_event) as supervisor:
        stage.order("a", ValueError())
        await trio.sleep(1)
        await stage.tell("b", ValueError())
        await trio.sleep(10)
        assert [child.incarnation for child in supervisor.children()] == [2, 2, 2]


async def test_a_member_that_falls_again_while_the_group_starts_is_handled_afterwards(autojump_clock, stage):
    specs = [stage.spec("a"), stage.spec("b", None, 3, None)]
    async with open_supervisor(specs, strategy=ALL, limit=Limit(2, 50), on_event=stage.on_event) as supervisor:
        stage.order("b", ValueError())
        await trio.sleep(1)
        await stage.tell("a", ValueError())
        assert supervisor.child("b").state is State.STARTING
        await trio.sleep(10)
        assert [child.incarnation for child in supervisor.children()] == [3, 3]
        assert supervisor.child("a").restarts == 2


async def test_with_backoff_the_group_stops_at_once_and_starts_after_the_delay(autojump_clock, stage):
    specs = [stage.spec("a", backoff=Backoff(first=10, jitter=0)), stage.spec("b")]
    async with open_supervisor(specs, strategy=REST, on_event=stage.on_event) as supervisor:
        await stage.tell("a", ValueError())
        assert stage.times("end") == [(0, "a"), (0, "b")]
        assert [child.state for child in supervisor.children()] == [State.RESTARTING] * 2
        with pytest.raises(ChildRestarting):
            await supervisor.restart_child("b")
        assert await supervisor.child("b").wait_up() == 2
        assert stage.times("start")[-2:] == [(10, "a"), (10, "b")]


async def test_stopping_the_failed_child_cancels_the_retries_of_its_group(autojump_clock, stage):
    specs = [stage.spec("a", backoff=Backoff(first=10, jitter=0)), stage.spec("b")]
    async with open_supervisor(specs, strategy=REST, on_event=stage.on_event) as supervisor:
        await stage.tell("a", ValueError())
        await supervisor.stop_child("a")
        assert [child.state for child in supervisor.children()] == [State.DOWN] * 2
        await trio.sleep(100)
        assert stage.starts == {"a": 1, "b": 1}


async def test_a_follower_stopped_on_request_stays_down(autojump_clock, stage):
    specs = [stage.spec("a", backoff=Backoff(first=10, jitter=0)), stage.spec("b"), stage.spec("c")]
    async with open_supervisor(specs, strategy=REST, on_event=stage.on_event) as supervisor:
        await stage.tell("a", ValueError())
        await supervisor.stop_child("b")
        await supervisor.child("c").wait_up()
        assert [child.state for child in supervisor.children()] == [State.UP, State.DOWN, State.UP]


@pytest.mark.parametrize("strategy", [ALL, REST])
async def test_a_stop_of_the_supervisor_cuts_into_a_group_restart(autojump_clock, stage, strategy):
    specs = [stage.spec("a"), stage.spec("b", None, 100), stage.spec("c")]
    async with open_supervisor(specs, strategy=strategy, on_event=stage.on_event):
        stage.forget()
        stage.order("a", ValueError())
        await trio.sleep(1)
        assert stage.trace == ["a end", "c end", "b end", "a start", "a up", "b start"]
    assert trio.current_time() == 1
    assert stage.trace == ["b end", "a end"]


async def test_a_child_started_later_joins_the_group_at_the_end(autojump_clock, stage):
    async with open_supervisor([stage.spec("a")], strategy=ALL, on_event=stage.on_event) as supervisor:
        await supervisor.start_child(stage.spec("b"))
        stage.forget()
        await stage.tell("b", ValueError())
        assert stage.trace == ["b end", "a end", "a start", "a up", "b start", "b up"]


async def test_a_start_queued_during_a_group_restart_comes_after_it(autojump_clock, stage):
    specs = [stage.spec("a"), stage.spec("b", None, 5)]
    async with open_supervisor(specs, strategy=ALL, on_event=stage.on_event) as supervisor:
        stage.order("a", ValueError())
        await wait_all_tasks_blocked()
        await supervisor.start_child(stage.spec("c"))
        assert trio.current_time() == 5
        assert [child.incarnation for child in supervisor.children()] == [2, 2, 1]
