"""The preview proxy against the same service asked directly, and through Caddy where that is installed: requests, CPU time, latency and
bandwidth, interleaved in one run.

Service, proxy and client are processes of their own. `wrk` makes the requests where it is installed, else a few threads of this process.
"""

import re
import shutil
import socket
import statistics
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from functools import partial

import trio

from benchmarks._caddy import Way, open_caddy
from benchmarks.metric import Metric
from colony_core.routing import Refusal, Target, Upstream, open_tcp_listener, serve_proxy

CPU_GOAL_MICROSECONDS = 85  # below Caddy's 75-95 µs for the same work
BANDWIDTH_GOAL_RATIO = 0.3  # of direct; Caddy reaches 0.2-0.4
CADDY_BANDWIDTH_GOAL_RATIO = 0.8

ROUNDS = 6
ROUND_SECONDS = 1
CONNECTIONS = 32
BODY_BYTES = 200 * 2**20
LATENCY_REQUESTS = 400
PIECE = bytes(2**18)
HOST = "web.hello.colony.localhost"
SMALL = b"HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: 12\r\n\r\nhello, world"
REQUEST = f"GET / HTTP/1.1\r\nHost: {HOST}\r\n\r\n".encode()


def run() -> Iterator[Metric]:
    """Yields the proxy's figures; takes about twenty seconds."""
    with ExitStack() as stack:
        service = Way(*stack.enter_context(_role("service")))
        proxy = Way(*stack.enter_context(_role("proxy", str(service.port))))
        caddy = stack.enter_context(open_caddy(service.port)) if shutil.which("caddy") else None
        yield from _requests(service, proxy, caddy)
        yield from _latency(service.port, proxy.port)
        for name, transfer in (("download", _download), ("upload", _upload)):
            yield from _bandwidth(name, transfer, service, proxy, caddy)


def _requests(service: Way, proxy: Way, caddy: Way | None) -> Iterator[Metric]:
    load = _wrk if shutil.which("wrk") else _threads
    ways = [way for way in (service, proxy, caddy) if way is not None]
    found: dict[Way, list[tuple[float, float]]] = {way: [] for way in ways}
    total = 0
    for _ in range(ROUNDS):
        for way in ways:
            before = cpu_seconds(way.pid)
            count = load(way.port)
            found[way].append((count / ROUND_SECONDS, (cpu_seconds(way.pid) - before) / count * 1e6))
            total += count
    rates = {way: statistics.median(rate for rate, _ in rounds) for way, rounds in found.items()}
    costs = {way: statistics.median(cost for _, cost in rounds) for way, rounds in found.items()}
    for way in ways:
        if way is not proxy:
            name = "direct" if way is service else "Caddy"
            yield Metric(
                metric="proxy.requests",
                value=rates[proxy],
                unit="req/s",
                n=total,
                baseline=f"{name}: {rates[way]:.0f} req/s",
                ratio=rates[proxy] / rates[way],
                better="higher",
            )
    yield Metric(
        metric="proxy.cpu_per_request",
        value=costs[proxy],
        unit="µs",
        n=total,
        baseline=f"the service itself, asked directly: {costs[service]:.0f} µs",
        ratio=costs[proxy] / costs[service],
        better="lower",
        goal=f"< {CPU_GOAL_MICROSECONDS}",
        ok=costs[proxy] < CPU_GOAL_MICROSECONDS,
    )
    if caddy is not None:
        yield Metric(
            metric="proxy.cpu_per_request",
            value=costs[proxy],
            unit="µs",
            n=total,
            baseline=f"Caddy: {costs[caddy]:.0f} µs",
            ratio=costs[proxy] / costs[caddy],
            better="lower",
            goal="ratio < 1",
            ok=costs[proxy] < costs[caddy],
        )


def _latency(service: int, proxy: int) -> Iterator[Metric]:
    times: dict[int, list[float]] = {service: [], proxy: []}
    with ExitStack() as stack:
        sockets = {port: stack.enter_context(socket.create_connection(("127.0.0.1", port))) for port in times}
        for _ in range(LATENCY_REQUESTS):
            for port, sock in sockets.items():
                start = time.perf_counter()
                sock.sendall(REQUEST)
                _answer(sock)
                times[port].append((time.perf_counter() - start) * 1e6)
    through, base = statistics.median(times[proxy]), statistics.median(times[service])
    yield Metric(
        metric="proxy.latency_p50",
        value=through,
        unit="µs",
        n=LATENCY_REQUESTS,
        baseline=f"direct: {base:.0f} µs",
        ratio=through / base,
        better="lower",
    )


