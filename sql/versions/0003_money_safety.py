"""Money safety: movements in double entry, watches, webhooks, merchant keys, an audit log."""

import sqlalchemy as sa
from alembic import op

from pgw.core.ledger.engine.columns import Id, Json, When, Whole

revision = "0003"
down_revision = "0002"

APPEND_ONLY = ("transfers", "audit_log")


def upgrade() -> None:
    _transfers()
    _watches()
    _reviews()
    _webhooks()
    _keys()
    _audit()
    for table in APPEND_ONLY:
        _forbid_changes(table)


def _transfers() -> None:
    op.create_table(
        "transfers",
        sa.Column("transfer_id", Id, nullable=False),
        sa.Column("payment_id", Id, nullable=False),
        sa.Column("attempt_number", Whole, nullable=False),
        sa.Column("kind", sa.Text(), nullable=False),
        sa.Column("debit_account", sa.Text(), nullable=False),
        sa.Column("credit_account", sa.Text(), nullable=False),
        sa.Column("amount_minor", Whole, nullable=False),
        sa.Column("currency", sa.Text(), nullable=False),
        sa.Column("booked_at", When(), nullable=False),
        sa.CheckConstraint("amount_minor > 0", name=op.f("transfers_amount_check")),
        sa.CheckConstraint("debit_account <> credit_account", name=op.f("transfers_accounts_check")),
        sa.CheckConstraint(
            "kind IN ('capture', 'duplicate_capture', 'reversal', 'unmatched', 'resolution')",
            name=op.f("transfers_kind_check"),
        ),
        sa.PrimaryKeyConstraint("transfer_id", name=op.f("transfers_pk")),
        sa.UniqueConstraint(
            "payment_id", "attempt_number", "kind", name=op.f("transfers_payment_id_attempt_number_kind_key")
        ),
        sqlite_strict=True,
    )
    op.create_index(
        "transfers_one_capture_key",
        "transfers",
        ["payment_id"],
        unique=True,
        postgresql_where=sa.text("kind = 'capture'"),
        sqlite_where=sa.text("kind = 'capture'"),
    )


def _watches() -> None:
    op.create_table(
        "watches",
        sa.Column("payment_id", Id, nullable=False),
        sa.Column("attempt_number", Whole, nullable=False),
        sa.Column("gateway_id", sa.Text(), nullable=False),
        sa.Column("state", sa.Text(), nullable=False),
        sa.Column("cause", sa.Text(), nullable=False),
        sa.Column("until", When(), nullable=False),
        sa.Column("next_check_at", When(), nullable=True),
        sa.Column("checks_made", Whole, nullable=False),
        sa.Column("reversal_key", sa.Text(), nullable=False),
        sa.Column("transaction_ref", sa.Text(), nullable=True),
        sa.Column("reversal_ref", sa.Text(), nullable=True),
        sa.Column("evidence", Json(), nullable=True),
        sa.Column("updated_at", When(), nullable=False),
        sa.CheckConstraint(
            "state IN ('WATCHING', 'REVERSING', 'REVERSED', 'OVER', 'MANUAL_REVIEW')", name=op.f("watches_state_check")
        ),
        sa.PrimaryKeyConstraint("payment_id", "attempt_number", name=op.f("watches_pk")),
        sqlite_strict=True,
    )
    op.create_index(
        "watches_due_index",
        "watches",
        ["next_check_at"],
        unique=False,
        postgresql_where=sa.text("next_check_at IS NOT NULL"),
        sqlite_where=sa.text("next_check_at IS NOT NULL"),
    )
    op.create_index(
        "watches_in_hand_index",
        "watches",
        ["updated_at"],
        unique=False,
        postgresql_where=sa.text("state IN ('REVERSING', 'MANUAL_REVIEW')"),
        sqlite_where=sa.text("state IN ('REVERSING', 'MANUAL_REVIEW')"),
    )


def _reviews() -> None:
    op.add_column("payments", sa.Column("review_since", When(), nullable=True))
    op.create_index(
        "payments_in_review_index",
        "payments",
        ["payment_id"],
        unique=False,
        postgresql_where=sa.text("review_since IS NOT NULL"),
        sqlite_where=sa.text("review_since IS NOT NULL"),
    )
    # Those that wait already: since when is not known, but that they have waited since then is.
    op.execute("UPDATE payments SET review_since = updated_at WHERE status = 'MANUAL_REVIEW'")


