"""`/ws` at the level of ASGI, before Quart: thousands of events a second for hundreds of readers.

A reader's task takes what is pending as frames that are shared with all others, and writes them at once. Our server takes them as they
are (`colony.frames` among the scope's extensions); any other gets one message for each event.
"""

from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any
from urllib.parse import parse_qsl

import attrs
import trio
from werkzeug.datastructures import MultiDict

from colony_core.access import LOOKING
from colony_core.journal import Selection
from colony_web.drain import drained
from colony_web.frames import PAGE_ENTRIES, SharedPages, websocket_frame
from colony_web.house import House
from colony_web.queries import FollowQuery, wanted_events
from colony_web.rights import require_role, told_events
from colony_web.routes import read_query
from colony_web.scope import FRAMES, IDENTITY, ROUTE

from .sockets import GOING_AWAY

PATH = "/ws"
Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Any]]
Send = Callable[[Any], Awaitable[None]]


@attrs.frozen
class Wish:
    """What a reader wants, and from where."""

    after: int
    selection: Selection


class EventSockets:
    """The readers of one app."""

    def __init__(self, house: House) -> None:
        self._house = house
        self._pages = SharedPages(house, lambda entry: websocket_frame(entry.text))

    def wish(self, scope: Scope) -> Wish | None:
        """What is asked for, None where it is not for `/ws`. Raises a ColonyError where it may not be had."""
        path = str(scope["path"]).removeprefix(scope.get("root_path") or "")
        if path != PATH or scope["type"] != "websocket":
            return None
        scope[ROUTE] = PATH
        identity = scope[IDENTITY]
        require_role(identity, LOOKING)
        asked = parse_qsl(scope["query_string"].decode("utf-8", "replace"), keep_blank_values=True)
        query: FollowQuery = read_query(MultiDict(asked), FollowQuery)
        selection = told_events(self._house, identity, wanted_events(query))
        # Decided before the client is answered: what happens from then on is news to it.
        return Wish(self._house.journal.cursor(query.after), selection)

    async def tell(self, wish: Wish, scope: Scope, receive: Receive, send: Send) -> None:
        """Sends every wanted event until the client goes or the house does, which it is told as 1001. Nobody waits for a slow reader."""
        await send({"type": "websocket.accept"})
        draining = False
        async with trio.open_nursery() as nursery:

            async def until_gone() -> None:
                while (await receive())["type"] != "websocket.disconnect":
                    pass
                nursery.cancel_scope.cancel()

            async def until_drained() -> None:
                nonlocal draining
                await drained(self._house, scope)
                draining = True
                nursery.cancel_scope.cancel()

            nursery.start_soon(until_gone)
            nursery.start_soon(until_drained)
            nursery.start_soon(
                self._frames if FRAMES in (scope.get("extensions") or {}) else self._messages, wish, send
            )
        if draining:
            await send({"type": "websocket.close", "code": GOING_AWAY, "reason": "the daemon is going down"})

    async def _frames(self, wish: Wish, send: Send) -> None:
        after = wish.after
        while True:
            data, after = await self._pages.behind(after, wish.selection)
            await send({"type": FRAMES, "data": data})

    async def _messages(self, wish: Wish, send: Send) -> None:
        journal, after = self._house.journal, wish.after
        while True:
            await journal.beyond(after)
            entries, after = await journal.page(after, limit=PAGE_ENTRIES, selection=wish.selection)
            for entry in entries:
                await send({"type": "websocket.send", "text": entry.text})
