"""Everything that happens, from a number on, as server-sent events. An event was made text once, when it was kept."""

from contextlib import aclosing
from functools import partial

import trio
from quart import Response, request

from colony_core.access import LOOKING
from colony_core.journal import Entry, Selection
from colony_web.house import House
from colony_web.queries import LAST_EVENT_ID, FollowQuery, last_event_id, wanted_events
from colony_web.rights import told_events
from colony_web.routes import Call, Route

from .stream import send_joined, streamed, text_frame


async def stream_events(house: House, call: Call) -> Response:
    """Events as they happen, as server-sent events.

    Each `event` carries its number as id, so a client that comes back with `Last-Event-ID` goes on behind it; `missed` tells of events
    that are gone; `end` comes last, when the daemon goes down.
    """
    query: FollowQuery = call.query
    selection = told_events(house, call.identity, wanted_events(query))
    last_seen = last_event_id(request.headers.get("Last-Event-ID"))
    after = house.journal.cursor(query.after if last_seen is None else last_seen)
    return streamed(house, partial(_events, house, after, selection), ended="log-ended")


async def _events(house: House, after: int, selection: Selection, send: trio.MemorySendChannel[bytes]) -> None:
    async with aclosing(house.journal.listen(after, selection=selection)) as batches:  # type: ignore[type-var]
        async for batch in batches:
            await send_joined(map(_frame, batch), send)


def _frame(entry: Entry) -> bytes:
    return text_frame("missed" if entry.kind == "missed" else "event", entry.text, seq=entry.seq)


ROUTES = (
    Route(
        method="GET",
        rule="/api/events/stream",
        handler=stream_events,
        query=FollowQuery,
        returns=str,
        media_type="text/event-stream",
        tag="events",
        roles=LOOKING,
        problems=(409,),
        parameters=(LAST_EVENT_ID,),
    ),
)
