"""The agents at work in colonies: look, instruct, go on, interrupt, answer what they ask, read their feeds."""

from typing import Annotated, Literal

import attrs
from msgspec import Meta

from colony_core.access import CHANGING, LOOKING
from colony_core.views import AgentView, ApprovalView, Decision, FeedLineView, NewInstruction, ReceiptView
from colony_web.house import House
from colony_web.pages import MOST, After, Limit, NamePattern, Owner, cut, named, next_page, page
from colony_web.queries import Cursor
from colony_web.rights import visible
from colony_web.routes import Call, Reply, Route

State = Literal["idle", "working", "waiting", "done", "failed"]
Decided = Literal["open", "allowed", "denied", "void"]


@attrs.frozen(kw_only=True)
class FeedQuery:
    """Which lines: those behind `after`, or the newest."""

    after: Cursor | None = None
    limit: Limit = 200


@attrs.frozen(kw_only=True)
class SessionsQuery:
    """Which agents: in a state, of a person's colonies, of the colonies of a name."""

    state: State | None = None
    owner: Owner | None = None
    name: NamePattern | None = None
    limit: Limit = MOST
    after: After | None = None


@attrs.frozen(kw_only=True)
class ApprovalsQuery:
    """Which questions."""

    decision: Annotated[Decided, Meta(description="only those so decided; `open`: not yet")] | None = None
    limit: Limit = 100
    after: After | None = None


async def list_sessions(house: House, call: Call) -> Reply:
    """The agent of every colony, by the colony's name: of all that the caller sees, or those in a state, of an owner, of a name."""
    query: SessionsQuery = call.query
    wanted = {
        view.id
        for view in house.colonies()
        if query.owner in (None, view.owner) and named(query.name, view.name) and visible(house, call.identity, view)
    }
    found = (view for view in house.sessions.views() if view.colony_id in wanted and query.state in (None, view.state))
    return page(found, lambda view: view.colony, after=query.after, limit=query.limit)


async def show_agent(house: House, call: Call) -> AgentView:
    """A colony's agent: what it is at and why, what it asks, what it has used."""
    return house.sessions.view(call.path["ref"])


async def instruct_agent(house: House, call: Call) -> AgentView:
    """Begins a new conversation with the colony's agent. Answers once the instruction is written down; events tell what comes of it."""
    return await house.sessions.instruct(call.path["ref"], call.body, follow_up=False, by=call.identity.name)


async def continue_agent(house: House, call: Call) -> AgentView:
    """Goes on with the conversation there is. Answers once the instruction is written down."""
    return await house.sessions.instruct(call.path["ref"], call.body, follow_up=True, by=call.identity.name)


async def interrupt_agent(house: House, call: Call) -> AgentView:
    """Asks the agent to stop. Answers at once; it is idle when it has stopped."""
    return await house.sessions.interrupt(call.path["ref"], by=call.identity.name)


async def show_receipt(house: House, call: Call) -> ReceiptView:
    """What the daemon's own look at the agent's last finished work has shown, and whether the workspace is still as it was then."""
    return await house.sessions.receipt(call.path["ref"])


async def list_approvals(house: House, call: Call) -> Reply:
    """What the agent has asked, answered or not, the newest first."""
    query: ApprovalsQuery = call.query
    found = await house.sessions.approvals(
        call.path["ref"], after=query.after, decision=query.decision, limit=query.limit + 1
    )
    return cut(found, lambda question: question.id, limit=query.limit)


async def decide_approval(house: House, call: Call) -> ApprovalView:
    """Answers a question of the agent's."""
    return await house.sessions.decide(call.path["ref"], call.path["approval"], call.body, by=call.identity.name)


async def read_feed(house: House, call: Call) -> Reply:
    """Lines of what the agent did, the oldest first; the `seq` of the last is the cursor for more."""
    query: FeedQuery = call.query
    lines = await house.sessions.page(call.path["ref"], after=query.after, limit=query.limit)
    more = query.after is not None and len(lines) == query.limit
    return Reply(value=lines, headers=next_page(lines[-1].seq) if more else {})


def _ask(verb: str, handler: object, body: type | None) -> Route:
    return Route(
        method="POST",
        rule=f"/api/colonies/<ref>/{verb}",
        handler=handler,  # type: ignore[arg-type]
        body=body,
        body_required=body is not None,
        returns=AgentView,
        status=202,
        tag="sessions",
        roles=CHANGING,
        problems=(404, 409, 422, 429) if body is not None else (404, 409),
    )


def _look(rule: str, handler: object, returns: object, query: type | None = None) -> Route:
    return Route(
        method="GET",
        rule=rule,
        handler=handler,  # type: ignore[arg-type]
        query=query,
        returns=returns,
        paged=query is not None,
        tag="sessions",
        roles=LOOKING,
        problems=(404,) if "<ref>" in rule else (),
    )


ROUTES = (
    _look("/api/sessions", list_sessions, tuple[AgentView, ...], SessionsQuery),
    _look("/api/colonies/<ref>/agent", show_agent, AgentView),
    _look("/api/colonies/<ref>/receipt", show_receipt, ReceiptView),
    _look("/api/colonies/<ref>/approvals", list_approvals, tuple[ApprovalView, ...], ApprovalsQuery),
    _look("/api/colonies/<ref>/feed", read_feed, tuple[FeedLineView, ...], FeedQuery),
    _ask("instruct", instruct_agent, NewInstruction),
    _ask("continue", continue_agent, NewInstruction),
    _ask("interrupt", interrupt_agent, None),
    Route(
        method="POST",
        rule="/api/colonies/<ref>/approvals/<approval>",
        handler=decide_approval,
        body=Decision,
        body_required=True,
        returns=ApprovalView,
        tag="sessions",
        roles=CHANGING,
        problems=(404, 409),
    ),
)
