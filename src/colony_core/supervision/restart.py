"""Restart decisions, windows and delays: pure arithmetic, no tasks and no clock."""

import enum
import random
from collections import deque
from collections.abc import Sequence
from typing import TypeVar

from .spec import Backoff, Exit, ExitKind, Limit, Restart, Strategy

T = TypeVar("T")


class Verdict(enum.Enum):
    """What becomes of a child that ended by itself."""

    RESTART = 1
    KEEP = 2
    """The spec stays, with nothing running."""
    FORGET = 3


def verdict(restart: Restart, end: Exit) -> Verdict:
    """What a child's own end leads to."""
    if restart is Restart.TEMPORARY:
        return Verdict.FORGET
    if restart is Restart.TRANSIENT and end.planned:
        return Verdict.KEEP
    return Verdict.RESTART


def is_reported(restart: Restart, end: Exit) -> bool:
    """Whether a child's own end is worth an event: every end of a permanent child, abnormal ends of the others."""
    return restart is Restart.PERMANENT or not end.planned


def is_clean_stop(grace: float, end: Exit) -> bool:
    """Whether an end after a stop request is as expected; being killed is, where there was no grace."""
    kind = end.kind
    return kind is ExitKind.SHUTDOWN or kind is ExitKind.NORMAL or (kind is ExitKind.KILLED and grace == 0)


def group(strategy: Strategy, order: Sequence[T], failed: T) -> Sequence[T]:
    """Who is restarted together when `failed` ends, in start order."""
    if strategy is Strategy.ONE_FOR_ALL:
        return order
    at = next(place for place, member in enumerate(order) if member is failed)
    return order[at:] if strategy is Strategy.REST_FOR_ONE else order[at : at + 1]


def delay(backoff: Backoff, in_a_row: int, rng: random.Random) -> float:
    """Seconds to wait before restart number `in_a_row` (from 0) of an unlucky streak."""
    try:
        plain = min(backoff.first * backoff.factor**in_a_row, backoff.most)
    except OverflowError:
        plain = backoff.most
    return plain * (1 + rng.uniform(-backoff.jitter, backoff.jitter)) if backoff.jitter else plain


class Window:
    """Restarts of the last `limit.period` seconds, with their errors; upkeep is O(1) amortised."""

    __slots__ = ("_limit", "_seen")

    def __init__(self, limit: Limit) -> None:
        self._limit = limit
        self._seen: deque[tuple[float, Exception]] = deque()

    def passes(self, now: float, error: Exception) -> bool:
        """Counts a restart at `now` and tells whether it is one too many."""
        seen, oldest = self._seen, now - self._limit.period
        while seen and seen[0][0] < oldest:
            seen.popleft()
        seen.append((now, error))
        return len(seen) > self._limit.count

    @property
    def errors(self) -> list[Exception]:
        """The errors of the window, oldest first."""
        return [error for _, error in self._seen]
