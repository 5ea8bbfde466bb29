"""Where a preview request goes, or the page that says why it goes nowhere."""

from functools import partial

import trio

from colony_core.errors import NotFound
from colony_core.events import CookieRefused
from colony_core.routing import Refusal, Target, Upstream

from .colonies import Colonies
from .colony import Colony
from .service import Service
from .state import ColonyState, ServiceState, is_starting

SOON_SECONDS = 1
MOST_NAME_LETTERS = 80
_COMING = frozenset({ServiceState.WAITING, ServiceState.STARTING, ServiceState.RESTARTING})


def resolve(colonies: Colonies, target: Target) -> Upstream | Refusal:
    """The upstream of a request, or its refusal; looks at memory only. Connections are made in the colony's own namespace."""
    colony = colonies.named(target.colony)
    if colony is None:
        return Refusal(404, "No such colony", f"There is no colony {target.colony} here.", "colony ls")
    if colony.cell is None:
        return _down(colony)
    try:
        service = _service(colony, target)
    except NotFound as error:
        return Refusal(404, "No such service", error.message, error.hint)
    if service is not None and service.state is not ServiceState.READY:
        return _not_ready(colony, service)
    port = target.port if service is None else service.spec.port
    if port is None:
        return Refusal(
            404,
            "Nothing to show",
            f"Colony {colony.name} has no service with a port.",
            "give a service a port in colony.toml",
        )
    rewrite = service is not None and service.spec.preview.host == "rewrite"
    return Upstream(
        partial(_connect, colony, port),
        f"{colony.name}:{port}",
        f"{colony.id} {colony.cell.inode}",
        port=port,
        comes_back=service is not None,
        asked_as=b"localhost:%d" % port if rewrite else None,
        complain=partial(_complain, colony, service.name if service else str(port)),
    )


def _complain(colony: Colony, source: str, cookie: str) -> None:
    """Tells once, until the colony starts anew, that a cookie of a service was left out."""
    if source in colony.cookies_told:
        return
    colony.cookies_told.add(source)
    name, domain = cookie[:MOST_NAME_LETTERS], colony.means.config.routing.domain
    colony.means.bus.publish(
        CookieRefused(
            colony=colony.name,
            colony_id=colony.id,
            owner=colony.record.owner,
            service=source,
            cookie=name,
            message=f"{name} was not passed on: its Domain is {domain} or above, so that every colony would get it; "
            f"leave Domain away, or name {colony.name}.{domain}",
        )
    )


async def _connect(colony: Colony, port: int) -> trio.abc.Stream:
    if colony.cell is None:
        raise ConnectionRefusedError(f"colony {colony.name} has just been stopped")
    return await colony.cell.connect(port)


def _service(colony: Colony, target: Target) -> Service | None:
    """The service that is meant; None for a port that belongs to none of them."""
    if target.service is not None:
        return colony.service(target.service)
    with_port = [service for service in colony.services.values() if service.spec.port is not None]
    if target.port is None:
        return with_port[0] if with_port else None
    return next((service for service in with_port if service.spec.port == target.port), None)


def _down(colony: Colony) -> Refusal:
    if is_starting(colony.state):
        return Refusal(503, "Starting", f"Colony {colony.name} is {colony.state.value}.", "", retry_after=SOON_SECONDS)
    what = f"Colony {colony.name} is {colony.state.value}" + (
        f": {colony.reason}" if colony.state is ColonyState.FAILED else ""
    )
    return Refusal(503, "Not running", f"{what}.", f"colony start {colony.name}")


def _not_ready(colony: Colony, service: Service) -> Refusal:
    what = f"Service {service.name} of {colony.name} is {service.state.value}"
    if service.state in _COMING:
        return Refusal(503, "Starting", f"{what}.", "", retry_after=SOON_SECONDS)
    why = f": {service.reason}" if service.reason else ""
    return Refusal(503, "Not running", f"{what}{why}.", f"colony service start {colony.name} {service.name}")
