"""The table of requests: start, stop, restart, delete, for a child that runs, restarts, is down or unknown."""

import pytest
import trio
from trio.testing import wait_all_tasks_blocked

from colony_core.supervision import (
    AlreadyPresent,
    AlreadyStarted,
    Backoff,
    ChildRestarting,
    ChildRunning,
    ChildSpec,
    ChildStartError,
    ExitKind,
    Ignore,
    NoSuchChild,
    Restart,
    State,
    open_supervisor,
)  # fmt: skip


async def test_requests_for_a_child_that_runs(autojump_clock, stage):
    async with open_supervisor([stage.spec("a")], on_event=stage.on_event) as supervisor:
        with pytest.raises(AlreadyStarted) as caught:
            await supervisor.start_child(stage.spec("a"))
        assert caught.value.child is supervisor.child("a")
        with pytest.raises(ChildRunning):
            await supervisor.restart_child("a")
        with pytest.raises(ChildRunning):
            await supervisor.delete_child("a")
        assert (await supervisor.stop_child("a")).kind is ExitKind.SHUTDOWN
        assert supervisor.child("a").state is State.DOWN


async def test_requests_for_a_child_that_restarts(autojump_clock, stage):
    async with open_supervisor([stage.spec("a", backoff=Backoff(first=9))], on_event=stage.on_event) as supervisor:
        await stage.tell("a", ValueError())
        with pytest.raises(AlreadyPresent):
            await supervisor.start_child(stage.spec("a"))
        with pytest.raises(ChildRestarting):
            await supervisor.restart_child("a")
        with pytest.raises(ChildRestarting):
            await supervisor.delete_child("a")
        assert (await supervisor.stop_child("a")).kind is ExitKind.FAILED


async def test_requests_for_a_child_that_is_down(autojump_clock, stage):
    async with open_supervisor([stage.spec(name) for name in "abc"], on_event=stage.on_event) as supervisor:
        first = await supervisor.stop_child("b")
        with pytest.raises(AlreadyPresent):
            await supervisor.start_child(stage.spec("b"))
        assert await supervisor.stop_child("b") is first
        child = await supervisor.restart_child("b")
        assert [each.id for each in supervisor.children()] == ["a", "b", "c"]
        assert (child.state, child.incarnation) == (State.UP, 2)
        await supervisor.stop_child("b")
        await supervisor.delete_child("b")
        assert [each.id for each in supervisor.children()] == ["a", "c"]


async def test_requests_for_a_child_that_nobody_knows(autojump_clock, stage):
    async with open_supervisor(on_event=stage.on_event) as supervisor:
        for request in (supervisor.stop_child, supervisor.restart_child, supervisor.delete_child):
            with pytest.raises(NoSuchChild):
                await request("a")
        assert (await supervisor.start_child(stage.spec("a"))).state is State.UP


async def test_a_failed_start_on_request_keeps_no_spec_and_does_not_count(autojump_clock, stage):
    async with open_supervisor(on_event=stage.on_event) as supervisor:
        for _ in range(10):
            with pytest.raises(ChildStartError) as caught:
                await supervisor.start_child(stage.spec("a", ValueError("no")))
            assert isinstance(caught.value.__cause__, ValueError)
        assert supervisor.children() == ()
    assert [name for name, _ in stage.told] == ["StartFailed"] * 10


async def test_ignore_on_request_keeps_the_spec_unless_temporary(autojump_clock, stage):
    async with open_supervisor(on_event=stage.on_event) as supervisor:
        child = await supervisor.start_child(stage.spec("a", Ignore(), None))
        gone = await supervisor.start_child(stage.spec("b", Ignore(), restart=Restart.TEMPORARY))
        assert (child.state, gone.state, supervisor.children()) == (State.DOWN, State.DOWN, (child,))
        await supervisor.restart_child("a")
        assert child.state is State.UP


async def test_a_failed_restart_by_hand_leaves_it_down_without_retry(autojump_clock, stage):
    async with open_supervisor([stage.spec("a", None, ValueError())], on_event=stage.on_event) as supervisor:
        await supervisor.stop_child("a")
        with pytest.raises(ChildStartError):
            await supervisor.restart_child("a")
        await wait_all_tasks_blocked()
        assert (supervisor.child("a").state, stage.starts["a"]) == (State.DOWN, 2)


async def test_a_temporary_child_that_is_stopped_is_forgotten(autojump_clock, stage):
    async with open_supervisor([stage.spec("a", restart=Restart.TEMPORARY)], on_event=stage.on_event) as supervisor:
        child = supervisor.child("a")
        end = await supervisor.stop_child("a")
        assert supervisor.children() == ()
        assert (child.state, child.last_exit) == (State.DOWN, end)
        assert await child.wait_exit() is end


