"""Every write that was asked for, done or refused: who, from where, what, and how it ended. No bodies, no queries, no secrets."""

import logging
from collections.abc import Callable
from functools import partial

import attrs
import trio

from colony_core.errors import ColonyError
from colony_core.store import Store

from . import records

STRANGERS_PER_MINUTE = 30
STRANGERS_KEPT = 5000
PRUNED_EVERY = 1000

logger = logging.getLogger("colony.audit")


@attrs.frozen(kw_only=True)
class AuditRecord:
    """One write. `who` is the key's or user's id, None for somebody unknown; `skipped` tells of strangers' writes that were not noted."""

    at: float
    who: str | None
    name: str
    role: str
    person: str
    source: str
    method: str
    path: str
    target: str
    status: int
    code: str
    request_id: str
    skipped: int = 0
    command: str = ""
    seq: int = 0


class Audit:
    """The audit log: the newest `keep` writes of those who were known, and apart from them the newest 5,000 of strangers.

    Strangers fill thirty entries a minute at most, so that nobody who has no key can push out what others did.
    """

    def __init__(self, store: Store, *, keep: int, now: Callable[[], float] = trio.current_time) -> None:
        self._store = store
        self._keep = keep
        self._now = now
        self._minute = float("-inf")
        self._strangers = 0
        self._skipped = 0
        self._news = trio.Event()

    async def record(self, entry: AuditRecord) -> None:
        """Writes an entry down; durable when it returns. Where the store refuses, the daemon's own output has it: no work stops."""
        if entry.who is None:
            if not self._has_room():
                return
            entry, self._skipped = attrs.evolve(entry, skipped=self._skipped), 0
        unit = partial(
            records.add_audit, entry=attrs.asdict(entry), every=PRUNED_EVERY, keep=self._keep, strangers=STRANGERS_KEPT
        )
        try:
            with trio.CancelScope(shield=True):
                await self._store.write(unit)
        except ColonyError as error:
            logger.error("not in the audit log (%s): %r", error.code, entry)
        news, self._news = self._news, trio.Event()
        news.set()

    async def page(
        self, *, after: int | None, limit: int, person: str | None = None, target: str | None = None
    ) -> tuple[AuditRecord, ...]:
        """Entries behind number `after`, or the newest; with `person` only what that person did, with `target` what was about that."""
        unit = partial(records.audit_page, after=after, limit=limit, person=person, target=target)
        return tuple(AuditRecord(**{**row, "command": row["command"] or ""}) for row in await self._store.read(unit))

    async def next_page(
        self, *, after: int, limit: int, person: str | None = None, target: str | None = None
    ) -> tuple[AuditRecord, ...]:
        """As `page`, but waits until there is something."""
        while True:
            news = self._news
            if found := await self.page(after=after, limit=limit, person=person, target=target):
                return found
            await news.wait()

    def _has_room(self) -> bool:
        if self._now() - self._minute >= 60.0:
            self._minute, self._strangers = self._now(), 0
        self._strangers += 1
        if self._strangers > STRANGERS_PER_MINUTE:
            self._skipped += 1
            return False
        return True
