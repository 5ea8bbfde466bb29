"""Cells against the shell commands that make the same network, and against the bare floor of the kernel, interleaved in one run.

Everything happens in a process with networks, mounts and /run of its own, so that nothing of the host is touched and nothing stays.
"Reachable" is the same for all three: a TCP connection to a closed port of the cell is refused by the cell.

The file is long because the three ways are written out beside each other, and so are the functions that interleave them.
"""

import json
import os
import socket
import statistics
import struct
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import attrs
import trio

from benchmarks.metric import Metric
from colony_core.isolation import Cell, Isolation, Mode, netlink, open_isolation, syscalls

CREATE_GOAL_MS = 3.0
SHELL_GOAL = 15.0  # times faster than the shell
FLOOR_GOAL = 2.5  # times the floor, at most
CONNECT_GOAL_MS = 5.0
MEMORY_GOAL_MB = 0.5

ROUNDS = 12
CELLS_PER_ROUND = 6
CROWD = 300
ALIVE = 500
GONE_SECONDS = 30.0
SHELL_NAMESPACE = "ns-bench-shell"
SHELL_HOST, SHELL_CELL = "10.77.0.0", "10.77.0.1"
FLOOR_LINK, FLOOR_INDEX = "bench-floor", 900_001
FLOOR_HOST, FLOOR_CELL = "10.78.0.0", "10.78.0.1"
SHELL = f"""ip netns add {SHELL_NAMESPACE}
ip link add bench-shell type veth peer name bench-peer
ip link set bench-peer netns {SHELL_NAMESPACE}
ip address add {SHELL_HOST}/31 dev bench-shell
ip link set bench-shell up
ip -n {SHELL_NAMESPACE} address add {SHELL_CELL}/31 dev bench-peer
ip -n {SHELL_NAMESPACE} link set lo up
ip -n {SHELL_NAMESPACE} link set bench-peer up
ip -n {SHELL_NAMESPACE} route add default via {SHELL_HOST}"""


