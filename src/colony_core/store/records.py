"""The list that every room's tables join, and the store's own table: small facts of the house by name."""

from sqlalchemy import Column, Connection, MetaData, Table, Text, insert, select, update

metadata = MetaData(
    naming_convention={
        "ix": "ix_%(table_name)s_%(column_0_N_name)s",
        "uq": "uq_%(table_name)s_%(column_0_N_name)s",
        "ck": "ck_%(table_name)s_%(constraint_name)s",
        "fk": "fk_%(table_name)s_%(column_0_N_name)s_%(referred_table_name)s",
        "pk": "pk_%(table_name)s",
    }
)
"""Every table of the house; a room's `records.py` adds its own, `migrations/` makes them."""

meta = Table("meta", metadata, Column("key", Text, primary_key=True), Column("value", Text, nullable=False))


def get_meta(connection: Connection, key: str) -> str | None:
    """The fact recorded under `key`."""
    value: str | None = connection.scalar(select(meta.c.value).where(meta.c.key == key))
    return value


def put_meta(connection: Connection, key: str, value: str) -> None:
    """Records a fact, over the one before."""
    if not connection.execute(update(meta).where(meta.c.key == key).values(value=value)).rowcount:
        connection.execute(insert(meta).values(key=key, value=value))
