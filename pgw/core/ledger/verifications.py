"""Attempts under check -> their writes, and how a check stands: claim what is due, record an enquiry, settle."""

from datetime import datetime

from msgspec import Struct
from sqlalchemy import Connection, Text, case, func, literal, or_, select, update
from sqlalchemy.sql.selectable import FromClause

from pgw.core.ledger.engine.columns import Id, Json, When, Whole
from pgw.core.ledger.engine.phase import Columns, Phase, Statement, put
from pgw.core.ledger.late_captures import monitor_end
from pgw.core.ledger.payments import ENDED, UNSETTLED, publish_event, settle_payment
from pgw.core.ledger.tables import attempts, payments, verification_checks
from pgw.core.ledger.transfers import BOOKED, book_end
from pgw.core.payment.outcome import Blame
from pgw.core.payment.payment import AttemptStatus, Status
from pgw.core.verification.enquiry import GIVE_UP_AFTER

LEASE_EXPIRED = "LEASE_EXPIRED"
"""Error code of an attempt whose owner never wrote its end: it crashed, hung, or lost the ledger."""

_CHECKED: Columns = {"check_number": Whole, "checked_at": When(), "result": Text(), "error_code": Text()}


def _claim(item: FromClause) -> Statement:
    sending = attempts.c.status == AttemptStatus.SENDING
    return (
        update(attempts)
        .values(
            next_check_at=item.c.claimed_until,
            claimed_until=item.c.claimed_until,
            status=case((sending, literal(AttemptStatus.TIMEOUT, Text())), else_=attempts.c.status),
            error_code=case((sending, literal(LEASE_EXPIRED, Text())), else_=attempts.c.error_code),
            blame=case((sending, literal(Blame.NONE, Text())), else_=attempts.c.blame),
            ended_at=func.coalesce(attempts.c.ended_at, item.c.claimed_at),
        )
        .where(
            attempts.c.payment_id == item.c.payment_id,
            attempts.c.attempt_number == item.c.attempt_number,
            attempts.c.next_check_at == item.c.due_at,
        )
        .returning(attempts.c.payment_id)
    )


def _overdue(won: FromClause) -> Statement:
    return (
        update(payments)
        .values(
            status=Status.PENDING_VERIFICATION,
            gateway_used=won.c.gateway_id,
            attempts_made=won.c.attempts_made,
            updated_at=won.c.claimed_at,
            version=payments.c.version + 1,
        )
        .where(payments.c.payment_id == won.c.payment_id, payments.c.status == Status.PROCESSING)
    )


CLAIM = Phase(
    name="claim",
    columns={
        "payment_id": Id,
        "attempt_number": Whole,
        "gateway_id": Text(),
        "attempts_made": Whole,
        "due_at": When(),
        "claimed_at": When(),
        "claimed_until": When(),
    },
    key="payment_id",
    order=("payment_id",),
    guard=_claim,
    effects=lambda won: (_overdue(won),),
    locks=True,
)
"""Gives one worker an attempt that is due; one past its lease becomes unknown, whatever its owner still believes."""


def _reschedule(item: FromClause) -> Statement:
    return (
        update(attempts)
        .values(next_check_at=item.c.next_check_at, checks_made=item.c.check_number)
        .where(
            attempts.c.payment_id == item.c.payment_id,
            attempts.c.attempt_number == item.c.attempt_number,
            attempts.c.next_check_at == item.c.claimed_until,
        )
        .returning(attempts.c.payment_id)
    )


RECORD = Phase(
    name="record",
    columns={
        "payment_id": Id,
        "attempt_number": Whole,
        "claimed_until": When(),
        "next_check_at": When(),
        **_CHECKED,
    },
    key="payment_id",
    order=("payment_id",),
    guard=_reschedule,
    effects=lambda won: (put(verification_checks, won),),
)
"""Writes an enquiry that settled nothing, and when to ask again."""


