"""One convention for lists that grow: `limit` and `after` in the query, and in the answer `Link: <…>; rel="next"` where there is more.

Whoever follows the link until there is none has seen all that was there, once each: what comes and goes meanwhile moves nothing else,
because a place is told by the last item's own order and not by counting. A last page may be empty.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from fnmatch import fnmatchcase
from typing import Annotated, Any, TypeVar
from urllib.parse import urlencode

from msgspec import Meta
from quart import request

from .routes import Reply

T = TypeVar("T")

MOST = 1000
Limit = Annotated[int, Meta(ge=1, le=MOST, description="at most so many; the answer's `Link` leads to the next page")]
After = Annotated[
    str, Meta(min_length=1, max_length=200, description="only what stands behind this place; see the answer's `Link`")
]
Owner = Annotated[str, Meta(description="only those of this person")]
NamePattern = Annotated[str, Meta(description="only those of this name; `*` stands for anything: `web-*`")]


def named(pattern: str | None, name: str) -> bool:
    """Whether a name is one that is wanted."""
    return pattern is None or fnmatchcase(name, pattern.replace("[", "[[]"))


def page(items: Iterable[T], place: Callable[[T], str], *, after: str | None, limit: int) -> Reply:
    """A page of what is at hand, in the order of `place`, which is different for each item."""
    return cut(sorted((item for item in items if after is None or place(item) > after), key=place), place, limit=limit)


def cut(items: Sequence[T], place: Callable[[T], str], *, limit: int) -> Reply:
    """A page of what was asked for with one more than `limit`, in its own order."""
    shown = tuple(items[:limit])
    return Reply(value=shown, headers=next_page(place(shown[-1])) if len(items) > limit else {})


def next_page(after: str | int) -> Mapping[str, str]:
    """The header that leads behind a place, by the same question."""
    asked: Any = request
    query = [(name, value) for name, values in asked.args.lists() if name != "after" for value in values]
    return {"Link": f'<{asked.root_path}{asked.path}?{urlencode([*query, ("after", after)])}>; rel="next"'}