def _bandwidth(
    name: str, transfer: Callable[[int], float], service: Way, proxy: Way, caddy: Way | None
) -> Iterator[Metric]:
    rounds = [(transfer(service.port), transfer(proxy.port), transfer((caddy or proxy).port)) for _ in range(ROUNDS)]
    direct, through, others = (statistics.median(column) for column in zip(*rounds, strict=True))
    against = [(f"direct: {direct:.0f} MB/s", 0, BANDWIDTH_GOAL_RATIO)]
    if caddy is not None:
        against.append((f"Caddy: {others:.0f} MB/s", 2, CADDY_BANDWIDTH_GOAL_RATIO))
    for baseline, column, goal in against:
        ratio = statistics.median(each[1] / each[column] for each in rounds)
        yield Metric(
            metric=f"proxy.{name}",
            value=through,
            unit="MB/s",
            n=ROUNDS,
            baseline=baseline,
            ratio=ratio,
            better="higher",
            goal=f"ratio >= {goal}",
            ok=ratio >= goal,
        )


def _wrk(port: int) -> int:
    command = [
        "wrk",
        "-t1",
        f"-c{CONNECTIONS}",
        f"-d{ROUND_SECONDS}s",
        "-H",
        f"Host: {HOST}",
        f"http://127.0.0.1:{port}/",
    ]
    text = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    found = re.search(r"(\d+) requests in", text)
    if found is None or "Non-2xx" in text or "Socket errors" in text:
        raise RuntimeError(text)
    return int(found[1])


def _threads(port: int) -> int:
    end = time.perf_counter() + ROUND_SECONDS
    counts: list[int] = []

    def ask() -> None:
        count = 0
        with socket.create_connection(("127.0.0.1", port)) as sock:
            while time.perf_counter() < end:
                sock.sendall(REQUEST)
                _answer(sock)
                count += 1
        counts.append(count)

    threads = [threading.Thread(target=ask) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return sum(counts)


def _answer(sock: socket.socket) -> None:
    data = b""
    while not data.endswith(b"hello, world"):
        more = sock.recv(4096)
        if not more:
            raise RuntimeError(f"the answer broke off: {data!r}")
        data += more


def _download(port: int) -> float:
    """MB/s of one large answer."""
    buffer, got = bytearray(2**20), 0
    with socket.create_connection(("127.0.0.1", port)) as sock:
        start = time.perf_counter()
        sock.sendall(REQUEST.replace(b"GET /", b"GET /big"))
        while got < BODY_BYTES:
            count = sock.recv_into(buffer)
            if not count:
                raise RuntimeError("the answer broke off")
            got += count
        return got / (time.perf_counter() - start) / 1e6


def _upload(port: int) -> float:
    """MB/s of one large request."""
    with socket.create_connection(("127.0.0.1", port)) as sock:
        start = time.perf_counter()
        sock.sendall(f"POST /big HTTP/1.1\r\nHost: {HOST}\r\nContent-Length: {BODY_BYTES}\r\n\r\n".encode())
        for _ in range(BODY_BYTES // len(PIECE)):
            sock.sendall(PIECE)
        _answer(sock)
        return BODY_BYTES / (time.perf_counter() - start) / 1e6


def cpu_seconds(pid: int) -> float:
    """CPU time of a process, its ended threads included; time spent waiting for a CPU is not in it."""
    return time.clock_gettime((~pid << 3) | 2)  # what clock_getcpuclockid(3) computes on Linux


@contextmanager
def _role(*role: str) -> Iterator[tuple[int, int]]:
    """A process of this module in one of its roles: its port and process id."""
    process = subprocess.Popen([sys.executable, "-m", "benchmarks.proxy", *role], stdout=subprocess.PIPE, text=True)
    try:
        assert process.stdout is not None
        yield int(process.stdout.readline()), process.pid
    finally:
        process.kill()
        process.communicate()


def _serve_service() -> None:
    listener = socket.create_server(("127.0.0.1", 0), backlog=512)
    print(listener.getsockname()[1], flush=True)
    while True:
        sock, _ = listener.accept()
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        threading.Thread(target=_serve_connection, args=(sock,), daemon=True).start()


def _serve_connection(sock: socket.socket) -> None:
    buffer = bytearray(2**20)
    with sock, suppress(ConnectionError):
        while data := sock.recv(2**16):
            if data.startswith(b"GET /big"):
                sock.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % BODY_BYTES)
                for _ in range(BODY_BYTES // len(PIECE)):
                    sock.sendall(PIECE)
            elif data.startswith(b"POST /big"):
                left = BODY_BYTES - (len(data) - data.index(b"\r\n\r\n") - 4)
                while left:
                    left -= sock.recv_into(buffer)
                sock.sendall(SMALL)
            else:
                sock.sendall(SMALL)


async def _serve_proxy(service: int) -> None:
    def resolve(target: Target) -> Upstream | Refusal:
        return Upstream(partial(trio.open_tcp_stream, "127.0.0.1", service), target.colony)

    listener = await open_tcp_listener("127.0.0.1", 0, what="the proxy", config_key="routing.port")
    print(listener.socket.getsockname()[1], flush=True)
    await serve_proxy([listener], resolve, domain="colony.localhost", known={"hello"})


if __name__ == "__main__":
    match sys.argv[1:]:
        case ["service"]:
            _serve_service()
        case ["proxy", port]:
            trio.run(_serve_proxy, int(port))
        case _:
            for figure in run():
                print(figure)
