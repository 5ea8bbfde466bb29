"""The blocking client tells what the daemon said, and what went wrong on the way."""

import json
import os
import socket
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import pytest

from colony_core import views
from colony_core.errors import AlreadyExists, Broken, ColonyError, Invalid, NotAllowed, NotFound, TooSlow, Unreachable
from colony_core.remote import Client, SseEvent, Target, blocking, calls

from .conftest import PATIENCE_SECONDS, ScriptedServer

SYSTEM = {
    "version": "9.9.9",
    "api": 1,
    "pid": 7,
    "started_at": "2026-01-31T08:15:00.250Z",
    "mode": "root",
    "egress": "nat",
    "garden": "local",
    "domain": "colony.localhost",
    "preview_port": 8088,
    "socket": None,
    "state_folder": "/state",
    "colonies": 0,
    "last_event": 1,
    "keeper_pid": None,
    "notes": [],
    "added_later": True,
}


def answer(value: Any, status: int = 200, kind: str = "application/json", **headers: str) -> bytes:
    body = value if isinstance(value, bytes) else json.dumps(value).encode()
    lines = [f"HTTP/1.1 {status} Said", f"Content-Type: {kind}", f"Content-Length: {len(body)}"]
    lines += [f"{name.replace('_', '-')}: {text}" for name, text in headers.items()]
    return "\r\n".join(lines).encode() + b"\r\n\r\n" + body


def stream(*pieces: bytes, end: bytes = b"0\r\n\r\n") -> bytes:
    head = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream; charset=utf-8\r\nTransfer-Encoding: chunked\r\n\r\n"
    return head + b"".join(b"%x\r\n%s\r\n" % (len(piece), piece) for piece in pieces) + end


def cut_off(connection: socket.socket) -> None:
    connection.close()


def refused(client: Client, call: calls.Call, kind: type[ColonyError], code: str) -> ColonyError:
    with pytest.raises(kind) as caught:
        client.send_raw(call)
    assert caught.value.code == code
    return caught.value


def test_an_answer_comes_as_plain_values_or_as_the_view(server: ScriptedServer) -> None:
    server.will_answer(answer(SYSTEM, Colony_Version="9.9.9"), answer(SYSTEM))
    client = Client(server.target)
    assert client.send_raw(calls.system()) == SYSTEM
    assert client.server_version == "9.9.9"
    view = client.send(calls.system())
    assert isinstance(view, views.SystemView)
    assert view.keeper_pid is None
    assert client.server_version == "9.9.9"


def test_a_request_carries_host_token_body_and_a_fresh_key(server: ScriptedServer) -> None:
    server.will_answer(answer({}), answer({}), answer({}))
    client = Client(server.target)
    client.send_raw(calls.spawn("hello", "/tmp/hello"))
    client.send_raw(calls.spawn("hello", "/tmp/hello"))
    client.send_raw(calls.spawn("hello", "/tmp/hello").with_key("mine"))
    (first, headers, body), (_, later, _), (_, keyed, _) = server.requests
    assert first == "POST /api/colonies HTTP/1.1"
    assert headers["host"] == server.target.authority
    assert headers["authorization"] == "Bearer cut_1_secret"
    assert headers["content-type"] == "application/json"
    assert json.loads(body) == {"name": "hello", "path": "/tmp/hello", "start": True, "dry_run": False}
    assert len({headers["idempotency-key"], later["idempotency-key"], "mine"}) == 3
    assert keyed["idempotency-key"] == "mine"


def test_an_empty_answer_is_none(server: ScriptedServer) -> None:
    server.will_answer(b"HTTP/1.1 204 No Content\r\n\r\n")
    assert Client(server.target).send(calls.remove("hello")) is None
    assert server.requests[0][0] == "DELETE /api/colonies/hello HTTP/1.1"


def test_a_problem_becomes_the_error_that_the_daemon_raised(server: ScriptedServer) -> None:
    problem = {
        "type": "about:blank",
        "title": "Not found",
        "status": 404,
        "detail": "no colony 'helo'",
        "code": "colony-not-found",
        "hint": "did you mean hello?",
        "nearest": "hello",
    }
    server.will_answer(answer(problem, 404, "application/problem+json"))
    error = refused(Client(server.target), calls.colony("helo"), NotFound, "colony-not-found")
    assert (error.message, error.hint) == ("no colony 'helo'", "did you mean hello?")
    assert error.details == {"nearest": "hello"}


