"""Server-sent events of a colony's log: `line` with the line's number as id, `missed` for a hole, `end` before a clean end."""

from functools import partial

import attrs
import trio
from quart import Response, request

from colony_core import wire
from colony_core.access import LOOKING
from colony_core.events import Missed
from colony_core.views import LogLineView
from colony_web.house import House
from colony_web.queries import LAST_EVENT_ID, Count, Cursor, last_event_id, wanted_services
from colony_web.routes import Call, Route

from .stream import frame, send_joined, streamed


@attrs.frozen(kw_only=True)
class StreamQuery:
    """From where, and of which services; without `after` or `tail` from now on."""

    after: Cursor | None = None
    tail: Count | None = None
    service: tuple[str, ...] = ()


async def stream_log(house: House, call: Call) -> Response:
    """The log as it is written, as server-sent events.

    Each `line` carries its number as id, so a client that comes back with `Last-Event-ID` goes on behind it; `missed` tells of lines
    that are gone; `end` comes last, when the daemon goes down or the colony is removed.
    """
    query: StreamQuery = call.query
    ref = house.colony(call.path["ref"]).id
    services = wanted_services(house, ref, query.service)
    last_seen = last_event_id(request.headers.get("Last-Event-ID"))
    after = query.after if last_seen is None else last_seen
    tail = query.tail if last_seen is None and query.after is None else None
    if after is None and tail is None:
        # Decided before the client is answered: what is written from then on is news to it.
        after = (await house.log_page(ref, tail=1)).last
    fill = partial(_lines, house, ref, after=after, tail=tail, services=services)
    return streamed(house, fill, ended="log-ended", until=partial(house.removed, ref))


async def _lines(
    house: House,
    ref: str,
    send: trio.MemorySendChannel[bytes],
    *,
    after: int | None,
    tail: int | None,
    services: frozenset[str] | None,
) -> None:
    if tail is not None:
        page = await house.log_page(ref, tail=tail, services=services)
        await send_joined(map(_item, page.lines), send)
        after = max(page.last, page.lines[-1].seq if page.lines else 0)
    async with house.follow_log_pages(ref, after=after, services=services) as pages:
        async for items in pages:
            await send_joined(map(_item, items), send)


def _item(item: LogLineView | Missed) -> bytes:
    if isinstance(item, Missed):
        count = item.last - item.first + 1
        return frame("missed", {"first": item.first, "last": item.last, "count": count}, seq=item.last)
    return b"id: %d\nevent: line\ndata: %b\n\n" % (item.seq, wire.dump_flat(item))


ROUTES = (
    Route(
        method="GET",
        rule="/api/colonies/<ref>/logs/stream",
        handler=stream_log,
        query=StreamQuery,
        returns=str,
        media_type="text/event-stream",
        tag="logs",
        roles=LOOKING,
        problems=(404,),
        parameters=(LAST_EVENT_ID,),
    ),
)
