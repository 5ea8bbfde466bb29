"""Clients that vanish without a word, and clients that begin and never go on: each is noticed, let go, and in nobody's way."""

import json
import os
import resource
import socket
import subprocess
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest

from colony_core.remote import calls

from .driver import PATIENCE_SECONDS, Daemon, alive

pytestmark = [pytest.mark.kernel, pytest.mark.slow]

FLOOD = 3000
"""More than the API (512) and the previews (1024) hold at once, together."""
SERVICE = '[services.web]\ncommand = ["python3", "-u", "web.py"]\nport = 7000\n'
WEB = r"""
import os, socket, threading
def say(what, asked):  # in one piece: two threads print their words, and ends of lines, in between each other's
    os.write(1, b"%s %s\n" % (what, asked.split()[1]))
def serve(client):
    asked = client.recv(9999)
    if b"GET /rests" in asked:
        client.sendall(b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nConnection: close\r\n\r\ndata: x\n\n")
    elif b"GET /upgraded" in asked:
        client.sendall(b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n")
    else:
        client.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: close\r\n\r\nok")
        client.close()
        return
    say(b"waits for", asked)
    client.recv(1)
    say(b"let go of", asked)
server = socket.create_server(("0.0.0.0", 7000), backlog=512)
while True:
    threading.Thread(target=serve, args=[server.accept()[0]], daemon=True).start()
"""
UPGRADE = (
    "Upgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\n"
    "Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n"
)


class Doors:
    """Where a daemon is reached over TCP, and what it holds."""

    def __init__(self, daemon: Daemon) -> None:
        self.daemon = daemon
        system = daemon.send(calls.system())
        self.pid = int(system["pid"])
        self.api = int(system["api_url"].rpartition(":")[2])
        self.previews = int(system["preview_port"])
        self.token = str(daemon.send(calls.mint_token("afar"))["token"])

    def to_api(self, path: str, more: str = "", *, method: str = "GET") -> str:
        head = f"{method} {path} HTTP/1.1\r\nHost: localhost:{self.api}\r\nAuthorization: Bearer {self.token}\r\n"
        return f"{head}{more}\r\n"

    def to_web(self, path: str, more: str = "") -> str:
        return f"GET {path} HTTP/1.1\r\nHost: web.app.colony.localhost:{self.previews}\r\n{more}\r\n"

    def held(self) -> int:
        """How many descriptors; those of the store are not counted, which opens more of its readers when they are needed."""
        store = str(self.daemon.state / "colony.db")
        found = 0
        for link in Path(f"/proc/{self.pid}/fd").iterdir():
            with suppress(FileNotFoundError):  # closed meanwhile
                found += not str(link.readlink()).startswith(store)
        return found

    def said(self, text: str) -> int:
        """How many lines of the service begin so."""
        lines = self.daemon.send(calls.logs("app", limit=1000, services=["web"]))["lines"]
        return sum(line["text"].startswith(text) for line in lines)


def connected(port: int, said: str, answer: str = "") -> socket.socket:
    """A connection on which something was said, and whose answer began so."""
    stream = socket.create_connection(("127.0.0.1", port), timeout=180)
    stream.sendall(said.encode())
    if answer:
        found = stream.recv(4096).decode("latin-1")
        assert found.startswith(answer), found
    return stream


def framed(message: object) -> bytes:
    """A masked text frame; the mask is of zeros."""
    text = json.dumps(message).encode()
    assert len(text) < 126
    return bytes([0x81, 0x80 | len(text)]) + bytes(4) + text


@contextmanager
def swallowed(streams: list[socket.socket]) -> Iterator[None]:
    """Nothing of these connections arrives any more, in neither direction: as if a cable were cut."""
    table = f"vanished_{os.getpid()}"
    ports = ", ".join(str(stream.getsockname()[1]) for stream in streams)
    chain = "chain input { type filter hook input priority -200; policy accept;"
    rules = f"table inet {table} {{\n{chain} tcp sport {{ {ports} }} drop; tcp dport {{ {ports} }} drop;\n}}\n}}\n"
    subprocess.run(["nft", "-f", "-"], input=rules.encode(), check=True)
    try:
        yield
    finally:
        subprocess.run(["nft", "delete", "table", "inet", table], check=True)


