"""Those who look at colonies and come and go: one behind the event socket, a log, a preview, a terminal, and one who asks again and again.

Each stays for a while and leaves in one of three ways: politely, by hanging up, or by a reset in the midst of an answer.
"""

import random
import socket
import struct
from collections import Counter
from collections.abc import Awaitable, Callable, Sequence

import attrs
import trio

from colony_core.errors import ColonyError
from colony_core.remote import Target
from colony_core.remote.streaming import open_events, open_terminal

LONGEST_STAY_SECONDS = 3.0
PAUSE_SECONDS = 0.2
UPGRADE = (
    "Upgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\n"
    "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n"
)
GONE = (OSError, trio.BrokenResourceError, trio.ClosedResourceError, ColonyError)


class RefusedError(Exception):
    """Another answer than what was asked for, by its status."""


@attrs.frozen
class Sights:
    """What there is to see. `terminals` are pairs of a colony and a terminal in it; `serving` colonies have a page."""

    target: Target
    preview_port: int
    colonies: Sequence[str]
    serving: Sequence[str]
    terminals: Sequence[tuple[str, str]]


async def look(kind: str, sights: Sights, dice: random.Random, seen: Counter[str]) -> None:
    """One viewer of a kind, who comes again and again until cancelled. Counted by kind: what was seen (`saw log`), and what was refused."""
    while True:
        try:
            with trio.move_on_after(dice.uniform(0.1, LONGEST_STAY_SECONDS)):
                await KINDS[kind](sights, dice, lambda: seen.update([f"saw {kind}"]))
        except* RefusedError as group:
            seen.update([f"{kind} refused with {group.exceptions[0]}"])
        except* GONE:  # a colony that was removed, a terminal whose colony restarted, a connection that was full
            seen.update([f"{kind} turned away"])
        await trio.sleep(dice.uniform(0, PAUSE_SECONDS))


async def _events(sights: Sights, dice: random.Random, saw: Callable[[], None]) -> None:
    if dice.random() < 0.5:
        await _raw(sights, dice, "/ws?after=0", UPGRADE, saw)
    async with open_events(sights.target) as events:
        async for _ in events:
            saw()


async def _log(sights: Sights, dice: random.Random, saw: Callable[[], None]) -> None:
    await _raw(sights, dice, f"/api/colonies/{dice.choice(sights.colonies)}/logs/stream?tail=20", "", saw)


async def _preview(sights: Sights, dice: random.Random, saw: Callable[[], None]) -> None:
    host = f"{dice.choice(sights.serving)}.colony.localhost:{sights.preview_port}"
    path = dice.choice(("/", "/drip"))
    await _stream(Target(host="127.0.0.1", port=sights.preview_port), dice, f"GET {path} HTTP/1.1\r\nHost: {host}", saw)


async def _terminal(sights: Sights, dice: random.Random, saw: Callable[[], None]) -> None:
    colony, terminal = dice.choice(sights.terminals)
    async with open_terminal(sights.target, colony, terminal) as session:
        while True:
            await session.type(b"x\r")
            await session.receive()
            saw()
            await trio.sleep(PAUSE_SECONDS)


async def _asking(sights: Sights, dice: random.Random, saw: Callable[[], None]) -> None:
    paths = ("/api/colonies", f"/api/colonies/{dice.choice(sights.colonies)}", "/api/usage", "/api/events?limit=50")
    while True:
        with trio.move_on_after(1):
            await _raw(sights, dice, dice.choice(paths), "", saw)
        await trio.sleep(PAUSE_SECONDS)


KINDS: dict[str, Callable[[Sights, random.Random, Callable[[], None]], Awaitable[None]]] = {
    "events": _events,
    "log": _log,
    "preview": _preview,
    "terminal": _terminal,
    "asking": _asking,
}


async def _raw(sights: Sights, dice: random.Random, path: str, more: str, saw: Callable[[], None]) -> None:
    head = f"GET {path} HTTP/1.1\r\nHost: {sights.target.authority}"
    for name, value in sights.target.headers.items():
        head += f"\r\n{name}: {value}"
    await _stream(sights.target, dice, f"{head}\r\n{more}".rstrip(), saw)


async def _stream(target: Target, dice: random.Random, head: str, saw: Callable[[], None]) -> None:
    """Asks once and reads whatever comes, as long as one stays."""
    stream = await trio.open_tcp_stream(target.host, target.port)
    try:
        await stream.send_all(f"{head}\r\n\r\n".encode())
        status = (await stream.receive_some(65536))[9:12].decode()
        if status not in ("101", "200"):
            raise RefusedError(status or "silence")
        saw()
        while await stream.receive_some(65536):
            saw()
    finally:
        if dice.random() < 0.5:
            stream.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        await trio.aclose_forcefully(stream)
