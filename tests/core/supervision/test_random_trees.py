"""Random trees with random failures never break the order of starts and stops, nor the limit, and leave no task."""

import random
from collections import Counter

import attrs
import trio
import trio.testing
from hypothesis import given, settings
from hypothesis import strategies as st

from colony_core.supervision import (
    Backoff,
    ChildSpec,
    ChildStartError,
    Ignore,
    Limit,
    LimitReached,
    PlannedStop,
    Restart,
    RestartLimit,
    State,
    Strategy,
    SupervisionError,
    Supervisor,
    open_supervisor,
    supervisor_spec,
)

GRACE_SECONDS = 2.0


@attrs.frozen
class Leaf:
    """What a child does: seconds up for each incarnation, then how it ends; how its start goes; how long it cleans up."""

    lives: tuple[tuple[float, str], ...]
    start: tuple[str, ...]
    cleanup: float
    soft: bool
    restart: Restart
    backoff: bool


@attrs.frozen
class Branch:
    children: tuple["Leaf | Branch", ...]
    strategy: Strategy
    limit: Limit
    restart: Restart


leaves = st.builds(
    Leaf,
    lives=st.lists(
        st.tuples(st.sampled_from([0, 0.5, 1, 3, 50]), st.sampled_from(["fail", "return", "plan"])),
        min_size=1,
        max_size=3,
    ).map(tuple),
    start=st.lists(st.sampled_from(["ok", "ok", "ok", "slow", "fail", "ignore"]), min_size=1, max_size=3).map(tuple),
    cleanup=st.sampled_from([0, 0, 1, 5]),
    soft=st.booleans(),
    restart=st.sampled_from(Restart),
    backoff=st.booleans(),
)
branches = st.recursive(
    leaves,
    lambda inner: st.builds(
        Branch,
        children=st.lists(inner, max_size=4).map(tuple),
        strategy=st.sampled_from(Strategy),
        limit=st.builds(Limit, st.integers(0, 3), st.sampled_from([1.0, 5.0])),
        restart=st.sampled_from(Restart),
    ),
    max_leaves=8,
).filter(lambda node: isinstance(node, Branch))
requests = st.lists(
    st.tuples(st.sampled_from([0, 0.5, 2]), st.sampled_from(["stop", "restart", "delete", "start"]), st.integers(0, 5)),
    max_size=6,
)


class Checker:
    """Runs a tree and looks, at every start and end, whether the rules hold."""

    def __init__(self) -> None:
        self.alive: dict[tuple[int, ...], int] = Counter()
        self.stopping = False
        self.final: list[tuple[int, ...]] = []
        self.first: list[tuple[int, ...]] = []
        self.limits: list[LimitReached] = []

    def spec(self, node: Leaf | Branch, path: tuple[int, ...]) -> ChildSpec:
        if isinstance(node, Branch):
            inner = [self.spec(child, (*path, place)) for place, child in enumerate(node.children)]
            return supervisor_spec(path[-1], inner, strategy=node.strategy, limit=node.limit, restart=node.restart)
        backoff = Backoff(first=0.25, most=1, jitter=0.5) if node.backoff else None
        return ChildSpec(
            id=path[-1],
            run=self.live,
            args=(node, path, [0]),
            restart=node.restart,
            backoff=backoff,
            grace=GRACE_SECONDS,
        )

    async def live(self, node: Leaf, path: tuple[int, ...], turns: list[int], *, status: object) -> None:
        turn, turns[0] = turns[0], turns[0] + 1
        assert not self.alive[path], "two incarnations at once"
        assert not self.stopping, "started while the tree stops"
        self.alive[path] += 1
        asked = False  # whether this incarnation ends because the whole tree stops
        try:
            await self.start(node.start[min(turn, len(node.start) - 1)])
            stopping = status.stopping if node.soft else None
            if turn == 0:
                self.first.append(path)
            status.started(turn)
            await self.act(*node.lives[min(turn, len(node.lives) - 1)], stopping)
            asked = stopping is not None and stopping.is_set() and self.stopping
        except trio.Cancelled:
            asked = self.stopping
            raise
        finally:
            try:
                if node.cleanup:
                    with status.cleanup():
                        await trio.sleep(node.cleanup)
            finally:
                self.alive[path] -= 1
                if asked:
                    self.final.append(path)

    async def start(self, how: str) -> None:
        if how == "slow":
            await trio.sleep(0.5)
        elif how == "fail":
            raise KeyError("start")
        elif how == "ignore":
            raise Ignore

    async def act(self, seconds: float, end: str, stopping: trio.Event | None) -> None:
        with trio.move_on_after(seconds):
            await (await trio.sleep_forever() if stopping is None else stopping.wait())
        if end == "fail" and not (stopping and stopping.is_set()):
            raise ValueError("life")
        if end == "plan":
            raise PlannedStop

    def on_event(self, event: object) -> None:
        if isinstance(event, LimitReached):
            self.limits.append(event)

    async def ask(self, supervisor: Supervisor, what: str, place: int) -> None:
        try:
            if what == "stop":
                end = await supervisor.stop_child(place)
                assert end is not None
            elif what == "restart":
                assert (await supervisor.restart_child(place)).id == place
            elif what == "delete":
                await supervisor.delete_child(place)
            else:
                leaf = Leaf(((50, "return"),), ("ok",), 0, False, Restart.TRANSIENT, False)
                await supervisor.start_child(self.spec(leaf, (place,)))
        except SupervisionError:
            pass  # every request may come at the wrong time; what matters is that it is answered


async def play(tree: Branch, script: list[tuple[float, str, int]], seconds: float, seed: int, outside: bool) -> None:
    checker, supervisor, order, failure = Checker(), None, [], None
    tasks_before = trio.lowlevel.current_statistics().tasks_living
    specs = [checker.spec(child, (place,)) for place, child in enumerate(tree.children)]
    try:
        with trio.CancelScope() as scope:
            async with open_supervisor(
                specs, strategy=tree.strategy, limit=tree.limit, on_event=checker.on_event, rng=random.Random(seed)
            ) as supervisor:
                assert checker.first == sorted(checker.first), "first starts out of order"
                async with trio.open_nursery() as nursery:
                    for pause, what, place in script:
                        await trio.sleep(pause)
                        nursery.start_soon(checker.ask, supervisor, what, place)
                    await trio.sleep(seconds)
                    nursery.cancel_scope.cancel()
                await trio.testing.wait_all_tasks_blocked()
                order = [child.id for child in supervisor.children()]
                checker.stopping = not supervisor.stop_called
                if outside:
                    scope.cancel()
    except (RestartLimit, ChildStartError) as error:
        failure = error
    assert not any(checker.alive.values()), "somebody is still alive"
    assert trio.lowlevel.current_statistics().tasks_living == tasks_before
    assert supervisor is None or all(child.state is State.DOWN for child in supervisor.children())
    if isinstance(failure, RestartLimit):
        assert len(failure.exceptions) == tree.limit.count + 1
        assert sum(event.path == () for event in checker.limits) == 1
    elif failure is not None:
        assert supervisor is None
    elif checker.stopping:
        places = [order.index(path[0]) for path in checker.final if len(path) == 1]
        assert places == sorted(places, reverse=True), "stops out of order"


@settings(max_examples=80, deadline=None)
@given(branches, requests, st.sampled_from([0, 1, 4, 20]), st.integers(0, 10), st.booleans())
def test_random_trees_keep_the_rules(tree, script, seconds, seed, outside):
    trio.run(play, tree, script, seconds, seed, outside, clock=trio.testing.MockClock(autojump_threshold=0))
