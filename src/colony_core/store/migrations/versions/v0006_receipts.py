"""What checks have shown of an agent's work."""

import sqlalchemy as sa
from alembic import op

revision = "0006"
down_revision = "0005"


def upgrade() -> None:
    """Adds the column."""
    op.add_column("sessions", sa.Column("receipt", sa.Text, nullable=True))
