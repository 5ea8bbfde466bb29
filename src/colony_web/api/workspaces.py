"""The work of a colony in its workspace: look at it, describe it, merge it, take it back, push it."""

from typing import Any

import attrs

from colony_core.access import CHANGING, LOOKING
from colony_core.views import (
    CommitView,
    DescribeRequest,
    DiffView,
    MergeRequest,
    MergeView,
    PushRequest,
    PushView,
    UndoRequest,
    UndoView,
)
from colony_web.house import House
from colony_web.pages import MOST, After, Limit, cut
from colony_web.routes import Call, Reply, Route

PATIENT_SECONDS = 300.0
"""A large repository takes its time."""
PUSH_SECONDS = 3600.0


@attrs.frozen(kw_only=True)
class HistoryQuery:
    """Which page."""

    limit: Limit = MOST
    after: After | None = None


async def show_diff(house: House, call: Call) -> DiffView:
    """What the colony changed, committed or not, since its work and its target parted."""
    return await house.workspaces.diff(call.path["ref"])


async def show_history(house: House, call: Call) -> Reply:
    """The commits of the colony's own, the newest first; what nobody has committed stands before them.

    Where the page's last commit is none of them any more (`commit-not-found`), begin again.
    """
    query: HistoryQuery = call.query
    found = await house.workspaces.history(call.path["ref"], after=query.after, limit=query.limit + 1)
    return cut(found, lambda commit: commit.id, limit=query.limit)


async def describe_change(house: House, call: Call) -> CommitView:
    """Gives the colony's newest change a message; what was not committed is by that."""
    return await house.workspaces.describe(call.path["ref"], call.body.message)


async def merge_colony(house: House, call: Call) -> MergeView:
    """Merges the colony's work into its target. With conflicts nothing moves, and the problem's details show them."""
    return await house.workspaces.merge(call.path["ref"], call.body)


async def undo_change(house: House, call: Call) -> UndoView:
    """Takes back what is not committed, else the last commit. The state before is kept under a ref."""
    return await house.workspaces.undo(call.path["ref"], call.body)


async def push_colony(house: House, call: Call) -> PushView:
    """Puts the colony's work onto a branch of the project's origin."""
    return await house.workspaces.push(call.path["ref"], call.body)


def _look(what: str, handler: Any, returns: Any, query: type | None = None) -> Route:
    return Route(
        method="GET",
        rule=f"/api/colonies/<ref>/{what}",
        handler=handler,
        query=query,
        returns=returns,
        paged=query is not None,
        tag="workspaces",
        roles=LOOKING,
        problems=(404, 409),
    )


def _change(
    verb: str, handler: Any, body: type, returns: Any, *, seconds: float = PATIENT_SECONDS, needed: bool = False
) -> Route:
    return Route(
        method="POST",
        rule=f"/api/colonies/<ref>/{verb}",
        handler=handler,
        body=body,
        body_required=needed,
        returns=returns,
        seconds=seconds,
        later=verb,
        tag="workspaces",
        roles=CHANGING,
        problems=(404, 409, 422, 503),
    )


ROUTES = (
    _look("diff", show_diff, DiffView),
    _look("history", show_history, tuple[CommitView, ...], HistoryQuery),
    _change("describe", describe_change, DescribeRequest, CommitView, needed=True),
    _change("merge", merge_colony, MergeRequest, MergeView),
    _change("undo", undo_change, UndoRequest, UndoView),
    _change("push", push_colony, PushRequest, PushView, seconds=PUSH_SECONDS),
)
