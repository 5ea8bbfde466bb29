"""Actors: one message at a time, calls that end one way or another, mailboxes with a bound."""

import gc
import weakref
from math import inf

import attrs
import pytest
import trio
from trio.testing import wait_all_tasks_blocked

from colony_core.supervision import (
    Actor,
    ActorDied,
    Ask,
    ExitKind,
    Limit,
    MailboxFull,
    NotRunning,
    Overflow,
    PlannedStop,
    Restart,
    SelfCall,
    State,
    TooSlow,
    actor_spec,
    open_supervisor,
)  # fmt: skip


@attrs.frozen
class Add:
    n: int


@attrs.frozen
class AddTwice(Add):
    pass


class Total(Ask[int]):
    pass


@attrs.frozen
class Work(Ask[str]):
    seconds: float
    word: str = "done"


class Fail(Ask[None]):
    pass


class Later(Ask[str]):
    pass


class CallYourself(Ask[None]):
    pass


class Bye(Ask[str]):
    pass


class Stranger(Ask[int]):
    pass


class Counter(Actor):
    """Serves all tests: adds, works, fails, answers later."""

    def __init__(self, notes=None):
        self.total = 0
        self.notes = [] if notes is None else notes
        self.later = []

    async def on_add(self, msg):
        self.total += msg.n
        self.notes.append(msg.n)

    async def on_total(self, msg):
        return self.total

    async def on_work(self, msg):
        self.notes.append(msg.word)
        await trio.sleep(msg.seconds)
        return msg.word

    async def on_fail(self, msg):
        raise ValueError("broken")

    async def on_later(self, msg):
        self.later.append(self.defer())
        return "ignored"

    async def on_call_yourself(self, msg):
        await self.ref.call(Total())

    async def on_bye(self, msg):
        self.defer().set("bye")
        raise PlannedStop


async def put(supervisor, notes=None, **fields):
    made = []

    def make():
        made.append(Counter(notes))
        return made[-1]

    child = await supervisor.start_child(actor_spec("counter", make, **fields))
    return child, child.value, made


@pytest.fixture
async def supervisor():
    async with open_supervisor(on_event=lambda event: None, limit=Limit(100, 5)) as opened:
        yield opened


async def test_casts_and_calls_are_handled_in_order(autojump_clock, supervisor):
    _, ref, _ = await put(supervisor)
    for n in range(5):
        ref.cast(Add(n))
    assert await ref.call(Total()) == 10
    await ref.send(Add(5))
    assert await ref.call(Total()) == 15


async def test_a_handler_serves_the_classes_below_its_message_too(autojump_clock, supervisor):
    _, ref, _ = await put(supervisor)
    ref.cast(AddTwice(4))
    assert await ref.call(Total()) == 4


async def test_a_message_without_a_handler_is_the_senders_error(autojump_clock, supervisor):
    child, ref, _ = await put(supervisor)
    with pytest.raises(TypeError, match="Counter has no on_stranger"):
        await ref.call(Stranger())
    with pytest.raises(TypeError, match="Counter has no on_str"):
        ref.cast("word")
    with pytest.raises(TypeError):
        await ref.send(3)
    assert child.incarnation == 1


async def test_a_failing_handler_ends_the_incarnation_and_every_waiting_call(autojump_clock, supervisor):
    child, ref, _ = await put(supervisor)
    outcomes = []

    async def ask(msg):
        try:
            outcomes.append(await ref.call(msg))
        except ActorDied as error:
            outcomes.append((str(error), type(error.__cause__)))

    async with trio.open_nursery() as nursery:
        for msg in (Work(1), Later(), Fail(), Total(), Total()):
            nursery.start_soon(ask, msg)
            await wait_all_tasks_blocked()
    died = "actor 'counter' ended before it answered"
    outcomes.remove("done")
    assert sorted(outcomes) == [(f"{died} {name}", ValueError) for name in ("Fail", "Later", "Total", "Total")]
    assert await child.wait_up() is ref


async def test_a_ref_is_valid_across_restarts_and_queued_messages_are_lost(autojump_clock, supervisor):
    child, ref, made = await put(supervisor)
    ref.cast(Fail())
    ref.cast(Add(100))
    await child.wait_exit()
    await child.wait_up()
    assert child.value is ref
    assert await ref.call(Total()) == 0
    assert (len(made), child.restarts) == (2, 1)


