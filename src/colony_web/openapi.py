"""The OpenAPI 3.1 document, made from the table of routes: component schemas from the views' types, bounds included. Pure."""

import inspect
import re
from collections.abc import Iterable, Mapping
from http import HTTPStatus
from typing import Any

import attrs
import msgspec

from colony_core.naming import NAME_PATTERN

from .problems import MEDIA_TYPE
from .routes import Route

_REF = "#/components/schemas/{name}"
_PATH_PART = re.compile(r"<(\w+)>")
_PATH_TEXTS: Mapping[str, str] = {
    "approval": "the id of a question",
    "ref": "a colony's name or id",
    "service": "a service's name",
    "terminal": "a terminal's id",
    "token_id": "a key's id",
}

# What the verbs check beyond the types, told to those who generate clients.
_BOUNDS: Mapping[tuple[str, str], Mapping[str, Any]] = {
    ("NewColony", "name"): {"pattern": NAME_PATTERN, "examples": ["hello"]},
    ("NewColony", "path"): {"minLength": 1, "examples": ["/home/me/hello-colony"]},
    ("NewToken", "name"): {"minLength": 1, "maxLength": 64},
    ("NewToken", "role"): {"enum": ["agent", "ape", "garden", "viewer"]},
    ("ExecRequest", "command"): {"minItems": 1},
    ("Screen", "rows"): {"minimum": 1, "maximum": 4096},
    ("Screen", "columns"): {"minimum": 1, "maximum": 4096},
    ("StopRequest", "grace"): {"description": "seconds, 0 to 86400"},
}

_PROBLEM: Mapping[str, Any] = {
    "type": "object",
    "description": "RFC 9457. `code` is stable; `hint` is the next thing to try; `kind` is the class of the error in Python.",
    "required": ["type", "title", "status", "detail", "code", "hint", "kind"],
    "properties": {
        "type": {"type": "string"},
        "title": {"type": "string"},
        "status": {"type": "integer"},
        "detail": {"type": "string"},
        "code": {"type": "string"},
        "hint": {"type": "string"},
        "kind": {"type": "string"},
        "details": {"type": "object"},
        "request_id": {"type": "string"},
    },
}


def _in_path(name: str) -> dict[str, Any]:
    words = _PATH_TEXTS[name]
    return {"name": name, "in": "path", "required": True, "description": words, "schema": {"type": "string"}}


def _in_query(name: str, kind: str, words: str, **bounds: Any) -> dict[str, Any]:
    schema = {"type": kind, **bounds}
    return {"name": name, "in": "query", "required": False, "description": words, "schema": schema}


_SOCKETS: Mapping[str, Mapping[str, Any]] = {
    "/ws": {
        "operationId": "follow_events",
        "summary": "A WebSocket: everything that happens.",
        "description": "One event, one text frame, one JSON object with `seq`, `at` and `type`. A hole comes as `missed`.",
        "tags": ["events"],
        "parameters": [
            {
                "name": "after",
                "in": "query",
                "required": False,
                "description": "the `seq` of the last event that was seen; without it from now on",
                "schema": {"type": "integer", "minimum": 0},
            },
            *(
                {
                    "name": name,
                    "in": "query",
                    "required": False,
                    "description": words,
                    "schema": {"type": "array", "items": {"type": "string"}},
                }
                for name, words in (
                    ("colony", "only of these colonies, by name or id"),
                    ("service", "only of these services"),
                    ("kind", "only of these kinds, or of all kinds of a noun, such as `service`"),
                )
            ),
        ],
    },
    "/api/colonies/{ref}/exec": {
        "operationId": "run_command",
        "summary": "A WebSocket: a command in the colony's cell.",
        "description": 'First a text frame, an ExecRequest. Then binary frames are input and `{"eof": true}` ends it; binary frames '
        'from the server begin with 1 (stdout) or 2 (stderr); the last text is `{"exit": code}`, or `{"error": problem}`. '
        'On a terminal (`screen`) the text `{"resize": {"rows": 24, "columns": 80}}` gives it another size.',
        "tags": ["colonies"],
        "parameters": [_in_path("ref")],
    },
    "/api/colonies/{ref}/terminals/{terminal}": {
        "operationId": "show_terminal",
        "summary": "A WebSocket: a terminal.",
        "description": "Binary frames are its bytes, both ways; at most 64 KiB of input in one. Text frames are JSON objects. "
        'From the server: `{"at": place, "missed": bytes, "restore": text}` first, and again where a slow client has to jump; '
        '`{"size": {"rows": 24, "columns": 80}}`; at the end `{"exit": code, "why": text}`, or `{"error": problem}`. '
        'To the server: `{"ack": place}` with how far the bytes were shown, of which at most 256 KiB are sent ahead; '
        '`{"resize": {"rows": 24, "columns": 80}}`. The terminal outlives the socket.',
        "tags": ["terminals"],
        "parameters": [
            _in_path("ref"),
            _in_path("terminal"),
            _in_query(
                "after",
                "integer",
                "the place behind the last byte that was shown; without it all that is kept",
                minimum=0,
            ),
            _in_query("rows", "integer", "of the client's screen", minimum=1, maximum=4096),
            _in_query("columns", "integer", "of the client's screen", minimum=1, maximum=4096),
            _in_query("read_only", "boolean", "only looks: what the role viewer may do", default=False),
        ],
    },
}


