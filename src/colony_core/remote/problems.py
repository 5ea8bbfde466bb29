"""An answer that is a refusal, as the error that the daemon raised. Pure."""

import ssl
from collections.abc import Mapping
from typing import Any

from colony_core.errors import (
    AlreadyExists,
    Broken,
    ColonyError,
    Invalid,
    LimitReached,
    Missing,
    NotAllowed,
    NotFound,
    TooSlow,
    Unreachable,
    WrongState,
)

from .tls import reason, refused

SHOWN_LETTERS = 200
_AWAY = frozenset({502, 503, 504})
"""What a front says in its own words when nobody answers behind it."""
_KINDS: Mapping[int, type[ColonyError]] = {
    400: Invalid,
    401: NotAllowed,
    403: NotAllowed,
    404: NotFound,
    405: Invalid,
    406: Invalid,
    408: TooSlow,
    409: WrongState,
    410: NotFound,
    411: Invalid,
    412: WrongState,
    413: LimitReached,
    414: LimitReached,
    415: Invalid,
    421: NotAllowed,
    422: Invalid,
    424: Missing,
    426: Invalid,
    429: LimitReached,
    431: LimitReached,
    501: Missing,
    502: Unreachable,
    503: Unreachable,
    504: TooSlow,
    507: LimitReached,
}
_BY_NAME: Mapping[str, type[ColonyError]] = {kind.__name__: kind for kind in {*_KINDS.values(), AlreadyExists, Broken}}
_STANDARD = frozenset({"type", "title", "status", "detail", "instance", "code", "hint", "kind", "details"})


def error_from_problem(status: int, problem: Mapping[str, Any]) -> ColonyError:
    """The error behind a problem document (RFC 9457): its `kind` where it is told, else by the status; code, hint and details kept."""
    code = _text(problem, "code") or "refused"
    kind = _BY_NAME.get(_text(problem, "kind")) or _by_status(status, code)
    message = _text(problem, "detail") or _text(problem, "title") or f"the daemon answered {status}"
    told = problem.get("details")
    details = {key: value for key, value in problem.items() if key not in _STANDARD}
    return kind(code, message, _text(problem, "hint"), details={**details, **(told if isinstance(told, dict) else {})})


def error_from_answer(status: int, content_type: str, body: bytes, *, where: str, location: str = "") -> ColonyError:
    """The error behind a refusal that is no problem document: another program answers, or the daemon is broken.

    An answer that leads elsewhere (to `location`) is one: a token goes to nobody but whom it was given for.
    """
    shown = _shown(body[: SHOWN_LETTERS * 4].decode("utf-8", "replace"))
    if status in _AWAY:
        return Unreachable(
            "daemon-unreachable", f"no daemon answers behind {where} ({status}): {shown or 'nothing'}", "colony serve"
        )
    if 300 <= status < 400 and location:
        return Broken(
            "unexpected-answer",
            f"{where} leads to {_shown(location)} ({status}), which is not followed",
            "if that is Colony's address, say so: COLONY_SERVER=https://…",
            details={"status": status},
        )
    kind = Broken if status >= 500 else _by_status(status, "")
    return kind(
        "unexpected-answer",
        f"{where} answered {status} ({content_type or 'no content type'}): {shown or 'nothing'}",
        "is this address Colony's? colony doctor looks",
        details={"status": status},
    )


def unreachable(where: object, error: BaseException) -> ColonyError:
    """Nobody answers there, or somebody who does not let us in."""
    if isinstance(error, PermissionError):
        return NotAllowed("socket-denied", f"{where} belongs to somebody else", "run this as the user of the daemon")
    if isinstance(error, ssl.SSLError):
        return refused(where, error)
    why = reason(error) if isinstance(error, OSError) else str(error) or type(error).__name__
    hint = "is the front there up? docs/previews.md" if str(where).startswith("https:") else "colony serve"
    return Unreachable("daemon-unreachable", f"no daemon answers at {where}: {why}", hint)


def _by_status(status: int, code: str) -> type[ColonyError]:
    if status == 409 and code.endswith(("-taken", "-exists", "already-running")):
        return AlreadyExists
    return _KINDS.get(status, Invalid if 400 <= status < 500 else Broken)


def _shown(text: str) -> str:
    """One line of it, fit for a terminal."""
    line = " ".join(text.split())
    return "".join(letter if letter.isprintable() else "?" for letter in line)[:SHOWN_LETTERS]


def _text(problem: Mapping[str, Any], key: str) -> str:
    value = problem.get(key)
    return value if isinstance(value, str) else ""
