"""What a run tells, on its way to the one who reads it; and the task that tells it."""

import math
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Protocol

import trio

from .happenings import Ended, Happening

MOST_WAITING = 1000


class Telling:
    """An async iterator of happenings. `tell` waits while too many are unread; what must be said whatever waits, `tell_now` says."""

    def __init__(self, most: int = MOST_WAITING) -> None:
        self._send, self._receive = trio.open_memory_channel[Happening](math.inf)
        self._room = trio.Event()
        self._most = most
        self._left = False

    def __aiter__(self) -> "Telling":
        return self

    async def __anext__(self) -> Happening:
        try:
            found = await self._receive.receive()
        except (trio.EndOfChannel, trio.ClosedResourceError):
            raise StopAsyncIteration from None
        self._room.set()
        return found

    async def tell(self, *happenings: Happening) -> None:
        """Tells in order; a slow reader slows down whoever tells. Nothing is told twice or by halves when cancelled."""
        for happening in happenings:
            while not self._left and self._send.statistics().current_buffer_used >= self._most:
                self._room = trio.Event()
                await self._room.wait()
            self.tell_now(happening)
        await trio.lowlevel.checkpoint_if_cancelled()

    def tell_now(self, happening: Happening) -> None:
        """Tells at once."""
        if not self._left:
            self._send.send_nowait(happening)

    def end(self, ended: Ended) -> None:
        """Tells the end, after which nothing may be told."""
        self.tell_now(ended)
        self._send.close()

    def leave(self) -> None:
        """Nobody reads any more: what is told from here on is thrown away."""
        self._left = True
        self._receive.close()
        self._room.set()


class Carried(Protocol):
    """A run with a task of its own."""

    async def carry_out(self) -> None:
        """The whole run, to its `Ended` and until what it started is seen off. Takes no longer than its graces once it was left."""

    async def leave(self) -> None:
        """Called when the block around the run ends: nobody reads any more, and what still runs is to be stopped."""


@asynccontextmanager
async def carrying_out(run: Carried) -> AsyncIterator[None]:
    """Runs `carry_out` beside the block. At the block's end the run leaves and is waited for, also when the block was cancelled."""
    done = trio.Event()

    async def work() -> None:
        try:
            with trio.CancelScope(shield=True):  # whoever cancels the block waits for an orderly end
                await run.carry_out()
        finally:
            done.set()

    failure: BaseException | None = None
    async with trio.open_nursery() as nursery:
        nursery.start_soon(work)
        try:
            yield
        except BaseException as error:
            failure = error
        with trio.CancelScope(shield=True):
            await run.leave()
            await done.wait()
    try:
        if failure is not None:
            raise failure
    finally:
        del failure  # it holds this frame
