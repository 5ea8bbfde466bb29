"""The handle of one child: what it is doing, and ways to wait for it. Valid across restarts."""

from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any, final

import trio
from trio.lowlevel import Abort, Task, current_task, reschedule, wait_task_rescheduled

from .errors import ActorDied, NotRunning
from .spec import ID, ChildSpec, Exit, Restart, State

if TYPE_CHECKING:
    from .status import Status


class Job:
    """A restart, or a first start, that waits for its turn; `child.job` is it for as long as it is wanted."""

    __slots__ = ("again", "child", "counted", "delay", "resumed")

    def __init__(self, child: "Child", *, again: bool = False) -> None:
        self.child = child
        self.again = again
        """Whether a restart has failed before this one."""
        self.counted = False
        self.resumed = False
        """Whether its delay is over."""
        self.delay = 0.0


class Starter:
    """The task that has asked for the start of some children, and waits until each of them is up or has failed."""

    __slots__ = ("children", "errors", "left", "raise_cancel", "task")

    def __init__(self, children: tuple["Child", ...]) -> None:
        self.task = current_task()
        self.children = children
        self.left = len(children)
        self.errors: list[BaseException] | None = None
        self.raise_cancel: Any = None

    def over(self, error: BaseException | None) -> None:
        """One of the starts has come to its end; the last one wakes the task."""
        self.left -= 1
        if error is not None:
            self.errors = [*(self.errors or ()), error]
        if not self.left:
            reschedule(self.task)


class _UpWaiter:
    """One task in `Child.wait_up`. Gets the value at the moment of the start: by the time it runs, the child may be gone again."""

    __slots__ = ("came_up", "child", "task", "value")

    def __init__(self, child: "Child", task: Task) -> None:
        self.child, self.task = child, task
        self.came_up = False
        self.value: Any = None
        child.add_up_waiter(self)

    def give_up(self, _raise_cancel: object) -> Abort:
        self.child.drop_up_waiter(self)
        return Abort.SUCCEEDED


