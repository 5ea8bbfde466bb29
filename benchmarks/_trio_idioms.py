"""What people write by hand on bare Trio, as well as we know how: the other side of `benchmarks.supervision`.

Each function sets up one idiom and yields a block: `await block(n)` does it n times and returns the seconds that took. A task has a cancel
scope of its own where ours has one, because without it nobody could stop it alone.

The file is long because there is one idiom for each row of the table.
"""

from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from math import inf
from time import thread_time
from typing import Any

import trio
from trio.testing import wait_all_tasks_blocked

Block = Callable[[int], Awaitable[float]]
Grow = Callable[[int], Awaitable[None]]

CALLERS = 100
BATCH = 50
DEADLINE_SECONDS = 5.0


class Crash(Exception):
    """What the children of the restart rows die of."""


class Switch:
    """Where a child that crashes on demand meets whoever demands it."""

    def __init__(self) -> None:
        self.crash = self.up = trio.Event()

    async def cycles(self, n: int) -> float:
        """Crashes the child and waits until it is up again, n times."""
        begin = thread_time()
        for _ in range(n):
            self.up = trio.Event()
            self.crash.set()
            await self.up.wait()
        return thread_time() - begin

    async def stand(self) -> None:
        """The life of one incarnation, once it is started."""
        crash = self.crash = trio.Event()
        self.up.set()
        await crash.wait()
        raise Crash


async def sleeper(task_status: trio.TaskStatus[trio.CancelScope] = trio.TASK_STATUS_IGNORED) -> None:
    """An idle task that can be stopped alone."""
    with trio.CancelScope() as scope:
        task_status.started(scope)
        await trio.sleep_forever()


async def listener(receive: trio.MemoryReceiveChannel[Any]) -> None:
    """An idle task with a mailbox that can be stopped alone."""
    with trio.CancelScope():
        async for _ in receive:
            pass


@asynccontextmanager
async def start(live: int) -> AsyncIterator[Block]:
    """`await nursery.start`, beside so many live tasks."""
    async with trio.open_nursery() as nursery:

        async def block(n: int) -> float:
            begin = thread_time()
            for _ in range(n):
                scopes.append(await nursery.start(sleeper))
            took = thread_time() - begin
            await _clear(scopes)
            return took

        scopes: list[trio.CancelScope] = []
        for _ in range(live):
            await nursery.start(sleeper)
        yield block
        nursery.cancel_scope.cancel()


