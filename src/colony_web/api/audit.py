"""Every write that was asked for: who, from where, what, and how it ended."""

from typing import Annotated

import attrs
import trio
from msgspec import Meta

from colony_core import clock
from colony_core.access import CHANGING, AuditRecord
from colony_core.views import AuditView
from colony_web.context import current_scope
from colony_web.drain import drained
from colony_web.house import House
from colony_web.queries import Cursor
from colony_web.routes import Call, Route


@attrs.frozen(kw_only=True)
class AuditQuery:
    """Which entries: those behind `after`, or the newest; with none yet, wait for one."""

    after: Cursor | None = None
    limit: Annotated[int, Meta(ge=1, le=1000)] = 100
    wait_seconds: Annotated[float, Meta(ge=0, le=60)] = 0.0


async def list_audit(house: House, call: Call) -> tuple[AuditView, ...]:
    """Writes, done and refused, oldest first. The daemon's own user sees everybody's, others see their own."""
    query: AuditQuery = call.query
    person = None if call.identity.house else call.identity.person
    found = await house.audit.page(after=query.after, limit=query.limit, person=person)
    if not found and query.wait_seconds and query.after is not None:
        after = query.after
        with trio.move_on_after(query.wait_seconds):
            async with trio.open_nursery() as nursery:

                async def until_drained() -> None:
                    await drained(house, current_scope())
                    nursery.cancel_scope.cancel()

                nursery.start_soon(until_drained)
                found = await house.audit.next_page(after=after, limit=query.limit, person=person)
                nursery.cancel_scope.cancel()
    return tuple(_view(entry) for entry in found)


def _view(entry: AuditRecord) -> AuditView:
    return AuditView(**attrs.asdict(entry) | {"at": clock.rfc3339(entry.at)})


ROUTES = (
    Route(
        method="GET",
        rule="/api/audit",
        handler=list_audit,
        query=AuditQuery,
        returns=tuple[AuditView, ...],
        tag="audit",
        roles=CHANGING,
    ),
)
