"""What of a message names the place it is at, from the browser's view to the service's and back. Pure.

A browser knows a preview by its own name, a service knows itself as localhost and a port. Redirects to that are led back to the preview;
cookies for all previews at once are left out. A service that answers only to localhost is asked as such, where its
manifest says so.
"""

import re

import attrs

from .heads import Request, Response

_OF_REQUESTS = re.compile(rb"\r\n(?i:(host|origin)):([^\r]*+)")
_OF_RESPONSES = re.compile(rb"\r\n(?i:(location|set-cookie)):([^\r]*+)")
_LOCAL = re.compile(rb"[ \t]*(?i:https?)://(?i:localhost|127\.0\.0\.1|\[::1\]):([0-9]{1,5})(?=[/?#]|[ \t]*$)")


def asked_as(request: Request, host: bytes) -> Request:
    """The request as if it had been sent to `host`: another Host, and another Origin where that was the preview's own."""
    own = (b"http://" + request.host.lower(), b"https://" + request.host.lower())

    def change(field: re.Match[bytes]) -> bytes:
        if field[1].lower() == b"host":
            return b"\r\nHost: " + host
        return b"\r\nOrigin: http://" + host if field[2].strip(b" \t").lower() in own else field[0]

    return attrs.evolve(request, head=_OF_REQUESTS.sub(change, request.head))


def led_back(
    response: Response, request: Request, *, port: int | None, domain: str
) -> tuple[Response, tuple[str, ...]]:
    """The answer of a service at `port` as its browser shall see it, and the names of the cookies that were left out of it."""
    refused: list[str] = []

    def change(field: re.Match[bytes]) -> bytes:
        if field[1].lower() == b"set-cookie":
            if not _is_wide(field[2], domain.encode()):
                return field[0]
            refused.append(field[2].partition(b"=")[0].strip(b" \t").decode("latin-1"))
            return b""
        local = _LOCAL.match(field[2])
        if local is None or int(local[1]) != port or not request.host:
            return field[0]
        return b"\r\n%b: %b://%b%b" % (field[1], request.scheme, request.host, field[2][local.end() :])

    head = _OF_RESPONSES.sub(change, response.head)
    return (response if head == response.head else attrs.evolve(response, head=head)), tuple(refused)


def _is_wide(cookie: bytes, domain: bytes) -> bool:
    """Whether a cookie has a `Domain` that is the preview domain or above it; that of its own colony is fine."""
    for attribute in cookie.split(b";")[1:]:
        name, _, value = attribute.partition(b"=")
        wanted = value.strip(b" \t").lstrip(b".").rstrip(b".").lower()
        if name.strip(b" \t").lower() == b"domain" and (b"." + domain).endswith(b"." + wanted):
            return True
    return False