@asynccontextmanager
async def start_batch() -> AsyncIterator[Block]:
    """Concurrent `nursery.start`, fifty at a time."""
    async with trio.open_nursery() as nursery:

        async def one() -> None:
            scopes.append(await nursery.start(sleeper))

        async def block(n: int) -> float:
            begin = thread_time()
            for _ in range(n // BATCH):
                async with trio.open_nursery() as callers:
                    for _ in range(BATCH):
                        callers.start_soon(one)
            took = thread_time() - begin
            await _clear(scopes)
            return took

        scopes: list[trio.CancelScope] = []
        yield block
        nursery.cancel_scope.cancel()


@asynccontextmanager
async def restart() -> AsyncIterator[Block]:
    """A monitor task that does `await nursery.start` anew whenever the child has died."""
    switch, errors, died = Switch(), deque[Exception](maxlen=10), trio.Event()

    async def child(task_status: trio.TaskStatus[trio.CancelScope]) -> None:
        try:
            with trio.CancelScope() as scope:
                task_status.started(scope)
                await switch.stand()
        except Exception as error:
            errors.append(error)
            died.set()

    async def monitor() -> None:
        nonlocal died
        while True:
            died = trio.Event()
            await nursery.start(child)
            await died.wait()

    async with trio.open_nursery() as nursery:
        nursery.start_soon(monitor)
        await wait_all_tasks_blocked()
        yield switch.cycles
        nursery.cancel_scope.cancel()


@asynccontextmanager
async def call_by_channel(*, callers: int = 1, deadline: float = inf) -> AsyncIterator[Block]:
    """A fresh memory channel for each reply, with the ordinary `send`."""
    send, receive = trio.open_memory_channel[tuple[int, trio.MemorySendChannel[int]]](inf)

    async def server() -> None:
        with trio.CancelScope():
            async for message, reply in receive:
                await reply.send(message)

    async def call(message: int) -> int:
        reply, answer = trio.open_memory_channel[int](1)
        await send.send((message, reply))
        return await answer.receive()

    async def call_within(message: int) -> int:
        with trio.fail_after(deadline):
            return await call(message)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(server)
        yield shared(call if deadline == inf else call_within, callers)
        nursery.cancel_scope.cancel()


@asynccontextmanager
async def call_nowait() -> AsyncIterator[Block]:
    """The same for those who know that neither side has to wait for room."""
    send, receive = trio.open_memory_channel[tuple[int, trio.MemorySendChannel[int]]](inf)

    async def server() -> None:
        with trio.CancelScope():
            async for message, reply in receive:
                reply.send_nowait(message)

    async def call(message: int) -> int:
        reply, answer = trio.open_memory_channel[int](1)
        send.send_nowait((message, reply))
        return await answer.receive()

    async with trio.open_nursery() as nursery:
        nursery.start_soon(server)
        yield shared(call, 1)
        nursery.cancel_scope.cancel()


class _Slot:
    __slots__ = ("done", "message", "value")

    def __init__(self, message: int) -> None:
        self.message = message
        self.value = 0
        self.done = trio.Event()


@asynccontextmanager
async def call_by_event() -> AsyncIterator[Block]:
    """The best form we know to write by hand: a deque, an event that wakes the server, an event in a slot for each reply."""
    slots, work = deque[_Slot](), trio.Event()

    async def server() -> None:
        nonlocal work
        with trio.CancelScope():
            while True:
                while slots:
                    slot = slots.popleft()
                    slot.value = slot.message
                    slot.done.set()
                work = trio.Event()
                await work.wait()

    async def call(message: int) -> int:
        slot = _Slot(message)
        slots.append(slot)
        work.set()
        await slot.done.wait()
        return slot.value

    async with trio.open_nursery() as nursery:
        nursery.start_soon(server)
        await wait_all_tasks_blocked()
        yield shared(call, 1)
        nursery.cancel_scope.cancel()


@asynccontextmanager
async def cast() -> AsyncIterator[Block]:
    """`send_nowait` to a task in `async for`."""
    send, receive = trio.open_memory_channel[int](inf)
    last, done = 0, trio.Event()

    async def server() -> None:
        with trio.CancelScope():
            async for message in receive:
                if message == last:
                    done.set()

    async def block(n: int) -> float:
        nonlocal last, done
        last, done = n, trio.Event()
        begin = thread_time()
        for message in range(1, n + 1):
            send.send_nowait(message)
        await done.wait()
        return thread_time() - begin

    async with trio.open_nursery() as nursery:
        nursery.start_soon(server)
        yield block
        nursery.cancel_scope.cancel()


@asynccontextmanager
async def crowd(*, mailboxes: bool) -> AsyncIterator[Grow]:
    """Idle tasks, with or without mailboxes; all are cancelled at the end."""
    ends = []
    async with trio.open_nursery() as nursery:

        async def grow(n: int) -> None:
            for _ in range(n):
                if mailboxes:
                    send, receive = trio.open_memory_channel[int](inf)
                    ends.append(send)
                    nursery.start_soon(listener, receive)
                else:
                    nursery.start_soon(sleeper)

        yield grow
        nursery.cancel_scope.cancel()


async def stop(n: int, *, mailboxes: bool) -> float:
    """A nursery of n idle tasks is cancelled."""
    async with crowd(mailboxes=mailboxes) as grow:
        await grow(n)
        await wait_all_tasks_blocked()
        begin = thread_time()
    return thread_time() - begin


def shared(call: Callable[[int], Awaitable[int]], callers: int) -> Block:
    """A block of n calls, by one caller or by many at once."""

    async def some(n: int) -> None:
        for message in range(n):
            await call(message)

    async def block(n: int) -> float:
        begin = thread_time()
        if callers == 1:
            await some(n)
        else:
            async with trio.open_nursery() as nursery:
                for _ in range(callers):
                    nursery.start_soon(some, n // callers)
        return thread_time() - begin

    return block


async def _clear(scopes: list[trio.CancelScope]) -> None:
    for scope in scopes:
        scope.cancel()
    scopes.clear()
    await wait_all_tasks_blocked()
