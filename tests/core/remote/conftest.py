"""A server on a real socket that answers what a test tells it to, byte by byte."""

import queue
import socket
import ssl
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import trio

from colony_core.remote import Target, blocking, sockets

from .authority import Authority, serving

Answer = bytes | Callable[[socket.socket], None]
PATIENCE_SECONDS = 120.0
"""Only what hangs takes so long."""


class ScriptedServer:
    """Takes one connection after the other; the n-th gets the n-th answer, then it is closed."""

    def __init__(self, listener: socket.socket, target: Target, tls: ssl.SSLContext | None = None) -> None:
        self.target = target
        self._tls = tls
        self.requests: list[tuple[str, dict[str, str], bytes]] = []
        self.answers: queue.SimpleQueue[Answer] = queue.SimpleQueue()
        self._listener = listener
        self._thread = threading.Thread(target=self._serve)
        self._thread.start()

    def will_answer(self, *answers: Answer) -> None:
        for answer in answers:
            self.answers.put(answer)

    def close(self) -> None:
        self._listener.shutdown(socket.SHUT_RDWR)
        self._thread.join(PATIENCE_SECONDS)
        self._listener.close()

    def _serve(self) -> None:
        while True:
            try:
                connection, _ = self._listener.accept()
            except OSError:
                return
            if self._tls:
                try:
                    connection = self._tls.wrap_socket(connection, server_side=True)
                except OSError:
                    continue
            with connection:
                connection.settimeout(PATIENCE_SECONDS)
                try:
                    self.requests.append(_read_request(connection))
                    answer = self.answers.get(timeout=PATIENCE_SECONDS)
                    if callable(answer):
                        answer(connection)
                    else:
                        connection.sendall(answer)
                except OSError:
                    pass


def _read_request(connection: socket.socket) -> tuple[str, dict[str, str], bytes]:
    data = b""
    while b"\r\n\r\n" not in data:
        piece = connection.recv(65536)
        if not piece:
            break
        data += piece
    head, _, body = data.partition(b"\r\n\r\n")
    first, *lines = head.decode().split("\r\n")
    headers = {name.lower(): value for name, _, value in (line.partition(": ") for line in lines)}
    while len(body) < int(headers.get("content-length", 0)) and (piece := connection.recv(65536)):
        body += piece
    return first, headers, body


@pytest.fixture(autouse=True)
def _patient(monkeypatch: pytest.MonkeyPatch) -> None:
    """The other side may be a thread of ours, which runs when the machine comes to it."""
    for module in (blocking, sockets):
        monkeypatch.setattr(module, "CONNECT_SECONDS", PATIENCE_SECONDS)
    monkeypatch.setattr(blocking, "REPLAY_SECONDS", PATIENCE_SECONDS)
    monkeypatch.setattr(sockets, "HANDSHAKE_SECONDS", PATIENCE_SECONDS)


async def request_of(stream: trio.abc.ReceiveStream) -> bytes:
    """The head of a request; what came of it where the client ended first."""
    said = b""
    while b"\r\n\r\n" not in said and (part := await stream.receive_some(65536)):
        said += part
    return said


@pytest.fixture(scope="session")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("authority"))


@pytest.fixture(params=["unix", "tcp", "tls"])
def server(request: pytest.FixtureRequest, tmp_path: Path, authority: Authority) -> Iterator[ScriptedServer]:
    if request.param == "unix":
        listener = socket.socket(socket.AF_UNIX)
        listener.bind(str(tmp_path / "c.sock"))
        target = Target(socket=str(tmp_path / "c.sock"), token="cut_1_secret")
    else:
        listener = socket.socket()
        listener.bind(("127.0.0.1", 0))
        port, tls = listener.getsockname()[1], request.param == "tls"
        target = Target(host="127.0.0.1", port=port, token="cut_1_secret", tls=tls, ca_file=str(authority.root))
    listener.listen()
    server = ScriptedServer(listener, target, serving(authority.root) if target.tls else None)
    yield server
    server.close()
