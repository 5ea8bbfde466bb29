"""What a tree of supervisors tells: frozen values handed to one hook, at once and in order."""

import logging
from collections.abc import Callable, Hashable

import attrs

from .spec import Exit, Limit

logger = logging.getLogger("colony.supervision")

Path = tuple[Hashable, ...]


@attrs.frozen
class Event:
    """Something happened to whoever `path` leads to (ids from the root on), at Trio time `at`."""

    path: Path
    at: float


@attrs.frozen
class ChildStarted(Event):
    """A child acknowledged its start. Dynamic supervisors are silent about this."""

    incarnation: int


@attrs.frozen
class ChildTerminated(Event):
    """A child ended by itself though it should not have, or, being permanent, ended at all."""

    exit: Exit


@attrs.frozen
class StartFailed(Event):
    """A child ended before it acknowledged its start."""

    exit: Exit


@attrs.frozen
class StopFailed(Event):
    """A child ended otherwise than asked: by an error, or killed when its grace was over.

    A dynamic supervisor that stops folds equal ends into one event with a `count`, under its own path.
    """

    exit: Exit
    count: int = 1


@attrs.frozen
class ChildOverdue(Event):
    """A child was cut but shields itself; it can only be waited for. `since` is when it was cut."""

    since: float


@attrs.frozen
class LimitReached(Event):
    """A supervisor gives up: too many restarts. Its children stop and it ends with `RestartLimit`."""

    limit: Limit
    last: Exit


Hook = Callable[[Event], None]


def log_event(event: Event) -> None:
    """The default hook: starts as info, everything else as errors, tracebacks included."""
    if isinstance(event, ChildStarted):
        if logger.isEnabledFor(logging.INFO):
            logger.info("%s started (incarnation %d)", path_text(event.path), event.incarnation)
        return
    end: Exit | None = getattr(event, "exit", None) or getattr(event, "last", None)
    error = None if end is None else end.error
    logger.error("%s %s", path_text(event.path), describe(event), exc_info=error)


def describe(event: Event) -> str:
    """The event in words, without its path."""
    match event:
        case ChildStarted(incarnation=incarnation):
            return f"started (incarnation {incarnation})"
        case ChildTerminated(exit=end):
            return f"ended: {end}"
        case StartFailed(exit=end):
            return f"failed to start: {end}"
        case StopFailed(exit=end, count=count):
            return f"did not stop cleanly: {end}" + (f" ({count} times)" if count > 1 else "")
        case ChildOverdue(since=since):
            return f"was cut {event.at - since:g} s ago and still runs"
        case LimitReached(limit=limit):
            return f"gives up: more than {limit.count} restarts in {limit.period:g} s"
    return type(event).__name__


def path_text(path: Path) -> str:
    """The path as people read it."""
    return "/".join(str(part) for part in path) or "supervisor"


def tell(hook: Hook, event: Event) -> None:
    """Hands `event` to `hook`; a hook that fails is logged and does not harm the tree."""
    try:
        hook(event)
    except Exception:
        logger.exception("the event hook failed at %r", event)
