"""Facts -> tables: what the ledger keeps, in types that PostgreSQL and SQLite (STRICT) both hold exactly."""

from sqlalchemy import CheckConstraint, Column, Identity, Index, Table, Text, UniqueConstraint, text

from pgw.core.ledger.engine.columns import Id, Json, When, Whole, metadata
from pgw.core.payment.payment import AttemptStatus, Status

# No foreign keys: rows of the other tables are only ever written for keys that their phase's guard has just won in the
# same commit, and checking what cannot fail costs an eighth of every payment.


def _one_of(column: str, words: type[Status | AttemptStatus]) -> CheckConstraint:
    return CheckConstraint(f"{column} IN ({', '.join(repr(str(word)) for word in words)})", name=column)


payments = Table(
    "payments",
    metadata,
    Column("payment_id", Id, primary_key=True),
    Column("merchant_id", Text, nullable=False),
    Column("idempotency_key", Text, nullable=False),
    Column("request_digest", Text, nullable=False),
    Column("customer_id", Text, nullable=False),
    Column("merchant_reference", Text),
    Column("status", Text, nullable=False),
    Column("amount_minor", Whole, nullable=False),
    Column("currency", Text, nullable=False),
    Column("payment_method", Text, nullable=False),
    Column("issuing_bank", Text, nullable=False),
    Column("size_band", Text, nullable=False),
    Column("instrument", Text, nullable=False),
    Column("gateway_used", Text),
    Column("transaction_ref", Text),
    Column("routing_strategy", Text, nullable=False),
    Column("routing_reason", Text, nullable=False),
    Column("failure_code", Text),
    Column("attempts_made", Whole, nullable=False),
    Column("winner_attempt", Whole),
    Column("latency_ms", Whole),
    Column("experiment_id", Id),
    Column("variant", Text),
    Column("next_action", Json),
    Column("metadata", Json, nullable=False),
    Column("created_at", When, nullable=False),
    Column("updated_at", When, nullable=False),
    Column("version", Whole, nullable=False),
    Column("review_since", When),
    UniqueConstraint("merchant_id", "idempotency_key"),
    CheckConstraint("amount_minor > 0", name="amount"),
    _one_of("status", Status),
    Index(None, "merchant_id", "payment_id"),
    Index(None, "customer_id"),
    Index(
        None,
        "merchant_reference",
        postgresql_where=text("merchant_reference IS NOT NULL"),
        sqlite_where=text("merchant_reference IS NOT NULL"),
    ),
    Index(
        "payments_in_review_index",
        "payment_id",
        postgresql_where=text("review_since IS NOT NULL"),
        sqlite_where=text("review_since IS NOT NULL"),
    ),
    sqlite_strict=True,
)
"""One row a payment; the unique (merchant_id, idempotency_key) is what makes a key mean one payment.

`winner_attempt` is the one attempt whose authorisation pgw captures; it is set before the capture, and never again.
`review_since` is set during manual review: an index by status would be written at every change of a payment."""

attempts = Table(
    "attempts",
    metadata,
    Column("payment_id", Id, primary_key=True),
    Column("attempt_number", Whole, primary_key=True),
    Column("gateway_id", Text, nullable=False),
    Column("status", Text, nullable=False),
    Column("error_code", Text),
    Column("blame", Text),
    Column("latency_ms", Whole),
    Column("circuit_breaker_state", Text, nullable=False),
    Column("fallback_reason", Text),
    Column("transaction_ref", Text),
    Column("started_at", When, nullable=False),
    Column("ended_at", When),
    Column("next_check_at", When),
    Column("checks_made", Whole, nullable=False),
    Column("claimed_until", When),
    _one_of("status", AttemptStatus),
    Index(
        "attempts_due_index",
        "next_check_at",
        postgresql_where=text("next_check_at IS NOT NULL"),
        sqlite_where=text("next_check_at IS NOT NULL"),
    ),
    Index(
        None,
        "transaction_ref",
        postgresql_where=text("transaction_ref IS NOT NULL"),
        sqlite_where=text("transaction_ref IS NOT NULL"),
    ),
    sqlite_strict=True,
)
"""One row for each announced call. `next_check_at` is when a verifier may ask: while SENDING, the end of the lease.

While `claimed_until` equals it, one verifier is at work: the next check may not be brought forward."""

