"""The way back from facts to decisions: order of publication, breaker transitions, metrics by the minute."""

import sqlalchemy as sa
from alembic import op

from pgw.core.ledger.engine.columns import Id, Json, When, Whole

revision = "0002"
down_revision = "0001"


# Numbering an event leaves its old row behind, and a relay passes over those until a vacuum takes them: every so many
# rows, however long the outbox is. By default it waits for a fifth of the table, which is longer each time.
VACUUM_OFTEN = "ALTER TABLE outbox SET (autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 50000)"


def upgrade() -> None:
    op.add_column("outbox", sa.Column("published", Whole, nullable=True))
    op.add_column("outbox", sa.Column("dead_reason", sa.Text(), nullable=True))
    if op.get_bind().dialect.name == "postgresql":
        op.execute(VACUUM_OFTEN)
    op.create_index("outbox_published_key", "outbox", ["published"], unique=True)
    for name, condition in (("waiting", "published IS NULL"), ("dead", "dead_reason IS NOT NULL")):
        op.create_index(
            f"outbox_{name}_index",
            "outbox",
            ["position"],
            unique=False,
            postgresql_where=sa.text(condition),
            sqlite_where=sa.text(condition),
        )
    op.create_table(
        "breaker_events",
        sa.Column("event_id", Id, nullable=False),
        sa.Column("gateway_id", sa.Text(), nullable=False),
        sa.Column("payment_method", sa.Text(), nullable=False),
        sa.Column("scope", sa.Text(), nullable=False),
        sa.Column("process", sa.Text(), nullable=False),
        sa.Column("was", sa.Text(), nullable=False),
        sa.Column("state", sa.Text(), nullable=False),
        sa.Column("epoch", Whole, nullable=False),
        sa.Column("cause", sa.Text(), nullable=False),
        sa.Column("breaker", Json(), nullable=False),
        sa.Column("occurred_at", When(), nullable=False),
        sa.CheckConstraint("scope IN ('shared', 'process')", name=op.f("breaker_events_scope_check")),
        sa.PrimaryKeyConstraint("event_id", name=op.f("breaker_events_pk")),
        sqlite_strict=True,
    )
    op.create_index(op.f("breaker_events_occurred_at_index"), "breaker_events", ["occurred_at"], unique=False)
    op.create_index(
        op.f("breaker_events_gateway_id_payment_method_occurred_at_index"),
        "breaker_events",
        ["gateway_id", "payment_method", "occurred_at"],
        unique=False,
    )
    op.create_table(
        "gateway_metrics",
        sa.Column("gateway_id", sa.Text(), nullable=False),
        sa.Column("payment_method", sa.Text(), nullable=False),
        sa.Column("issuing_bank", sa.Text(), nullable=False),
        sa.Column("minute", When(), nullable=False),
        sa.Column("attempts", Whole, nullable=False),
        sa.Column("successes", Whole, nullable=False),
        sa.Column("failures", Whole, nullable=False),
        sa.Column("unknown", Whole, nullable=False),
        sa.Column("pending", Whole, nullable=False),
        sa.Column("p50_ms", Whole, nullable=True),
        sa.Column("p95_ms", Whole, nullable=True),
        sa.Column("p99_ms", Whole, nullable=True),
        sa.Column("counts", Json(), nullable=False),
        sa.PrimaryKeyConstraint(
            "gateway_id", "payment_method", "issuing_bank", "minute", name=op.f("gateway_metrics_pk")
        ),
        sqlite_strict=True,
    )
    op.create_index(op.f("gateway_metrics_minute_index"), "gateway_metrics", ["minute"], unique=False)
