"""The kinds of coding agents on this machine."""

import os

from colony_core.access import PEOPLE
from colony_core.views import BackendView
from colony_web.house import House
from colony_web.routes import Call, Route


async def list_backends(house: House, call: Call) -> tuple[BackendView, ...]:
    """Asks every kind of coding agent whether it can work here, and says which one works where nobody names one. Takes seconds."""
    return await house.sessions.backends(os.environ)


ROUTES = (
    Route(
        method="GET",
        rule="/api/backends",
        handler=list_backends,
        returns=tuple[BackendView, ...],
        tag="sessions",
        roles=PEOPLE,
    ),
)
