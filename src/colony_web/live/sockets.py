"""What the WebSockets share: telling of an end in the close frame's own numbers, and of errors as problems."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import msgspec
import trio
from quart import websocket

from colony_core.errors import ColonyError, Invalid, first_of
from colony_core.processes import checked_size
from colony_core.views import TerminalSize
from colony_web.audit import CLOSE_CODES
from colony_web.context import current_request_id, current_scope
from colony_web.drain import drained
from colony_web.house import House
from colony_web.problems import problem_of
from colony_web.scope import CODE

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


async def send_json(value: object) -> None:
    """One text frame."""
    await websocket.send(msgspec.json.encode(value).decode())


async def tell_error(group: BaseExceptionGroup[ColonyError]) -> None:
    """Tells the first error of a group as `{"error": problem}` and closes."""
    error = first_of(group)
    problem = problem_of(error, request_id=current_request_id())
    current_scope()[CODE] = error.code
    await send_json({"error": problem.document})
    await websocket.close(CLOSE_CODES + problem.status, error.code)


def wanted_size(said: Any) -> TerminalSize:
    """The size in `{"resize": {"rows": 24, "columns": 80}}`; raises Invalid for any other message."""
    size = said.get("resize") if isinstance(said, dict) and len(said) == 1 else None
    if not isinstance(size, dict) or size.keys() != {"rows", "columns"}:
        raise Invalid("unknown-message", "this text frame means nothing here", "see /docs for what can be said")
    return checked_size(TerminalSize(size["rows"], size["columns"]))
