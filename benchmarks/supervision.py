"""Supervision against what people write by hand on bare Trio: both in one process, in alternating blocks, the collector frozen and raised.

Time is the thread's CPU time: no block ever sleeps, and what else the machine does must not count. Values are rates, so that `ratio` is the
time of the hand-written idiom over the time of ours. All features are on: a hook that listens to events, a limit, a strategy, the default
time-out of calls. Memory is measured in a process for each figure; there, less is better.
Erlang and pykka stand beside ours where they are installed; ours is not held against them.
"""

import gc
import os
import resource
import statistics
import subprocess
import sys
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager, contextmanager
from functools import partial
from pathlib import Path
from time import thread_time

import attrs
import trio
from trio.testing import wait_all_tasks_blocked

from benchmarks import _others
from benchmarks import _supervised as ours
from benchmarks import _trio_idioms as bare
from benchmarks._trio_idioms import BATCH, CALLERS, DEADLINE_SECONDS, Block, Grow
from benchmarks.metric import Metric
from colony_web.daemon import calm_collector

BLOCKS = 41
STOPS = 15
LIVE = 10_000
STOPPED = 5_000
IDLE = 20_000  # units alive when memory is weighed
CHILD_GOAL, CHILD_STRETCH = 1.2, 1.05
ACTOR_GOAL, ACTOR_STRETCH = 0.75, 0.63

Side = AbstractAsyncContextManager[Block]


@attrs.frozen
class Row:
    """One operation: its hand-written side, our side, how many to a block, the ratio it must have and the one it aims at."""

    name: str
    idiom: str
    theirs: Callable[[], Side]
    ours: Callable[[], Side]
    n: int
    must: float | None
    stretch: float


def run() -> Iterator[Metric]:
    """Yields the figures; takes about two minutes."""
    found: dict[str, float] = {}
    for row in ROWS:
        metric = trio.run(_compare, row)
        found[row.name] = metric.value
        yield metric
    yield from _checkpoints(found)
    for metric in _memory():
        found[metric.metric.removeprefix("supervision.")] = metric.value
        yield metric
    yield from _others.run(found)


async def _compare(row: Row) -> Metric:
    """Alternating blocks; each pair of neighbours gives a ratio, and the medians count."""
    blocks = STOPS if row.n == STOPPED else BLOCKS
    async with row.theirs() as one, row.ours() as other:
        await one(row.n)
        await other(row.n)
        with _quiet_collector():
            pairs = [await _pair(one, other, row.n, swap=bool(turn % 2)) for turn in range(blocks)]
    ratio = statistics.median(by_hand / mine for by_hand, mine in pairs)
    theirs, mine = (row.n / statistics.median(side) for side in zip(*pairs, strict=True))
    return Metric(
        metric=f"supervision.{row.name}",
        value=mine,
        unit="/s",
        n=row.n * blocks,
        baseline=f"{row.idiom}: {theirs:,.0f} /s ({1e6 / theirs:.2f} us, ours {1e6 / mine:.2f} us)",
        ratio=ratio,
        better="higher",
        goal="" if row.must is None else f">= {row.must:.2f}x (aim {row.stretch:g}x)",
        ok=None if row.must is None else ratio >= row.must,
    )


async def _pair(one: Block, other: Block, n: int, *, swap: bool) -> tuple[float, float]:
    gc.collect()
    if swap:
        mine = await other(n)
        return await one(n), mine
    theirs = await one(n)
    return theirs, await other(n)


@contextmanager
def _quiet_collector() -> Iterator[None]:
    """What Colony's daemon does after its start; otherwise a collection falls into one block or the other and doubles it."""
    before = gc.get_threshold()
    gc.collect()
    calm_collector()
    try:
        yield
    finally:
        gc.set_threshold(*before)
        gc.unfreeze()


@asynccontextmanager
async def _alone(block: Block) -> AsyncIterator[Block]:
    """A block that needs no stage."""
    yield block


def _checkpoints(found: dict[str, float]) -> Iterator[Metric]:
    """The same costs in a unit that does not depend on the machine."""
    seconds = trio.run(_one_checkpoint)
    for name in ("start", "restart", "call"):
        yield Metric(
            metric=f"supervision.{name}.checkpoints",
            value=1 / found[name] / seconds,
            unit="",
            n=1,
            baseline=f"a checkpoint of the only task takes {seconds * 1e6:.2f} us",
            better="lower",
        )


