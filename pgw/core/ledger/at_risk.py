"""Now -> how much money is unsettled: unknown, under manual review, being reversed; read from a handful of rows."""

from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import Connection, and_, func, or_, select, text

from pgw.core.ledger.tables import attempts, payments, transfers, watches
from pgw.core.money.exposure import Exposure, exposure_of
from pgw.core.money.transfer import IN_SUSPENSE
from pgw.core.payment.payment import AttemptStatus, Status
from pgw.core.verification.late_capture import MonitorState

_IN_HAND = text("watches.state IN ('REVERSING', 'MANUAL_REVIEW')")
"""As the partial index says it: with parameters neither database would know that the index has all of them."""


@dataclass(frozen=True, slots=True)
class MoneyAtRisk:
    """Money that is not settled.

    `unknown`: payments under verification, by what they asked for. `review`: payments under manual review.
    `reversing`: money being reversed. `stuck`: monitors under manual review, with the money that came to light.
    """

    unknown: Exposure
    review: Exposure
    reversing: Exposure
    stuck: Exposure


def at_risk(connection: Connection, now: datetime) -> MoneyAtRisk:
    """Add up what is unsettled now."""
    unknown, review, in_hand = _unknown(connection, now), _review(connection), _in_hand(connection)
    return MoneyAtRisk(unknown, review, in_hand[MonitorState.REVERSING], in_hand[MonitorState.MANUAL_REVIEW])


def _unknown(connection: Connection, now: datetime) -> Exposure:
    """Count what is shown as under verification: also what its owner has left, past its lease."""
    was_left = and_(
        payments.c.status == Status.PROCESSING,
        attempts.c.status == AttemptStatus.SENDING,
        attempts.c.next_check_at <= now,
    )
    query = (
        select(func.count(), func.min(payments.c.created_at), payments.c.currency, func.sum(payments.c.amount_minor))
        .join_from(attempts, payments, payments.c.payment_id == attempts.c.payment_id)
        .where(attempts.c.next_check_at.is_not(None), or_(payments.c.status == Status.PENDING_VERIFICATION, was_left))
        .group_by(payments.c.currency)
    )
    return _risk(connection, query)


def _review(connection: Connection) -> Exposure:
    query = (
        select(func.count(), func.min(payments.c.review_since), payments.c.currency, func.sum(payments.c.amount_minor))
        .where(payments.c.review_since.is_not(None))
        .group_by(payments.c.currency)
    )
    return _risk(connection, query)


def _in_hand(connection: Connection) -> dict[MonitorState, Exposure]:
    """Count watches with the money that came to light; of what was not booked no amount is known."""
    since = func.coalesce(transfers.c.booked_at, watches.c.updated_at)
    query = (
        select(func.count(), func.min(since), transfers.c.currency, func.sum(transfers.c.amount_minor), watches.c.state)
        .outerjoin_from(
            watches,
            transfers,
            and_(
                transfers.c.payment_id == watches.c.payment_id,
                transfers.c.attempt_number == watches.c.attempt_number,
                transfers.c.kind.in_(IN_SUSPENSE),
            ),
        )
        .where(_IN_HAND)
        .group_by(watches.c.state, transfers.c.currency)
    )
    found = connection.execute(query).all()
    return {
        state: exposure_of(_part(row) for row in found if row.state == state)
        for state in (MonitorState.REVERSING, MonitorState.MANUAL_REVIEW)
    }


def _risk(connection: Connection, query: object) -> Exposure:
    return exposure_of(_part(row) for row in connection.execute(query))  # type: ignore[call-overload]


def _part(
    row: tuple[int, datetime | None, str | None, int | None],
) -> tuple[int, datetime | None, str | None, int | None]:
    count, since, currency, amount = row[:4]
    # PostgreSQL adds integers up to a decimal.
    return count, since, currency, None if amount is None else int(amount)
