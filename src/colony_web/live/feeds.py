"""Server-sent events of an agent's feed: `line` with the line's number as id, `end` before a clean end."""

from functools import partial

import attrs
import trio
from quart import Response, request

from colony_core import wire
from colony_core.access import LOOKING
from colony_web.house import House
from colony_web.queries import LAST_EVENT_ID, Count, Cursor, last_event_id
from colony_web.routes import Call, Route

from .stream import frame, streamed


@attrs.frozen(kw_only=True)
class FeedStreamQuery:
    """From where: behind `after`, or the last `tail` lines first; without either from now on."""

    after: Cursor | None = None
    tail: Count | None = None


async def stream_feed(house: House, call: Call) -> Response:
    """What the agent does, line by line, as server-sent events.

    Each `line` carries its number as id, so a client that comes back with `Last-Event-ID` goes on behind it; `end` comes last, when the
    daemon goes down or the colony is removed.
    """
    query: FeedStreamQuery = call.query
    ref = house.colony(call.path["ref"]).id
    last_seen = last_event_id(request.headers.get("Last-Event-ID"))
    after = query.after if last_seen is None else last_seen
    if after is None and query.tail is not None:
        lines = await house.sessions.page(ref, limit=min(query.tail, 1000))
        after = lines[0].seq - 1 if lines else 0
    if after is None:
        after = house.sessions.view(ref).last
    fill = partial(_lines, house, ref, after=after)
    return streamed(house, fill, ended="feed-ended", until=partial(house.removed, ref))


async def _lines(house: House, ref: str, send: trio.MemorySendChannel[bytes], *, after: int) -> None:
    async with house.sessions.follow(ref, after=after) as lines:
        async for line in lines:
            await send.send(frame("line", wire.dump(line), seq=line.seq))


ROUTES = (
    Route(
        method="GET",
        rule="/api/colonies/<ref>/feed/stream",
        handler=stream_feed,
        query=FeedStreamQuery,
        returns=str,
        media_type="text/event-stream",
        tag="sessions",
        roles=LOOKING,
        problems=(404,),
        parameters=(LAST_EVENT_ID,),
    ),
)
