"""The one thread that talks to the kernel.

setns(2) and unshare(2) change the calling thread, and a netlink request runs inside its own send; so all of it happens in one thread that
nobody else uses. If that thread cannot go back to where it belongs, the process ends: it would open sockets in a stranger's network.
"""

import os
import queue
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import outcome
import trio

from colony_core.errors import WrongState

from . import syscalls

T = TypeVar("T")
_Job = tuple[Callable[[], Any], trio.lowlevel.Task, list[None]]
OWN_NAMESPACE = "/proc/thread-self/ns/net"


class Kernel:
    """Runs functions in the kernel thread, one after the other."""

    def __init__(self, *, private: bool, hub: Path | None) -> None:
        self.home = -1
        self._private = private
        self._hub = hub
        self._closed = False
        self._queue: queue.SimpleQueue[_Job | None] = queue.SimpleQueue()
        self._token = trio.lowlevel.current_trio_token()
        self._thread = threading.Thread(target=self._main, name="colony-kernel", daemon=True)
        self._begun: queue.SimpleQueue[outcome.Outcome[None]] = queue.SimpleQueue()

    async def run(self, fn: Callable[..., T], *args: Any) -> T:
        """`fn(*args)` in the kernel thread.

        Cancelled before its turn it does not run at all; once it runs, this waits for its answer (milliseconds), so that nothing it made is
        lost. Raises WrongState (`isolation-closed`) when the thread has ended.
        """
        await trio.lowlevel.checkpoint_if_cancelled()
        if self._closed:
            raise WrongState("isolation-closed", "the walls are closed", "open the isolation again")
        turn = [None]  # whoever takes it out decides: the thread runs, or the caller goes

        def give_up(_: Any) -> trio.lowlevel.Abort:
            return trio.lowlevel.Abort.SUCCEEDED if _taken(turn) else trio.lowlevel.Abort.FAILED

        self._queue.put((partial(fn, *args), trio.lowlevel.current_task(), turn))
        answer: T = await trio.lowlevel.wait_task_rescheduled(give_up)
        return answer

    @contextmanager
    def inside(self, namespace: int) -> Iterator[None]:
        """In the kernel thread only: the block runs in another network namespace."""
        syscalls.setns(namespace, syscalls.CLONE_NEWNET)
        try:
            yield
        finally:
            self.go_home()

    def go_home(self) -> None:
        """In the kernel thread only: back to the host's (or the hub's) network, or the end of the process."""
        try:
            syscalls.setns(self.home, syscalls.CLONE_NEWNET)
        except OSError:
            os.abort()

    def _enter_hub(self, hub: Path) -> None:
        """The network in which the host's ends live where the real host's is not ours: made once, found again by the next daemon."""
        with _existing(hub) as fd:
            if fd is not None:
                syscalls.setns(fd, syscalls.CLONE_NEWNET)
                return
        syscalls.unshare(syscalls.CLONE_NEWNET)
        hub.touch(mode=0o600)
        syscalls.bind_mount(OWN_NAMESPACE, str(hub))

    def _main(self) -> None:
        def begin() -> None:
            if self._private:
                syscalls.unshare(syscalls.CLONE_NEWNET)
            elif self._hub is not None:
                self._enter_hub(self._hub)
            self.home = os.open(OWN_NAMESPACE, os.O_RDONLY | os.O_CLOEXEC)

        begun = outcome.capture(begin)
        self._begun.put(begun)
        if isinstance(begun, outcome.Error):
            return
        while (item := self._queue.get()) is not None:
            fn, task, turn = item
            if _taken(turn):
                self._token.run_sync_soon(trio.lowlevel.reschedule, task, outcome.capture(fn))
        os.close(self.home)

    def start(self) -> None:
        """Starts the thread; raises what kept it from its network."""
        self._thread.start()
        self._begun.get().unwrap()

    async def stop(self) -> None:
        """Ends the thread when everything asked so far is answered, and waits for it."""
        self._closed = True
        self._queue.put(None)
        with trio.CancelScope(shield=True):
            await trio.to_thread.run_sync(self._thread.join)


def _taken(turn: list[None]) -> bool:
    try:
        turn.pop()  # atomic: exactly one of two threads succeeds
    except IndexError:
        return False
    return True


@contextmanager
def _existing(path: Path) -> Iterator[int | None]:
    """An open namespace bound at `path`, or None where nothing is bound there."""
    try:
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except FileNotFoundError:
        yield None
        return
    try:
        yield fd if is_namespace(fd) else None
    finally:
        os.close(fd)


def is_namespace(fd: int) -> bool:
    """Whether a descriptor is that of a namespace, and not of the empty file it would be bound on."""
    return os.fstat(fd).st_dev == os.stat("/proc/self/ns/net").st_dev


@asynccontextmanager
async def open_kernel(*, private: bool = False, hub: Path | None = None) -> AsyncIterator[Kernel]:
    """The kernel thread for the time of the block; it lives in the host's network, in the one bound at `hub`, or in one of its own."""
    kernel = Kernel(private=private, hub=hub)
    kernel.start()
    try:
        yield kernel
    finally:
        await kernel.stop()
