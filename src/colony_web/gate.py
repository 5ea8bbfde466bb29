"""Stands before the app: names each request, asks the door, labels every answer, counts it and writes it down."""

import ipaddress
from collections.abc import Awaitable, Callable, MutableMapping
from contextlib import AbstractContextManager
from typing import Any

import msgspec
import trio

import colony_core
from colony_core.access import Identity
from colony_core.errors import ColonyError
from colony_core.tracing import asking

from . import accounts, audit, metrics, proxies
from .auth import Door
from .house import House
from .live import fanout
from .logs import Asked
from .logs import asked as current
from .problems import MEDIA_TYPE, Problem, problem_of
from .scope import CODE, IDENTITY, NOTED, REQUEST_ID, ROUTE, STRANGER

SWITCHING_PROTOCOLS = 101
POLICY_VIOLATION = 1008
KEY_ENDED = audit.CLOSE_CODES + 401
_POLICY = (b"content-security-policy", b"default-src 'none'; frame-ancestors 'none'")
"""Of every answer that brings no policy of its own."""
_APART = (
    (b"x-content-type-options", b"nosniff"),
    (b"x-frame-options", b"DENY"),
    (b"cross-origin-opener-policy", b"same-origin"),
    (b"cross-origin-resource-policy", b"same-origin"),
)
"""Keeps what we answer out of the frames, windows and memory of other sites' pages, previews among them."""

Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Any]]
Send = Callable[[Any], Awaitable[None]]
AsgiApp = Callable[[Any, Any, Any], Awaitable[None]]


class Gate:
    """Stands before the app: names each request, asks the door, labels every answer and counts it."""

    def __init__(self, app: AsgiApp, door: Door, requests: metrics.Requests, house: House) -> None:
        self._app = app
        self._door = door
        self._requests = requests
        self._house = house
        self._sockets = fanout.EventSockets(house)
        self._fronts = [ipaddress.ip_network(each) for each in house.config.server.trusted_proxies]

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """One request, as ASGI has it."""
        if scope["type"] not in ("http", "websocket"):
            await self._app(scope, receive, send)
            return
        if (peer := scope.get("client")) and self._fronts:
            address = proxies.client_address(str(peer[0]), scope["headers"], self._fronts)
            scope["client"] = peer if address == peer[0] else (address, 0)  # its port, nobody knows
        request_id = accounts.request_id(scope["headers"])
        scope[REQUEST_ID] = request_id
        account, asked = accounts.Account(scope, send), Asked(request_id)
        current.set(asked)
        with self._house.tracer.span("request", {}, within=accounts.traceparent(scope["headers"]), served=True) as span:
            asking.set(span)
            try:
                await self._answer(scope, receive, _labelled(account.send, request_id, self._counter(scope)))
            finally:
                account.close(span)
                asked.over()

    async def _answer(self, scope: Scope, receive: Receive, send: Send) -> None:
        if not audit.is_write(scope):
            await self._admit(scope, receive, send)
            return
        noted = audit.Noted(self._house, scope, send)
        try:
            await self._admit(scope, receive, noted.send)
        finally:
            del scope[NOTED]  # else the two hold each other
            await noted.note(audit.LEFT)  # whoever asked has gone, and what they asked for may have been done

    async def _admit(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            scope[IDENTITY] = self._door.admit(scope)
            wish = self._sockets.wish(scope)
        except ColonyError as error:
            scope[CODE] = error.code
            _note_stranger(scope)
            await _refuse(scope, receive, send, problem_of(error, request_id=scope[REQUEST_ID]))
        else:
            _note_stranger(scope)
            line = _Line(send)
            with self._visit(scope[IDENTITY]) as visit:
                if wish is None:
                    await self._app(scope, receive, line.send)
                else:
                    await self._sockets.tell(wish, scope, receive, line.send)
            if visit.cancelled_caught and line.open:
                await send({"type": "websocket.close", "code": KEY_ENDED, "reason": "token-revoked"})

    def _visit(self, identity: Identity | None) -> AbstractContextManager[trio.CancelScope]:
        return trio.CancelScope() if identity is None else self._house.keys.visit(identity)

    def _counter(self, scope: Scope) -> Callable[[int], None]:
        began = trio.current_time()
        return lambda status: self._requests.count(
            scope.get("method", "WEBSOCKET"), scope.get(ROUTE, "other"), status, trio.current_time() - began
        )


def _note_stranger(scope: Scope) -> None:
    if scope.get(IDENTITY) is None:
        scope.setdefault("state", {})[STRANGER] = True


class _Line:
    """Sends as ASGI does; `open` says whether it is a WebSocket that was opened and not closed."""

    def __init__(self, send: Send) -> None:
        self._send = send
        self.open = False

    async def send(self, message: Any) -> None:
        if message["type"] == "websocket.accept":
            self.open = True
        elif message["type"] == "websocket.close":
            self.open = False
        await self._send(message)


def _labelled(send: Send, request_id: str, count: Callable[[int], None]) -> Send:
    starts = ("http.response.start", "websocket.http.response.start", "websocket.accept")
    labels = [
        (b"colony-version", colony_core.__version__.encode()),
        (b"x-request-id", request_id.encode()),
        *_APART,
    ]

    async def labelled(message: Any) -> None:
        if message["type"] in starts:
            own = list(message.get("headers", ()))
            policy = () if any(name == _POLICY[0] for name, _ in own) else (_POLICY,)
            message = {**message, "headers": [*own, *policy, *labels]}
            count(message.get("status", SWITCHING_PROTOCOLS))
        await send(message)

    return labelled


async def _refuse(scope: Scope, receive: Receive, send: Send, problem: Problem) -> None:
    """Answers in the app's stead; nothing of the body was read, and no WebSocket was opened."""
    kind = "websocket.http.response" if scope["type"] == "websocket" else "http.response"
    if scope["type"] == "websocket":
        await receive()
        if "websocket.http.response" not in (scope.get("extensions") or {}):
            await send({"type": "websocket.close", "code": POLICY_VIOLATION, "reason": problem.document["code"]})
            return
    body = msgspec.json.encode(problem.document)
    headers = [(b"content-type", MEDIA_TYPE.encode()), (b"content-length", str(len(body)).encode())]
    headers += [(name.lower().encode(), value.encode()) for name, value in problem.headers.items()]
    await send({"type": f"{kind}.start", "status": problem.status, "headers": headers})
    await send({"type": f"{kind}.body", "body": body, "more_body": False})
