"""A route as data, and how one is answered: body and query checked, one verb called, the view written. POSTs can be repeated."""

import logging
import re
from collections.abc import Awaitable, Callable, Mapping
from functools import partial
from typing import Any

import attrs
import msgspec
import trio
from quart import Request, Response, request
from quart_trio import QuartTrio

from colony_core import wire
from colony_core.access import Identity, Roles, fingerprint
from colony_core.errors import Broken, ColonyError, Invalid, TooSlow, did_you_mean

from .conditions import condition, unchanged
from .context import current_identity, current_request_id, note_target
from .house import House
from .problems import MEDIA_TYPE, Problem, problem_of
from .rights import colony_for, require_role

COMPLETE_SECONDS = 30.0
"""A change that was begun is carried through although the caller has hung up, for so long."""

LATER = "respond-async"
KEPT_HEADERS = frozenset({"Content-Type", "Location", "Retry-After", "Preference-Applied"})
IDEMPOTENCY_KEY = re.compile(r"[\x21-\x7e]{1,255}")

log = logging.getLogger("colony.web")


@attrs.frozen(kw_only=True)
class Call:
    """What a handler gets: who asks, the parts of the path, and the checked body and query."""

    identity: Identity
    path: Mapping[str, str]
    body: Any = None
    query: Any = None
    condition: frozenset[str] | None = None
    """The versions of which one must be in force (`If-Match`); None where anything may be."""


@attrs.frozen(kw_only=True)
class Reply:
    """A view with headers; `stored` is what an idempotent repetition gets instead, where the view holds a secret.

    `status` is another one than the route's.
    """

    value: Any
    status: int | None = None
    headers: Mapping[str, str] = attrs.field(factory=dict)
    stored: Any = None


Handler = Callable[[House, Call], Awaitable[Any]]


@attrs.frozen(kw_only=True)
class Accepted:
    """What was asked is under way; events tell of its progress."""

    accepted: bool = True


@attrs.frozen(kw_only=True)
class Route:
    """One operation of the API; its docstring in the document is the handler's.

    `roles` are those who may ask for it, `house` that it is for the daemon's own user alone. A colony in its path (`ref`) must be one
    that the caller may see, and for all but GET one that they may change.
    """

    method: str
    rule: str
    handler: Handler
    returns: Any
    tag: str
    roles: Roles
    house: bool = False
    status: int = 200
    also: tuple[int, ...] = ()
    """Other statuses with which the same view may come."""
    body: type | None = None
    body_required: bool = False
    query: type | None = None
    problems: tuple[int, ...] = ()
    media_type: str = "application/json"
    paged: bool = False
    """The answer is a page, and may lead to the next."""
    versioned: bool = False
    """A change that takes `If-Match`."""
    seconds: float = COMPLETE_SECONDS
    """How long a change may take, once it was begun."""
    later: str = ""
    """The verb of work that may go on without its caller, who prefers that (`Prefer: respond-async`)."""
    browser: bool = False
    """For a browser's session alone."""
    parameters: tuple[Mapping[str, Any], ...] = ()


def add_route(app: QuartTrio, house: House, route: Route) -> None:
    """Puts a route into the app."""

    async def view(**path: str) -> Response:
        asked: Request = request._get_current_object()  # type: ignore[attr-defined]
        identity = current_identity()
        require_role(identity, route.roles, house=route.house)
        if "ref" in path:
            # From here on by its id: a name may be another colony's a moment later.
            colony = colony_for(house, identity, path["ref"], change=route.method != "GET")
            path = {**path, "ref": colony.id}
            note_target(colony.name)
        raw = await asked.get_data(cache=True, as_text=False, parse_form_data=False)
        query = read_query(asked.args, route.query)
        body = _read_body(asked, raw, route)
        versions = None if route.method == "GET" else condition(asked, taken=route.versioned)
        call = Call(identity=identity, path=path, body=body, query=query, condition=versions)
        if route.method == "GET":
            return await unchanged(asked, _written(await route.handler(house, call), route))
        if route.method != "POST":
            # A removal may wait for long graces; it goes on by itself when its caller has hung up.
            return _written(await route.handler(house, call), route)
        if route.later and _prefers_later(asked) and not getattr(body, "dry_run", False):
            return await _carried_through(house, attrs.evolve(route, handler=partial(_begin, route)), call, raw)
        return await _carried_through(house, route, call, raw)

    app.add_url_rule(route.rule, route.handler.__name__, view, methods=[route.method])


def read_query(args: Any, kind: type | None) -> Any:
    """The query (a MultiDict) as `kind`; raises Invalid where a parameter is unknown, doubled or not of its type."""
    known = {field.name: field for field in attrs.fields(kind)} if kind else {}
    raw: dict[str, Any] = {}
    for name, values in args.lists():
        if name not in known:
            nearest = did_you_mean(name, list(known))
            hint = f"did you mean {nearest}?" if nearest else f"known: {', '.join(known) or 'none'}"
            raise Invalid("unknown-parameter", f"unknown query parameter {name[:80]!r}", hint)
        several = "tuple" in str(known[name].type)
        if len(values) > 1 and not several:
            raise Invalid("invalid-query", f"the query parameter {name} was given {len(values)} times", "give it once")
        raw[name] = values if several else values[0]
    if kind is None:
        return None
    try:
        return msgspec.convert(raw, kind, strict=False)
    except (msgspec.ValidationError, ValueError) as error:
        raise Invalid("invalid-query", f"query: {error}", "see /openapi.json for the parameters") from error