def document(
    routes: Iterable[Route], *, version: str, extra_types: Iterable[type] = (), url: str = "/"
) -> dict[str, Any]:
    """The whole document. `url` is where the face is mounted."""
    routes = tuple(routes)
    named = {kind for route in routes for kind in (route.body, route.returns) if kind not in (None, str)} | set(
        extra_types
    )
    ordered = sorted(named, key=str)
    schemas, components = msgspec.json.schema_components(ordered, ref_template=_REF)
    by_type = dict(zip(ordered, schemas, strict=True))
    for (kind, field), bounds in _BOUNDS.items():
        if kind in components:
            components[kind]["properties"][field].update(bounds)
    paths: dict[str, dict[str, Any]] = {}
    for route in routes:
        paths.setdefault(_PATH_PART.sub(r"{\1}", route.rule), {})[route.method.lower()] = _operation(route, by_type)
    for path, socket in _SOCKETS.items():
        answers = {
            "101": {"description": "the WebSocket is open"},
            "default": {"$ref": "#/components/responses/Problem"},
        }
        paths.setdefault(path, {})["get"] = {**socket, "responses": answers}
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "Colony",
            "version": version,
            "description": "Runs colonies, each in a network namespace of its own. Every POST takes an `Idempotency-Key`.",
        },
        "servers": [{"url": url or "/"}],
        "security": [{"bearer": []}, {}],
        "paths": paths,
        "components": {
            "schemas": {**components, "Problem": dict(_PROBLEM)},
            "responses": {"Problem": _problem_answer("Something else went wrong")},
            "securitySchemes": {
                "bearer": {"type": "http", "scheme": "bearer", "description": "Not needed on the Unix socket."}
            },
        },
    }


def _operation(route: Route, by_type: Mapping[Any, Any]) -> dict[str, Any]:
    head, _, rest = (inspect.getdoc(route.handler) or "").partition("\n")
    operation: dict[str, Any] = {
        "operationId": route.handler.__name__,
        "summary": head,
        "tags": [route.tag],
        "parameters": [*_path_parameters(route), *_query_parameters(route), *route.parameters],
        "responses": _answers(route, by_type),
    }
    if rest.strip():
        operation["description"] = " ".join(rest.split())
    if route.method == "POST":
        operation["parameters"].append(_IDEMPOTENCY)
    if route.body is not None:
        operation["requestBody"] = {
            "required": route.body_required,
            "content": {"application/json": {"schema": by_type[route.body]}},
        }
    return operation


def _answers(route: Route, by_type: Mapping[Any, Any]) -> dict[str, Any]:
    good: dict[str, Any] = {}
    if route.returns is not None:
        schema = {"type": "string"} if route.returns is str else by_type[route.returns]
        good["content"] = {route.media_type: {"schema": schema}}
    answers = {
        str(status): {**good, "description": HTTPStatus(status).phrase} for status in (route.status, *route.also)
    }
    problems = {401, 403, *route.problems, *((415, 422) if route.body else ()), *((422,) if route.query else ())}
    for status in sorted(problems):
        answers[str(status)] = _problem_answer(HTTPStatus(status).phrase)
    answers["default"] = {"$ref": "#/components/responses/Problem"}
    return answers


def _problem_answer(text: str) -> dict[str, Any]:
    return {"description": text, "content": {MEDIA_TYPE: {"schema": {"$ref": "#/components/schemas/Problem"}}}}


def _path_parameters(route: Route) -> list[dict[str, Any]]:
    return [_in_path(name) for name in _PATH_PART.findall(route.rule)]


def _query_parameters(route: Route) -> list[dict[str, Any]]:
    if route.query is None:
        return []
    schema = msgspec.json.schema(route.query)
    found = schema["$defs"][route.query.__name__]
    required = found.get("required", [])
    return [
        {
            "name": field.name,
            "in": "query",
            "required": field.name in required,
            "schema": found["properties"][field.name],
        }
        for field in attrs.fields(route.query)
    ]


_IDEMPOTENCY: Mapping[str, Any] = {
    "name": "Idempotency-Key",
    "in": "header",
    "required": False,
    "description": "A fresh key per change: a repetition with the same key and body gets the first answer again for 24 hours.",
    "schema": {"type": "string", "minLength": 1, "maxLength": 255},
}
