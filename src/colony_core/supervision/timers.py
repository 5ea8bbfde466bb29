"""How a supervisor waits without polling: a bell to wake it, and the next moment at which it has something to do."""

import heapq
from collections import deque
from collections.abc import Callable
from math import inf
from typing import Any, Protocol

import trio
from trio.lowlevel import Abort, Task, current_clock, current_task, reschedule, wait_task_rescheduled

SPARE_ENTRIES = 64


class Bell:
    """Wakes one task. Rings are remembered, not counted."""

    __slots__ = ("_rung", "_sleeper")

    def __init__(self) -> None:
        self._rung = False
        self._sleeper: Task | None = None

    def ring(self) -> None:
        """Wakes the waiting task, or lets its next wait return at once."""
        if self._sleeper is None:
            self._rung = True
        else:
            reschedule(self._sleeper)
            self._sleeper = None

    async def wait(self, until: float) -> None:
        """Until the bell rings or Trio time is `until`. No checkpoint if it has rung already."""
        if self._rung:
            self._rung = False
        elif until == inf:
            await self._park()
        else:
            with trio.CancelScope(deadline=until):
                await self._park()

    async def _park(self) -> None:
        self._sleeper = current_task()
        await wait_task_rescheduled(self._give_up)

    def _give_up(self, _raise_cancel: object) -> Abort:
        self._sleeper = None
        return Abort.SUCCEEDED


class Alarm:
    """One entry of `Alarms`; `cancel` makes it void."""

    __slots__ = ("act", "args")

    def __init__(self, act: Callable[..., None], args: tuple[Any, ...]) -> None:
        self.act: Callable[..., None] | None = act
        self.args = args

    def cancel(self) -> None:
        """Nothing will happen, and nothing is kept alive."""
        self.act = None
        self.args = ()


class Alarms:
    """Things to do at a given moment, earliest first."""

    __slots__ = ("_heap", "_number")

    def __init__(self) -> None:
        self._heap: list[tuple[float, int, Alarm]] = []  # numbered, so that alarms themselves are never compared
        self._number = 0

    def set(self, at: float, act: Callable[..., None], *args: object) -> Alarm:
        """Has `act(*args)` called by `fire` from Trio time `at` on."""
        self._number += 1
        alarm = Alarm(act, args)
        heapq.heappush(self._heap, (at, self._number, alarm))
        return alarm

    def next_due(self) -> float:
        """The moment of the earliest alarm that is not void, or inf."""
        heap = self._heap
        while heap and heap[0][2].act is None:
            heapq.heappop(heap)
        return heap[0][0] if heap else inf

    def fire(self, now: float) -> None:
        """Does all that is due."""
        while self.next_due() <= now:
            _, _, alarm = heapq.heappop(self._heap)
            act, args = alarm.act, alarm.args
            alarm.cancel()
            if act is not None:
                act(*args)


class Timed(Protocol):
    """Somebody who waits for something, but not for ever; `due` is None once the wait is over."""

    due: float | None

    def expire(self) -> None: ...


class Line:
    """Those who wait equally long, in the order in which their time is over; among them, for a while, those who no longer wait."""

    __slots__ = ("entries", "room")

    def __init__(self) -> None:
        self.entries: deque[Timed] = deque()
        self.room = SPARE_ENTRIES

    def tidy(self) -> None:
        """Drops those who no longer wait. At each doubling, so that an entry is looked at a few times in its life, not at each call."""
        self.entries = deque(entry for entry in self.entries if entry.due is not None)
        self.room = 2 * len(self.entries) + SPARE_ENTRIES


class Deadlines:
    """Time-outs without a cancel scope each: one queue per time-out value, looked through by whoever rings the bell for.

    Entries that are answered stay until they reach the head, or until they fill their line.
    """

    __slots__ = ("_bell", "_lines", "_now", "armed")

    def __init__(self, bell: Bell) -> None:
        self._bell = bell
        self._now = current_clock().current_time
        self._lines: dict[float, Line] = {}
        self.armed = inf

    def watch(self, waiter: Timed, timeout: float) -> None:
        """Has `waiter.expire()` called after `timeout` seconds, if it still waits then."""
        line = self._lines.get(timeout)
        if line is None:
            line = self._lines[timeout] = Line()
        entries = line.entries
        while entries and entries[0].due is None:
            entries.popleft()
        if len(entries) > line.room:
            line.tidy()
        waiter.due = due = self._now() + timeout
        line.entries.append(waiter)
        if due < self.armed:
            self.armed = due
            self._bell.ring()

    def next_due(self) -> float:
        """The moment at which the next waiter runs out of time, or inf."""
        earliest = inf
        for timeout, line in list(self._lines.items()):
            entries = line.entries
            while entries and (due := entries[0].due) is None:
                entries.popleft()
            if not entries:
                del self._lines[timeout]
            elif due is not None and due < earliest:
                earliest = due
        return earliest

    def reap(self, now: float) -> None:
        """Expires everybody whose time is over."""
        for line in list(self._lines.values()):
            entries = line.entries
            while entries and ((due := entries[0].due) is None or due <= now):
                waiter = entries.popleft()
                if due is not None:
                    waiter.expire()
