"""How long an agent's instruction was worked at."""

import sqlalchemy as sa
from alembic import op

revision = "0008"
down_revision = "0007"


def upgrade() -> None:
    """Adds the column."""
    op.add_column("sessions", sa.Column("worked", sa.Float, nullable=False, server_default="0"))
