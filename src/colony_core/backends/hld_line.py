"""Talks to HumanLayer's daemon over its Unix socket: one connection per question, and one that only listens.

The daemon serves a connection strictly in order, and one that hangs up changes nothing: so no question waits for another, and one that is
given up leaves no half line behind.
"""

from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any

import attrs
import trio

from colony_core.errors import Broken, TooSlow, Unreachable

from .jsonrpc import line_of, result_of
from .lines import JsonLines, Skipped
from .loose import as_dict, as_text

CALL_SECONDS = 30.0
CONNECT_SECONDS = 5.0
ACKNOWLEDGE_SECONDS = 5.0
SILENCE_SECONDS = 75.0
"""The daemon gives a sign of life each 30 s."""
REQUEST_BYTES = 10 * 2**20
"""A longer line makes the daemon hang up without a word."""
EVENTS = ("conversation_updated", "session_status_changed", "new_approval", "approval_resolved")
START_HINT = "make hld-start, or colony backend hld start"

Connect = Callable[[], Awaitable[trio.abc.Stream]]


@attrs.frozen(kw_only=True)
class HldPlace:
    """Where an instance of the daemon lives."""

    socket: Path
    database: Path
    http_port: int
    folder: Path
    """For the programs that its agents are started by, and its log: its user's own, wherever the socket is."""


def hld_place(environment: Mapping[str, str]) -> HldPlace:
    """Colony's own instance, which disturbs no other of the user; HumanLayer's variables move it. What is no port is passed over."""
    home = Path(environment.get("HOME") or "/")
    own = home / ".humanlayer/colony"

    def path(variable: str, name: str) -> Path:
        given = environment.get(variable) or str(own / name)
        return home / given[2:] if given.startswith("~/") else Path(given)

    port = environment.get("HUMANLAYER_DAEMON_HTTP_PORT", "")
    return HldPlace(
        socket=path("HUMANLAYER_DAEMON_SOCKET", "daemon.sock"),
        database=path("HUMANLAYER_DATABASE_PATH", "daemon.db"),
        http_port=int(port) if port.isascii() and port.isdigit() and int(port) < 2**16 else 7779,
        folder=own,
    )


class HldLine:
    """The daemon at a socket."""

    def __init__(self, socket: Path, connect: Connect | None = None) -> None:
        self.socket = socket
        self._open = connect or self._open_socket

    async def call(self, method: str, seconds: float = CALL_SECONDS, /, **params: Any) -> dict[str, Any]:
        """The answer to a question; parameters that are None are left away.

        Raises RpcError, Unreachable (`hld-not-running`, `hld-lost`), TooSlow (`hld-silent`), Broken (`hld-garbled`).
        """
        given = {name: value for name, value in params.items() if value is not None}
        line = line_of({"id": 1, "method": method, "params": given})
        if len(line) > REQUEST_BYTES:
            raise Broken("hld-garbled", f"{method} would be longer than hld reads", "shorten the instruction")
        try:
            with trio.fail_after(seconds):
                stream = await self._connected()
                try:
                    await stream.send_all(line)
                    return result_of(await self._answer(stream, method))
                finally:
                    await trio.aclose_forcefully(stream)
        except trio.BrokenResourceError as error:
            raise self._lost(method) from error
        except trio.TooSlowError:
            raise TooSlow("hld-silent", f"hld did not answer {method} in {seconds:.0f} s", "look at its log") from None

    @asynccontextmanager
    async def events(self) -> AsyncIterator[AsyncIterator[dict[str, Any]]]:
        """Subscribes: what the daemon tells from now on, as `{"type": …, "data": …}`. It drops what is not read in time, without a word.

        Entering and reading raise as `call`; a silence that is too long counts as lost.
        """
        stream = await self._connected()
        try:
            # The stream must stay open in both directions: its end ends the subscription.
            with suppress(trio.BrokenResourceError):
                await stream.send_all(
                    line_of({"id": 1, "method": "Subscribe", "params": {"event_types": list(EVENTS)}})
                )
            lines = JsonLines(stream)
            first = await self._next(lines, ACKNOWLEDGE_SECONDS)
            if not result_of(first).get("subscription_id"):
                raise Broken("hld-garbled", "hld did not take our subscription", "update hld")
            yield self._told(lines)
        finally:
            await trio.aclose_forcefully(stream)

    async def _told(self, lines: JsonLines) -> AsyncIterator[dict[str, Any]]:
        while True:
            event = as_dict(result_of(await self._next(lines, SILENCE_SECONDS)).get("event"))
            if event:
                yield {"type": as_text(event.get("type")), "data": as_dict(event.get("data"))}

    async def _next(self, lines: JsonLines, seconds: float) -> dict[str, Any]:
        try:
            with trio.fail_after(seconds):
                async for item in lines:
                    if not isinstance(item, Skipped):
                        return item
                    if item.reason != "cut":
                        raise Broken("hld-garbled", f"hld said what is no message: {item.start}", "look at its log")
        except trio.TooSlowError:
            raise TooSlow("hld-silent", f"hld gave no sign of life for {seconds:.0f} s", "look at its log") from None
        raise self._lost("Subscribe")

    async def _answer(self, stream: trio.abc.Stream, method: str) -> dict[str, Any]:
        async for item in JsonLines(stream):
            if not isinstance(item, Skipped):
                return item
            if item.reason != "cut":
                raise Broken(
                    "hld-garbled", f"hld answered {method} with what is no message: {item.start}", "look at its log"
                )
        raise self._lost(method)

    async def _connected(self) -> trio.abc.Stream:
        try:
            with trio.fail_after(CONNECT_SECONDS):
                return await self._open()
        except (OSError, trio.TooSlowError) as error:
            raise Unreachable(
                "hld-not-running", f"hld daemon not running: nobody answers at {self.socket}", START_HINT
            ) from error

    async def _open_socket(self) -> trio.abc.Stream:
        return await trio.open_unix_socket(str(self.socket))

    def _lost(self, method: str) -> Unreachable:
        return Unreachable("hld-lost", f"hld hung up without an answer to {method}", START_HINT)
