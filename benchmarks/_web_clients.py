"""Clients that cost next to nothing, so that the server is what is measured: raw sockets in processes of their own, one loop each."""

import json
import select
import socket
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from subprocess import PIPE, Popen
from typing import Any

import attrs

from benchmarks._web_servers import Clock

READ_BYTES = 2**18
STEP_SECONDS = 0.1
CATCH_UP_SECONDS = 60.0
"""A follower that has not read all after so long says what it has."""
SAMPLED = 10
"""One of so many readers notes delays."""
MARK = b'{"seq":'
UPGRADE = (
    "GET /ws HTTP/1.1\r\nHost: {host}\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
    "Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n{token}\r\n"
)


class Client:
    """A process of this module in one of its roles."""

    def __init__(self, process: "Popen[str]") -> None:
        self._process = process

    def ready(self) -> None:
        """Returns when all of its connections are open."""
        self._line()

    def result(self, **last: Any) -> dict[str, Any]:
        """What it found, after it was told the last of what it needs to know."""
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps(last) + "\n")
        self._process.stdin.flush()
        found: dict[str, Any] = json.loads(self._line())
        return found

    def _line(self) -> str:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            raise RuntimeError("the client has ended")
        return line


@contextmanager
def client(*role: object) -> Iterator[Client]:
    """A client in one of its roles, `readers`, `asks` or `follows`, told what they take."""
    words = [json.dumps(word) if isinstance(word, dict) else str(word) for word in role]
    process = Popen([sys.executable, "-m", "benchmarks._web_clients", *words], stdin=PIPE, stdout=PIPE, text=True)
    try:
        yield Client(process)
    finally:
        process.kill()
        process.communicate()


@attrs.define
class Reader:
    """One WebSocket."""

    sock: socket.socket
    count: int = 0
    last: int = 0
    tail: bytes = b""