async def test_a_call_to_nobody_raises_and_a_cast_is_silent(autojump_clock, supervisor):
    _child, ref, _ = await put(supervisor)
    await supervisor.stop_child("counter")
    with pytest.raises(NotRunning):
        await ref.call(Total())
    ref.cast(Add(1))
    await ref.send(Add(1))
    assert repr(ref) == "<Ref 'counter' down>"
    await supervisor.restart_child("counter")
    assert await ref.call(Total()) == 0


async def test_a_slow_reply_is_thrown_away_and_the_actor_lives_on(autojump_clock, supervisor):
    child, ref, _ = await put(supervisor)
    with pytest.raises(TooSlow):
        await ref.call(Work(8))
    assert trio.current_time() == 5
    assert await ref.call(Total()) == 0
    assert (trio.current_time(), child.incarnation) == (8, 1)


async def test_time_outs_of_any_length_are_exact(autojump_clock, supervisor):
    _, ref, _ = await put(supervisor)
    ends = []

    async def ask(timeout):
        with pytest.raises(TooSlow):
            await ref.call(Work(100), timeout=timeout)
        ends.append((trio.current_time(), timeout))

    async with trio.open_nursery() as nursery:
        for timeout in (3, 1, 2, 2, 0.5):
            nursery.start_soon(ask, timeout)
    assert ends == [(0.5, 0.5), (1, 1), (2, 2), (2, 2), (3, 3)]


async def test_a_deadline_outside_wins_over_the_time_out(autojump_clock, supervisor):
    _, ref, _ = await put(supervisor)
    with trio.move_on_after(1) as scope:
        await ref.call(Work(100), timeout=5)
    assert scope.cancelled_caught
    assert trio.current_time() == 1
    assert await ref.call(Work(0), timeout=inf) == "done"


async def test_a_cancelled_caller_sends_nothing(autojump_clock, supervisor):
    _, ref, _ = await put(supervisor)
    with trio.CancelScope() as scope:
        scope.cancel()
        await ref.call(Work(5))
    assert await ref.call(Total()) == 0
    assert trio.current_time() == 0


async def test_many_answered_calls_leave_nothing_behind(autojump_clock, supervisor):
    _, ref, _ = await put(supervisor)

    async def slow():
        await ref.call(Later(), timeout=9)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(slow)
        await wait_all_tasks_blocked()
        for _ in range(1000):
            await ref.call(Total(), timeout=9)
        (line,) = supervisor.deadlines._lines.values()
        waiting = sum(entry.due is not None for entry in line.entries)
        assert (waiting, len(line.entries) <= 68) == (1, True)
        nursery.cancel_scope.cancel()


async def test_a_self_call_is_an_error_and_not_a_deadlock(autojump_clock, supervisor):
    _child, ref, _ = await put(supervisor)
    with pytest.raises(ActorDied) as caught:
        await ref.call(CallYourself())
    assert isinstance(caught.value.__cause__, SelfCall)


async def test_a_deferred_reply_comes_from_wherever(autojump_clock, supervisor):
    _, ref, made = await put(supervisor)
    answers = []

    async def ask():
        try:
            answers.append(await ref.call(Later()))
        except KeyError as error:
            answers.append(error)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(ask)
        nursery.start_soon(ask)
        await wait_all_tasks_blocked()
        assert await ref.call(Total()) == 0
        made[0].later[0].set("at last")
        error = KeyError("no")
        made[0].later[1].fail(error)
        made[0].later[0].set("twice")
    assert sorted(answers, key=str) == sorted(["at last", error], key=str)


async def test_deferring_a_cast_is_an_error(autojump_clock, supervisor):
    child, ref, _ = await put(supervisor)
    ref.cast(Later())
    end = await child.wait_exit()
    assert "no call to defer" in str(end.error)


async def test_an_actor_may_answer_and_then_end(autojump_clock, supervisor):
    child, ref, _ = await put(supervisor, restart=Restart.TRANSIENT)
    assert await ref.call(Bye()) == "bye"
    end = await child.wait_exit()
    assert (end.kind, child.state) == (ExitKind.SHUTDOWN, State.DOWN)


