"""What a connection holds on to: the way to a service, the connection to it, and one request with its answer."""

from collections.abc import Awaitable, Callable
from http import HTTPStatus

import attrs
import trio

from .heads import Request
from .pages import Refusal, no_such_host
from .routes import NotOurs, Target, parse_host
from .wires import BROKEN, Wire

HALF_CLOSED_SECONDS = 30
"""How long a direction may rest when the other one has ended."""


@attrs.frozen
class Upstream:
    """A service that can be reached; `connect` opens a connection or raises OSError or ColonyError.

    Two upstreams with the same label and key are the same place, between which connections may be reused; so the key must change when
    a colony or its namespace is made anew. The label is for people. `port` is where the service believes to be; `asked_as` is the Host that
    it is shown, where that is not the preview's own. `comes_back`: when nobody listens, somebody is about to start it again. `complain` is
    called with the name of a cookie that was left out of an answer; it must be quick.
    """

    connect: Callable[[], Awaitable[trio.abc.Stream]] = attrs.field(eq=False)
    label: str
    key: str = ""
    port: int | None = attrs.field(default=None, eq=False)
    asked_as: bytes | None = attrs.field(default=None, eq=False)
    comes_back: bool = attrs.field(default=False, eq=False)
    complain: Callable[[str], None] = attrs.field(default=lambda name: None, eq=False)


@attrs.frozen(kw_only=True)
class Rules:
    """What all connections of a proxy share."""

    resolve: Callable[[Target], Upstream | Refusal]
    known: Callable[[str], bool]
    domain: str
    trusted_proxies: frozenset[str] = frozenset()

    def certify(self, name: str) -> Refusal:
        """The answer to a web server that asks whether `name` deserves a certificate: 200 where it leads to a colony, else 404."""
        target = parse_host(name, self.domain, self.known)
        if isinstance(target, NotOurs):
            return no_such_host(target, name.encode("latin-1", "replace"), self.domain)
        place = self.resolve(target)
        if isinstance(place, Refusal) and place.status == HTTPStatus.NOT_FOUND:
            return place
        return Refusal(HTTPStatus.OK, "Yes", f"{name} leads to {target}.", code="preview-known")


class Service:
    """An open connection to a service, and the scope of the task that reads from it."""

    __slots__ = ("place", "scope", "usable", "wire")

    def __init__(self, place: Upstream, wire: Wire) -> None:
        self.place = place
        self.wire = wire
        self.scope = trio.CancelScope()
        self.usable = True

    def drop(self) -> None:
        """Lets its task close it."""
        self.usable = False
        self.scope.cancel()


class Exchange:
    """A request and its answer, on their way."""

    __slots__ = ("answered", "events", "moved", "port", "request", "reused", "service", "started", "tunnel", "uploaded")

    def __init__(self, request: Request, service: Service, *, port: int | None, reused: bool) -> None:
        self.request = request
        self.service = service
        self.port = port
        self.reused = reused
        self.uploaded = request.body == 0
        self.started = False
        """Bytes of the answer may have reached the client."""
        self.answered = False
        self.events = False
        """The answer is a stream of events, which never ends by itself."""
        self.moved = 0
        self.tunnel: Tunnel | None = None


class Tunnel:
    """Two directions of bytes that are no longer HTTP. Each runs in the task of its reader; both return when both have ended."""

    def __init__(self) -> None:
        self._scopes: list[trio.CancelScope] = []
        self._ended = 0
        self._over = trio.Event()

    async def run(self, source: Wire, sink: Wire, first: bytes = b"") -> None:
        """Passes bytes on until `source` ends, and then its end; a direction that rests long after the other ended is given up."""
        with trio.CancelScope() as scope:
            self._scopes.append(scope)
            try:
                data = first or await source.read_on()
                while data:
                    await sink.write(data)
                    if self._ended:
                        scope.deadline = trio.current_time() + HALF_CLOSED_SECONDS
                    data = await source.read_on()
                await sink.write_eof()
            except BROKEN:
                self._over.set()
        self._ended += 1
        if self._ended == 2:
            self._over.set()
        for other in self._scopes:
            other.deadline = trio.current_time() + HALF_CLOSED_SECONDS
        await self._over.wait()
