"""Starts children in order, restarts the fallen, stops them in reverse.

The file is long because every public call says what it does to scheduling and cancellation.
"""

import random
from collections.abc import Callable, Iterable
from contextlib import AbstractAsyncContextManager
from functools import partial
from math import inf
from typing import Any

import trio
from trio.lowlevel import Abort, wait_task_rescheduled

from .child import Child, Starter
from .driver import Driver
from .errors import AlreadyPresent, AlreadyStarted, ChildRestarting, ChildRunning, NoSuchChild, NotRunning, PlannedStop
from .events import Hook, Path, log_event
from .hosting import hosted
from .report import Counts, Report, snapshot
from .spec import (
    ID,
    AutoShutdown,
    Backoff,
    ChildSpec,
    Exit,
    ExitKind,
    Kind,
    Limit,
    Restart,
    State,
    Strategy,
    check_fits,
    check_options,
    checked,
)
from .status import Status


class Supervisor(Driver):
    """Children start one by one in order and stop in reverse; siblings never see each other's errors.

    Made by `open_supervisor`, or as a child described by `supervisor_spec`.
    """

    kind = Kind.SUPERVISOR

    def __init__(
        self,
        specs: tuple[ChildSpec, ...],
        *,
        path: Path,
        on_event: Hook,
        rng: random.Random,
        strategy: Strategy = Strategy.ONE_FOR_ONE,
        limit: Limit = Limit(),  # noqa: B008 - a frozen value
        auto_shutdown: AutoShutdown = AutoShutdown.NEVER,
    ) -> None:
        super().__init__(path, strategy=strategy, limit=limit, auto_shutdown=auto_shutdown, on_event=on_event, rng=rng)
        self.since = self.now()
        for spec in specs:
            self.kids[spec.id] = Child(spec, spec.id, self.now())

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {'/'.join(str(part) for part in self.path)!r}, {len(self.kids)} children>"

    # -- requests

    async def start_child(self, spec: ChildSpec) -> Child:
        """Appends and starts a child. A checkpoint; if the caller is cancelled, the child is stopped and forgotten first.

        Raises ChildStartError (the spec is not kept), AlreadyStarted, AlreadyPresent or NotRunning. A child that raises Ignore is
        returned down, and its spec is kept unless it is temporary.
        """
        check_fits(spec, self.auto_shutdown)
        while (known := self.kids.get(spec.id)) is not None:
            if known.state is State.UP:
                raise AlreadyStarted(known)
            if known.state not in (State.STARTING, State.STOPPING):
                raise AlreadyPresent(f"child {spec.id!r} is there already, {known.state.name.lower()}")
            await self._settled(known)
        child = Child(spec, spec.id, self.now())
        await self._start(child)
        return child

    async def stop_child(self, id: ID | Child) -> Exit:  # noqa: A002 - the word of the specs
        """Stops a child: softly, then cut when its grace is over. Always gets in, whatever the supervisor is doing.

        The spec is kept unless the child is temporary. What waits to be restarted is down at once. A checkpoint; if the caller is
        cancelled, the stop goes on. Raises NoSuchChild.
        """
        child = self.child(id)
        self.dismiss(child)
        if child.status is None and child.last_exit is None:
            await trio.lowlevel.checkpoint()
            return Exit(ExitKind.SHUTDOWN, None, self.now(), 0)
        return await child.wait_exit()

    async def restart_child(self, id: ID | Child) -> Child:  # noqa: A002 - the word of the specs
        """Starts a child that is down, at its old place; never counts against the limit.

        A checkpoint; if the caller is cancelled, the child is stopped first, and its spec stays.
        Raises ChildStartError (it stays down, nobody retries), ChildRunning, ChildRestarting, NoSuchChild or NotRunning.
        """
        child = await self._down(id)
        child.held = False
        await self._start(child)
        return child

    async def delete_child(self, id: ID | Child) -> None:  # noqa: A002 - the word of the specs
        """Forgets a child that is down. A checkpoint; if the caller is cancelled, nothing is forgotten.

        Raises ChildRunning, ChildRestarting or NoSuchChild.
        """
        child = await self._down(id)
        await trio.lowlevel.checkpoint()
        if self.kids.get(child.key) is child and child.state is State.DOWN:
            del self.kids[child.key]

    def child(self, id: ID | Child) -> Child:  # noqa: A002 - the word of the specs
        """The handle of a child by its id. Not a checkpoint. Raises NoSuchChild."""
        key = id.key if isinstance(id, Child) else id
        child = self.kids.get(key)
        if child is None or (isinstance(id, Child) and child is not id):
            raise NoSuchChild(f"no child {getattr(id, 'id', id)!r}")
        return child

    def counts(self) -> Counts:
        """How many children there are, and of what sort. Not a checkpoint."""
        return Counts.of(self.kids.values())

    def report(self) -> Report:
        """A snapshot of the tree from here down. Not a checkpoint."""
        return snapshot(self.path[-1] if self.path else "", self)

    async def wait(self) -> None:
        """Until the supervisor has stopped; raises RestartLimit or whatever else ended it. A checkpoint; cancelling it stops nothing."""
        await self.over.wait()
        if self.failure is not None:
            raise self.failure

    # -- helpers of requests

    async def _start(self, *children: Child) -> None:
        """Queues first starts, or a restart by hand, and parks the caller until each child has acknowledged or failed."""
        await trio.lowlevel.checkpoint_if_cancelled()
        if self.stop_called:
            raise NotRunning("the supervisor is stopping")
        starter = Starter(children)
        for child in children:
            self.kids[child.key] = child
            child.starter = starter
            self.begin(child)
        await wait_task_rescheduled(partial(self._undo, starter))
        if starter.raise_cancel is not None or starter.errors is not None:
            await self._take_back(starter)

    def _undo(self, starter: Starter, raise_cancel: Any) -> Abort:
        """The caller was cancelled: no child of this start is to come up."""
        starter.raise_cancel = raise_cancel
        for child in starter.children:
            if child.starter is not starter:
                continue
            child.doomed = child.doomed or child.add
            if child.status is None:
                child.starter = None
                starter.left -= 1
                self.dismiss(child)
            else:
                self.request_stop(child)
        return Abort.FAILED if starter.left else Abort.SUCCEEDED

    async def _take_back(self, starter: Starter) -> None:
        """Stops those of a failed start that are up, then raises why it failed."""
        up = [child for child in starter.children if child.status is not None]
        with trio.CancelScope(shield=True):
            for child in up:
                self.dismiss(child)
            for child in up:
                await child.wait_exit()
        raise_cancel, starter.raise_cancel = starter.raise_cancel, None
        if raise_cancel is not None:
            raise_cancel()
        if starter.errors is not None:
            errors, starter.errors = starter.errors, None
            raise errors.pop(0)

    async def _down(self, target: ID | Child) -> Child:
        """The child, when it is down; waits for a stop that is under way."""
        while True:
            child = self.child(target)
            if child.state is State.DOWN:
                return child
            if child.state is State.RESTARTING:
                raise ChildRestarting(f"child {child.id!r} is being restarted")
            if child.state is not State.STOPPING:
                raise ChildRunning(f"child {child.id!r} runs")
            await self._settled(child)

    async def _settled(self, child: Child) -> None:
        """Until a child that starts or stops does something else."""
        if child.state is State.STOPPING:
            await child.wait_exit()
        else:
            try:
                await child.wait_up()
            except NotRunning:
                await trio.lowlevel.checkpoint()


