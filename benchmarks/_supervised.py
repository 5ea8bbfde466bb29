"""The idioms of `_trio_idioms` done with `colony_core.supervision`, all features on: a hook that listens, a limit, a strategy."""

from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from time import thread_time

import trio
from trio.testing import wait_all_tasks_blocked

from benchmarks._trio_idioms import BATCH, DEADLINE_SECONDS, Block, Grow, Switch, shared
from colony_core.supervision import (
    Actor,
    Ask,
    Child,
    ChildSpec,
    DynamicSupervisor,
    Event,
    Limit,
    Ref,
    Status,
    Supervisor,
    actor_spec,
    open_dynamic_supervisor,
    open_supervisor,
)

LIMIT = Limit(count=10_000, period=0.01)  # never reached, never idle


class Listener:
    """A hook, so that every event is made and told."""

    def __init__(self) -> None:
        self.told = 0

    def __call__(self, event: Event) -> None:
        """Counts."""
        self.told += 1


class Get(Ask[int]):
    """Answered with a number."""


class Server(Actor):
    """Answers, and says when the number it waits for has come."""

    def __init__(self) -> None:
        self.last = 0
        self.done = trio.Event()

    async def on_get(self, _message: Get) -> int:
        """A call."""
        return self.last

    async def on_int(self, number: int) -> None:
        """A cast."""
        if number == self.last:
            self.done.set()


async def sleeper(*, status: Status) -> None:
    """An idle child."""
    status.started()
    await trio.sleep_forever()


def static() -> AbstractAsyncContextManager[Supervisor]:
    """An empty supervisor."""
    return open_supervisor(name="bench", limit=LIMIT, on_event=Listener())


def dynamic(template: ChildSpec) -> AbstractAsyncContextManager[DynamicSupervisor]:
    """An empty dynamic supervisor."""
    return open_dynamic_supervisor(template, name="bench", limit=LIMIT, on_event=Listener())


SLEEPER = ChildSpec(id="sleeper", run=sleeper)


class Idle(Actor):
    """Does nothing, and holds nothing of its own."""


GET = Get()
SERVER = actor_spec("server", Server)
IDLE = actor_spec("idle", Idle)
BRUTAL = actor_spec("brutal", Server, grace=0)


@asynccontextmanager
async def start(live: int) -> AsyncIterator[Block]:
    """`start_child` with a spec of its own for each child, told as an event. Specs are values, made before."""
    async with static() as supervisor:

        async def block(n: int) -> float:
            specs = [ChildSpec(id=f"child-{number}", run=sleeper) for number in range(live, live + n)]
            begin = thread_time()
            for spec in specs:
                await supervisor.start_child(spec)
            took = thread_time() - begin
            for spec in specs:
                await supervisor.stop_child(spec.id)
                await supervisor.delete_child(spec.id)
            return took

        for number in range(live):
            await supervisor.start_child(ChildSpec(id=f"child-{number}", run=sleeper))
        yield block


@asynccontextmanager
async def spawn(live: int) -> AsyncIterator[Block]:
    """`spawn` from a template."""
    async with dynamic(SLEEPER) as supervisor:

        async def block(n: int) -> float:
            begin = thread_time()
            children = [await supervisor.spawn() for _ in range(n)]
            took = thread_time() - begin
            await _clear(supervisor, children)
            return took

        for _ in range(live):
            await supervisor.spawn()
        yield block


@asynccontextmanager
async def spawn_batch() -> AsyncIterator[Block]:
    """`spawn_many`, fifty at a time."""
    async with dynamic(SLEEPER) as supervisor:
        children: list[Child] = []

        async def block(n: int) -> float:
            begin = thread_time()
            for _ in range(n // BATCH):
                children.extend(await supervisor.spawn_many([()] * BATCH))
            took = thread_time() - begin
            await _clear(supervisor, children)
            return took

        yield block


@asynccontextmanager
async def restart() -> AsyncIterator[Block]:
    """A permanent child that crashes, among others; each crash is told, counted and kept for the limit."""
    switch = Switch()

    async def child(*, status: Status) -> None:
        status.started()
        await switch.stand()

    others = [ChildSpec(id=f"child-{number}", run=sleeper) for number in range(10)]
    specs = [*others[:5], ChildSpec(id="crasher", run=child), *others[5:]]
    async with open_supervisor(specs, name="bench", limit=LIMIT, on_event=Listener()):
        yield switch.cycles


@asynccontextmanager
async def call(*, callers: int = 1, timeout: float = DEADLINE_SECONDS) -> AsyncIterator[Block]:
    """`Ref.call`, with its default time-out."""
    async with open_supervisor([SERVER], name="bench", limit=LIMIT, on_event=Listener()) as supervisor:
        ref: Ref = supervisor.child("server").value
        yield shared(lambda _number: ref.call(GET, timeout=timeout), callers)


@asynccontextmanager
async def cast() -> AsyncIterator[Block]:
    """`Ref.cast`."""
    servers: list[Server] = []

    def make() -> Server:
        servers.append(Server())
        return servers[-1]

    async with open_supervisor([actor_spec("server", make)], name="bench", limit=LIMIT, on_event=Listener()) as top:
        ref: Ref = top.child("server").value

        async def block(n: int) -> float:
            server = servers[-1]
            server.last, server.done = n, trio.Event()
            begin = thread_time()
            for number in range(1, n + 1):
                ref.cast(number)
            await server.done.wait()
            return thread_time() - begin

        yield block


@asynccontextmanager
async def crowd(template: ChildSpec) -> AsyncIterator[Grow]:
    """Idle children; all are stopped at the end: actors softly, sleepers by cancelling each."""
    async with dynamic(template) as supervisor:

        async def grow(n: int) -> None:
            for _ in range(n):
                await supervisor.spawn()

        yield grow


@asynccontextmanager
async def crowd_in_order() -> AsyncIterator[Grow]:
    """Idle children with a spec each."""
    async with static() as supervisor:

        async def grow(n: int) -> None:
            for number in range(len(supervisor.children()), len(supervisor.children()) + n):
                await supervisor.start_child(ChildSpec(id=f"child-{number}", run=sleeper))

        yield grow


async def stop(n: int, *, template: ChildSpec) -> float:
    """A supervisor of n idle children is stopped."""
    async with crowd(template) as grow:
        await grow(n)
        await wait_all_tasks_blocked()
        begin = thread_time()
    return thread_time() - begin


async def _clear(supervisor: DynamicSupervisor, children: list[Child]) -> None:
    for child in children:
        await supervisor.stop_child(child)
    children.clear()
