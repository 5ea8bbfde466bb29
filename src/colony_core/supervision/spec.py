"""What to run and how to keep it alive: plain values, checked when they are built."""

import enum
from collections.abc import Awaitable, Callable, Hashable, Iterable
from math import inf, isnan
from typing import Any

import attrs

ID = Hashable
WORKER_GRACE_SECONDS = 5.0


class Restart(enum.Enum):
    """When a child that ended is started again."""

    PERMANENT = 1
    """Always."""
    TRANSIENT = 2
    """Only after an abnormal end."""
    TEMPORARY = 3
    """Never; the spec is forgotten with the child."""


class Strategy(enum.Enum):
    """Who is restarted along with a child that failed."""

    ONE_FOR_ONE = 1
    """Nobody."""
    ONE_FOR_ALL = 2
    """Everybody."""
    REST_FOR_ONE = 3
    """Those started after it."""


class AutoShutdown(enum.Enum):
    """Whether a supervisor ends when significant children have ended by themselves."""

    NEVER = 1
    ANY_SIGNIFICANT = 2
    ALL_SIGNIFICANT = 3


class Overflow(enum.Enum):
    """What a full mailbox does with one more message."""

    BLOCK = 1
    """`send` and `call` wait for room; a `cast` is taken beyond the bound."""
    REJECT = 2
    """The sender gets `MailboxFull`."""
    DROP_OLDEST = 3
    """The oldest message goes; if it was a call, its caller gets `MailboxFull`."""
    DROP_NEWEST = 4
    """The new message goes; if it is a call, its caller gets `MailboxFull`."""


class State(enum.Enum):
    """What a child is doing."""

    STARTING = 1
    UP = 2
    STOPPING = 3
    RESTARTING = 4
    """Ended, and the supervisor is about to start it again."""
    DOWN = 5


class Kind(enum.StrEnum):
    """What sort of child it is; only counts and reports care."""

    WORKER = "worker"
    ACTOR = "actor"
    SUPERVISOR = "supervisor"


class ExitKind(enum.StrEnum):
    """How an incarnation ended."""

    NORMAL = "normal"
    """It returned."""
    SHUTDOWN = "shutdown"
    """It raised `PlannedStop`, or was cancelled on request."""
    FAILED = "failed"
    """It raised anything else, or ended before `started()`."""
    KILLED = "killed"
    """It was cut when its grace was over."""


def _seconds(least: float, *, strictly: bool = False) -> Callable[[Any, "attrs.Attribute[Any]", Any], None]:
    """A validator for a number of seconds (or a plain number) not below `least`, or strictly above it."""

    def check(instance: object, field: "attrs.Attribute[Any]", value: object) -> None:
        if type(value) is float and value > least:
            return
        name = f"{type(instance).__name__}.{field.name}"
        if isinstance(value, bool) or not isinstance(value, int | float):
            raise TypeError(f"{name} must be a number, not {value!r}")
        if isnan(value) or value < least or (strictly and value == least):
            raise ValueError(f"{name} must be {'>' if strictly else '>='} {least:g}, not {value!r}")

    return check


def _one_of(kind: type) -> Callable[[Any, "attrs.Attribute[Any]", Any], None]:
    """A validator for an instance of `kind`."""

    def check(instance: object, field: "attrs.Attribute[Any]", value: object) -> None:
        if type(value) is kind:
            return
        if not isinstance(value, kind) or (kind is int and isinstance(value, bool)):
            raise TypeError(f"{type(instance).__name__}.{field.name} must be a {kind.__name__}, not {value!r}")

    return check


def _hashable(instance: object, field: "attrs.Attribute[Any]", value: object) -> None:
    try:
        hash(value)
    except TypeError:
        raise TypeError(f"{type(instance).__name__}.{field.name} must be hashable, not {value!r}") from None


def _as_tuple(args: Iterable[Any]) -> tuple[Any, ...]:
    return tuple(args)


@attrs.frozen
class Limit:
    """At most `count` restarts per sliding `period` (seconds); a restart exactly one period old still counts."""

    count: int = attrs.field(default=3, validator=[_one_of(int), _seconds(0)])
    period: float = attrs.field(default=5.0, validator=_seconds(0, strictly=True))