def _readers(where: dict[str, Any], count: int, clock: Clock) -> None:
    """Counts events until it is told the last one's number and has seen it everywhere."""
    readers = [_opened(where, number) for number in range(count)]
    poll = select.epoll()
    by_fd = {reader.sock.fileno(): reader for reader in readers}
    for fd in by_fd:
        poll.register(fd, select.EPOLLIN)
    poll.register(0, select.EPOLLIN)
    print("ready", flush=True)
    noted: list[tuple[float, int, int]] = []
    until: dict[str, int] | None = None
    buffer = bytearray(READ_BYTES)
    view = memoryview(buffer)
    behind = set(by_fd)
    while until is None or behind:
        for fd, _ in poll.poll():
            if fd == 0:
                until = json.loads(sys.stdin.readline())
                behind = {fd for fd, reader in by_fd.items() if reader.last < until["last"]}
                continue
            reader = by_fd[fd]
            got = reader.sock.recv_into(buffer)
            if not got:
                raise RuntimeError(f"closed behind event {reader.last}")
            data = reader.tail + bytes(view[:got])
            stop = data.rfind(b",", max(0, data.rfind(MARK))) + 1  # what is behind it may be half a number
            whole, reader.tail = (data[:stop], data[stop:]) if stop > 0 else (b"", data)
            found = whole.count(MARK)
            if found:
                reader.count += found
                first, reader.last = _number(whole, whole.find(MARK)), _number(whole, whole.rfind(MARK))
                if fd % SAMPLED == 0:
                    noted.append((time.monotonic(), first, reader.last))
                if until is not None and reader.last >= until["last"]:
                    behind.discard(fd)
        clock.reach(min(reader.last for reader in readers[:: max(1, count // 50)]))
    done = time.monotonic()
    assert until is not None
    wanted = until["last"] - until["first"] + 1
    delays = sorted(at - clock.published(seq) for at, a, b in noted for seq in range(max(a, until["first"]), b + 1))
    print(
        json.dumps(
            {
                "deliveries": sum(reader.count for reader in readers),
                "lost": sum(wanted - reader.count for reader in readers),
                "seconds": done - clock.published(until["first"]),
                "p50": delays[len(delays) // 2],
                "p99": delays[int(len(delays) * 0.99)],
            }
        ),
        flush=True,
    )


def _number(data: bytes, at: int) -> int:
    return int(data[at + len(MARK) : data.index(b",", at)])


def _opened(where: dict[str, Any], number: int) -> Reader:
    """Half of them by the socket, where there is one, half by the port: each listener takes 512."""
    if "socket" in where and number % 2:
        sock, host, token = socket.socket(socket.AF_UNIX), "localhost", ""
        sock.connect(where["socket"])
    else:
        sock, host = socket.create_connection(("127.0.0.1", where["port"])), f"localhost:{where['port']}"
        token = f"Authorization: Bearer {where['token']}\r\n" if "token" in where else ""
    sock.sendall(UPGRADE.format(host=host, token=token).encode())
    head = b""
    while b"\r\n\r\n" not in head:
        head += sock.recv(1)
    if b" 101 " not in head:
        raise RuntimeError(head.decode())
    return Reader(sock)


def _asks(where: dict[str, Any], connections: int, seconds: float) -> None:
    """One question after the other on each connection."""
    token = f"Authorization: Bearer {where['token']}\r\n" if "token" in where else ""
    question = f"GET {where['path']} HTTP/1.1\r\nHost: localhost:{where['port']}\r\n{token}\r\n".encode()
    poll = select.epoll()
    asked: dict[int, tuple[socket.socket, float]] = {}
    for _ in range(connections):
        sock = socket.create_connection(("127.0.0.1", where["port"]))
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        poll.register(sock.fileno(), select.EPOLLIN)
        sock.sendall(question)
        asked[sock.fileno()] = (sock, time.perf_counter())
    times: list[float] = []
    began = time.perf_counter()
    while (now := time.perf_counter()) - began < seconds:
        for fd, _ in poll.poll():
            sock, at = asked[fd]
            answer = sock.recv(65536)
            if not answer.startswith(b"HTTP/1.1 200"):
                raise RuntimeError(answer.decode())
            while not answer.endswith(b"}"):
                answer += sock.recv(65536)
            now = time.perf_counter()
            times.append(now - at)
            asked[fd] = (sock, now)
            sock.sendall(question)
    times.sort()
    found = {"requests": len(times), "seconds": now - began, "p99": times[int(len(times) * 0.99)]}
    print("ready", flush=True)
    print(json.dumps(found), flush=True)


def _follows(where: dict[str, Any], path: str, rate: float) -> None:
    """Follows a stream of server-sent events; with a rate (bytes a second) slowly. Ends when it has as many lines as it is told."""
    sock = socket.socket(socket.AF_UNIX)
    sock.connect(where["socket"])
    sock.sendall(f"GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n".encode())
    sock.recv(300)
    print("ready", flush=True)
    wanted: int | None = None
    lines = missed = 0
    last, tail = 0.0, b""
    poll = select.poll()
    poll.register(0, select.POLLIN)
    poll.register(sock.fileno(), select.POLLIN)
    deadline = float("inf")
    while (wanted is None or lines < wanted) and time.monotonic() < deadline:
        for fd, _ in poll.poll(1000):
            if fd == 0:
                wanted = json.loads(sys.stdin.readline())["lines"]
                deadline = time.monotonic() + CATCH_UP_SECONDS
                poll.unregister(0)
                continue
            data = sock.recv(int(rate * STEP_SECONDS) if rate else READ_BYTES)
            if not data:
                raise RuntimeError("the stream has ended")
            joined = tail + data
            stop = joined.rfind(b"\n") + 1
            whole, tail = joined[:stop], joined[stop:]
            lines += whole.count(b"event: line\n")
            missed += whole.count(b"event: missed\n")
            last = time.monotonic()
            if rate:
                time.sleep(STEP_SECONDS)
    print(json.dumps({"lines": lines, "missed": missed, "last_at": last}), flush=True)


if __name__ == "__main__":
    match sys.argv[1:]:
        case ["readers", where, count, clock]:
            _readers(json.loads(where), int(count), Clock(Path(clock)))
        case ["asks", where, connections, seconds]:
            _asks(json.loads(where), int(connections), float(seconds))
        case ["follows", where, path, rate]:
            _follows(json.loads(where), path, float(rate))
