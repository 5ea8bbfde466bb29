"""Who is asking: the socket's owner, a bearer token or a browser's cookie; by which host, from which page. Nothing here waits.

A request passes, in this order: its target, its `Host` (against DNS rebinding), `Sec-Fetch-Site` and `Origin` (against foreign pages),
its identity. What that identity may do is asked by the route. The first that fails answers; nothing was acted upon by then.
"""

import grp
import ipaddress
import os
from collections import OrderedDict
from collections.abc import Callable, Collection, Iterable, Mapping, MutableMapping
from typing import Any

import attrs
import trio

from colony_core.access import Identity, Role, house_owner, user_name
from colony_core.config import Config
from colony_core.errors import ColonyError, Invalid, NotAllowed

from .house import House
from .scope import DRAINING as DRAINING
from .scope import IDENTITY as IDENTITY
from .scope import PEER as PEER
from .scope import REQUEST_ID as REQUEST_ID
from .scope import ROUTE as ROUTE
from .scope import SECURE
from .sessions import session_token, too_many

FAILURES = 10
FAILURES_WINDOW_SECONDS = 60.0
REMEMBERED_ADDRESSES = 1024

_PUBLIC = frozenset({"/", "/docs", "/openapi.json", "/login"})
CUSTOM_HEADER = "colony-request"
"""No page of another site can send it without asking first, and nobody is answered who asks."""
SAFE = frozenset({"GET", "HEAD", "OPTIONS"})
_DEFAULT_PORTS = {"http": 80, "https": 443}


@attrs.frozen(kw_only=True)
class Peer:
    """The process at the other end of a Unix socket; `netns` is the inode of its network namespace, where that can be seen."""

    pid: int
    uid: int
    gid: int
    netns: int | None
    groups: frozenset[int] = frozenset()


class Failures:
    """Counts wrong tokens per address, for a bounded number of addresses; right ones are never held up."""

    def __init__(self, now: Callable[[], float] = trio.current_time) -> None:
        self._now = now
        self._seen: OrderedDict[str, tuple[float, int]] = OrderedDict()

    def count(self, address: str) -> float:
        """Notes a failure; returns the seconds to wait where there were too many, else 0."""
        now = self._now()
        began, number = self._seen.pop(address, (now, 0))
        if now - began >= FAILURES_WINDOW_SECONDS:
            began, number = now, 0
        self._seen[address] = (began, number + 1)
        while len(self._seen) > REMEMBERED_ADDRESSES:
            self._seen.popitem(last=False)
        return began + FAILURES_WINDOW_SECONDS - now if number + 1 > FAILURES else 0.0


