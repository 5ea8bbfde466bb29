"""Agents: what Colony costs per event of theirs, how late an event reaches a WebSocket client, how soon the first one (`_agent_starts`).

The agents are programs that speak like Claude Code and say when they said it; 1,000 lines a second in all, by 1, 8 and 50 of them. What it
is compared with: the same programs, read line by line by this process. The CPU of programs that speak is not Colony's and is not counted.
"""

import json
import os
import selectors
import shlex
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import trio

from benchmarks import workspaces
from benchmarks._agent_starts import REAL, real, stand_in, starts
from benchmarks.house import open_daemon
from benchmarks.metric import Metric
from benchmarks.proxy import cpu_seconds
from colony_core.remote import Client, Target, calls, discover
from colony_core.remote.streaming import open_events

PROGRAM = Path(__file__).with_name("_agent_stream.py").resolve()
RATE = 1000.0
SECONDS = 8.0
CROWDS = (1, 8, 50)
PATIENCE_SECONDS = 120.0
MEDIAN_GOAL_MS, TAIL_GOAL_MS, CPU_GOAL_US = 100.0, 500.0, 300.0


def run() -> Iterator[Metric]:
    """Yields the figures of agents; and then those of workspaces; takes about three minutes."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        program = _install(folder)
        path = os.environ["PATH"]
        os.environ["PATH"] = f"{folder / 'bin'}:{path}"
        try:
            with open_daemon(folder) as environment:
                target = discover(environ=environment)
                client = Client(target)
                yield from starts(client, target, folder, stand_in(program))
                names = [f"agent-{number}" for number in range(max(CROWDS))]
                for each in names:
                    _spawn(client, folder, each)
                for count in CROWDS:
                    yield from _stream(client, target, names[:count], program)
            if REAL:
                yield from _real_starts(folder)
        finally:
            os.environ["PATH"] = path
    yield from workspaces.run()


def _real_starts(folder: Path) -> Iterator[Metric]:
    """With a daemon of its own, which finds Claude Code itself."""
    program = folder / "real/bin/claude"
    program.parent.mkdir(parents=True)
    program.symlink_to(REAL)
    os.environ["PATH"] = f"{program.parent}:{os.environ['PATH']}"
    with open_daemon(folder / "real") as environment:
        target = discover(environ=environment)
        yield from starts(Client(target), target, folder / "real", real(program, folder / "real/home"))


def _install(folder: Path) -> Path:
    program = folder / "bin/claude"
    program.parent.mkdir()
    program.write_text(f'#!/bin/sh\nexec {shlex.quote(sys.executable)} -S -E {shlex.quote(str(PROGRAM))} "$@"\n')
    program.chmod(0o755)
    return program


def _spawn(client: Client, folder: Path, name: str) -> None:
    source = folder / name
    source.mkdir()
    (source / "colony.toml").write_text('[agent]\nbackend = "claude"\n')
    client.send_raw(calls.spawn(name, str(source)))
    deadline = time.monotonic() + PATIENCE_SECONDS
    while client.send_raw(calls.colony(name))["state"] != "running":
        assert time.monotonic() < deadline, f"{name} does not run"
        time.sleep(0.02)


def _by_hand(program: Path, rate: float, seconds: float) -> "subprocess.Popen[bytes]":
    process = subprocess.Popen([str(program), "-p"], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    assert process.stdin is not None
    content = {"role": "user", "content": f"{rate} {seconds}"}
    process.stdin.write(json.dumps({"type": "user", "message": content}).encode() + b"\n")
    process.stdin.close()
    return process


def _stream(client: Client, target: Target, names: list[str], program: Path) -> Iterator[Metric]:
    """Delay and cost of events with so many agents at once."""
    pid = client.send_raw(calls.system())["pid"]
    before = cpu_seconds(pid)
    delays = trio.run(_told, client, target, names)
    cost = (cpu_seconds(pid) - before) / len(delays) * 1e6
    bare_delays, bare_cost = _read_by_hand(program, len(names))
    who = "1 agent" if len(names) == 1 else f"{len(names)} agents"
    ours, bare = _ends(delays), _ends(bare_delays)
    ends = (("p50", ours[0], bare[0], MEDIAN_GOAL_MS), ("p99", ours[1], bare[1], TAIL_GOAL_MS))
    for what, mine, theirs, goal in ends:
        yield Metric(
            metric=f"{who}, {RATE:g} events/s, stdout to WebSocket, {what}",
            value=mine,
            unit="ms",
            n=len(delays),
            baseline=f"its pipe read by hand: {theirs:.2f} ms",
            ratio=mine / theirs,
            better="lower",
            goal=f"< {goal:g} ms",
            ok=mine < goal,
        )
    yield Metric(
        metric=f"{who}, {RATE:g} events/s, CPU of the daemon per event",
        value=cost,
        unit="µs",
        n=len(delays),
        baseline=f"reading and parsing by hand: {bare_cost:.0f} µs",
        ratio=cost / bare_cost,
        better="lower",
        goal=f"< {CPU_GOAL_US:g} µs",
        ok=cost < CPU_GOAL_US,
    )


async def _told(client: Client, target: Target, names: list[str]) -> list[float]:
    """Milliseconds from when a line was said to when a client of `/ws` had it, for every line; none may be lost."""
    wanted = int(RATE / len(names) * SECONDS) * len(names)
    after = client.send_raw(calls.system())["last_event"]
    delays: list[float] = []
    async with open_events(target, after=after, kinds=("agent_event",)) as events:
        for name in names:
            order = calls.instruct(name, f"{RATE / len(names)} {SECONDS}")
            await trio.to_thread.run_sync(client.send_raw, order)
        with trio.fail_after(PATIENCE_SECONDS):
            async for event in events:
                if event.get("event_type") == "text_delta":
                    delays.append((time.time_ns() - int(event["content"])) / 1e6)
                    if len(delays) >= wanted:
                        break
    await _rest(client, names)
    return delays


async def _rest(client: Client, names: list[str]) -> None:
    for name in names:
        while client.send_raw(calls.agent(name))["state"] in ("working", "waiting"):
            await trio.sleep(0.05)


def _read_by_hand(program: Path, count: int) -> tuple[list[float], float]:
    """Delays, and µs of this process per line: one after the other's lines, as a loop over pipes would have them."""

    delays: list[float] = []
    processes = [_by_hand(program, RATE / count, SECONDS) for _ in range(count)]
    with selectors.DefaultSelector() as selector:
        for process in processes:
            assert process.stdout is not None
            os.set_blocking(process.stdout.fileno(), False)
            selector.register(process.stdout, selectors.EVENT_READ, bytearray())
        before = time.process_time()
        while selector.get_map():
            for key, _ in selector.select():
                with suppress(BlockingIOError):
                    delays += _take(selector, key)
        cost = (time.process_time() - before) / len(delays) * 1e6
    for process in processes:
        process.wait()
    return delays, cost


def _take(selector: selectors.BaseSelector, key: selectors.SelectorKey) -> list[float]:
    data = os.read(key.fd, 2**16)
    if not data:
        selector.unregister(key.fileobj)
        return []
    key.data.extend(data)
    *lines, rest = bytes(key.data).split(b"\n")
    key.data[:] = rest
    found = [json.loads(line) for line in lines]
    now = time.time_ns()
    return [(now - int(each["message"]["content"][0]["text"])) / 1e6 for each in found if each["type"] == "assistant"]


def _ends(delays: list[float]) -> tuple[float, float]:
    cuts = statistics.quantiles(delays, n=100)
    return cuts[49], cuts[98]
