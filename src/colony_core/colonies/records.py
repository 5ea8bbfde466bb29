"""Colonies in the store."""

import json
from collections.abc import Mapping
from typing import Any

import attrs
from sqlalchemy import Column, Connection, Float, Index, Integer, String, Table, Text, insert, select, update

from colony_core import wire
from colony_core.store import metadata

from .manifest import Manifest
from .state import ColonyState, Wanted

colonies = Table(
    "colonies",
    metadata,
    Column("id", String, primary_key=True),
    Column("name", String, nullable=False),
    Column("garden", String, nullable=False, server_default="local"),
    Column("owner", String, nullable=False),
    Column("wanted", String, nullable=False),
    Column("state", String, nullable=False),
    Column("reason", Text, nullable=False),
    Column("since", Float, nullable=False),
    Column("created_at", Float, nullable=False),
    Column("removed_at", Float),
    Column("source", Text, nullable=False),
    Column("template", String),
    Column("manifest", Text, nullable=False),
    Column("services", Text, nullable=False, server_default="{}"),
    Column("slot", Integer),
    Column("netns_inode", Integer),
    Column("boot_id", String),
)
Index("uq_colonies_name_living", colonies.c.name, unique=True, sqlite_where=colonies.c.removed_at.is_(None))


@attrs.frozen(kw_only=True)
class ColonyRecord:
    """What the store knows of one colony. `services` holds the lasting state of services that shall not simply be started again."""

    id: str
    name: str
    garden: str
    owner: str
    wanted: Wanted
    state: ColonyState
    reason: str
    since: float
    created_at: float
    source: str
    template: str | None
    manifest: Manifest
    services: Mapping[str, Mapping[str, str]]
    slot: int | None = None
    netns_inode: int | None = None
    boot_id: str | None = None


def add(connection: Connection, record: ColonyRecord) -> None:
    """Records a new colony."""
    connection.execute(insert(colonies).values(_row(record)))


def change(connection: Connection, colony_id: str, **values: Any) -> None:
    """Changes columns of one colony; values as in ColonyRecord, or `removed_at`."""
    connection.execute(
        update(colonies).where(colonies.c.id == colony_id).values({k: _plain(k, v) for k, v in values.items()})
    )


def living(connection: Connection) -> tuple[ColonyRecord, ...]:
    """Every colony that was not removed, oldest first."""
    rows = connection.execute(
        select(colonies).where(colonies.c.removed_at.is_(None)).order_by(colonies.c.created_at)
    ).mappings()
    return tuple(_record(dict(row)) for row in rows)


def _row(record: ColonyRecord) -> dict[str, Any]:
    return {field.name: _plain(field.name, getattr(record, field.name)) for field in attrs.fields(ColonyRecord)}


def _plain(column: str, value: Any) -> Any:
    if column in {"wanted", "state"}:
        return value.value
    if column == "manifest":
        return wire.dump_json(value).decode()
    return json.dumps(value) if column == "services" else value


def _record(row: Mapping[str, Any]) -> ColonyRecord:
    values = {field.name: row[field.name] for field in attrs.fields(ColonyRecord)}
    values["wanted"] = Wanted(row["wanted"])
    values["state"] = ColonyState(row["state"])
    values["manifest"] = wire.load_json(row["manifest"], Manifest)
    values["services"] = json.loads(row["services"])
    return ColonyRecord(**values)
