"""Sends a call with the standard library and waits for the answer.

One connection per request: a Unix socket costs 50 µs to open, and a connection that was closed while it idled cannot be mistaken for a
daemon that died. So a Client may be used from several threads.
"""

import http.client
import json
import os
import socket
import ssl
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from functools import cached_property
from typing import Any, Self

from colony_core.errors import Broken, ColonyError, LimitReached, TooSlow, Unreachable

from .calls import Call, next_call
from .problems import error_from_answer, error_from_problem, unreachable
from .sse import SseEvent, SseParser
from .target import HTTPS_PORT, Target
from .tls import trust

CONNECT_SECONDS = 5.0
ANSWER_SECONDS = 60.0
RETRY_SECONDS = 0.1
REPLAY_SECONDS = 10.0
RECONNECT_SECONDS = 1.0
GIVE_UP_SECONDS = 30.0
ENDINGS = frozenset({"log-ended", "feed-ended"})
"""Reasons for the end of a stream behind which nothing comes, whoever asks again."""
MAX_ANSWER_BYTES = 64 * 2**20
VERSION_HEADER = "Colony-Version"
_PIECE_BYTES = 65536
_CUT = (http.client.IncompleteRead, ConnectionError, ssl.SSLEOFError, ssl.SSLZeroReturnError)


class _CutOffError(Exception):
    """The connection ended before the whole answer was there."""


