"""The daemon itself."""

from typing import Any

import attrs

from colony_core.access import ALL_ROLES, CHANGING, PEOPLE
from colony_core.views import ReloadView, ShutdownRequest, SystemView
from colony_web.house import House
from colony_web.rights import visible
from colony_web.routes import Accepted, Call, Route


@attrs.frozen(kw_only=True)
class TreeView:
    """The supervision tree: `text` for people, `tree` for programs."""

    text: str
    tree: dict[str, Any]


async def show_system(house: House, call: Call) -> SystemView:
    """Who the daemon is, where it listens and how it isolates; `colonies` counts those that the caller sees."""
    seen = sum(visible(house, call.identity, view) for view in house.colonies())
    return attrs.evolve(house.system(), colonies=seen)


async def show_tree(house: House, call: Call) -> TreeView:
    """The supervision tree: who watches whom, and how often anything was restarted."""
    return TreeView(text=house.tree_text(), tree=house.tree())


async def reload(house: House, call: Call) -> ReloadView:
    """Reads the daemon's settings again. Those that are wrong are refused whole, and the old ones stay in force."""
    return await house.reload()


async def shut_down(house: House, call: Call) -> Accepted:
    """Asks the daemon to end. With `colonies` everything stops; without, services go on and the next daemon finds them."""
    request: ShutdownRequest = call.body
    await house.shutdown(colonies=request.colonies)
    return Accepted()


ROUTES = (
    Route(method="GET", rule="/api/system", handler=show_system, returns=SystemView, tag="system", roles=ALL_ROLES),
    Route(
        method="GET",
        rule="/api/system/tree",
        handler=show_tree,
        returns=TreeView,
        tag="system",
        roles=PEOPLE,
        house=True,
    ),
    Route(
        method="POST",
        rule="/api/system/reload",
        handler=reload,
        returns=ReloadView,
        tag="system",
        problems=(409, 422),
        roles=CHANGING,
        house=True,
    ),
    Route(
        method="POST",
        rule="/api/system/shutdown",
        handler=shut_down,
        body=ShutdownRequest,
        returns=Accepted,
        status=202,
        tag="system",
        roles=CHANGING,
        house=True,
    ),
)
