"""What each public call does to scheduling is what its documentation says."""

import attrs
import pytest
import trio
from trio.testing import assert_checkpoints, assert_no_checkpoints, wait_all_tasks_blocked

import colony_core.supervision as room
from colony_core.supervision import Actor, Ask, actor_spec, open_dynamic_supervisor, open_supervisor, owner_spec

PUBLIC = [
    "Supervisor.start_child", "Supervisor.stop_child", "Supervisor.restart_child", "Supervisor.delete_child",
    "Supervisor.children", "Supervisor.child", "Supervisor.counts", "Supervisor.report", "Supervisor.stop", "Supervisor.wait",
    "DynamicSupervisor.spawn", "DynamicSupervisor.spawn_many", "DynamicSupervisor.run", "DynamicSupervisor.start_child",
    "DynamicSupervisor.child",
    "Child.wait_up", "Child.wait_exit", "Child.linked", "Status.started", "Status.stopping", "Status.cleanup",
    "Ref.call", "Ref.cast", "Ref.send", "Ref.notify", "Reply.set", "Reply.fail", "Actor.defer", "Owner.do", "Owner.order",
]  # fmt: skip
OPENERS = ["open_supervisor", "open_dynamic_supervisor"]


@attrs.frozen
class Ping(Ask[str]):
    pass


class Echo(Actor):
    async def on_ping(self, msg):
        return "pong"


@pytest.mark.parametrize("name", PUBLIC + OPENERS)
def test_the_documentation_says_whether_it_is_a_checkpoint(name):
    thing = room
    for part in name.split("."):
        thing = getattr(thing, part)
    assert "checkpoint" in thing.__doc__, name


async def test_requests_are_checkpoints(autojump_clock, stage):
    async with open_supervisor([stage.spec("a")], on_event=stage.on_event) as supervisor:
        for request in (
            lambda: supervisor.start_child(stage.spec("b")),
            lambda: supervisor.stop_child("b"),
            lambda: supervisor.stop_child("b"),
            lambda: supervisor.restart_child("b"),
            lambda: supervisor.stop_child("b"),
            lambda: supervisor.delete_child("b"),
            supervisor.child("a").wait_up,
        ):
            with assert_checkpoints():
                await request()
        supervisor.stop()
        with trio.CancelScope(shield=True), assert_checkpoints():
            await supervisor.wait()
        with trio.CancelScope(shield=True), assert_checkpoints():
            await supervisor.wait()
        with trio.CancelScope(shield=True), assert_checkpoints():
            await supervisor.child("a").wait_exit()


async def test_questions_are_not(autojump_clock, stage):
    async with open_supervisor([stage.spec("a")], on_event=stage.on_event) as supervisor:
        with assert_no_checkpoints():
            supervisor.children()
            supervisor.child("a")
            supervisor.counts()
            supervisor.report()
            async with supervisor.child("a").linked():
                pass
            supervisor.stop()


async def test_dynamic_requests_are_checkpoints(autojump_clock, stage):
    async def nothing():
        pass

    async with (
        open_dynamic_supervisor(on_event=stage.on_event) as supervisor,
        open_dynamic_supervisor(stage.spec("t"), on_event=stage.on_event) as templated,
    ):
        with assert_checkpoints():
            child = await supervisor.start_child(stage.spec("a"))
        with assert_checkpoints():
            await supervisor.run(nothing)
        for number in (0, 1):
            with assert_checkpoints():
                await templated.spawn_many([()] * number)
        with assert_checkpoints():
            await supervisor.stop_child(child)


async def test_calls_are_checkpoints_and_casts_are_not(autojump_clock):
    async def job():
        pass

    async with open_supervisor([actor_spec("echo", Echo), owner_spec("owner")]) as supervisor:
        echo, owner = (child.value for child in supervisor.children())
        for ask in (lambda: echo.call(Ping()), lambda: echo.send(Ping()), lambda: owner.do(job)):
            with assert_checkpoints():
                await ask()
        with assert_no_checkpoints():
            echo.cast(Ping())
            echo.notify(Ping())


async def test_a_cancelled_delete_forgets_nothing(autojump_clock, stage):
    async with open_supervisor([stage.spec("a")], on_event=stage.on_event) as supervisor:
        await supervisor.stop_child("a")
        with trio.CancelScope() as scope:
            scope.cancel()
            await supervisor.delete_child("a")
        assert [child.id for child in supervisor.children()] == ["a"]


async def test_cancelling_those_who_wait_does_nothing_to_the_child(autojump_clock, stage):
    async with open_supervisor([stage.spec("a")], on_event=stage.on_event) as supervisor:
        child = supervisor.child("a")
        with trio.move_on_after(1):
            await child.wait_exit()
        with trio.move_on_after(1):
            await supervisor.wait()
        await wait_all_tasks_blocked()
        assert (child.state, child.incarnation) == (room.State.UP, 1)


async def test_opening_and_closing_are_checkpoints(autojump_clock):
    for opener in OPENERS:
        opened = getattr(room, opener)()
        with assert_checkpoints():
            await opened.__aenter__()
        with assert_checkpoints():
            await opened.__aexit__(None, None, None)
