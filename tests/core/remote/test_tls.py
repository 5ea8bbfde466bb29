"""A front with TLS is asked only where its certificate holds, by the command's client and by streams alike."""

import socket
import ssl
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import attrs
import pytest
import trio

from colony_core.errors import Broken, ColonyError, Invalid, Unreachable
from colony_core.remote import Client, Target, blocking, calls, sockets
from colony_core.remote.streaming import open_events

from .authority import HERE, Authority, serving
from .conftest import PATIENCE_SECONDS, ScriptedServer

Asks = Callable[[Target], None]
Serves = Callable[[ssl.SSLContext | None], ScriptedServer]
HEAD = b"HTTP/1.1 %s\r\nContent-Length: 2\r\nContent-Type: application/json\r\n%s\r\n{}"
ANSWER = HEAD % (b"200 OK", b"")


def by_client(target: Target) -> None:
    Client(target).send_raw(calls.system())


def by_stream(target: Target) -> None:
    async def ask() -> None:
        with trio.fail_after(PATIENCE_SECONDS):
            async with open_events(target, 0):
                raise AssertionError("opened")

    trio.run(ask)


@pytest.fixture(params=[by_client, by_stream])
def ask(request: pytest.FixtureRequest) -> Asks:
    asks: Asks = request.param
    return asks


@pytest.fixture
def serve(authority: Authority) -> Iterator[Serves]:
    """Starts servers with this or that certificate; targets trust the authority."""
    with ExitStack() as stack:

        def serve(tls: ssl.SSLContext | None) -> ScriptedServer:
            listener = socket.create_server(("127.0.0.1", 0))
            target = Target(host="127.0.0.1", port=listener.getsockname()[1], token="cut_1_secret")
            server = ScriptedServer(listener, attrs.evolve(target, tls=bool(tls), ca_file=str(authority.root)), tls)
            stack.callback(server.close)
            return server

        yield serve


def refused(ask: Asks, target: Target, kind: type[ColonyError], code: str) -> ColonyError:
    with pytest.raises(kind) as caught:
        ask(target)
    assert caught.value.code == code
    assert caught.value.message.isprintable()
    return caught.value


@pytest.mark.parametrize(
    ("names", "days", "asked", "reason", "hint"),
    [
        (HERE, 2, {"ca_file": None}, "unable to get local issuer certificate", "COLONY_CA_FILE"),
        (HERE, 2, {"ca_file": "other"}, "unable to get local issuer certificate", "COLONY_CA_FILE"),
        ("DNS:colony.example.org", 2, {}, "not valid for '127.0.0.1'", "name in its certificate"),
        ("DNS:colony.example.org", 2, {"host": "localhost"}, "not valid for 'localhost'", "name in its certificate"),
        ("DNS:*.localhost", 2, {"host": "localhost"}, "not valid for 'localhost'", "name in its certificate"),
        (HERE, -1, {}, "certificate has expired", "clock"),
    ],
)
def test_a_certificate_that_does_not_hold_ends_it_before_a_token_is_sent(
    ask: Asks,
    authority: Authority,
    serve: Serves,
    tmp_path: Path,
    names: str,
    days: int,
    asked: dict[str, Any],
    reason: str,
    hint: str,
) -> None:
    if asked.get("ca_file"):
        asked = {"ca_file": str(Authority(tmp_path).root)}
    server = serve(authority.issue("odd", names, days=days))
    error = refused(ask, attrs.evolve(server.target, **asked), Unreachable, "certificate-refused")
    assert reason in error.message
    assert hint in error.hint
    assert server.requests == []


def test_the_authorities_of_the_system_are_where_openssl_looks(
    authority: Authority, serve: Serves, monkeypatch: pytest.MonkeyPatch
) -> None:
    server = serve(serving(authority.root))
    server.will_answer(ANSWER)
    monkeypatch.setenv("SSL_CERT_FILE", str(authority.root))
    by_client(attrs.evolve(server.target, ca_file=None))


def test_the_front_hears_for_which_name_it_is_asked(ask: Asks, authority: Authority, serve: Serves) -> None:
    heard: list[str | None] = []
    tls = serving(authority.root)
    tls.sni_callback = lambda _, name, __: heard.append(name)
    server = serve(tls)
    server.will_answer(HEAD % (b"500 Sorry", b""))
    refused(ask, attrs.evolve(server.target, host="localhost"), ColonyError, "refused")
    assert heard == ["localhost"]
    assert server.requests[0][1]["host"] == f"localhost:{server.target.port}"
    assert server.requests[0][1]["authorization"] == "Bearer cut_1_secret"


def test_the_port_that_https_has_anyway_stays_out_of_the_host(
    authority: Authority, serve: Serves, monkeypatch: pytest.MonkeyPatch
) -> None:
    server = serve(serving(authority.root))
    server.will_answer(ANSWER)
    connect, asked = socket.create_connection, []

    def lead_astray(address: tuple[str, int], *rest: Any) -> socket.socket:
        asked.append(address)
        return connect(("127.0.0.1", server.target.port), *rest)

    monkeypatch.setattr(socket, "create_connection", lead_astray)
    by_client(attrs.evolve(server.target, host="localhost", port=443))
    assert asked == [("localhost", 443)]
    assert server.requests[0][1]["host"] == "localhost"


