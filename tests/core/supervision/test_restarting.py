"""What follows a child's own end: restart, window, retries, back-off."""

# ruff: noqa: PT012 - it is the whole block that ends with the error

import random

import pytest
import trio
from trio.testing import wait_all_tasks_blocked

from colony_core.supervision import (
    AlreadyPresent,
    Backoff,
    ChildRestarting,
    ChildTerminated,
    ExitKind,
    Ignore,
    Limit,
    NotRunning,
    PlannedStop,
    Restart,
    RestartLimit,
    StartFailed,
    State,
    open_supervisor,
)  # fmt: skip

PATIENT = Limit(1000, 1)


async def test_a_child_that_fails_is_started_again_in_its_place(autojump_clock, stage):
    async with open_supervisor([stage.spec(name) for name in "abc"], on_event=stage.on_event) as supervisor:
        stage.forget()
        await stage.tell("b", ValueError("x"))
        assert stage.trace == ["b end", "b start", "b up"]
        assert stage.told == [("ChildTerminated", ("b",)), ("ChildStarted", ("b",))]
        child = supervisor.children()[1]
        assert (child.id, child.incarnation, child.restarts, child.state, child.value) == ("b", 2, 1, State.UP, 2)
        assert (child.last_exit.kind, str(child.last_exit.error), child.last_exit.incarnation) == (
            ExitKind.FAILED,
            "x",
            1,
        )


@pytest.mark.parametrize(
    ("restart", "end", "state", "told"),
    [
        (Restart.PERMANENT, "return", State.UP, ["ChildTerminated", "ChildStarted"]),
        (Restart.PERMANENT, PlannedStop(), State.UP, ["ChildTerminated", "ChildStarted"]),
        (Restart.PERMANENT, ValueError(), State.UP, ["ChildTerminated", "ChildStarted"]),
        (Restart.TRANSIENT, "return", State.DOWN, []),
        (Restart.TRANSIENT, PlannedStop(), State.DOWN, []),
        (Restart.TRANSIENT, ExceptionGroup("", [PlannedStop()]), State.DOWN, []),
        (Restart.TRANSIENT, ValueError(), State.UP, ["ChildTerminated", "ChildStarted"]),
        (
            Restart.TRANSIENT,
            ExceptionGroup("", [PlannedStop(), ValueError()]),
            State.UP,
            ["ChildTerminated", "ChildStarted"],
        ),
        (Restart.TEMPORARY, "return", None, []),
        (Restart.TEMPORARY, PlannedStop(), None, []),
        (Restart.TEMPORARY, ValueError(), None, ["ChildTerminated"]),
    ],
)
async def test_who_comes_back_after_what(autojump_clock, stage, restart, end, state, told):
    async with open_supervisor([stage.spec("a", restart=restart)], on_event=stage.on_event) as supervisor:
        handle = supervisor.child("a")
        stage.events.clear()
        await stage.tell("a", end)
        assert [name for name, _ in stage.told] == told
        assert [child.state for child in supervisor.children()] == ([] if state is None else [state])
        assert handle.state is (state or State.DOWN)


async def test_the_limit_stops_the_others_in_reverse_and_raises_every_error_of_the_window(autojump_clock, stage):
    specs = [stage.spec(name) for name in "abc"]
    with pytest.raises(RestartLimit) as caught:
        async with open_supervisor(specs, limit=Limit(2, 5), on_event=stage.on_event, name="root"):
            for word in ("one", "two", "three"):
                stage.forget()
                await stage.tell("b", ValueError(word))
            await trio.sleep_forever()
    assert [str(error) for error in caught.value.exceptions] == ["one", "two", "three"]
    assert "root: more than 2 restarts in 5 s" in str(caught.value)
    assert stage.trace == ["b end", "c end", "a end"]
    assert stage.told == [("ChildTerminated", ("root", "b")), ("LimitReached", ("root",))]


async def test_the_window_slides(autojump_clock, stage):
    async with open_supervisor([stage.spec("a")], limit=Limit(1, 5), on_event=stage.on_event) as supervisor:
        for _ in range(4):
            await stage.tell("a", ValueError())
            await trio.sleep(5.5)
        assert supervisor.child("a").restarts == 4


async def test_an_end_without_error_counts_as_one(autojump_clock, stage):
    with pytest.raises(RestartLimit) as caught:
        async with open_supervisor([stage.spec("a")], limit=Limit(0, 5), on_event=stage.on_event):
            await stage.tell("a", "return")
            await trio.sleep_forever()
    assert str(caught.value.exceptions[0]) == "child 'a' ended: normal"


async def test_each_failed_restart_is_one_more_count(autojump_clock, stage):
    error = ValueError("no")
    with pytest.raises(RestartLimit) as caught:
        async with open_supervisor([stage.spec("a", None, error)], limit=Limit(3, 5), on_event=stage.on_event):
            await stage.tell("a", KeyError("first"))
            await trio.sleep_forever()
    assert [type(each) for each in caught.value.exceptions] == [KeyError, ValueError, ValueError, ValueError]
    assert stage.starts["a"] == 4
    assert [name for name, _ in stage.told] == ["ChildStarted", "ChildTerminated"] + ["StartFailed"] * 3 + [
        "LimitReached"
    ]


async def test_requests_get_in_between_retries(autojump_clock, stage):
    failing = stage.spec("a", None, *[ValueError()] * 10, None)
    async with open_supervisor([failing], limit=PATIENT, on_event=stage.on_event) as supervisor:
        stage.order("a", ValueError())
        while stage.starts["a"] < 4:
            await trio.lowlevel.checkpoint()
        await supervisor.start_child(stage.spec("b"))
        assert 4 <= stage.starts["a"] < 11
        await supervisor.child("a").wait_up()
        assert stage.starts["a"] == 12