class Door:
    """Lets requests in. `origins` are further addresses (`http://host:port`) under which the face is reached."""

    def __init__(self, house: House, *, origins: Collection[str] = (), failures: Failures | None = None) -> None:
        self._house = house
        self._origins = frozenset(_parse_origin(origin) for origin in origins)
        self._failures = failures or Failures()
        self._group = group_number(house.config.access.group)

    def admit(self, scope: MutableMapping[str, Any]) -> Identity | None:
        """Who is asking (None: anybody, for a page that is nobody's secret). Raises NotAllowed, LimitReached or Invalid."""
        if not scope["path"].startswith("/"):
            raise Invalid("invalid-target", "the request's target is not a path", "send a path such as /api/colonies")
        headers = Headers(scope["headers"])
        peer: Peer | None = (scope.get("state") or {}).get(PEER)
        allowed = allowed_hosts(self._house.config, scope.get("server"), over_socket=peer is not None)
        further = {authority for origin in self._origins for authority in (origin[1:], _plain(origin))}
        check_host(headers, allowed | further)
        check_origin(headers, allowed, self._origins)
        asked = parse_authority(headers.all("host")[0])
        scope[SECURE] = any(origin[0] == "https" and asked in (origin[1:], _plain(origin)) for origin in self._origins)
        if peer is None and _is_public(scope):
            return None
        local = self._local_user(peer) if peer else None
        if headers.all("authorization"):
            return self._token_holder(headers, scope)
        return local or self._browser(headers, scope)

    def failed(self, scope: Mapping[str, Any], error: ColonyError) -> ColonyError:
        """Notes a wrong token or code; what to say of it."""
        client, peer = scope.get("client"), (scope.get("state") or {}).get(PEER)
        return too_many(error, self._failures.count(str(client[0]) if client else f"uid:{peer.uid if peer else ''}"))

    def _local_user(self, peer: Peer) -> Identity:
        house = peer.uid in (0, os.getuid())
        if not house and (self._group is None or self._group not in {peer.gid, *peer.groups}):
            raise NotAllowed(
                "socket-of-another-user",
                f"this socket belongs to {house_owner()}, and uid {peer.uid} asks",
                "run the command as that user, or use a token (colony token create)",
            )
        # A rootless daemon sees every process of its own user namespace, cells and all; what it cannot look at lives outside of them.
        hidden = peer.netns is None and self._house.mode != "rootless" and not (peer.uid == 0 and os.getuid() != 0)
        # Not only cells: whoever made a network of its own inside of one is in none of them.
        elsewhere = peer.netns is not None and peer.netns != own_network()
        if hidden or elsewhere:
            raise NotAllowed(
                "socket-from-a-cell",
                "processes inside a colony may not use the daemon's socket",
                "ask from outside of the colony",
            )
        name = user_name(peer.uid)
        return Identity(
            id=f"uid:{peer.uid}", name=name, role=Role.APE, person=house_owner() if house else name, house=house
        )

    def _token_holder(self, headers: "Headers", scope: Mapping[str, Any]) -> Identity:
        given = headers.all("authorization")
        scheme, _, token = given[0].strip().partition(" ")
        identity = (
            self._house.keys.authenticate(token.strip())
            if len(given) == 1 and scheme.lower() == "bearer" and token.strip()
            else None
        )
        if identity is None:
            error = NotAllowed("token-unknown", "this token opens nothing", "colony token create makes a new one")
            raise self.failed(scope, error)
        return identity

    def _browser(self, headers: "Headers", scope: Mapping[str, Any]) -> Identity:
        token = session_token(headers.all("cookie"), secure=scope[SECURE])
        if token is None:
            raise NotAllowed(
                "token-required",
                "this address needs a token",
                'send "Authorization: Bearer <token>" (colony token create), use the Unix socket, or in a browser: colony login',
            )
        identity = self._house.keys.authenticate(token, browser=True)
        if identity is None:
            raise self.failed(scope, NotAllowed("session-unknown", "this browser is not logged in", "colony login"))
        if scope["type"] == "websocket" and not headers.all("origin"):
            raise NotAllowed("origin-required", "a cookie alone opens no WebSocket", "send Origin, or a token")
        if scope["type"] == "http" and scope["method"] not in SAFE and not headers.all(CUSTOM_HEADER):
            raise NotAllowed(
                "header-required",
                "a cookie alone changes nothing",
                'send "Colony-Request: 1", as Colony\'s own pages do',
            )
        return identity


class Headers:
    """The headers of an ASGI scope, by lower-case name."""

    def __init__(self, raw: Iterable[tuple[bytes, bytes]]) -> None:
        self._raw = tuple((name.lower(), value) for name, value in raw)

    def all(self, name: str) -> list[str]:
        """Every value that was given under `name`."""
        wanted = name.encode()
        return [value.decode("latin1") for key, value in self._raw if key == wanted]


Authority = tuple[str, int | None]


