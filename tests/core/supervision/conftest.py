"""A stage: scripted children that note what they do, so that whole traces can be compared."""

from collections.abc import Callable
from typing import Any

import pytest
import trio
from trio.testing import wait_all_tasks_blocked

from colony_core.supervision import ChildSpec, Event, Status


class Stage:
    """Children that do as told. `trace` says what they did and when, `events` what their supervisors told."""

    def __init__(self) -> None:
        self.timed: list[tuple[float, str]] = []
        self.events: list[Event] = []
        self.starts: dict[object, int] = {}
        self._orders: dict[object, tuple[trio.Event, list[Any]]] = {}

    # -- what happened

    def note(self, who: object, what: str) -> None:
        self.timed.append((trio.current_time(), f"{who} {what}"))

    @property
    def trace(self) -> list[str]:
        """What the children did since this was last asked."""
        words, self.timed[:] = [word for _, word in self.timed], []
        return words

    def forget(self) -> None:
        """Begins a new trace."""
        self.timed.clear()
        self.events.clear()

    def times(self, what: str) -> list[tuple[float, str]]:
        """When children did `what`: pairs of time and child."""
        return [(at, word.rsplit(" ", 1)[0]) for at, word in self.timed if word.endswith(" " + what)]

    def on_event(self, event: Event) -> None:
        self.events.append(event)

    @property
    def told(self) -> list[tuple[str, tuple[object, ...]]]:
        """The events since this was last asked: their names and paths."""
        words, self.events[:] = [(type(event).__name__, event.path) for event in self.events], []
        return words

    # -- what is to happen

    def spec(
        self,
        name: str,
        *starts: float | BaseException | None,
        cleanup: float = 0,
        refuse: float = 0,
        soft: float | None = None,
        bad_end: Exception | None = None,
        **fields: Any,
    ) -> ChildSpec:
        """A child. `starts` scripts its first starts: None is up at once, a number is up after so many seconds, an error is raised.

        The last one holds for all further starts. On its end it cleans up for `cleanup` seconds under a shield that can be cut, or for
        `refuse` seconds under one that cannot; or it stops softly within `soft` seconds. `bad_end` is raised after a stop request.
        """
        return ChildSpec(id=name, run=self._act, args=(name, starts, cleanup, refuse, soft, bad_end), **fields)

    async def tell(self, name: str, what: BaseException | str) -> None:
        """Has the child raise an error, or return, and waits until all is quiet again."""
        self.order(name, what)
        await wait_all_tasks_blocked()

    def order(self, name: str, what: BaseException | str) -> None:
        event, orders = self._orders[name]
        orders.append(what)
        event.set()

    async def _act(
        self,
        name: str,
        starts: tuple[float | BaseException | None, ...],
        cleanup: float,
        refuse: float,
        soft: float | None,
        bad_end: Exception | None,
        *,
        status: Status,
    ) -> None:
        turn = self.starts[name] = self.starts.get(name, 0) + 1
        script = starts[min(turn, len(starts)) - 1] if starts else None
        self.note(name, "start")
        try:
            if isinstance(script, BaseException):
                raise script
            if script is not None:
                await trio.sleep(script)
            stopping = status.stopping if soft is not None else None
            status.started(turn)
            self.note(name, "up")
            await self._obey(name, stopping, soft)
        except trio.Cancelled:
            await self._clean(status, cleanup, refuse)
            if bad_end is not None:
                raise bad_end from None
            raise
        finally:
            self.note(name, "end")

    async def _obey(self, name: str, stopping: trio.Event | None, soft: float | None) -> None:
        event, orders = self._orders[name] = (trio.Event(), [])
        if stopping is None:
            await event.wait()
        else:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(_either, event.wait, nursery.cancel_scope)
                nursery.start_soon(_either, stopping.wait, nursery.cancel_scope)
            if stopping.is_set():
                await trio.sleep(soft or 0)
        for order in orders:
            if isinstance(order, BaseException):
                raise order

    async def _clean(self, status: Status, cleanup: float, refuse: float) -> None:
        if refuse:
            with trio.CancelScope(shield=True):
                await trio.sleep(refuse)
        if cleanup:
            with status.cleanup():
                await trio.sleep(cleanup)
                self.note("clean", "done")


async def _either(wait: Callable[[], Any], scope: trio.CancelScope) -> None:
    await wait()
    scope.cancel()


@pytest.fixture
def stage() -> Stage:
    """Scripted children; to be used with `autojump_clock`."""
    return Stage()