@pytest.mark.root  # cuts them off in the firewall of the machine
def test_clients_that_vanish_are_noticed_and_everything_of_theirs_is_freed(daemon: Daemon) -> None:
    daemon.spawn("app", SERVICE, web_py=WEB)
    daemon.until_ready("app")
    doors = Doors(daemon)
    terminal = daemon.send(calls.open_terminal("app", command=("sleep", "600")))["id"]
    before = doors.held()
    told = daemon.folder / "pid"
    run = connected(doors.api, doors.to_api("/api/colonies/app/exec", UPGRADE), "HTTP/1.1 101")
    run.sendall(framed({"command": ["sh", "-c", f"echo $$ > {told}; exec sleep 600"]}))
    pid = int(daemon.until(lambda: told.exists() and told.read_text(), "the command runs"))
    show = f"/api/colonies/app/terminals/{terminal}"
    streams = [
        run,
        connected(doors.api, doors.to_api("/ws", UPGRADE), "HTTP/1.1 101"),
        connected(doors.api, doors.to_api("/api/colonies/app/logs/stream"), "HTTP/1.1 200"),
        connected(doors.api, doors.to_api(show, UPGRADE), "HTTP/1.1 101"),
        connected(doors.previews, doors.to_web("/rests"), "HTTP/1.1 200"),
        connected(doors.previews, doors.to_web("/upgraded", UPGRADE), "HTTP/1.1 101"),
    ]
    daemon.until(lambda: doors.said("waits") == 2, "the service waits for both")
    assert doors.held() >= before + len(streams)
    with swallowed(streams):
        for stream in streams:
            stream.close()
        daemon.until(lambda: doors.held() <= before, "the daemon has let go of all of them")
        daemon.until(lambda: not alive(pid), "the command of nobody has ended")
        daemon.until(lambda: doors.said("let go") == 2, "the service has heard of it")
    (left,) = daemon.send(calls.terminals("app"))
    assert left["id"] == terminal


def test_thousands_who_begin_and_never_go_on_are_in_nobodys_way(daemon: Daemon) -> None:
    daemon.spawn("app", SERVICE, web_py=WEB)
    daemon.until_ready("app")
    doors = Doors(daemon)
    before = doors.held()
    half_body = doors.to_api(
        "/api/colonies", "Content-Type: application/json\r\nContent-Length: 100\r\n", method="POST"
    )
    beginnings = [
        (doors.api, ""),
        (doors.api, doors.to_api("/api/system")[:-10]),
        (doors.api, doors.to_api("/ws", UPGRADE)[:-5]),
        (doors.previews, ""),
        (doors.previews, doors.to_web("/")[:-10]),
        (doors.previews, doors.to_web("/upgraded", UPGRADE)[:-5]),
    ]
    with ExitStack() as open_ones, many_descriptors():
        for _ in range(100):
            open_ones.enter_context(connected(doors.api, half_body + "{"))
        for number in range(FLOOD):
            open_ones.enter_context(connected(*beginnings[number % len(beginnings)]))
        assert doors.held() < before + 512 + 1024 + 50
        for _ in range(20):
            connected(doors.api, doors.to_api("/api/system"), "HTTP/1.1 200").close()
            connected(doors.previews, doors.to_web("/"), "HTTP/1.1 200").close()
        assert daemon.colony("app")["state"] == "running"
    daemon.until(lambda: doors.held() <= before, "nothing is left of them")
    assert_no_trouble(daemon)


def test_the_daemon_holds_more_than_the_usual_limit_and_its_services_have_that_limit(daemon: Daemon) -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    daemon.send(calls.shutdown(colonies=True))
    assert daemon.process is not None
    daemon.process.wait(PATIENCE_SECONDS)
    resource.setrlimit(resource.RLIMIT_NOFILE, (256, hard))
    try:
        daemon.start()
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    daemon.spawn("app", '[services.limit]\ncommand = "ulimit -Sn; sleep 600"\n')
    daemon.until_ready("app")
    lines: Any = daemon.until(lambda: daemon.send(calls.logs("app"))["lines"], "it says its limit")
    assert lines[0]["text"] == "256"
    for pid in (daemon.process.pid, daemon.send(calls.system())["keeper_pid"]):
        assert resource.prlimit(pid, resource.RLIMIT_NOFILE) == (hard, hard)


@contextmanager
def many_descriptors() -> Iterator[None]:
    """This process may hold as many as it is allowed to."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    yield
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def assert_no_trouble(daemon: Daemon) -> None:
    log = Path(daemon.folder / "daemon.log").read_text()
    assert "Traceback" not in log, log[-4000:]
