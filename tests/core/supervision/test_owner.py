"""Owners do the slow work, so that their actor stays responsive."""

from math import inf

import attrs
import pytest
import trio
from trio.testing import wait_all_tasks_blocked

from colony_core.supervision import (
    Actor,
    ActorDied,
    Ask,
    Done,
    NotRunning,
    Strategy,
    actor_spec,
    open_supervisor,
    owner_spec,
)  # fmt: skip


@attrs.frozen
class Order:
    key: str
    seconds: float


class Ping(Ask[str]):
    pass


async def work(seconds, result):
    await trio.sleep(seconds)
    if isinstance(result, Exception):
        raise result
    return result


class Boss(Actor):
    def __init__(self, box):
        self.box = box

    async def on_order(self, msg):
        self.box["owner"].order(self.ref, msg.key, work, msg.seconds, msg.key.upper())

    async def on_ping(self, msg):
        return "pong"

    async def on_done(self, msg):
        self.box["done"].append((trio.current_time(), msg.key, msg.value or msg.error))


@pytest.fixture
async def box():
    return {"done": []}


async def test_the_actor_answers_while_its_owner_works(autojump_clock, box):
    specs = [owner_spec("owner"), actor_spec("boss", lambda: Boss(box))]
    async with open_supervisor(specs, strategy=Strategy.REST_FOR_ONE, on_event=lambda event: None) as supervisor:
        box["owner"], boss = (child.value for child in supervisor.children())
        for key in ("a", "b"):
            boss.cast(Order(key, 10))
        assert await boss.call(Ping()) == "pong"
        assert trio.current_time() == 0
        assert box["owner"].pending == 2
        await trio.sleep(30)
    assert box["done"] == [(10, "a", "A"), (20, "b", "B")]


async def test_jobs_run_at_once_up_to_the_number_given(autojump_clock):
    ends = []

    async def job(name):
        await trio.sleep(10)
        ends.append((trio.current_time(), name))

    for at_once, expected in ((2, [10, 10, 20]), (inf, [10, 10, 10])):
        ends.clear()
        start = trio.current_time()
        async with open_supervisor([owner_spec("owner", at_once=at_once)], on_event=lambda event: None) as supervisor:
            owner = supervisor.child("owner").value
            async with trio.open_nursery() as nursery:
                for name in "abc":
                    nursery.start_soon(owner.do, job, name)
        assert [at - start for at, _ in ends] == expected


async def test_an_error_is_told_to_whoever_ordered_and_the_owner_lives_on(autojump_clock, box):
    specs = [owner_spec("owner"), actor_spec("boss", lambda: Boss(box))]
    async with open_supervisor(specs, on_event=lambda event: None) as supervisor:
        owner, boss = (child.value for child in supervisor.children())
        with pytest.raises(KeyError, match="x"):
            await owner.do(work, 1, KeyError("x"))
        error = KeyError("y")
        owner.order(boss, "k", work, 1, error)
        await trio.sleep(5)
        assert box["done"] == [(2, "k", error)]
        assert await owner.do(work, 1, "fine") == "fine"
        assert supervisor.child("owner").incarnation == 1


async def test_a_cancelled_order_is_not_begun_or_cancelled(autojump_clock):
    begun = []

    async def job(name):
        begun.append(name)
        await trio.sleep(100)

    async with open_supervisor([owner_spec("owner")], on_event=lambda event: None) as supervisor:
        owner = supervisor.child("owner").value
        async with trio.open_nursery() as nursery:
            nursery.start_soon(owner.do, job, "a")
            await wait_all_tasks_blocked()
            nursery.start_soon(owner.do, job, "b")
            await wait_all_tasks_blocked()
            nursery.cancel_scope.cancel()
        await wait_all_tasks_blocked()
        assert (begun, owner.pending) == (["a"], 0)


async def test_orders_lost_with_the_owner_are_told_and_the_handle_survives(autojump_clock, box):
    specs = [actor_spec("boss", lambda: Boss(box)), owner_spec("owner")]
    async with open_supervisor(specs, on_event=lambda event: None) as supervisor:
        boss, owner = (child.value for child in supervisor.children())
        for key in ("running", "waiting"):
            owner.order(boss, key, work, 100, "never")
        await wait_all_tasks_blocked()
        await supervisor.stop_child("owner")
        await wait_all_tasks_blocked()
        assert [(key, type(error)) for _, key, error in box["done"]] == [("running", ActorDied), ("waiting", ActorDied)]
        with pytest.raises(NotRunning):
            owner.order(boss, "late", work, 1, "x")
        with pytest.raises(NotRunning):
            await owner.do(work, 1, "x")
        await supervisor.restart_child("owner")
        assert await owner.do(work, 1, "again") == "again"


async def test_an_order_needs_somebody_who_understands_the_outcome(autojump_clock):
    class Deaf(Actor):
        pass

    async with open_supervisor(
        [owner_spec("owner"), actor_spec("deaf", Deaf)], on_event=lambda event: None
    ) as supervisor:
        owner, deaf = (child.value for child in supervisor.children())
        with pytest.raises(TypeError, match="Deaf has no on_done"):
            owner.order(deaf, "k", work, 1, "x")


def test_a_wrong_number_of_jobs_at_once_is_refused():
    with pytest.raises(ValueError, match=r"owner_spec\.at_once must be >= 1, not 0"):
        owner_spec("o", at_once=0)
    assert Done(key=1).value is None
