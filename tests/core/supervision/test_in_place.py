"""A child that is restarted at once lives on in the same task and scope; nothing of the dead incarnation is seen by the next."""

import gc
import weakref
from contextvars import ContextVar

import trio
from trio.lowlevel import current_task
from trio.testing import wait_all_tasks_blocked

from colony_core.supervision import (
    Backoff,
    ChildSpec,
    Limit,
    State,
    Strategy,
    open_dynamic_supervisor,
    open_supervisor,
)

MANY = Limit(1000, 1.0)
mood: ContextVar[str] = ContextVar("mood", default="none")


class Crasher:
    """Notes the task, the context and the mood of each incarnation, and crashes on demand."""

    def __init__(self):
        self.tasks, self.contexts, self.moods = [], [], []
        self.crash = trio.Event()

    async def __call__(self, *, status):
        self.tasks.append(current_task())
        self.contexts.append(current_task().context)
        self.moods.append(mood.get())
        mood.set(f"after {len(self.moods)}")
        self.crash = crash = trio.Event()
        status.started()
        await crash.wait()
        raise ValueError("crash")

    async def crashes(self, times=1):
        for _ in range(times):
            self.crash.set()
            await wait_all_tasks_blocked()


async def test_a_restart_at_once_keeps_the_task(autojump_clock):
    crasher = Crasher()
    async with open_supervisor([ChildSpec(id="c", run=crasher)], limit=MANY):
        await crasher.crashes(5)
    assert len(crasher.tasks) == 6
    assert len(set(crasher.tasks)) == 1


async def test_it_sees_none_of_the_old_context_variables(autojump_clock):
    crasher = Crasher()
    mood.set("the supervisor's")
    async with open_supervisor([ChildSpec(id="c", run=crasher)], limit=MANY):
        mood.set("later")
        await crasher.crashes(3)
    assert crasher.moods == ["the supervisor's"] * 4
    assert len({id(context) for context in crasher.contexts}) == 4


async def test_a_restart_with_a_delay_takes_a_task_of_its_own(autojump_clock):
    crasher = Crasher()
    spec = ChildSpec(id="c", run=crasher, backoff=Backoff(first=1.0, jitter=0.0))
    async with open_supervisor([spec], limit=MANY) as supervisor:
        await crasher.crashes()
        await supervisor.child("c").wait_up()
    assert len(set(crasher.tasks)) == 2
    assert crasher.moods == ["none", "none"]


async def test_so_does_one_whose_scope_was_cancelled(autojump_clock):
    tasks = []

    async def child(*, status):
        tasks.append(current_task())
        status.started()
        if len(tasks) == 1:
            status.scope.cancel()
            raise ValueError("crash")
        await trio.sleep(1)

    async with open_supervisor([ChildSpec(id="c", run=child)]) as supervisor:
        await wait_all_tasks_blocked()
        assert supervisor.child("c").state is State.UP
    assert len(set(tasks)) == 2


async def test_the_members_of_a_group_take_tasks_of_their_own(autojump_clock):
    first, second = Crasher(), Crasher()
    specs = [ChildSpec(id="first", run=first), ChildSpec(id="second", run=second)]
    async with open_supervisor(specs, strategy=Strategy.ONE_FOR_ALL, limit=MANY):
        await first.crashes()
    assert len(set(first.tasks)) == len(set(second.tasks)) == 2


async def test_a_stop_in_the_instant_of_the_restart_stops_it(autojump_clock):
    starts = []

    async def child(*, status):
        starts.append(trio.current_time())
        status.started()
        if len(starts) == 1:
            await trio.sleep(1)
            raise ValueError("crash")
        await trio.sleep(60)

    async with open_supervisor([ChildSpec(id="c", run=child)]) as supervisor:
        handle = supervisor.child("c")
        await handle.wait_exit()
        end = await supervisor.stop_child("c")
    assert (str(end), end.incarnation, starts) == ("shutdown", 2, [0, 1])


async def test_a_child_that_crashes_before_its_start_lets_others_run(autojump_clock):
    """Each incarnation costs at least one step, so even the fastest crasher cannot stop the loop."""
    starts = 0

    async def child(*, status):
        nonlocal starts
        starts += 1
        if starts == 1:
            status.started()
        raise ValueError("crash")

    async with open_dynamic_supervisor(child, limit=Limit(50, 10.0), on_event=lambda _: None) as supervisor:
        handle = await supervisor.spawn()
        for turn in range(10):
            assert starts <= turn + 5
            await trio.lowlevel.checkpoint()
        await supervisor.stop_child(handle)
    assert starts < 20


async def test_a_restart_holds_nothing_of_the_dead(autojump_clock):
    """Not even until a garbage collection: what an incarnation held dies as soon as its error leaves the window."""

    class Held:
        pass

    seen = []
    crash = trio.Event()

    async def child(*, status):
        nonlocal crash
        held = Held()
        seen.append(weakref.ref(held))
        crash = trio.Event()
        status.started()
        await crash.wait()
        raise ValueError("crash")

    gc.collect()
    gc.disable()
    try:
        async with open_supervisor([ChildSpec(id="c", run=child)], limit=Limit(10, 1.0), on_event=lambda _: None):
            for _ in range(3):
                crash.set()
                await trio.sleep(2)
            alive = [reference() is not None for reference in seen]
        assert alive == [False, False, True, True]  # the last error, kept as last_exit, and the one that runs
        assert seen[-1]() is None
    finally:
        gc.enable()
