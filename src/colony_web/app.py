"""Puts the routes, the door and the problems together: `create_app`, and `mount` for a program of one's own."""

import logging
from collections.abc import Collection
from functools import lru_cache, partial
from typing import Any

import msgspec
import trio
from quart import Response, has_websocket_context, request, websocket
from quart_trio import QuartTrio
from quart_trio.asgi import TrioASGIWebsocketConnection
from werkzeug.exceptions import HTTPException, MethodNotAllowed, RequestEntityTooLarge, RequestTimeout

import colony_core
from colony_core.access import PEOPLE
from colony_core.errors import ColonyError, Invalid, LimitReached, NotFound, TooSlow, did_you_mean
from colony_core.views import ExecRequest

from . import api, docs, metrics, openapi
from .auth import Door
from .context import current_identity, current_request_id, current_scope
from .gate import AsgiApp, Gate, Receive, Scope, Send
from .house import House
from .live import commands, events, fanout, feeds, logs, terminals
from .problems import colony_error_in, internal_error, problem_of
from .rights import require_role, visible
from .routes import add_route, problem_response
from .scope import CODE, ROUTE
from .sessions import log_in

MAX_BODY_BYTES = 2**20
BODY_SECONDS = 30.0
INTERNAL_ERROR = 1011
_FAILED = "colony.failed"
ROUTES = (*api.ROUTES, *logs.ROUTES, *feeds.ROUTES, *events.ROUTES)

log = logging.getLogger("colony.web")


def create_app(mycelium: House, *, origins: Collection[str] = ()) -> QuartTrio:
    """Colony's API as a Quart-Trio app over the verbs of `mycelium`.

    Serve it with `colony_web.serve.serve`, or put it into a program of your own with `mount`. It owns nothing: it starts no task of
    its own and has no lifespan, so it may be served before, beside and after anything else. `origins` are further addresses
    (`http://host:port`) under which it is reached; its `Host` and `Origin` checks know loopback and the configured address.
    """
    app = ColonyApp("colony_web", static_folder=None)
    app.config["MAX_CONTENT_LENGTH"] = MAX_BODY_BYTES
    app.config["BODY_TIMEOUT"] = BODY_SECONDS
    app.url_map.merge_slashes = False
    app.before_request(_note_route)
    app.before_websocket(_note_route)
    for route in ROUTES:
        add_route(app, mycelium, route)
    requests = metrics.Requests()
    app.add_url_rule("/metrics", "metrics", partial(_metrics, mycelium, requests))
    sockets: dict[str, tuple[str, Any]] = {
        "/api/colonies/<ref>/exec": ("run_command", commands.run_command),
        "/api/colonies/<ref>/terminals/<terminal>": ("show_terminal", terminals.show_terminal),
    }
    for rule, (name, handler) in sockets.items():
        app.add_websocket(rule, name, partial(handler, mycelium))
        app.add_url_rule(rule, f"{name}_over_http", _upgrade)
    app.add_url_rule(fanout.PATH, "follow_events_over_http", _upgrade)
    app.add_url_rule("/openapi.json", "openapi", _openapi)
    app.add_url_rule("/docs", "docs", partial(_docs, mycelium))
    app.add_url_rule("/", "home", partial(_docs, mycelium))
    door = Door(mycelium, origins=origins)
    app.add_url_rule("/login", "log_in", partial(_log_in, mycelium, door))
    app.asgi_app = Gate(app.asgi_app, door, requests, mycelium)  # type: ignore[method-assign,assignment]
    return app


def mount(app: QuartTrio, mycelium: House, *, prefix: str = "/colony", origins: Collection[str] = ()) -> QuartTrio:
    """Puts Colony's API under `prefix` of your own app, with its own door and error pages; returns Colony's part.

        app = QuartTrio(__name__)
        async with colony_core.open_mycelium(config) as mycelium:
            colony_web.mount(app, mycelium, prefix="/colony")
            await serve(mycelium, app=app)          # or any server that runs Quart-Trio

    Your routes, handlers and lifespan stay yours. Where another server than ours carries the app, callers need a token.
    """
    if not prefix.startswith("/") or prefix.endswith("/"):
        raise ValueError(f"expected a prefix such as '/colony', got {prefix!r}")
    part = create_app(mycelium, origins=origins)
    outer: AsgiApp = app.asgi_app

    async def dispatch(scope: Scope, receive: Receive, send: Send) -> None:
        root = f"{scope.get('root_path', '')}{prefix}"
        path = str(scope.get("path", ""))
        if scope["type"] != "lifespan" and (path == root or path.startswith(f"{root}/")):
            inner = path if path != root else f"{root}/"
            await part({**scope, "root_path": root, "path": inner}, receive, send)  # type: ignore[arg-type]
        else:
            await outer(scope, receive, send)

    app.asgi_app = dispatch  # type: ignore[method-assign,assignment]
    return part


