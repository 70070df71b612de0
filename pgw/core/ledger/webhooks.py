"""Webhooks -> their writes and reads: each kept once, then the check of the attempt it names brought forward."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from sqlalchemy import (
    ColumnElement,
    Connection,
    Integer,
    Select,
    Text,
    and_,
    exists,
    literal,
    or_,
    select,
    union_all,
    update,
)
from sqlalchemy.sql.selectable import FromClause

from pgw.core.ledger.engine.columns import Id, When, Whole
from pgw.core.ledger.engine.phase import Phase, Statement, put
from pgw.core.ledger.tables import attempts, watches, webhook_deliveries
from pgw.core.payment.payment import AttemptStatus
from pgw.core.verification.enquiry import CHECK_LEASE
from pgw.core.verification.webhook import WebhookNotice
from pgw.core.writes.attempts import Item

WAITS = timedelta(minutes=2)
"""How long a webhook waits for the attempt it names: longer than any lease, after which the schedule asks anyway."""

UNDER_CHECK = (AttemptStatus.TIMEOUT, AttemptStatus.REQUIRES_ACTION)

RECEIVE = Phase(
    name="receive_webhook",
    columns={
        "digest": Text(),
        "gateway_id": Text(),
        "event": Text(),
        "payment_id": Id,
        "attempt_number": Whole,
        "transaction_ref": Text(),
        "occurred_at": When(),
        "received_at": When(),
    },
    key="digest",
    order=("digest",),
    guard=lambda item: (
        put(webhook_deliveries, item)
        .on_conflict_do_nothing(index_elements=["digest"])
        .returning(webhook_deliveries.c.digest)
    ),
    effects=lambda _: (),
)
"""Keeps a webhook; one whose body was here before loses. Rows are never removed: a body is known for ever."""


def receiving(gateway_id: str, digest: str, notice: WebhookNotice, now: datetime) -> Item:
    """Lay out the item of RECEIVE."""
    return {
        "digest": digest,
        "gateway_id": gateway_id,
        "event": notice.event,
        "payment_id": notice.payment_id,
        "attempt_number": notice.attempt_number,
        "transaction_ref": notice.transaction_ref,
        "occurred_at": notice.occurred_at,
        "received_at": now,
    }


def _handle(item: FromClause) -> Statement:
    return (
        update(webhook_deliveries)
        .values(handled_at=item.c.handled_at)
        .where(webhook_deliveries.c.digest == item.c.digest, webhook_deliveries.c.handled_at.is_(None))
        .returning(webhook_deliveries.c.digest)
    )


def _hurry_check(won: FromClause) -> Statement:
    unclaimed = or_(attempts.c.claimed_until.is_(None), attempts.c.claimed_until != attempts.c.next_check_at)
    return (
        update(attempts)
        .values(next_check_at=won.c.handled_at)
        .where(
            attempts.c.payment_id == won.c.payment_id,
            attempts.c.attempt_number == won.c.attempt_number,
            attempts.c.status.in_(UNDER_CHECK),
            attempts.c.next_check_at > won.c.handled_at,
            unclaimed,
        )
    )


def _hurry_monitor(won: FromClause) -> Statement:
    return (
        update(watches)
        .values(next_check_at=won.c.handled_at)
        .where(
            watches.c.payment_id == won.c.payment_id,
            watches.c.attempt_number == won.c.attempt_number,
            # A nearer one may be the end of a worker's lease, or comes soon by itself.
            watches.c.next_check_at > won.c.leased_until,
        )
    )


HANDLED = Phase(
    name="handle_webhook",
    columns={
        "digest": Text(),
        "payment_id": Id,
        "attempt_number": Whole,
        "handled_at": When(),
        "leased_until": When(),
    },
    key="digest",
    order=("payment_id", "digest"),
    guard=_handle,
    effects=lambda won: (_hurry_check(won), _hurry_monitor(won)),
)
"""Makes the named attempt's check, or its watch, due now, and is done with the webhook. Changes no status."""


@dataclass(frozen=True, slots=True)
class Waiting:
    """A webhook that can be handled, and the attempt it means; none where it means none that is known."""

    digest: str
    payment_id: str | None
    attempt_number: int | None


def handling(each: Waiting, now: datetime) -> Item:
    """Lay out the item of HANDLED."""
    return {
        "digest": each.digest,
        "payment_id": each.payment_id,
        "attempt_number": each.attempt_number,
        "handled_at": now,
        "leased_until": now + CHECK_LEASE,
    }


def waiting(connection: Connection, now: datetime, limit: int) -> Sequence[Waiting]:
    """List the webhooks that can be handled, longest waiting first.

    Not yet: one whose attempt is being sent or asked about right now, for then nothing can be brought forward, nor one
    whose attempt is not known yet: its answer may be on its way. Both wait no longer than `WAITS`.
    """
    found = webhook_deliveries.c
    unhandled = found.handled_at.is_(None)
    by_reference = and_(attempts.c.payment_id == found.payment_id, attempts.c.attempt_number == found.attempt_number)
    by_transaction = attempts.c.transaction_ref == found.transaction_ref
    names_nothing = and_(found.payment_id.is_(None), found.transaction_ref.is_(None))
    ready = union_all(
        _meaning(by_reference, 1).where(unhandled, _free(now)),
        _meaning(by_transaction, 2).where(unhandled, _free(now)),
        select(found.digest, found.received_at, literal(3, Integer()), literal(None, Id), literal(None, Whole)).where(
            unhandled, or_(found.received_at <= now - WAITS, names_nothing)
        ),
    ).subquery("ready")
    digest, received_at, place, payment_id, attempt_number = ready.c
    query = select(digest, payment_id, attempt_number).order_by(received_at, digest, place).limit(limit)
    first: dict[str, Waiting] = {}
    for row in connection.execute(query).all():
        # Our own name for an attempt comes before the gateway's, and any before none.
        first.setdefault(row[0], Waiting(*row))
    return tuple(first.values())


def _meaning(meant: ColumnElement[bool], place: int) -> Select[tuple[str, datetime, int, str, int]]:
    found = webhook_deliveries.c
    attempt = and_(meant, attempts.c.gateway_id == found.gateway_id)
    members = (found.digest, found.received_at, literal(place, Integer()).label("place"))
    return select(*members, attempts.c.payment_id, attempts.c.attempt_number).join(attempts, attempt)


def _free(now: datetime) -> ColumnElement[bool]:
    """Whether no process sends or asks about the attempt: its check, or its monitor's, can be brought forward if any.

    A watch whose check is near may be at work; it soon is not, and is then brought forward once more.
    """
    claimed = and_(
        attempts.c.next_check_at.is_not(None),
        attempts.c.claimed_until.is_not(None),
        attempts.c.claimed_until == attempts.c.next_check_at,
        attempts.c.next_check_at > now,
    )
    watched = exists().where(
        watches.c.payment_id == attempts.c.payment_id,
        watches.c.attempt_number == attempts.c.attempt_number,
        watches.c.next_check_at > now,
        watches.c.next_check_at <= now + CHECK_LEASE,
    )
    return and_(attempts.c.status != AttemptStatus.SENDING, ~claimed, ~watched)