@final
class Child:
    """Handle of one spec; stays valid across restarts. Read its attributes, change it through its supervisor.

    `value` is what the latest incarnation acknowledged, `since` the Trio time of the last change of `state`, `incarnation` the number
    of starts tried, `restarts` the number of times the supervisor brought it back, `last_exit` the end of the latest ended incarnation.
    """

    __slots__ = (
        "__weakref__", "_monitors", "_waiting_up", "add", "doomed", "extra", "held", "id", "incarnation", "job", "key", "last_exit",
        "leader", "restarts", "revived", "since", "spec", "starter", "state", "status", "streak", "value",
    )  # fmt: skip

    def __init__(self, spec: ChildSpec, identity: ID, since: float, extra: tuple[Any, ...] = ()) -> None:
        self.id = identity
        self.spec = spec
        self.state = State.DOWN
        self.incarnation = 0
        self.restarts = 0
        self.since = since
        self.value: Any = None
        self.last_exit: Exit | None = None
        # From here on: the supervisor's own notes.
        self.key = identity  # what its supervisor finds it by
        self.extra = extra
        self.status: Status | None = None
        self.job: Job | None = None
        self.leader: Child | None = None  # in a group restart: whose recovery this one waits for
        self.held = False  # stopped on request: an ongoing group restart leaves it down
        self.doomed = False  # to be forgotten once it has ended
        self.add = True  # its spec goes if its start fails
        self.revived = False  # this incarnation is the supervisor's doing
        self.streak = 0
        self.starter: Starter | None = None
        self._waiting_up: set[_UpWaiter] | None = None
        self._monitors: dict[object, Callable[[Exit], None]] | None = None

    def __repr__(self) -> str:
        return f"<Child {self.id!r} {self.state.name.lower()}, incarnation {self.incarnation}>"

    async def wait_up(self) -> Any:
        """The value of the current incarnation, or of the next one if the child is about to come back.

        A checkpoint; cancelling it does nothing to the child. Raises NotRunning if the child is down and nobody is bringing it back.
        """
        while self.state is not State.UP:
            if self.state is State.DOWN:
                raise self._not_running()
            waiter = _UpWaiter(self, current_task())
            await wait_task_rescheduled(waiter.give_up)
            if waiter.came_up:
                return waiter.value
        await trio.lowlevel.checkpoint()
        return self.value

    async def wait_exit(self) -> Exit:
        """Monitors: the end of the current incarnation, at once if there is none. A checkpoint; cancelling it does nothing to the child.

        Raises NotRunning if the child never ran.
        """
        if self.status is None:
            await trio.lowlevel.checkpoint()
            if self.last_exit is None:
                raise self._not_running()
            return self.last_exit
        task, ends = current_task(), list[Exit]()

        def ended(end: Exit) -> None:
            ends.append(end)
            reschedule(task)

        def give_up(_raise_cancel: object) -> Abort:
            self.unmonitor(ended)
            return Abort.SUCCEEDED

        self.monitor(ended, ended)
        await wait_task_rescheduled(give_up)
        return ends[0]

    @asynccontextmanager
    async def linked(self) -> AsyncGenerator[None, None]:
        """Links the block to the current incarnation: if that ends abnormally, the block is cancelled and ActorDied is raised.

        Not a checkpoint on the way in or out. Raises NotRunning if there is no incarnation to link to.
        """
        if self.status is None:
            raise self._not_running()
        ends, scope, key = list[Exit](), trio.CancelScope(), object()

        def ended(end: Exit) -> None:
            if not end.planned:
                ends.append(end)
                scope.cancel(reason=f"linked child {self.id!r} died")

        self.monitor(key, ended)
        try:
            with scope:
                yield
        finally:
            self.unmonitor(key)
        if ends:
            raise ActorDied(f"child {self.id!r} died: {ends[0]}") from ends[0].error

    def monitor(self, key: object, ended: Callable[[Exit], None]) -> None:
        """Has `ended` called, without a scheduler step, when the current incarnation is over."""
        if self._monitors is None:
            self._monitors = {}
        self._monitors[key] = ended

    def unmonitor(self, key: object) -> None:
        """Takes `monitor` back; fine if it was called already."""
        if self._monitors is not None:
            self._monitors.pop(key, None)

    def add_up_waiter(self, waiter: _UpWaiter) -> None:
        """Has `waiter` woken when the child is up, or down for good."""
        if self._waiting_up is None:
            self._waiting_up = set()
        self._waiting_up.add(waiter)

    def drop_up_waiter(self, waiter: _UpWaiter) -> None:
        """Takes `add_up_waiter` back."""
        if self._waiting_up is not None:
            self._waiting_up.discard(waiter)

    def move(self, state: State, now: float) -> None:
        """Changes the state and wakes those who wait for it. For the supervisor."""
        self.state = state
        self.since = now
        if self._waiting_up is not None and (state is State.UP or state is State.DOWN):
            waiting, self._waiting_up = self._waiting_up, None
            for waiter in waiting:
                waiter.came_up, waiter.value = state is State.UP, self.value
                reschedule(waiter.task)

    def ended(self, end: Exit) -> None:
        """Notes the end of the incarnation and tells the monitors. For the supervisor."""
        self.status = None
        self.last_exit = end
        if self._monitors is not None:
            monitors, self._monitors = self._monitors, None
            for tell in monitors.values():
                tell(end)

    @property
    def temporary(self) -> bool:
        """Whether the spec goes when the child ends."""
        return self.spec.restart is Restart.TEMPORARY

    def _not_running(self) -> NotRunning:
        error = NotRunning(f"child {self.id!r} is {self.state.name.lower()}")
        error.__cause__ = None if self.last_exit is None else self.last_exit.error
        return error
