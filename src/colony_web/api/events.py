"""What happened, a page at a time; `/ws` and `/api/events/stream` tell it as it happens."""

from contextlib import aclosing
from typing import Annotated

import attrs
import trio
from msgspec import Meta
from quart import Response

from colony_core.access import LOOKING
from colony_core.events import Event
from colony_core.journal import Entry, Selection
from colony_web.context import current_scope
from colony_web.drain import drained
from colony_web.house import House
from colony_web.pages import Limit, next_page
from colony_web.queries import Cursor, Names, wanted_events
from colony_web.rights import told_events
from colony_web.routes import Call, Route


@attrs.frozen(kw_only=True)
class EventsQuery:
    """Which events: those behind `after`, or the newest; with none yet, wait for one. A `kind` may be a noun: `service`, `colony`."""

    after: Cursor | None = None
    limit: Limit = 100
    wait_seconds: Annotated[float, Meta(ge=0, le=60)] = 0.0
    colony: Names = ()
    service: Names = ()
    kind: Names = ()


async def list_events(house: House, call: Call) -> Response:
    """Events behind `after` (default: the newest). A hole in what is still kept comes as an event of the type `missed`."""
    query: EventsQuery = call.query
    selection = told_events(house, call.identity, wanted_events(query))
    if query.after is None:
        return _told(await house.journal.newest(query.limit, selection=selection))
    after = house.journal.cursor(query.after)
    entries, after = await house.journal.page(after, limit=query.limit, selection=selection)
    if not entries and query.wait_seconds:
        with trio.move_on_after(query.wait_seconds):
            entries = await _next(house, after, selection)
    answer = _told(entries[: query.limit])
    if len(entries) >= query.limit:
        answer.headers.update(next_page(entries[query.limit - 1].seq))
    return answer


async def _next(house: House, after: int, selection: Selection) -> tuple[Entry, ...]:
    """The next wanted events; none where the server goes down first."""
    found: tuple[Entry, ...] = ()
    async with trio.open_nursery() as nursery:

        async def until_drained() -> None:
            await drained(house, current_scope())
            nursery.cancel_scope.cancel()

        nursery.start_soon(until_drained)
        async with aclosing(house.journal.listen(after, selection=selection)) as batches:  # type: ignore[type-var]
            found = await anext(batches)
        nursery.cancel_scope.cancel()
    return found


def _told(entries: tuple[Entry, ...]) -> Response:
    """A list of texts is a list as text: nothing is read and written again."""
    return Response(f"[{','.join(entry.text for entry in entries)}]", content_type="application/json")


ROUTES = (
    Route(
        method="GET",
        rule="/api/events",
        handler=list_events,
        query=EventsQuery,
        returns=tuple[Event, ...],
        paged=True,
        tag="events",
        roles=LOOKING,
        problems=(409,),
    ),
)
