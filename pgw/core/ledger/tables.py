"""Facts -> tables: what the ledger keeps, in types that PostgreSQL and SQLite (STRICT) both hold exactly."""

from datetime import UTC, datetime
from typing import Any

import msgspec
from sqlalchemy import (
    BigInteger,
    CheckConstraint,
    Column,
    Dialect,
    Identity,
    Index,
    Integer,
    MetaData,
    Table,
    Text,
    UniqueConstraint,
    text,
)
from sqlalchemy.dialects.postgresql import JSON, TIMESTAMP, UUID
from sqlalchemy.types import TypeDecorator, TypeEngine

from pgw.core.payment.payment import AttemptStatus, Status


class When(TypeDecorator[datetime]):
    """A moment in UTC. SQLite keeps text of one fixed width, so that order by text is order in time."""

    impl = Text
    cache_ok = True

    def load_dialect_impl(self, dialect: Dialect) -> TypeEngine[Any]:
        """TIMESTAMPTZ where it exists."""
        return TIMESTAMP(timezone=True) if dialect.name == "postgresql" else Text()

    def process_bind_param(self, value: datetime | None, dialect: Dialect) -> Any:
        """Write a moment."""
        return value if value is None or dialect.name == "postgresql" else stamp(value)

    def process_result_value(self, value: Any, dialect: Dialect) -> datetime | None:
        """Read a moment, always in UTC."""
        del dialect
        moment = datetime.fromisoformat(value) if isinstance(value, str) else value
        return None if moment is None else moment.astimezone(UTC)


class Json(TypeDecorator[Any]):
    """A JSON document, kept as the text it was written with: JSONB would parse and rebuild it at every write."""

    impl = Text
    cache_ok = True

    def load_dialect_impl(self, dialect: Dialect) -> TypeEngine[Any]:
        """JSON where it exists."""
        return JSON(none_as_null=True) if dialect.name == "postgresql" else Text()

    def process_bind_param(self, value: Any, dialect: Dialect) -> Any:
        """Write a document."""
        return value if value is None or dialect.name == "postgresql" else msgspec.json.encode(value).decode()

    def process_result_value(self, value: Any, dialect: Dialect) -> Any:
        """Read a document."""
        return msgspec.json.decode(value) if value is not None and dialect.name != "postgresql" else value


def stamp(moment: datetime) -> str:
    """Write a UTC moment as items carry it, but always with its microseconds: SQLite keeps text of one width."""
    return moment.astimezone(UTC).isoformat(timespec="microseconds").replace("+00:00", "Z")


Id = Text().with_variant(UUID(as_uuid=False), "postgresql")
Whole = Integer().with_variant(BigInteger(), "postgresql")

metadata = MetaData(
    naming_convention={
        "pk": "%(table_name)s_pk",
        "uq": "%(table_name)s_%(column_0_N_name)s_key",
        "ck": "%(table_name)s_%(constraint_name)s_check",
        "ix": "%(table_name)s_%(column_0_N_name)s_index",
    }
)


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
`review_since` is set while a person must judge: an index by status would be written at every change of a payment."""

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

While `claimed_until` equals it, one verifier is at work: nobody may bring the next check forward."""

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
