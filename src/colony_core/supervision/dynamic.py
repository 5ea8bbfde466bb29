"""Many alike children in no order: they start and stop concurrently, and none of them needs an id."""

import random
from collections.abc import Awaitable, Callable, Iterable
from contextlib import AbstractAsyncContextManager
from functools import partial
from math import inf
from typing import Any, Generic, TypeVar

import attrs
import trio

from .child import Child
from .errors import ActorDied, NoSuchChild, NotForDynamic, TooManyChildren
from .events import Hook, Path, StopFailed, log_event, tell
from .hosting import hosted
from .spec import ID, AutoShutdown, Backoff, ChildSpec, Exit, Limit, Restart, State, check_fits, check_options
from .status import Status
from .supervisor import Supervisor, nested_spec

R = TypeVar("R")
Template = ChildSpec | Callable[..., Awaitable[object]] | None


class DynamicSupervisor(Supervisor):
    """Many alike children, no order: concurrent start and stop, no ids to choose. What is down is forgotten.

    Children are told apart by their handles. An id works too where it is unique; `spawn` numbers its children.
    """

    serial = False
    announces_starts = False

    def __init__(
        self,
        template: ChildSpec | None,
        *,
        path: Path,
        on_event: Hook,
        rng: random.Random,
        most: float = inf,
        limit: Limit = Limit(),  # noqa: B008 - a frozen value
        auto_shutdown: AutoShutdown = AutoShutdown.NEVER,
    ) -> None:
        super().__init__((), path=path, on_event=on_event, rng=rng, limit=limit, auto_shutdown=auto_shutdown)
        self.template = template
        self.most = most
        self._number = 0
        self._unclean: dict[tuple[object, ...], list[Exit]] = {}

    async def spawn(self, *args: Any) -> Child:
        """Starts a child from the template; `args` follow those of the template and are kept for restarts.

        A checkpoint; if the caller is cancelled, the child is stopped and forgotten first. Raises ChildStartError, TooManyChildren or
        NotRunning.
        """
        child = self._child(self._needed_template(), None, args)
        await self._start(child)
        if child.temporary:
            child.extra = ()
        return child

    async def spawn_many(self, each: Iterable[tuple[Any, ...]]) -> list[Child]:
        """Starts a child from the template for each tuple of arguments, all at once. All or none.

        A checkpoint; if one fails to start, or the caller is cancelled, those that are up are stopped again before the error goes on.
        Raises ChildStartError (the first one; events tell them all), TooManyChildren or NotRunning.
        """
        template = self._needed_template()
        children = [self._child(template, None, args) for args in each]
        if not children:
            await trio.lowlevel.checkpoint()
            return children
        if len(self.kids) + len(children) > self.most:
            raise self._too_many()
        await self._start(*children)
        for child in children:
            if child.temporary:
                child.extra = ()
        return children

    async def start_child(self, spec: ChildSpec) -> Child:
        """Starts any child beside the others; ids need not be unique. A checkpoint; errors and cancellation as for `spawn`."""
        check_fits(spec, self.auto_shutdown)
        child = self._child(spec, spec.id, ())
        await self._start(child)
        return child

    async def run(self, fn: Callable[..., Awaitable[R]], *args: Any) -> R:
        """Runs `fn(*args)` as one temporary task and returns its result; its error is ours.

        A checkpoint; if the caller is cancelled, the task is stopped first. Raises ActorDied if somebody stopped the task.
        """
        errand: _Errand[R] = _Errand(fn, args)
        spec = ChildSpec(id=getattr(fn, "__name__", "errand"), run=errand, restart=Restart.TEMPORARY)
        child = self._child(spec, spec.id, ())
        await self._start(child)
        try:
            end = await child.wait_exit()
        except trio.Cancelled:
            with trio.CancelScope(shield=True):
                if child.status is not None:
                    await self.stop_child(child)
            raise
        if errand.error is not None:
            raise errand.error
        if not errand.done:
            raise ActorDied(f"task {child.spec.id!r} was stopped: {end}") from end.error
        return errand.value  # type: ignore[return-value]

    async def restart_child(self, id: ID | Child) -> Child:  # noqa: A002 - the word of the specs
        """Refused, without a checkpoint: what is down is forgotten. Raises NotForDynamic."""
        raise NotForDynamic(
            f"a dynamic supervisor cannot restart child {getattr(id, 'id', id)!r}: it forgets what is down"
        )

    async def delete_child(self, id: ID | Child) -> None:  # noqa: A002 - the word of the specs
        """Refused, without a checkpoint: what is down is forgotten. Raises NotForDynamic."""
        raise NotForDynamic(
            f"a dynamic supervisor has no child {getattr(id, 'id', id)!r} to delete: it forgets what is down"
        )

    def child(self, id: ID | Child) -> Child:  # noqa: A002 - the word of the specs
        """The handle of a child by its id, which must be unique. Not a checkpoint. Raises NoSuchChild."""
        if isinstance(id, Child):
            return super().child(id)
        found = [child for child in self.kids.values() if child.id == id]
        if len(found) == 1:
            return found[0]
        raise NoSuchChild(f"{len(found) or 'no'} children are called {id!r}; a handle tells them apart")

    def _needed_template(self) -> ChildSpec:
        if self.template is None:
            raise TypeError("this supervisor has no template to spawn from; use start_child")
        return self.template

    def _child(self, spec: ChildSpec, identity: ID, args: tuple[Any, ...]) -> Child:
        """A child that is not started yet, nor known."""
        if len(self.kids) >= self.most:
            raise self._too_many()
        self._number += 1
        child = Child(spec, self._number if identity is None else identity, self.now(), args)
        child.key = self._number
        return child

    def _too_many(self) -> TooManyChildren:
        return TooManyChildren(f"there are {len(self.kids)} children, and there may be {self.most:g} at most")

    async def _stop_all(self) -> None:
        """The final stop: all are asked at once, so it takes as long as the slowest."""
        for child in self.children():
            if child.status is not None:
                self.request_stop(child)
            else:
                child.job = None
                child.move(State.DOWN, self.now())
                del self.kids[child.key]
        while self.kids:
            await self._pause()
        for ends in self._unclean.values():
            tell(self.on_event, StopFailed(self.path, self.now(), ends[0], len(ends)))
        self._unclean.clear()

    def report_stop(self, child: Child, end: Exit) -> None:
        """Equal ends of one mass stop are told together, when it is over."""
        if not self.stop_called:
            super().report_stop(child, end)
            return
        sort = (end.kind, type(end.error), str(end.error))
        self._unclean.setdefault(sort, []).append(end)


