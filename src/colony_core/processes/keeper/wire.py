"""JSON lines and file descriptors on a Unix socket: one object per line, never blocking.

A request may carry descriptors (`"fds": n`); they travel beside its bytes (SCM_RIGHTS) and are handed over in order.
"""

import array
import json
import os
import socket
from collections import deque
from collections.abc import Callable
from typing import Any

MESSAGE_BYTES_MAX = 16 * 1024 * 1024
READ_BYTES = 256 * 1024
FDS_MAX = 16

Message = dict[str, Any]


class WireError(Exception):
    """The other side does not speak the protocol."""


class Connection:
    """One end of a line to a daemon; owns its socket and the descriptors that no request has claimed yet."""

    def __init__(self, sock: socket.socket) -> None:
        sock.setblocking(False)
        self.sock = sock
        self.greeted = False
        self._received = bytearray()
        self._outbox = bytearray()
        self._fds: deque[int] = deque()

    def receive(self, handle: Callable[[Message, tuple[int, ...]], None]) -> bool:
        """Reads once and hands each whole message to `handle`; False when the other side is gone."""
        try:
            data, ancillary, _, _ = self.sock.recvmsg(
                READ_BYTES, socket.CMSG_SPACE(FDS_MAX * 4), socket.MSG_CMSG_CLOEXEC
            )
        except BlockingIOError:
            return True
        except OSError:
            return False
        for level, kind, payload in ancillary:
            if level == socket.SOL_SOCKET and kind == socket.SCM_RIGHTS:
                fds = array.array("i")
                fds.frombytes(payload[: len(payload) - len(payload) % fds.itemsize])
                self._fds.extend(fds)
        if not data:
            return False
        self._received += data
        if len(self._received) > MESSAGE_BYTES_MAX:
            raise WireError("a message is too long")
        *lines, rest = self._received.split(b"\n") if b"\n" in data else (self._received,)
        self._received = bytearray(rest)
        for line in lines:
            message = _parse(bytes(line))
            handle(message, self._claim(message.get("fds", 0)))
        return True

    def send(self, message: Message) -> None:
        """Queues a message; what the socket does not take now goes with `flush`."""
        self._outbox += json.dumps(message, separators=(",", ":")).encode() + b"\n"
        self.flush()

    def flush(self) -> None:
        try:
            while self._outbox:
                del self._outbox[: self.sock.send(self._outbox)]
        except BlockingIOError:
            return
        except OSError:
            self._outbox.clear()  # the reading side will see that the line is gone

    @property
    def blocked(self) -> bool:
        """Whether something waits for the other side to read."""
        return bool(self._outbox)

    @property
    def dead(self) -> bool:
        """Whether the other side has closed and nothing of it is left to read."""
        try:
            return not self.sock.recv(1, socket.MSG_PEEK)
        except BlockingIOError:
            return False
        except OSError:
            return True

    def close(self) -> None:
        for fd in self._fds:
            os.close(fd)
        self._fds.clear()
        self.sock.close()

    def _claim(self, count: Any) -> tuple[int, ...]:
        if not isinstance(count, int) or not 0 <= count <= len(self._fds):
            raise WireError("a message names descriptors that did not come with it")
        return tuple(self._fds.popleft() for _ in range(count))


def _parse(line: bytes) -> Message:
    try:
        message = json.loads(line)
    except ValueError as error:
        raise WireError(f"not JSON: {error}") from error
    if not isinstance(message, dict):
        raise WireError("not an object")
    return message