def test_a_connection_that_breaks_before_the_answer_is_tried_once_more_with_the_same_key(
    server: ScriptedServer,
) -> None:
    server.will_answer(cut_off, answer({"name": "hello"}, 201))
    assert Client(server.target).send_raw(calls.spawn("hello", "/p")) == {"name": "hello"}
    (_, first, _), (_, second, _) = server.requests
    assert first["idempotency-key"] == second["idempotency-key"]


def test_a_connection_that_breaks_twice_is_told(server: ScriptedServer) -> None:
    server.will_answer(cut_off, cut_off)
    error = refused(Client(server.target), calls.start("hello"), Unreachable, "connection-lost")
    assert "may or may not" in error.message
    assert len(server.requests) == 2


def test_a_removal_is_not_sent_twice(server: ScriptedServer) -> None:
    server.will_answer(cut_off)
    refused(Client(server.target), calls.remove("hello"), Unreachable, "connection-lost")
    assert len(server.requests) == 1


def test_an_answer_cut_off_in_its_body_is_asked_for_again(server: ScriptedServer) -> None:
    server.will_answer(answer(SYSTEM)[:-10], answer(SYSTEM))
    assert Client(server.target).send_raw(calls.system()) == SYSTEM


def test_a_chunked_answer_cut_off_in_its_body_is_asked_for_again(server: ScriptedServer) -> None:
    head = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n"
    server.will_answer(head + b'10\r\n{"a": ', head + b'8\r\n{"a": 1}\r\n0\r\n\r\n')
    assert Client(server.target).send_raw(calls.tree()) == {"a": 1}


def test_after_a_broken_connection_the_first_attempt_may_finish_its_work(server: ScriptedServer) -> None:
    busy = answer({"code": "idempotency-in-progress", "detail": "in progress"}, 409, "application/problem+json")
    server.will_answer(cut_off, busy, busy, answer({"name": "hello"}, 201, Idempotency_Replayed="true"))
    assert Client(server.target).send_raw(calls.spawn("hello", "/p")) == {"name": "hello"}
    assert len({headers["idempotency-key"] for _, headers, _ in server.requests}) == 1


def test_a_conflict_is_told_at_once_where_nothing_broke(server: ScriptedServer) -> None:
    taken = {"code": "name-taken", "detail": "hello exists", "hint": "take another"}
    server.will_answer(answer(taken, 409, "application/problem+json"))
    refused(Client(server.target), calls.spawn("hello", "/p"), AlreadyExists, "name-taken")


def test_an_early_refusal_of_a_large_body_is_heard(server: ScriptedServer) -> None:
    problem = {"code": "body-too-large", "detail": "at most 1 MiB"}
    server.will_answer(answer(problem, 413, "application/problem+json"))
    refused(Client(server.target), calls.spawn("hello", "x" * 300_000), ColonyError, "body-too-large")


@pytest.mark.parametrize(
    ("said", "kind", "code"),
    [
        (answer(b"{nonsense"), Broken, "malformed-answer"),
        (answer(b"\xff\xfe\x00"), Broken, "malformed-answer"),
        (answer(b"[" * 100_000), Broken, "malformed-answer"),
        (answer(b"<html>hello</html>", 200, "text/html"), Invalid, "unexpected-answer"),
        (answer(b"Traceback ...\x1b[31m", 500, "text/plain"), Broken, "unexpected-answer"),
        (answer(b"", 500), Broken, "unexpected-answer"),
        (answer(b"{nonsense", 500), Broken, "unexpected-answer"),
        (answer(b"[1]", 500), Broken, "unexpected-answer"),
        (answer(b"", 302, Location="http://elsewhere/"), Broken, "unexpected-answer"),
        (answer({"status": 401}, 401, "application/problem+json"), NotAllowed, "refused"),
        (b"SSH-2.0-OpenSSH_9.2\r\n", Broken, "unexpected-answer"),
        (b"HTTP/1.1 200 OK\r\n" + b"A: b\r\n" * 1000, Broken, "unexpected-answer"),
    ],
)
def test_an_answer_that_is_not_ours_is_told(
    server: ScriptedServer, said: bytes, kind: type[ColonyError], code: str
) -> None:
    server.will_answer(said)
    error = refused(Client(server.target), calls.system(), kind if code != "unexpected-answer" else ColonyError, code)
    assert error.message.isprintable()