async def test_a_stop_ends_the_retries_at_once(autojump_clock, stage):
    async with open_supervisor(
        [stage.spec("a", None, ValueError())], limit=Limit(10**6, 1), on_event=stage.on_event
    ) as supervisor:
        stage.order("a", ValueError("x"))
        child = supervisor.child("a")
        while stage.starts["a"] < 5:
            await trio.lowlevel.checkpoint()
        await supervisor.stop_child("a")
        starts = stage.starts["a"]
        await trio.sleep(1)
        assert stage.starts["a"] == starts
        assert child.state is State.DOWN


async def test_ignore_on_restart_leaves_a_permanent_child_down(autojump_clock, stage):
    async with open_supervisor([stage.spec("a", None, Ignore())], on_event=stage.on_event) as supervisor:
        await stage.tell("a", ValueError())
        assert supervisor.child("a").state is State.DOWN
        assert stage.starts["a"] == 2


async def test_backoff_delays_restarts_in_a_row_and_forgets_after_a_good_while(autojump_clock, stage):
    backoff = Backoff(first=1, factor=2, most=3, jitter=0, reset=60)
    async with open_supervisor(
        [stage.spec("a", backoff=backoff)], limit=PATIENT, on_event=stage.on_event
    ) as supervisor:
        for _ in range(4):
            await stage.tell("a", ValueError())
            assert supervisor.child("a").state is State.RESTARTING
            await supervisor.child("a").wait_up()
        assert stage.times("start") == [(0, "a"), (1, "a"), (3, "a"), (6, "a"), (9, "a")]
        await trio.sleep(60)
        await stage.tell("a", ValueError())
        await supervisor.child("a").wait_up()
        assert stage.times("start")[-1] == (70, "a")


async def test_failed_restarts_lengthen_the_row(autojump_clock, stage):
    backoff = Backoff(first=1, factor=2, most=100, jitter=0)
    spec = stage.spec("a", None, ValueError(), ValueError(), None, backoff=backoff)
    async with open_supervisor([spec], limit=PATIENT, on_event=stage.on_event) as supervisor:
        await stage.tell("a", ValueError())
        await supervisor.child("a").wait_up()
        assert stage.times("start") == [(0, "a"), (1, "a"), (3, "a"), (7, "a")]


async def test_jitter_comes_from_the_given_generator(autojump_clock, stage):
    backoff = Backoff(first=10, factor=1, jitter=0.5)
    expected = 10 * (1 + random.Random(7).uniform(-0.5, 0.5))
    async with open_supervisor(
        [stage.spec("a", backoff=backoff)], rng=random.Random(7), on_event=stage.on_event
    ) as supervisor:
        await stage.tell("a", ValueError())
        await supervisor.child("a").wait_up()
        assert trio.current_time() == pytest.approx(expected)


async def test_while_a_child_waits_the_supervisor_answers_and_stops_at_once(autojump_clock, stage):
    backoff = Backoff(first=100, jitter=0, most=100)
    async with open_supervisor(
        [stage.spec("a", backoff=backoff), stage.spec("b")], on_event=stage.on_event
    ) as supervisor:
        await stage.tell("a", ValueError("x"))
        await supervisor.start_child(stage.spec("c"))
        with pytest.raises(ChildRestarting):
            await supervisor.restart_child("a")
        with pytest.raises(ChildRestarting):
            await supervisor.delete_child("a")
        with pytest.raises(AlreadyPresent):
            await supervisor.start_child(stage.spec("a"))
    assert trio.current_time() == 0


async def test_a_stop_during_the_delay_takes_effect_at_once_and_answers_the_last_end(autojump_clock, stage):
    backoff = Backoff(first=100, jitter=0, most=100)
    async with open_supervisor([stage.spec("a", backoff=backoff)], on_event=stage.on_event) as supervisor:
        await stage.tell("a", ValueError("x"))
        end = await supervisor.stop_child("a")
        assert (trio.current_time(), str(end.error)) == (0, "x")
        await trio.sleep(1000)
        assert stage.starts["a"] == 1
        with pytest.raises(NotRunning):
            await supervisor.child("a").wait_up()
        await supervisor.restart_child("a")
        assert supervisor.child("a").state is State.UP


async def test_errors_in_one_tick_are_handled_one_by_one(autojump_clock, stage):
    async with open_supervisor(
        [stage.spec(name) for name in "abc"], limit=Limit(3, 5), on_event=stage.on_event
    ) as supervisor:
        for name in "abc":
            stage.order(name, ValueError(name))
        await wait_all_tasks_blocked()
        assert [child.restarts for child in supervisor.children()] == [1, 1, 1]
    assert sum(isinstance(event, ChildTerminated) for event in stage.events) == 3
    assert not any(isinstance(event, StartFailed) for event in stage.events)


async def test_a_manual_restart_never_counts(autojump_clock, stage):
    async with open_supervisor([stage.spec("a")], limit=Limit(0, 5), on_event=stage.on_event) as supervisor:
        for _ in range(5):
            await supervisor.stop_child("a")
            await supervisor.restart_child("a")
        assert (supervisor.child("a").incarnation, supervisor.child("a").restarts) == (6, 0)


@pytest.mark.parametrize("error", [KeyboardInterrupt(), SystemExit(3)])
async def test_an_interrupt_is_never_restarted_but_stops_all_and_goes_on(autojump_clock, stage, error):
    with pytest.raises(type(error)):
        async with open_supervisor([stage.spec(name) for name in "abc"], on_event=stage.on_event):
            stage.forget()
            await stage.tell("b", error)
            await trio.sleep_forever()
    assert stage.trace == ["b end", "c end", "a end"]
