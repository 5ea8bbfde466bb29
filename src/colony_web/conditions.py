"""Conditional requests (RFC 9110, 13): each JSON answer to a GET has a strong `ETag`; `If-None-Match` saves sending it again,
and `If-Match` keeps two people from undoing each other's changes."""

import hashlib
from typing import Any

from quart import Response

from colony_core.errors import Invalid

ANY = "*"


async def unchanged(asked: Any, response: Response) -> Response:
    """The answer with its version, or 304 without a body where the client has that version already."""
    if response.status_code != 200 or response.mimetype != "application/json":
        return response
    version = response.headers.get("ETag") or etag(await response.get_data(as_text=False))
    response.headers["ETag"] = version
    known = _entity_tags(asked.headers.getlist("If-None-Match"))
    if known is None or not (ANY in known or version in {each.removeprefix("W/") for each in known}):
        return response
    headers = {name: value for name, value in response.headers.items() if name in ("ETag", "Link", "Cache-Control")}
    empty = Response(b"", 304, headers=headers)
    empty.headers.pop("Content-Type", None)
    return empty


def condition(asked: Any, *, taken: bool) -> frozenset[str] | None:
    """The versions in `If-Match`, None where there is none. Raises Invalid where a change has no versions: no promise is broken."""
    found = _entity_tags(asked.headers.getlist("If-Match"))
    if found is not None and not taken:
        raise Invalid("no-versions", f"{asked.method} {asked.path} takes no If-Match", "leave the header away")
    return found


def opaque(condition: frozenset[str] | None) -> frozenset[str] | None:
    """The versions themselves; None where any will do. A weak one never matches (RFC 9110, 13.1.1)."""
    if condition is None or ANY in condition:
        return None
    return frozenset(tag[1:-1] for tag in condition if len(tag) > 1 and tag[0] == tag[-1] == '"')


def etag(body: bytes) -> str:
    """The version of an answer."""
    return f'"{hashlib.blake2b(body, digest_size=12).hexdigest()}"'


def _entity_tags(lines: list[str]) -> frozenset[str] | None:
    if not lines:
        return None
    return frozenset(part.strip() for line in lines for part in line.split(","))
