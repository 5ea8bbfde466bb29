"""Requests and news between a daemon and its keeper: JSON lines over a Unix socket, one reply per request."""

import array
import json
import socket
from collections.abc import Callable, Mapping
from typing import Any

import trio

from colony_core import errors
from colony_core.errors import ColonyError, TooSlow

from .launch import KeeperLost

READ_BYTES = 256 * 1024
REPLY_SECONDS = 30.0

_KINDS: Mapping[str, type[ColonyError]] = {
    kind.__name__: kind
    for kind in (
        errors.NotFound,
        errors.AlreadyExists,
        errors.WrongState,
        errors.Invalid,
        errors.NotAllowed,
        errors.LimitReached,
        errors.Broken,
    )
}


class Line:
    """One conversation; `listen` runs for as long as it lasts, and gives news that nobody asked for to `told`."""

    def __init__(self, sock: trio.socket.SocketType, told: Callable[[dict[str, Any]], None]) -> None:
        self.lost = trio.Event()
        self._sock = sock
        self._told = told
        self._sending = trio.Lock()
        self._replies: dict[int, dict[str, Any]] = {}
        self._replied: dict[int, trio.Event] = {}
        self._last_id = 0

    async def ask(self, message: dict[str, Any], fds: tuple[int, ...] = ()) -> Any:
        """The answer to a request; raises what the keeper refused it with, TooSlow, or KeeperLost."""
        self.check()
        self._last_id += 1
        number = self._last_id
        self._replied[number] = trio.Event()
        try:
            with trio.fail_after(REPLY_SECONDS):
                await self._send(json.dumps({**message, "id": number}).encode() + b"\n", fds)
                await self._replied[number].wait()
        except trio.TooSlowError:
            what = f"the keeper did not answer {message['op']!r} in {REPLY_SECONDS:.0f} s"
            raise TooSlow("keeper-silent", what, "look at the load of this machine and its disk") from None
        finally:
            del self._replied[number]
            reply = self._replies.pop(number, None)
        if reply is None:
            raise _loss()
        if (error := reply.get("error")) is not None:
            raise _KINDS.get(error["kind"], errors.Broken)(error["code"], error["message"], error["hint"])
        return reply["ok"]

    def check(self) -> None:
        """Raises KeeperLost when the conversation is over."""
        if self.lost.is_set():
            raise _loss()

    async def listen(self) -> None:
        """Takes what the keeper says until it hangs up."""
        received = bytearray()
        try:
            while data := await self._sock.recv(READ_BYTES):
                received += data
                if b"\n" in data:
                    *lines, rest = received.split(b"\n")
                    received = bytearray(rest)
                    for line in lines:
                        self._take(json.loads(line))
        except OSError:
            return
        finally:
            self.lost.set()
            for event in self._replied.values():
                event.set()

    async def _send(self, data: bytes, fds: tuple[int, ...]) -> None:
        """A message is sent whole or not at all: half of one would garble all that follow."""
        async with self._sending:
            with trio.CancelScope(shield=True):
                try:
                    sent = 0
                    if fds:
                        rights = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", fds))]
                        sent = await self._sock.sendmsg([data], rights)
                    while sent < len(data):
                        sent += await self._sock.send(data[sent:])
                except OSError as error:
                    raise _loss() from error

    def _take(self, message: dict[str, Any]) -> None:
        number = message.get("id")
        if number is None:
            self._told(message)
        elif number in self._replied:
            self._replies[number] = message
            self._replied[number].set()


def _loss() -> KeeperLost:
    return KeeperLost("keeper-lost", "the keeper died or closed the line", "open a keeper again")
