"""The private ledger's rows -> what a scorecard is made of."""

from datetime import UTC, datetime

from sqlalchemy import Connection, func, select

from pgw.core.breakers.breaker import State
from pgw.core.ledger.tables import attempts, breaker_events, payments
from pgw.core.payment.payment import AttemptStatus, Status
from pgw.drill.scorecard import Call

ENDED = (Status.SUCCESS, Status.FAILURE, Status.MANUAL_REVIEW)


def calls(connection: Connection, since: float) -> list[Call]:
    """List the attempts made since a time (epoch seconds), oldest first."""
    query = (
        select(
            attempts.c.payment_id,
            attempts.c.attempt_number,
            attempts.c.gateway_id,
            attempts.c.circuit_breaker_state,
            attempts.c.started_at,
        )
        .where(attempts.c.status != AttemptStatus.SKIPPED, attempts.c.started_at >= datetime.fromtimestamp(since, UTC))
        .order_by(attempts.c.started_at)
    )
    return [
        Call(payment_id=name, number=number, gateway_id=gateway_id, breaker=breaker, at=at.timestamp())
        for name, number, gateway_id, breaker, at in connection.execute(query)
    ]


def ends(connection: Connection) -> dict[str, str]:
    """Map each payment to its status."""
    return {name: status for name, status in connection.execute(select(payments.c.payment_id, payments.c.status))}  # noqa: C416  # rows are no tuples to a reader


def has_opened(connection: Connection, gateway_id: str, since: float) -> bool:
    """Whether a breaker of a gateway has opened since a time (epoch seconds)."""
    query = select(func.count()).where(
        breaker_events.c.gateway_id == gateway_id,
        breaker_events.c.state == State.OPEN,
        breaker_events.c.occurred_at >= datetime.fromtimestamp(since, UTC),
    )
    return connection.execute(query).scalar_one() > 0


def open_payments(connection: Connection) -> int:
    """Count the payments without an end."""
    query = select(func.count()).select_from(payments).where(payments.c.status.not_in(ENDED))
    return connection.execute(query).scalar_one()
