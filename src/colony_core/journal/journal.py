"""Keeps what the bus numbers, and tells it to readers outside once it is kept."""

import logging
from collections import deque
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path

import trio

from colony_core import clock
from colony_core.bus import KEPT_EVENTS, Bus
from colony_core.errors import ColonyError, WrongState
from colony_core.store import Store
from colony_core.supervision import Status

from . import records
from .ceiling import Ceiling
from .entries import EVERYTHING, Entry, Selection, entry_of, hole

RECENT_ENTRIES = KEPT_EVENTS
"""So many of the newest are told from memory; who is further behind reads the store."""
BATCH_ENTRIES = 1000
PAGE_ENTRIES = 500
RETRY_SECONDS = 1.0
SET_ASIDE = 10_000
CLOSE_SECONDS = 5.0

logger = logging.getLogger("colony.journal")


class Journal:
    """The event log. `bus` numbers what it keeps; `run` is its task. Cursors are numbers of events: reading goes on behind them."""

    def __init__(self, store: Store, ceiling: Ceiling, *, last: int, keep: int) -> None:
        self.bus = Bus(first_seq=max(last, ceiling.value) + 1)
        self._store = store
        self._ceiling = ceiling
        self._keep = keep
        self._kept = last
        self._told = last
        self._recent: deque[Entry] = deque()
        self._recent_after = last
        self._news = trio.Event()

    @property
    def last(self) -> int:
        """The newest number that was told outside."""
        return self._told

    def cursor(self, after: int | None) -> int:
        """Where a reader begins: at `after`, or from now on. Raises WrongState (`cursor-ahead`) for a number that nobody was told."""
        if after is not None and after > self._told:
            raise WrongState(
                "cursor-ahead",
                f"event {after} was never told; the newest is {self._told}",
                "this is another event log than before; begin again behind 0",
                details={"last": self._told},
            )
        return self._told if after is None else after

    async def page(
        self, after: int, *, limit: int = PAGE_ENTRIES, selection: Selection = EVERYTHING
    ) -> tuple[tuple[Entry, ...], int]:
        """Wanted entries behind `after`, up to `limit` of them, and the number up to which was looked: the next page's `after`."""
        found: list[Entry] = []
        while after < self._told and len(found) < limit:
            entries, upto = await self._piece(after, limit - len(found), selection)
            found += [entry.behind(after) for entry in entries]
            after = upto
        return tuple(found), after

    async def newest(self, limit: int, *, selection: Selection = EVERYTHING) -> tuple[Entry, ...]:
        """The newest wanted entries, oldest first."""
        recent, border = tuple(self._recent), self._recent_after
        found = [entry for entry in recent if selection.wants(entry)][-limit:]
        if len(found) < limit:
            left = limit - len(found)
            unit = partial(records.newest, upto=border, selection=selection, limit=left)
            found = await self._store.read(unit) + found
        return tuple(found)

    async def listen(self, after: int, *, selection: Selection = EVERYTHING) -> AsyncIterator[tuple[Entry, ...]]:
        """Wanted entries behind `after` as they come, for ever, as many at once as there are. Who is slow reads the store meanwhile."""
        while True:
            await self.beyond(after)
            entries, after = await self.page(after, selection=selection)
            if entries:
                yield entries

    async def beyond(self, after: int) -> None:
        """Returns when an event behind `after` was told."""
        while self._told <= after:
            await self._news.wait()

    async def run(self, *, status: Status) -> None:
        """Keeps events as they come; never ends. Where the store refuses, tells them from memory and tries again every second."""
        status.started()
        while True:
            await self.bus.beyond(self._kept)
            try:
                await self._keep_some()
            except ColonyError as error:
                await self._go_on_without(error)

    async def flush(self) -> None:
        """Keeps what is left, as far as the store takes it."""
        with trio.move_on_after(CLOSE_SECONDS, shield=True):
            try:
                while self._kept < self.bus.last_seq:
                    await self._keep_some()
            except ColonyError as error:
                logger.warning("the last events are not kept: %s", error)

    async def forget(self, before: float) -> None:
        """Drops the events from before that moment (seconds since 1970)."""
        await self._store.write(partial(records.forget, before=before))

    async def _keep_some(self) -> None:
        entries = self._entries(self._kept, upto=self._kept + BATCH_ENTRIES)
        await self._store.write(partial(records.append, entries=entries, after=self._kept, keep=self._keep))
        self._kept = entries[-1].seq
        self._tell(entries)
        if self._ceiling.value and self._kept >= self._told:
            logger.warning("events are kept again, from %d on", entries[0].first)
            await self._set_ceiling(0)

    async def _go_on_without(self, error: ColonyError) -> None:
        """For a moment, tells events that are not kept: house and readers must not stand still for the store."""
        if not self._ceiling.value:
            logger.error("events are told, but not kept, until the store takes them again: %s", error)
        with trio.move_on_after(RETRY_SECONDS):
            while True:
                seen = self.bus.last_seq
                if seen <= self._ceiling.value or await self._set_ceiling(seen + SET_ASIDE):
                    self._tell(self._entries(self._told, upto=seen))
                await self.bus.beyond(seen)

    def _entries(self, after: int, *, upto: int) -> list[Entry]:
        """What the bus holds behind `after` up to that number; the hole before it may be larger."""
        now = clock.unix_now()
        missed, numbered = self.bus.after(after)
        lost = [entry_of(missed, at=now)] if missed else []
        return lost + [entry_of(item, at=now) for item in numbered if item.seq <= upto]

    async def _set_ceiling(self, number: int) -> bool:
        try:
            await trio.to_thread.run_sync(self._ceiling.raise_to, number)
        except OSError as error:
            logger.error("cannot set event numbers aside: %s", error)
            return False
        return True

    def _tell(self, entries: Sequence[Entry]) -> None:
        for entry in entries:
            if entry.seq > self._told:
                self._recent.append(entry.behind(self._told))
                self._told = entry.seq
        while len(self._recent) > RECENT_ENTRIES:
            self._recent_after = self._recent.popleft().seq
        news, self._news = self._news, trio.Event()
        news.set()

    async def _piece(self, after: int, limit: int, selection: Selection) -> tuple[list[Entry], int]:
        """Wanted entries behind `after` from one place, memory or store, and the number up to which that place was asked."""
        if after >= self._recent_after:
            fresh = []
            for entry in reversed(self._recent):
                if entry.seq <= after:
                    break
                fresh.append(entry)
            wanted = [entry for entry in reversed(fresh) if selection.wants(entry)]
            return wanted[:limit], wanted[limit - 1].seq if len(wanted) > limit else self._told
        upto = min(self._recent_after, self._kept)
        if after >= upto:  # told while the store refused, and pushed out of memory since
            return [hole(after + 1, self._recent_after, at=clock.unix_now())], self._recent_after
        unit = partial(records.page, after=after, upto=upto, selection=selection, limit=limit)
        first, found = await self._store.read(unit)
        if after + 1 < first:
            found = [hole(after + 1, min(first - 1, upto), at=clock.unix_now()), *found][:limit]
        return found, found[-1].seq if len(found) == limit else upto


@asynccontextmanager
async def open_journal(store: Store, ceiling: Path, *, keep: int) -> AsyncIterator[Journal]:
    """The event log in `store`, which holds the newest `keep` numbers. Its task is `run`; what is left at the end is kept then."""
    last = await store.read(records.last_seq)
    journal = Journal(store, await trio.to_thread.run_sync(Ceiling, ceiling), last=last, keep=keep)
    try:
        yield journal
    finally:
        await journal.flush()
