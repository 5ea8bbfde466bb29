"""The keys to the API."""

import attrs

from colony_core.views import NewToken, TokenView
from colony_web.house import House
from colony_web.routes import Call, Reply, Route


async def list_tokens(house: House, call: Call) -> tuple[TokenView, ...]:
    """All keys, without their secrets."""
    return house.keys.list()


async def create_token(house: House, call: Call) -> Reply:
    """Makes a key. Its `token` is told this once: neither the store nor a repeated request holds it."""
    request: NewToken = call.body
    view = await house.keys.mint(request.name, request.role, owner=call.identity.name)
    return Reply(value=view, stored=attrs.evolve(view, token=None), headers={"Cache-Control": "no-store"})


async def revoke_token(house: House, call: Call) -> None:
    """Makes a key open nothing any more."""
    await house.keys.revoke(call.path["token_id"])


ROUTES = (
    Route(method="GET", rule="/api/tokens", handler=list_tokens, returns=tuple[TokenView, ...], tag="tokens"),
    Route(
        method="POST",
        rule="/api/tokens",
        handler=create_token,
        body=NewToken,
        body_required=True,
        returns=TokenView,
        status=201,
        tag="tokens",
    ),
    Route(
        method="DELETE",
        rule="/api/tokens/<token_id>",
        handler=revoke_token,
        returns=None,
        status=204,
        tag="tokens",
        problems=(404,),
    ),
)