class _SocketConnection(TrioASGIWebsocketConnection):
    """quart-trio's, but an empty binary message arrives as one, and a handler that failed is told as 1011, not as a normal end."""

    async def handle_messages(self, nursery: trio.Nursery, receive: Receive) -> None:  # type: ignore[override]
        while (event := await receive())["type"] != "websocket.disconnect":
            if event["type"] == "websocket.receive":
                text = event.get("text")
                await self.send_channel.send(text if text is not None else bytes(event.get("bytes") or b""))
        nursery.cancel_scope.cancel()

    async def handle_websocket(self, nursery: trio.Nursery, socket: Any, send: Any) -> None:  # type: ignore[override]
        async def truthful(message: Any) -> None:
            if message["type"] == "websocket.close" and _FAILED in self.scope:
                message = {**message, "code": INTERNAL_ERROR}
            await send(message)

        await super().handle_websocket(nursery, socket, truthful)


class ColonyApp(QuartTrio):
    """A Quart-Trio app whose every mistake is a problem document."""

    asgi_websocket_class = _SocketConnection

    async def handle_user_exception(self, error: Exception | BaseExceptionGroup[Any]) -> Any:
        """Any exception as a problem; what was not foreseen is logged, and only its request's id is told."""
        if isinstance(error, BaseExceptionGroup) and error.split(trio.Cancelled)[1] is None:
            # The client has hung up, or the server ends: nobody is left to be told. Quart lets a single Cancelled pass, but keeps a group
            # in a frame that the group holds: a circle, which waits for the garbage collector.
            await trio.lowlevel.checkpoint_if_cancelled()
            raise error
        scope, request_id = current_scope(), current_request_id()
        if scope["type"] == "websocket":
            scope[_FAILED] = True
        known = error if isinstance(error, HTTPException) else colony_error_in(error)
        if isinstance(known, HTTPException):
            known = self._of_http(known)
        if known is None:
            fields = {"request_id": request_id, "path": scope["path"]}
            log.error("a request failed", extra={"fields": fields}, exc_info=error)
            known = internal_error(request_id)
        scope[CODE] = known.code
        return problem_response(problem_of(known, request_id=request_id))

    def _of_http(self, error: HTTPException) -> ColonyError:
        if isinstance(error, MethodNotAllowed):
            methods = sorted(error.valid_methods or ())
            return Invalid(
                "method-not-allowed",
                f"{request.method} is not possible here",
                f"possible: {', '.join(methods)}",
                details={"allow": methods},
            )
        if isinstance(error, RequestEntityTooLarge):
            return LimitReached(
                "body-too-large",
                f"the body is larger than {MAX_BODY_BYTES} bytes",
                "send less",
                details={"limit": MAX_BODY_BYTES},
            )
        if isinstance(error, RequestTimeout):
            return TooSlow("body-too-slow", f"the body did not arrive within {BODY_SECONDS:.0f} s", "send it at once")
        if error.code == 404:
            path = str(current_scope()["path"])
            nearest = did_you_mean(path, [rule.rule for rule in self.url_map.iter_rules() if "<" not in rule.rule])
            hint = f"did you mean {nearest}?" if nearest else "see /docs for what there is"
            return NotFound("route-not-found", f"there is nothing at {path[:200]}", hint)
        return Invalid("malformed-request", error.description or "the request is not understood", "see /docs")


async def _note_route() -> None:
    """Says for log, metrics and traces which route was asked: its pattern, and nothing where there is none."""
    asked = websocket if has_websocket_context() else request
    if asked.url_rule is not None:
        current_scope()[ROUTE] = asked.url_rule.rule


async def _upgrade(**path: str) -> Response:
    raise Invalid(
        "upgrade-required", f"{request.path} speaks WebSocket only", "open a WebSocket; events: /api/events/stream"
    )


async def _metrics(house: House, requests: metrics.Requests) -> Response:
    """The colonies that the caller sees in Prometheus' text format, and the house for those who see all of them."""
    identity = require_role(current_identity(), PEOPLE)
    whole = identity.house or house.config.access.others == "look"
    views = [view for view in house.colonies() if visible(house, identity, view)]
    text = metrics.text(house, views, await house.usage(), requests, whole=whole)
    return Response(text, content_type=metrics.CONTENT_TYPE)


async def _log_in(house: House, door: Door) -> Response:
    return await log_in(house, partial(door.failed, current_scope()))


async def _openapi() -> Response:
    return Response(msgspec.json.encode(_document(request.root_path or "/")), content_type="application/json")


async def _docs(mycelium: House) -> Response:
    page = docs.page(_document(request.root_path or "/"), root=request.root_path, system=mycelium.system())
    headers = {"Content-Security-Policy": docs.CONTENT_POLICY, "Referrer-Policy": "no-referrer"}
    return Response(page, content_type="text/html; charset=utf-8", headers=headers)


@lru_cache(maxsize=8)
def _document(url: str) -> dict[str, Any]:
    """Made once: it takes ten milliseconds, and anybody may ask for it."""
    return openapi.document(ROUTES, version=colony_core.__version__, extra_types=(ExecRequest,), url=url)
