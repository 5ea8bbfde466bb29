"""Tells everyone what happened; a slow listener loses old news and is told so, and never blocks the house."""

from collections import deque
from collections.abc import AsyncIterator, Callable

import trio

from . import clock
from .events import Event, Missed, Numbered

KEPT_EVENTS = 10_000


class Bus:
    """Numbers events and keeps the newest of them for listeners of the house itself; readers outside have the journal.

    `first_seq` is the number of the first event; give numbers that were never used before, so that cursors stay monotone across restarts.
    """

    def __init__(self, *, first_seq: int = 1, kept: int = KEPT_EVENTS) -> None:
        self._next = first_seq
        self._kept: deque[Numbered] = deque(maxlen=kept)
        self._news = trio.Event()
        self._hooks: list[Callable[[Numbered], None]] = []

    @property
    def last_seq(self) -> int:
        """The number of the newest event, or the one before the first."""
        return self._next - 1

    def on_publish(self, hook: Callable[[Numbered], None]) -> None:
        """Calls `hook` with every event, at once and in order; it must neither block nor raise."""
        self._hooks.append(hook)

    def publish(self, event: Event) -> Numbered:
        """Numbers `event` and wakes whoever listens. Takes no scheduler step."""
        numbered = Numbered(seq=self._next, at=clock.unix_now(), event=event)
        self._next += 1
        self._kept.append(numbered)
        for hook in self._hooks:
            hook(numbered)
        news, self._news = self._news, trio.Event()
        news.set()
        return numbered

    def after(self, seq: int) -> tuple[Missed | None, tuple[Numbered, ...]]:
        """The kept events behind `seq`, and the hole in between, if there is one."""
        oldest = self._next - len(self._kept)
        if seq >= self.last_seq:
            return None, ()
        missed = Missed(first=seq + 1, last=oldest - 1) if seq + 1 < oldest else None
        skip = max(0, seq + 1 - oldest)
        return missed, tuple(self._kept[i] for i in range(skip, len(self._kept)))

    async def beyond(self, seq: int) -> None:
        """Returns when an event behind `seq` was published."""
        while self.last_seq <= seq:
            await self._news.wait()

    async def listen(self, after: int | None = None) -> AsyncIterator[Missed | Numbered]:
        """Yields every event behind `after` (default: from now on), for ever; holes come as Missed. Leaves nothing when cancelled."""
        cursor = self.last_seq if after is None else after
        while True:
            news = self._news
            missed, events = self.after(cursor)
            if missed:
                cursor = missed.last
                yield missed
            for numbered in events:
                cursor = numbered.seq
                yield numbered
            if not events:
                await news.wait()
