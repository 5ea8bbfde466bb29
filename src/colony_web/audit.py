"""Writes down every write before it is answered: who, from where, what, and how it ended."""

from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

from colony_core import clock
from colony_core.access import AuditRecord, Identity, redacted

from .auth import SAFE
from .house import House
from .scope import CODE, COMMAND, IDENTITY, NOTED, PEER, REQUEST_ID, TARGET

MOST_PATH_LETTERS = 200
READING_SOCKETS = frozenset({"/ws"})
CLOSE_CODES = 4000
"""Added to a problem's status, where a socket is closed for it."""
LEFT = 499
"""The status of a write whose caller went away before it was answered."""

Scope = MutableMapping[str, Any]
Send = Callable[[Any], Awaitable[None]]


def is_write(scope: Scope) -> bool:
    """Whether a request may change something: all but those that only look, and sockets that only tell."""
    path = str(scope["path"]).removeprefix(scope.get("root_path") or "")
    if scope["type"] == "websocket":
        return path not in READING_SOCKETS
    return scope["method"] not in SAFE or path == "/login"


class Noted:
    """Sends a write's answer, once it is written down what it is."""

    def __init__(self, house: House, scope: Scope, send: Send) -> None:
        self._house = house
        self._scope = scope
        self._send = send
        self._done = False
        self._later = False
        scope[NOTED] = self

    def later(self) -> None:
        """The socket's opening does nothing yet: what it does is noted by `note`, at the latest when it ends."""
        self._later = True

    async def send(self, message: Any) -> None:
        """As ASGI's send."""
        kind = message["type"]
        if kind.endswith("response.start"):
            await self.note(message["status"])
        elif kind == "websocket.accept" and not self._later:
            await self.note(101)
        elif kind == "websocket.close":
            code = message.get("code") or 0
            await self.note(code - CLOSE_CODES if code > CLOSE_CODES else 403)
        await self._send(message)

    async def note(self, status: int) -> None:
        """Writes the end down, unless that was done."""
        if self._done:
            return
        self._done = True
        scope = self._scope
        who: Identity | None = scope.get(IDENTITY)
        await self._house.audit.record(
            AuditRecord(
                at=clock.unix_now(),
                who=who.id if who else None,
                name=who.name if who else "",
                role=who.role.value if who else "",
                person=who.person if who else "",
                source=_source(scope),
                method="WEBSOCKET" if scope["type"] == "websocket" else scope["method"][:20],
                path=redacted(str(scope["path"]))[:MOST_PATH_LETTERS],
                target=redacted(scope.get(TARGET, "")),
                status=status,
                code=scope.get(CODE, ""),
                request_id=scope[REQUEST_ID],
                command=scope.get(COMMAND, ""),
            )
        )


def _source(scope: Scope) -> str:
    peer = (scope.get("state") or {}).get(PEER)
    if peer is not None:
        return f"socket, uid {peer.uid}, pid {peer.pid}"
    client = scope.get("client")
    return str(client[0]) if client else "unknown"
