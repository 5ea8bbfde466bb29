"""The keys to the API."""

import attrs

from colony_core.access import CHANGING, belongs_to
from colony_core.errors import NotAllowed, NotFound
from colony_core.views import NewToken, TokenView
from colony_web.context import note_target
from colony_web.house import House
from colony_web.pages import MOST, After, Limit, page
from colony_web.rights import colony_for
from colony_web.routes import Call, Reply, Route


@attrs.frozen(kw_only=True)
class TokensQuery:
    """Which keys."""

    person: str | None = None
    limit: Limit = MOST
    after: After | None = None


@attrs.frozen(kw_only=True)
class PersonQuery:
    """Whose keys."""

    person: str


async def list_tokens(house: House, call: Call) -> Reply:
    """The keys of whoever asks, without their secrets, the oldest first; for the daemon's own user everybody's, or one `person`'s."""
    query: TokensQuery = call.query
    found = (
        view
        for view in house.keys.list()
        if belongs_to(call.identity, view.person) and query.person in (None, view.person)
    )
    return page(found, lambda view: f"{view.created_at} {view.id}", after=query.after, limit=query.limit)


async def create_token(house: House, call: Call) -> Reply:
    """Makes a key. Its `token` is told this once: neither the store nor a repeated request holds it."""
    asked: NewToken = call.body
    person = call.identity.person if asked.person is None else asked.person
    if not belongs_to(call.identity, person):
        raise NotAllowed("not-your-key", f"only the daemon's own user makes keys for {person[:64]!r}", "leave it out")
    colony = colony_for(house, call.identity, asked.colony, change=True).id if asked.colony is not None else None
    view = await house.keys.mint(asked.name, asked.role, owner=person, seconds=asked.seconds, colony=colony)
    note_target(f"key {view.id}")
    return Reply(value=view, stored=attrs.evolve(view, token=None), headers={"Cache-Control": "no-store"})


async def revoke_token(house: House, call: Call) -> None:
    """Makes a key open nothing any more."""
    key_id = call.path["token_id"]
    if not any(view.id == key_id and belongs_to(call.identity, view.person) for view in house.keys.list()):
        raise NotFound("token-not-found", f"no key has the id {key_id[:80]!r}", "colony token ls shows the ids")
    note_target(f"key {key_id}")
    await house.keys.revoke(key_id)


async def revoke_tokens(house: House, call: Call) -> None:
    """Makes every key of a person open nothing any more, and ends what is open by them: the person is out."""
    query: PersonQuery = call.query
    if not belongs_to(call.identity, query.person):
        raise NotAllowed("not-your-key", "only the daemon's own user ends other people's keys", "colony token ls")
    note_target(f"person {query.person}"[:200])
    await house.keys.revoke_person(query.person)


ROUTES = (
    Route(
        method="GET",
        rule="/api/tokens",
        handler=list_tokens,
        query=TokensQuery,
        returns=tuple[TokenView, ...],
        paged=True,
        tag="tokens",
        roles=CHANGING,
    ),
    Route(
        method="POST",
        rule="/api/tokens",
        handler=create_token,
        body=NewToken,
        body_required=True,
        returns=TokenView,
        status=201,
        tag="tokens",
        problems=(404,),
        roles=CHANGING,
    ),
    Route(
        method="DELETE",
        rule="/api/tokens",
        handler=revoke_tokens,
        query=PersonQuery,
        returns=None,
        status=204,
        tag="tokens",
        problems=(404,),
        roles=CHANGING,
    ),
    Route(
        method="DELETE",
        rule="/api/tokens/<token_id>",
        handler=revoke_token,
        returns=None,
        status=204,
        tag="tokens",
        problems=(404,),
        roles=CHANGING,
    ),
)
