"""An event as it is kept, and which of them a reader wants. Pure."""

import attrs
import msgspec

from colony_core import wire
from colony_core.events import ColonyEvent, Event, Missed, Numbered

MISSED = "missed"


@attrs.frozen(kw_only=True)
class Entry:
    """One event, or a hole: then `kind` is `missed` and `first` to `seq` are gone. `text` is the JSON object that the faces tell."""

    seq: int
    first: int
    at: float
    kind: str
    colony: str | None = None
    colony_id: str | None = None
    owner: str | None = None
    service: str | None = None
    text: str

    def behind(self, seq: int) -> "Entry":
        """The same for a reader who has seen everything up to `seq`: of a hole, the rest."""
        return hole(seq + 1, self.seq, at=self.at) if self.first <= seq < self.seq else self


@attrs.frozen(kw_only=True)
class Selection:
    """Which events: each choice that is given must fit. Holes always do, since nobody knows what was in them.

    `colonies` are names or ids. `within` is the id of the only colony that the reader may know of, `owner` the person who may know of what
    is theirs and of what is nobody's.
    """

    colonies: frozenset[str] = frozenset()
    services: frozenset[str] = frozenset()
    kinds: frozenset[str] = frozenset()
    within: str | None = None
    owner: str | None = None

    def wants(self, entry: Entry) -> bool:
        """Whether the reader is told of this entry."""
        return entry.kind == MISSED or (
            (not self.colonies or entry.colony in self.colonies or entry.colony_id in self.colonies)
            and (not self.services or entry.service in self.services)
            and (not self.kinds or entry.kind in self.kinds)
            and (self.within is None or entry.colony_id == self.within)
            and (self.owner is None or entry.owner in (None, self.owner))
        )


EVERYTHING = Selection()


def _kinds(event: type[Event]) -> set[str]:
    below = [kind for inner in event.__subclasses__() for kind in _kinds(inner)]
    return {*below} if below else {event.type_name}


KINDS = frozenset(_kinds(Event))
"""Every kind of event that there is."""


def entry_of(item: Numbered | Missed, *, at: float) -> Entry:
    """What is kept of an event, or of a hole that was found at the moment `at`."""
    if isinstance(item, Missed):
        return hole(item.first, item.last, at=at)
    event = item.event
    about = event if isinstance(event, ColonyEvent) else None
    return Entry(
        seq=item.seq,
        first=item.seq,
        at=item.at,
        kind=event.type_name,
        colony=about.colony if about else None,
        colony_id=about.colony_id if about else None,
        owner=getattr(event, "owner", None),
        service=getattr(event, "service", None),
        text=_text(item),
    )


def hole(first: int, last: int, *, at: float) -> Entry:
    """Numbers that are gone."""
    return Entry(seq=last, first=first, at=at, kind=MISSED, text=_text(Missed(first=first, last=last)))


def _text(item: Numbered | Missed) -> str:
    return msgspec.json.encode(wire.event_object(item)).decode()
