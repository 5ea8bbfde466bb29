"""One client's connection: its requests, one after the other, each to the service that its Host names.

Two tasks share the work. The connection's own task reads requests and passes them up; for each connection to a service another task
passes answers down. So both directions flow at once, an answer may come before its request is complete, and while nothing happens
each side notices when the other goes. A service's connection is kept for the next request to the same place; a request to another
place gets another connection, so bytes can never reach the wrong colony.

The file is long because the two tasks share one state, which should be read in one place.
"""

import logging
import re

import trio

from colony_core.errors import ColonyError

from .bodies import UNTIL_CLOSE, BadFraming, body_of
from .exchange import HALF_CLOSED_SECONDS, Exchange, Rules, Service, Tunnel, Upstream
from .heads import BadHead, Request, Response, parse_request, parse_response
from .pages import Refusal, bad_answer, bad_request, broke_off, mistake, no_such_host, not_listening, render, too_slow
from .places import asked_as, led_back
from .routes import NotOurs, parse_host
from .site import ASK_PATH
from .wires import BROKEN, Wire, wire_of

HEAD_BYTES = 65536
HEAD_SECONDS = 15
BODY_SECONDS = 300
"""An upload that rests for so long is given up."""
CONNECT_SECONDS = 5
GONE_CHECK_SECONDS = 5
LINGER_SECONDS = 2
"""How long a client's unread bytes are awaited and thrown away, so that its last answer is not lost in a reset."""

ASK = ASK_PATH.encode() + b"?domain="
"""Under no name of the domain, so that it hides nothing of a colony's."""

log = logging.getLogger("colony.routing")
_BARE_NEWLINE = re.compile(rb"(?<!\r)\n")