async def test_a_cancelled_start_is_undone_before_cancelled_goes_on(autojump_clock, stage):
    async with open_supervisor(on_event=stage.on_event) as supervisor:
        with trio.move_on_after(1) as scope:
            await supervisor.start_child(stage.spec("a", 100, cleanup=2))
        assert scope.cancelled_caught
        assert (trio.current_time(), supervisor.children()) == (3, ())
        await supervisor.start_child(stage.spec("a"))


async def test_a_cancelled_restart_by_hand_keeps_the_spec(autojump_clock, stage):
    async with open_supervisor([stage.spec("a", None, 100)], on_event=stage.on_event) as supervisor:
        await supervisor.stop_child("a")
        with trio.move_on_after(1):
            await supervisor.restart_child("a")
        assert supervisor.child("a").state is State.DOWN


async def test_starts_take_turns_in_the_order_of_the_requests(autojump_clock, stage):
    async with open_supervisor(on_event=stage.on_event) as supervisor, trio.open_nursery() as nursery:
        for name, seconds in (("a", 3), ("b", 1), ("c", 2)):
            nursery.start_soon(supervisor.start_child, stage.spec(name, seconds))
            await wait_all_tasks_blocked()
        await trio.sleep(10)
        assert stage.times("up") == [(3, "a"), (4, "b"), (6, "c")]
        assert [child.id for child in supervisor.children()] == ["a", "b", "c"]


async def test_a_start_that_is_cancelled_while_it_queues_never_happens(autojump_clock, stage):
    async with open_supervisor(on_event=stage.on_event) as supervisor, trio.open_nursery() as nursery:
        nursery.start_soon(supervisor.start_child, stage.spec("a", 5))
        await wait_all_tasks_blocked()
        with trio.move_on_after(1) as scope:
            await supervisor.start_child(stage.spec("b"))
        assert scope.cancelled_caught
        await trio.sleep(10)
        assert [child.id for child in supervisor.children()] == ["a"]
        assert "b" not in stage.starts


async def test_a_second_start_with_the_same_id_waits_for_the_first(autojump_clock, stage):
    async with open_supervisor(on_event=stage.on_event) as supervisor, trio.open_nursery() as nursery:
        nursery.start_soon(supervisor.start_child, stage.spec("a", 5))
        await wait_all_tasks_blocked()
        with pytest.raises(AlreadyStarted):
            await supervisor.start_child(stage.spec("a"))
        assert trio.current_time() == 5


async def test_a_stop_of_a_child_that_starts_gets_in_at_once(autojump_clock, stage):
    failures = []

    async def add(supervisor):
        try:
            await supervisor.start_child(stage.spec("a", 100))
        except ChildStartError as error:
            failures.append(str(error))

    async with open_supervisor(on_event=stage.on_event) as supervisor, trio.open_nursery() as nursery:
        nursery.start_soon(add, supervisor)
        await trio.sleep(1)
        end = await supervisor.stop_child("a")
        assert (end.kind, end.at) == (ExitKind.SHUTDOWN, 1)
        assert supervisor.child("a").state is State.DOWN
        await wait_all_tasks_blocked()
    assert failures == ["child 'a' was stopped while it started"]


async def test_a_stop_gets_in_while_another_child_starts(autojump_clock, stage):
    async with (
        open_supervisor([stage.spec("a", cleanup=1)], on_event=stage.on_event) as supervisor,
        trio.open_nursery() as nursery,
    ):
        nursery.start_soon(supervisor.start_child, stage.spec("b", 100))
        await wait_all_tasks_blocked()
        await supervisor.stop_child("a")
        assert trio.current_time() == 1


async def test_a_cancelled_stop_goes_on(autojump_clock, stage):
    async with open_supervisor([stage.spec("a", cleanup=3)], on_event=stage.on_event) as supervisor:
        with trio.move_on_after(1):
            await supervisor.stop_child("a")
        assert supervisor.child("a").state is State.STOPPING
        assert (await supervisor.stop_child("a")).at == 3


async def test_start_after_a_stop_that_is_under_way_waits_for_it(autojump_clock, stage):
    spec = stage.spec("a", cleanup=3, restart=Restart.TEMPORARY)
    async with open_supervisor([spec], on_event=stage.on_event) as supervisor, trio.open_nursery() as nursery:
        nursery.start_soon(supervisor.stop_child, "a")
        await wait_all_tasks_blocked()
        child = await supervisor.start_child(spec)
        assert (trio.current_time(), child.incarnation) == (3, 1)


async def test_a_child_may_stop_itself_through_its_supervisor(autojump_clock, stage):
    async def run(*, status):
        status.started()
        await box[0].stop_child("me")

    box = []
    async with open_supervisor(on_event=stage.on_event) as supervisor:
        box.append(supervisor)
        child = await supervisor.start_child(ChildSpec(id="me", run=run))
        assert (await child.wait_exit()).kind is ExitKind.SHUTDOWN
        assert child.state is State.DOWN