def _webhooks() -> None:
    op.add_column("attempts", sa.Column("claimed_until", When(), nullable=True))
    op.create_table(
        "webhook_deliveries",
        sa.Column("digest", sa.Text(), nullable=False),
        sa.Column("gateway_id", sa.Text(), nullable=False),
        sa.Column("event", sa.Text(), nullable=False),
        sa.Column("payment_id", Id, nullable=True),
        sa.Column("attempt_number", Whole, nullable=True),
        sa.Column("transaction_ref", sa.Text(), nullable=True),
        sa.Column("occurred_at", When(), nullable=False),
        sa.Column("received_at", When(), nullable=False),
        sa.Column("handled_at", When(), nullable=True),
        sa.PrimaryKeyConstraint("digest", name=op.f("webhook_deliveries_pk")),
        sqlite_strict=True,
    )
    op.create_index(
        "webhook_deliveries_waiting_index",
        "webhook_deliveries",
        ["received_at"],
        unique=False,
        postgresql_where=sa.text("handled_at IS NULL"),
        sqlite_where=sa.text("handled_at IS NULL"),
    )


def _keys() -> None:
    op.create_table(
        "merchant_keys",
        sa.Column("key_id", sa.Text(), nullable=False),
        sa.Column("merchant_id", sa.Text(), nullable=False),
        sa.Column("place", Whole, nullable=False),
        sa.Column("secret_digest", sa.Text(), nullable=False),
        sa.Column("created_at", When(), nullable=False),
        sa.Column("created_by", sa.Text(), nullable=False),
        sa.Column("revoked_at", When(), nullable=True),
        sa.Column("revoked_by", sa.Text(), nullable=True),
        sa.CheckConstraint("place IN (1, 2)", name=op.f("merchant_keys_place_check")),
        sa.PrimaryKeyConstraint("key_id", name=op.f("merchant_keys_pk")),
        sqlite_strict=True,
    )
    op.create_index(
        "merchant_keys_live_key",
        "merchant_keys",
        ["merchant_id", "place"],
        unique=True,
        postgresql_where=sa.text("revoked_at IS NULL"),
        sqlite_where=sa.text("revoked_at IS NULL"),
    )
    op.create_index(op.f("merchant_keys_merchant_id_index"), "merchant_keys", ["merchant_id"], unique=False)


def _audit() -> None:
    op.create_table(
        "audit_log",
        sa.Column("position", Whole, sa.Identity(always=True), nullable=False),
        sa.Column("entry_id", Id, nullable=False),
        sa.Column("at", When(), nullable=False),
        sa.Column("actor", sa.Text(), nullable=False),
        sa.Column("action", sa.Text(), nullable=False),
        sa.Column("subject", sa.Text(), nullable=False),
        sa.Column("reason", sa.Text(), nullable=False),
        sa.Column("details", Json(), nullable=True),
        sa.PrimaryKeyConstraint("position", name=op.f("audit_log_pk")),
        sa.UniqueConstraint("entry_id", name=op.f("audit_log_entry_id_key")),
        sqlite_autoincrement=True,
        sqlite_strict=True,
    )
    op.create_index(op.f("audit_log_subject_index"), "audit_log", ["subject"], unique=False)


def _forbid_changes(table: str) -> None:
    """Refuse to change or remove a row, whoever asks: a mistake is put right by another row."""
    if op.get_bind().dialect.name == "sqlite":
        for verb in ("UPDATE", "DELETE"):
            op.execute(
                f"CREATE TRIGGER {table}_no_{verb.lower()} BEFORE {verb} ON {table} "
                f"BEGIN SELECT RAISE(ABORT, '{table} is append-only'); END"
            )
        return
    op.execute(
        f"CREATE FUNCTION {table}_is_append_only() RETURNS trigger LANGUAGE plpgsql AS "
        f"$$ BEGIN RAISE EXCEPTION '{table} is append-only'; END $$"
    )
    op.execute(
        f"CREATE TRIGGER {table}_append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON {table} "
        f"FOR EACH STATEMENT EXECUTE FUNCTION {table}_is_append_only()"
    )