def _settle(item: FromClause) -> Statement:
    return (
        update(attempts)
        .values(
            status=item.c.end_status,
            error_code=item.c.end_error_code,
            blame=item.c.end_blame,
            transaction_ref=func.coalesce(item.c.end_transaction_ref, attempts.c.transaction_ref),
            next_check_at=item.c.end_next_check_at,
            checks_made=item.c.check_number,
        )
        .where(
            attempts.c.payment_id == item.c.payment_id,
            attempts.c.attempt_number == item.c.end_number,
            attempts.c.status.in_((AttemptStatus.TIMEOUT, AttemptStatus.REQUIRES_ACTION)),
            # A verifier that was held past its claim has lost to the next one's check.
            attempts.c.checks_made == item.c.check_number - 1,
        )
        .returning(attempts.c.payment_id)
    )


SETTLE = Phase(
    name="settle",
    columns={
        **ENDED,
        **_CHECKED,
        "payment_status": Text(),
        "failure_code": Text(),
        "gateway_used": Text(),
        "next_action": Json(),
        "attempts_made": Whole,
        "payment_latency_ms": Whole,
        "completed": Json(),
        **BOOKED,
    },
    key="payment_id",
    order=("payment_id",),
    guard=_settle,
    effects=lambda won: (
        put(verification_checks, won, attempt_number=won.c.end_number),
        publish_event(won),
        book_end(won),
        monitor_end(won),
        settle_payment(won),
    ),
    locks=True,
)
"""Ends an attempt under check, and its payment, by its gateway's answer; or leaves the payment to manual review."""


def _win(item: FromClause) -> Statement:
    free = or_(payments.c.winner_attempt.is_(None), payments.c.winner_attempt == item.c.attempt_number)
    return (
        update(payments)
        .values(winner_attempt=item.c.attempt_number)
        .where(payments.c.payment_id == item.c.payment_id, payments.c.status.in_(UNSETTLED), free)
        .returning(payments.c.payment_id)
    )


WIN = Phase(
    name="win",
    columns={"payment_id": Id, "attempt_number": Whole},
    key="payment_id",
    order=("payment_id",),
    guard=_win,
    effects=lambda _: (),
    locks=True,
)
"""Makes one attempt the payment's winner: only then may its authorisation be captured, and no other's ever again."""


class Check(Struct, frozen=True, kw_only=True):
    """One enquiry."""

    checked_at: datetime
    result: str
    error_code: str | None


class Verification(Struct, frozen=True, kw_only=True):
    """How the check of a payment stands."""

    payment_id: str
    status: Status
    state: str
    checks_made: int
    last_checked_at: datetime | None
    last_result: str | None
    next_check_at: datetime | None
    gives_up_at: datetime
    checks: tuple[Check, ...]


def verification_of(connection: Connection, payment_id: str, shown: Status) -> Verification | None:
    """Return the state of a payment's check; None when it never needed one. `shown`: the status it is shown with."""
    rows = connection.execute(
        select(verification_checks)
        .where(verification_checks.c.payment_id == payment_id)
        .order_by(verification_checks.c.checked_at, verification_checks.c.check_number)
    )
    checks = tuple(Check(checked_at=row.checked_at, result=row.result, error_code=row.error_code) for row in rows)
    attempt = connection.execute(
        select(attempts.c.next_check_at, attempts.c.started_at)
        .where(attempts.c.payment_id == payment_id, attempts.c.status != AttemptStatus.SKIPPED)
        .order_by(attempts.c.attempt_number.desc())
        .limit(1)
    ).one_or_none()
    if attempt is None or (not checks and shown not in _UNDER_CHECK):
        return None
    return Verification(
        payment_id=payment_id,
        status=shown,
        state=_state(shown),
        checks_made=len(checks),
        last_checked_at=checks[-1].checked_at if checks else None,
        last_result=checks[-1].result if checks else None,
        next_check_at=None if shown.is_final else attempt.next_check_at,
        gives_up_at=attempt.started_at + GIVE_UP_AFTER,
        checks=checks,
    )


_UNDER_CHECK = frozenset({Status.PENDING_VERIFICATION, Status.MANUAL_REVIEW})


def _state(status: Status) -> str:
    if status is Status.MANUAL_REVIEW:
        return "manual_review"
    return "done" if status.is_final else "scheduled"
