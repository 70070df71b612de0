"""A manual decision -> its writes: a payment in review ended, the review of an attempt's money closed, both audited."""

from sqlalchemy import (
    ColumnElement,
    Connection,
    Text,
    and_,
    case,
    exists,
    func,
    literal,
    null,
    or_,
    select,
    update,
)
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.sql.selectable import FromClause

from pgw.core.ledger.audit import ENTRY, note
from pgw.core.ledger.engine.columns import Id, Json, When, Whole
from pgw.core.ledger.engine.phase import Phase, Statement, put
from pgw.core.ledger.late_captures import BEGUN, reversal_key
from pgw.core.ledger.payment_reads import attempts_of
from pgw.core.ledger.tables import attempts, outbox, payments, transfers, watches
from pgw.core.ledger.transfers import BOOKED
from pgw.core.money.transfer import IN_SUSPENSE, SUSPENSE, TransferKind
from pgw.core.payment.payment import Attempt, AttemptStatus, Status
from pgw.core.verification.late_capture import MonitorCause, MonitorState

GOES_BACK = (MonitorState.REVERSING, MonitorState.REVERSED)
"""States of a watch whose money is the customer's again, or about to be."""

_held = transfers.alias("held")
"""Money of an attempt that is held in suspense."""


def last_called(connection: Connection, payment_id: str) -> Attempt:
    """Return a payment's last attempt that was called; nothing else can have its money."""
    return next(
        each for each in reversed(attempts_of(connection, payment_id)) if each.status is not AttemptStatus.SKIPPED
    )


def review_of(connection: Connection, payment_id: str, attempt_number: int) -> tuple[Attempt, MonitorState] | None:
    """Return an attempt, and where its watch stands; None where it has none."""
    query = select(watches.c.state).where(
        watches.c.payment_id == payment_id, watches.c.attempt_number == attempt_number
    )
    state = connection.execute(query).scalar_one_or_none()
    found = {each.attempt_number: each for each in attempts_of(connection, payment_id)}
    return None if state is None else (found[attempt_number], MonitorState(state))


def _is_mine(item: FromClause, table: FromClause, number: str) -> tuple[ColumnElement[bool], ...]:
    return table.c.payment_id == item.c.payment_id, table.c.attempt_number == item.c[number]


def _decided(item: FromClause, status: Status) -> ColumnElement[bool]:
    return item.c.payment_status == status


def _resolve(item: FromClause) -> Statement:
    """End a payment under manual review; not as SUCCESS while its money is being reversed."""
    goes_back = exists().where(*_is_mine(item, watches, "end_number"), watches.c.state.in_(GOES_BACK))
    return (
        update(payments)
        .values(
            status=item.c.payment_status,
            failure_code=item.c.failure_code,
            review_since=None,
            updated_at=item.c.ended_at,
            version=payments.c.version + 1,
        )
        .where(
            payments.c.payment_id == item.c.payment_id,
            payments.c.status == Status.MANUAL_REVIEW,
            or_(_decided(item, Status.FAILURE), ~goes_back),
        )
        .returning(payments.c.payment_id)
    )


def _is_unmatched(won: FromClause) -> ColumnElement[bool]:
    return and_(*_is_mine(won, _held, "end_number"), _held.c.kind == TransferKind.UNMATCHED)


def _is_held(won: FromClause, number: str) -> ColumnElement[bool]:
    """Find what an attempt took that is held in suspense, also what was to be reversed and could not."""
    return and_(*_is_mine(won, _held, number), _held.c.kind.in_(IN_SUSPENSE))


def _book(won: FromClause) -> Statement:
    """Give the merchant what is held in suspense; where nothing is, what the payment asked for was captured."""
    is_held = _held.c.transfer_id.is_not(None)
    found = (
        select(
            won.c.transfer_id,
            won.c.payment_id,
            won.c.end_number,
            case((is_held, literal(TransferKind.RESOLUTION, Text())), else_=won.c.transfer_kind),
            case((is_held, literal(SUSPENSE, Text())), else_=won.c.debit_account),
            won.c.credit_account,
            func.coalesce(_held.c.amount_minor, won.c.transfer_amount_minor),
            func.coalesce(_held.c.currency, won.c.transfer_currency),
            won.c.ended_at,
        )
        .outerjoin_from(won, _held, _is_held(won, "end_number"))
        .where(won.c.transfer_kind.is_not(None))
    )
    return insert(transfers).from_select([each.name for each in transfers.c], found)


def _end_attempt(won: FromClause) -> Statement:
    """Let the attempt agree with its payment; one whose money was reversed stays so."""
    was_reversed = attempts.c.status == AttemptStatus.REVERSED
    return (
        update(attempts)
        .values(
            status=case((was_reversed, attempts.c.status), else_=won.c.end_status),
            error_code=case((_decided(won, Status.SUCCESS), null()), else_=attempts.c.error_code),
            next_check_at=None,
        )
        .where(*_is_mine(won, attempts, "end_number"))
    )


