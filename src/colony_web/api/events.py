"""What happened, a page at a time; `/ws` tells it as it happens."""

from contextlib import aclosing
from typing import Annotated, Any

import attrs
import trio
from msgspec import Meta

from colony_core import wire
from colony_core.events import Missed, Numbered
from colony_web.context import current_scope
from colony_web.drain import drained
from colony_web.house import House
from colony_web.queries import Cursor
from colony_web.routes import Call, Route


@attrs.frozen(kw_only=True)
class EventsQuery:
    """Which events: those behind `after`, or the newest; with none yet, wait for one."""

    after: Cursor | None = None
    limit: Annotated[int, Meta(ge=1, le=1000)] = 100
    wait_seconds: Annotated[float, Meta(ge=0, le=60)] = 0.0


async def list_events(house: House, call: Call) -> list[dict[str, Any]]:
    """Events behind `after` (default: the newest). A hole in what is still kept comes as an event of the type `missed`."""
    query: EventsQuery = call.query
    if query.after is None:
        _, kept = house.bus.after(0)
        return [wire.event_object(item) for item in kept[-query.limit :]]
    if query.wait_seconds and house.bus.last_seq <= query.after:
        with trio.move_on_after(query.wait_seconds):
            await _news(house, query.after)
    missed, kept = house.bus.after(query.after)
    items: list[Missed | Numbered] = [missed, *kept] if missed else [*kept]
    return [wire.event_object(item) for item in items[: query.limit]]


async def _news(house: House, after: int) -> None:
    async with trio.open_nursery() as nursery:

        async def until_drained() -> None:
            await drained(house, current_scope())
            nursery.cancel_scope.cancel()

        nursery.start_soon(until_drained)
        async with aclosing(house.bus.listen(after)) as events:  # type: ignore[type-var]
            await anext(events)
        nursery.cancel_scope.cancel()


ROUTES = (
    Route(
        method="GET",
        rule="/api/events",
        handler=list_events,
        query=EventsQuery,
        returns=list[dict[str, Any]],
        tag="events",
    ),
)