class Client:
    """Asks one daemon. `answer_seconds` is the longest silence while an answer is awaited; None waits for ever.

    Raises what the daemon raised, rebuilt; and `daemon-unreachable`, `socket-denied`, `daemon-slow`, `connection-lost`,
    `malformed-answer`, `unexpected-answer`; over TLS `certificate-refused`, `tls-failed`, `invalid-ca-file`. `server_version` is what
    the daemon said of itself in its last answer.
    """

    def __init__(self, target: Target, *, answer_seconds: float | None = ANSWER_SECONDS) -> None:
        self.target = target
        self.server_version: str | None = None
        self._answer_seconds = answer_seconds

    def __repr__(self) -> str:
        return f"<Client of {self.target}>"

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Nothing stays open between requests; here for `with`."""

    def send(self, call: Call) -> Any:
        """As `send_raw`, with the answer as the view that the call names. Imports the serialiser when first used."""
        answer = self.send_raw(call)
        if call.reply is None:
            return answer
        from colony_core import views, wire

        kind = getattr(views, call.reply)
        try:
            if call.many:
                return tuple(wire.load_reply(json.dumps(one), kind) for one in _list(answer))
            return wire.load_reply(json.dumps(answer), kind)
        except ColonyError as error:
            raise self._malformed(call, error.message) from error

    def pages(self, call: Call) -> Iterator[Any]:
        """The pages of a list that grows, as `send_raw` gives them, as long as the daemon leads on to the next."""
        asked: Call | None = call
        while asked is not None:
            answer, link = self._send(asked)
            yield answer
            asked = next_call(asked, link)

    def send_all(self, call: Call) -> list[Any]:
        """Every item of a list, whatever the pages that it comes in."""
        return [item for page in self.pages(call) for item in _list(page)]

    def send_raw(self, call: Call) -> Any:
        """The answer as plain dicts and lists, None where there is none; of a list that grows one page.

        A GET, or a POST (which carries an idempotency key), is sent once more where the connection broke before the answer was whole.
        """
        return self._send(call)[0]

    def _send(self, call: Call) -> tuple[Any, str]:
        headers = self._headers(call)
        try:
            return self._exchange(call, headers)
        except _CutOffError as error:
            if call.method not in {"GET", "POST"}:
                raise self._lost(call) from error
        deadline = time.monotonic() + REPLAY_SECONDS
        while True:
            time.sleep(RETRY_SECONDS)
            try:
                return self._exchange(call, headers)
            except _CutOffError as error:
                raise self._lost(call) from error
            except ColonyError as error:
                # The first attempt may still be at work; its answer is then told to the second.
                if error.code != "idempotency-in-progress" or time.monotonic() > deadline:
                    raise

    def stream_lines(self, call: Call, *, reconnect: bool = False, last_id: str = "") -> Iterator[SseEvent]:
        """The lines that a call streams, until the log ends; close the iterator to leave earlier.

        With `reconnect` a stream that broke, or that the daemon ended because it leaves, is taken up again behind its last id, until no
        daemon has answered for thirty seconds; without, a broken one raises `connection-lost`. Errors are raised in both.
        """
        lost_at: float | None = None
        while True:
            parser = SseParser()
            parser.last_id = last_id
            try:
                for event in self._stream(call, parser):
                    lost_at = None
                    last_id = parser.last_id
                    if event.event == "error":
                        raise _told(event)
                    if event.event != "end":
                        yield event
                    elif _reason(event) in ENDINGS:
                        return
                if not reconnect:
                    return
            except (_CutOffError, Unreachable, TooSlow) as error:
                if not reconnect:
                    raise (error if isinstance(error, ColonyError) else self._lost(call)) from error
                lost_at = lost_at or time.monotonic()
                if time.monotonic() - lost_at > GIVE_UP_SECONDS:
                    raise (error if isinstance(error, ColonyError) else unreachable(self.target, error)) from error
            time.sleep(RECONNECT_SECONDS if parser.retry_seconds is None else parser.retry_seconds)

    def _exchange(self, call: Call, headers: dict[str, str]) -> tuple[Any, str]:
        """What was answered, and the `Link` to what comes behind it."""
        with self._asked(call, headers) as (response, _):
            body = response.read(MAX_ANSWER_BYTES + 1)
            # http.client reports a body that ends early only where it reads without a bound.
            if len(body) <= MAX_ANSWER_BYTES and response.length:
                raise _CutOffError
        if len(body) > MAX_ANSWER_BYTES:
            raise LimitReached("answer-too-large", f"{call.path}: the answer is larger than {MAX_ANSWER_BYTES} bytes")
        return self._understand(call, response, body), response.getheader("Link") or ""

    def _stream(self, call: Call, parser: SseParser) -> Iterator[SseEvent]:
        headers = self._headers(call) | {"Accept": "text/event-stream", "Cache-Control": "no-store"}
        if parser.last_id:
            headers["Last-Event-ID"] = parser.last_id
        with self._asked(call, headers) as (response, sock):
            kind = _content_type(response)
            if response.status != 200 or kind != "text/event-stream":
                self._understand(call, response, response.read(_PIECE_BYTES))
                raise self._malformed(call, f"{kind or 'nothing'} is no stream of events")
            sock.settimeout(None)
            while piece := response.read1(_PIECE_BYTES):
                yield from parser.feed(piece)
            if response.length:
                raise _CutOffError

    @contextmanager
    def _asked(self, call: Call, headers: dict[str, str]) -> Iterator[tuple[http.client.HTTPResponse, socket.socket]]:
        body = None if call.body is None else json.dumps(call.body).encode()
        with closing(self._connect()) as connection:
            # http.client forgets the socket as soon as an answer says that it is the last.
            sock = connection.sock
            try:
                # A daemon that refuses early closes its half; its answer may be there all the same.
                with suppress(BrokenPipeError, ConnectionResetError, ssl.SSLEOFError):
                    connection.request(call.method, call.url, body=body, headers=headers)
                with connection.getresponse() as response:
                    self.server_version = response.getheader(VERSION_HEADER) or self.server_version
                    yield response, sock
            except TimeoutError as error:
                raise self._slow(call) from error
            except _CUT as error:
                raise _CutOffError from error
            except ssl.SSLError as error:
                raise unreachable(self.target, error) from error
            except (http.client.HTTPException, OSError) as error:
                raise Broken(
                    "unexpected-answer", f"{self.target} does not speak HTTP: {error!r}", "is this address Colony's?"
                ) from error

    def _connect(self) -> http.client.HTTPConnection:
        connection = _Connection(self.target, self._trust)
        try:
            connection.connect()
        except (OSError, UnicodeError) as error:  # a name that no DNS can have is the second
            raise unreachable(self.target, error) from error
        connection.sock.settimeout(self._answer_seconds)
        return connection

    @cached_property
    def _trust(self) -> ssl.SSLContext | None:
        return trust(self.target.ca_file) if self.target.tls else None

    def _understand(self, call: Call, response: http.client.HTTPResponse, body: bytes) -> Any:
        kind = _content_type(response)
        ours = kind == "application/json" or kind.endswith("+json")
        if response.status >= 300 or (body and not ours):
            problem = _json_or_none(body) if ours else None
            if isinstance(problem, dict) and response.status >= 400:
                raise error_from_problem(response.status, problem)
            location = response.getheader("Location") or ""
            raise error_from_answer(response.status, kind, body, where=str(self.target), location=location)
        if not body:
            return None
        try:
            return json.loads(body)
        except (ValueError, RecursionError) as error:
            raise self._malformed(call, f"not JSON: {error}") from error

    def _headers(self, call: Call) -> dict[str, str]:
        headers = {"Accept": "application/json", "Connection": "close", **self.target.headers}
        if call.body is not None:
            headers["Content-Type"] = "application/json"
        if call.if_match is not None:
            headers["If-Match"] = f'"{call.if_match}"'
        if call.later:
            headers["Prefer"] = "respond-async"
        if call.method == "POST":
            headers["Idempotency-Key"] = call.idempotency_key or os.urandom(16).hex()
        return headers

    def _slow(self, call: Call) -> TooSlow:
        waited = f"{self._answer_seconds:g} s"
        return TooSlow("daemon-slow", f"no answer to {call.method} {call.path} within {waited}", "colony status")

    def _lost(self, call: Call) -> Unreachable:
        may_be_done = call.method != "GET"
        return Unreachable(
            "connection-lost",
            f"the connection to {self.target} broke before the answer to {call.method} {call.path} was whole"
            + (": it may or may not have been carried out" if may_be_done else ""),
            "look with colony ls, then ask again" if may_be_done else "ask again; colony status says whether it lives",
        )

    def _malformed(self, call: Call, why: str) -> Broken:
        version = f" (version {self.server_version})" if self.server_version else ""
        return Broken(
            "malformed-answer",
            f"{self.target}{version} answered {call.method} {call.path} in a way that this version does not understand: {why}",
            "compare colony version with the daemon's",
        )


class _Connection(http.client.HTTPConnection):
    def __init__(self, target: Target, trust: ssl.SSLContext | None) -> None:
        super().__init__(target.host, target.port, timeout=CONNECT_SECONDS)
        self._path = target.socket
        self._trust = trust
        if trust:
            self.default_port = HTTPS_PORT  # the one that a Host header leaves out

    def connect(self) -> None:
        try:
            if self._path is None:
                super().connect()
            else:
                self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
                self.sock.settimeout(self.timeout)
                self.sock.connect(self._path)
            if self._trust:
                self.sock = self._trust.wrap_socket(self.sock, server_hostname=self.host)
        except BaseException:
            self.close()
            raise


def _content_type(response: http.client.HTTPResponse) -> str:
    return (response.getheader("Content-Type") or "").partition(";")[0].strip().lower()


def _json_or_none(body: bytes) -> Any:
    try:
        return json.loads(body)
    except (ValueError, RecursionError):
        return None


def _list(answer: Any) -> list[Any]:
    if not isinstance(answer, list):
        raise Broken("malformed-answer", f"expected a list, got {type(answer).__name__}")
    return answer


def _told(event: SseEvent) -> ColonyError:
    problem = _json_or_none(event.data.encode())
    problem = problem if isinstance(problem, dict) else {}
    status = problem.get("status")
    return error_from_problem(status if isinstance(status, int) else 500, problem)


def _reason(event: SseEvent) -> Any:
    told = _json_or_none(event.data.encode())
    return told.get("reason") if isinstance(told, dict) else None