def run() -> Iterator[Metric]:
    """Yields the figures; takes about half a minute. Raises RuntimeError where no namespaces can be made."""
    apart = ["unshare", "--mount", "--net", *([] if os.geteuid() == 0 else ["--user", "--map-root-user"])]
    command = [*apart, sys.executable, "-m", "benchmarks.isolation", "apart"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        for line in process.stdout:
            yield Metric(**json.loads(line))
    if process.returncode:
        raise RuntimeError(f"{' '.join(apart)} ended with {process.returncode}")


async def _measure() -> None:
    with tempfile.TemporaryDirectory() as folder:
        async with open_isolation(run_dir=Path(folder), mode=Mode.ROOT) as walls:
            await _against_others(walls)
            await _in_a_crowd(walls)


async def _against_others(walls: Isolation) -> None:
    ours: list[list[float]] = []
    floor: list[list[float]] = []
    shell: list[float] = []
    destroyed: list[float] = []
    deleted: list[float] = []
    gone: list[float] = []
    await _one_cell(walls, [], [], [])  # the first of each finds nothing prepared
    _one_floor()
    for _ in range(ROUNDS):
        ours.append([])
        floor.append([])
        for _ in range(CELLS_PER_ROUND):
            await _one_cell(walls, ours[-1], destroyed, gone)
            floor[-1].append(_one_floor())
        made, ended = _one_shell()
        shell.append(made)
        deleted.append(ended)
    cells = [value for values in ours for value in values]
    middle = statistics.median(cells)
    to_shell = statistics.median(made / statistics.median(values) for made, values in zip(shell, ours, strict=True))
    to_floor = statistics.median(
        statistics.median(values) / statistics.median(bare) for values, bare in zip(ours, floor, strict=True)
    )
    floor_ms = statistics.median(value for values in floor for value in values)
    _say(
        "create.p50",
        middle,
        "ms",
        len(cells),
        "created and reachable",
        None,
        f"<= {CREATE_GOAL_MS:g}",
        middle <= CREATE_GOAL_MS,
    )
    _say("create.p99", _percentile(cells, 99), "ms", len(cells), "created and reachable")
    text = f"shell, 9 commands: {statistics.median(shell):.1f} ms"
    _say(
        "create.shell",
        middle,
        "ms",
        len(shell),
        text,
        1 / to_shell,
        f"{SHELL_GOAL:g} times faster",
        to_shell >= SHELL_GOAL,
    )
    text = f"unshare, veth, addresses: {floor_ms:.2f} ms"
    _say("create.floor", middle, "ms", len(cells), text, to_floor, f"ratio <= {FLOOR_GOAL:g}", to_floor <= FLOOR_GOAL)
    ending, shells = statistics.median(destroyed), statistics.median(deleted)
    processes = sum(name.isdigit() for name in os.listdir("/proc"))
    text = f"ip netns del: {shells:.1f} ms; {processes} processes looked at"
    _say(
        "destroy.p50",
        ending,
        "ms",
        len(destroyed),
        text,
        ending / shells,
        f"<= {CREATE_GOAL_MS:g}",
        ending <= CREATE_GOAL_MS,
    )
    _say("destroy.gone_p50", statistics.median(gone), "ms", len(gone), "until the kernel has removed the cable")
    _say("destroy.gone_max", max(gone), "ms", len(gone), "until the kernel has removed the cable")


async def _in_a_crowd(walls: Isolation) -> None:
    slab = _slab_bytes()
    cells: list[Cell] = []
    first: list[float] = []
    created: list[float] = []
    for number in range(ALIVE):
        start = time.perf_counter()
        cell = await walls.build(f"crowd-{number}")
        created.append((time.perf_counter() - start) * 1e3)
        cells.append(cell)
        if number < CROWD:
            first.append(_reach(cell.address))
    worst = _percentile(first, 99)
    _say(
        "connect.first_p99",
        worst,
        "ms",
        CROWD,
        f"first TCP connect; p50 {statistics.median(first):.3f} ms",
        None,
        f"< {CONNECT_GOAL_MS:g}",
        worst < CONNECT_GOAL_MS,
    )
    late = [_reach(cell.address) for cell in cells]
    _say(
        "alive.cells",
        float(len(late)),
        "cells",
        ALIVE,
        f"all answer; p99 {_percentile(late, 99):.3f} ms",
        None,
        f">= {ALIVE}",
        len(late) >= ALIVE,
        better="higher",
    )
    _say(
        "alive.create_p50",
        statistics.median(created[-50:]),
        "ms",
        50,
        f"the last 50 of {ALIVE}; the first 50: {statistics.median(created[:50]):.2f} ms",
    )
    each = (_slab_bytes() - slab) / ALIVE / 1e6
    _say(
        "alive.memory",
        each,
        "MB",
        ALIVE,
        "slab of the kernel, per cell",
        None,
        f"< {MEMORY_GOAL_MB:g}",
        each < MEMORY_GOAL_MB,
    )
    start = time.perf_counter()
    for cell in cells:
        await walls.destroy(cell)
    called = time.perf_counter() - start
    await _until_gone([cell.link for cell in cells])
    text = f"destroyed one after the other; the calls took {called:.1f} s"
    _say("alive.gone", (time.perf_counter() - start) * 1e3 / ALIVE, "ms", ALIVE, text)


async def _one_cell(walls: Isolation, made: list[float], ended: list[float], gone: list[float]) -> None:
    start = time.perf_counter()
    cell = await walls.build("bench")
    _reach(cell.address)
    made.append((time.perf_counter() - start) * 1e3)
    start = time.perf_counter()
    await walls.destroy(cell)
    ended.append((time.perf_counter() - start) * 1e3)
    await _until_gone([cell.link])
    gone.append((time.perf_counter() - start) * 1e3)


def _one_floor() -> float:
    """The least that a cell is, in milliseconds: a namespace, a cable whose far end is born in it, an address and a state at each end."""
    home = os.open("/proc/thread-self/ns/net", os.O_RDONLY | os.O_CLOEXEC)
    with netlink.open_socket() as outside:
        cable, here, there = _floor_batches()
        start = time.perf_counter()
        syscalls.unshare(syscalls.CLONE_NEWNET)
        namespace = os.open("/proc/thread-self/ns/net", os.O_RDONLY | os.O_CLOEXEC)
        with netlink.open_socket() as inside:
            netlink.transact(outside, cable.fill(namespace=netlink.index(namespace)), 1)
            netlink.transact(outside, here, 2)
            netlink.transact(inside, there, 2)
        syscalls.setns(home, syscalls.CLONE_NEWNET)
        _reach(FLOOR_CELL)
        took = (time.perf_counter() - start) * 1e3
    os.close(namespace)
    os.close(home)
    _wait_gone(FLOOR_LINK)
    return took


def _floor_batches() -> tuple[netlink.Template, bytes, bytes]:
    template = netlink.cable_template()
    at = {"link": FLOOR_LINK.encode().ljust(12, b"\0"), "ifindex": netlink.index(FLOOR_INDEX)}
    macs = {"host_mac": b"\2\xc2\0\0\0\1", "cell_mac": b"\2\xc2\0\0\0\2"}
    cable = attrs.evolve(template, data=bytes(template.fill(**at, **macs)))
    return cable, _up(FLOOR_INDEX, FLOOR_HOST), _up(netlink.CELL_INDEX, FLOOR_CELL)


def _up(index: int, address: str) -> bytes:
    link = struct.pack("=IHHIIBxHiII", 32, netlink.NEWLINK, netlink.REQUEST | netlink.ACK, 1, 0, 0, 0, index, 1, 1)
    flags = netlink.REQUEST | netlink.ACK | netlink.CREATE | netlink.EXCLUSIVE
    head = struct.pack("=IHHIIBBBBI", 40, netlink.NEWADDR, flags, 1, 0, socket.AF_INET, 31, 0, 0, index)
    raw = socket.inet_aton(address)
    return link + head + struct.pack("=HH4sHH4s", 8, 1, raw, 8, 2, raw)


def _one_shell() -> tuple[float, float]:
    """What a person would type, in milliseconds: making it, and deleting it."""
    start = time.perf_counter()
    for line in SHELL.splitlines():
        subprocess.run(line.split(), check=True)
    _reach(SHELL_CELL)
    made = (time.perf_counter() - start) * 1e3
    start = time.perf_counter()
    subprocess.run(["ip", "netns", "del", SHELL_NAMESPACE], check=True)
    ended = (time.perf_counter() - start) * 1e3
    _wait_gone("bench-shell")
    return made, ended


def _reach(address: str) -> float:
    """The milliseconds of a round trip to the cell and back: its closed port refuses."""
    start = time.perf_counter()
    with socket.socket() as sock:
        sock.settimeout(10.0)
        try:
            sock.connect((address, 9))
        except ConnectionRefusedError:
            return (time.perf_counter() - start) * 1e3
    raise RuntimeError(f"{address} did not refuse")


async def _until_gone(links: list[str]) -> None:
    with trio.fail_after(GONE_SECONDS):
        while {name for _, name in socket.if_nameindex()} & set(links):
            await trio.sleep(0.001)


def _wait_gone(link: str) -> None:
    with suppress(OSError):
        while socket.if_nametoindex(link):
            time.sleep(0.001)


def _slab_bytes() -> int:
    for line in Path("/proc/meminfo").read_text().splitlines():
        if line.startswith("Slab:"):
            return int(line.split()[1]) * 1024
    raise RuntimeError("no slab in /proc/meminfo")


def _percentile(values: list[float], percent: int) -> float:
    return sorted(values)[min(len(values) - 1, len(values) * percent // 100)]


def _say(
    name: str,
    value: float,
    unit: str,
    n: int,
    baseline: str,
    ratio: float | None = None,
    goal: str = "",
    ok: bool | None = None,
    *,
    better: str = "lower",
) -> None:
    told = {
        "metric": f"isolation.{name}",
        "value": value,
        "unit": unit,
        "n": n,
        "baseline": baseline,
        "ratio": ratio,
        "better": better,
        "goal": goal,
        "ok": ok,
    }
    print(json.dumps(told), flush=True)


if __name__ == "__main__":
    if sys.argv[1:] == ["apart"]:
        subprocess.run(["mount", "-t", "tmpfs", "none", "/run"], check=True)
        trio.run(_measure)
    else:
        for figure in run():
            print(figure)
