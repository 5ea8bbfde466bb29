"""The event log. Numbers that were reserved by the way before it count as given: they stand as a hole at its beginning."""

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"

_RESERVED = "events_reserved_upto"


def upgrade() -> None:
    """Makes the table, and takes the numbering over."""
    events = op.create_table(
        "events",
        sa.Column("seq", sa.Integer, nullable=False),
        sa.Column("first", sa.Integer, nullable=False),
        sa.Column("at", sa.Float, nullable=False),
        sa.Column("kind", sa.Text, nullable=False),
        sa.Column("colony", sa.Text, nullable=True),
        sa.Column("colony_id", sa.Text, nullable=True),
        sa.Column("owner", sa.Text, nullable=True),
        sa.Column("service", sa.Text, nullable=True),
        sa.Column("text", sa.Text, nullable=False),
        sa.PrimaryKeyConstraint("seq", name="pk_events"),
    )
    meta = sa.table("meta", sa.column("key"), sa.column("value"))
    connection = op.get_bind()
    told = connection.scalar(sa.select(meta.c.value).where(meta.c.key == _RESERVED))
    if told and int(told):
        last = int(told)
        text = f'{{"seq":{last},"type":"missed","first":1,"last":{last}}}'
        connection.execute(
            sa.insert(events).values(seq=last, first=1, at=0.0, kind="missed", text=text),
        )
    connection.execute(sa.delete(meta).where(meta.c.key == _RESERVED))
