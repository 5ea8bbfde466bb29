"""The OpenAPI 3.1 document, made from the table of routes: component schemas from the views' types, bounds included. Pure."""

import inspect
import re
from collections.abc import Iterable, Mapping
from http import HTTPStatus
from typing import Any

import attrs
import msgspec

from .described import (
    BOUNDS,
    CHANGES,
    EVERYWHERE,
    HEADERS,
    IDEMPOTENCY,
    IF_MATCH,
    IF_NONE_MATCH,
    LABELS,
    PREFER,
    PROBLEM,
    PROBLEMS,
    QUERY_BOUNDS,
    QUERY_WORDS,
    RULES,
    SECURITY,
    SOCKETS,
    in_path,
    problem_answer,
)
from .event_schemas import event_schemas
from .routes import Accepted, Route

_REF = "#/components/schemas/{name}"
_PATH_PART = re.compile(r"<(\w+)>")


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
    components |= event_schemas(_REF)
    for (kind, field), bounds in BOUNDS.items():
        if kind in components:
            _narrow(components[kind]["properties"][field], bounds)
    for name in {route.body.__name__ for route in routes if route.body is not None}:
        components[name].update({"additionalProperties": False, **RULES.get(name, {})})
    paths: dict[str, dict[str, Any]] = {}
    for route in routes:
        paths.setdefault(_PATH_PART.sub(r"{\1}", route.rule), {})[route.method.lower()] = _operation(route, by_type)
    for path, socket in SOCKETS.items():
        problems = {426, *EVERYWHERE, *((404,) if "{" in path else ()), *((409,) if path == "/ws" else ())}
        answers = {"101": {"description": "The WebSocket is open.", "headers": _headers()}, **_problems(problems)}
        paths.setdefault(path, {})["get"] = {**socket, "responses": answers}
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "Colony",
            "version": version,
            "description": "Runs colonies, each in a network namespace of its own. Every POST takes an `Idempotency-Key`. "
            "Lists that grow take `limit` and `after`, and lead on by `Link`. Every JSON answer to a GET has an `ETag`. "
            "Everything that goes wrong is told as an RFC 9457 problem.",
        },
        "servers": [{"url": url or "/"}],
        "security": [{"bearer": []}, {"session": []}],
        "paths": paths,
        "components": {
            "schemas": {**components, "Problem": dict(PROBLEM)},
            "responses": {f"Problem{status}": problem_answer(status) for status in PROBLEMS},
            "headers": {name: dict(header) for name, header in HEADERS.items()},
            "securitySchemes": {name: dict(scheme) for name, scheme in SECURITY.items()},
        },
    }


def _narrow(schema: dict[str, Any], bounds: Mapping[str, Any]) -> None:
    """Puts bounds into a field; where it may be null, into what else it may be."""
    parts = [part for part in schema.get("anyOf", ()) if part.get("type") != "null"]
    (parts[0] if parts else schema).update(bounds)


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
        operation["parameters"].append(IDEMPOTENCY)
    if route.later:
        operation["parameters"].append(PREFER)
    if route.versioned:
        operation["parameters"].append(IF_MATCH)
    if _is_read(route):
        operation["parameters"].append(IF_NONE_MATCH)
    if route.browser:
        operation["security"] = [{"session": []}]
    if route.body is not None:
        operation["requestBody"] = {
            "required": route.body_required,
            "content": {"application/json": {"schema": by_type[route.body]}},
        }
    return operation


def _answers(route: Route, by_type: Mapping[Any, Any]) -> dict[str, Any]:
    named = (
        *(("ETag",) if _is_read(route) else ()),
        *(("Link",) if route.paged else ()),
        *(("Location",) if route.status == 201 else ()),
    )
    good: dict[str, Any] = {"headers": _headers(*named)}
    if route.returns is not None:
        schema = {"type": "string"} if route.returns is str else by_type[route.returns]
        good["content"] = {route.media_type: {"schema": schema}}
    answers = {
        str(status): {**good, "description": HTTPStatus(status).phrase} for status in (route.status, *route.also)
    }
    if route.later:
        begun = {"headers": _headers("Preference-Applied"), "description": HTTPStatus(202).phrase}
        answers["202"] = {**begun, "content": {"application/json": {"schema": by_type[Accepted]}}}
    if _is_read(route):
        answers["304"] = {"description": HTTPStatus(304).phrase, "headers": _headers(*named)}
    problems = {
        *EVERYWHERE,
        *route.problems,
        *(CHANGES if route.method == "POST" else ()),
        *((412,) if route.versioned else ()),
    }
    return answers | _problems(problems)


def _is_read(route: Route) -> bool:
    """Whether its answer has a version."""
    return route.method == "GET" and route.media_type == "application/json"


def _headers(*names: str) -> dict[str, Any]:
    return {name: {"$ref": f"#/components/headers/{name}"} for name in (*names, *LABELS)}


def _problems(statuses: Iterable[int]) -> dict[str, Any]:
    return {str(status): {"$ref": f"#/components/responses/Problem{status}"} for status in sorted(statuses)}


def _path_parameters(route: Route) -> list[dict[str, Any]]:
    return [in_path(name) for name in _PATH_PART.findall(route.rule)]


def _query_parameters(route: Route) -> list[dict[str, Any]]:
    if route.query is None:
        return []
    schema = msgspec.json.schema(route.query)
    found = schema["$defs"][route.query.__name__]
    required = found.get("required", [])
    return [
        _query_parameter(
            field.name,
            {**found["properties"][field.name], **QUERY_BOUNDS.get(field.name, {})},
            required=field.name in required,
        )
        for field in attrs.fields(route.query)
    ]


def _query_parameter(name: str, schema: dict[str, Any], *, required: bool) -> dict[str, Any]:
    """Its words are its type's own, also where that is one of several, else those for its name."""
    types = (schema, *schema.get("anyOf", ()))
    words = next((each["description"] for each in types if "description" in each), None) or QUERY_WORDS[name]
    return {"name": name, "in": "query", "required": required, "description": words, "schema": schema}
