"""Every write that was asked for: who, from where, what, and how it ended."""

from typing import Annotated

import attrs
import trio
from msgspec import Meta

from colony_core import clock
from colony_core.access import CHANGING, AuditRecord
from colony_core.errors import NotAllowed
from colony_core.views import AuditView
from colony_web.context import current_scope
from colony_web.drain import drained
from colony_web.house import House
from colony_web.pages import Limit, next_page
from colony_web.queries import Cursor
from colony_web.routes import Call, Reply, Route


@attrs.frozen(kw_only=True)
class AuditQuery:
    """Which entries: those behind `after`, or the newest; with none yet, wait for one."""

    person: Annotated[str, Meta(description="only what this person did")] | None = None
    target: Annotated[str, Meta(description="only what was about this colony, or `key ID`")] | None = None
    after: Cursor | None = None
    limit: Limit = 100
    wait_seconds: Annotated[float, Meta(ge=0, le=60)] = 0.0


async def list_audit(house: House, call: Call) -> Reply:
    """Writes, done and refused, oldest first. The daemon's own user sees everybody's, others see their own."""
    query: AuditQuery = call.query
    if not call.identity.house and query.person not in (None, call.identity.person):
        raise NotAllowed("not-your-writes", "only the daemon's own user sees what others did", "leave person out")
    person = query.person if call.identity.house else call.identity.person
    found = await house.audit.page(after=query.after, limit=query.limit, person=person, target=query.target)
    if not found and query.wait_seconds and query.after is not None:
        after = query.after
        with trio.move_on_after(query.wait_seconds):
            async with trio.open_nursery() as nursery:

                async def until_drained() -> None:
                    await drained(house, current_scope())
                    nursery.cancel_scope.cancel()

                nursery.start_soon(until_drained)
                found = await house.audit.next_page(after=after, limit=query.limit, person=person, target=query.target)
                nursery.cancel_scope.cancel()
    more = query.after is not None and len(found) == query.limit
    return Reply(value=tuple(_view(entry) for entry in found), headers=next_page(found[-1].seq) if more else {})


def _view(entry: AuditRecord) -> AuditView:
    return AuditView(**attrs.asdict(entry) | {"at": clock.rfc3339(entry.at)})


ROUTES = (
    Route(
        method="GET",
        rule="/api/audit",
        handler=list_audit,
        query=AuditQuery,
        returns=tuple[AuditView, ...],
        paged=True,
        tag="audit",
        roles=CHANGING,
    ),
)
