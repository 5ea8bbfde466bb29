"""The book of one incarnation of a supervisor: who runs, who fell, who was brought back; and which rule that breaks.

It is kept from what the children see and the supervisor tells. What it says of restarts holds whatever else is going on: a restart is
counted at some time between the fall and the new start, and both ends of that are noted where they differ.
"""

from math import inf

import attrs

from colony_core.supervision import Child, Exit, Limit, LimitReached, RestartLimit, State, Status, Strategy


@attrs.define
class Fall:
    """An end that has to be answered by a restart, and the times between which that is counted if it is counted at all."""

    exit: Exit
    first: float
    last: float


class Book:
    """`strategy` is None for a dynamic supervisor; `seat` is the supervisor as a child of the one above."""

    def __init__(self, limit: Limit, strategy: Strategy | None, seat: Child | None) -> None:
        self.limit, self.strategy, self.seat = limit, strategy, seat
        self.broken: list[str] = []
        self.closing = False
        self.gave_up: LimitReached | None = None
        self.failure: RestartLimit | None = None
        self.running: dict[Child, Status] = {}
        self.asked: dict[Child, int] = {}
        """Which incarnation was stopped by itself, on request."""
        self.falls: list[Fall] = []
        self.restarts: list[tuple[float, float]] = []
        """The times between which each restart was counted that was certainly made."""
        self._waiting: dict[Child, Fall] = {}
        self._places: dict[Child, int] = {}
        self._automatic: set[Child] = set()
        self._latest: Child | None = None
        self._ended: set[Child] = set()
        """Since the group restart began whose latest start was that of `_latest`."""
        self._exact = False

    # -- what happened

    def began(self, status: Status, now: float) -> None:
        """An incarnation has begun."""
        child = status.child
        assert child is not None
        self._check_start(child, now)
        self.running[child] = status
        self._places.setdefault(child, len(self._places))
        self._automatic.discard(child)
        fall = self._waiting.get(child)
        if fall is not None:
            fall.last = min(fall.last, now)
        if child.incarnation > 1 and child.starter is None:  # a restart by hand has somebody who waits for it
            self._automatic.add(child)
            self._restarted(child, now)
        else:
            self._latest = None
        self._waiting.pop(child, None)

    def over(self, status: Status) -> None:
        """An incarnation has ended; what the supervisor tells next is about it."""
        child, supervisor = status.child, status.keeper
        del self.running[child]
        self._ended.add(child)
        siblings = supervisor.children()
        stopped = child.state not in (State.STARTING, State.UP) and not child.starter and not self._alone(child)
        if self.strategy is not None and stopped:
            later = siblings[siblings.index(child) + 1 :]
            if any(other in self.running and not self._alone(other) for other in later):
                self.broken.append(f"{child} was stopped before those that started after it")
        others = {other.state for other in siblings if other is not child}
        self._exact = not supervisor.booting and others.isdisjoint(self._busy(child))

    def fell(self, child: Child, end: Exit, *, starting: bool) -> None:
        """The supervisor told of an end. It answers by a restart, unless it was the end of a start that somebody had asked for."""
        if child.temporary or (starting and child not in self._automatic):
            return
        self._waiting[child] = fall = Fall(end, end.at, end.at if self._exact else inf)
        self.falls.append(fall)

    def stop_asked(self, child: Child, now: float) -> None:
        """Somebody is about to stop one child. If it waits to be brought back, it waits no longer."""
        self.asked[child] = child.incarnation
        fall = self._waiting.pop(child, None)
        if fall is not None:
            fall.last = min(fall.last, now)

    def limit_reached(self, event: LimitReached) -> None:
        """The supervisor told that it gives up. It may, if so many falls can have been counted in the period before."""
        if self.gave_up is not None:
            self.broken.append("gave up twice")
        self.gave_up = event
        since = event.at - self.limit.period
        counted = sum(fall.last >= since for fall in self.falls)
        if counted <= self.limit.count:
            self.broken.append(f"gave up after {counted} falls in the window, limit {self.limit}")
        if not any(fall.exit is event.last for fall in self._waiting.values()):
            self.broken.append("gave up because of a child that does not wait to be restarted")

    # -- what follows

    def _busy(self, child: Child) -> set[State]:
        """The states of siblings that may make the restart of this child wait for its turn; without any it is counted at once."""
        if self.strategy is None:
            return set()
        if self.strategy is Strategy.ONE_FOR_ONE and child.state is State.UP:
            return {State.STARTING, State.STOPPING}  # whoever waits for a turn waits for one of these, or for a delay
        return {State.STARTING, State.STOPPING, State.RESTARTING}

    def _alone(self, child: Child) -> bool:
        """Whether this incarnation was stopped by itself, on request."""
        return self.asked.get(child) == child.incarnation

    def _check_start(self, child: Child, now: float) -> None:
        if child in self.running:
            self.broken.append(f"two incarnations of {child} at once")
        if self.strategy is not None and not all(status.acknowledged for status in self.running.values()):
            self.broken.append(f"{child} started while another child was starting")
        stopped = self.seat is not None and self.seat.state is State.STOPPING and self.seat.since < now
        if self.closing or stopped or (self.gave_up is not None and self.gave_up.at < now):
            self.broken.append(f"{child} started while its supervisor stops")

    def _restarted(self, child: Child, now: float) -> None:
        """Notes a restart, once for a whole group: it starts its members in order, and none of them twice."""
        latest, self._latest = self._latest, child
        if self.strategy in (None, Strategy.ONE_FOR_ONE):
            causes = [self._waiting[child]] if child in self._waiting else []
        elif latest is not None and self._places[latest] < self._places[child] and child not in self._ended:
            return
        else:
            causes = list(self._waiting.values())
        self._ended.clear()
        if causes:
            self.restarts.append((min(fall.first for fall in causes), max(min(fall.last, now) for fall in causes)))

    def close(self) -> None:
        """The supervisor has ended."""
        count, period = self.limit.count, self.limit.period
        for _, at in self.restarts:
            within = sum(at - period <= first and last <= at for first, last in self.restarts)
            if within > count:
                self.broken.append(f"{within} restarts in the window, limit {self.limit}")
        if self.running:
            self.broken.append(f"left behind: {list(self.running)}")
        if (self.failure is None) != (self.gave_up is None):
            self.broken.append(f"told {self.gave_up}, ended with {self.failure!r}")
        if self.failure is not None and len(self.failure.exceptions) != count + 1:
            self.broken.append(f"{len(self.failure.exceptions)} errors, limit {self.limit}")
