"""The first schema: payments, attempts, decisions, checks, outbox, configuration, identity."""

import sqlalchemy as sa
from alembic import op

from pgw.core.ledger.engine.columns import Id, Json, When, Whole

revision = "0001"
down_revision = None


def upgrade() -> None:
    op.create_table(
        "configurations",
        sa.Column("version", Whole, autoincrement=False, nullable=False),
        sa.Column("subject", sa.Text(), nullable=False),
        sa.Column("document", Json(), nullable=False),
        sa.Column("actor", sa.Text(), nullable=False),
        sa.Column("reason", sa.Text(), nullable=False),
        sa.Column("changed_at", When(), nullable=False),
        sa.PrimaryKeyConstraint("version", name=op.f("configurations_pk")),
        sqlite_strict=True,
    )
    op.create_index(
        op.f("configurations_subject_version_index"), "configurations", ["subject", "version"], unique=False
    )
    op.create_table(
        "ledger_identity",
        sa.Column("ledger_id", Id, nullable=False),
        sa.Column("created_at", When(), nullable=False),
        sa.PrimaryKeyConstraint("ledger_id", name=op.f("ledger_identity_pk")),
        sqlite_strict=True,
    )
    op.create_table(
        "outbox",
        sa.Column("position", Whole, sa.Identity(always=True), nullable=False),
        sa.Column("event", Json(), nullable=False),
        sa.PrimaryKeyConstraint("position", name=op.f("outbox_pk")),
        sqlite_autoincrement=True,
        sqlite_strict=True,
    )
    op.create_table(
        "payments",
        sa.Column("payment_id", Id, nullable=False),
        sa.Column("merchant_id", sa.Text(), nullable=False),
        sa.Column("idempotency_key", sa.Text(), nullable=False),
        sa.Column("request_digest", sa.Text(), nullable=False),
        sa.Column("customer_id", sa.Text(), nullable=False),
        sa.Column("merchant_reference", sa.Text(), nullable=True),
        sa.Column("status", sa.Text(), nullable=False),
        sa.Column("amount_minor", Whole, nullable=False),
        sa.Column("currency", sa.Text(), nullable=False),
        sa.Column("payment_method", sa.Text(), nullable=False),
        sa.Column("issuing_bank", sa.Text(), nullable=False),
        sa.Column("size_band", sa.Text(), nullable=False),
        sa.Column("instrument", sa.Text(), nullable=False),
        sa.Column("gateway_used", sa.Text(), nullable=True),
        sa.Column("transaction_ref", sa.Text(), nullable=True),
        sa.Column("routing_strategy", sa.Text(), nullable=False),
        sa.Column("routing_reason", sa.Text(), nullable=False),
        sa.Column("failure_code", sa.Text(), nullable=True),
        sa.Column("attempts_made", Whole, nullable=False),
        sa.Column("winner_attempt", Whole, nullable=True),
        sa.Column("latency_ms", Whole, nullable=True),
        sa.Column("experiment_id", Id, nullable=True),
        sa.Column("variant", sa.Text(), nullable=True),
        sa.Column("next_action", Json(), nullable=True),
        sa.Column("metadata", Json(), nullable=False),
        sa.Column("created_at", When(), nullable=False),
        sa.Column("updated_at", When(), nullable=False),
        sa.Column("version", Whole, nullable=False),
        sa.CheckConstraint(
            "status IN ('PROCESSING', 'REQUIRES_ACTION', 'PENDING_VERIFICATION', 'MANUAL_REVIEW', "
            "'SUCCESS', 'FAILURE')",
            name=op.f("payments_status_check"),
        ),
        sa.CheckConstraint("amount_minor > 0", name=op.f("payments_amount_check")),
        sa.PrimaryKeyConstraint("payment_id", name=op.f("payments_pk")),
        sa.UniqueConstraint("merchant_id", "idempotency_key", name=op.f("payments_merchant_id_idempotency_key_key")),
        sqlite_strict=True,
    )
    op.create_index(op.f("payments_customer_id_index"), "payments", ["customer_id"], unique=False)
    op.create_index(
        op.f("payments_merchant_id_payment_id_index"), "payments", ["merchant_id", "payment_id"], unique=False
    )
    op.create_index(
        op.f("payments_merchant_reference_index"),
        "payments",
        ["merchant_reference"],
        unique=False,
        postgresql_where=sa.text("merchant_reference IS NOT NULL"),
        sqlite_where=sa.text("merchant_reference IS NOT NULL"),
    )
    op.create_table(
        "attempts",
        sa.Column("payment_id", Id, nullable=False),
        sa.Column("attempt_number", Whole, nullable=False),
        sa.Column("gateway_id", sa.Text(), nullable=False),
        sa.Column("status", sa.Text(), nullable=False),
        sa.Column("error_code", sa.Text(), nullable=True),
        sa.Column("blame", sa.Text(), nullable=True),
        sa.Column("latency_ms", Whole, nullable=True),
        sa.Column("circuit_breaker_state", sa.Text(), nullable=False),
        sa.Column("fallback_reason", sa.Text(), nullable=True),
        sa.Column("transaction_ref", sa.Text(), nullable=True),
        sa.Column("started_at", When(), nullable=False),
        sa.Column("ended_at", When(), nullable=True),
        sa.Column("next_check_at", When(), nullable=True),
        sa.Column("checks_made", Whole, nullable=False),
        sa.CheckConstraint(
            "status IN ('SENDING', 'SUCCESS', 'FAILURE', 'TIMEOUT', 'REQUIRES_ACTION', 'SKIPPED', 'REVERSED')",
            name=op.f("attempts_status_check"),
        ),
        sa.PrimaryKeyConstraint("payment_id", "attempt_number", name=op.f("attempts_pk")),
        sqlite_strict=True,
    )
    op.create_index(
        "attempts_due_index",
        "attempts",
        ["next_check_at"],
        unique=False,
        postgresql_where=sa.text("next_check_at IS NOT NULL"),
        sqlite_where=sa.text("next_check_at IS NOT NULL"),
    )
    op.create_index(
        op.f("attempts_transaction_ref_index"),
        "attempts",
        ["transaction_ref"],
        unique=False,
        postgresql_where=sa.text("transaction_ref IS NOT NULL"),
        sqlite_where=sa.text("transaction_ref IS NOT NULL"),
    )
    op.create_table(
        "routing_decisions",
        sa.Column("payment_id", Id, nullable=False),
        sa.Column("decided_at", When(), nullable=False),
        sa.Column("plan", Json(), nullable=False),
        sa.PrimaryKeyConstraint("payment_id", name=op.f("routing_decisions_pk")),
        sqlite_strict=True,
    )
    op.create_table(
        "verification_checks",
        sa.Column("payment_id", Id, nullable=False),
        sa.Column("attempt_number", Whole, nullable=False),
        sa.Column("check_number", Whole, nullable=False),
        sa.Column("checked_at", When(), nullable=False),
        sa.Column("result", sa.Text(), nullable=False),
        sa.Column("error_code", sa.Text(), nullable=True),
        sa.PrimaryKeyConstraint("payment_id", "attempt_number", "check_number", name=op.f("verification_checks_pk")),
        sqlite_strict=True,
    )
