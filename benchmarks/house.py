"""The whole house: a spawn to its first answer, the API and the command with 200 colonies, and how long the loop ever stands still.

A daemon of its own, in a folder that is thrown away; the stall is measured inside a house in this process, whose loop is asked
every millisecond. Time spent waiting for a CPU is the machine's fault, not the loop's: it is subtracted, and printed.
"""

import http.client
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import trio

from benchmarks.metric import Metric
from colony_core.errors import ColonyError
from colony_core.remote import Client, calls, discover
from colony_core.testing import open_test_house
from colony_core.views import NewColony
from colony_web.daemon import calm_collector

COLONIES = 200
SPAWNS = 12
API_CALLS = 400
COMMANDS = 12
TICK_SECONDS = 0.001
PATIENCE_SECONDS = 60.0
API_GOAL_MS = 5.0
COMMAND_GOAL_MS = 150.0
STALL_GOAL_MS = 20.0
SERVER = (
    "import socket\n"
    "server = socket.create_server(('127.0.0.1', 8000))\n"
    "while True:\n"
    "    client = server.accept()[0]\n"
    "    client.recv(9999)\n"
    "    client.sendall(b'HTTP/1.1 200 OK\\r\\nContent-Length: 2\\r\\nConnection: close\\r\\n\\r\\nok')\n"
    "    client.close()\n"
)
SERVING = '[services.web]\ncommand = ["python3", "-S", "-E", "server.py"]\nport = 8000\n'


def run() -> Iterator[Metric]:
    """Yields the figures of the house; takes about a minute."""
    with tempfile.TemporaryDirectory() as folder:
        with open_daemon(Path(folder)) as environment:
            yield from _first_answers(Path(folder), environment)
            yield from _with_many(Path(folder), environment)
        yield from trio.run(_stalls, Path(folder))


@contextmanager
def open_daemon(folder: Path) -> Iterator[dict[str, str]]:
    """A daemon of its own in `folder`; gives the environment in which the command finds it."""
    environment = {k: v for k, v in os.environ.items() if not k.startswith("COLONY_")} | {
        "COLONY_STATE": str(folder / "state"),
        "COLONY_SERVER__PORT": "0",
        "COLONY_ROUTING__PORT": "0",
        "COLONY_ISOLATION__BASE": "10.215.0.0/16",
        "COLONY_ISOLATION__EGRESS": "false",
    }
    daemon = subprocess.Popen([sys.executable, "-m", "colony_cli", "serve", "--quiet"], env=environment)
    client = Client(discover(environ=environment))
    try:
        _until(lambda: _answers(client), "the daemon answers")
        yield environment
    finally:
        with suppress(ColonyError):
            client.send_raw(calls.shutdown(colonies=True))
        daemon.wait(PATIENCE_SECONDS)


def _first_answers(folder: Path, environment: dict[str, str]) -> Iterator[Metric]:
    client = Client(discover(environ=environment))
    port = client.send_raw(calls.system())["preview_port"]
    app = _app(folder, "serving", SERVING)
    (app / "server.py").write_text(SERVER)
    ours, bare = [], []
    for number in range(SPAWNS):
        began = time.perf_counter()
        client.send_raw(calls.spawn(f"first-{number}", str(app)))
        _until(lambda host=f"first-{number}.colony.localhost": _ok(port, host), "an answer through the proxy")  # type: ignore[misc]
        ours.append(time.perf_counter() - began)
        client.send_raw(calls.remove(f"first-{number}"))
        began = time.perf_counter()
        process = subprocess.Popen(["python3", "-S", "-E", "server.py"], cwd=app)
        _until(lambda: _ok(8000, "localhost"), "an answer of the bare process")
        bare.append(time.perf_counter() - began)
        process.kill()
        process.wait()
    value, base = statistics.median(ours) * 1000, statistics.median(bare) * 1000
    yield Metric(
        metric="spawn to the first HTTP answer, p50",
        value=value,
        unit="ms",
        n=SPAWNS,
        baseline=f"the same server started by hand: {base:.1f} ms",
        ratio=value / base,
        better="lower",
    )


