"""Keys and remembered answers in the store."""

import json
from collections.abc import Iterable, Mapping
from typing import Any

import attrs
from sqlalchemy import (
    Boolean,
    Column,
    Connection,
    Float,
    Index,
    Integer,
    LargeBinary,
    Table,
    Text,
    UniqueConstraint,
    delete,
    insert,
    select,
    update,
)

from colony_core.store import metadata

from .keys import KeyRecord, Role

keys = Table(
    "keys",
    metadata,
    Column("id", Text, primary_key=True),
    Column("name", Text, nullable=False),
    Column("garden", Text, nullable=False, server_default="local"),
    Column("owner", Text, nullable=False),
    Column("role", Text, nullable=False),
    Column("secret_hash", Text, nullable=False),
    Column("created_at", Float, nullable=False),
    Column("revoked_at", Float),
    Column("last_used_at", Float),
    Column("expires_at", Float),
    Column("colony", Text),
    Column("browser", Boolean, nullable=False, server_default="0"),
    Column("parent", Text),
    UniqueConstraint("secret_hash", name="uq_keys_secret_hash"),
)

idempotency = Table(
    "idempotency",
    metadata,
    Column("caller", Text, primary_key=True),
    Column("key", Text, primary_key=True),
    Column("fingerprint", Text, nullable=False),
    Column("status", Integer, nullable=False),
    Column("headers", Text, nullable=False),
    Column("body", LargeBinary),
    Column("body_bytes", Integer, nullable=False),
    Column("created_at", Float, nullable=False),
)
Index("ix_idempotency_created_at", idempotency.c.created_at)

audit = Table(
    "audit",
    metadata,
    Column("seq", Integer, primary_key=True),
    Column("at", Float, nullable=False),
    Column("who", Text),
    Column("name", Text, nullable=False),
    Column("role", Text, nullable=False),
    Column("person", Text, nullable=False),
    Column("source", Text, nullable=False),
    Column("method", Text, nullable=False),
    Column("path", Text, nullable=False),
    Column("target", Text, nullable=False),
    Column("status", Integer, nullable=False),
    Column("code", Text, nullable=False),
    Column("request_id", Text, nullable=False),
    Column("skipped", Integer, nullable=False),
    Column("command", Text),
)


@attrs.frozen(kw_only=True)
class AnswerRecord:
    """The first answer to a request; `body` is None where it was too large to keep."""

    caller: str
    key: str
    fingerprint: str
    status: int
    headers: Mapping[str, str]
    body: bytes | None
    body_bytes: int
    created_at: float


def add_key(connection: Connection, record: KeyRecord) -> None:
    """Records a new key."""
    connection.execute(insert(keys).values(attrs.asdict(record) | {"role": record.role.value}))


def living_keys(connection: Connection) -> tuple[KeyRecord, ...]:
    """Every key that was not revoked, oldest first."""
    names = [field.name for field in attrs.fields(KeyRecord)]
    chosen = select(*(keys.c[name] for name in names)).where(keys.c.revoked_at.is_(None)).order_by(keys.c.created_at)
    rows = connection.execute(chosen).mappings()
    return tuple(KeyRecord(**{**row, "role": Role(row["role"])}) for row in rows)


def revoke_keys(connection: Connection, ids: Iterable[str], at: float) -> None:
    """Marks keys as revoked; those that are already stay as they are."""
    connection.execute(update(keys).where(keys.c.id.in_(list(ids)), keys.c.revoked_at.is_(None)).values(revoked_at=at))


def save_use(connection: Connection, used: Mapping[str, float]) -> None:
    """Records when keys were last used."""
    for key_id, at in used.items():
        connection.execute(update(keys).where(keys.c.id == key_id).values(last_used_at=at))


def find_answer(connection: Connection, caller: str, key: str, since: float) -> AnswerRecord | None:
    """The answer that this caller got under this key, if it is not older than `since`."""
    table = idempotency
    wanted = (table.c.caller == caller, table.c.key == key, table.c.created_at >= since)
    row = connection.execute(select(table).where(*wanted)).mappings().one_or_none()
    return AnswerRecord(**{**row, "headers": json.loads(row["headers"])}) if row else None


def put_answer(connection: Connection, record: AnswerRecord) -> None:
    """Records an answer, over one that is too old to be given again."""
    table = idempotency
    connection.execute(delete(table).where(table.c.caller == record.caller, table.c.key == record.key))
    connection.execute(insert(table).values(attrs.asdict(record) | {"headers": json.dumps(dict(record.headers))}))


def forget_answers(connection: Connection, before: float) -> None:
    """Drops answers that were given before that moment."""
    connection.execute(delete(idempotency).where(idempotency.c.created_at < before))


def add_audit(connection: Connection, entry: Mapping[str, Any], *, every: int, keep: int, strangers: int) -> None:
    """Writes an entry down; now and then drops what is more than is kept of those who were known, and of strangers."""
    values = {name: value for name, value in entry.items() if name != "seq"}
    row = connection.execute(insert(audit).values(values)).inserted_primary_key
    assert row is not None
    if row[0] % every == 0:
        for kind, most in ((audit.c.who.is_not(None), keep), (audit.c.who.is_(None), strangers)):
            edge = select(audit.c.seq).where(kind).order_by(audit.c.seq.desc()).offset(most).limit(1).scalar_subquery()
            connection.execute(delete(audit).where(kind, audit.c.seq <= edge))


def audit_page(
    connection: Connection, after: int | None, limit: int, person: str | None, target: str | None
) -> list[dict[str, Any]]:
    """Entries behind `after`, or the newest; oldest first."""
    chosen = select(audit)
    if person is not None:
        chosen = chosen.where(audit.c.person == person)
    if target is not None:
        chosen = chosen.where(audit.c.target == target)
    if after is None:
        rows = connection.execute(chosen.order_by(audit.c.seq.desc()).limit(limit)).mappings().all()[::-1]
    else:
        rows = connection.execute(chosen.where(audit.c.seq > after).order_by(audit.c.seq).limit(limit)).mappings().all()
    return [dict(row) for row in rows]
