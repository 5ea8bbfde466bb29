"""What colonies use of the machine."""

from colony_core.access import PEOPLE
from colony_core.views import UsageView
from colony_web.house import House
from colony_web.rights import visible
from colony_web.routes import Call, Route


async def list_usage(house: House, call: Call) -> tuple[UsageView, ...]:
    """What every colony uses: counters, whose difference between two answers is a rate."""
    shown = {view.id for view in house.colonies() if visible(house, call.identity, view)}
    return tuple(view for view in await house.usage() if view.colony_id in shown)


ROUTES = (
    Route(
        method="GET", rule="/api/usage", handler=list_usage, returns=tuple[UsageView, ...], tag="usage", roles=PEOPLE
    ),
)
