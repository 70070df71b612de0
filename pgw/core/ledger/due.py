"""Now -> what is to be enquired about: attempts with an unknown end, attempts that must not capture."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, func, select

from pgw.core.ledger.tables import attempts, payments, transfers, verification_checks, watches
from pgw.core.money.transfer import IN_SUSPENSE
from pgw.core.payment.payment import AttemptStatus
from pgw.core.verification.enquiry import EarlierResult


@dataclass(frozen=True, slots=True)
class Due:
    """An attempt to ask about, with what its payment expects."""

    payment_id: str
    attempt_number: int
    gateway_id: str
    status: AttemptStatus
    due_at: datetime
    started_at: datetime
    latency_ms: int | None
    error_code: str | None
    blame: str | None
    transaction_ref: str | None
    ended_at: datetime | None
    checks_made: int
    amount_minor: int
    currency: str
    created_at: datetime
    skipped: int

    @property
    def attempts_made(self) -> int:
        """How many gateways were called, this one included."""
        return self.attempt_number - self.skipped


_earlier = attempts.alias("earlier")
_SKIPPED = (
    select(func.count())
    .where(
        _earlier.c.payment_id == attempts.c.payment_id,
        _earlier.c.attempt_number < attempts.c.attempt_number,
        _earlier.c.status == AttemptStatus.SKIPPED,
    )
    .scalar_subquery()
)


def due(connection: Connection, now: datetime, limit: int, left_out: frozenset[str] = frozenset()) -> Sequence[Due]:
    """List the attempts whose check is due, longest waiting first; none at the gateways `left_out`."""
    query = (
        select(
            attempts.c.payment_id,
            attempts.c.attempt_number,
            attempts.c.gateway_id,
            attempts.c.status,
            attempts.c.next_check_at,
            attempts.c.started_at,
            attempts.c.latency_ms,
            attempts.c.error_code,
            attempts.c.blame,
            attempts.c.transaction_ref,
            attempts.c.ended_at,
            attempts.c.checks_made,
            payments.c.amount_minor,
            payments.c.currency,
            payments.c.created_at,
            _SKIPPED,
        )
        .join(payments, payments.c.payment_id == attempts.c.payment_id)
        .where(attempts.c.next_check_at <= now, attempts.c.gateway_id.not_in(left_out))
        .order_by(attempts.c.next_check_at)
        .limit(limit)
    )
    rows: Sequence[Any] = connection.execute(query).all()
    return [Due(*row) for row in rows]


def answers_of(connection: Connection, payment_id: str, attempt_number: int) -> Sequence[EarlierResult]:
    """List what was answered about an attempt so far."""
    query = select(verification_checks.c.checked_at, verification_checks.c.result).where(
        verification_checks.c.payment_id == payment_id, verification_checks.c.attempt_number == attempt_number
    )
    return [EarlierResult(*row) for row in connection.execute(query)]


@dataclass(frozen=True, slots=True)
class DueMonitor:
    """A due late-capture monitor. `amount_minor`, `currency`: the money to be reversed, once it came to light."""

    payment_id: str
    attempt_number: int
    gateway_id: str
    state: str
    due_at: datetime
    until: datetime
    checks_made: int
    reversal_key: str
    transaction_ref: str | None
    amount_minor: int | None
    currency: str | None


def due_monitors(
    connection: Connection, now: datetime, limit: int, left_out: frozenset[str] = frozenset()
) -> Sequence[DueMonitor]:
    """List the watches that are due, longest waiting first; none at the gateways `left_out`."""
    query = (
        select(
            watches.c.payment_id,
            watches.c.attempt_number,
            watches.c.gateway_id,
            watches.c.state,
            watches.c.next_check_at,
            watches.c.until,
            watches.c.checks_made,
            watches.c.reversal_key,
            watches.c.transaction_ref,
            transfers.c.amount_minor,
            transfers.c.currency,
        )
        .outerjoin(
            transfers,
            (transfers.c.payment_id == watches.c.payment_id)
            & (transfers.c.attempt_number == watches.c.attempt_number)
            & transfers.c.kind.in_(IN_SUSPENSE),
        )
        .where(watches.c.next_check_at <= now, watches.c.gateway_id.not_in(left_out))
        .order_by(watches.c.next_check_at)
        .limit(limit)
    )
    rows: Sequence[Any] = connection.execute(query).all()
    return [DueMonitor(*row) for row in rows]
