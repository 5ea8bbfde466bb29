"""Heads of HTTP/1 messages: checked strictly, then rewritten as little as a proxy must. Pure.

A head that two programs could read in two ways is refused, since that is how requests are smuggled. What is taken out of a request:
fields that concern one connection only (`Connection` and what it names), Colony's own cookie and Colony's own token. What is put in:
`X-Forwarded-For`, `-Proto` and `-Host`; values that came from a client which is no trusted proxy are replaced, not believed. The other
names for the same, `Forwarded` and `X-Real-IP`, are taken out: nobody in front of us checks them.
"""

import re

import attrs

from .bodies import CHUNKED, UNTIL_CLOSE

SESSION_COOKIE = b"colony_session"
SESSION_COOKIES = {SESSION_COOKIE, b"__Host-" + SESSION_COOKIE}
TOKEN_PATTERN = rb"cut_[0-9]+_"

_CHARACTER = rb"[!#$%&'*+.^_`|~0-9A-Za-z-]"
_TEXT = rb"[\t\x20-\x7e\x80-\xff]"
_FIELDS = re.compile(rb"(?:" + _CHARACTER + rb"++:" + _TEXT + rb"*+\r\n)*+\r\n")
_REQUEST_LINE = re.compile(rb"(" + _CHARACTER + rb"++) ([\x21-\x7e\x80-\xff]++) HTTP/1\.([01])\r\n")
_STATUS_LINE = re.compile(rb"HTTP/1\.([01]) ([1-9][0-9]{2})( " + _TEXT + rb"*+)?\r\n")
_OF_REQUESTS = re.compile(
    rb"\r\n(?i:(host|connection|content-length|transfer-encoding|upgrade|cookie|authorization|accept|keep-alive"
    rb"|proxy-connection|te|http2-settings|x[-_]forwarded[-_](?:for|proto|host)|x[-_]real[-_]ip|forwarded)):([^\r]*+)"
)
_OF_RESPONSES = re.compile(
    rb"\r\n(?i:(connection|content-length|transfer-encoding|upgrade|content-type|keep-alive|proxy-connection)):([^\r]*+)"
)
_LENGTH = re.compile(rb"[0-9]{1,18}")
_ABSOLUTE = re.compile(rb"(?i:http)://([^/?#@]+)([/?][^#]*+)?")
_OWN_TOKEN = re.compile(rb"(?i:bearer)[ \t]+" + TOKEN_PATTERN)
_ONE_HOP = frozenset({b"connection", b"keep-alive", b"proxy-connection", b"te", b"http2-settings"})
_NOT_BY_CONNECTION = re.compile(
    rb"close|keep-alive|upgrade|te|host|content-.*|transfer-encoding|cookie|set-cookie|authorization|x[-_]forwarded[-_].*"
)
_UNREPEATABLE = frozenset({b"POST", b"PATCH", b"CONNECT"})


class BadHead(Exception):
    """This head is refused: `status` for a client, `message` for a person."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(status, message)
        self.status = status
        self.message = message


@attrs.frozen(kw_only=True)
class Request:
    """A request's head. `head` is what goes upstream, `body` a length or `CHUNKED`."""

    method: bytes
    target: bytes
    host: bytes
    scheme: bytes
    head: bytes
    body: int
    keep_alive: bool
    upgrade: bool
    old: bool
    accept: bytes

    @property
    def repeatable(self) -> bool:
        """Whether sending it twice does no harm, and its head is all of it."""
        return self.body == 0 and not self.upgrade and self.method not in _UNREPEATABLE


@attrs.frozen(kw_only=True)
class Response:
    """A response's head. `head` goes to the client and still lacks its closing line; `body` is a length, `CHUNKED` or `UNTIL_CLOSE`."""

    status: int
    head: bytes
    body: int
    reusable: bool
    events: bool


