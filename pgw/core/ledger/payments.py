"""One payment's writes -> phases: open, turn, close."""

from collections.abc import Callable

from sqlalchemy import (
    ColumnElement,
    Integer,
    Text,
    and_,
    case,
    exists,
    func,
    literal,
    null,
    or_,
    select,
    union_all,
    update,
)
from sqlalchemy.sql.selectable import FromClause

from pgw.core.ledger.engine.columns import Id, Json, When, Whole
from pgw.core.ledger.engine.phase import Columns, Phase, Statement, put
from pgw.core.ledger.late_captures import MONITOR_COLUMNS, monitor_decline, monitor_end
from pgw.core.ledger.tables import attempts, outbox, payments, routing_decisions
from pgw.core.ledger.transfers import BOOKED, book_end
from pgw.core.payment.payment import AttemptStatus, Status

UNSETTLED = (Status.PROCESSING, Status.REQUIRES_ACTION, Status.PENDING_VERIFICATION)
"""Statuses a machine may still end; MANUAL_REVIEW takes a manual decision."""

DEFINITIVE = (AttemptStatus.SUCCESS, AttemptStatus.FAILURE)


ENDED: Columns = {
    "payment_id": Id,
    "end_number": Whole,
    "end_status": Text(),
    "end_error_code": Text(),
    "end_blame": Text(),
    "end_latency_ms": Whole,
    "end_transaction_ref": Text(),
    "end_next_check_at": When(),
    "ended_at": When(),
    "event": Json(),
    **MONITOR_COLUMNS,
}
"""How an attempt ended; but for `ended_at`, no member is named like a column and slips into the next attempt's row."""

ANNOUNCED: Columns = {
    "attempt_number": Whole,
    "gateway_id": Text(),
    "circuit_breaker_state": Text(),
    "fallback_reason": Text(),
    "started_at": When(),
    "next_check_at": When(),
}
"""An attempt about to be called; `next_check_at` is the end of its lease."""


def _announce(won: FromClause) -> Statement:
    # A turn's `ended_at` is that of the attempt before.
    return put(attempts, won, status=AttemptStatus.SENDING, checks_made=0, ended_at=null())  # type: ignore[no-any-return]


def _replan(won: FromClause) -> Statement:
    return (
        update(routing_decisions)
        .values(plan=won.c.plan)
        .where(routing_decisions.c.payment_id == won.c.payment_id, won.c.plan.is_not(None))
    )


def _end_attempt(item: FromClause, state: Callable[[FromClause], ColumnElement[bool]]) -> Statement:
    return (
        update(attempts)
        .values(
            status=item.c.end_status,
            error_code=item.c.end_error_code,
            blame=item.c.end_blame,
            latency_ms=item.c.end_latency_ms,
            # A verifier may have learnt the name already, and a decline names none.
            transaction_ref=func.coalesce(item.c.end_transaction_ref, attempts.c.transaction_ref),
            next_check_at=item.c.end_next_check_at,
            ended_at=item.c.ended_at,
        )
        .where(
            attempts.c.payment_id == item.c.payment_id,
            attempts.c.attempt_number == item.c.end_number,
            state(item),
        )
        .returning(attempts.c.payment_id)
    )


def _still_sending(_: FromClause) -> ColumnElement[bool]:
    return attempts.c.status == AttemptStatus.SENDING


def _sending_or_learned(item: FromClause) -> ColumnElement[bool]:
    return or_(
        attempts.c.status == AttemptStatus.SENDING,
        and_(attempts.c.status == AttemptStatus.TIMEOUT, item.c.end_status.in_(DEFINITIVE)),
    )


def settle_payment(won: FromClause) -> Statement:
    """Set the payment's status; a payment that has its answer, or is under manual review, keeps it."""
    return (
        update(payments)
        .values(
            status=won.c.payment_status,
            failure_code=won.c.failure_code,
            gateway_used=won.c.gateway_used,
            transaction_ref=won.c.end_transaction_ref,
            next_action=won.c.next_action,
            attempts_made=won.c.attempts_made,
            latency_ms=won.c.payment_latency_ms,
            updated_at=won.c.ended_at,
            version=payments.c.version + 1,
            review_since=case((won.c.payment_status == Status.MANUAL_REVIEW, won.c.ended_at), else_=None),
        )
        .where(payments.c.payment_id == won.c.payment_id, payments.c.status.in_(UNSETTLED))
    )


def publish_event(won: FromClause) -> Statement:
    """Write an item's events by one statement, in order: the attempt's, then the payment's, if this item ends it.

    Stands before `settle_payment` among the effects: a payment with its answer, or under manual review, has ended.
    """
    open_still = exists().where(payments.c.payment_id == won.c.payment_id, payments.c.status.in_(UNSETTLED))
    first = select(won.c.payment_id, literal(1, Integer()).label("place"), won.c.event.label("event"))
    last = select(won.c.payment_id, literal(2, Integer()), won.c.completed).where(
        won.c.completed.is_not(None), open_still
    )
    published = union_all(first, last).subquery("published")
    query = select(published.c.event).order_by(published.c.payment_id, published.c.place)
    return outbox.insert().from_select(["event"], query)


_SET_LATER = frozenset(
    {
        "status",
        "gateway_used",
        "transaction_ref",
        "failure_code",
        "attempts_made",
        "winner_attempt",
        "latency_ms",
        "next_action",
        "updated_at",
        "version",
        "review_since",
    }
)

OPEN = Phase(
    name="open",
    columns={
        **{c.name: c.type for c in payments.c if c.name not in _SET_LATER},
        **ANNOUNCED,
        "plan": Json(),
    },
    key="payment_id",
    order=("merchant_id", "idempotency_key"),
    guard=lambda item: (
        put(payments, item, status=Status.PROCESSING, attempts_made=0, updated_at=item.c.created_at, version=1)
        .on_conflict_do_nothing(index_elements=["merchant_id", "idempotency_key"])
        .returning(payments.c.payment_id)
    ),
    effects=lambda won: (_announce(won), put(routing_decisions, won, decided_at=won.c.created_at)),
)
"""Claims the idempotency key, writes the plan and announces attempt 1."""

TURN = Phase(
    name="turn",
    columns={**ENDED, **ANNOUNCED, "plan": Json()},
    key="payment_id",
    order=("payment_id",),
    guard=lambda item: _end_attempt(item, _still_sending),
    effects=lambda won: (_announce(won), put(outbox, won), monitor_decline(won), _replan(won)),
)
"""Ends attempt k and announces the next, only while k is still this flow's: once a verifier has it, nothing follows."""

SKIP = Phase(
    name="skip",
    columns={
        "payment_id": Id,
        "attempt_number": Whole,
        "gateway_id": Text(),
        "error_code": Text(),
        "circuit_breaker_state": Text(),
        "started_at": When(),
    },
    key="payment_id",
    order=("payment_id", "attempt_number"),
    guard=lambda item: (
        put(attempts, item, status=AttemptStatus.SKIPPED, checks_made=0, ended_at=item.c.started_at)
        .on_conflict_do_nothing(index_elements=["payment_id", "attempt_number"])
        .returning(attempts.c.payment_id)
    ),
    effects=lambda _: (),
)
"""Writes a skipped gateway; written before the turn, so that the turn's attempt is the newest."""

CLOSE = Phase(
    name="close",
    columns={
        **ENDED,
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
    guard=lambda item: _end_attempt(item, _sending_or_learned),
    effects=lambda won: (publish_event(won), book_end(won), monitor_end(won), settle_payment(won)),
    locks=True,
)
"""Ends the last attempt and the payment. A definitive end merges over an unknown one, never the reverse."""
