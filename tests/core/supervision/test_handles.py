"""Handles: valid across restarts; monitors and links."""

# ruff: noqa: PT012 - it is the whole block that ends with the error

import gc
import weakref

import pytest
import trio
from trio.testing import wait_all_tasks_blocked

from colony_core.supervision import (
    ActorDied,
    Backoff,
    ChildSpec,
    ExitKind,
    Ignore,
    NotRunning,
    PlannedStop,
    Restart,
    open_supervisor,
)


async def test_a_handle_stays_the_same_across_restarts(autojump_clock, stage):
    async with open_supervisor([stage.spec("a")], on_event=stage.on_event) as supervisor:
        child = supervisor.child("a")
        assert (child.incarnation, child.value, child.since) == (1, 1, 0)
        await trio.sleep(3)
        await stage.tell("a", ValueError())
        assert supervisor.child("a") is child
        assert (child.incarnation, child.value, child.since, child.last_exit.at) == (2, 2, 3, 3)
        assert repr(child) == "<Child 'a' up, incarnation 2>"
        assert child.spec.id == "a"


async def test_waiting_for_the_recovery_does_not_race_with_it(autojump_clock, stage):
    async with open_supervisor([stage.spec("a", None, 2)], on_event=stage.on_event) as supervisor:
        child = supervisor.child("a")
        assert await child.wait_up() == 1
        stage.order("a", ValueError())
        await child.wait_exit()
        assert await child.wait_up() == 2
        assert trio.current_time() == 2


async def test_waiting_gets_the_value_of_the_start_though_the_child_fell_again(autojump_clock, stage):
    got = []

    async def wait(child):
        got.append(await child.wait_up())

    spec = stage.spec("a", 1, backoff=Backoff(first=5, jitter=0))
    async with open_supervisor([spec], on_event=stage.on_event) as supervisor, trio.open_nursery() as nursery:
        child = supervisor.child("a")
        await stage.tell("a", ValueError())
        nursery.start_soon(wait, child)
        await trio.sleep(7)
        assert got == [2]


async def test_waiting_for_a_child_that_will_not_come_back_raises(autojump_clock, stage):
    specs = [stage.spec("a", backoff=Backoff(first=5)), stage.spec("t", restart=Restart.TEMPORARY)]
    async with open_supervisor(specs, on_event=stage.on_event) as supervisor:
        gone = supervisor.child("t")
        await stage.tell("t", KeyError("x"))
        with pytest.raises(NotRunning) as caught:
            await gone.wait_up()
        assert isinstance(caught.value.__cause__, KeyError)
        child = supervisor.child("a")
        await stage.tell("a", ValueError())
        with pytest.raises(NotRunning):
            async with _nursery_that_unwraps() as nursery:
                nursery.start_soon(child.wait_up)
                await wait_all_tasks_blocked()
                await supervisor.stop_child("a")


class _nursery_that_unwraps:  # noqa: N801
    async def __aenter__(self):
        self._manager = trio.open_nursery()
        return await self._manager.__aenter__()

    async def __aexit__(self, kind, error, traceback):
        try:
            return await self._manager.__aexit__(kind, error, traceback)
        except ExceptionGroup as group:
            raise group.exceptions[0] from None


async def test_those_who_wait_learn_that_the_supervisor_has_stopped(autojump_clock, stage):
    spec = stage.spec("a", backoff=Backoff(first=500, most=500))
    with pytest.raises(NotRunning):
        async with _nursery_that_unwraps() as nursery, open_supervisor([spec], on_event=stage.on_event) as supervisor:
            await stage.tell("a", ValueError())
            nursery.start_soon(supervisor.child("a").wait_up)
            await wait_all_tasks_blocked()


async def test_a_monitor_gets_the_end_of_its_incarnation(autojump_clock, stage):
    ends = []

    async def monitor(child):
        ends.append(await child.wait_exit())

    async with (
        open_supervisor([stage.spec("a")], on_event=stage.on_event) as supervisor,
        trio.open_nursery() as nursery,
    ):
        child = supervisor.child("a")
        for _ in range(3):
            nursery.start_soon(monitor, child)
        with trio.move_on_after(1):
            await child.wait_exit()
        await stage.tell("a", ValueError("1"))
        await stage.tell("a", ValueError("2"))
        assert [(end.incarnation, str(end.error)) for end in ends] == [(1, "1")] * 3
        nursery.cancel_scope.cancel()


async def test_a_monitor_of_what_never_ran_is_refused(autojump_clock, stage):
    async with open_supervisor([stage.spec("a", Ignore())], on_event=stage.on_event) as supervisor:
        end = await supervisor.child("a").wait_exit()
        assert (end.kind, end.incarnation) == (ExitKind.NORMAL, 1)


async def test_a_link_cancels_the_block_when_the_child_dies(autojump_clock, stage):
    async with open_supervisor([stage.spec("a")], on_event=stage.on_event) as supervisor:
        error = ValueError("x")
        with pytest.raises(ActorDied) as caught:
            async with supervisor.child("a").linked():
                stage.order("a", error)
                await trio.sleep_forever()
        assert caught.value.__cause__ is error
        assert await supervisor.child("a").wait_up() == 2


@pytest.mark.parametrize("end", ["return", PlannedStop()])
async def test_a_planned_end_leaves_a_linked_block_alone(autojump_clock, stage, end):
    async with open_supervisor([stage.spec("a", restart=Restart.TRANSIENT)], on_event=stage.on_event) as supervisor:
        child = supervisor.child("a")
        async with child.linked():
            await stage.tell("a", end)
            await trio.sleep(1)
        with pytest.raises(NotRunning):
            async with child.linked():
                raise AssertionError("there is nobody to link to")


async def test_a_link_is_to_one_incarnation_and_lets_errors_of_the_block_through(autojump_clock, stage):
    async with open_supervisor([stage.spec("a")], on_event=stage.on_event) as supervisor:
        with pytest.raises(KeyError):
            async with supervisor.child("a").linked():
                raise KeyError
        await stage.tell("a", ValueError())
        await trio.sleep(1)


async def test_a_crash_leaves_no_reference_cycle(autojump_clock):
    traces = []

    class Traced(Exception):
        def __init__(self):
            traces.append(weakref.ref(self))

    async def run(go, *, status):
        status.started()
        await go.wait()
        raise Traced

    go = trio.Event()
    spec = ChildSpec(id="a", run=run, args=(go,), restart=Restart.TEMPORARY)
    async with open_supervisor([spec], on_event=lambda event: None) as supervisor:
        gc.collect()
        gc.disable()
        try:
            traces.append(weakref.ref(supervisor.child("a")))
            go.set()
            await wait_all_tasks_blocked()
            assert [trace() for trace in traces] == [None, None]
        finally:
            gc.enable()