async def test_a_stop_finishes_the_message_at_hand_and_loses_the_rest(autojump_clock, supervisor):
    notes, outcomes = [], []
    _child, ref, _ = await put(supervisor, notes)

    async def ask(msg):
        try:
            outcomes.append(await ref.call(msg))
        except ActorDied as error:
            outcomes.append(error.__cause__)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(ask, Work(2, "first"))
        await wait_all_tasks_blocked()
        nursery.start_soon(ask, Work(2, "second"))
        await wait_all_tasks_blocked()
        end = await supervisor.stop_child("counter")
    assert (end.kind, end.at, notes) == (ExitKind.NORMAL, 2, ["first"])
    assert sorted(outcomes, key=str) == [None, "first"]


async def test_a_handler_that_outlasts_the_grace_is_cut(autojump_clock, supervisor):
    _child, ref, _ = await put(supervisor, grace=3)
    ref.cast(Work(100))
    await wait_all_tasks_blocked()
    end = await supervisor.stop_child("counter")
    assert (end.kind, end.at) == (ExitKind.KILLED, 3)


# -- mailboxes with a bound


async def fill(supervisor, overflow, capacity=2):
    """An actor at work for 10 seconds, with a full mailbox."""
    notes = []
    _, ref, _ = await put(supervisor, notes, capacity=capacity, overflow=overflow)
    ref.cast(Work(10, "work"))
    await wait_all_tasks_blocked()
    for n in range(capacity):
        ref.cast(Add(n))
    return ref, notes


async def test_reject_tells_every_sender(autojump_clock, supervisor):
    ref, notes = await fill(supervisor, Overflow.REJECT)
    with pytest.raises(MailboxFull, match="actor 'counter' has 2 messages waiting"):
        ref.cast(Add(7))
    with pytest.raises(MailboxFull):
        await ref.send(Add(7))
    with pytest.raises(MailboxFull):
        await ref.call(Total())
    await trio.sleep(11)
    assert notes == ["work", 0, 1]


async def test_drop_newest_drops_silently_but_tells_callers(autojump_clock, supervisor):
    ref, notes = await fill(supervisor, Overflow.DROP_NEWEST)
    ref.cast(Add(7))
    await ref.send(Add(8))
    with pytest.raises(MailboxFull):
        await ref.call(Total())
    await trio.sleep(11)
    assert notes == ["work", 0, 1]


async def test_drop_oldest_tells_the_caller_whose_message_went(autojump_clock, supervisor):
    notes = []
    _, ref, _ = await put(supervisor, notes, capacity=1, overflow=Overflow.DROP_OLDEST)
    ref.cast(Work(3, "work"))
    await wait_all_tasks_blocked()

    async def ask():
        with pytest.raises(MailboxFull):
            await ref.call(Total())
        notes.append("told")

    async with trio.open_nursery() as nursery:
        nursery.start_soon(ask)
        await wait_all_tasks_blocked()
        ref.cast(Add(1))
        ref.cast(Add(2))
    await trio.sleep(5)
    assert notes == ["work", "told", 2]


async def test_block_makes_senders_wait_for_room_in_turn(autojump_clock, supervisor):
    ref, notes = await fill(supervisor, Overflow.BLOCK)
    sent = []

    async def send(n):
        await ref.send(Add(n))
        sent.append((trio.current_time(), n))

    async with trio.open_nursery() as nursery:
        for n in (5, 6):
            nursery.start_soon(send, n)
            await wait_all_tasks_blocked()
        with trio.move_on_after(1):
            await ref.send(Add(666))
    assert sorted(sent) == [(10, 5), (10, 6)]
    assert await ref.call(Total()) == 12
    assert notes == ["work", 0, 1, 5, 6]


async def test_under_block_a_call_waits_for_room_within_its_time_out(autojump_clock, supervisor):
    ref, _ = await fill(supervisor, Overflow.BLOCK)
    with pytest.raises(TooSlow):
        await ref.call(Total())
    assert trio.current_time() == 5
    assert await ref.call(Total(), timeout=9) == 1
    assert trio.current_time() == 10