def _with_many(folder: Path, environment: dict[str, str]) -> Iterator[Metric]:
    client = Client(discover(environ=environment))
    app = str(_app(folder, "empty", "[colony]\n"))
    began = time.perf_counter()
    for number in range(COLONIES):
        client.send_raw(calls.spawn(f"many-{number}", app))
    _until(lambda: all(c["state"] == "running" for c in client.send_raw(calls.colonies())), "all of them run")
    yield Metric(
        metric=f"{COLONIES} colonies spawned, one call after the other",
        value=(time.perf_counter() - began) / COLONIES * 1000,
        unit="ms each",
        n=COLONIES,
        better="lower",
    )
    one = _times(lambda: client.send_raw(calls.colony("many-77")), API_CALLS)
    value = statistics.median(one)
    yield Metric(
        metric=f"API answer for one of {COLONIES} colonies, p50",
        value=value,
        unit="ms",
        n=API_CALLS,
        baseline=f"p99 {_quantile(one, 0.99):.1f} ms",
        better="lower",
        goal=f"< {API_GOAL_MS:g} ms",
        ok=value < API_GOAL_MS,
    )
    command = [sys.executable, "-m", "colony_cli", "ls"]
    ls = _times(lambda: subprocess.run(command, env=environment, check=True, capture_output=True), COMMANDS)
    bare = statistics.median(_times(lambda: subprocess.run([sys.executable, "-c", ""], check=True), COMMANDS))
    value = statistics.median(ls)
    yield Metric(
        metric=f"colony ls, whole process, {COLONIES} colonies",
        value=value,
        unit="ms",
        n=COMMANDS,
        baseline=f"python -c '': {bare:.0f} ms",
        ratio=value / bare,
        better="lower",
        goal=f"< {COMMAND_GOAL_MS:g} ms",
        ok=value < COMMAND_GOAL_MS,
    )


async def _stalls(folder: Path) -> list[Metric]:
    late: list[float] = []
    waited: list[float] = []
    app = str(_app(folder, "stall", "[colony]\n"))

    async def tick() -> None:
        while True:
            at, delayed = trio.current_time(), _cpu_wait()
            await trio.sleep(TICK_SECONDS)
            wait = _cpu_wait() - delayed
            waited.append(wait)
            late.append(max(0.0, trio.current_time() - at - TICK_SECONDS - wait))

    calm_collector()
    async with open_test_house(folder / "stalls") as house, trio.open_nursery() as nursery:
        nursery.start_soon(tick)
        for number in range(COLONIES):
            await house.spawn(NewColony(name=f"s-{number}", path=app), owner="bench")
        async with trio.open_nursery() as removals:
            for number in range(COLONIES):
                removals.start_soon(house.remove, f"s-{number}")
        nursery.cancel_scope.cancel()
    value = _quantile(late, 0.999) * 1000
    return [
        Metric(
            metric=f"loop stands still, p99.9, {COLONIES} colonies come and go",
            value=value,
            unit="ms",
            n=len(late),
            baseline=f"longest {max(late) * 1000:.1f} ms; waited for a CPU {sum(waited) * 1000:.0f} ms in all",
            better="lower",
            goal=f"< {STALL_GOAL_MS:g} ms",
            ok=value < STALL_GOAL_MS,
        )
    ]


def _cpu_wait() -> float:
    """Seconds that this thread was ready to run and did not (proc_pid_schedstat)."""
    with open("/proc/thread-self/schedstat") as file:
        return int(file.read().split()[1]) / 1e9


def _app(folder: Path, name: str, manifest: str) -> Path:
    app = folder / name
    app.mkdir()
    (app / "colony.toml").write_text(manifest)
    return app


def _answers(client: Client) -> bool:
    with suppress(ColonyError):
        return bool(client.send_raw(calls.system()))
    return False


def _ok(port: int, host: str) -> bool:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=5)
    try:
        connection.request("GET", "/", headers={"Host": host})
        return connection.getresponse().status == 200
    except OSError:
        return False
    finally:
        connection.close()


def _until(ask: Callable[[], bool], what: str) -> None:
    deadline = time.monotonic() + PATIENCE_SECONDS
    while not ask():
        if time.monotonic() > deadline:
            raise TimeoutError(f"not within {PATIENCE_SECONDS:g} s: {what}")
        time.sleep(0.001)


def _times(act: Callable[[], object], count: int) -> list[float]:
    """Milliseconds of each of `count` calls."""
    found = []
    for _ in range(count):
        began = time.perf_counter()
        act()
        found.append((time.perf_counter() - began) * 1000)
    return found


def _quantile(values: list[float], share: float) -> float:
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))]
