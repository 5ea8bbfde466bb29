"""Random trees with random failures and requests never break the order of starts and stops, nor the limit, and leave no task.

Each is played as Trio runs by default or with every batch of runnable tasks shuffled.
"""

import random
from collections import Counter
from collections.abc import Iterator
from contextlib import suppress
from itertools import groupby
from math import inf
from unittest import mock

import attrs
import trio
import trio.testing
from hypothesis import given, settings
from hypothesis import strategies as st

from colony_core.supervision import (
    AutoShutdown,
    Backoff,
    ChildSpec,
    ChildStartError,
    DynamicSupervisor,
    Ignore,
    Kind,
    Limit,
    LimitReached,
    PlannedStop,
    Restart,
    RestartLimit,
    State,
    Strategy,
    SupervisionError,
    Supervisor,
    dynamic_supervisor_spec,
    open_supervisor,
    supervisor_spec,
)

ADDED = 1000
"""A child that is added under an id that was there before is told apart by thousands."""


@attrs.frozen
class Leaf:
    """What a child does: seconds up for each incarnation, then how it ends; how its start goes; how long it cleans up."""

    lives: tuple[tuple[float, str], ...]
    start: tuple[str, ...]
    cleanup: float
    soft: bool
    restart: Restart
    backoff: bool
    grace: float
    significant: bool


@attrs.frozen
class Branch:
    children: tuple["Leaf | Branch", ...]
    strategy: Strategy | None
    """None is a dynamic supervisor; its children are started once the whole tree is up."""
    limit: Limit
    restart: Restart
    auto: AutoShutdown


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
    grace=st.sampled_from([0, 2, 2, inf]),
    significant=st.booleans(),
)
branches = st.recursive(
    leaves,
    lambda inner: st.builds(
        Branch,
        children=st.lists(inner, max_size=4).map(tuple),
        strategy=st.sampled_from([*Strategy, None]),
        limit=st.builds(Limit, st.integers(0, 3), st.sampled_from([1.0, 5.0])),
        restart=st.sampled_from(Restart),
        auto=st.sampled_from([AutoShutdown.NEVER, *AutoShutdown]),
    ),
    max_leaves=10,
).filter(lambda node: isinstance(node, Branch) and node.strategy is not None)
requests = st.lists(
    st.tuples(
        st.sampled_from([0, 0.5, 2]),
        st.sampled_from(["stop", "restart", "delete", "start", "give up"]),
        st.integers(0, 3),  # of which supervisor
        st.integers(0, 5),  # which child
    ),
    max_size=8,
)


class Checker:
    """Runs a tree and looks, at every start and end, whether the rules hold."""

    def __init__(self) -> None:
        self.alive: dict[tuple[int, ...], int] = Counter()
        self.stopping = False
        self.final: list[tuple[int, ...]] = []
        self.first: list[tuple[int, ...]] = []
        self.root: Supervisor | None = None
        self.broken: list[str] = []
        self.added = 0
        self.limits: list[LimitReached] = []
        self.revived: list[float] = []
        """When children of the root were started anew, without a back-off."""

    def spec(self, node: Leaf | Branch, path: tuple[int, ...], auto: AutoShutdown) -> ChildSpec:
        if isinstance(node, Branch):
            options = {"limit": node.limit, "restart": node.restart, "auto_shutdown": node.auto}
            if node.strategy is None:
                return dynamic_supervisor_spec(path[-1], **options)
            return supervisor_spec(path[-1], self.specs(node, path), strategy=node.strategy, **options)
        return ChildSpec(
            id=path[-1],
            run=self.live,
            args=(node, path, [0]),
            restart=node.restart,
            backoff=Backoff(first=0.25, most=1, jitter=0.5) if node.backoff else None,
            grace=node.grace,
            significant=node.significant and node.restart is not Restart.PERMANENT and auto is not AutoShutdown.NEVER,
        )

    def specs(self, node: Branch, path: tuple[int, ...]) -> list[ChildSpec]:
        return [self.spec(child, (*path, place), node.auto) for place, child in enumerate(node.children)]

    async def fill(self, node: Branch, supervisor: Supervisor, path: tuple[int, ...]) -> None:
        """Starts the children of dynamic supervisors, which have none at first."""
        for place, child in enumerate(node.children):
            if not isinstance(child, Branch):
                continue
            inner = next((c.value for c in supervisor.children() if c.id == place and c.state is State.UP), None)
            if inner is None:
                continue
            if child.strategy is None:
                for spec in self.specs(child, (*path, place)):
                    with suppress(SupervisionError):
                        await inner.start_child(spec)
            await self.fill(child, inner, (*path, place))

    async def live(self, node: Leaf, path: tuple[int, ...], turns: list[int], *, status: object) -> None:
        turn, turns[0] = turns[0], turns[0] + 1
        if self.alive[path]:
            self.broken.append(f"two incarnations of {path} at once")
        if self.stopping and (len(path) == 1 or self.ends_with_the_tree(path)):
            self.broken.append(f"{path} started while its supervisor stops")
        self.alive[path] += 1
        if turn and len(path) == 1 and not node.backoff:
            self.revived.append(trio.current_time())
        asked = False  # whether this incarnation ends because the whole tree stops
        try:
            await self.start(node.start[min(turn, len(node.start) - 1)])
            stopping = status.stopping if node.soft else None
            if turn == 0:
                self.first.append(path)
            status.started(turn)
            await self.act(*node.lives[min(turn, len(node.lives) - 1)], stopping)
            asked = stopping is not None and stopping.is_set() and self.ends_with_the_tree(path)
        except trio.Cancelled:
            asked = self.ends_with_the_tree(path)
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

    def ends_with_the_tree(self, path: tuple[int, ...]) -> bool:
        """Whether it is stopped because all are, and not by a group, a request or a limit somewhere below."""
        supervisor = self.root
        for place in path[:-1] if self.stopping else ():
            child = next((child for child in supervisor.children() if child.id == place), None)
            if child is None or child.state is not State.STOPPING:
                return False
            supervisor = child.value
        return self.stopping

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

    async def ask(self, root: Supervisor, what: str, which: int, place: int) -> None:
        found = list(supervisors(root, ()))
        path, supervisor = found[which % len(found)]
        with suppress(
            SupervisionError
        ):  # every request may come at the wrong time; what matters is that it is answered
            if what == "stop":
                assert await supervisor.stop_child(place) is not None
            elif what == "restart":
                assert (await supervisor.restart_child(place)).id == place
            elif what == "delete":
                await supervisor.delete_child(place)
            else:
                leaf = Leaf(((50, "return"),), ("slow",), 0, False, Restart.TRANSIENT, False, 2, False)
                self.added += 1
                spec = self.spec(leaf, (*path, place + ADDED * self.added), AutoShutdown.NEVER)
                with trio.move_on_after(0.25 if what == "give up" else inf):
                    await supervisor.start_child(attrs.evolve(spec, id=place))


