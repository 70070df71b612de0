"""Attempts that must not capture -> their writes: begun with the attempt's end, claimed, looked at, reversed."""

from sqlalchemy import ColumnElement, Text, case, cast, exists, func, literal, null, or_, select, update
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.sql.selectable import FromClause, Selectable

from pgw.core.ledger.engine.columns import Id, Json, When, Whole
from pgw.core.ledger.engine.phase import Columns, Phase, Statement, put
from pgw.core.ledger.tables import attempts, outbox, payments, transfers, watches
from pgw.core.ledger.transfers import BOOKED, book_once, has_ended
from pgw.core.money.transfer import TransferKind
from pgw.core.payment.payment import AttemptStatus
from pgw.core.verification.late_capture import MonitorCause, MonitorState

MONITOR_COLUMNS: Columns = {
    "watch_cause": Text(),
    "watch_gateway_id": Text(),
    "watch_until": When(),
    "watch_next_check_at": When(),
}
"""The watch that begins with an attempt's end; no cause: none does."""

BEGUN = (
    "payment_id",
    "attempt_number",
    "gateway_id",
    "state",
    "cause",
    "until",
    "next_check_at",
    "checks_made",
    "reversal_key",
    "transaction_ref",
    "evidence",
    "updated_at",
)


def reversal_key(won: FromClause) -> ColumnElement[str]:
    """Name the one reversal an attempt can have; the same for ever, so that a gateway asked twice reverses once."""
    names = cast(won.c.payment_id, Text()), cast(won.c.end_number, Text())
    return literal("reversal-", Text()) + names[0] + literal("-", Text()) + names[1]


def monitor_decline(won: FromClause) -> Statement:
    """Begin the watch of an attempt that another follows."""
    found = select(
        won.c.payment_id,
        won.c.end_number,
        won.c.watch_gateway_id,
        literal(MonitorState.WATCHING, Text()),
        won.c.watch_cause,
        won.c.watch_until,
        won.c.watch_next_check_at,
        literal(0, Whole),
        reversal_key(won),
        won.c.end_transaction_ref,
        null(),
        won.c.ended_at,
    ).where(won.c.watch_cause.is_not(None))
    return _begin(found)


def monitor_end(won: FromClause) -> Statement:
    """Begin the watch of a last attempt; one that captured for a payment that had ended without it is due at once.

    Stands before `settle_payment` among the effects, as `book_end` does.
    """
    captured = won.c.transfer_kind.is_not(None)
    found = (
        select(
            won.c.payment_id,
            won.c.end_number,
            won.c.watch_gateway_id,
            _either(captured, MonitorState.REVERSING, literal(MonitorState.WATCHING, Text())),
            _either(captured, MonitorCause.DUPLICATE, won.c.watch_cause),
            case((captured, won.c.ended_at), else_=won.c.watch_until),
            case((captured, won.c.ended_at), else_=won.c.watch_next_check_at),
            literal(0, Whole),
            reversal_key(won),
            won.c.end_transaction_ref,
            case((captured, won.c.event), else_=None),
            won.c.ended_at,
        )
        .join_from(won, payments, payments.c.payment_id == won.c.payment_id)
        .where(or_(won.c.watch_cause.is_not(None), captured & has_ended()))
    )
    return _begin(found)


def _either(captured: ColumnElement[bool], word: str, other: ColumnElement[str]) -> ColumnElement[str]:
    return case((captured, literal(word, Text())), else_=other)


def _begin(found: Selectable) -> Statement:
    return (
        insert(watches)
        .from_select(list(BEGUN), found)
        .on_conflict_do_nothing(index_elements=["payment_id", "attempt_number"])
    )


_NAMED: Columns = {"payment_id": Id, "attempt_number": Whole, "gateway_id": Text(), "claimed_until": When()}


def _mine(item: FromClause) -> tuple[ColumnElement[bool], ...]:
    return watches.c.payment_id == item.c.payment_id, watches.c.attempt_number == item.c.attempt_number


