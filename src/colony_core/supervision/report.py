"""A snapshot of the tree: who runs, since when, how often restarted."""

from collections.abc import Iterable, Iterator
from typing import Any, Protocol

import attrs
import trio

from .child import Child
from .spec import ID, ExitKind, Kind, State


class Tree(Protocol):
    """What a snapshot needs of a supervisor."""

    since: float
    stop_called: bool
    booting: bool
    over: trio.Event

    def children(self) -> tuple[Child, ...]: ...


@attrs.frozen
class Counts:
    """How many children a supervisor has: `specs`, those of them `active`, and of what sort the specs are."""

    specs: int
    active: int
    supervisors: int
    workers: int

    @classmethod
    def of(cls, children: Iterable[Child]) -> "Counts":
        """Counts `children`."""
        known = list(children)
        supervisors = sum(child.spec.kind is Kind.SUPERVISOR for child in known)
        active = sum(child.status is not None for child in known)
        return cls(len(known), active, supervisors, len(known) - supervisors)


@attrs.frozen
class LastExit:
    """The end of the latest ended incarnation; `error` in words, `age` in seconds."""

    kind: ExitKind
    error: str
    age: float
    incarnation: int


@attrs.frozen(kw_only=True)
class Report:
    """One node of the tree. `age` is how many seconds it has been in its state, `since` the same as Trio time."""

    id: ID
    kind: Kind
    state: State
    since: float
    age: float
    incarnation: int
    restarts: int
    last_exit: LastExit | None
    children: tuple["Report", ...]

    def as_dict(self) -> dict[str, Any]:
        """The same as plain serialisable values; ids that are not numbers or texts become texts."""
        return {
            "id": self.id if isinstance(self.id, str | int) else str(self.id),
            "kind": str(self.kind),
            "state": self.state.name.lower(),
            "since": self.since,
            "age": self.age,
            "incarnation": self.incarnation,
            "restarts": self.restarts,
            "last_exit": self.last_exit and {**attrs.asdict(self.last_exit), "kind": str(self.last_exit.kind)},
            "children": [child.as_dict() for child in self.children],
        }

    def as_text(self) -> str:
        """The tree for people, one line for each node."""
        return "\n".join(self._lines("", ""))

    def __str__(self) -> str:
        return self.as_text()

    def _lines(self, first: str, rest: str) -> Iterator[str]:
        yield first + self._line()
        for place, child in enumerate(self.children):
            last = place == len(self.children) - 1
            yield from child._lines(rest + ("└─ " if last else "├─ "), rest + ("   " if last else "│  "))

    def _line(self) -> str:
        words = [f"{self.id or 'supervisor'} ({self.kind}): {self.state.name.lower()} for {self.age:.1f} s"]
        if self.restarts:
            words.append(f"restarted {self.restarts} {'time' if self.restarts == 1 else 'times'}")
        if self.last_exit is not None:
            error = f": {self.last_exit.error}" if self.last_exit.error else ""
            words.append(f"last end {self.last_exit.kind}{error} {self.last_exit.age:.1f} s ago")
        return ", ".join(words)


def snapshot(identity: ID, tree: Tree) -> Report:
    """The report of a whole tree, seen from its top. Takes no scheduler step."""
    now = trio.current_time()
    state = State.UP
    if tree.over.is_set():
        state = State.DOWN
    elif tree.stop_called:
        state = State.STOPPING
    elif tree.booting:
        state = State.STARTING
    return Report(
        id=identity, kind=Kind.SUPERVISOR, state=state, since=tree.since, age=now - tree.since, incarnation=1, restarts=0,
        last_exit=None, children=tuple(_of_child(child, now) for child in tree.children()),
    )  # fmt: skip


def _of_child(child: Child, now: float) -> Report:
    end = child.last_exit
    last = None
    if end is not None:
        last = LastExit(end.kind, "" if end.error is None else repr(end.error), now - end.at, end.incarnation)
    below: tuple[Child, ...] = ()
    if child.spec.kind is Kind.SUPERVISOR and child.state in (State.UP, State.STOPPING) and child.value is not None:
        below = child.value.children()
    return Report(
        id=child.id, kind=child.spec.kind, state=child.state, since=child.since, age=now - child.since, incarnation=child.incarnation,
        restarts=child.restarts, last_exit=last, children=tuple(_of_child(inner, now) for inner in below),
    )  # fmt: skip
