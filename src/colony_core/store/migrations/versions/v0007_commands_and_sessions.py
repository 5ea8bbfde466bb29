"""Which command a write ran, and by which key a browser's session was opened."""

import sqlalchemy as sa
from alembic import op

revision = "0007"
down_revision = "0006"


def upgrade() -> None:
    """Adds the columns."""
    op.add_column("audit", sa.Column("command", sa.Text, nullable=True))
    op.add_column("keys", sa.Column("parent", sa.Text, nullable=True))