CLAIM_MONITOR = Phase(
    name="claim_watch",
    columns={**_NAMED, "due_at": When()},
    key="payment_id",
    order=("payment_id",),
    guard=lambda item: (
        update(watches)
        .values(next_check_at=item.c.claimed_until)
        .where(*_mine(item), watches.c.next_check_at == item.c.due_at)
        .returning(watches.c.payment_id)
    ),
    effects=lambda _: (),
)
"""Gives one worker a watch that is due, until its claim runs out."""

MOVE_MONITOR = Phase(
    name="move_watch",
    columns={
        **_NAMED,
        "was": Text(),
        "state": Text(),
        "next_check_at": When(),
        "check_number": Whole,
        "evidence": Json(),
        "at": When(),
    },
    key="payment_id",
    order=("payment_id",),
    guard=lambda item: (
        update(watches)
        .values(
            state=item.c.state,
            next_check_at=item.c.next_check_at,
            checks_made=item.c.check_number,
            evidence=func.coalesce(item.c.evidence, watches.c.evidence),
            updated_at=item.c.at,
        )
        .where(*_mine(item), watches.c.state == item.c.was, watches.c.next_check_at == item.c.claimed_until)
        .returning(watches.c.payment_id)
    ),
    effects=lambda _: (),
)
"""Writes a look that brought no money to light, or a reversal that is not done."""


def _is_booked(item: FromClause) -> ColumnElement[bool]:
    """Whether an attempt's money is held in suspense already, where it waits for a manual decision."""
    return exists().where(
        transfers.c.payment_id == item.c.payment_id,
        transfers.c.attempt_number == item.c.attempt_number,
        transfers.c.kind == TransferKind.UNMATCHED,
    )


BOOK_LATE_CAPTURE = Phase(
    name="find_money",
    columns={**_NAMED, **BOOKED, "transaction_ref": Text(), "evidence": Json(), "at": When()},
    key="payment_id",
    order=("payment_id",),
    guard=lambda item: (
        update(watches)
        .values(
            state=MonitorState.REVERSING,
            until=item.c.at,
            checks_made=0,
            transaction_ref=item.c.transaction_ref,
            evidence=item.c.evidence,
            updated_at=item.c.at,
        )
        .where(
            *_mine(item),
            watches.c.state == MonitorState.WATCHING,
            watches.c.next_check_at == item.c.claimed_until,
            ~_is_booked(item),
        )
        .returning(watches.c.payment_id)
    ),
    effects=lambda won: (
        book_once(won),
        update(attempts)
        .values(transaction_ref=won.c.transaction_ref)
        .where(attempts.c.payment_id == won.c.payment_id, attempts.c.attempt_number == won.c.attempt_number),
    ),
    locks=True,
)
"""Books money that must be reversed, before the refund is sent: a crash in between leaves the reversal to be made.

Lost where the attempt's money is booked as `unmatched`: it is booked once, and a manual decision assigns it."""

REVERSE = Phase(
    name="give_back",
    columns={**_NAMED, **BOOKED, "reversal_ref": Text(), "event": Json(), "at": When()},
    key="payment_id",
    order=("payment_id",),
    guard=lambda item: (
        update(watches)
        .values(state=MonitorState.REVERSED, next_check_at=None, reversal_ref=item.c.reversal_ref, updated_at=item.c.at)
        .where(*_mine(item), watches.c.state == MonitorState.REVERSING)
        .returning(watches.c.payment_id)
    ),
    effects=lambda won: (
        book_once(won),
        put(outbox, won),
        update(attempts)
        .values(status=AttemptStatus.REVERSED)
        .where(attempts.c.payment_id == won.c.payment_id, attempts.c.attempt_number == won.c.attempt_number),
    ),
    locks=True,
)
"""Ends a reversal that the gateway has made, once: whoever else asked it meanwhile asked under the same key."""
