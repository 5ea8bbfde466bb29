"""The face: a small route, events for many readers, a log that is followed; then the proxy and terminals, all in one run.

Servers and clients are processes of their own. What the machine's other work takes counts in rates and delays, not in CPU time, so each
rate is told with what it cost. Starlette under uvicorn and Caddy are measured where they are installed (`pip install starlette uvicorn`).
"""

import json
import statistics
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from benchmarks import proxy, terminals
from benchmarks._web_clients import client
from benchmarks._web_servers import Server, server, uvicorn_is_here
from benchmarks.metric import Metric
from benchmarks.proxy import cpu_seconds
from colony_core.remote import Client, Target, calls

ROUNDS = 3
ROUND_SECONDS = 2.0
CONNECTIONS = 32
STORM_SECONDS = 4.0
DELIVERIES_GOAL = 200_000
DELAY_GOALS_MS = {100: 100.0, 1_000: 1_000.0}
"""By readers: at once, to a person; and one that nobody takes for a standstill."""
LINES_GOAL = 100_000
LINES = 105_000
"""A second, as written: a reader that keeps up must be able to read as many as it is held to, although it begins and ends later."""
LINES_SECONDS = 8.0
SLOW_BYTES = 200_000
"""What the slow reader of a log takes in a second, a seventieth of what is written."""
MEMORY_GOAL_MB = 32.0
PATIENCE_SECONDS = 120.0
WRITER = Path(__file__).with_name("_web_writer.py").resolve()


def run() -> Iterator[Metric]:
    """Yields all of them; takes about two minutes."""
    with tempfile.TemporaryDirectory() as name, ExitStack() as stack:
        folders = [Path(name) / "house", Path(name) / "hypercorn"]
        for folder in folders:
            folder.mkdir()
        house = stack.enter_context(server("house", str(folders[0])))
        hypercorn = stack.enter_context(server("hypercorn", str(folders[1])))
        peers = {"bare Hypercorn on Trio": hypercorn}
        if uvicorn_is_here():
            peers["Starlette under uvicorn"] = stack.enter_context(server("uvicorn"))
        asking = Client(Target(socket=house.told["socket"]))
        yield from _route(house, peers, _spawn(asking, folders[0], "idle", "[colony]\n"))
        for readers, rate in ((100, 2_000), (1_000, 200)):
            yield from _fan_out(house, hypercorn, folders, readers)
            yield from _steady(house, folders[0], readers, rate)
        yield from _log(house, asking, folders[0])
    yield from proxy.run()
    yield from terminals.run()


def _spawn(asking: Client, folder: Path, name: str, manifest: str) -> str:
    source = folder / name
    source.mkdir()
    (source / "colony.toml").write_text(manifest)
    colony: str = asking.send_raw(calls.spawn(name, str(source)))["id"]
    return colony


def _route(house: Server, peers: dict[str, Server], colony: str) -> Iterator[Metric]:
    """One colony of the API against the smallest answer of the others, in turns."""
    asked = {"Colony": house} | peers
    rates: dict[str, list[float]] = {name: [] for name in asked}
    ends: dict[str, list[float]] = {name: [] for name in asked}
    costs: dict[str, list[float]] = {name: [] for name in asked}
    total = 0
    for _ in range(ROUNDS):
        for name, each in asked.items():
            before = each.cpu_seconds
            path = f"/api/colonies/{colony}" if each is house else "/api/health"
            with client("asks", each.told | {"path": path}, CONNECTIONS, ROUND_SECONDS) as asks:
                asks.ready()
                found = asks.result()
            rates[name].append(found["requests"] / found["seconds"])
            ends[name].append(found["p99"] * 1000)
            costs[name].append((each.cpu_seconds - before) / found["requests"] * 1e6)
            total += found["requests"]
    for name in peers:
        for what, values, unit in (("requests", rates, "req/s"), ("p99", ends, "ms"), ("CPU per request", costs, "µs")):
            ours, theirs = statistics.median(values["Colony"]), statistics.median(values[name])
            yield Metric(
                metric=f"API answer, {CONNECTIONS} connections, {what}",
                value=ours,
                unit=unit,
                n=total,
                baseline=f"{name}: {theirs:.{1 if unit == 'ms' else 0}f} {unit}",
                ratio=ours / theirs,
                better="higher" if unit == "req/s" else "lower",
            )


def _fan_out(house: Server, hypercorn: Server, folders: list[Path], readers: int) -> Iterator[Metric]:
    """As many events as all readers can be told, none lost."""
    theirs = _told(hypercorn, folders[1], readers, rate=None) if readers <= 100 else None
    ours = _told(house, folders[0], readers, rate=None)
    base = f"; bare Hypercorn, a message for each: {theirs['rate']:,.0f}/s" if theirs else ""
    yield Metric(
        metric=f"/ws, {readers} readers, deliveries",
        value=ours["rate"],
        unit="/s",
        n=ours["deliveries"],
        baseline=f"{ours['lost']} lost{base}",
        ratio=ours["rate"] / theirs["rate"] if theirs else None,
        better="higher",
        goal=f">= {DELIVERIES_GOAL:,}" if readers == 100 else "none lost",
        ok=ours["lost"] == 0 and (readers > 100 or ours["rate"] >= DELIVERIES_GOAL),
    )
    yield Metric(
        metric=f"/ws, {readers} readers, deliveries for a second of CPU",
        value=ours["per_cpu"],
        unit="/s",
        n=ours["deliveries"],
        baseline=f"bare Hypercorn: {theirs['per_cpu']:,.0f}" if theirs else "",
        ratio=ours["per_cpu"] / theirs["per_cpu"] if theirs else None,
        better="higher",
    )
    yield Metric(
        metric=f"/ws, {readers} readers, memory of each",
        value=ours["each_kb"],
        unit="kB",
        n=readers,
        baseline=f"daemon {ours['before']:.0f} MB without, {ours['with']:.0f} with them, {ours['peak']:.0f} at most in the storm",
        better="lower",
    )