@pytest.mark.parametrize("made", ["missing", "words", "folder"])
def test_a_file_that_holds_no_authority_is_named(ask: Asks, tmp_path: Path, made: str) -> None:
    (tmp_path / "words").write_text("no certificate\n")
    (tmp_path / "folder").mkdir()
    target = Target(host="127.0.0.1", port=1, tls=True, ca_file=str(tmp_path / made))
    assert str(tmp_path / made) in refused(ask, target, Invalid, "invalid-ca-file").message


def test_what_speaks_no_tls_is_told(ask: Asks) -> None:
    def answer() -> None:
        connection, _ = listener.accept()
        with connection:
            connection.recv(65536)
            connection.sendall(b"HTTP/1.1 400 Bad Request\r\n\r\n")

    with socket.create_server(("127.0.0.1", 0)) as listener:
        thread = threading.Thread(target=answer)
        thread.start()
        target = Target(host="127.0.0.1", port=listener.getsockname()[1], tls=True)
        assert "wrong version number" in refused(ask, target, Unreachable, "tls-failed").message
        thread.join(PATIENCE_SECONDS)


def test_who_begins_no_tls_in_time_is_told(ask: Asks, monkeypatch: pytest.MonkeyPatch) -> None:
    for module in (blocking, sockets):
        monkeypatch.setattr(module, "CONNECT_SECONDS", 0.2)
    with socket.create_server(("127.0.0.1", 0)) as listener:
        target = Target(host="127.0.0.1", port=listener.getsockname()[1], tls=True)
        assert "ssl.c" not in refused(ask, target, Unreachable, "daemon-unreachable").message


async def test_the_beginning_of_tls_can_be_cancelled() -> None:
    (listener,) = await trio.open_tcp_listeners(0, host="127.0.0.1")
    target = Target(host="127.0.0.1", port=listener.socket.getsockname()[1], tls=True)
    async with trio.open_nursery() as nursery, listener:

        async def ask() -> None:
            with scope:
                async with open_events(target, 0):
                    raise AssertionError("opened")

        scope = trio.CancelScope()
        nursery.start_soon(ask)
        async with await listener.accept() as stream:
            assert await stream.receive_some()
            scope.cancel()
            with trio.fail_after(PATIENCE_SECONDS):
                while await stream.receive_some():  # what is left of its greeting, and then its end
                    pass
    assert scope.cancelled_caught


@pytest.mark.parametrize("host", [f"{'x' * 64}.invalid", ".invalid", "a..invalid"])
def test_what_can_be_no_name_is_told(ask: Asks, host: str) -> None:
    refused(ask, Target(host=host, port=443, tls=True), Unreachable, "daemon-unreachable")


def test_a_front_that_wants_a_certificate_of_ours_is_told(ask: Asks, authority: Authority, serve: Serves) -> None:
    tls = serving(authority.root)
    tls.verify_mode = ssl.CERT_REQUIRED
    with pytest.raises(Unreachable):
        ask(serve(tls).target)


@pytest.mark.parametrize("tls", [True, False])
def test_a_redirection_is_told_and_not_followed(ask: Asks, authority: Authority, serve: Serves, tls: bool) -> None:
    server = serve(serving(authority.root) if tls else None)
    server.will_answer(HEAD % (b"308 Moved", b"Location: https://colony.example.org/\x1b[1mapi\r\n"))
    error = refused(ask, server.target, Broken, "unexpected-answer")
    assert f"{server.target} leads to https://colony.example.org/?[1mapi (308)" in error.message
    assert "COLONY_SERVER" in error.hint
    assert len(server.requests) == 1


@pytest.mark.parametrize("status", [b"502 Bad Gateway", b"503 Later", b"504 Slow"])
def test_a_front_without_a_daemon_behind_it_is_told_as_such(
    ask: Asks, authority: Authority, serve: Serves, status: bytes
) -> None:
    server = serve(serving(authority.root))
    server.will_answer(b"HTTP/1.1 " + status + b"\r\nContent-Length: 0\r\n\r\n")
    refused(ask, server.target, Unreachable, "daemon-unreachable")


def test_a_stream_is_taken_up_again_when_the_daemon_is_back_behind_its_front(
    authority: Authority, serve: Serves, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(blocking, "RECONNECT_SECONDS", 0.01)
    head = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nConnection: close\r\n\r\nretry: 10\n"
    end = b'event: end\ndata: {"reason": "log-ended"}\n\n'
    server = serve(serving(authority.root))
    server.will_answer(
        head + b"id: 1\ndata: a\n\n",
        b"HTTP/1.1 502 Bad Gateway\r\nContent-Length: 0\r\n\r\n",
        head + b"id: 2\ndata: b\n\n" + end,
    )
    got = Client(server.target).stream_lines(calls.follow_logs("hello"), reconnect=True)
    assert [event.data for event in got] == ["a", "b"]
    assert [headers.get("last-event-id") for _, headers, _ in server.requests] == [None, "1", "1"]
