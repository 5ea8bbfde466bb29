"""Those who look at a terminal: a socket each, frames on it, a place in the scrollback."""

import json
import select
import socket
import struct
from typing import Any

from .terminals import READ_BYTES, Loop, Size, Terminal

FRAME_BYTES = 64 * 1024
FRAME = struct.Struct("!cI")
"""Kind and length before each frame: `o` output, `i` input, `j` a JSON object."""


class Viewer:
    """Somebody who looks at a terminal; owns its socket."""

    def __init__(
        self, sock: socket.socket, terminal: Terminal, *, after: int | None, size: Size | None, loop: Loop
    ) -> None:
        sock.setblocking(False)
        self.size = size
        self._sock = sock
        self._terminal = terminal
        self._loop = loop
        self._outbox = bytearray()
        self._received = bytearray()
        self._size_told: Size | None = None
        self._end_told = False
        self._at = 0
        missed = self._begin(after)
        loop.watch(sock.fileno(), self._on_ready)
        terminal.add(self)
        terminal.come_forward(self, redraw=missed and size is not None)
        self.pump()

    def pump(self) -> None:
        """Sends on as far as the socket takes it."""
        while self._flush():
            scrollback = self._terminal.scrollback
            if self._at < scrollback.start:
                self._begin(self._at)
            elif self._size_told != self._terminal.size:
                self._size_told = self._terminal.size
                self._tell({"size": list(self._size_told)})
            elif data := scrollback.read(self._at, FRAME_BYTES):
                self._outbox += FRAME.pack(b"o", len(data)) + data
                self._at += len(data)
            elif self._terminal.end_message is not None and not self._end_told:
                self._end_told = True
                self._tell(self._terminal.end_message)
            else:
                break
        if self._end_told and not self._outbox:
            self.close()
        else:
            self.watch()

    def watch(self) -> None:
        """Waits for what makes sense now."""
        if self._sock.fileno() >= 0:
            mask = 0 if self._terminal.clogged else select.EPOLLIN
            self._loop.change_watch(self._sock.fileno(), mask | (select.EPOLLOUT if self._outbox else 0))

    def close(self) -> None:
        if self._sock.fileno() >= 0:
            self._loop.unwatch(self._sock.fileno())
            self._sock.close()
            self._terminal.leave(self)

    def _begin(self, after: int | None) -> bool:
        """Takes a place and tells it; whether something was missed."""
        begin = self._terminal.scrollback.begin(after)
        self._at = begin.at
        self._tell({"at": begin.at, "missed": begin.missed, "restore": begin.restore.decode("ascii")})
        return begin.missed > 0

    def _tell(self, message: dict[str, Any]) -> None:
        data = json.dumps(message).encode()
        self._outbox += FRAME.pack(b"j", len(data)) + data

    def _flush(self) -> bool:
        """Whether nothing is left to send."""
        if self._sock.fileno() < 0:
            return False
        try:
            while self._outbox:
                del self._outbox[: self._sock.send(self._outbox)]
        except BlockingIOError:
            return False
        except OSError:
            self.close()
            return False
        return True

    def _on_ready(self, mask: int) -> None:
        gone = bool(mask & (select.EPOLLHUP | select.EPOLLERR))
        if mask & select.EPOLLIN and not self._terminal.clogged:
            try:
                gone = not self._receive()
            except (ValueError, KeyError, TypeError):
                gone = True
        if gone:
            self.close()
        elif mask & select.EPOLLOUT:
            self.pump()

    def _receive(self) -> bool:
        """Takes whole frames; False when the other side is gone. Raises ValueError and the like for what is no frame."""
        try:
            data = self._sock.recv(READ_BYTES)
        except BlockingIOError:
            return True
        except OSError:
            return False
        self._received += data
        while len(self._received) >= FRAME.size and self._sock.fileno() >= 0:
            kind, length = FRAME.unpack_from(self._received)
            if length > FRAME_BYTES:
                raise ValueError("a frame is too long")
            if len(self._received) < FRAME.size + length:
                break
            payload = bytes(self._received[FRAME.size : FRAME.size + length])
            del self._received[: FRAME.size + length]
            if kind == b"i":
                self._terminal.type(self, payload)
            else:
                self.size = Size.of(json.loads(payload)["size"])
                self._terminal.come_forward(self)
        return bool(data)