routing_decisions = Table(
    "routing_decisions",
    metadata,
    Column("payment_id", Id, primary_key=True),
    Column("decided_at", When, nullable=False),
    Column("plan", Json, nullable=False),
    sqlite_strict=True,
)
"""The plan of each payment, with every input it used."""

verification_checks = Table(
    "verification_checks",
    metadata,
    Column("payment_id", Id, primary_key=True),
    Column("attempt_number", Whole, primary_key=True),
    Column("check_number", Whole, primary_key=True),
    Column("checked_at", When, nullable=False),
    Column("result", Text, nullable=False),
    Column("error_code", Text),
    sqlite_strict=True,
)
"""Every enquiry about an attempt, and what it found."""

outbox = Table(
    "outbox",
    metadata,
    Column("position", Whole, Identity(always=True), primary_key=True),
    Column("event", Json, nullable=False),
    Column("published", Whole),
    Column("dead_reason", Text),
    Index("outbox_published_key", "published", unique=True),
    Index(
        "outbox_waiting_index",
        "position",
        postgresql_where=text("published IS NULL"),
        sqlite_where=text("published IS NULL"),
    ),
    Index(
        "outbox_dead_index",
        "position",
        postgresql_where=text("dead_reason IS NOT NULL"),
        sqlite_where=text("dead_reason IS NOT NULL"),
    ),
    sqlite_strict=True,
    sqlite_autoincrement=True,
)
"""Events, written in the commit that makes them true. Positions are given before commits end, so they are no order to
read by: `published` is, 1, 2, 3 without a gap, given by the one relay. `dead_reason`: no consumer could apply it."""

breaker_events = Table(
    "breaker_events",
    metadata,
    Column("event_id", Id, primary_key=True),
    Column("gateway_id", Text, nullable=False),
    Column("payment_method", Text, nullable=False),
    Column("scope", Text, nullable=False),
    Column("process", Text, nullable=False),
    Column("was", Text, nullable=False),
    Column("state", Text, nullable=False),
    Column("epoch", Whole, nullable=False),
    Column("cause", Text, nullable=False),
    Column("breaker", Json, nullable=False),
    Column("occurred_at", When, nullable=False),
    Index(None, "occurred_at"),
    Index(None, "gateway_id", "payment_method", "occurred_at"),
    CheckConstraint("scope IN ('shared', 'process')", name="scope"),
    sqlite_strict=True,
)
"""Every transition of a breaker. `breaker` is its whole value after it: what a lost hot state is restored from."""

gateway_metrics = Table(
    "gateway_metrics",
    metadata,
    Column("gateway_id", Text, primary_key=True),
    Column("payment_method", Text, primary_key=True),
    Column("issuing_bank", Text, primary_key=True),
    Column("minute", When, primary_key=True),
    Column("attempts", Whole, nullable=False),
    Column("successes", Whole, nullable=False),
    Column("failures", Whole, nullable=False),
    Column("unknown", Whole, nullable=False),
    Column("pending", Whole, nullable=False),
    Column("p50_ms", Whole),
    Column("p95_ms", Whole),
    Column("p99_ms", Whole),
    Column("counts", Json, nullable=False),
    Index(None, "minute"),
    sqlite_strict=True,
)
"""One row for each minute of a (gateway, method, bank); `counts` holds every counter, latency buckets included."""

configurations = Table(
    "configurations",
    metadata,
    Column("version", Whole, primary_key=True, autoincrement=False),
    Column("subject", Text, nullable=False),
    Column("document", Json, nullable=False),
    Column("actor", Text, nullable=False),
    Column("reason", Text, nullable=False),
    Column("changed_at", When, nullable=False),
    Index(None, "subject", "version"),
    sqlite_strict=True,
)
"""All configuration as one append-only log: the newest row of a subject holds, and versions have no gap."""

ledger_identity = Table(
    "ledger_identity",
    metadata,
    Column("ledger_id", Id, primary_key=True),
    Column("created_at", When, nullable=False),
    sqlite_strict=True,
)
"""One row: which ledger this is."""

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
"""Attempts that must not capture: money that one of them moves after all is reversed, once, under `reversal_key`."""

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
