"""What a program asks of the proxy in its cell: the head of one HTTP request, read strictly and written anew (RFC 9110, 9112). Pure."""

import re

import attrs

END = b"\r\n\r\n"
_TOKEN = rb"[!#$%&'*+.^_`|~0-9A-Za-z-]+"
_REQUEST = re.compile(rb"(" + _TOKEN + rb") ([\x21-\x7e]+) (HTTP/1\.[01])")
_FIELD = re.compile(rb"(" + _TOKEN + rb"):[ \t]*([\t\x20-\x7e\x80-\xff]*)")
_AUTHORITY = re.compile(rb"(?:\[([0-9A-Fa-f:.]{2,45})\]|([0-9A-Za-z._-]{1,253}))(?::([0-9]{1,5}))?")
_ABSOLUTE = re.compile(rb"http://([^/?#]*)([^#]*)", re.IGNORECASE)
_ONE_HOP = frozenset({b"connection", b"host", b"keep-alive", b"te", b"upgrade"})
"""Fields between a program and us, besides those that `Connection` names and `Proxy-…`; `Host` is told anew."""


class NotUnderstoodError(Exception):
    """A head that is not answered as asked: the status to answer with, and in the message why."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status


@attrs.frozen
class Asked:
    """Where somebody wants to go, and what is to be said there first: nothing where it is a tunnel (`CONNECT`)."""

    host: str
    port: int
    head: bytes = b""


def read_head(head: bytes) -> Asked:
    """The wish in a head that ends with its empty line. Raises NotUnderstoodError."""
    if not head.endswith(END):
        raise NotUnderstoodError(400, "the head has no end")
    first, *lines = head[: -len(END)].split(b"\r\n")
    request = _REQUEST.fullmatch(first)
    fields = [_FIELD.fullmatch(line) for line in lines]
    if request is None or not all(fields):
        raise NotUnderstoodError(400, "not an HTTP/1.1 request")
    method, target, version = request.groups()
    if method == b"CONNECT":
        return Asked(*_place(target, None))
    absolute = _ABSOLUTE.fullmatch(target)
    if absolute is None:
        raise NotUnderstoodError(400, "this is a proxy: ask for http://… , or CONNECT for https")
    authority, path = absolute.groups()
    host, port = _place(authority, 80)
    told = [(match[1], match[2].strip(b" \t")) for match in fields if match is not None]
    named = {
        word.strip().lower() for name, value in told if name.lower() == b"connection" for word in value.split(b",")
    }
    kept = [
        name + b": " + value
        for name, value in told
        if name.lower() not in _ONE_HOP | named and not name.lower().startswith(b"proxy-")
    ]
    target = path if path.startswith(b"/") else b"*" if method == b"OPTIONS" and not path else b"/" + path
    anew = [method + b" " + target + b" " + version, b"Host: " + authority, *kept, b"Connection: close"]
    return Asked(host, port, b"\r\n".join(anew) + END)


def _place(authority: bytes, default_port: int | None) -> tuple[str, int]:
    found = _AUTHORITY.fullmatch(authority)
    port = None if found is None else int(found[3]) if found[3] else default_port
    if found is None or port is None or not 0 < port < 65536:
        raise NotUnderstoodError(400, "not a host and a port")
    return (found[1] or found[2]).decode(), port
