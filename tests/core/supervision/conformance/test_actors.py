"""Actors: calls, casts, time-outs, ends and bounds (1.12, 2.1.12, 2.2)."""

import attrs
import pytest
import trio
from trio.testing import wait_all_tasks_blocked

from colony_core.supervision import (
    Actor,
    ActorDied,
    Ask,
    ChildSpec,
    Limit,
    MailboxFull,
    NotRunning,
    Overflow,
    PlannedStop,
    Restart,
    SelfCall,
    TooSlow,
    actor_spec,
    open_supervisor,
)

RULES = {}


def rule(name, expected):
    def add(scene):
        assert name not in RULES, name
        RULES[name] = (scene, expected)
        return scene

    return add


@attrs.frozen
class Say(Ask[str]):
    word: str


@attrs.frozen
class Work(Ask[str]):
    seconds: float


@attrs.frozen
class Crash(Ask[None]):
    pass


@attrs.frozen
class Finish(Ask[str]):
    pass


@attrs.frozen
class Later(Ask[str]):
    pass


@attrs.frozen
class Selfish(Ask[str]):
    pass


def desk(log, replies=None):
    """An actor that logs what it handles."""

    class Desk(Actor):
        async def on_say(self, msg):
            log(f"hears {msg.word}")
            return msg.word.upper()

        async def on_work(self, msg):
            log(f"works {msg.seconds:g}")
            await trio.sleep(msg.seconds)
            log("worked")
            return "done"

        async def on_crash(self, msg):
            raise ValueError("crash")

        async def on_finish(self, msg):
            self.defer().set("bye")
            raise PlannedStop

        async def on_later(self, msg):
            replies.append(self.defer())

        async def on_selfish(self, msg):
            return await self.ref.call(Say("me"))

    return Desk


async def ask(log, ref, message, **options):
    """Logs the answer, whatever it is."""
    try:
        log.answer(f"{await ref.call(message, **options)}")
    except Exception as error:
        cause = f" from {error.__cause__!r}" if error.__cause__ else ""
        log.answer(f"{type(error).__name__}{cause}")


def opened(log, *, replies=None, **options):
    spec = actor_spec("desk", desk(log, replies), **options)
    return open_supervisor([spec], limit=Limit(9, 1), on_event=lambda event: None)


@rule(
    "1.12 call: a message, a reply, one at a time in the order sent",
    """
    0: hears a
    0: works 2
    0: (A)
    2: worked
    2: hears b
    2: (B)
    2: (done)
    """,
)
async def _(log):
    async with opened(log) as supervisor, trio.open_nursery() as nursery:
        ref = supervisor.child("desk").value
        await ask(log, ref, Say("a"))
        nursery.start_soon(ask, log, ref, Work(2))
        await wait_all_tasks_blocked()
        nursery.start_soon(ask, log, ref, Say("b"))
        await trio.sleep(3)


@rule(
    "1.12 call: five seconds by default; the server lives on and the late reply is discarded",
    """
    0: works 6
    5: (TooSlow)
    6: worked
    6: hears b
    6: (B)
    """,
)
async def _(log):
    async with opened(log) as supervisor:
        ref = supervisor.child("desk").value
        await ask(log, ref, Work(6))
        await ask(log, ref, Say("b"))
        assert supervisor.child("desk").incarnation == 1


@rule(
    "1.12 call: an end of the server ends the call of every waiting caller, with its error",
    """
    0: works 1
    1: worked
    1: (ActorDied from ValueError('crash'))
    1: (ActorDied from ValueError('crash'))
    1: (done)
    """,
)
async def _(log):
    async with opened(log) as supervisor:
        ref = supervisor.child("desk").value
        async with trio.open_nursery() as nursery:
            for message in (Work(1), Crash(), Say("lost")):
                nursery.start_soon(ask, log, ref, message)
                await wait_all_tasks_blocked()