def _steady(house: Server, folder: Path, readers: int, rate: int) -> Iterator[Metric]:
    """200,000 deliveries a second, evenly: how late is the last of a hundred?"""
    found = _told(house, folder, readers, rate=rate)
    yield Metric(
        metric=f"/ws, {readers} readers, {rate:,} events/s: delay, p99",
        value=found["p99"] * 1000,
        unit="ms",
        n=found["deliveries"],
        baseline=f"p50 {found['p50'] * 1000:.1f} ms; {found['rate']:,.0f} deliveries/s, {found['share']:.0%} of a CPU",
        better="lower",
        goal=f"none lost, < {DELAY_GOALS_MS[readers]:,.0f} ms",
        ok=found["lost"] == 0 and found["p99"] * 1000 < DELAY_GOALS_MS[readers],
    )


def _told(told: Server, folder: Path, readers: int, *, rate: int | None) -> dict[str, Any]:
    before = told.memory()[0]
    with client("readers", told.told, readers, folder / "clock") as reading:
        reading.ready()
        told.forget_peak()
        present, cpu = told.memory()[0], told.cpu_seconds
        found = reading.result(**told.ask(seconds=STORM_SECONDS, rate=rate))
        cpu = told.cpu_seconds - cpu
        peak = told.memory()[1]
    return found | {
        "rate": found["deliveries"] / found["seconds"],
        "per_cpu": found["deliveries"] / cpu,
        "share": cpu / found["seconds"],
        "before": before,
        "with": present,
        "peak": peak,
        "each_kb": max(0.0, present - before) * 1024 / readers,
    }


def _log(house: Server, asking: Client, folder: Path) -> Iterator[Metric]:
    """A service writes, one reader follows, another one reads slowly."""
    go = folder / "go"
    command = json.dumps(["python3", "-S", str(WRITER), str(LINES), str(LINES_SECONDS), str(go)])
    _spawn(asking, folder, "loud", f"[services.writer]\ncommand = {command}\n")
    path = "/api/colonies/loud/logs/stream?after=0"
    with client("follows", house.told, path, 0) as fast, client("follows", house.told, path, SLOW_BYTES) as slow:
        fast.ready()
        slow.ready()
        keeper = asking.send_raw(calls.system())["keeper_pid"]
        house.forget_peak()
        memory, cpu, kept = house.memory()[0], house.cpu_seconds, cpu_seconds(keeper)
        began = time.monotonic()
        go.touch()
        written, seconds, last = _end_of(asking)
        kept = cpu_seconds(keeper) - kept
        found = fast.result(lines=last)
        cpu, peak = house.cpu_seconds - cpu, house.memory()[1]
        held = slow.result(lines=0)
    asking.send_raw(calls.remove("loud"))
    lost = last - found["lines"]
    rate = found["lines"] / (found["last_at"] - began)
    yield Metric(
        metric="log followed (SSE), a slow reader beside it",
        value=rate,
        unit="lines/s",
        n=found["lines"],
        baseline=f"written: {written / seconds:,.0f} lines/s; {lost} lost, {found['missed']} holes; the slow one had {held['lines']:,}",
        ratio=rate / (written / seconds),
        better="higher",
        goal=f"none lost, >= {LINES_GOAL:,}",
        ok=lost == 0 and found["missed"] == 0 and rate >= LINES_GOAL,
    )
    yield Metric(
        metric="CPU of the daemon for a line",
        value=cpu / found["lines"] * 1e6,
        unit="µs",
        n=found["lines"],
        baseline=f"the keeper, which writes them: {kept / found['lines'] * 1e6:.2f} µs",
        better="lower",
    )
    yield Metric(
        metric="memory of the daemon, meanwhile, at most more by",
        value=peak - memory,
        unit="MB",
        n=1,
        baseline=f"{memory:.0f} MB before",
        better="lower",
        goal=f"< {MEMORY_GOAL_MB:g} MB",
        ok=peak - memory < MEMORY_GOAL_MB,
    )


def _end_of(asking: Client) -> tuple[int, float, int]:
    """Lines, seconds and the last line's number, when the writer has said that it is done."""
    deadline = time.monotonic() + PATIENCE_SECONDS
    while time.monotonic() < deadline:
        time.sleep(0.2)
        for line in asking.send_raw(calls.logs("loud", tail=3))["lines"]:
            if line["text"].startswith("END "):
                _, written, seconds = line["text"].split()
                return int(written), float(seconds), int(line["seq"])
    raise TimeoutError("the writer has not ended")
