"""What colonies use of the machine."""

from colony_core.views import UsageView
from colony_web.house import House
from colony_web.routes import Call, Route


async def list_usage(house: House, call: Call) -> tuple[UsageView, ...]:
    """What every colony uses: counters, whose difference between two answers is a rate."""
    return await house.usage()


ROUTES = (Route(method="GET", rule="/api/usage", handler=list_usage, returns=tuple[UsageView, ...], tag="usage"),)
