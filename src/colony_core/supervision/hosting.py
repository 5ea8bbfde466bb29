"""Gives a supervisor a place to live: a task of its own under a shield, beside the block that opened it."""

from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager
from typing import Protocol, TypeVar

import trio

from .status import Status


class Host(Protocol):
    """What a supervisor must be able to do to be hosted."""

    over: trio.Event
    failure: BaseException | None

    def stop(self) -> None: ...

    async def drive(self, status: Status | None, ready: trio.Event | None = None) -> None: ...


S = TypeVar("S", bound=Host)


@asynccontextmanager
async def hosted(make: Callable[[], S]) -> AsyncGenerator[S, None]:
    """Runs a supervisor beside the block.

    Children live under a shield, because a plain cancellation would hit all of them in the same instant. A watcher outside of it turns
    the cancellation into a request to stop.
    """
    supervisor = make()
    ready = trio.Event()
    block = trio.CancelScope()
    errors: list[BaseException] = []
    async with trio.open_nursery() as nursery:
        nursery.start_soon(_watch, supervisor)
        nursery.start_soon(_drive, supervisor, ready, block)
        try:
            await ready.wait()
            with block:
                if not (supervisor.over.is_set() and supervisor.failure):
                    yield supervisor
        except BaseException as error:
            errors.append(error)
        supervisor.stop()
        with trio.CancelScope(shield=True):
            await supervisor.over.wait()
        nursery.cancel_scope.cancel(reason="the supervisor is over")
    failure, supervisor_failure = None, supervisor.failure
    try:
        if supervisor_failure is not None:
            errors = [
                error
                for error in errors
                if not isinstance(error, trio.Cancelled) and _leaves(error) != _leaves(supervisor_failure)
            ]
            errors.append(supervisor_failure)
        if len(errors) > 1:
            raise BaseExceptionGroup("the block and its supervisor failed", errors)
        if errors:
            failure = errors.pop()
            raise failure
    finally:
        del failure, supervisor_failure, errors
    await trio.lowlevel.checkpoint_if_cancelled()


def _leaves(error: BaseException) -> list[int]:
    """Which errors a group holds. A group that passes a cancelled scope comes out as a copy, with the same leaves."""
    if isinstance(error, BaseExceptionGroup):
        return [leaf for inner in error.exceptions for leaf in _leaves(inner)]
    return [id(error)]


async def _watch(supervisor: Host) -> None:
    """The one task that feels a cancellation from outside. It keeps that to itself, or it would hide how the supervisor ended."""
    try:
        await trio.sleep_forever()
    except trio.Cancelled:
        supervisor.stop()


async def _drive(supervisor: Host, ready: trio.Event, block: trio.CancelScope) -> None:
    with trio.CancelScope(shield=True):
        await supervisor.drive(None, ready)
    ready.set()
    block.cancel(reason="the supervisor has ended")
