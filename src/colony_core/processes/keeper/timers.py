"""Calls that are due later, for a loop with one thread."""

import heapq
import itertools
import time
from collections.abc import Callable

Call = Callable[[], None]


class Timer:
    """One call; `cancel` before it is due."""

    __slots__ = ("call", "due")

    def __init__(self, due: float, call: Call) -> None:
        self.due = due
        self.call: Call | None = call

    def cancel(self) -> None:
        self.call = None


class Timers:
    """All calls of a loop, soonest first."""

    def __init__(self) -> None:
        self._heap: list[tuple[float, int, Timer]] = []
        self._order = itertools.count()

    def later(self, seconds: float, call: Call) -> Timer:
        timer = Timer(time.monotonic() + seconds, call)
        heapq.heappush(self._heap, (timer.due, next(self._order), timer))
        return timer

    def wait_seconds(self) -> float | None:
        """How long the loop may sleep; None: until something happens."""
        while self._heap and self._heap[0][2].call is None:
            heapq.heappop(self._heap)
        return max(self._heap[0][0] - time.monotonic(), 0.0) if self._heap else None

    def fire(self) -> None:
        """Makes the calls that are due now; those that they add wait for the next turn."""
        now = time.monotonic()
        due = []
        while self._heap and self._heap[0][0] <= now:
            due.append(heapq.heappop(self._heap)[2])
        for timer in due:
            if (call := timer.call) is not None:
                timer.call = None
                call()
