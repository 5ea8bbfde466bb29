"""Random trees with random failures and requests never break the order of starts and stops, nor any limit, and leave no task.

A book is kept of each incarnation of each supervisor, at every depth. Each tree is played as Trio runs by default or with every
batch of runnable tasks shuffled.
"""

import random
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager, suppress
from functools import partial
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
    Child,
    ChildSpec,
    ChildStartError,
    ChildTerminated,
    Ignore,
    Kind,
    LimitReached,
    PlannedStop,
    Restart,
    RestartLimit,
    StartFailed,
    State,
    Status,
    SupervisionError,
    Supervisor,
    dynamic_supervisor_spec,
    open_supervisor,
    supervisor_spec,
)

from .bookkeeping import Book
from .scenarios import Branch, Leaf, requests, trees


class Checker:
    """Runs a tree and looks, at every start and end, whether the rules hold."""

    def __init__(self, tree: Branch) -> None:
        self.first: list[tuple[int, ...]] = []
        self.books: list[Book] = []
        self.open: dict[tuple[int, ...], Book] = {}
        """The book of the latest incarnation of each supervisor, by its path."""
        self.ending: Child | None = None
        self.errors: list[Exception] = []
        self.new_book(tree, (), None)

    def new_book(self, node: Branch, path: tuple[int, ...], seat: Child | None) -> Book:
        self.open[path] = book = Book(node.limit, node.strategy, seat)
        self.books.append(book)
        return book

    def spec(self, node: Leaf | Branch, path: tuple[int, ...], auto: AutoShutdown) -> ChildSpec:
        if isinstance(node, Branch):
            options = {"limit": node.limit, "restart": node.restart, "auto_shutdown": node.auto}
            if node.strategy is None:
                spec = dynamic_supervisor_spec(path[-1], **options)
            else:
                spec = supervisor_spec(path[-1], self.specs(node, path), strategy=node.strategy, **options)
            return attrs.evolve(spec, run=partial(self.supervise, spec.run, node, path))
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

    @contextmanager
    def watched(self) -> Iterator[None]:
        """Keeps errors of the book itself, which would pass for errors of a child, or get lost in the hook."""
        try:
            yield
        except Exception as error:
            self.errors.append(error)

    @contextmanager
    def noted(self, path: tuple[int, ...], status: Status) -> Iterator[None]:
        """Enters an incarnation into the book of its supervisor."""
        book, child = self.open[path[:-1]], status.child
        with self.watched():
            book.began(status, trio.current_time())
        try:
            yield
        finally:
            self.ending = child
            with self.watched():
                book.over(status)

    async def supervise(
        self, run: Callable[..., Awaitable[object]], node: Branch, path: tuple[int, ...], *, status: Status
    ) -> None:
        with self.noted(path, status):
            book = self.new_book(node, path, status.child)
            try:
                await run(status=status)
            except RestartLimit as failure:
                book.failure = failure
                raise
            finally:
                book.close()

    async def live(self, node: Leaf, path: tuple[int, ...], turns: list[int], *, status: Status) -> None:
        turn, turns[0] = turns[0], turns[0] + 1
        with self.noted(path, status):
            try:
                await self.start(node.start[min(turn, len(node.start) - 1)])
                stopping = status.stopping if node.soft else None
                if turn == 0:
                    self.first.append(path)
                status.started(turn)
                await self.act(*node.lives[min(turn, len(node.lives) - 1)], stopping)
            finally:
                if node.cleanup:
                    with status.cleanup():
                        await trio.sleep(node.cleanup)

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
        with self.watched():
            if isinstance(event, LimitReached):
                self.open[event.path].limit_reached(event)
            elif isinstance(event, ChildTerminated | StartFailed):
                assert self.ending.id == event.path[-1]
                self.open[event.path[:-1]].fell(self.ending, event.exit, starting=isinstance(event, StartFailed))

    async def ask(self, root: Supervisor, what: str, which: int, place: int) -> None:
        found = list(supervisors(root, ()))
        path, supervisor = found[which % len(found)]
        with suppress(
            SupervisionError
        ):  # every request may come at the wrong time; what matters is that it is answered
            if what == "stop":
                self.open[path].stop_asked(supervisor.child(place), trio.current_time())
                assert await supervisor.stop_child(place) is not None
            elif what == "restart":
                assert (await supervisor.restart_child(place)).id == place
            elif what == "delete":
                await supervisor.delete_child(place)
            else:
                leaf = Leaf(((50, "return"),), ("slow",), 0, False, Restart.TRANSIENT, False, 2, False)
                with trio.move_on_after(0.25 if what == "give up" else inf):
                    await supervisor.start_child(self.spec(leaf, (*path, place), AutoShutdown.NEVER))


def supervisors(supervisor: Supervisor, path: tuple[int, ...]) -> Iterator[tuple[tuple[int, ...], Supervisor]]:
    """Those that are up, with their paths, from the root down."""
    yield path, supervisor
    for child in supervisor.children():
        if child.spec.kind is Kind.SUPERVISOR and child.state is State.UP:
            yield from supervisors(child.value, (*path, child.id))


async def play(
    tree: Branch, script: list[tuple[float, str, int, int]], seconds: float, seed: int, outside: bool
) -> None:
    checker, supervisor = Checker(tree), None
    whole = checker.open[()]
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
                assert checker.first == sorted(checker.first), "first starts out of order"
                async with trio.open_nursery() as nursery:
                    nursery.start_soon(checker.fill, tree, supervisor, ())
                    for pause, what, which, place in script:
                        await trio.sleep(pause)
                        nursery.start_soon(checker.ask, supervisor, what, which, place)
                    await trio.sleep(seconds)
                    nursery.cancel_scope.cancel()
                await trio.testing.wait_all_tasks_blocked()
                whole.closing = True
                if outside:
                    scope.cancel()
    except RestartLimit as error:
        whole.failure = error
    except ChildStartError:
        assert supervisor is None
    whole.close()
    assert not checker.errors
    for book in checker.books:
        assert not book.broken
    assert trio.lowlevel.current_statistics().tasks_living == tasks_before
    assert supervisor is None or all(child.state is State.DOWN for child in supervisor.children())


@settings(max_examples=1000)
@given(
    trees,
    requests,
    st.sampled_from([0, 1, 4, 20]),
    st.integers(0, 999),
    st.booleans(),
    st.booleans(),
)
def test_random_trees_keep_the_rules(tree, script, seconds, seed, outside, shuffle):
    with (
        mock.patch("trio._core._run._ALLOW_DETERMINISTIC_SCHEDULING", shuffle),
        mock.patch("trio._core._run._r", random.Random(seed)),
    ):
        trio.run(play, tree, script, seconds, seed, outside, clock=trio.testing.MockClock(autojump_threshold=0))