def open_supervisor(
    specs: Iterable[ChildSpec] = (),
    *,
    name: str = "",
    strategy: Strategy = Strategy.ONE_FOR_ONE,
    limit: Limit = Limit(),  # noqa: B008 - a frozen value
    auto_shutdown: AutoShutdown = AutoShutdown.NEVER,
    on_event: Hook | None = None,
    rng: random.Random | None = None,
) -> AbstractAsyncContextManager[Supervisor]:
    """Starts the specs in order, runs the block, stops them in reverse. A checkpoint on the way in and out.

    Cancelling the block from outside becomes an orderly stop bounded by the graces; then Cancelled goes on, unless an error of the block
    or of the supervisor outweighs it. If the supervisor ends by itself, the block is cancelled once the last child has stopped, and
    RestartLimit (or what else ended it) is raised from here.
    Raises ChildStartError if a first start fails: by then, what had started is stopped again. `rng` draws the jitter of back-offs.
    """
    check_options(limit=limit, auto_shutdown=auto_shutdown, on_event=on_event, strategy=strategy)
    checked_specs = checked(tuple(specs), auto_shutdown)
    return hosted(
        lambda: Supervisor(
            checked_specs,
            path=(name,) if name else (),
            on_event=on_event or log_event,
            rng=rng or random.Random(),  # noqa: S311
            strategy=strategy,
            limit=limit,
            auto_shutdown=auto_shutdown,
        )
    )


