"""How what never ends by itself learns that it must end now."""

from collections.abc import Mapping
from typing import Any

import trio

from .auth import DRAINING
from .house import House


async def drained(house: House, scope: Mapping[str, Any]) -> None:
    """Returns when the server that carries this request is going down, or its house."""
    server: trio.Event | None = (scope.get("state") or {}).get(DRAINING)
    if server is None:
        await house.shutdown_requested.wait()
        return
    async with trio.open_nursery() as nursery:

        async def either(event: trio.Event) -> None:
            await event.wait()
            nursery.cancel_scope.cancel()

        nursery.start_soon(either, server)
        nursery.start_soon(either, house.shutdown_requested)
