"""Reading and following logs under Trio."""

import functools
import os
from collections.abc import AsyncGenerator, Mapping
from contextlib import aclosing
from pathlib import Path

import trio

from .ring_log import LogLine, Missed, Page, number_at, read_after, read_before

FOLLOW_LINES = 1000
"""A follower reads at most so many lines at once."""
POLL_SECONDS = 0.5
"""How often a follower looks by itself when no keeper is there to wake it."""


class LogNews:
    """Which logs have grown, as their keeper tells it; wakes those who follow them."""

    def __init__(self) -> None:
        self.connected = True
        self._last: dict[str, int] = {}
        self._grown: dict[str, trio.Event] = {}

    def tell(self, logs: Mapping[str, int]) -> None:
        """Notes the numbers of the newest records by folder."""
        for directory, last in logs.items():
            self._last[directory] = last
            self._wake(directory)

    def stop(self) -> None:
        """The keeper is gone: from now on followers look by themselves."""
        self.connected = False
        for directory in list(self._grown):
            self._wake(directory)

    def grown(self, directory: str) -> trio.Event:
        """Set at the next growth of a log. Take it before you read, so that nothing slips between."""
        return self._grown.setdefault(directory, trio.Event())

    def last(self, directory: str) -> int:
        """The number of the newest record that the keeper has told of, 0 if none."""
        return self._last.get(directory, 0)

    def _wake(self, directory: str) -> None:
        if (event := self._grown.pop(directory, None)) is not None:
            event.set()


class LogBook:
    """The log in one folder. Many may read it at once, also while it is written, also without a keeper."""

    def __init__(self, directory: Path, *, news: LogNews | None = None) -> None:
        self.directory = directory
        self._name = os.path.abspath(directory)
        self._news = news

    def __repr__(self) -> str:
        return f"<LogBook {self._name}>"

    async def read(
        self,
        after: int | None = None,
        *,
        limit: int = 1000,
        before: int | None = None,
        labels: frozenset[str] | None = None,
    ) -> Page:
        """Up to `limit` lines: those after a number, or the last ones before a number, or simply the last ones.

        `labels` chooses services. A log that was never written is empty. Cancellable: the reading thread is left behind.
        """
        if after is not None:
            work = functools.partial(read_after, self.directory, after, limit=limit, labels=labels)
        else:
            work = functools.partial(read_before, self.directory, before, limit=limit, labels=labels)
        return await trio.to_thread.run_sync(work, abandon_on_cancel=True)

    async def number_at(self, at: float) -> int:
        """The number of the first line written at or after `at` (Unix seconds), or the next one to be written."""
        return await trio.to_thread.run_sync(number_at, self.directory, at, abandon_on_cancel=True)

    async def follow(
        self, after: int = 0, *, labels: frozenset[str] | None = None
    ) -> AsyncGenerator[LogLine | Missed, None]:
        """All lines after a number, then each new one, for ever; `Missed` where rotation was faster than the reader.

        Close it (`aclosing`) when you leave it early.
        """
        async with aclosing(self.pages(after, labels=labels)) as pages:
            async for page in pages:
                if page.missed is not None:
                    yield page.missed
                for line in page.lines:
                    yield line

    async def pages(self, after: int = 0, *, labels: frozenset[str] | None = None) -> AsyncGenerator[Page, None]:
        """As `follow`, as many lines at once as there are, up to a page; a page has lines or tells of missed ones."""
        while True:
            grown = self._news.grown(self._name) if self._news is not None and self._news.connected else None
            page = await self.read(after, limit=FOLLOW_LINES, labels=labels)
            if page.lines or page.missed is not None:
                yield page
            if page.last < after:  # the log was lost and began anew, or a power cut took its end
                after = page.last
            elif page.next > after:
                after = page.next
            elif grown is not None:
                await grown.wait()
            else:
                await trio.sleep(POLL_SECONDS)

    async def last(self) -> int:
        """The number of the newest line, 0 for an empty log."""
        return (await self.read(limit=0)).last