async def test_under_block_a_cast_is_taken_beyond_the_bound(autojump_clock, supervisor):
    ref, notes = await fill(supervisor, Overflow.BLOCK)
    ref.cast(Add(9))
    await trio.sleep(11)
    assert notes == ["work", 0, 1, 9]


@pytest.mark.parametrize("overflow", list(Overflow))
async def test_a_stop_and_a_notice_get_past_any_full_mailbox(autojump_clock, supervisor, overflow):
    ref, notes = await fill(supervisor, overflow)
    ref.notify(Add(99))
    await trio.sleep(9)
    assert notes == ["work"]
    await trio.sleep(2)
    assert notes == ["work", 99, 0, 1]
    ref.cast(Work(1))
    await wait_all_tasks_blocked()
    ref.cast(Add(3))
    end = await supervisor.stop_child("counter")
    assert (end.kind, end.at) == (ExitKind.NORMAL, 12)
    assert 3 not in notes


async def test_senders_that_wait_for_room_go_on_when_the_actor_ends(autojump_clock, supervisor):
    ref, _ = await fill(supervisor, Overflow.BLOCK)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(ref.send, Add(1))
        await wait_all_tasks_blocked()
        nursery.start_soon(supervisor.stop_child, "counter")
    assert trio.current_time() == 5


@pytest.mark.parametrize(
    ("fields", "words"), [({"capacity": 0}, "capacity must be >= 1"), ({"capacity": True}, "capacity must be >= 1")]
)
async def test_a_wrong_capacity_is_refused(autojump_clock, fields, words):
    with pytest.raises(ValueError, match=words):
        actor_spec("a", Counter, **fields)


# -- the life of an actor


async def test_setup_runs_before_the_acknowledgement_and_teardown_under_a_shield(autojump_clock, supervisor):
    notes = []

    class Careful(Counter):
        async def setup(self):
            self.ref.cast(Add(1))
            await trio.sleep(2)
            notes.append(("set up", trio.current_time()))

        async def teardown(self):
            await trio.sleep(3)
            notes.append(("torn down", trio.current_time()))

    child = await supervisor.start_child(actor_spec("careful", Careful))
    assert await child.value.call(Total()) == 1
    child.value.cast(Work(100))
    await wait_all_tasks_blocked()
    await supervisor.stop_child("careful")
    assert notes == [("set up", 2)]
    await supervisor.restart_child("careful")
    await supervisor.stop_child("careful")
    assert notes == [("set up", 2), ("set up", 9), ("torn down", 12)]


async def test_sixty_four_messages_and_then_others_get_a_turn(autojump_clock, supervisor):
    class Steps(trio.abc.Instrument):
        def after_task_step(self, task):
            if task.name == "counter":
                handled.append(len(notes))

    notes, handled = [], []
    _, ref, _ = await put(supervisor, notes)
    await wait_all_tasks_blocked()
    for n in range(200):
        ref.cast(Add(n))
    steps = Steps()
    trio.lowlevel.add_instrument(steps)
    await wait_all_tasks_blocked()
    trio.lowlevel.remove_instrument(steps)
    assert handled == [64, 128, 192, 200]


async def test_a_ref_does_not_hold_the_actor_alive(autojump_clock, supervisor):
    _, ref, made = await put(supervisor)
    await ref.call(Total())
    trace = weakref.ref(made.pop())
    await supervisor.stop_child("counter")
    gc.collect()
    assert trace() is None


async def test_a_cancelled_call_in_a_full_mailbox_loses_nobody_else_his_place(autojump_clock, supervisor):
    notes, scope = [], trio.CancelScope()
    _, ref, _ = await put(supervisor, notes, capacity=1, overflow=Overflow.BLOCK)

    async def give_up():
        with scope:
            await ref.call(Total())

    async with trio.open_nursery() as nursery:
        for send in ((ref.call, Work(3)), (give_up,), (ref.send, Add(7))):
            nursery.start_soon(*send)
            await wait_all_tasks_blocked()
        scope.cancel()
        assert await ref.call(Total()) == 7
    assert notes == ["done", 7]
