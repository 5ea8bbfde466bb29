"""What the OpenAPI document says of what has no type of ours: sockets, bounds that the verbs check, headers, problems. Pure data.

The file is long because it is a table.
"""

from collections.abc import Mapping
from typing import Any

from colony_core.access import KEY_NAME_PATTERN, LOCAL_NAME, MOST_SECONDS
from colony_core.journal import KINDS
from colony_core.naming import NAME_PATTERN, RESERVED_NAMES
from colony_core.workspaces import PROJECT_PATTERN

from .problems import MEDIA_TYPE
from .queries import MOST_SEQ
from .sessions import COOKIE

PATH_TEXTS: Mapping[str, str] = {
    "approval": "the id of a question",
    "project": "a project's name",
    "ref": "a colony's name or id",
    "service": "a service's name",
    "terminal": "a terminal's id",
    "token_id": "a key's id",
}

# What the verbs check beyond the types, told to those who generate clients.
BOUNDS: Mapping[tuple[str, str], Mapping[str, Any]] = {
    ("NewColony", "name"): {
        "pattern": NAME_PATTERN,
        "not": {"enum": sorted(RESERVED_NAMES)},
        "examples": ["hello"],
    },
    ("NewColony", "path"): {"pattern": r"^/[^\x00]*$", "examples": ["/home/me/hello-colony"]},
    ("NewColony", "repo"): {"minLength": 1, "maxLength": 2000, "examples": ["user/app"]},
    ("NewColony", "branch"): {"minLength": 1, "maxLength": 255, "examples": ["main"]},
    ("NewProject", "repo"): {"minLength": 1, "maxLength": 2000, "examples": ["https://github.com/user/app.git"]},
    ("NewProject", "name"): {"pattern": PROJECT_PATTERN, "examples": ["app"]},
    ("DescribeRequest", "message"): {"minLength": 1, "maxLength": 65_536},
    ("MergeRequest", "target"): {"minLength": 1, "maxLength": 255},
    ("PushRequest", "branch"): {"minLength": 1, "maxLength": 255},
    ("UndoRequest", "to"): {"minLength": 1, "maxLength": 255},
    ("NewToken", "name"): {"pattern": KEY_NAME_PATTERN, "maxLength": 64, "not": {"const": LOCAL_NAME}},
    ("NewToken", "person"): {"pattern": KEY_NAME_PATTERN, "maxLength": 64},
    ("NewToken", "role"): {"enum": ["agent", "ape", "garden", "viewer"]},
    ("ExecRequest", "command"): {"minItems": 1},
    ("Screen", "rows"): {"minimum": 1, "maximum": 4096},
    ("Screen", "columns"): {"minimum": 1, "maximum": 4096},
    ("NewToken", "seconds"): {"exclusiveMinimum": 0, "maximum": MOST_SECONDS},
    ("StopRequest", "grace"): {"minimum": 0, "maximum": 86_400},
}