class _Errand(Generic[R]):
    """A function as a child that never fails: its outcome is kept for whoever waits for it."""

    def __init__(self, fn: Callable[..., Awaitable[R]], args: tuple[Any, ...]) -> None:
        self._fn, self._args = fn, args
        self.done = False
        self.value: R | None = None
        self.error: Exception | None = None

    async def __call__(self, *, status: Status) -> None:
        status.started()
        try:
            self.value = await self._fn(*self._args)
            self.done = True
        except Exception as error:
            self.error = error


def open_dynamic_supervisor(
    run: Template = None,
    *,
    restart: Restart = Restart.TRANSIENT,
    most: float = inf,
    limit: Limit = Limit(),  # noqa: B008 - a frozen value
    auto_shutdown: AutoShutdown = AutoShutdown.NEVER,
    name: str = "",
    on_event: Hook | None = None,
    rng: random.Random | None = None,
    **spec: Any,
) -> AbstractAsyncContextManager[DynamicSupervisor]:
    """A supervisor without children at first, for the length of the block. Errors, checkpoints and cancellation as for `open_supervisor`.

    `run` with `restart` and further fields of ChildSpec in `spec` is the template that `spawn` starts; or `run` is a whole ChildSpec.
    `most` bounds the number of children, those that restart included.
    """
    check_options(limit=limit, auto_shutdown=auto_shutdown, on_event=on_event, most=most)
    template = _template(run, restart, spec, auto_shutdown)
    return hosted(
        lambda: DynamicSupervisor(
            template,
            path=(name,) if name else (),
            on_event=on_event or log_event,
            rng=rng or random.Random(),  # noqa: S311
            most=most,
            limit=limit,
            auto_shutdown=auto_shutdown,
        )
    )


def dynamic_supervisor_spec(
    id: ID,  # noqa: A002 - the word of the specs
    template: Template = None,
    *,
    most: float = inf,
    limit: Limit = Limit(),  # noqa: B008 - a frozen value
    auto_shutdown: AutoShutdown = AutoShutdown.NEVER,
    on_event: Hook | None = None,
    restart: Restart = Restart.PERMANENT,
    grace: float = inf,
    significant: bool = False,
    backoff: Backoff | None = None,
) -> ChildSpec:
    """A dynamic supervisor as a child; its started value is the DynamicSupervisor. After a restart it is empty.

    `restart`, `grace`, `significant` and `backoff` are its own, not those of the template.
    """
    check_options(limit=limit, auto_shutdown=auto_shutdown, on_event=on_event, most=most)
    inner = _template(template, Restart.TRANSIENT, {}, auto_shutdown)

    make = partial(DynamicSupervisor, inner, most=most, limit=limit, auto_shutdown=auto_shutdown)
    return nested_spec(
        id, make, on_event=on_event, restart=restart, grace=grace, significant=significant, backoff=backoff
    )


def _template(run: Template, restart: Restart, rest: dict[str, Any], auto_shutdown: AutoShutdown) -> ChildSpec | None:
    if run is None:
        if rest:
            name, value = next(iter(rest.items()))
            raise TypeError(
                f"unexpected keyword argument '{name}' ({value!r}): there is no template that it could be a field of"
            )
        return None
    if isinstance(run, ChildSpec):
        template = attrs.evolve(run, **rest)
    else:
        name = getattr(run, "__name__", type(run).__name__)
        template = ChildSpec(**{"id": name, "run": run, "restart": restart, **rest})
    check_fits(template, auto_shutdown)
    return template
