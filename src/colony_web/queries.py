"""Parts of queries that pages and streams share, and the services that a query names."""

from collections.abc import Mapping
from typing import Annotated, Any, Protocol

import attrs
from msgspec import Meta

from colony_core import clock
from colony_core.errors import Invalid, NotFound, did_you_mean
from colony_core.journal import KINDS, Selection
from colony_core.naming import RESERVED_SERVICES

from .house import House

MOST_SEQ = 2**63 - 1
Cursor = Annotated[int, Meta(ge=0, le=MOST_SEQ, description="a cursor: the `seq` of the last item that was seen")]
Count = Annotated[int, Meta(ge=1, le=10_000)]
Names = tuple[str, ...]
Moment = Annotated[str, Meta(description="RFC 3339, or seconds since 1970")]


LAST_EVENT_ID: Mapping[str, Any] = {
    "name": "Last-Event-ID",
    "in": "header",
    "required": False,
    "description": "The last `id:` that was seen; goes before what the query says.",
    "schema": {"type": "integer", "minimum": 0},
}


def last_event_id(text: str | None) -> int | None:
    """The number in a `Last-Event-ID`, None where there is none; raises Invalid."""
    if text is None or text == "":
        return None
    if not (text.isascii() and text.isdigit() and len(text) <= 18):
        raise Invalid("invalid-cursor", f"Last-Event-ID: {text[:80]!r} is no number", "send the last `id:`")
    return int(text)


@attrs.frozen(kw_only=True)
class FollowQuery:
    """From where (without `after` from now on), and which."""

    after: Cursor | None = None
    colony: Names = ()
    service: Names = ()
    kind: Names = ()


class EventChoice(Protocol):
    """The part of a query that says which events."""

    @property
    def colony(self) -> Names: ...
    @property
    def service(self) -> Names: ...
    @property
    def kind(self) -> Names: ...


def wanted_events(query: EventChoice) -> Selection:
    """Which events a query asks for; raises Invalid (`unknown-kind`) for a kind that there is not.

    A noun stands for all of its kinds: `service` for `service_state`. A colony need not exist: it may have.
    """
    kinds: set[str] = set()
    for kind in query.kind:
        found = {known for known in KINDS if known == kind or known.startswith(f"{kind}_")}
        if not found:
            nearest = did_you_mean(kind, sorted(KINDS))
            hint = f"did you mean {nearest}?" if nearest else f"known: {', '.join(sorted(KINDS))}"
            raise Invalid("unknown-kind", f"there are no events of the kind {kind[:80]!r}", hint)
        kinds |= found
    return Selection(colonies=frozenset(query.colony), services=frozenset(query.service), kinds=frozenset(kinds))


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
