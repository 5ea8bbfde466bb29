"""What agents do, ask and use."""

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"


def upgrade() -> None:
    """Makes the tables."""
    op.create_table(
        "sessions",
        sa.Column("colony_id", sa.Text, nullable=False),
        sa.Column("state", sa.Text, nullable=False),
        sa.Column("reason", sa.Text, nullable=False),
        sa.Column("since", sa.Float, nullable=False),
        sa.Column("instruction", sa.Text, nullable=False),
        sa.Column("settings", sa.Text, nullable=False),
        sa.Column("backend", sa.Text, nullable=False),
        sa.Column("vendor_session", sa.Text, nullable=True),
        sa.Column("model", sa.Text, nullable=False),
        sa.Column("result", sa.Text, nullable=False),
        sa.Column("code", sa.Text, nullable=False),
        sa.Column("evidence", sa.Text, nullable=False),
        sa.Column("fresh", sa.Integer, nullable=False),
        sa.PrimaryKeyConstraint("colony_id", name="pk_sessions"),
    )
    op.create_table(
        "agent_feed",
        sa.Column("seq", sa.Integer, nullable=False),
        sa.Column("colony_id", sa.Text, nullable=False),
        sa.Column("at", sa.Float, nullable=False),
        sa.Column("kind", sa.Text, nullable=False),
        sa.Column("content", sa.Text, nullable=False),
        sa.Column("data", sa.Text, nullable=False),
        sa.PrimaryKeyConstraint("seq", name="pk_agent_feed"),
    )
    op.create_index("ix_agent_feed_colony", "agent_feed", ["colony_id", "seq"])
    op.create_table(
        "approvals",
        sa.Column("id", sa.Text, nullable=False),
        sa.Column("colony_id", sa.Text, nullable=False),
        sa.Column("vendor_id", sa.Text, nullable=False),
        sa.Column("tool", sa.Text, nullable=False),
        sa.Column("kind", sa.Text, nullable=False),
        sa.Column("summary", sa.Text, nullable=False),
        sa.Column("input", sa.Text, nullable=False),
        sa.Column("asked_at", sa.Float, nullable=False),
        sa.Column("decision", sa.Text, nullable=True),
        sa.Column("decided_at", sa.Float, nullable=True),
        sa.Column("decided_by", sa.Text, nullable=True),
        sa.Column("message", sa.Text, nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_approvals"),
    )
    op.create_index("ix_approvals_colony", "approvals", ["colony_id", "asked_at"])
    op.create_table(
        "agent_spendings",
        sa.Column("id", sa.Text, nullable=False),
        sa.Column("colony_id", sa.Text, nullable=False),
        sa.Column("at", sa.Float, nullable=False),
        sa.Column("usd", sa.Float, nullable=False),
        sa.Column("tokens", sa.Integer, nullable=False),
        sa.Column("turns", sa.Integer, nullable=False),
        sa.Column("minutes", sa.Float, nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_agent_spendings"),
    )
    op.create_index("ix_agent_spendings_colony", "agent_spendings", ["colony_id"])
    op.create_index("ix_agent_spendings_at", "agent_spendings", ["at"])
    op.create_table(
        "agent_pauses",
        sa.Column("account", sa.Text, nullable=False),
        sa.Column("until", sa.Float, nullable=False),
        sa.Column("text", sa.Text, nullable=False),
        sa.PrimaryKeyConstraint("account", name="pk_agent_pauses"),
    )
