"""What the WebSockets share: telling of an end in the close frame's own numbers."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import trio
from quart import websocket

from colony_web.context import current_scope
from colony_web.drain import drained
from colony_web.house import House

GOING_AWAY = 1001


@asynccontextmanager
async def closed_on_drain(house: House) -> AsyncIterator[trio.Nursery]:
    """A nursery for one WebSocket's tasks; when the server goes down they are cancelled and the client is told 1001."""
    gone = False
    scope = current_scope()
    async with trio.open_nursery() as nursery:

        async def until_drained() -> None:
            nonlocal gone
            await drained(house, scope)
            gone = True
            nursery.cancel_scope.cancel()

        nursery.start_soon(until_drained)
        yield nursery
        nursery.cancel_scope.cancel()
    if gone:
        await websocket.close(GOING_AWAY, "the daemon is going down")


async def discard_messages() -> None:
    """Reads and forgets what the client says, so that its close is always seen."""
    while True:
        await websocket.receive()
