"""Everything that happens, from a number on: as a WebSocket (one event, one text frame, one JSON object) and as server-sent events.

An event was made text once, when it was kept. Who reads slowly goes on from the store; what is no longer there is told as `missed`.
"""

from contextlib import aclosing
from functools import partial

import attrs
import trio
from quart import Response, request, websocket

from colony_core.access import LOOKING
from colony_core.journal import Entry, Selection
from colony_web.context import current_identity
from colony_web.house import House
from colony_web.queries import LAST_EVENT_ID, Cursor, Names, last_event_id, wanted_events
from colony_web.rights import require_role, told_events
from colony_web.routes import Call, Route, read_query

from .sockets import closed_on_drain, discard_messages
from .stream import streamed, text_frame


@attrs.frozen(kw_only=True)
class FollowQuery:
    """From where (without `after` from now on), and which."""

    after: Cursor | None = None
    colony: Names = ()
    service: Names = ()
    kind: Names = ()


async def follow_events(house: House) -> None:
    """Sends every wanted event behind `after`. Nobody waits for a slow reader."""
    require_role(current_identity(), LOOKING)
    query: FollowQuery = read_query(websocket, FollowQuery)
    selection = told_events(house, current_identity(), wanted_events(query))
    # Decided before the client is answered: what happens from then on is news to it.
    after = house.journal.cursor(query.after)
    await websocket.accept()
    async with closed_on_drain(house) as nursery:
        nursery.start_soon(discard_messages)
        async with aclosing(house.journal.listen(after, selection=selection)) as batches:  # type: ignore[type-var]
            async for batch in batches:
                for entry in batch:
                    await websocket.send(entry.text)


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
            for entry in batch:
                await send.send(_frame(entry))


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