class Connection:
    """A client's connection from its first byte to its last."""

    def __init__(self, client: Wire, peer: str, rules: Rules) -> None:
        self._client = client
        self._peer = peer.encode("ascii", "replace")
        self._trusted = peer in rules.trusted_proxies
        self._rules = rules
        self._buffer = b""
        self._exchange: Exchange | None = None
        self._service: Service | None = None
        self._changed: trio.Event | None = None
        self._waiting = True
        self._closing = False
        self._half_closed = False
        self._draining = False
        self._scope = trio.CancelScope()
        self.served = 0
        self.idle_since = trio.current_time()

    async def run(self) -> None:
        """Serves the connection until it ends, and closes it."""
        try:
            with self._scope:
                async with trio.open_nursery() as self._nursery:
                    await self._listen()
                    self._nursery.cancel_scope.cancel()
        finally:
            await self._client.close()

    @property
    def idle(self) -> bool:
        """Whether it is between requests."""
        return self._waiting and self._exchange is None

    def cut(self) -> None:
        """Ends it now."""
        self._scope.cancel()

    def drain(self) -> None:
        """Ends it after the present answer; at once where there is none, or one that would not end by itself."""
        self._draining = True
        exchange = self._exchange
        if self.idle or (exchange is not None and (exchange.events or exchange.tunnel is not None)):
            self.cut()

    # ---- the connection's own task: requests, upwards

    async def _listen(self) -> None:
        try:
            while (head := await self._next_head()) and await self._serve(head):
                self.served += 1
        except BROKEN:
            return

    async def _next_head(self) -> bytes:
        """The next request's head; empty when there will be none."""
        data, self._buffer = self._buffer, b""
        if not data:
            self._waiting = True
            data = await self._client.read()
            self._waiting = False
            if self._closing:
                await self._discard()
                return b""
            if not data:
                await self._finish_half_closed()
                return b""
        end = data.find(b"\r\n\r\n")
        if end < 0 or data[0] in b"\r\n":
            data, end = await self._slow_head(data)
        if end > HEAD_BYTES:
            await self._turn_away(bad_request(431, f"the request's head is larger than {HEAD_BYTES // 1024} KiB"))
            return b""
        self._buffer = data[end + 4 :]
        return data[: end + 4] if end >= 0 else b""

    async def _slow_head(self, data: bytes) -> tuple[bytes, int]:
        """Reads on until a head is complete or too large; -1 when the connection ended, or was turned away."""
        with trio.move_on_after(HEAD_SECONDS) as scope:
            while True:
                if data[:1] in (b"\r", b"\n"):
                    data = data.lstrip(b"\r\n")
                end = data.find(b"\r\n\r\n")
                if end >= 0 or len(data) > HEAD_BYTES:
                    return data, end if end >= 0 else len(data)
                if _BARE_NEWLINE.search(data):
                    break
                more = await self._client.read()
                if not more:
                    return b"", -1
                data += more
        if scope.cancelled_caught:
            await self._turn_away(bad_request(408, f"the request's head did not arrive within {HEAD_SECONDS} s"))
        else:
            await self._turn_away(bad_request(400, "a line of the request's head does not end with CR and LF"))
        return b"", -1

    async def _serve(self, head: bytes) -> bool:
        """Sends one request on its way, or refuses it; False when the connection is over."""
        try:
            request = parse_request(head, peer=self._peer, trusted=self._trusted)
        except BadHead as bad:
            return await self._turn_away(bad_request(bad.status, bad.message))
        while self._exchange is not None:
            await self._change()
        if self._closing:
            return await self._discard()
        place = self._place(request)
        service = self._service
        if service is not None and not (
            isinstance(place, Upstream)
            and service.usable
            and service.place == place
            and (request.repeatable or not service.wire.is_stale())
        ):
            service.drop()
            service = self._service = None
        reused = service is not None
        if service is None:
            opened = place if isinstance(place, Refusal) else await self._connect(place)
            if isinstance(opened, Refusal):
                keep = request.body == 0 and request.keep_alive and opened.status != 400 and not self._draining
                await self._client.write(render(opened, accept=request.accept, method=request.method, keep_alive=keep))
                return keep or await self._hang_up_and_discard()
            service = self._service = opened
        assert isinstance(place, Upstream), "a refusal opens nothing"
        service.place = place  # the same place, in the words of now
        if place.asked_as is not None:
            request = asked_as(request, place.asked_as)
        exchange = self._exchange = Exchange(request, service, port=place.port, reused=reused)
        if not reused:
            self._nursery.start_soon(self._answers, service)
        return await self._pass_up(exchange)

    def _place(self, request: Request) -> Upstream | Refusal:
        target = parse_host(request.host, self._rules.domain, self._rules.known)
        try:
            if isinstance(target, NotOurs):
                if target.why == "foreign" and request.target.startswith(ASK):
                    return self._rules.certify(request.target.removeprefix(ASK).decode("latin-1"))
                return no_such_host(target, request.host, self._rules.domain)
            return self._rules.resolve(target)
        except Exception:
            log.exception("the way to %s could not be found", target)
            return mistake(f"the way to {target} could not be found")

    async def _connect(self, place: Upstream) -> Service | Refusal:
        try:
            with trio.fail_after(CONNECT_SECONDS):
                return Service(place, wire_of(await place.connect()))
        except trio.TooSlowError:
            return too_slow(place.label, CONNECT_SECONDS)
        except OSError as error:
            return not_listening(place.label, error, comes_back=place.comes_back)
        except ColonyError as error:
            return Refusal(502, "The service cannot be reached", error.message, error.hint, code=error.code)

    async def _pass_up(self, exchange: Exchange) -> bool:
        """Writes a request, body and all; for an upgrade also what follows. False when the connection is over."""
        request, service = exchange.request, exchange.service
        if not exchange.uploaded:
            return await self._upload(exchange)
        try:
            await service.wire.write(request.head)
        except TimeoutError:
            await service.wire.close()
        except BROKEN:
            pass  # the task that reads from the service finds out, and may try again
        if request.upgrade:
            while self._exchange is exchange and exchange.tunnel is None:
                with trio.move_on_after(GONE_CHECK_SECONDS):
                    await self._change()
                if self._client.is_gone():
                    return False
            if exchange.tunnel is not None:
                early, self._buffer = self._buffer, b""
                await exchange.tunnel.run(self._client, service.wire, early)
                return False
        return True

    async def _upload(self, exchange: Exchange) -> bool:
        """Passes a request's head and body up; False when the connection is over."""
        wire, head = exchange.service.wire, exchange.request.head
        body, data = body_of(exchange.request.body), self._buffer
        while True:
            try:
                end, done = body.feed(data)
            except BadFraming as bad:
                return await self._give_up(exchange, bad_request(400, f"the request's body is malformed: {bad}"))
            try:
                await wire.write(head + data[:end])
            except TimeoutError:
                await wire.close()
                return await self._await_answer(exchange)
            except BROKEN:
                return await self._await_answer(exchange)
            head, data = b"", data[end:]
            if done:
                break
            with trio.move_on_after(BODY_SECONDS) as scope:
                more = await self._client.read_on()
            if scope.cancelled_caught:
                return await self._give_up(exchange, bad_request(408, f"its body rested for {BODY_SECONDS} s"))
            if not more:
                exchange.service.drop()
                await wire.abort()
                return False
            data = data + more if data else more
        self._buffer = data
        exchange.uploaded = True
        if exchange.answered:
            self._end(exchange)
        return True

    async def _await_answer(self, exchange: Exchange) -> bool:
        """The service takes no more of an upload: waits for the answer that it may have given, then ends the connection."""
        while self._exchange is exchange and not exchange.answered:
            await self._change()
        return await self._hang_up_and_discard()

    async def _give_up(self, exchange: Exchange, refusal: Refusal) -> bool:
        """Refuses a request of which a part went up already."""
        exchange.service.drop()
        if exchange.started:
            await self._client.abort()
            return False
        self._end(exchange)
        return await self._turn_away(refusal)

    async def _finish_half_closed(self) -> None:
        """The client writes no more; it may still read, so the last answer is awaited as long as it moves."""
        self._half_closed = True
        exchange = self._exchange
        moved = -1
        while exchange is not None and self._exchange is exchange and not exchange.events and exchange.moved != moved:
            moved = exchange.moved
            with trio.move_on_after(HALF_CLOSED_SECONDS):
                await self._change()

    async def _turn_away(self, refusal: Refusal) -> bool:
        """Answers something that is no proper request, after the answers that are due before it, and ends the connection."""
        while self._exchange is not None:
            await self._change()
        if not self._closing:
            await self._client.write(render(refusal))
        return await self._hang_up_and_discard()

    async def _hang_up_and_discard(self) -> bool:
        await self._hang_up()
        return await self._discard()

    async def _discard(self) -> bool:
        while await self._client.read():
            pass
        return False

    # ---- a service's task: answers, downwards

    async def _answers(self, service: Service) -> None:
        with service.scope:
            try:
                while await self._answer(service):
                    pass
            finally:
                service.usable = False
                if self._service is service:
                    self._service = None
                await service.wire.close()

    async def _answer(self, service: Service) -> bool:
        """Passes one answer down; False when the service's connection is of no more use."""
        data = await _read(service.wire)
        exchange = self._exchange
        if exchange is None or exchange.service is not service or exchange.answered:
            return False  # it closed, or spoke without being asked
        try:
            try:
                if not data and exchange.reused and exchange.request.repeatable:
                    data = await self._ask_again(exchange)
                response, data = await self._response(exchange, data)
            except _Failed as failed:
                return await self._fail(exchange, failed.refusal)
            if response.status == 101:
                return await self._change_protocol(exchange, response, data)
            return await self._pass_down(exchange, response, data)
        except (BadFraming, *BROKEN):
            await self._client.abort()
            self.cut()
            return False

    async def _ask_again(self, exchange: Exchange) -> bytes:
        """The kept connection was stale: sends a request that may be repeated on a fresh one, and begins to read the answer."""
        place = self._place(exchange.request)
        opened = place if isinstance(place, Refusal) else await self._connect(place)
        if isinstance(opened, Refusal):
            raise _Failed(opened)
        service = exchange.service
        stale, service.wire, service.place = service.wire, opened.wire, opened.place
        exchange.reused = False
        await stale.close()
        try:
            await service.wire.write(exchange.request.head)
        except BROKEN:
            return b""
        return await _read(service.wire)

    async def _response(self, exchange: Exchange, data: bytes) -> tuple[Response, bytes]:
        """Reads on to the end of the answer's head, passing interim ones down; returns also what came behind it."""
        request, service = exchange.request, exchange.service
        ended = not data
        while True:
            end = data.find(b"\r\n\r\n")
            if end > HEAD_BYTES or (end < 0 and len(data) > HEAD_BYTES):
                raise _Failed(bad_answer(service.place.label, f"its head is larger than {HEAD_BYTES // 1024} KiB"))
            if end < 0:
                if ended:
                    raise _Failed(broke_off(service.place.label, comes_back=service.place.comes_back))
                more = await _read(service.wire)
                ended = not more
                data += more
                continue
            try:
                response = parse_response(data[: end + 4], request=request)
            except BadHead as bad:
                raise _Failed(bad_answer(service.place.label, bad.message)) from None
            data = data[end + 4 :]
            if response.status == 101 and not request.upgrade:
                raise _Failed(bad_answer(service.place.label, "it changes the protocol without being asked"))
            response, refused = led_back(response, request, port=exchange.port, domain=self._rules.domain)
            if refused:
                service.place.complain(refused[0])
            if response.status >= 200 or response.status == 101:
                return response, data
            if not request.old:
                await self._client.write(response.head + b"\r\n")

    async def _change_protocol(self, exchange: Exchange, response: Response, data: bytes) -> bool:
        exchange.tunnel = Tunnel()
        await self._client.write(response.head + b"\r\n" + data)
        self._tell()
        if self._draining:
            self.cut()
        await exchange.tunnel.run(exchange.service.wire, self._client)
        self.cut()
        return False

    async def _pass_down(self, exchange: Exchange, response: Response, data: bytes) -> bool:
        """Writes an answer to the client as it comes; False when the service's connection is of no more use."""
        wire = exchange.service.wire
        closing = not exchange.request.keep_alive or response.body == UNTIL_CLOSE or self._draining
        head = response.head + _last_lines(closing=closing, old=exchange.request.old)
        body = body_of(response.body)
        exchange.started, exchange.events = True, response.events
        if response.events and (self._half_closed or self._draining):
            self.cut()
        while True:
            end, done = body.feed(data)
            await self._client.write(head + data[:end])
            head, data = b"", data[end:]
            exchange.moved += 1
            if done:
                break
            more = await wire.read_on()
            if not more:
                if response.body != UNTIL_CLOSE:
                    raise trio.BrokenResourceError
                break
            data = data + more if data else more
        await self._complete(exchange, closing=closing)
        return response.reusable and not data

    async def _fail(self, exchange: Exchange, refusal: Refusal) -> bool:
        """Puts a page in the place of the answer that did not come."""
        request = exchange.request
        exchange.started = True
        keep = request.keep_alive and exchange.uploaded and not self._draining
        await self._client.write(render(refusal, accept=request.accept, method=request.method, keep_alive=keep))
        await self._complete(exchange, closing=not keep)
        return False

    # ---- between the two

    async def _complete(self, exchange: Exchange, *, closing: bool) -> None:
        exchange.answered = True
        if closing:
            await self._hang_up()
        if exchange.uploaded or closing:
            self._end(exchange)
        self._tell()

    def _end(self, exchange: Exchange) -> None:
        if self._exchange is exchange:
            self._exchange = None
            self.idle_since = trio.current_time()
            self._tell()

    async def _hang_up(self) -> None:
        """Nothing more will be written; what the client still sends is thrown away for a moment."""
        self._closing = True
        self._scope.deadline = trio.current_time() + LINGER_SECONDS
        try:
            await self._client.write_eof()
        except BROKEN:
            self.cut()

    def _tell(self) -> None:
        if self._changed is not None:
            self._changed.set()
            self._changed = None

    async def _change(self) -> None:
        if self._changed is None:
            self._changed = trio.Event()
        await self._changed.wait()


class _Failed(Exception):
    """The service gave no answer that could be passed on."""

    def __init__(self, refusal: Refusal) -> None:
        super().__init__(refusal)
        self.refusal = refusal


async def _read(wire: Wire) -> bytes:
    """What the service says next; a broken connection counts as its end."""
    try:
        return await wire.read()
    except BROKEN:
        return b""


def _last_lines(*, closing: bool, old: bool) -> bytes:
    if closing:
        return b"Connection: close\r\n\r\n"
    return b"Connection: keep-alive\r\n\r\n" if old else b"\r\n"
