"""Violations of the invariants, as the continuous check finds and clears them."""

import sqlalchemy as sa
from alembic import op

from pgw.core.ledger.engine.columns import Id, When, Whole

revision = "0004"
down_revision = "0003"


def upgrade() -> None:
    op.create_table(
        "violations",
        sa.Column("digest", sa.Text(), nullable=False),
        sa.Column("invariant", sa.Text(), nullable=False),
        sa.Column("payment_id", Id, nullable=True),
        sa.Column("minute", When(), nullable=True),
        sa.Column("what", sa.Text(), nullable=False),
        sa.Column("seen_in", sa.Text(), nullable=False),
        sa.Column("found_at", When(), nullable=False),
        sa.Column("times_found", Whole, nullable=False),
        sa.Column("cleared_at", When(), nullable=True),
        sa.CheckConstraint("seen_in IN ('rows', 'events', 'metrics')", name=op.f("violations_seen_in_check")),
        sa.PrimaryKeyConstraint("digest", name=op.f("violations_pk")),
        sqlite_strict=True,
    )
    op.create_index(
        "violations_open_index",
        "violations",
        ["digest"],
        unique=False,
        postgresql_where=sa.text("cleared_at IS NULL"),
        sqlite_where=sa.text("cleared_at IS NULL"),
    )