def _monitor(won: FromClause) -> Statement:
    """Monitor an attempt that was decided to have failed; what is held in suspense of it is to be reversed now."""
    is_held = _held.c.transfer_id.is_not(None)
    found = (
        select(
            won.c.payment_id,
            won.c.end_number,
            won.c.watch_gateway_id,
            case((is_held, literal(MonitorState.REVERSING, Text())), else_=literal(MonitorState.WATCHING, Text())),
            literal(MonitorCause.RESOLVED, Text()),
            case((is_held, won.c.ended_at), else_=won.c.watch_until),
            case((is_held, won.c.ended_at), else_=won.c.watch_next_check_at),
            literal(0, Whole),
            reversal_key(won),
            attempts.c.transaction_ref,
            case((is_held, won.c.event), else_=None),
            won.c.ended_at,
        )
        .join_from(won, attempts, and_(*_is_mine(won, attempts, "end_number")))
        .outerjoin(_held, _is_unmatched(won))
        .where(_decided(won, Status.FAILURE))
    )
    begun = insert(watches).from_select(list(BEGUN), found)
    new = begun.excluded
    return begun.on_conflict_do_update(
        index_elements=["payment_id", "attempt_number"],
        set_={
            "state": new.state,
            "until": new.until,
            "next_check_at": new.next_check_at,
            "checks_made": new.checks_made,
            "transaction_ref": func.coalesce(new.transaction_ref, watches.c.transaction_ref),
            "evidence": new.evidence,
            "updated_at": new.updated_at,
        },
        where=and_(new.state == MonitorState.REVERSING, watches.c.state.not_in(GOES_BACK)),
    )


def _end_monitor(won: FromClause) -> Statement:
    """End the monitor of an attempt decided to have succeeded: its money is not to be reversed."""
    return (
        update(watches)
        .values(state=MonitorState.OVER, next_check_at=None, updated_at=won.c.ended_at)
        .where(*_is_mine(won, watches, "end_number"), watches.c.state.not_in(GOES_BACK), _decided(won, Status.SUCCESS))
    )


RESOLVE = Phase(
    name="resolve",
    columns={
        "payment_id": Id,
        "end_number": Whole,
        "end_status": Text(),
        "payment_status": Text(),
        "failure_code": Text(),
        "watch_gateway_id": Text(),
        "watch_until": When(),
        "watch_next_check_at": When(),
        "ended_at": When(),
        "event": Json(),
        **BOOKED,
        **ENTRY,
    },
    key="payment_id",
    order=("payment_id",),
    guard=_resolve,
    effects=lambda won: (
        put(outbox, won),
        _book(won),
        _end_attempt(won),
        _monitor(won),
        _end_monitor(won),
        note(won),
    ),
    locks=True,
)
"""Ends a payment by manual decision, with its money and its audit entry; lost when it is not under review any more."""


def _close_review(item: FromClause) -> Statement:
    return (
        update(watches)
        .values(state=MonitorState.OVER, next_check_at=None, updated_at=item.c.at)
        .where(*_is_mine(item, watches, "attempt_number"), watches.c.state == MonitorState.MANUAL_REVIEW)
        .returning(watches.c.payment_id)
    )


def _book_return(won: FromClause) -> Statement:
    """Book what was held in suspense as reversed to where it came from."""
    found = select(
        won.c.transfer_id,
        won.c.payment_id,
        won.c.attempt_number,
        literal(TransferKind.REVERSAL, Text()),
        literal(SUSPENSE, Text()),
        _held.c.debit_account,
        _held.c.amount_minor,
        _held.c.currency,
        won.c.at,
    ).join_from(won, _held, _is_held(won, "attempt_number"))
    booked = insert(transfers).from_select([each.name for each in transfers.c], found)
    return booked.on_conflict_do_nothing(index_elements=["payment_id", "attempt_number", "kind"])


def _mark_returned(won: FromClause) -> Statement:
    return (
        update(attempts)
        .values(status=AttemptStatus.REVERSED)
        .where(*_is_mine(won, attempts, "attempt_number"), exists().where(_is_held(won, "attempt_number")))
    )


CLOSE_REVIEW = Phase(
    name="close_review",
    columns={"payment_id": Id, "attempt_number": Whole, "transfer_id": Id, "at": When(), **ENTRY},
    key="payment_id",
    order=("payment_id",),
    guard=_close_review,
    effects=lambda won: (_book_return(won), _mark_returned(won), note(won)),
    locks=True,
)
"""Closes the review of money that an attempt moved after its payment had ended: by manual decision it is refunded."""
