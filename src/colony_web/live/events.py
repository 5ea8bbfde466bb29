"""One WebSocket: everything that happens, from a sequence number on. One event, one text frame, one JSON object."""

from collections import OrderedDict
from contextlib import aclosing

import attrs
import msgspec
from quart import websocket

from colony_core import wire
from colony_core.events import Missed, Numbered
from colony_web.house import House
from colony_web.queries import Cursor
from colony_web.routes import read_query

from .sockets import closed_on_drain, discard_messages

KEPT_TEXTS = 2048


@attrs.frozen(kw_only=True)
class SocketQuery:
    """From where; without `after` from now on."""

    after: Cursor | None = None


class EventTexts:
    """Events as JSON text, each encoded once for all who listen."""

    def __init__(self) -> None:
        self._texts: OrderedDict[int, str] = OrderedDict()
        self.encoded = 0

    def text(self, item: Missed | Numbered) -> str:
        """The text frame of an event, or of a hole."""
        if isinstance(item, Numbered) and item.seq in self._texts:
            return self._texts[item.seq]
        text = msgspec.json.encode(wire.event_object(item)).decode()
        self.encoded += 1
        if isinstance(item, Numbered):
            self._texts[item.seq] = text
            while len(self._texts) > KEPT_TEXTS:
                self._texts.popitem(last=False)
        return text


async def follow_events(house: House, texts: EventTexts) -> None:
    """Sends every event behind `after`. Who reads too slowly is told `missed`, and nobody waits for him."""
    query: SocketQuery = read_query(websocket, SocketQuery)
    # Decided before the client is answered: what happens from then on is news to it.
    after = house.bus.last_seq if query.after is None else query.after
    await websocket.accept()
    async with closed_on_drain(house) as nursery:
        nursery.start_soon(discard_messages)
        async with aclosing(house.bus.listen(after)) as items:  # type: ignore[type-var]
            async for item in items:
                await websocket.send(texts.text(item))
