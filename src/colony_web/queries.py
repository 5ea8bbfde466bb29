"""Parts of queries that pages and streams share, and the services that a query names."""

from typing import Annotated

from msgspec import Meta

from colony_core import clock
from colony_core.errors import Invalid, NotFound, did_you_mean
from colony_core.naming import RESERVED_SERVICES

from .house import House

Cursor = Annotated[int, Meta(ge=0, description="a cursor: the `seq` of the last item that was seen")]
Count = Annotated[int, Meta(ge=1, le=10_000)]
Moment = Annotated[str, Meta(description="RFC 3339, or seconds since 1970")]


def wanted_services(house: House, ref: str, names: tuple[str, ...]) -> frozenset[str] | None:
    """The services to show (None: all); raises NotFound for one that the colony does not have."""
    known = [*(view.name for view in house.services(ref)), *sorted(RESERVED_SERVICES)]
    for name in names:
        if name not in known:
            nearest = did_you_mean(name, known)
            raise NotFound(
                "service-not-found",
                f"colony {ref} has no service {name[:80]!r}",
                f"did you mean {nearest}?" if nearest else f"it has: {', '.join(known)}",
            )
    return frozenset(names) or None


def moment(name: str, text: str | None) -> float | None:
    """Seconds since 1970 of a query's moment; raises Invalid."""
    if text is None:
        return None
    try:
        return float(text) if text.replace(".", "", 1).isdigit() else clock.parse_rfc3339(text)
    except ValueError as error:
        raise Invalid(
            "invalid-query", f"{name}: {text[:80]!r} is no moment", "RFC 3339, such as 2026-01-31T08:15:00Z"
        ) from error
