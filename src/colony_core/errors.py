"""Every error Colony raises: what went wrong, and the next thing to try.

One family, named by situation. `code` is stable and kebab-case: the same string stands in the API's problem document, in `--json`
errors and in the docs. HTTP status and exit code are derived at the edges; the core knows neither.
"""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from difflib import get_close_matches
from typing import Any, TypeVar

E = TypeVar("E", bound=BaseException)


class ColonyError(Exception):
    """Something that Colony could not do, said for people: `message` is what and which, `hint` the next thing to try.

    `details` holds machine-readable facts (the path in a manifest, the owner of a port); it never holds secrets.
    """

    def __init__(self, code: str, message: str, hint: str = "", *, details: Mapping[str, Any] | None = None) -> None:
        super().__init__(code, message, hint)
        self.code = code
        self.message = message
        self.hint = hint
        self.details: Mapping[str, Any] = dict(details or {})

    def __str__(self) -> str:
        return f"{self.message} (hint: {self.hint})" if self.hint else self.message

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.code}: {self.message}>"


class NotFound(ColonyError):
    """No such colony, service, route or file."""


class AlreadyExists(ColonyError):
    """The name, port or lock is taken."""


class WrongState(ColonyError):
    """The thing exists but cannot do this now."""


class Invalid(ColonyError):
    """What was given breaks a rule; `details` may hold `path`, `line` and `nearest`."""


class NotAllowed(ColonyError):
    """The caller is known, or unknown, and may not do this."""


class LimitReached(ColonyError):
    """A guardrail holds: too many, too large, too often."""


class Missing(ColonyError):
    """This machine lacks a tool or a right; the hint says how to get it."""


class Unreachable(ColonyError):
    """A server, daemon or service does not answer."""


class TooSlow(ColonyError):
    """A deadline passed; the message names which."""


class Broken(ColonyError):
    """A part failed in a way that is not the caller's doing."""


def did_you_mean(word: str, known: Iterator[str] | list[str] | tuple[str, ...]) -> str:
    """The known word nearest to `word`, or an empty string."""
    found = get_close_matches(word, list(known), n=1, cutoff=0.6)
    return found[0] if found else ""


def first_of(group: BaseExceptionGroup[E]) -> E:
    """The first error of a group, in however many groups it is wrapped."""
    error = group.exceptions[0]
    return first_of(error) if isinstance(error, BaseExceptionGroup) else error


@contextmanager
def translating(table: Mapping[type[BaseException], Callable[[Any], ColonyError]]) -> Iterator[None]:
    """Turns foreign exceptions into Colony's at the border of a room; the original stays as the cause."""
    try:
        yield
    except tuple(table) as error:
        for kind, build in table.items():
            if isinstance(error, kind):
                raise build(error) from error
        raise