async def _one_checkpoint() -> float:
    times = []
    for _ in range(BLOCKS):
        begin = thread_time()
        for _ in range(2_000):
            await trio.lowlevel.checkpoint()
        times.append((thread_time() - begin) / 2_000)
    return statistics.median(times)


def _memory() -> Iterator[Metric]:
    for name, idiom, must, stretch in (
        ("child", "task with a scope", CHILD_GOAL, CHILD_STRETCH),
        ("child.static", "task with a scope", CHILD_GOAL, CHILD_STRETCH),
        ("actor", "task with a scope and a channel", ACTOR_GOAL, ACTOR_STRETCH),
    ):
        mine, theirs = _weighed(name), _weighed(idiom)
        yield Metric(
            metric=f"supervision.memory.{name}",
            value=mine,
            unit="B",
            n=IDLE,
            baseline=f"{idiom}: {theirs:,.0f} B",
            ratio=mine / theirs,
            better="lower",
            goal=f"<= {must:.2f}x (aim {stretch:g}x)",
            ok=mine / theirs <= must,
        )


def _weighed(what: str) -> float:
    command = [sys.executable, "-m", "benchmarks.supervision", what]
    return float(subprocess.run(command, check=True, capture_output=True, text=True).stdout)


async def _weigh(what: str) -> None:
    """Prints the bytes of resident memory that one idle unit takes."""
    async with UNITS[what]() as add:
        await add(100)
        await wait_all_tasks_blocked()
        gc.collect()
        before = _resident()
        await add(IDLE)
        await wait_all_tasks_blocked()
        gc.collect()
        print((_resident() - before) / IDLE, flush=True)
        os._exit(0)  # taking it down again would only take time


def _resident() -> int:
    return int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize()


SOFT = partial(_alone, partial(bare.stop, mailboxes=True)), partial(_alone, partial(ours.stop, template=ours.SERVER))
HARD = partial(_alone, partial(bare.stop, mailboxes=True)), partial(_alone, partial(ours.stop, template=ours.BRUTAL))
IDLERS = (
    partial(_alone, partial(bare.stop, mailboxes=False)),
    partial(_alone, partial(ours.stop, template=ours.SLEEPER)),
)
MANY = partial(bare.call_by_channel, callers=CALLERS), partial(ours.call, callers=CALLERS)
TIMED = partial(bare.call_by_channel, deadline=DEADLINE_SECONDS), partial(ours.call, timeout=DEADLINE_SECONDS)
ROWS = (
    Row("start", f"nursery.start, {LIVE} live", partial(bare.start, LIVE), partial(ours.spawn, LIVE), 500, 1.15, 1.5),
    Row("start.static", f"nursery.start, {LIVE} live", partial(bare.start, LIVE), partial(ours.start, LIVE), 500, 1.15, 1.5),
    Row("start.batch", f"{BATCH} concurrent nursery.start", bare.start_batch, ours.spawn_batch, 1_000, 1.5, 2.0),
    Row("restart", "monitor task + nursery.start", bare.restart, ours.restart, 1_000, 1.4, 2.5),
    Row("call", "memory channel per call", bare.call_by_channel, ours.call, 2_000, 2.0, 2.3),
    Row("call.nowait", "memory channel per call, send_nowait", bare.call_nowait, ours.call, 2_000, None, 0.0),
    Row("call.slot", "event slot per call", bare.call_by_event, ours.call, 2_000, 1.0, 1.25),
    Row("call.concurrent", f"{CALLERS} callers, memory channel per call", *MANY, 4_000, 5.0, 7.0),
    Row("call.deadline", "fail_after + memory channel per call", *TIMED, 2_000, 2.2, 3.0),
    Row("cast", "send_nowait + async for", bare.cast, ours.cast, 10_000, 8.0, 14.0),
    Row("stop.soft", "nursery cancel, tasks with channels", *SOFT, STOPPED, 1.7, 2.8),
    Row("stop.hard", "nursery cancel, tasks with channels", *HARD, STOPPED, 0.85, 1.0),
    Row("stop.hard.idle", "nursery cancel, tasks with scopes", *IDLERS, STOPPED, None, 0.0),
)  # fmt: skip
UNITS: dict[str, Callable[[], AbstractAsyncContextManager[Grow]]] = {
    "task with a scope": partial(bare.crowd, mailboxes=False),
    "task with a scope and a channel": partial(bare.crowd, mailboxes=True),
    "child": partial(ours.crowd, ours.SLEEPER),
    "child.static": ours.crowd_in_order,
    "actor": partial(ours.crowd, ours.IDLE),
}

if __name__ == "__main__":
    trio.run(_weigh, sys.argv[1])
