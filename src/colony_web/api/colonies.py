"""Colonies: list, create, show, start, stop, restart, apply, remove."""

from typing import Literal
from urllib.parse import quote

import attrs
from quart import request

from colony_core.access import CHANGING, LOOKING
from colony_core.errors import Invalid
from colony_core.views import ApplyRequest, ApplyView, ColonyView, NewColony, StopRequest
from colony_web.conditions import opaque
from colony_web.context import note_target
from colony_web.house import House
from colony_web.pages import MOST, After, Limit, NamePattern, Owner, named, page
from colony_web.rights import visible
from colony_web.routes import Call, Reply, Route

State = Literal["spawning", "provisioning", "building", "running", "stopping", "stopped", "failed"]


@attrs.frozen(kw_only=True)
class ListQuery:
    """Which colonies."""

    state: State | None = None
    owner: Owner | None = None
    name: NamePattern | None = None
    limit: Limit = MOST
    after: After | None = None


@attrs.frozen(kw_only=True)
class RemoveQuery:
    """What becomes of its workspace: it stays, or, with the colony's own name as `discard`, goes with all that is in it."""

    keep_workspace: bool = False
    discard: str | None = None


async def list_colonies(house: House, call: Call) -> Reply:
    """Colonies, by name: all that the caller sees, or those of a state, an owner, a name."""
    query: ListQuery = call.query
    wanted = (
        view
        for view in house.colonies()
        if query.state in (None, view.state)
        and query.owner in (None, view.owner)
        and named(query.name, view.name)
        and visible(house, call.identity, view)
    )
    return page(wanted, lambda view: view.name, after=query.after, limit=query.limit)


async def create_colony(house: House, call: Call) -> Reply:
    """Makes a colony from a folder or of a repository. Answers once it is recorded; events tell the rest. A dry run makes nothing."""
    note_target(call.body.name[:200])
    view = await house.spawn(call.body, owner=call.identity.person)
    if call.body.dry_run:
        return Reply(value=view, status=200)
    return Reply(value=view, headers={"Location": f"{request.root_path}/api/colonies/{quote(view.id)}"})


async def show_colony(house: House, call: Call) -> ColonyView:
    """One colony, by name or id."""
    return house.colony(call.path["ref"])


async def start_colony(house: House, call: Call) -> ColonyView:
    """Wants the colony running. Answers at once; events tell of its progress."""
    return await house.start(call.path["ref"])


async def stop_colony(house: House, call: Call) -> ColonyView:
    """Wants the colony stopped. `grace` replaces every service's time between SIGTERM and SIGKILL."""
    return await house.stop(call.path["ref"], grace=checked_grace(call.body))


async def restart_colony(house: House, call: Call) -> ColonyView:
    """Stops the colony and starts it again."""
    return await house.restart(call.path["ref"], grace=checked_grace(call.body))


async def apply_colony(house: House, call: Call) -> Reply:
    """Reads an edited manifest, tells the difference, and restarts only what changed; with `dry_run` it only tells.

    The answer's `version` names the difference: as `If-Match` it makes sure that what is applied is what was looked at, although
    somebody else may edit the manifest or apply it meanwhile.
    """
    body: ApplyRequest = call.body
    return Reply(value=await house.apply(call.path["ref"], dry_run=body.dry_run, versions=opaque(call.condition)))


async def remove_colony(house: House, call: Call) -> None:
    """Stops the colony and removes its record, walls, log and workspace. Answers when it is gone.

    Refused (`work-would-be-lost`) where the workspace holds work that exists nowhere else, unless that is said to go.
    """
    query: RemoveQuery = call.query
    await house.remove(call.path["ref"], keep_workspace=query.keep_workspace, discard=query.discard)


def checked_grace(body: StopRequest) -> float | None:
    """The wanted grace in seconds; raises Invalid where it is no length of time."""
    if body.grace is not None and not 0 <= body.grace <= 86_400:
        raise Invalid("invalid-grace", f"a grace of {body.grace} s is no length of time", "0 to 86400 seconds")
    return body.grace


def _change(verb: str, handler: object, body: type | None = None) -> Route:
    return Route(
        method="POST",
        rule=f"/api/colonies/<ref>/{verb}",
        handler=handler,  # type: ignore[arg-type]
        body=body,
        returns=ColonyView,
        status=202,
        tag="colonies",
        roles=CHANGING,
        problems=(404, 409),
    )


ROUTES = (
    Route(
        method="GET",
        rule="/api/colonies",
        handler=list_colonies,
        query=ListQuery,
        returns=tuple[ColonyView, ...],
        paged=True,
        tag="colonies",
        roles=LOOKING,
    ),
    Route(
        method="POST",
        rule="/api/colonies",
        handler=create_colony,
        body=NewColony,
        body_required=True,
        returns=ColonyView,
        status=201,
        also=(200,),
        tag="colonies",
        roles=CHANGING,
        problems=(404,),
    ),
    Route(
        method="GET",
        rule="/api/colonies/<ref>",
        handler=show_colony,
        returns=ColonyView,
        tag="colonies",
        roles=LOOKING,
        problems=(404,),
    ),
    Route(
        method="DELETE",
        rule="/api/colonies/<ref>",
        handler=remove_colony,
        query=RemoveQuery,
        returns=None,
        status=204,
        tag="colonies",
        roles=CHANGING,
        problems=(404, 409),
    ),
    _change("start", start_colony),
    _change("stop", stop_colony, StopRequest),
    _change("restart", restart_colony, StopRequest),
    Route(
        method="POST",
        rule="/api/colonies/<ref>/apply",
        handler=apply_colony,
        body=ApplyRequest,
        returns=ApplyView,
        versioned=True,
        tag="colonies",
        roles=CHANGING,
        problems=(404, 409, 422),
    ),
)
