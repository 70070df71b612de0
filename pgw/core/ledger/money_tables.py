"""Facts of money -> tables: transfers, watches, webhooks, merchant keys, who did what, what must not be."""

from sqlalchemy import CheckConstraint, Column, Identity, Index, Table, Text, UniqueConstraint, text

from pgw.core.ledger.tables import Id, Json, When, Whole, metadata

__all__ = ["audit_log", "merchant_keys", "metadata", "transfers", "violations", "watches", "webhook_deliveries"]

transfers = Table(
    "transfers",
    metadata,
    Column("transfer_id", Id, primary_key=True),
    Column("payment_id", Id, nullable=False),
    Column("attempt_number", Whole, nullable=False),
    Column("kind", Text, nullable=False),
    Column("debit_account", Text, nullable=False),
    Column("credit_account", Text, nullable=False),
    Column("amount_minor", Whole, nullable=False),
    Column("currency", Text, nullable=False),
    Column("booked_at", When, nullable=False),
    UniqueConstraint("payment_id", "attempt_number", "kind"),
    CheckConstraint("amount_minor > 0", name="amount"),
    CheckConstraint("debit_account <> credit_account", name="accounts"),
    CheckConstraint("kind IN ('capture', 'duplicate_capture', 'reversal', 'unmatched', 'resolution')", name="kind"),
    Index(
        "transfers_one_capture_key",
        "payment_id",
        unique=True,
        postgresql_where=text("kind = 'capture'"),
        sqlite_where=text("kind = 'capture'"),
    ),
    Index(
        "transfers_taken_once_key",
        "payment_id",
        "attempt_number",
        unique=True,
        postgresql_where=text("kind IN ('capture', 'duplicate_capture', 'unmatched')"),
        sqlite_where=text("kind IN ('capture', 'duplicate_capture', 'unmatched')"),
    ),
    sqlite_strict=True,
)
"""Double entry, one row a movement: what one account is debited the other is credited, so the sum is zero by form.

Append-only: triggers refuse any UPDATE or DELETE. Accounts: `gateway:<id>`, `merchant:<id>`, `suspense`."""

watches = Table(
    "watches",
    metadata,
    Column("payment_id", Id, primary_key=True),
    Column("attempt_number", Whole, primary_key=True),
    Column("gateway_id", Text, nullable=False),
    Column("state", Text, nullable=False),
    Column("cause", Text, nullable=False),
    Column("until", When, nullable=False),
    Column("next_check_at", When),
    Column("checks_made", Whole, nullable=False),
    Column("reversal_key", Text, nullable=False),
    Column("transaction_ref", Text),
    Column("reversal_ref", Text),
    Column("evidence", Json),
    Column("updated_at", When, nullable=False),
    CheckConstraint("state IN ('WATCHING', 'REVERSING', 'REVERSED', 'OVER', 'MANUAL_REVIEW')", name="state"),
    Index(
        "watches_due_index",
        "next_check_at",
        postgresql_where=text("next_check_at IS NOT NULL"),
        sqlite_where=text("next_check_at IS NOT NULL"),
    ),
    Index(
        "watches_in_hand_index",
        "updated_at",
        postgresql_where=text("state IN ('REVERSING', 'MANUAL_REVIEW')"),
        sqlite_where=text("state IN ('REVERSING', 'MANUAL_REVIEW')"),
    ),
    sqlite_strict=True,
)
"""Attempts that must not capture: money that one of them moves after all goes back, once, under `reversal_key`."""

webhook_deliveries = Table(
    "webhook_deliveries",
    metadata,
    Column("digest", Text, primary_key=True),
    Column("gateway_id", Text, nullable=False),
    Column("event", Text, nullable=False),
    Column("payment_id", Id),
    Column("attempt_number", Whole),
    Column("transaction_ref", Text),
    Column("occurred_at", When, nullable=False),
    Column("received_at", When, nullable=False),
    Column("handled_at", When),
    Index(
        "webhook_deliveries_waiting_index",
        "received_at",
        postgresql_where=text("handled_at IS NULL"),
        sqlite_where=text("handled_at IS NULL"),
    ),
    sqlite_strict=True,
)
"""Each webhook once, by the SHA-256 of its signed body; of the body only what names a payment is kept."""

merchant_keys = Table(
    "merchant_keys",
    metadata,
    Column("key_id", Text, primary_key=True),
    Column("merchant_id", Text, nullable=False),
    Column("place", Whole, nullable=False),
    Column("secret_digest", Text, nullable=False),
    Column("created_at", When, nullable=False),
    Column("created_by", Text, nullable=False),
    Column("revoked_at", When),
    Column("revoked_by", Text),
    CheckConstraint("place IN (1, 2)", name="place"),
    Index(None, "merchant_id"),
    Index(
        "merchant_keys_live_key",
        "merchant_id",
        "place",
        unique=True,
        postgresql_where=text("revoked_at IS NULL"),
        sqlite_where=text("revoked_at IS NULL"),
    ),
    sqlite_strict=True,
)
"""Keys of merchants; of a key only a digest is kept. A live key has one of its merchant's two places."""

audit_log = Table(
    "audit_log",
    metadata,
    Column("position", Whole, Identity(always=True), primary_key=True),
    Column("entry_id", Id, nullable=False, unique=True),
    Column("at", When, nullable=False),
    Column("actor", Text, nullable=False),
    Column("action", Text, nullable=False),
    Column("subject", Text, nullable=False),
    Column("reason", Text, nullable=False),
    Column("details", Json),
    Index(None, "subject"),
    sqlite_strict=True,
    sqlite_autoincrement=True,
)
"""What people did beside configuring, which is a log itself: resolved payments, made and revoked keys. Append-only."""

violations = Table(
    "violations",
    metadata,
    Column("digest", Text, primary_key=True),
    Column("invariant", Text, nullable=False),
    Column("payment_id", Id),
    Column("minute", When),
    Column("what", Text, nullable=False),
    Column("seen_in", Text, nullable=False),
    Column("found_at", When, nullable=False),
    Column("times_found", Whole, nullable=False),
    Column("cleared_at", When),
    CheckConstraint("seen_in IN ('rows', 'events', 'metrics')", name="seen_in"),
    Index(
        "violations_open_index",
        "digest",
        postgresql_where=text("cleared_at IS NULL"),
        sqlite_where=text("cleared_at IS NULL"),
    ),
    sqlite_strict=True,
)
"""What the continuous check has found, each thing once, by the SHA-256 of what it is; open while `cleared_at` is null.

Rows are never removed. `minute` is set where a minute of the metrics is wrong, and no payment of its own."""
