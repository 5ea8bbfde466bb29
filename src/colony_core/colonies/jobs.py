"""The slow work of one colony, one piece at a time; what is asked for can be given up for something else."""

import logging
from collections import deque
from collections.abc import Awaitable, Callable

import attrs
import trio

from colony_core.supervision import NotRunning

logger = logging.getLogger("colony.colonies")

Work = Callable[[], Awaitable[None]]


@attrs.define(eq=False)
class Job:
    """One piece of work; `over` is set when it is done, has failed or was given up."""

    work: Work
    over: trio.Event = attrs.field(factory=trio.Event, init=False)


class Jobs:
    """A queue and the one task that works it off. Asking never waits.

    Between the last step of a job and the first of the next nothing else runs: what a job leaves behind in its last step is seen by
    nobody but its successor.
    """

    def __init__(self, whose: str) -> None:
        self._whose = whose
        self._waiting: deque[Job] = deque()
        self._news = trio.Event()
        self._scope: trio.CancelScope | None = None
        self._closed = False

    def ask(self, work: Work, *, instead: bool = False) -> Job:
        """Queues `work`; with `instead`, what is under way or waits is given up for it. Once the worker is gone, it is over at once."""
        job = Job(work)
        if instead:
            self._drop()
            if self._scope is not None:
                self._scope.cancel()
        if self._closed:
            job.over.set()
            return job
        self._waiting.append(job)
        self._news.set()
        return job

    def close(self) -> None:
        """Takes no more; for the last step of the last job."""
        self._closed = True
        self._drop()

    async def work(self) -> None:
        """Does one job after the other until cancelled. A job that is given up leaves what it has built to the next one."""
        while True:
            while not self._waiting:
                self._news = trio.Event()
                await self._news.wait()
            job = self._waiting.popleft()
            try:
                with trio.CancelScope() as self._scope:
                    await job.work()
            except NotRunning:
                logger.debug("%s: the house ends before a piece of its work was done", self._whose)
            except Exception:  # a defect in one piece of work: the next one may be the stop that puts it right
                logger.exception("%s: a piece of its work failed", self._whose)
            finally:
                self._scope = None
                job.over.set()

    def _drop(self) -> None:
        while self._waiting:
            self._waiting.popleft().over.set()
