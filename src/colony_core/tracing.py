"""Spans: how long a piece of work took, whether it failed, and within which other. Without a tracer nothing is noted and nothing costs."""

from collections.abc import Mapping
from contextlib import AbstractContextManager, nullcontext
from contextvars import ContextVar
from typing import Protocol

Facts = Mapping[str, str | int | float | bool]


class Span(Protocol):
    """A piece of work that is under way."""

    @property
    def traceparent(self) -> str:
        """Its name for other programs, as W3C Trace Context writes it; empty where nothing is noted."""

    def note(self, facts: Facts, *, name: str = "", failed: str = "") -> None:
        """Adds facts; with `name` it is called so from now on, with `failed` it is one that failed, in these words."""


class Tracer(Protocol):
    """Whoever keeps spans. Nothing that it does may block or fail."""

    def span(
        self, name: str, facts: Facts, *, within: Span | str | None, served: bool = False
    ) -> AbstractContextManager[Span]:
        """A span for the time of a block, within another one, or within what another program told (`traceparent`).

        `served`: it answers a question of another program. An error that leaves the block makes it a failed one.
        """


class NoSpan:
    """Work of which nothing is noted."""

    traceparent = ""

    def note(self, facts: Facts, *, name: str = "", failed: str = "") -> None:
        """See Span."""


class NoTracer:
    """Keeps nothing."""

    def span(
        self, name: str, facts: Facts, *, within: Span | str | None, served: bool = False
    ) -> AbstractContextManager[Span]:
        """See Tracer."""
        return nullcontext(NoSpan())


asking: ContextVar[Span | None] = ContextVar("asking", default=None)
"""The span of the request that is being answered. Only what is done for it at once may look here: tasks inherit it and outlive it."""
