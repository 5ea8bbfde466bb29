"""What a child is given to talk to its supervisor: acknowledge the start, hear of the stop, shield the clean-up."""

from collections.abc import Callable, Generator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Protocol, final

import trio

from .events import Hook, Path

if TYPE_CHECKING:
    import random

    from .child import Child
    from .timers import Deadlines


class Keeper(Protocol):
    """What a status needs of the supervisor that made it."""

    path: Path
    on_event: Hook
    rng: "random.Random"
    deadlines: "Deadlines"

    def acknowledge(self, child: "Child", value: object) -> None: ...

    def out_of_time(self, child: "Child", status: "Status") -> None: ...


@final
class Status(trio.TaskStatus[Any]):
    """Handed to the child as `status=`; is also a plain Trio `task_status`. One per incarnation."""

    __slots__ = (
        "_acknowledged",
        "_stopping",
        "child",
        "cut_at",
        "due",
        "hard",
        "keeper",
        "scope",
        "shields",
        "soft",
    )

    def __init__(self, keeper: Keeper, child: "Child", scope: trio.CancelScope) -> None:
        self.keeper: Keeper | None = keeper
        self.child: Child | None = child
        self.scope = scope
        self.shields: list[trio.CancelScope] | None = None
        self.soft: Callable[[], None] | None = None
        self.hard: Callable[[], None] | None = None
        self.due: float | None = None  # when its grace is over, or when it will be overdue
        self.cut_at: float | None = None
        self._stopping: trio.Event | None = None
        self._acknowledged = False

    def started(self, value: object = None) -> None:
        """Acknowledges: whoever asked for the start gets `value`. Not a checkpoint. To be called once."""
        if self._acknowledged:
            raise RuntimeError("called started() twice on the same status")
        if self.keeper is None or self.child is None:
            raise RuntimeError("called started() after the child had ended")
        self._acknowledged = True
        self.keeper.acknowledge(self.child, value)

    @property
    def previous(self) -> Any:
        """What the incarnation before acknowledged, or None; to be asked for before `started()`."""
        return None if self.child is None or self._acknowledged else self.child.value

    @property
    def acknowledged(self) -> bool:
        """Whether `started()` was called."""
        return self._acknowledged

    @property
    def stopping(self) -> trio.Event:
        """Set when the child is asked to stop. Touching it opts in to the soft stop: no cancellation until the grace is over.

        Not a checkpoint; `await status.stopping.wait()` is one.
        """
        event = self._stopping
        if event is None:
            event = self._stopping = trio.Event()
            if self.soft is None:
                self.soft = event.set
            if self.scope.cancel_called:
                event.set()
        return event

    @contextmanager
    def cleanup(self) -> Generator[trio.CancelScope, None, None]:
        """Shields the block from cancellation, until the supervisor cuts it because the grace is over.

        Not a checkpoint. Checkpoints in the block raise Cancelled once it is cut, at once if it has been cut before.
        """
        scope = trio.CancelScope(shield=self.cut_at is None)
        if self.shields is None:
            self.shields = []
        self.shields.append(scope)
        try:
            with scope:
                yield scope
        finally:
            self.shields.remove(scope)

    def ask(self) -> None:
        """The first step of a stop, for a child that has opted in to a soft one. For the supervisor."""
        assert self.soft is not None
        if self._stopping is not None:
            self._stopping.set()
        self.soft()

    def unshield(self) -> None:
        """Drops the shields taken with `cleanup`. For the supervisor."""
        for scope in self.shields or ():
            scope.shield = False

    def expire(self) -> None:
        """Its grace is over, or it was cut and still runs. For the supervisor."""
        if self.keeper is not None and self.child is not None:
            self.keeper.out_of_time(self.child, self)

    def close(self) -> None:
        """The incarnation is over; lets go of everything. For the supervisor."""
        self.keeper = self.child = self.soft = self.hard = self.due = None
