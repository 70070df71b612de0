"""Payment id, key or filter -> what anyone may see of a payment."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import msgspec
from sqlalchemy import ColumnElement, CompoundSelect, Connection, Row, and_, case, exists, func, or_, select, union

from pgw.core.ledger.payments import UNSETTLED
from pgw.core.ledger.tables import attempts, payments, routing_decisions
from pgw.core.payment.payment import Attempt, AttemptStatus, ExperimentArm, Method, NextAction, Payment, Status
from pgw.core.routing.plan import Plan
from pgw.core.routing.preview import InFlight


@dataclass(frozen=True, slots=True)
class Stored:
    """A payment as the ledger has it. `lease_until` is set while an attempt may still be on its way to a gateway."""

    payment: Payment
    request_digest: str
    lease_until: datetime | None

    def as_of(self, now: datetime) -> Payment:
        """Return the payment as of `now`: with its lease over and no end written, it is under verification."""
        if self.payment.status is Status.PROCESSING and not self.in_flight(now):
            return msgspec.structs.replace(self.payment, status=Status.PENDING_VERIFICATION)
        return self.payment

    def in_flight(self, now: datetime) -> bool:
        """Whether its owner may still be at work on it."""
        return self.payment.status is Status.PROCESSING and self.lease_until is not None and now < self.lease_until


_LEASE = (
    select(attempts.c.next_check_at)
    .where(attempts.c.payment_id == payments.c.payment_id, attempts.c.status == AttemptStatus.SENDING)
    .order_by(attempts.c.attempt_number.desc())
    .limit(1)
    .scalar_subquery()
    .label("lease_until")
)
_PAYMENT = select(payments, _LEASE)


def by_id(connection: Connection, payment_id: str) -> Stored | None:
    """Find one payment."""
    return _one(connection, payments.c.payment_id == payment_id)


def by_key(connection: Connection, merchant_id: str, idempotency_key: str) -> Stored | None:
    """Find the payment an idempotency key belongs to."""
    return _one(connection, and_(payments.c.merchant_id == merchant_id, payments.c.idempotency_key == idempotency_key))


def _one(connection: Connection, condition: ColumnElement[bool]) -> Stored | None:
    row = connection.execute(_PAYMENT.where(condition)).one_or_none()
    return None if row is None else _stored(row)


@dataclass(frozen=True, slots=True)
class PaymentFilter:
    """What a list of payments is filtered by; `before` is the last id of the page before."""

    merchant_id: str | None = None
    status: Status | None = None
    ref: str | None = None
    since: datetime | None = None
    before: str | None = None
    limit: int = 50


def listed(connection: Connection, wanted: PaymentFilter, now: datetime) -> Sequence[Stored]:
    """List payments, newest first; ids carry their time, so their order is the order of arrival."""
    query = _PAYMENT.order_by(payments.c.payment_id.desc()).limit(wanted.limit)
    if wanted.merchant_id is not None:
        query = query.where(payments.c.merchant_id == wanted.merchant_id)
    if wanted.status is not None:
        query = query.where(_effective_status(wanted.status, now))
    if wanted.status in UNSETTLED:
        # A few among millions; each has an attempt under check, and those are indexed.
        under_check = select(attempts.c.payment_id).where(attempts.c.next_check_at.is_not(None))
        query = query.where(payments.c.payment_id.in_(under_check))
    if wanted.status is Status.MANUAL_REVIEW:
        query = query.where(payments.c.review_since.is_not(None))
    if wanted.ref is not None:
        query = query.where(payments.c.payment_id.in_(_referred(wanted.ref)))
    if wanted.since is not None:
        query = query.where(payments.c.created_at >= wanted.since)
    if wanted.before is not None:
        query = query.where(payments.c.payment_id < wanted.before)
    return [_stored(row) for row in connection.execute(query)]


def _effective_status(status: Status, now: datetime) -> ColumnElement[bool]:
    """Filter by the status `seen_at` would show."""
    in_flight = exists().where(
        attempts.c.payment_id == payments.c.payment_id,
        attempts.c.status == AttemptStatus.SENDING,
        attempts.c.next_check_at > now,
    )
    match status:
        case Status.PROCESSING:
            return and_(payments.c.status == status, in_flight)
        case Status.PENDING_VERIFICATION:
            return or_(payments.c.status == status, and_(payments.c.status == Status.PROCESSING, ~in_flight))
        case _:
            return payments.c.status == status


def _referred(ref: str) -> CompoundSelect[str]:
    """Find the payments a reference means; one indexed look-up for each thing it may be."""
    found = [
        select(payments.c.payment_id).where(payments.c.merchant_reference == ref),
        select(payments.c.payment_id).where(payments.c.customer_id == ref),
        select(attempts.c.payment_id).where(attempts.c.transaction_ref == ref),
    ]
    if is_uuid(ref):
        found.append(select(payments.c.payment_id).where(payments.c.payment_id == ref))
    return union(*found)


def is_uuid(text: str) -> bool:
    """Whether a text is a UUID in its canonical form; anything else cannot be an id of ours."""
    return _UUID.fullmatch(text) is not None


_UUID = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")


def attempts_of(connection: Connection, payment_id: str) -> tuple[Attempt, ...]:
    """List a payment's attempts in order."""
    query = (
        select(*(attempts.c[name] for name in _ATTEMPT))
        .where(attempts.c.payment_id == payment_id)
        .order_by(attempts.c.attempt_number)
    )
    rows = connection.execute(query).mappings()
    return tuple(Attempt(**{**row, "status": AttemptStatus(row["status"])}) for row in rows)


_ATTEMPT = Attempt.__struct_fields__


def decision_of(connection: Connection, payment_id: str) -> tuple[Plan, datetime] | None:
    """Find the stored plan of a payment, and when it was made."""
    query = select(routing_decisions).where(routing_decisions.c.payment_id == payment_id)
    row = connection.execute(query).one_or_none()
    return None if row is None else (msgspec.convert(row.plan, Plan), row.decided_at)


def _stored(row: Row[Any]) -> Stored:
    columns = row._mapping  # noqa: SLF001  # the public accessor has this name
    arm = ExperimentArm(experiment_id=row.experiment_id, variant=row.variant) if row.experiment_id else None
    action = msgspec.convert(row.next_action, NextAction) if row.next_action else None
    plain = {name: columns[name] for name in Payment.__struct_fields__ if name not in _BUILT}
    return Stored(
        payment=Payment(
            **plain,
            status=Status(row.status),
            payment_method=Method(row.payment_method),
            experiment=arm,
            next_action=action,
        ),
        request_digest=row.request_digest,
        lease_until=row.lease_until,
    )


_BUILT = frozenset({"status", "payment_method", "experiment", "next_action"})


_OPEN_ENDED = (AttemptStatus.SENDING, AttemptStatus.TIMEOUT, AttemptStatus.REQUIRES_ACTION)
"""Attempts whose outcome is not known; others under check belong to a payment that has its answer elsewhere."""


def in_flight(connection: Connection, gateway_id: str, payment_method: str, now: datetime) -> InFlight:
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
    return InFlight(in_flight, every - in_flight)
