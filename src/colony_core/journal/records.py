"""The events in the store. Their numbers are the table's order; the newest is never dropped, since the next number follows from it."""

from collections.abc import Sequence

import attrs
from sqlalchemy import Column, Connection, Float, Integer, Select, Table, Text, and_, delete, func, insert, or_, select

from colony_core.store import metadata

from .entries import MISSED, Entry, Selection

events = Table(
    "events",
    metadata,
    Column("seq", Integer, primary_key=True),
    Column("first", Integer, nullable=False),
    Column("at", Float, nullable=False),
    Column("kind", Text, nullable=False),
    Column("colony", Text),
    Column("colony_id", Text),
    Column("owner", Text),
    Column("service", Text),
    Column("text", Text, nullable=False),
)


def last_seq(connection: Connection) -> int:
    """The newest number, 0 where there is none."""
    return connection.scalar(select(func.max(events.c.seq))) or 0


def append(connection: Connection, entries: Sequence[Entry], *, after: int, keep: int) -> None:
    """Writes what follows number `after`, and drops what is then more than `keep` numbers old."""
    # A commit whose answer was lost with an I/O error may have left them there already.
    connection.execute(delete(events).where(events.c.seq > after))
    connection.execute(insert(events), [attrs.asdict(entry) for entry in entries])
    connection.execute(delete(events).where(events.c.seq <= entries[-1].seq - keep))


def forget(connection: Connection, before: float) -> None:
    """Drops the events from before that moment, from the oldest on, but never the newest of all."""
    young = select(func.min(events.c.seq)).where(events.c.at >= before).scalar_subquery()
    newest = select(func.max(events.c.seq)).scalar_subquery()
    connection.execute(delete(events).where(events.c.seq < func.coalesce(young, newest)))


def page(connection: Connection, after: int, upto: int, selection: Selection, limit: int) -> tuple[int, list[Entry]]:
    """The oldest number that something is known of, and the oldest wanted entries with `after` < number <= `upto`."""
    oldest = connection.scalar(select(events.c.first).order_by(events.c.seq).limit(1))
    chosen = _chosen(selection).where(events.c.seq > after, events.c.seq <= upto)
    return oldest or 1, _entries(connection, chosen.order_by(events.c.seq).limit(limit))


def newest(connection: Connection, upto: int, selection: Selection, limit: int) -> list[Entry]:
    """The newest wanted entries up to a number, oldest first."""
    chosen = _chosen(selection).where(events.c.seq <= upto)
    return _entries(connection, chosen.order_by(events.c.seq.desc()).limit(limit))[::-1]


def _entries(connection: Connection, chosen: Select[tuple[object, ...]]) -> list[Entry]:
    return [Entry(**row) for row in connection.execute(chosen).mappings()]


def _chosen(selection: Selection) -> Select[tuple[object, ...]]:
    """As `Selection.wants`, for the database."""
    column = events.c
    fits = []
    if selection.colonies:
        fits.append(or_(column.colony.in_(selection.colonies), column.colony_id.in_(selection.colonies)))
    if selection.services:
        fits.append(column.service.in_(selection.services))
    if selection.kinds:
        fits.append(column.kind.in_(selection.kinds))
    if selection.within is not None:
        fits.append(column.colony_id == selection.within)
    if selection.owner is not None:
        fits.append(or_(column.owner.is_(None), column.owner == selection.owner))
    chosen: Select[tuple[object, ...]] = select(events)
    return chosen.where(or_(column.kind == MISSED, and_(*fits))) if fits else chosen
