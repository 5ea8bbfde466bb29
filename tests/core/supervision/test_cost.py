"""What must cost nothing: an idle tree takes no scheduler step, and what is over is freed without the garbage collector."""

import gc
import weakref
from contextlib import asynccontextmanager

import attrs
import pytest
import trio
from trio.testing import wait_all_tasks_blocked

from colony_core.supervision import (
    Actor,
    Ask,
    ChildSpec,
    Limit,
    TooSlow,
    actor_spec,
    dynamic_supervisor_spec,
    open_dynamic_supervisor,
    open_supervisor,
    owner_spec,
    supervisor_spec,
)  # fmt: skip


class Thing:
    """Something that can be watched dying."""


@attrs.frozen
class Take(Ask[Thing]):
    thing: Thing


@attrs.frozen
class Keep(Ask[None]):
    thing: Thing


class Taker(Actor):
    async def on_take(self, _take):
        return Thing()

    async def on_keep(self, _keep):
        await trio.sleep(10)


async def sleeper(*, status):
    status.started(Thing())
    await trio.sleep_forever()


class Steps(trio.abc.Instrument):
    def __init__(self):
        self.names = []

    def before_task_step(self, task):
        self.names.append(task.name)


@asynccontextmanager
async def counted():
    """The names of the tasks that took a step in the block, without the one that counts."""
    steps, own = Steps(), trio.lowlevel.current_task().name
    await wait_all_tasks_blocked()
    trio.lowlevel.add_instrument(steps)
    yield steps.names
    trio.lowlevel.remove_instrument(steps)
    steps.names[:] = [name for name in steps.names if name != own]


@pytest.fixture
def no_collector():
    """The garbage collector does nothing."""
    gc.collect()
    gc.disable()
    yield
    gc.enable()


async def test_an_idle_tree_takes_no_step_in_an_hour(autojump_clock):
    async def crash_once(*, status):
        crashes.append(status)
        status.started()
        if len(crashes) == 1:
            raise ValueError("once")
        await trio.sleep_forever()

    crashes = []
    specs = [
        ChildSpec(id="crasher", run=crash_once),
        actor_spec("taker", Taker),
        owner_spec("owner"),
        supervisor_spec("inner", [ChildSpec(id="sleeper", run=sleeper), dynamic_supervisor_spec("many", ChildSpec(id="m", run=sleeper))]),
    ]  # fmt: skip
    async with open_supervisor(specs, on_event=lambda _: None) as supervisor:
        await supervisor.child("inner").value.child("many").value.spawn_many([()] * 20)
        async with counted() as steps:
            await trio.sleep(3600)
        assert steps == []
        assert len(crashes) == 2


async def test_a_thousand_answered_calls_cost_one_step_when_their_time_would_have_been_over(autojump_clock):
    async with open_supervisor([actor_spec("taker", Taker)]) as supervisor:
        ref = supervisor.child("taker").value
        for _ in range(1000):
            await ref.call(Take(Thing()))
        async with counted() as steps:
            await trio.sleep(3600)
        assert len(steps) == 1


async def test_a_call_leaves_neither_message_nor_reply_behind(autojump_clock, no_collector):
    async with open_supervisor([actor_spec("taker", Taker)]) as supervisor:
        ref = supervisor.child("taker").value
        thing = Thing()
        reply = await ref.call(Take(thing))
        traces = [weakref.ref(thing), weakref.ref(reply)]
        del thing, reply
        await wait_all_tasks_blocked()
        assert [trace() for trace in traces] == [None, None]


async def test_nor_does_one_that_was_too_slow_or_cancelled(autojump_clock, no_collector):
    async with open_supervisor([actor_spec("taker", Taker)]) as supervisor:
        ref = supervisor.child("taker").value
        things = [Thing(), Thing()]
        traces = [weakref.ref(thing) for thing in things]
        with pytest.raises(TooSlow):
            await ref.call(Keep(things.pop()), timeout=1)
        with trio.move_on_after(1):
            await ref.call(Keep(things.pop()))
        await trio.sleep(30)
        assert [trace() for trace in traces] == [None, None]


async def test_a_child_that_was_started_and_stopped_is_gone(autojump_clock, no_collector):
    async with open_dynamic_supervisor(sleeper, on_event=lambda _: None) as supervisor:
        children = [await supervisor.spawn(), *await supervisor.spawn_many([(), ()])]
        traces = [weakref.ref(thing) for child in children for thing in (child, child.value, child.status)]
        for child in children:
            await supervisor.stop_child(child)
        del child, children
        await trio.sleep(6)  # until then, what is left of a status may stand in the queue of graces
        assert [trace() for trace in traces if trace() is not None] == []


async def test_a_failed_start_is_gone_with_its_error(autojump_clock, no_collector):
    traces = []

    async def fail(*, status):
        thing = Thing()
        traces.append(weakref.ref(thing))
        raise ValueError("no")

    async with open_supervisor([], limit=Limit(0, 1.0), on_event=lambda _: None) as supervisor:
        try:
            await supervisor.start_child(ChildSpec(id="a", run=fail))
        except Exception as error:
            traces.append(weakref.ref(error))
        await wait_all_tasks_blocked()
        assert [trace() for trace in traces] == [None, None]
