"""The log of one colony, as the outside reads it."""

from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing, asynccontextmanager

from colony_core import clock
from colony_core.errors import Invalid
from colony_core.events import Missed
from colony_core.processes import LogLine, Page
from colony_core.views import LogLineView, LogPageView

from .colony import Colony

LogItems = tuple[LogLineView | Missed, ...]
MOST_LINES = 10_000
MILLISECOND = 0.001
"""The steps of the times in a log."""


async def log_page(
    colony: Colony,
    *,
    after: int = 0,
    limit: int = 1000,
    tail: int | None = None,
    services: frozenset[str] | None = None,
    since: float | None = None,
    until: float | None = None,
) -> LogPageView:
    """Lines behind number `after`, or the last `tail`; of those from `since` to `until` (seconds since 1970). At most 10,000 at once."""
    if not 0 < limit <= MOST_LINES or (tail is not None and not 0 <= tail <= MOST_LINES):
        raise Invalid(
            "too-many-lines",
            f"at most {MOST_LINES} lines are given at once",
            "ask again with ?after=<seq of the last line>",
        )
    log = colony.log
    start = after + 1 if since is None else max(after + 1, await log.number_at(since))
    end = None if until is None else await log.number_at(until + MILLISECOND)
    if tail is None:
        page = await log.read(start - 1, limit=limit, labels=services)
    else:
        page = await log.read(limit=tail, before=end, labels=services)
    missed = 0 if page.missed is None else page.missed.last - page.missed.first + 1
    lines = tuple(view_of(line) for line in page.lines if line.seq >= start and (end is None or line.seq < end))
    return LogPageView(lines=lines, first=page.first, last=page.last, missed=missed)


@asynccontextmanager
async def follow_log(
    colony: Colony, *, after: int | None = None, services: frozenset[str] | None = None
) -> AsyncIterator[AsyncIterator[LogLineView | Missed]]:
    """Every line behind number `after` (default: from now on) as it is written; holes come as Missed."""
    async with follow_log_pages(colony, after=after, services=services) as pages, aclosing(_each(pages)) as items:
        yield items


@asynccontextmanager
async def follow_log_pages(
    colony: Colony, *, after: int | None = None, services: frozenset[str] | None = None
) -> AsyncIterator[AsyncGenerator[LogItems, None]]:
    """As `follow_log`, as many at once as there are."""
    start = await colony.last_line() if after is None else after
    async with aclosing(_views(colony.log.pages(start, labels=services))) as views:
        yield views


async def _each(pages: AsyncGenerator[LogItems, None]) -> AsyncGenerator[LogLineView | Missed, None]:
    async for items in pages:
        for item in items:
            yield item


async def _views(pages: AsyncGenerator[Page, None]) -> AsyncGenerator[LogItems, None]:
    async with aclosing(pages):
        async for page in pages:
            hole = page.missed
            missed = () if hole is None else (Missed(first=hole.first, last=hole.last),)
            yield (*missed, *map(view_of, page.lines))


def view_of(line: LogLine) -> LogLineView:
    """What the outside sees of a line."""
    return LogLineView(
        seq=line.seq, at=clock.rfc3339(line.at), service=line.service, stream=line.stream, text=line.text
    )
