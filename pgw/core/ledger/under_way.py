"""Gateway, method -> UnderWay: the payments there that no change of a breaker moves, counted."""

from datetime import datetime

from sqlalchemy import Connection, and_, case, func, select

from pgw.core.ledger.payments import UNSETTLED
from pgw.core.ledger.tables import attempts, payments
from pgw.core.payment.payment import AttemptStatus
from pgw.core.routing.preview import UnderWay

_OPEN_ENDED = (AttemptStatus.SENDING, AttemptStatus.TIMEOUT, AttemptStatus.REQUIRES_ACTION)
"""Attempts whose outcome is not known; others under check belong to a payment that has its answer elsewhere."""


def under_way(connection: Connection, gateway_id: str, payment_method: str, now: datetime) -> UnderWay:
    """Count payments by what their attempt at this gateway waits for: its answer, or the finding of a check."""
    # Few attempts of all have a check before them, and those are indexed.
    waiting = and_(
        attempts.c.next_check_at.is_not(None),
        attempts.c.gateway_id == gateway_id,
        attempts.c.status.in_(_OPEN_ENDED),
        payments.c.payment_method == payment_method,
        payments.c.status.in_(UNSETTLED),
    )
    answering = and_(attempts.c.status == AttemptStatus.SENDING, attempts.c.next_check_at > now)
    query = (
        select(func.count(case((answering, 1))), func.count())
        .join(payments, payments.c.payment_id == attempts.c.payment_id)
        .where(waiting)
    )
    in_flight, every = connection.execute(query).one()
    return UnderWay(in_flight, every - in_flight)