@rule(
    "1.12 call: to nobody raises at once; cast to nobody is silent",
    """
    0: cast
    0: (NotRunning)
    """,
)
async def _(log):
    async with opened(log) as supervisor:
        ref = supervisor.child("desk").value
        await supervisor.stop_child("desk")
        await ask(log, ref, Say("a"))
        ref.cast(Say("b"))
        await ref.send(Say("c"))
        log("cast")


@rule("1.12 a self-call is an error", "0: (ActorDied from SelfCall(\"actor 'desk' called itself with Say\"))")
async def _(log):
    async with opened(log) as supervisor:
        await ask(log, supervisor.child("desk").value, Selfish())
        assert isinstance(supervisor.child("desk").last_exit.error, SelfCall)


@rule(
    "1.12 an unhandled error ends the server, and queued messages are lost; the address stays valid",
    """
    0: works 1
    1: worked
    1: hears after
    1: (AFTER)
    """,
)
async def _(log):
    async with opened(log) as supervisor:
        ref = supervisor.child("desk").value
        for message in (Work(1), Crash(), Say("lost")):
            ref.cast(message)
        await trio.sleep(1)
        await wait_all_tasks_blocked()
        await ask(log, ref, Say("after"))
        assert supervisor.child("desk").value is ref


@rule(
    "1.12 replies may be deferred, in any order, also as an error",
    """
    2: (two)
    3: (KeyError)
    """,
)
async def _(log):
    replies = []
    async with opened(log, replies=replies) as supervisor, trio.open_nursery() as nursery:
        ref = supervisor.child("desk").value
        for _ in range(2):
            nursery.start_soon(ask, log, ref, Later())
            await wait_all_tasks_blocked()
        await trio.sleep(2)
        replies[1].set("two")
        await trio.sleep(1)
        replies[0].fail(KeyError("no"))
        await wait_all_tasks_blocked()
        replies[1].set("again")


@rule(
    "1.12 stop with a reply: it answers, then ends",
    """
    0: ended shutdown
    0: (NotRunning)
    0: (bye)
    """,
)
async def _(log):
    async with opened(log, restart=Restart.TRANSIENT) as supervisor:
        child = supervisor.child("desk")
        await ask(log, child.value, Finish())
        log(f"ended {(await child.wait_exit()).kind}")
        await ask(log, child.value, Say("a"))


@rule(
    "1.12 a call that waits when the actor is stopped gets its answer if it is the one at hand, else the actor has died",
    """
    0: works 2
    2: worked
    2: (ActorDied)
    2: (done)
    """,
)
async def _(log):
    async with opened(log) as supervisor, trio.open_nursery() as nursery:
        for message in (Work(2), Say("b")):
            nursery.start_soon(ask, log, supervisor.child("desk").value, message)
            await wait_all_tasks_blocked()
        await supervisor.stop_child("desk")


@rule(
    "2.1.12 a deadline outside wins over the time-out",
    """
    0: works 9
    2: deadline
    """,
)
async def _(log):
    async with opened(log) as supervisor:
        with trio.move_on_after(2) as scope:
            await ask(log, supervisor.child("desk").value, Work(9), timeout=3)
        assert scope.cancelled_caught
        log("deadline")


@rule(
    "2.1.12 time-outs of different lengths expire in their own order",
    """
    0: works 20
    1: one
    2: two
    3: three
    """,
)
async def _(log):
    async with opened(log) as supervisor, trio.open_nursery() as nursery:
        ref = supervisor.child("desk").value
        ref.cast(Work(20))
        for name, seconds in (("three", 3), ("one", 1), ("two", 2)):
            nursery.start_soon(_times_out, log, ref, name, seconds)
        await trio.sleep(4)


async def _times_out(log, ref, name, seconds):
    with pytest.raises(TooSlow):
        await ref.call(Say(name), timeout=seconds)
    log(name)


@rule(
    "2.1.12 a stop request gets past any full mailbox",
    """
    0: works 2
    2: worked
    2: stopped
    """,
)
async def _(log):
    async with opened(log, capacity=1, overflow=Overflow.REJECT) as supervisor:
        ref = supervisor.child("desk").value
        ref.cast(Work(2))
        await wait_all_tasks_blocked()
        ref.cast(Say("never"))
        with pytest.raises(MailboxFull):
            ref.cast(Say("too much"))
        await supervisor.stop_child("desk")
        log("stopped")