def supervisors(supervisor: Supervisor, path: tuple[int, ...]) -> Iterator[tuple[tuple[int, ...], Supervisor]]:
    """Those that are up, with their paths, from the root down."""
    yield path, supervisor
    for child in supervisor.children():
        if child.spec.kind is Kind.SUPERVISOR and child.state is State.UP:
            yield from supervisors(child.value, (*path, child.id))


def in_reverse(final: list[tuple[int, ...]], path: tuple[int, ...], order: list[int]) -> bool:
    """Whether the children of one supervisor ended one by one, the last first, each with all that was below it."""
    places = [end[len(path)] % ADDED for end in final if end[: len(path)] == path and len(end) > len(path)]
    blocks = [order.index(place) for place, _ in groupby(places)]
    return blocks == sorted(set(blocks), reverse=True)


async def play(
    tree: Branch, script: list[tuple[float, str, int, int]], seconds: float, seed: int, outside: bool
) -> None:
    checker, supervisor, failure = Checker(), None, None
    orders: dict[tuple[int, ...], list[int]] = {}
    tasks_before = trio.lowlevel.current_statistics().tasks_living
    try:
        with trio.CancelScope() as scope:
            async with open_supervisor(
                checker.specs(tree, ()),
                strategy=tree.strategy,
                limit=tree.limit,
                auto_shutdown=tree.auto,
                on_event=checker.on_event,
                rng=random.Random(seed),
            ) as supervisor:
                checker.root = supervisor
                assert checker.first == sorted(checker.first), "first starts out of order"
                async with trio.open_nursery() as nursery:
                    nursery.start_soon(checker.fill, tree, supervisor, ())
                    for pause, what, which, place in script:
                        await trio.sleep(pause)
                        nursery.start_soon(checker.ask, supervisor, what, which, place)
                    await trio.sleep(seconds)
                    nursery.cancel_scope.cancel()
                await trio.testing.wait_all_tasks_blocked()
                for path, inner in supervisors(supervisor, ()):
                    if not isinstance(inner, DynamicSupervisor):
                        orders[path] = [child.id for child in inner.children()]
                checker.stopping = not supervisor.stop_called
                if outside:
                    scope.cancel()
    except (RestartLimit, ChildStartError) as error:
        failure = error
    assert not checker.broken
    assert not any(checker.alive.values()), "somebody is still alive"
    assert trio.lowlevel.current_statistics().tasks_living == tasks_before
    assert supervisor is None or all(child.state is State.DOWN for child in supervisor.children())
    if isinstance(failure, RestartLimit):
        assert len(failure.exceptions) == tree.limit.count + 1
        assert sum(event.path == () for event in checker.limits) == 1
    elif failure is not None:
        assert supervisor is None
    elif checker.stopping:
        for path, order in orders.items():
            assert in_reverse(checker.final, path, order), f"stops of {path} out of order"
    if tree.strategy is Strategy.ONE_FOR_ONE and not script:
        for at in checker.revived:
            within = [other for other in checker.revived if at - tree.limit.period <= other <= at]
            assert len(within) <= tree.limit.count, "more restarts than the limit allows"


@settings(max_examples=150, deadline=None)
@given(
    branches,
    requests,
    st.sampled_from([0, 1, 4, 20]),
    st.integers(0, 10),
    st.booleans(),
    st.none() | st.integers(0, 999),
)
def test_random_trees_keep_the_rules(tree, script, seconds, seed, outside, shuffle):
    with (
        mock.patch("trio._core._run._ALLOW_DETERMINISTIC_SCHEDULING", shuffle is not None),
        mock.patch("trio._core._run._r", random.Random(shuffle)),
    ):
        trio.run(play, tree, script, seconds, seed, outside, clock=trio.testing.MockClock(autojump_threshold=0))
