"""A terminal over a WebSocket: bytes are binary frames both ways, everything else is text, one JSON object a frame.

The server begins with `{"at": place, "missed": bytes, "restore": text}`: where its next byte stands, what is gone before it, and what
brings a fresh screen into the terminal's modes; the same comes again where a slow client has to jump. `{"size": {"rows", "columns"}}`
tells the terminal's size, `{"exit": code, "why": text}` its end. The client tells with `{"ack": place}` how far it has shown the bytes:
the server is never more than 256 KiB ahead of that. `{"resize": {"rows", "columns"}}` says how large the client's screen is. When the
socket goes the terminal stays; whoever comes again with `after` goes on behind that place.
"""

from typing import Annotated, Any

import attrs
import trio
from msgspec import Meta
from quart import websocket

from colony_core import wire
from colony_core.access import CHANGING, LOOKING
from colony_core.errors import ColonyError, Invalid
from colony_core.processes import View
from colony_core.views import TerminalEnd, TerminalPlace, TerminalSize
from colony_web.context import current_identity, note_target
from colony_web.house import House
from colony_web.queries import Cursor
from colony_web.rights import colony_for, require_role
from colony_web.routes import read_query

from .sockets import closed_on_drain, send_json, tell_error, wanted_size

WINDOW_BYTES = 256 * 1024
PIECE_BYTES = 64 * 1024
"""Of output the keeper gives at once, and of input a client may."""
WAITING_INPUTS = 16
"""Frames of input that wait for a program that does not read, before acknowledgements behind them wait as well."""


Side = Annotated[int, Meta(ge=1, le=4096)]


@attrs.frozen(kw_only=True)
class TerminalQuery:
    """From which place on, without `after` from the oldest byte that is kept; the size of the screen; whether it only looks."""

    after: Cursor | None = None
    rows: Side | None = None
    columns: Side | None = None
    read_only: bool = False


class Window:
    """How far the client may be behind what was sent to it."""

    def __init__(self) -> None:
        self._sent = 0
        self._acknowledged = 0
        self._moved = trio.Event()

    async def wait_open(self) -> None:
        """Returns when one more piece may be sent."""
        while self._sent + PIECE_BYTES - self._acknowledged > WINDOW_BYTES:
            await self._moved.wait()

    def sent(self, count: int) -> None:
        self._sent += count

    def jump(self, place: int) -> None:
        """What was sent before a jump need not be acknowledged any more."""
        self._sent = self._acknowledged = place

    def acknowledge(self, place: Any) -> None:
        """Raises Invalid for a place that was not sent."""
        if type(place) is not int or place > self._sent:
            raise Invalid("invalid-ack", f"{place!r} was not sent", 'send {"ack": place} with what was shown')
        self._acknowledged = max(self._acknowledged, place)
        moved, self._moved = self._moved, trio.Event()
        moved.set()


async def show_terminal(house: House, ref: str, terminal: str) -> None:
    """Shows one terminal to one socket."""
    query: TerminalQuery = read_query(websocket.args, TerminalQuery)
    identity = current_identity()
    require_role(identity, LOOKING if query.read_only else CHANGING)
    colony = colony_for(house, identity, ref, change=not query.read_only)
    note_target(colony.name)
    async with house.view_terminal(colony.id, terminal, after=query.after, size=_size(query)) as view:
        await websocket.accept()
        window = Window()
        try:
            async with closed_on_drain(house) as nursery:
                typed, typing = trio.open_memory_channel[bytes | TerminalSize](WAITING_INPUTS)
                nursery.start_soon(_type, view, typing)
                nursery.start_soon(_listen, window, typed, query)
                await _show(view, window)
        except* ColonyError as group:
            await tell_error(group)


def _size(query: TerminalQuery) -> TerminalSize | None:
    if query.rows is None or query.columns is None:
        if query.rows is not query.columns:
            raise Invalid("invalid-query", "rows and columns come together", "give both, or none")
        return None
    if query.read_only:
        raise Invalid("invalid-query", "who only looks has no say in the size", "leave rows and columns away")
    return TerminalSize(query.rows, query.columns)


async def _show(view: View, window: Window) -> None:
    """Until the terminal's end."""
    while True:
        await window.wait_open()
        match await view.receive():
            case bytes() as data:
                window.sent(len(data))
                await websocket.send(data)
            case TerminalPlace() as place:
                window.jump(place.at)
                await send_json(attrs.asdict(place))
            case TerminalSize() as size:
                await send_json({"size": attrs.asdict(size)})
            case TerminalEnd() as end:
                await send_json({"exit": end.code, "why": end.why})
                return


async def _listen(window: Window, typed: trio.MemorySendChannel[bytes | TerminalSize], query: TerminalQuery) -> None:
    while True:
        message: Any = await websocket.receive()
        if isinstance(message, str):
            said = wire.parse_json(message)
            if isinstance(said, dict) and said.keys() == {"ack"}:
                window.acknowledge(said["ack"])
                continue
            size = wanted_size(said)
            if not query.read_only:
                await typed.send(size)
        elif query.read_only:
            raise Invalid("read-only", "this socket only looks", "open it without read_only")
        elif len(message) > PIECE_BYTES:
            raise Invalid("input-too-long", f"{len(message)} bytes at once", f"send at most {PIECE_BYTES} in a frame")
        elif message:
            await typed.send(message)


async def _type(view: View, typing: trio.MemoryReceiveChannel[bytes | TerminalSize]) -> None:
    async for each in typing:
        await (view.resize(each) if isinstance(each, TerminalSize) else view.type(each))
