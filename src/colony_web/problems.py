"""Any ColonyError as an RFC 9457 problem: code, words, hint. The only place that knows which error is which HTTP status. Pure."""

from collections.abc import Iterator, Mapping
from http import HTTPStatus
from typing import Any

import attrs

from colony_core.access import redacted
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

MEDIA_TYPE = "application/problem+json"

_BY_KIND: Mapping[type[ColonyError], HTTPStatus] = {
    NotFound: HTTPStatus.NOT_FOUND,
    AlreadyExists: HTTPStatus.CONFLICT,
    WrongState: HTTPStatus.CONFLICT,
    Invalid: HTTPStatus.UNPROCESSABLE_ENTITY,
    NotAllowed: HTTPStatus.FORBIDDEN,
    LimitReached: HTTPStatus.TOO_MANY_REQUESTS,
    Missing: HTTPStatus.NOT_IMPLEMENTED,
    Unreachable: HTTPStatus.SERVICE_UNAVAILABLE,
    TooSlow: HTTPStatus.GATEWAY_TIMEOUT,
    Broken: HTTPStatus.INTERNAL_SERVER_ERROR,
}
_BY_CODE: Mapping[str, HTTPStatus] = {
    "body-too-large": HTTPStatus.REQUEST_ENTITY_TOO_LARGE,
    "body-too-slow": HTTPStatus.REQUEST_TIMEOUT,
    "invalid-idempotency-key": HTTPStatus.BAD_REQUEST,
    "invalid-target": HTTPStatus.BAD_REQUEST,
    "malformed-json": HTTPStatus.BAD_REQUEST,
    "malformed-request": HTTPStatus.BAD_REQUEST,
    "head-too-large": HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE,
    "method-not-allowed": HTTPStatus.METHOD_NOT_ALLOWED,
    "cookie-doubled": HTTPStatus.UNAUTHORIZED,
    "login-code-unknown": HTTPStatus.UNAUTHORIZED,
    "session-unknown": HTTPStatus.UNAUTHORIZED,
    "token-required": HTTPStatus.UNAUTHORIZED,
    "token-unknown": HTTPStatus.UNAUTHORIZED,
    "upgrade-required": HTTPStatus.UPGRADE_REQUIRED,
    "changed-meanwhile": HTTPStatus.PRECONDITION_FAILED,
    "too-many-connections": HTTPStatus.SERVICE_UNAVAILABLE,
    "unsupported-media-type": HTTPStatus.UNSUPPORTED_MEDIA_TYPE,
    "wrong-host": HTTPStatus.MISDIRECTED_REQUEST,
}


@attrs.frozen(kw_only=True)
class Problem:
    """What an error looks like outside: the status, the document, and headers that belong to it."""

    status: int
    document: dict[str, Any]
    headers: dict[str, str] = attrs.field(factory=dict)


def problem_of(error: ColonyError, *, request_id: str = "") -> Problem:
    """The problem document of an error."""
    status = status_of(error)
    document: dict[str, Any] = {
        "type": f"urn:colony:error:{error.code}",
        "title": status.phrase,
        "status": int(status),
        "detail": redacted(error.message),
        "code": error.code,
        "hint": redacted(error.hint),
        "kind": _kind_of(error),
    }
    if error.details:
        document["details"] = _redacted(dict(error.details))
    if request_id:
        document["request_id"] = request_id
    return Problem(status=int(status), document=document, headers=_headers_of(error, status))


def _kind_of(error: ColonyError) -> str:
    """The name of the public class that an error is one of; rooms have further ones of their own."""
    return next(kind.__name__ for kind in type(error).__mro__ if kind.__module__ == ColonyError.__module__)


def _redacted(value: Any) -> Any:
    """The same without the secrets of tokens, wherever they stand in it: what was sent wrong is often told back."""
    if isinstance(value, str):
        return redacted(value)
    if isinstance(value, Mapping):
        return {redacted(str(key)): _redacted(inner) for key, inner in value.items()}
    return [_redacted(inner) for inner in value] if isinstance(value, (list, tuple)) else value


def status_of(error: ColonyError) -> HTTPStatus:
    """The HTTP status of an error: by its code where that says more, else by its kind."""
    if error.code in _BY_CODE:
        return _BY_CODE[error.code]
    for kind, status in _BY_KIND.items():
        if isinstance(error, kind):
            return status
    return HTTPStatus.INTERNAL_SERVER_ERROR


def internal_error(request_id: str) -> ColonyError:
    """What is said of a defect: nothing but where to look."""
    return Broken(
        "internal-error",
        "Colony made a mistake with this request",
        f"look for {request_id} in the daemon's own output, and report it",
    )


def colony_error_in(error: BaseException) -> ColonyError | None:
    """The ColonyError that an exception, or a group that holds nothing else of worth, stands for."""
    found = list(_leaves(error))
    colony = [leaf for leaf in found if isinstance(leaf, ColonyError)]
    return colony[0] if colony and len(colony) == len(found) else None


def _leaves(error: BaseException) -> Iterator[BaseException]:
    if isinstance(error, BaseExceptionGroup):
        for inner in error.exceptions:
            yield from _leaves(inner)
    else:
        yield error


def _headers_of(error: ColonyError, status: HTTPStatus) -> dict[str, str]:
    headers: dict[str, str] = {}
    if status == HTTPStatus.UNAUTHORIZED:
        headers["WWW-Authenticate"] = 'Bearer realm="colony"'
    if "retry_after" in error.details:
        headers["Retry-After"] = str(error.details["retry_after"])
    if status == HTTPStatus.UPGRADE_REQUIRED:
        headers["Upgrade"] = "websocket"
    if "allow" in error.details:
        headers["Allow"] = ", ".join(error.details["allow"])
    return headers