def allowed_hosts(config: Config, server: Any, *, over_socket: bool) -> set[Authority]:
    """The authorities under which this face may be called: loopback's names, the configured address, and the one that was reached."""
    names = {"localhost", "127.0.0.1", "::1", config.server.bind}
    if over_socket or not server or not server[1]:
        return {(name, port) for name in names for port in (None, 80, config.server.port)}
    port = int(server[1])
    names.add(_host_name(str(server[0])) or "localhost")
    return {(name, port) for name in names} | ({(name, None) for name in names} if port == 80 else set())


def check_host(headers: Headers, allowed: set[Authority]) -> None:
    """Raises NotAllowed (`wrong-host`) unless there is exactly one `Host`, and it is one of ours."""
    given = headers.all("host")
    if len(given) != 1 or parse_authority(given[0]) not in allowed:
        shown = ", ".join(repr(value[:80]) for value in given) or "none"
        raise NotAllowed(
            "wrong-host",
            f"this is not the host that was asked for: {shown}",
            "call Colony by localhost, 127.0.0.1 or its configured address, with its port; server.origins takes further ones",
        )


def check_origin(headers: Headers, allowed: set[Authority], origins: Collection[tuple[str, str, int]]) -> None:
    """Raises NotAllowed where a page of another site asks; what a name serves by plain HTTP is one, where `origins` say HTTPS."""
    for site in headers.all("sec-fetch-site"):
        if site not in ("same-origin", "none"):
            raise NotAllowed("foreign-origin", "pages of other sites may not ask Colony", "open Colony's own page")
    for origin in headers.all("origin"):
        try:
            parsed = _parse_origin(origin)
        except ValueError:
            parsed = None
        ours = parsed is not None and (
            parsed in origins or (parsed[0] == "http" and {(parsed[1], parsed[2]), _plain(parsed)} & allowed)
        )
        if not ours:
            raise NotAllowed(
                "foreign-origin", f"the origin {origin[:80]!r} may not ask Colony", "open Colony's own page"
            )


def parse_authority(text: str) -> Authority | None:
    """Host and port of a `Host` header, the host in its one spelling; None where it is not written as one must."""
    host, bracket, rest = text.partition("]") if text.startswith("[") else ("", "", text)
    name, colon, port = rest.partition(":")
    if bracket:
        if name:
            return None
        name = f"{host}]"
    if colon and not (port.isascii() and port.isdigit() and 0 < int(port) < 65536 and len(port) <= 5):
        return None
    known = _host_name(name)
    return (known, int(port) if colon else None) if known else None


def _host_name(text: str) -> str | None:
    if text.startswith("["):
        try:
            return str(ipaddress.IPv6Address(text[1:-1])) if text.endswith("]") else None
        except ValueError:
            return None
    try:
        return str(ipaddress.ip_address(text))
    except ValueError:
        return text.lower() if text.isascii() and text and not text.endswith(".") else None


def _parse_origin(text: str) -> tuple[str, str, int]:
    scheme, found, rest = text.partition("://")
    authority = parse_authority(rest)
    if not found or scheme not in _DEFAULT_PORTS or authority is None:
        raise ValueError(f"expected an origin such as http://localhost:5000, got {text!r}")
    return scheme, authority[0], authority[1] or _DEFAULT_PORTS[scheme]


def _plain(origin: tuple[str, str, int]) -> Authority:
    return (origin[1], None if origin[2] == _DEFAULT_PORTS[origin[0]] else origin[2])


def _is_public(scope: Mapping[str, Any]) -> bool:
    path = str(scope["path"]).removeprefix(scope.get("root_path") or "")
    return scope["type"] == "http" and scope["method"] in SAFE and (path or "/") in _PUBLIC


def own_network() -> int:
    """The network namespace of this process."""
    return os.stat("/proc/self/ns/net").st_ino


def group_number(name: str) -> int | None:
    """The number of a group of this machine, None where no name is given; raises Invalid."""
    if not name:
        return None
    try:
        return grp.getgrnam(name).gr_gid
    except KeyError:
        raise Invalid(
            "unknown-group", f"this machine has no group {name!r}", "see access.group in the settings"
        ) from None
