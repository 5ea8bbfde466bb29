"""Terminals: how soon a key is echoed, how fast output comes, how soon Ctrl-C ends a flood; through the API, and through the keeper alone.

What they are compared with is a bare pseudo-terminal that this process reads itself.
"""

import os
import select
import statistics
import subprocess
import tempfile
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Protocol

import trio

from benchmarks.house import open_daemon
from benchmarks.metric import Metric
from colony_core.processes import Launch, OnTerminal, open_keeper
from colony_core.remote import Client, Target, calls, discover
from colony_core.remote.streaming import open_terminal

ECHOES = 500
FLOOD_BYTES = 32 * 2**20
LINE = "a line of the usual length, as a compiler or a test run writes it"
LINE_BYTES = len(LINE) + 1
FLOOD = f"yes '{LINE}' | head -c {FLOOD_BYTES}"
WARM_UP_SECONDS = 2.0
ECHO_GOAL_MS = 5.0
INTERRUPT_GOAL_MS = 500.0
RAW = ("sh", "-c", "stty raw -echo; echo up; exec cat")
COOKED = ("sh", "-c", f"echo up; read go; {FLOOD}; echo; echo END")
ENDLESS = ("sh", "-c", "echo up; trap 'echo END; exit' INT; yes & wait")


class Shown(Protocol):
    """A terminal, however it is reached."""

    async def receive(self) -> object: ...
    async def type(self, data: bytes) -> object: ...


def run() -> Iterator[Metric]:
    """Yields the figures of terminals; takes about half a minute."""
    bare_echo, bare_rate = _bare_echo(), _bare_rate()
    with tempfile.TemporaryDirectory() as folder:
        yield from trio.run(_through_the_keeper, Path(folder), bare_echo, bare_rate)
        with open_daemon(Path(folder)) as environment:
            yield from trio.run(_through_the_api, Path(folder), discover(environ=environment), bare_echo, bare_rate)


async def _through_the_keeper(folder: Path, bare_echo: float, bare_rate: float) -> list[Metric]:
    async with open_keeper(run_dir=folder / "run", state_dir=folder / "state") as keeper:

        @asynccontextmanager
        async def opened(command: tuple[str, ...]) -> AsyncIterator[Shown]:
            key = f"t.{time.monotonic_ns()}"
            order = Launch(key=key, argv=command, cwd="/", env=dict(os.environ), label="t", terminal=OnTerminal())
            process = await keeper.start(order)
            async with keeper.view(key) as view:
                yield view
            await process.stop(grace=1)

        async with opened(RAW) as terminal:
            echo = await _echo("key echoed, by the keeper alone", terminal, bare_echo, goal=None)
        async with opened(COOKED) as terminal:
            rate = await _rate("output, by the keeper alone", terminal, bare_rate)
        await keeper.shutdown()
        return [echo, rate]


async def _through_the_api(folder: Path, target: Target, bare_echo: float, bare_rate: float) -> list[Metric]:
    app = folder / "app"
    app.mkdir()
    (app / "colony.toml").write_text("[colony]\n")
    client = Client(target)
    client.send_raw(calls.spawn("bench-terminals", str(app)))
    while client.send_raw(calls.colony("bench-terminals"))["state"] != "running":
        await trio.sleep(0.02)

    @asynccontextmanager
    async def opened(command: tuple[str, ...]) -> AsyncIterator[Shown]:
        view = await trio.to_thread.run_sync(client.send_raw, calls.open_terminal("bench-terminals", command=command))
        async with open_terminal(target, "bench-terminals", view["id"]) as terminal:
            yield terminal

    async with opened(RAW) as terminal:
        echo = await _echo("key echoed, through the API", terminal, bare_echo, goal=ECHO_GOAL_MS)
    async with opened(COOKED) as terminal:
        rate = await _rate("output, through the API", terminal, bare_rate)
    async with opened(ENDLESS) as terminal:
        interrupt = await _interrupt(terminal)
    return [echo, rate, interrupt]


async def _echo(name: str, terminal: Shown, bare: float, *, goal: float | None) -> Metric:
    await _until(terminal, b"up")
    times = []
    for _ in range(ECHOES):
        began = time.perf_counter()
        await terminal.type(b"x")
        await _until(terminal, b"x")
        times.append((time.perf_counter() - began) * 1000)
    value = statistics.median(times)
    return Metric(
        metric=f"{name}, p50",
        value=value,
        unit="ms",
        n=ECHOES,
        baseline=f"a bare terminal: {bare:.3f} ms; p99 {statistics.quantiles(times, n=100)[98]:.2f} ms",
        ratio=value / bare,
        better="lower",
        goal=f"< {goal:g} ms" if goal else "",
        ok=value < goal if goal else None,
    )


async def _rate(name: str, terminal: Shown, bare: float) -> Metric:
    await _until(terminal, b"up")
    began = time.perf_counter()
    await terminal.type(b"\r")
    count = await _until(terminal, b"END")
    value = count / (time.perf_counter() - began) / 1e6
    skipped = max(0.0, 1 - count / (FLOOD_BYTES + FLOOD_BYTES / LINE_BYTES))
    return Metric(
        metric=name,
        value=value,
        unit="MB/s",
        n=1,
        baseline=f"a bare terminal: {bare:.1f} MB/s; {skipped:.0%} skipped",
        ratio=value / bare,
        better="higher",
    )


async def _interrupt(terminal: Shown) -> Metric:
    """How long after Ctrl-C a flood that nobody held up has ended, its end shown."""
    await _until(terminal, b"up")
    with trio.move_on_after(WARM_UP_SECONDS):
        await _until(terminal, b"never")
    began = time.perf_counter()
    await terminal.type(b"\x03")
    await _until(terminal, b"END")
    value = (time.perf_counter() - began) * 1000
    return Metric(
        metric="Ctrl-C ends `yes`, and its end is shown",
        value=value,
        unit="ms",
        n=1,
        better="lower",
        goal=f"< {INTERRUPT_GOAL_MS:g} ms",
        ok=value < INTERRUPT_GOAL_MS,
    )


async def _until(terminal: Shown, text: bytes) -> int:
    """Reads up to a text; how many bytes that were."""
    count, tail = 0, b""
    while True:
        told = await terminal.receive()
        if isinstance(told, bytes):
            count += len(told)
            if text in (tail := tail[-8:] + told):
                return count


def _bare_echo() -> float:
    master, process = _bare(RAW)
    _read_until(master, b"up")
    times = []
    for _ in range(ECHOES):
        began = time.perf_counter()
        os.write(master, b"x")
        _read_until(master, b"x")
        times.append((time.perf_counter() - began) * 1000)
    process.kill()
    process.wait()
    os.close(master)
    return statistics.median(times)


def _bare_rate() -> float:
    master, process = _bare(COOKED)
    _read_until(master, b"up")
    began = time.perf_counter()
    os.write(master, b"\r")
    count = _read_until(master, b"END")
    seconds = time.perf_counter() - began
    process.wait()
    os.close(master)
    return count / seconds / 1e6


def _bare(command: tuple[str, ...]) -> tuple[int, "subprocess.Popen[bytes]"]:
    master, slave = os.openpty()
    process = subprocess.Popen(command, stdin=slave, stdout=slave, stderr=slave, start_new_session=True)
    os.close(slave)
    return master, process


def _read_until(fd: int, text: bytes) -> int:
    count, tail = 0, b""
    while True:
        select.select([fd], [], [])
        data = os.read(fd, 65536)
        count += len(data)
        if text in (tail := tail[-8:] + data):
            return count