@rule(
    "2.2 BLOCK: senders wait for room, in turn; a cast is always taken",
    """
    0: works 2
    2: worked
    2: hears a
    2: hears cast
    2: hears b
    2: (sent b)
    """,
)
async def _(log):
    async with opened(log, capacity=1) as supervisor, trio.open_nursery() as nursery:
        ref = supervisor.child("desk").value
        ref.cast(Work(2))
        await wait_all_tasks_blocked()
        ref.cast(Say("a"))
        ref.cast(Say("cast"))
        nursery.start_soon(_sends, log, ref, "b")
        await trio.sleep(3)


async def _sends(log, ref, word):
    await ref.send(Say(word))
    log.answer(f"sent {word}")


@rule(
    "2.2 DROP_OLDEST: the oldest message goes, and whoever waits for it is told",
    """
    0: works 2
    0: (MailboxFull)
    2: worked
    2: hears b
    """,
)
async def _(log):
    async with opened(log, capacity=1, overflow=Overflow.DROP_OLDEST) as supervisor, trio.open_nursery() as nursery:
        ref = supervisor.child("desk").value
        ref.cast(Work(2))
        await wait_all_tasks_blocked()
        nursery.start_soon(ask, log, ref, Say("a"))
        await wait_all_tasks_blocked()
        ref.cast(Say("b"))
        await trio.sleep(3)


@rule(
    "2.2 DROP_NEWEST: the new message goes silently, a new call is refused",
    """
    0: works 2
    0: (MailboxFull)
    2: worked
    2: hears a
    """,
)
async def _(log):
    async with opened(log, capacity=1, overflow=Overflow.DROP_NEWEST) as supervisor:
        ref = supervisor.child("desk").value
        ref.cast(Work(2))
        await wait_all_tasks_blocked()
        ref.cast(Say("a"))
        ref.cast(Say("b"))
        await ask(log, ref, Say("c"))
        await trio.sleep(3)


@rule("2.1.12 after sixty-four messages others get a turn", "0: 64\n0: 128\n0: 150")
async def _(log):
    handled = []

    class Counter(Actor):
        async def on_int(self, msg):
            handled.append(msg)

    class Steps(trio.abc.Instrument):
        def after_task_step(self, task):
            if task.name == "counter":
                log(str(len(handled)))

    async with open_supervisor([actor_spec("counter", Counter)]) as supervisor:
        await wait_all_tasks_blocked()
        for number in range(150):
            supervisor.child("counter").value.cast(number)
        steps = Steps()
        trio.lowlevel.add_instrument(steps)
        await wait_all_tasks_blocked()
        trio.lowlevel.remove_instrument(steps)


@rule(
    "1.12 an actor outlives its callers, and a linked block learns of its death",
    """
    0: works 1
    1: worked
    1: (ActorDied from ValueError('crash'))
    """,
)
async def _(log):
    async with opened(log) as supervisor:
        child = supervisor.child("desk")
        with trio.move_on_after(0.5):
            await child.value.call(Work(1))
        try:
            async with child.linked():
                child.value.cast(Crash())
                await trio.sleep_forever()
        except ActorDied as error:
            log.answer(f"ActorDied from {error.__cause__!r}")


@rule("2.2 an actor's started value is its address, for plain children whatever they give", "0: [<Ref 'desk' up>, 7]")
async def _(log):
    async def seven(*, status):
        status.started(7)
        await trio.sleep_forever()

    specs = [actor_spec("desk", desk(log)), ChildSpec(id="seven", run=seven)]
    async with open_supervisor(specs, on_event=lambda event: None) as supervisor:
        log(str([child.value for child in supervisor.children()]))
        await supervisor.stop_child("seven")
        with pytest.raises(NotRunning):
            await supervisor.child("seven").wait_up()


@pytest.mark.parametrize("name", RULES)
def test_the_rule(name, always):
    always(*RULES[name])
