"""Keys and remembered answers in the store."""

import json
from collections.abc import Iterable, Mapping

import attrs
from sqlalchemy import (
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
