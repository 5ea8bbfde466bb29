"""A colony's log, a page at a time; `logs/stream` tells it as it is written."""

import attrs

from colony_core.access import LOOKING
from colony_core.views import LogPageView
from colony_web.house import House
from colony_web.pages import next_page
from colony_web.queries import Count, Cursor, Moment, moment, wanted_services
from colony_web.routes import Call, Reply, Route


@attrs.frozen(kw_only=True)
class LogQuery:
    """Which lines."""

    after: Cursor = 0
    limit: Count = 1000
    tail: Count | None = None
    service: tuple[str, ...] = ()
    since: Moment | None = None
    until: Moment | None = None


async def read_log(house: House, call: Call) -> Reply:
    """Lines of a colony's log behind `after`, or the last `tail`; of some services, of some time."""
    query: LogQuery = call.query
    ref = call.path["ref"]
    found = await house.log_page(
        ref,
        after=query.after,
        limit=query.limit,
        tail=query.tail,
        services=wanted_services(house, ref, query.service),
        since=moment("since", query.since),
        until=moment("until", query.until),
    )
    more = query.tail is None and found.lines and found.lines[-1].seq < found.last
    return Reply(value=found, headers=next_page(found.lines[-1].seq) if more else {})


ROUTES = (
    Route(
        method="GET",
        rule="/api/colonies/<ref>/logs",
        handler=read_log,
        query=LogQuery,
        returns=LogPageView,
        paged=True,
        tag="logs",
        roles=LOOKING,
        problems=(404,),
    ),
)
