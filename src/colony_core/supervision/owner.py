"""Does the slow work of an actor, so that the actor stays responsive."""

from collections import deque
from collections.abc import Awaitable, Callable, Hashable
from typing import Any, TypeVar, final

import attrs
import trio
from trio.lowlevel import Abort, Task, current_task, reschedule, wait_task_rescheduled

from .actor import Ref
from .errors import ActorDied, NotRunning
from .spec import ID, ChildSpec
from .status import Status
from .timers import Bell

R = TypeVar("R")
Work = Callable[..., Awaitable[Any]]


@attrs.frozen(kw_only=True)
class Done:
    """What an owner casts back: `key` as it was given, and the `value` of the job or its `error`."""

    key: Hashable
    value: Any = None
    error: Exception | None = None


class _Job:
    """One piece of work and whoever is told of its outcome."""

    __slots__ = ("args", "fn", "scope", "tell")

    def __init__(self, fn: Work, args: tuple[Any, ...], tell: Callable[[Any, Exception | None], None]) -> None:
        self.fn = fn
        self.args = args
        self.tell = tell
        self.scope = trio.CancelScope()


@final
class Owner:
    """Handle of an owner; valid across restarts. A job's error is told to whoever ordered the job and does not end the owner."""

    __slots__ = ("_bell", "_jobs", "_running", "id")

    def __init__(self, identity: ID) -> None:
        self.id = identity
        self._bell: Bell | None = None
        self._jobs: deque[_Job] = deque()
        self._running: set[_Job] = set()

    def __repr__(self) -> str:
        return f"<Owner {self.id!r}, {len(self._running)} jobs running, {len(self._jobs)} waiting>"

    @property
    def pending(self) -> int:
        """How many jobs run or wait."""
        return len(self._jobs) + len(self._running)

    def order(self, ref: Ref, key: Hashable, fn: Work, *args: Any) -> None:
        """Has `fn(*args)` done, later; its outcome reaches `ref` as `Done`, outside the bound of its mailbox. Not a checkpoint.

        A job lost because the owner ended is told as Done with ActorDied. Raises NotRunning if the owner is down, TypeError if the
        actor has no `on_done`.
        """
        ref.require(Done)

        def tell(value: Any, error: Exception | None) -> None:
            ref.notify(Done(key=key, value=value, error=error))

        self._submit(_Job(fn, args, tell))

    async def do(self, fn: Callable[..., Awaitable[R]], *args: Any) -> R:
        """Has `fn(*args)` done and waits for its result; its error is ours. A checkpoint.

        Cancelled, the job is cancelled too, or not begun. Raises ActorDied if the owner ends first, NotRunning if it is down.
        """
        await trio.lowlevel.checkpoint_if_cancelled()
        outcome = _Outcome(current_task())
        job = _Job(fn, args, outcome.tell)
        self._submit(job)

        def give_up(_raise_cancel: object) -> Abort:
            outcome.task = None
            self._drop(job)
            return Abort.SUCCEEDED

        await wait_task_rescheduled(give_up)
        if outcome.error is not None:
            raise outcome.error
        return outcome.value  # type: ignore[no-any-return]

    def _submit(self, job: _Job) -> None:
        if self._bell is None:
            raise NotRunning(f"owner {self.id!r} is not running")
        self._jobs.append(job)
        self._bell.ring()

    def _drop(self, job: _Job) -> None:
        if job in self._jobs:
            self._jobs.remove(job)
        else:
            job.scope.cancel(reason="whoever ordered the job has gone")

    async def _work(self, at_once: float, status: Status) -> None:
        """One incarnation: runs jobs in the order of the orders, `at_once` of them at a time."""
        bell = self._bell = Bell()
        status.started(self)
        try:
            async with trio.open_nursery() as nursery:
                while True:
                    while self._jobs and len(self._running) < at_once:
                        job = self._jobs.popleft()
                        self._running.add(job)
                        nursery.start_soon(self._run, job, bell)
                    await bell.wait(float("inf"))
        finally:
            self._bell = None
            lost, self._jobs = self._jobs, deque()
            for job in lost:
                job.tell(None, ActorDied(f"owner {self.id!r} ended before it began the job"))

    async def _run(self, job: _Job, bell: Bell) -> None:
        error: Exception | None = ActorDied(f"owner {self.id!r} ended before the job was done")
        value = None
        try:
            with job.scope:
                value = await job.fn(*job.args)
                error = None
        except Exception as exc:
            error = exc
        finally:
            self._running.discard(job)
            bell.ring()
            job.tell(value, error)
            del error


class _Outcome:
    """Where the outcome of a job meets the task that waits for it."""

    __slots__ = ("error", "task", "value")

    def __init__(self, task: Task) -> None:
        self.task: Task | None = task
        self.value: Any = None
        self.error: Exception | None = None

    def tell(self, value: Any, error: Exception | None) -> None:
        """Wakes the task, unless it has gone."""
        if self.task is not None:
            self.value, self.error = value, error
            reschedule(self.task)
            self.task = None


def owner_spec(
    id: ID,  # noqa: A002 - the word of the specs
    *,
    at_once: float = 1,
    **spec: Any,
) -> ChildSpec:
    """A child whose started value is an Owner; `spec` are further fields of ChildSpec.

    `at_once` jobs run at a time (inf: all of them). When it is stopped, running jobs are cancelled and what waits is told ActorDied.
    """
    if isinstance(at_once, bool) or not isinstance(at_once, int | float) or not at_once >= 1:
        raise ValueError(f"owner_spec.at_once must be >= 1, not {at_once!r}")
    return ChildSpec(id=id, run=_own, args=(at_once,), **spec)


async def _own(at_once: float, *, status: Status) -> None:
    assert status.child is not None
    owner = status.previous if isinstance(status.previous, Owner) else Owner(status.child.id)
    await owner._work(at_once, status)
