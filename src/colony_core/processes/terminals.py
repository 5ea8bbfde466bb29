"""A daemon's view of a terminal that the keeper holds: its bytes as they come, what is typed, its size."""

import json
import socket
from typing import Any

import attrs
import trio

from colony_core.errors import Invalid, LimitReached
from colony_core.views import TerminalEnd, TerminalPlace, TerminalSize

from .keeper.terminals import Size, open_pair, set_size
from .keeper.viewers import FRAME, FRAME_BYTES
from .launch import KeeperLost, User

READ_BYTES = 256 * 1024


def open_terminal(size: TerminalSize, user: User | None) -> tuple[int, int]:
    """A terminal of the caller's, who closes both ends; the second is for the program of `user`. Raises Invalid, LimitReached."""
    try:
        return open_pair(_size(size), None if user is None else user.uid)
    except OSError as error:
        raise LimitReached("out-of-terminals", f"there is no terminal left: {error}", "close some") from error


def resize_terminal(fd: int, size: TerminalSize) -> None:
    """Gives a terminal of the caller's another size; raises Invalid."""
    set_size(fd, _size(size))


def checked_size(size: TerminalSize) -> TerminalSize:
    """The size itself; raises Invalid for what is none."""
    try:
        return TerminalSize(*Size.of((size.rows, size.columns)))
    except ValueError as error:
        raise Invalid("bad-terminal", str(error), "1 to 4096 of each") from error


def _size(size: TerminalSize) -> Size:
    return Size(*attrs.astuple(checked_size(size)))


@attrs.frozen
class TerminalState:
    """Where a terminal stands: its size, its viewers, seconds since the last input or output, the places that are kept."""

    rows: int
    columns: int
    viewers: int
    idle: float
    start: int
    end: int


Seen = bytes | TerminalPlace | TerminalSize | TerminalEnd


class View:
    """Somebody's view of a terminal. Who does not read misses what the keeper cannot keep any longer, and is told so."""

    def __init__(self, sock: socket.socket) -> None:
        self._stream = trio.SocketStream(trio.socket.from_stdlib_socket(sock))
        self._received = bytearray()
        self._sending = trio.Lock()

    async def receive(self) -> Seen:
        """The next output (never empty), or what is to be known of it; first of all a place. Cancelling loses nothing.

        Raises KeeperLost when the keeper is gone.
        """
        while (seen := self._next()) is None:
            try:
                data = await self._stream.receive_some(READ_BYTES)
            except (trio.BrokenResourceError, trio.ClosedResourceError):
                data = b""
            if not data:
                raise KeeperLost("keeper-lost", "the keeper that held the terminal is gone", "open another terminal")
            self._received += data
        await trio.lowlevel.checkpoint_if_cancelled()
        return seen

    async def type(self, data: bytes) -> None:
        """Input for the program; waits while it does not read. What comes after the end goes nowhere. Cancelled, the view is over."""
        for start in range(0, len(data), FRAME_BYTES):
            await self._send(b"i", data[start : start + FRAME_BYTES])

    async def resize(self, size: TerminalSize) -> None:
        """This view's size, which counts from now on until another view resizes or types."""
        await self._send(b"j", json.dumps({"size": [size.rows, size.columns]}).encode())

    async def aclose(self) -> None:
        """Stops looking; the terminal goes on."""
        await trio.aclose_forcefully(self._stream)

    def _next(self) -> Seen | None:
        """The first whole frame that was received."""
        if len(self._received) < FRAME.size:
            return None
        kind, length = FRAME.unpack_from(self._received)
        if len(self._received) < FRAME.size + length:
            return None
        payload = bytes(self._received[FRAME.size : FRAME.size + length])
        del self._received[: FRAME.size + length]
        return payload if kind == b"o" else _told(json.loads(payload))

    async def _send(self, kind: bytes, payload: bytes) -> None:
        """Half a frame would garble all that follow: nothing does."""
        async with self._sending:
            try:
                await self._stream.send_all(FRAME.pack(kind, len(payload)) + payload)
            except (trio.BrokenResourceError, trio.ClosedResourceError):
                return  # who receives is told
            except trio.Cancelled:
                self._stream.socket.close()
                raise


def _told(message: dict[str, Any]) -> Seen:
    if "at" in message:
        return TerminalPlace(message["at"], message["missed"], message["restore"])
    if "size" in message:
        return TerminalSize(*message["size"])
    return TerminalEnd(message["exit"], message["why"])
