"""Now -> what monitoring asks of the ledger: unsettled money, open payments, violations, and how far events lag."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import Connection, Text, cast, func, select

from pgw.core.ledger.at_risk import MoneyAtRisk, at_risk
from pgw.core.ledger.outbox import occurred_at
from pgw.core.ledger.payments import UNSETTLED
from pgw.core.ledger.tables import attempts, outbox, payments
from pgw.core.ledger.violations import ViolationCount, tallies
from pgw.core.payment.payment import Status


@dataclass(frozen=True, slots=True)
class Gauges:
    """How the ledger stands. `waiting_since`: when the event occurred that has waited longest for the relay."""

    at_risk: MoneyAtRisk
    payments_open: Mapping[Status, int]
    violations: Mapping[str, ViolationCount]
    waiting_since: datetime | None


def gauges(connection: Connection, now: datetime) -> Gauges:
    """Read all of it, from indexes that hold only what is open."""
    risk = at_risk(connection, now)
    return Gauges(
        at_risk=risk,
        payments_open={**_unsettled(connection), Status.MANUAL_REVIEW: risk.review.count},
        violations=tallies(connection),
        waiting_since=_waiting_since(connection),
    )


def _unsettled(connection: Connection) -> Mapping[Status, int]:
    """Count payments a machine may still end: each has an attempt that will be asked about."""
    query = (
        select(payments.c.status, func.count(payments.c.payment_id.distinct()))
        .join(attempts, attempts.c.payment_id == payments.c.payment_id)
        .where(attempts.c.next_check_at.is_not(None), payments.c.status.in_(UNSETTLED))
        .group_by(payments.c.status)
    )
    found = {Status(status): count for status, count in connection.execute(query)}
    return {status: found.get(status, 0) for status in UNSETTLED}


def _waiting_since(connection: Connection) -> datetime | None:
    longest = (
        select(cast(outbox.c.event, Text)).where(outbox.c.published.is_(None)).order_by(outbox.c.position).limit(1)
    )
    event = connection.execute(longest).scalar_one_or_none()
    return None if event is None else occurred_at(event)
