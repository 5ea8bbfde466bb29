"""What colonies use of the machine."""

import attrs

from colony_core.access import PEOPLE
from colony_core.views import UsageView
from colony_web.house import House
from colony_web.pages import MOST, After, Limit, page
from colony_web.rights import visible
from colony_web.routes import Call, Reply, Route


@attrs.frozen(kw_only=True)
class UsageQuery:
    """Which page."""

    limit: Limit = MOST
    after: After | None = None


async def list_usage(house: House, call: Call) -> Reply:
    """What every colony uses: counters, whose difference between two answers is a rate."""
    query: UsageQuery = call.query
    shown = {view.id for view in house.colonies() if visible(house, call.identity, view)}
    wanted = (view for view in await house.usage() if view.colony_id in shown)
    return page(wanted, lambda view: view.colony, after=query.after, limit=query.limit)


ROUTES = (
    Route(
        method="GET",
        rule="/api/usage",
        handler=list_usage,
        query=UsageQuery,
        returns=tuple[UsageView, ...],
        paged=True,
        tag="usage",
        roles=PEOPLE,
    ),
)