RULES: Mapping[str, Mapping[str, Any]] = {
    "NewColony": {
        "if": {"properties": {"repo": {"type": "string"}}, "required": ["repo"]},
        "then": {"properties": {"path": {"type": "null"}}},
        "else": {
            "properties": {"path": {"type": "string"}, "branch": {"type": "null"}, "workspace": {"const": "auto"}},
            "required": ["path"],
        },
    },
    "NewToken": {
        "if": {"properties": {"role": {"const": "agent"}}, "required": ["role"]},
        "then": {"properties": {"colony": {"type": "string"}}, "required": ["colony"]},
        "else": {"properties": {"colony": {"type": "null"}}},
    },
}
"""What holds between the fields of a body."""
_KIND = {"type": "string", "enum": sorted(KINDS | {kind.partition("_")[0] for kind in KINDS})}
"""The kinds of events, and the nouns that stand for several."""
QUERY_WORDS: Mapping[str, str] = {
    "state": "only those in this state",
    "keep_workspace": "whether the working copy stays where it is",
    "discard": "the name of what is removed, where work that exists nowhere else may go with it",
    "tail": "the newest so many of them",
    "limit": "at most so many",
    "colony": "only of these colonies, by name or id",
    "service": "only of these services",
    "kind": "only of these kinds, or of all kinds of a noun, such as `service`",
    "wait_seconds": "how long to wait for the first, where there is none yet",
    "person": "only the keys of this person",
}
"""Of parameters whose types have no words of their own."""
QUERY_BOUNDS: Mapping[str, Mapping[str, Any]] = {"kind": {"items": _KIND}}
PROBLEM: Mapping[str, Any] = {
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


def in_path(name: str) -> dict[str, Any]:
    """A part of the path."""
    words = PATH_TEXTS[name]
    return {"name": name, "in": "path", "required": True, "description": words, "schema": {"type": "string"}}


def in_query(name: str, kind: str, words: str, **bounds: Any) -> dict[str, Any]:
    """A parameter of a query."""
    schema = {"type": kind, **bounds}
    return {"name": name, "in": "query", "required": False, "description": words, "schema": schema}


SOCKETS: Mapping[str, Mapping[str, Any]] = {
    "/ws": {
        "operationId": "follow_events",
        "summary": "A WebSocket: everything that happens.",
        "description": "One event, one text frame, one JSON object: an `Event`. A hole comes as `missed`.",
        "tags": ["events"],
        "parameters": [
            {
                "name": "after",
                "in": "query",
                "required": False,
                "description": "the `seq` of the last event that was seen; without it from now on",
                "schema": {"type": "integer", "minimum": 0, "maximum": MOST_SEQ},
            },
            *(
                {
                    "name": name,
                    "in": "query",
                    "required": False,
                    "description": QUERY_WORDS[name],
                    "schema": {"type": "array", "items": items},
                }
                for name, items in (("colony", {"type": "string"}), ("service", {"type": "string"}), ("kind", _KIND))
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
        "parameters": [in_path("ref")],
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
            in_path("ref"),
            in_path("terminal"),
            in_query(
                "after",
                "integer",
                "the place behind the last byte that was shown; without it all that is kept",
                minimum=0,
                maximum=MOST_SEQ,
            ),
            in_query("rows", "integer", "of the client's screen", minimum=1, maximum=4096),
            in_query("columns", "integer", "of the client's screen", minimum=1, maximum=4096),
            in_query("read_only", "boolean", "only looks: what the role viewer may do", default=False),
        ],
    },
}

PROBLEMS: Mapping[int, str] = {
    400: "The request is malformed: no HTTP, no JSON, or an Idempotency-Key that is none.",
    401: "No token, or one that opens nothing.",
    403: "Whoever asks, or the page or machine that asks for them, may not do this.",
    404: "There is no such thing, or not for whoever asks.",
    405: "Another method is meant; `Allow` names them.",
    408: "The body did not arrive in time.",
    409: "Not possible in this state, or there already; or the first request with this Idempotency-Key is still under way.",
    412: "What was to be changed is not as `If-Match` says: somebody else has changed it.",
    413: "The body is too large.",
    415: "The body is not declared as JSON.",
    421: "The `Host` is none of ours.",
    422: "A parameter or the body breaks a rule, or the Idempotency-Key was used for another request.",
    426: "This speaks WebSocket only.",
    429: "Too much, or too many wrong tokens; `Retry-After` says for how long.",
    431: "The head is too large.",
    500: "A defect of Colony, or a part of it that failed.",
    501: "This machine lacks a tool or a right.",
    503: "Too many connections, or a part of the daemon is away.",
    504: "It did not end in time.",
}
EVERYWHERE = frozenset({400, 401, 403, 408, 413, 415, 421, 422, 429, 431, 500, 503})
"""What any request may be answered."""
CHANGES = frozenset({409, 501, 504})
"""What any POST may be answered besides."""
_HEADERS_OF: Mapping[int, tuple[str, ...]] = {
    401: ("WWW-Authenticate",),
    405: ("Allow",),
    426: ("Upgrade",),
    429: ("Retry-After",),
}
LABELS = ("Colony-Version", "X-Request-Id")
HEADERS: Mapping[str, Mapping[str, Any]] = {
    "Colony-Version": {"description": "The daemon's version.", "required": True, "schema": {"type": "string"}},
    "X-Request-Id": {
        "description": "The name of this request in logs.",
        "required": True,
        "schema": {"type": "string"},
    },
    "WWW-Authenticate": {"description": "How to say who asks.", "required": True, "schema": {"type": "string"}},
    "Allow": {"description": "The methods that are possible.", "required": True, "schema": {"type": "string"}},
    "Upgrade": {"description": "`websocket`.", "required": True, "schema": {"type": "string"}},
    "Retry-After": {"description": "Seconds to wait.", "schema": {"type": "string", "pattern": "^[0-9]+$"}},
    "Location": {"description": "Where what was made is found.", "schema": {"type": "string"}},
    "Link": {
        "description": 'Where there is more: `<…>; rel="next"`, the same question behind the last item of this answer.',
        "schema": {"type": "string"},
    },
    "Preference-Applied": {
        "description": "`respond-async`: the work is under way, and an event will tell its end.",
        "required": True,
        "schema": {"type": "string"},
    },
    "ETag": {
        "description": "The version of this answer, strong: for `If-None-Match`, and where a change takes it, for `If-Match`.",
        "required": True,
        "schema": {"type": "string"},
    },
}
IDEMPOTENCY: Mapping[str, Any] = {
    "name": "Idempotency-Key",
    "in": "header",
    "required": False,
    "description": "A fresh key per change: a repetition with the same key and body gets the first answer again for 24 hours.",
    "schema": {"type": "string", "pattern": r"^[\x21-\x7e]{1,255}$"},
}
PREFER: Mapping[str, Any] = {
    "name": "Prefer",
    "in": "header",
    "required": False,
    "description": "`respond-async`: be answered 202 at once. An event of the kind `workspace` tells what was done, or `workspace_failed` "
    "why it was not. Passed over with `dry_run`.",
    "schema": {"type": "string"},
}
IF_NONE_MATCH: Mapping[str, Any] = {
    "name": "If-None-Match",
    "in": "header",
    "required": False,
    "description": "The `ETag` of an answer that you have: 304 says that it is still right.",
    "schema": {"type": "string"},
}
IF_MATCH: Mapping[str, Any] = {
    "name": "If-Match",
    "in": "header",
    "required": False,
    "description": "The `ETag` of what you looked at: where somebody else has changed it since, nothing is done (412).",
    "schema": {"type": "string"},
}
SECURITY: Mapping[str, Any] = {
    "bearer": {
        "type": "http",
        "scheme": "bearer",
        "description": "A token (`colony token create`). On the Unix socket none is needed: its owner is known by the kernel's word.",
    },
    "session": {
        "type": "apiKey",
        "in": "cookie",
        "name": COOKIE,
        "description": f"A browser's session (`colony login`); `__Host-{COOKIE}` over HTTPS. Changes need `Colony-Request` too.",
    },
}


def problem_answer(status: int) -> dict[str, Any]:
    """An answer that is a problem document."""
    return {
        "description": PROBLEMS[status],
        "headers": {name: {"$ref": f"#/components/headers/{name}"} for name in (*_HEADERS_OF.get(status, ()), *LABELS)},
        "content": {MEDIA_TYPE: {"schema": {"$ref": "#/components/schemas/Problem"}}},
    }