def test_an_answer_without_the_fields_of_its_view_is_told(server: ScriptedServer) -> None:
    server.will_answer(answer({"version": "9"}), answer({"not": "a list"}))
    client = Client(server.target)
    for call in (calls.system(), calls.colonies()):
        with pytest.raises(Broken) as caught:
            client.send(call)
        assert caught.value.code == "malformed-answer"


def test_an_answer_without_end_is_cut(server: ScriptedServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(blocking, "MAX_ANSWER_BYTES", 10)
    server.will_answer(answer({"long": "x" * 100}))
    refused(Client(server.target), calls.system(), ColonyError, "answer-too-large")


def test_a_daemon_that_is_silent_is_told_after_the_deadline(server: ScriptedServer) -> None:
    leave = threading.Event()
    server.will_answer(lambda _: leave.wait(PATIENCE_SECONDS) and None)
    error = refused(Client(server.target, answer_seconds=0.05), calls.system(), TooSlow, "daemon-slow")
    leave.set()
    assert "0.05 s" in error.message


def test_no_daemon_says_how_to_start_one(tmp_path: Path) -> None:
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        nobody = Target(host="127.0.0.1", port=closed.getsockname()[1])
        stale = socket.socket(socket.AF_UNIX)
        stale.bind(str(tmp_path / "stale.sock"))
        stale.close()
        for target in (Target(socket=str(tmp_path / "none.sock")), Target(socket=str(tmp_path / "stale.sock")), nobody):
            error = refused(Client(target), calls.system(), Unreachable, "daemon-unreachable")
            assert error.hint == "colony serve"
            assert str(target) in error.message


def test_a_socket_path_that_is_too_long_is_told(tmp_path: Path) -> None:
    refused(Client(Target(socket=f"/tmp/{'x' * 200}")), calls.system(), Unreachable, "daemon-unreachable")


@pytest.mark.root
def test_the_socket_of_another_user_is_told(tmp_path: Path) -> None:
    program = (
        "import os, sys; os.setgroups([]); os.setgid(65534); os.setuid(65534)\n"
        "try: Client(Target(socket=sys.argv[1])).send_raw(calls.system())\n"
        "except NotAllowed as error: print(error.code)\n"
    )
    imports = "from colony_core.remote import *; from colony_core.errors import NotAllowed\n"
    listener = socket.socket(socket.AF_UNIX)
    with listener:
        listener.bind(str(tmp_path / "c.sock"))
        os.chmod(tmp_path / "c.sock", 0o600)
        listener.listen()
        done = subprocess.run(
            [sys.executable, "-c", imports + program, str(tmp_path / "c.sock")], capture_output=True, text=True
        )
    assert done.stdout == "socket-denied\n", done.stderr


def test_a_stream_gives_its_events_as_they_come(server: ScriptedServer) -> None:
    server.will_answer(stream(b"id: 1\nevent: line\nda", b"ta: {}\n\n: still here\n\nid: 2\ndata: a\ndata: b\n\n"))
    got = list(Client(server.target).stream_lines(calls.follow_logs("hello", tail=5)))
    assert got == [SseEvent(id="1", event="line", data="{}"), SseEvent(id="2", event="message", data="a\nb")]
    assert server.requests[0][0] == "GET /api/colonies/hello/logs/stream?tail=5 HTTP/1.1"
    assert server.requests[0][1]["accept"] == "text/event-stream"


def test_a_stream_waits_for_ever_between_events(server: ScriptedServer) -> None:
    read_first = threading.Event()

    def slow(connection: socket.socket) -> None:
        connection.sendall(stream(b"data: 1\n\n", end=b""))
        read_first.wait(PATIENCE_SECONDS)
        connection.sendall(b"9\r\ndata: 2\n\n\r\n0\r\n\r\n")

    server.will_answer(slow)
    events = Client(server.target, answer_seconds=PATIENCE_SECONDS).stream_lines(calls.follow_logs("hello"))
    assert next(events).data == "1"
    read_first.set()
    assert [event.data for event in events] == ["2"]


def test_a_stream_that_breaks_is_told(server: ScriptedServer) -> None:
    server.will_answer(stream(b"data: 1\n\n", end=b""))
    events = Client(server.target).stream_lines(calls.follow_logs("hello"))
    assert next(events).data == "1"
    with pytest.raises(Unreachable) as caught:
        next(events)
    assert caught.value.code == "connection-lost"


def test_a_stream_is_taken_up_again_behind_its_last_id(server: ScriptedServer) -> None:
    server.will_answer(
        stream(b"retry: 10\nid: 7\ndata: a\n\ndata: unfin", end=b""),
        cut_off,
        stream(b"retry: 10\nid: 8\ndata: b\n\n"),
        answer({"code": "colony-not-found", "detail": "gone"}, 404, "application/problem+json"),
    )
    events = Client(server.target).stream_lines(calls.follow_logs("hello"), reconnect=True, last_id="3")
    assert [next(events).data, next(events).data] == ["a", "b"]
    with pytest.raises(NotFound):
        next(events)
    assert [headers["last-event-id"] for _, headers, _ in server.requests] == ["3", "7", "7", "8"]


@pytest.mark.parametrize("reason", [b"log-ended", b"feed-ended"])
def test_the_end_of_a_log_ends_its_stream_but_a_daemon_that_leaves_does_not(
    server: ScriptedServer, reason: bytes
) -> None:
    server.will_answer(
        stream(b'retry: 10\nid: 1\ndata: a\n\nevent: end\ndata: {"reason": "draining"}\n\n'),
        stream(b'id: 2\ndata: b\n\nevent: end\ndata: {"reason": "%b"}\n\n' % reason),
    )
    got = list(Client(server.target).stream_lines(calls.follow_logs("hello"), reconnect=True))
    assert [event.data for event in got] == ["a", "b"]
    assert server.requests[1][1]["last-event-id"] == "1"


@pytest.mark.parametrize("reconnect", [True, False])
def test_an_error_in_a_stream_is_raised(server: ScriptedServer, reconnect: bool) -> None:
    problem = b'{"status": 404, "code": "colony-not-found", "detail": "gone"}'
    server.will_answer(stream(b"data: a\n\nevent: error\ndata: " + problem + b"\n\nevent: end\ndata: {}\n\n"))
    events = Client(server.target).stream_lines(calls.follow_logs("hello"), reconnect=reconnect)
    assert next(events).data == "a"
    with pytest.raises(NotFound) as caught:
        next(events)
    assert caught.value.code == "colony-not-found"


def test_a_stream_gives_up_where_no_daemon_comes_back(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(blocking, "RECONNECT_SECONDS", 0.01)
    monkeypatch.setattr(blocking, "GIVE_UP_SECONDS", 0.05)
    client = Client(Target(socket=str(tmp_path / "none.sock")))
    with pytest.raises(Unreachable) as caught:
        next(client.stream_lines(calls.follow_logs("hello"), reconnect=True))
    assert caught.value.code == "daemon-unreachable"


def test_a_stream_of_something_else_is_told(server: ScriptedServer) -> None:
    server.will_answer(answer({"lines": []}))
    with pytest.raises(Broken) as caught:
        next(Client(server.target).stream_lines(calls.follow_logs("hello")))
    assert caught.value.code == "malformed-answer"


def test_leaving_a_stream_closes_its_connection(server: ScriptedServer) -> None:
    seen: list[bytes] = []
    done = threading.Event()

    def watch(connection: socket.socket) -> None:
        connection.sendall(stream(b"data: 1\n\n", end=b""))
        seen.append(connection.recv(1))
        done.set()

    server.will_answer(watch)
    events = Client(server.target).stream_lines(calls.follow_logs("hello"))
    next(events)
    events.close()  # type: ignore[attr-defined]
    assert done.wait(PATIENCE_SECONDS)
    assert seen == [b""]


def test_the_door_brings_neither_trio_nor_a_serialiser_along() -> None:
    program = "import sys, colony_core.remote as r; r.discover(); print([m for m in sys.argv[1:] if m in sys.modules])"
    heavy = ["trio", "cattrs", "msgspec", "asyncio", "sqlalchemy", "httptools", "click"]
    done = subprocess.run([sys.executable, "-c", program, *heavy], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"


def test_the_token_shows_in_no_repr(server: ScriptedServer) -> None:
    client = Client(server.target)
    assert "secret" not in repr(client) + repr(server.target) + str(server.target)