def problem_response(problem: Problem) -> Response:
    """A problem as Quart's answer."""
    return Response(
        msgspec.json.encode(problem.document), problem.status, headers=problem.headers, content_type=MEDIA_TYPE
    )


def _read_body(asked: Request, raw: bytes, route: Route) -> Any:
    if raw and asked.mimetype != "application/json":
        raise Invalid(
            "unsupported-media-type",
            f"the body is {asked.mimetype or 'of no declared type'}",
            "send JSON, and say so: Content-Type: application/json",
        )
    if route.body is None:
        if raw:
            raise Invalid("unexpected-body", f"{route.method} {asked.path} takes no body", "leave the body away")
        return None
    if not raw and not route.body_required:
        return route.body()
    return wire.load_json(raw, route.body)


def _prefers_later(asked: Request) -> bool:
    """RFC 7240; whoever cannot honour a preference passes it over."""
    given = ",".join(asked.headers.getlist("Prefer")).split(",")
    return any(each.partition(";")[0].strip().lower() == LATER for each in given)


async def _begin(route: Route, house: House, call: Call) -> Reply:
    work = partial(route.handler, house, call)
    await house.workspaces.later(call.path["ref"], route.later, work, seconds=route.seconds)
    return Reply(value=Accepted(), status=202, headers={"Preference-Applied": LATER})


async def _carried_through(house: House, route: Route, call: Call, raw: bytes) -> Response:
    """Runs a change to its end although the caller hangs up; a repetition gets the first answer."""
    with trio.CancelScope(shield=True, deadline=trio.current_time() + route.seconds) as scope:
        keys = request.headers.getlist("Idempotency-Key")
        if not keys:
            return _written(await route.handler(house, call), route)
        return await _answered_once(house, route, call, _one_key(keys), raw)
    assert scope.cancelled_caught
    raise _too_slow(route)


async def _answered_once(house: House, route: Route, call: Call, key: str, raw: bytes) -> Response:
    asked = fingerprint(request.method, request.full_path, raw)
    stored = await house.idempotency.begin(key, call.identity.id, asked)
    if stored is not None:
        return Response(stored.body, stored.status, headers={**stored.headers, "Idempotency-Replayed": "true"})
    keep: Response | None = None
    try:
        answer = await route.handler(house, call)
        response = _written(answer, route)
        keep = response
        if isinstance(answer, Reply) and answer.stored is not None:
            keep = _written(attrs.evolve(answer, value=answer.stored), route)
        return response
    except ColonyError as error:
        keep = problem_response(problem_of(error, request_id=current_request_id()))
        raise
    except trio.Cancelled:
        keep = problem_response(problem_of(_too_slow(route)))
        raise
    finally:
        # An unforeseen error is kept as well: nobody knows how far the change went, and a repetition must not begin it anew.
        if keep is None:
            keep = problem_response(problem_of(_unknown_outcome()))
        await _remember(house, key, call, keep)


async def _remember(house: House, key: str, call: Call, keep: Response) -> None:
    kept = {name: value for name, value in keep.headers.items() if name in KEPT_HEADERS}
    body = await keep.get_data(as_text=False)
    with trio.CancelScope(shield=True):
        try:
            await house.idempotency.finish(key, call.identity.id, keep.status_code, body, kept)
        except ColonyError as error:  # the disk is full, say; what was done is done, and its answer is still true
            log.error("an answer is not remembered, and the same request would be carried out again: %s", error)


def _one_key(keys: list[str]) -> str:
    if len(keys) != 1 or not IDEMPOTENCY_KEY.fullmatch(keys[0]):
        raise Invalid(
            "invalid-idempotency-key",
            "an Idempotency-Key is one header of 1 to 255 visible characters",
            "send a fresh UUID",
        )
    return keys[0]


def _written(answer: Any, route: Route) -> Response:
    if isinstance(answer, Response):
        return answer
    reply = answer if isinstance(answer, Reply) else Reply(value=answer)
    if route.returns is None:
        return Response(b"", route.status, headers=dict(reply.headers), content_type="text/plain")
    return Response(
        wire.dump_json(reply.value),
        reply.status or route.status,
        headers=dict(reply.headers),
        content_type="application/json",
    )


def _too_slow(route: Route) -> ColonyError:
    return TooSlow(
        "change-too-slow",
        f"the change did not end within {route.seconds:.0f} s",
        "look at the colony's state before asking again",
    )


def _unknown_outcome() -> ColonyError:
    return Broken(
        "outcome-unknown",
        "the first request with this Idempotency-Key broke off, and nobody knows how far it went",
        "look at the state of things, then ask with a new key",
    )