def supervisor_spec(
    id: ID,  # noqa: A002 - the word of the specs
    specs: Iterable[ChildSpec],
    *,
    strategy: Strategy = Strategy.ONE_FOR_ONE,
    limit: Limit = Limit(),  # noqa: B008 - a frozen value
    auto_shutdown: AutoShutdown = AutoShutdown.NEVER,
    on_event: Hook | None = None,
    restart: Restart = Restart.PERMANENT,
    grace: float = inf,
    significant: bool = False,
    backoff: Backoff | None = None,
) -> ChildSpec:
    """A subtree as a child; its started value is the inner Supervisor. After a restart it has these specs and no others.

    Events go to the hook of the supervisor above, unless `on_event` is given. It ends with RestartLimit when its limit is passed, which
    its parent counts as one failure; with a planned stop when it ended itself.
    """
    check_options(limit=limit, auto_shutdown=auto_shutdown, on_event=on_event, strategy=strategy)
    inner = checked(tuple(specs), auto_shutdown)

    make = partial(Supervisor, inner, strategy=strategy, limit=limit, auto_shutdown=auto_shutdown)
    return nested_spec(
        id, make, on_event=on_event, restart=restart, grace=grace, significant=significant, backoff=backoff
    )


def nested_spec(
    child: ID,
    make: Callable[..., Supervisor],
    *,
    on_event: Hook | None,
    restart: Restart,
    grace: float,
    significant: bool,
    backoff: Backoff | None,
) -> ChildSpec:
    """A supervisor as a child: `make` is given `path`, `on_event` and `rng` of where it comes to stand."""

    async def run(*, status: Status) -> None:
        assert status.keeper is not None
        assert status.child is not None
        keeper = status.keeper
        path = (*keeper.path, status.child.id)
        await nested(make(path=path, on_event=on_event or keeper.on_event, rng=keeper.rng), status)

    return ChildSpec(
        id=child, run=run, restart=restart, grace=grace, significant=significant, backoff=backoff, kind=Kind.SUPERVISOR
    )


async def nested(supervisor: Supervisor, status: Status) -> None:
    """Runs a supervisor as a child: stop requests and cuts from above are passed down, its own failure up."""
    asked = False

    def stop() -> None:
        nonlocal asked
        asked = True
        supervisor.stop()

    await trio.lowlevel.checkpoint_if_cancelled()
    status.soft, status.hard = stop, supervisor.cut
    await supervisor.drive(status)
    failure = supervisor.failure
    try:
        if failure is not None:
            raise failure
        if not asked and status.cut_at is None:
            raise PlannedStop("the supervisor ended by itself")
    finally:
        del failure
