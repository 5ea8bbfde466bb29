"""The terminals of a colony: list, open, close. Their bytes go over a WebSocket (live/terminals.py)."""

import attrs

from colony_core.access import CHANGING, LOOKING
from colony_core.views import NewTerminal, TerminalView
from colony_web.context import note_command
from colony_web.house import House
from colony_web.pages import MOST, After, Limit, page
from colony_web.routes import Call, Reply, Route


@attrs.frozen(kw_only=True)
class TerminalsQuery:
    """Which page."""

    limit: Limit = MOST
    after: After | None = None


async def list_terminals(house: House, call: Call) -> Reply:
    """The terminals of a colony, the oldest first."""
    query: TerminalsQuery = call.query
    found = await house.terminals(call.path["ref"])
    return page(found, lambda view: f"{view.opened_at} {view.id}", after=query.after, limit=query.limit)


async def open_terminal(house: House, call: Call) -> Reply:
    """Opens a terminal in the colony's cell.

    It lives until its program ends, it is closed, nobody used it for too long, or the colony stops; the daemon may come and go.
    """
    asked: NewTerminal = call.body
    note_command(asked.command, {**house.variables(call.path["ref"]), **asked.env})
    view = await house.open_terminal(call.path["ref"], call.body, opened_by=call.identity.name)
    return Reply(value=view, headers={"Location": f"/api/colonies/{view.colony_id}/terminals/{view.id}"})


async def close_terminal(house: House, call: Call) -> None:
    """Hangs up on the terminal's program; answers when its whole tree is gone."""
    await house.close_terminal(call.path["ref"], call.path["terminal"])


ROUTES = (
    Route(
        method="GET",
        rule="/api/colonies/<ref>/terminals",
        handler=list_terminals,
        query=TerminalsQuery,
        returns=tuple[TerminalView, ...],
        paged=True,
        tag="terminals",
        roles=LOOKING,
        problems=(404,),
    ),
    Route(
        method="POST",
        rule="/api/colonies/<ref>/terminals",
        handler=open_terminal,
        body=NewTerminal,
        returns=TerminalView,
        status=201,
        tag="terminals",
        roles=CHANGING,
        problems=(404, 409, 429),
    ),
    Route(
        method="DELETE",
        rule="/api/colonies/<ref>/terminals/<terminal>",
        handler=close_terminal,
        returns=None,
        status=204,
        tag="terminals",
        roles=CHANGING,
        problems=(404,),
    ),
)
