"""The feeds of all colonies: what agents do, line by line, kept in the store and told once it is kept."""

import logging
from collections import deque
from collections.abc import AsyncGenerator, Callable
from functools import partial
from typing import Any

import attrs
import trio

from colony_core import clock
from colony_core.bus import Bus
from colony_core.errors import ColonyError
from colony_core.events import AgentEvent
from colony_core.store import Store
from colony_core.supervision import Status

from . import records
from .records import FeedLine
from .telling import MOST_TOLD, Line, bounded, event_type

logger = logging.getLogger("colony.sessions")

MOST_WAITING = 4096
"""Lines that wait to be kept; whoever brings more waits with them."""
REST_SECONDS, MOST_REST_SECONDS = 0.02, 0.25
"""Between two rounds of keeping: what comes meanwhile is kept, and pieces of a text are told, together. It rests twice as long as
it worked, so that a store which is slow for others as well is not asked all the time."""
RETRY_SECONDS = 1.0
TRIM_EVERY = 500
PAGE_LINES = 500


@attrs.frozen(kw_only=True)
class Whose:
    """Whose feed it is."""

    colony: str
    colony_id: str
    owner: str


@attrs.frozen
class _Waiting:
    whose: Whose
    line: FeedLine
    told_as: str
    """The type of its event."""


class Feed:
    """Takes lines and pieces of text in order; `run` is its task. Numbers are common to all feeds and never given twice."""

    def __init__(self, store: Store, bus: Bus, *, last: int, keep: Callable[[], int]) -> None:
        self._store = store
        self._bus = bus
        self._next = last + 1
        self._kept = last
        self._keep = keep
        self._waiting: deque[_Waiting] = deque()
        self._keeping = trio.Lock()
        self._brought = trio.Event()
        self._taken = trio.Event()
        self._told = trio.Event()
        self._since_trim: dict[str, int] = {}

    @property
    def last(self) -> int:
        """The newest number that is kept: a later one may be given again when the daemon is killed now."""
        return self._kept

    async def add(self, whose: Whose, line: Line, *, told_as: str | None = None) -> int:
        """Takes a line and gives its number; waits while too many wait. `told_as` is the type of its event, where not the usual one."""
        await self._room()
        number, self._next = self._next, self._next + 1
        kept = FeedLine(
            seq=number,
            colony_id=whose.colony_id,
            at=clock.unix_now(),
            kind=line.kind,
            content=line.content,
            data=line.data,
        )
        self._bring(_Waiting(whose, kept, told_as or event_type(line.kind)))
        return number

    async def tell(self, whose: Whose, line: Line) -> None:
        """Takes a line that is told in its turn and never kept."""
        await self._room()
        told = FeedLine(
            seq=0, colony_id=whose.colony_id, at=clock.unix_now(), kind=line.kind, content=line.content, data=line.data
        )
        self._bring(_Waiting(whose, told, event_type(line.kind)))

    async def piece(self, whose: Whose, text: str) -> None:
        """Takes a piece of a text that is being written: told in its turn, never kept."""
        await self._room()
        last = self._waiting[-1] if self._waiting else None
        if (
            last is not None
            and last.told_as == "text_delta"
            and last.line.seq == 0
            and last.whose == whose
            and not self._keeping.locked()
        ):
            joined = attrs.evolve(last.line, content=last.line.content + text)
            self._waiting[-1] = attrs.evolve(last, line=joined)
            return
        line = FeedLine(seq=0, colony_id=whose.colony_id, at=clock.unix_now(), kind="text", content=text, data={})
        self._bring(_Waiting(whose, line, "text_delta"))

    async def page(self, colony_id: str, *, after: int | None, limit: int) -> tuple[FeedLine, ...]:
        """Kept lines of a colony behind `after`, or the newest; the oldest first."""
        if after is None:
            return await self._store.read(partial(records.newest_lines, colony_id=colony_id, limit=limit))
        return await self._store.read(partial(records.lines_after, colony_id=colony_id, after=after, limit=limit))

    async def follow(self, colony_id: str, *, after: int) -> AsyncGenerator[FeedLine, None]:
        """The lines of a colony behind `after`, as they are kept, for ever."""
        while True:
            told = self._told
            lines = await self.page(colony_id, after=after, limit=PAGE_LINES)
            for line in lines:
                after = line.seq
                yield line
            if not lines:
                await told.wait()

    async def run(self, *, status: Status) -> None:
        """Keeps and tells; never ends. While the store refuses, lines wait and it tries again every second."""
        status.started()
        while True:
            if not self._waiting:
                await self._brought.wait()
            began = trio.current_time()
            try:
                await self._keep_some()
            except ColonyError as error:
                logger.warning("the lines of agents wait: %s", error)
                await trio.sleep(RETRY_SECONDS)
            took = trio.current_time() - began
            await trio.sleep(min(max(REST_SECONDS, 2 * took), MOST_REST_SECONDS))

    async def flush(self) -> None:
        """Returns when everything that was brought is kept and told; raises ColonyError where the store refuses."""
        while self._waiting:
            await self._keep_some()

    async def _keep_some(self) -> None:
        async with self._keeping:
            await self._keep_what_waits()

    async def _keep_what_waits(self) -> None:
        batch = tuple(self._waiting)
        lines = [each.line for each in batch if each.line.seq]
        if lines:
            await self._store.write(partial(self._write, lines=lines))
            self._kept = lines[-1].seq
        for _ in batch:
            each = self._waiting.popleft()
            self._tell(each)
        taken, self._taken = self._taken, trio.Event()
        taken.set()
        told, self._told = self._told, trio.Event()
        told.set()
        if not self._waiting:
            self._brought = trio.Event()

    def _write(self, connection: Any, lines: list[FeedLine]) -> None:
        records.append(connection, lines)
        for line in lines:
            since = self._since_trim.get(line.colony_id, 0) + 1
            if since >= TRIM_EVERY:
                records.trim(connection, line.colony_id, self._keep())
                since = 0
            self._since_trim[line.colony_id] = since

    def _tell(self, waiting: _Waiting) -> None:
        line, whose = waiting.line, waiting.whose
        self._bus.publish(
            AgentEvent(
                colony=whose.colony,
                colony_id=whose.colony_id,
                owner=whose.owner,
                event_type=waiting.told_as,
                content=line.content if len(line.content) <= MOST_TOLD else f"{line.content[:MOST_TOLD]}…",
                timestamp=int(line.at * 1000),
                line=line.seq,
                data=bounded(dict(line.data), MOST_TOLD),
            )
        )

    def _bring(self, waiting: _Waiting) -> None:
        self._waiting.append(waiting)
        self._brought.set()

    async def _room(self) -> None:
        while len(self._waiting) >= MOST_WAITING:
            await self._taken.wait()
        await trio.lowlevel.checkpoint_if_cancelled()