def parse_request(head: bytes, *, peer: bytes, trusted: bool) -> Request:
    """Checks and rewrites a whole request head (with its empty line) from the address `peer`; raises BadHead."""
    line = _REQUEST_LINE.match(head)
    if line is None:
        raise BadHead(400, "the request line is malformed")
    if not _FIELDS.fullmatch(head, line.end()):
        raise BadHead(400, "a header field is malformed")
    method, target, minor = line.groups()
    fields = _Fields(head, line.end() - 2, _OF_REQUESTS)
    old = minor == b"0"
    host = _only_host(fields, old=old)
    if not target.startswith(b"/"):
        target = _origin_form(method, target, host)
    body = _request_body(fields, old=old)
    options = fields.options()
    protocol = fields.one(b"upgrade")
    upgrade = b"upgrade" in options and bool(protocol) and body == 0 and not old and b"h2c" not in protocol.lower()
    for name in _ONE_HOP:
        fields.drop(name)
    if not upgrade:
        fields.drop(b"upgrade")
    fields.drop_named_by(options)
    _take_out_secrets(fields)
    extra, scheme = _forwarded(fields, host, peer=peer, trusted=trusted)
    if upgrade:
        extra += b"Connection: Upgrade\r\n"
    elif old and b"keep-alive" in options:
        extra += b"Connection: keep-alive\r\n"
    first = head[: line.end()] if target == line[2] else b"%b %b HTTP/1.%b\r\n" % (method, target, minor)
    return Request(
        method=method,
        target=target,
        host=host,
        scheme=scheme,
        head=first + fields.rest() + extra + b"\r\n",
        body=body,
        keep_alive=b"close" not in options and (not old or b"keep-alive" in options),
        upgrade=upgrade,
        old=old,
        accept=fields.one(b"accept"),
    )


def parse_response(head: bytes, *, request: Request) -> Response:
    """Checks and rewrites a whole response head (with its empty line); raises BadHead with status 502."""
    line = _STATUS_LINE.match(head)
    if line is None:
        raise BadHead(502, "the service's status line is malformed")
    if not _FIELDS.fullmatch(head, line.end()):
        raise BadHead(502, "a header field of the service's answer is malformed")
    fields = _Fields(head, line.end() - 2, _OF_RESPONSES)
    status = int(line[2])
    first = b"HTTP/1.1 %b%b\r\n" % (line[2], line[3] or b" ")
    if status == 101:
        raw = first + fields.rest()
        return Response(status=status, head=raw, body=UNTIL_CLOSE, reusable=False, events=False)
    options = fields.options()
    body = _response_body(fields, status, request)
    for name in (b"connection", b"keep-alive", b"proxy-connection", b"upgrade"):
        fields.drop(name)
    fields.drop_named_by(options)
    return Response(
        status=status,
        head=first + fields.rest(),
        body=body,
        reusable=body != UNTIL_CLOSE and b"close" not in options and (line[1] == b"1" or b"keep-alive" in options),
        events=fields.one(b"content-type").lower().startswith(b"text/event-stream"),
    )


class _Fields:
    """The fields of a head that a proxy must look at, and what is left of the head when some are taken out."""

    __slots__ = ("_cuts", "_found", "_head", "_start")

    def __init__(self, head: bytes, start: int, pattern: re.Pattern[bytes]) -> None:
        self._head = head
        self._start = start
        self._cuts: list[tuple[int, int, bytes]] = []
        self._found: dict[bytes, list[tuple[int, int, bytes]]] = {}
        for match in pattern.finditer(head, start):
            name = match[1].lower()
            entry = (match.start(), match.end(), match[2].strip(b" \t"))
            if name in self._found:
                self._found[name].append(entry)
            else:
                self._found[name] = [entry]

    def all(self, name: bytes) -> list[bytes]:
        return [value for _, _, value in self._found.get(name, ())]

    def one(self, name: bytes) -> bytes:
        found = self._found.get(name)
        return found[0][2] if found else b""

    def options(self) -> list[bytes]:
        """What `Connection` says, in lower case."""
        found = self._found.get(b"connection")
        if not found:
            return []
        return [option.strip(b" \t") for _, _, value in found for option in value.lower().split(b",")]

    def drop(self, name: bytes) -> None:
        for start, end, _ in self._found.get(name, ()):
            self._cuts.append((start, end, b""))

    def drop_repeats(self, name: bytes) -> None:
        for start, end, _ in self._found[name][1:]:
            self._cuts.append((start, end, b""))

    def drop_named_by(self, options: list[bytes]) -> None:
        for option in options:
            if option and not _NOT_BY_CONNECTION.fullmatch(option) and option not in self._found:
                named = re.compile(rb"\r\n(?i:" + re.escape(option) + rb"):[^\r]*+")
                self._cuts.extend(
                    (match.start(), match.end(), b"") for match in named.finditer(self._head, self._start)
                )

    def replace(self, name: bytes, index: int, line: bytes) -> None:
        start, end, _ = self._found[name][index]
        self._cuts.append((start, end, line))

    def rest(self) -> bytes:
        """The field lines that are left, each with its CRLF."""
        if not self._cuts:
            return self._head[self._start + 2 : -2]
        pieces, at = [], self._start
        for start, end, line in sorted(set(self._cuts)):
            pieces.append(self._head[at:start])
            pieces.append(line)
            at = end
        pieces.append(self._head[at:-2])
        return b"".join(pieces)[2:]


