"""The services of a colony: list, start, stop, restart."""

from colony_core.access import LOOKING, OWN
from colony_core.views import ServiceView, StopRequest
from colony_web.house import House
from colony_web.routes import Call, Route

from .colonies import checked_grace


async def list_services(house: House, call: Call) -> tuple[ServiceView, ...]:
    """The services of a colony, in the order of its manifest."""
    return house.services(call.path["ref"])


async def start_service(house: House, call: Call) -> ServiceView:
    """Wants the service running. Answers at once; events tell of its progress."""
    return await house.service(call.path["ref"], call.path["service"], "start")


async def stop_service(house: House, call: Call) -> ServiceView:
    """Wants the service stopped, and leaves its siblings alone."""
    grace = checked_grace(call.body)
    return await house.service(call.path["ref"], call.path["service"], "stop", grace=grace)


async def restart_service(house: House, call: Call) -> ServiceView:
    """Stops the service and starts it again."""
    grace = checked_grace(call.body)
    return await house.service(call.path["ref"], call.path["service"], "restart", grace=grace)


def _change(verb: str, handler: object, body: type | None = None) -> Route:
    return Route(
        method="POST",
        rule=f"/api/colonies/<ref>/services/<service>/{verb}",
        handler=handler,  # type: ignore[arg-type]
        body=body,
        returns=ServiceView,
        status=202,
        tag="services",
        roles=OWN,
        problems=(404, 409),
    )


ROUTES = (
    Route(
        method="GET",
        rule="/api/colonies/<ref>/services",
        handler=list_services,
        returns=tuple[ServiceView, ...],
        tag="services",
        roles=LOOKING,
        problems=(404,),
    ),
    _change("start", start_service),
    _change("stop", stop_service, StopRequest),
    _change("restart", restart_service, StopRequest),
)