@attrs.frozen
class Backoff:
    """Seconds before the k-th restart in a row (k from 0): min(first * factor**k, most), give or take the share `jitter`.

    The row is forgotten once the child was up for `reset` seconds.
    """

    first: float = attrs.field(default=0.1, validator=_seconds(0))
    factor: float = attrs.field(default=2.0, validator=_seconds(1))
    most: float = attrs.field(default=30.0, validator=_seconds(0))
    jitter: float = attrs.field(default=0.1, validator=[_seconds(0), attrs.validators.le(1)])
    reset: float = attrs.field(default=60.0, validator=_seconds(0))


@attrs.frozen(kw_only=True, weakref_slot=False)
class ChildSpec:
    """What to run and how to keep it alive. `run(*args, status=...)` must call `status.started(value)` once.

    `grace` is in seconds: 0 kills at once, inf waits for ever. Wrong values raise TypeError or ValueError naming the field.
    """

    id: ID = attrs.field(validator=_hashable)
    run: Callable[..., Awaitable[object]] = attrs.field()
    args: tuple[Any, ...] = attrs.field(default=(), converter=_as_tuple)
    restart: Restart = attrs.field(default=Restart.PERMANENT, validator=_one_of(Restart))
    grace: float = attrs.field(default=WORKER_GRACE_SECONDS, validator=_seconds(0))
    significant: bool = attrs.field(default=False, validator=_one_of(bool))
    backoff: Backoff | None = attrs.field(default=None, validator=attrs.validators.optional(_one_of(Backoff)))
    kind: Kind = attrs.field(default=Kind.WORKER, validator=_one_of(Kind))

    @run.validator
    def _run_can_be_called(self, _field: object, value: object) -> None:
        if not callable(value):
            raise TypeError(f"ChildSpec.run must be callable, not {value!r}")

    @significant.validator
    def _significant_children_may_end(self, _field: object, value: bool) -> None:
        if value and self.restart is Restart.PERMANENT:
            raise ValueError(
                "ChildSpec.significant must be False for a permanent child, not True: it is always restarted"
            )


@attrs.frozen
class Exit:
    """How one incarnation ended: `at` is Trio time, `error` the exception of a failure."""

    kind: ExitKind
    error: BaseException | None
    at: float
    incarnation: int

    @property
    def planned(self) -> bool:
        """Whether the end counts as wanted: a return, a `PlannedStop`, or a stop on request."""
        return self.kind is ExitKind.NORMAL or self.kind is ExitKind.SHUTDOWN

    def __str__(self) -> str:
        return str(self.kind) if self.error is None else f"{self.kind}: {self.error!r}"


def check_options(
    *,
    limit: object,
    auto_shutdown: object,
    on_event: object,
    strategy: object = Strategy.ONE_FOR_ONE,
    most: object = inf,
) -> None:
    """Raises TypeError or ValueError naming the first option of a supervisor that makes no sense, and its value."""
    for name, value, kind in (
        ("strategy", strategy, Strategy),
        ("limit", limit, Limit),
        ("auto_shutdown", auto_shutdown, AutoShutdown),
    ):
        if not isinstance(value, kind):
            raise TypeError(f"{name} must be a {kind.__name__}, not {value!r}")
    if on_event is not None and not callable(on_event):
        raise TypeError(f"on_event must be callable, not {on_event!r}")
    if isinstance(most, bool) or not isinstance(most, int | float):
        raise TypeError(f"most must be a number, not {most!r}")
    if not most >= 0:
        raise ValueError(f"most must be >= 0, not {most!r}")


def checked(specs: tuple[ChildSpec, ...], auto_shutdown: AutoShutdown) -> tuple[ChildSpec, ...]:
    """The specs as given, or an error before anything starts: ids are unique, significance has a meaning."""
    seen: set[ID] = set()
    for spec in specs:
        check_fits(spec, auto_shutdown)
        if spec.id in seen:
            raise ValueError(f"ChildSpec.id must be unique under its supervisor, {spec.id!r} is there twice")
        seen.add(spec.id)
    return specs


def check_fits(spec: ChildSpec, auto_shutdown: AutoShutdown) -> None:
    """Raises unless `spec` can live under a supervisor with this `auto_shutdown`."""
    if not isinstance(spec, ChildSpec):
        raise TypeError(f"a child is described by a ChildSpec, not by {spec!r}")
    if spec.significant and auto_shutdown is AutoShutdown.NEVER:
        raise ValueError(
            f"ChildSpec.significant must be False under auto_shutdown NEVER, not True (child {spec.id!r}): nobody would look at it"
        )