def _only_host(fields: _Fields, *, old: bool) -> bytes:
    hosts = fields.all(b"host")
    if len(hosts) > 1:
        raise BadHead(400, "the request has more than one Host")
    if not hosts and not old:
        raise BadHead(400, "the request has no Host")
    return hosts[0] if hosts else b""


def _origin_form(method: bytes, target: bytes, host: bytes) -> bytes:
    if method == b"CONNECT":
        raise BadHead(405, "previews are not a way to other hosts: CONNECT is refused")
    if target == b"*" and method == b"OPTIONS":
        return target
    found = _ABSOLUTE.fullmatch(target)
    if found is None:
        raise BadHead(400, "the request's target is malformed")
    if found[1].lower() != host.lower():
        raise BadHead(400, "the request's target and its Host name different hosts")
    path = found[2] or b"/"
    return path if path.startswith(b"/") else b"/" + path


def _request_body(fields: _Fields, *, old: bool) -> int:
    codings, lengths = fields.all(b"transfer-encoding"), fields.all(b"content-length")
    if codings:
        if lengths:
            raise BadHead(400, "the request has both Content-Length and Transfer-Encoding")
        if old:
            raise BadHead(400, "Transfer-Encoding does not exist in HTTP/1.0")
        if len(codings) > 1 or codings[0].lower() != b"chunked":
            raise BadHead(501, "of transfer codings only `chunked` is understood")
        return CHUNKED
    if not lengths:
        return 0
    if len(lengths) > 1 or not _LENGTH.fullmatch(lengths[0]):
        raise BadHead(400, "the request's Content-Length is malformed")
    return int(lengths[0])


def _response_body(fields: _Fields, status: int, request: Request) -> int:
    codings, lengths = fields.all(b"transfer-encoding"), fields.all(b"content-length")
    if request.method == b"HEAD" or status < 200 or status in (204, 304):
        return 0
    if codings:
        if len(codings) > 1 or codings[0].lower() != b"chunked":
            raise BadHead(502, "the service's answer has a transfer coding other than `chunked`")
        if request.old:
            raise BadHead(502, "the service answers an HTTP/1.0 request with a chunked body")
        fields.drop(b"content-length")
        return CHUNKED
    if not lengths:
        return UNTIL_CLOSE
    if len(set(lengths)) > 1 or not _LENGTH.fullmatch(lengths[0]):
        raise BadHead(502, "the Content-Length of the service's answer is malformed")
    fields.drop_repeats(b"content-length")
    return int(lengths[0])


def _take_out_secrets(fields: _Fields) -> None:
    for index, value in enumerate(fields.all(b"cookie")):
        if SESSION_COOKIE in value:
            pairs = [pair.strip(b" \t") for pair in value.split(b";")]
            kept = [pair for pair in pairs if pair.partition(b"=")[0].rstrip(b" \t") not in SESSION_COOKIES]
            if len(kept) < len(pairs):
                fields.replace(b"cookie", index, b"\r\nCookie: " + b"; ".join(kept) if any(kept) else b"")
    for index, value in enumerate(fields.all(b"authorization")):
        if _OWN_TOKEN.match(value):
            fields.replace(b"authorization", index, b"")


def _forwarded(fields: _Fields, host: bytes, *, peer: bytes, trusted: bool) -> tuple[bytes, bytes]:
    """The lines that tell a service who asked and how, and the scheme."""
    chain, scheme, name = (peer,) if peer else (), b"http", host
    if trusted:
        chain = (*fields.all(b"x-forwarded-for"), *chain)
        scheme = fields.one(b"x-forwarded-proto") or scheme
        name = fields.one(b"x-forwarded-host") or name
    for field in [key for key in fields._found if key.startswith((b"x-", b"x_", b"forwarded"))]:
        fields.drop(field)
    lines = b"X-Forwarded-For: %b\r\n" % b", ".join(chain) if chain else b""
    return lines + b"X-Forwarded-Proto: %b\r\nX-Forwarded-Host: %b\r\n" % (scheme, name), scheme
