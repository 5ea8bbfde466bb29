"""What is noted of every request: the name it goes by, and one line in the daemon's log when it is over.

The line says which route was asked, by whom and how it ended. It has no path, no query, no body and no header: what a caller sends is never
in it, but for the request's name, which is checked.
"""

import logging
import re
import secrets
from collections.abc import Iterable
from typing import Any

import trio

from colony_core.access import Identity, redacted
from colony_core.tracing import Span

from .audit import LEFT, Scope, Send
from .scope import CODE, IDENTITY, REQUEST_ID, ROUTE, TARGET

HEADER = b"x-request-id"
_GIVEN = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{7,63}")
_HEADS = {"http.response.start": 0, "websocket.http.response.start": 0, "websocket.accept": 101, "websocket.close": 403}
_PARTS = ("body", "bytes", "data")
"""Where ASGI's messages, and our server's own frames, hold what is sent."""

log = logging.getLogger("colony.access")


def request_id(headers: Iterable[tuple[bytes, bytes]]) -> str:
    """The name that a caller gave its request (`X-Request-Id`: 8 to 64 letters, digits, `.`, `_` and `-`), or a fresh one."""
    given = [value.decode("latin-1") for name, value in headers if name.lower() == HEADER]
    if len(given) == 1 and _GIVEN.fullmatch(given[0]) and redacted(given[0]) == given[0]:
        return given[0]
    return f"req_{secrets.token_hex(8)}"


def traceparent(headers: Iterable[tuple[bytes, bytes]]) -> str | None:
    """Within which span of another program a request was made (W3C Trace Context), if it says so once."""
    given = [value.decode("latin-1") for name, value in headers if name.lower() == b"traceparent"]
    return given[0] if len(given) == 1 else None


class Account:
    """Sends an answer on and remembers what is to be said of it."""

    def __init__(self, scope: Scope, send: Send) -> None:
        self._scope = scope
        self._send = send
        self._began = trio.current_time()
        self._status = LEFT
        self._bytes = 0

    async def send(self, message: Any) -> None:
        """As ASGI's send."""
        kind = message["type"]
        if kind in _HEADS and self._status == LEFT:
            self._status = message.get("status", _HEADS[kind])
        self._bytes += sum(len(message[part]) for part in _PARTS if message.get(part))
        if text := message.get("text"):
            self._bytes += len(text.encode())
        await self._send(message)

    def close(self, span: Span) -> None:
        """Writes the line, and the same into the request's span; what the daemon itself failed at is a warning."""
        self._note(span)
        level = logging.WARNING if self._status >= 500 else logging.INFO
        if not log.isEnabledFor(level):
            return
        scope = self._scope
        who: Identity | None = scope.get(IDENTITY)
        fields = {
            "method": self._method,
            "route": scope.get(ROUTE, "other"),
            "status": self._status,
            "seconds": round(trio.current_time() - self._began, 6),
            "bytes": self._bytes,
            "who": who.name if who else None,
            "role": who.role.value if who else None,
            "request_id": scope[REQUEST_ID],
        }
        fields |= {name: scope[key] for name, key in (("target", TARGET), ("code", CODE)) if scope.get(key)}
        log.log(level, "request", extra={"fields": fields})

    @property
    def _method(self) -> str:
        return "WEBSOCKET" if self._scope["type"] == "websocket" else str(self._scope["method"])[:20]

    def _note(self, span: Span) -> None:
        """By the names of OpenTelemetry's conventions for HTTP."""
        scope = self._scope
        facts: dict[str, str | int] = {
            "http.request.method": self._method.replace("WEBSOCKET", "GET"),
            "http.route": scope.get(ROUTE, "other"),
            "http.response.status_code": self._status,
            "http.response.body.size": self._bytes,
            "colony.request_id": scope[REQUEST_ID],
        }
        facts |= {name: scope[key] for name, key in (("colony.target", TARGET), ("error.type", CODE)) if scope.get(key)}
        failed = f"{self._status} {scope.get(CODE, '')}" if self._status >= 500 else ""
        span.note(facts, name=f"{self._method} {scope.get(ROUTE, 'other')}", failed=failed)
