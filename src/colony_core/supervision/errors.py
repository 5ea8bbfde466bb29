"""What can go wrong under a supervisor: one class for each party that has to act."""

from collections.abc import Hashable, Sequence


class PlannedStop(Exception):
    """Raised by a child to end itself on purpose: a planned end, not a failure."""


class Ignore(Exception):
    """Raised by a child before `started()`: not needed now. The spec is kept unless the child is temporary."""


class SupervisionError(Exception):
    """The common ancestor of the errors that supervisors and actors raise at those who use them."""


class ChildStartError(SupervisionError):
    """A child failed before `started()`; `__cause__` is its error and `child` its id."""

    def __init__(self, child: Hashable, reason: str = "failed to start") -> None:
        super().__init__(f"child {child!r} {reason}")
        self.child = child


class RestartLimit(ExceptionGroup[Exception]):
    """More than `limit.count` restarts in `limit.period` seconds; holds every error of the window."""

    def derive(self, excs: Sequence[Exception], /) -> "RestartLimit":  # type: ignore[override]
        """Keeps the class when the group is split."""
        return RestartLimit(self.message, excs)


class EndedUnasked(SupervisionError):
    """Stands in a `RestartLimit` for an end without an error of a child that should not have ended."""


class ActorDied(SupervisionError):
    """The incarnation ended before it replied, or while somebody was linked to it; `__cause__` is its error."""


class NotRunning(SupervisionError):
    """Nobody is there: the child is down or restarting, or its supervisor is stopping."""


class MailboxFull(SupervisionError):
    """The actor has no room for this message; try later, or send less."""


class TooSlow(SupervisionError):
    """The reply did not come in time. The actor lives on, and its late reply is thrown away."""


class SelfCall(SupervisionError):
    """An actor called itself and would have waited for ever; call the method, or cast."""


class NoSuchChild(SupervisionError):
    """The supervisor has no child with this id."""


class AlreadyStarted(SupervisionError):
    """There is a child with this id and it runs: it is `child`."""

    def __init__(self, child: object) -> None:
        super().__init__(f"{child!r} is started already")
        self.child = child


class AlreadyPresent(SupervisionError):
    """There is a child with this id, down or restarting; restart it, or delete it first."""


class ChildRunning(SupervisionError):
    """The child runs, and the request is for one that is down; stop it first."""


class ChildRestarting(SupervisionError):
    """The supervisor is trying to bring the child back; stop it to cancel that."""


class TooManyChildren(SupervisionError):
    """The dynamic supervisor has as many children as it may have, those that restart included."""


class NotForDynamic(SupervisionError):
    """Dynamic supervisors forget what is down, so nothing can be restarted or deleted by hand."""
