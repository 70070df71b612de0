"""Items that say what money moved -> transfers, booked in the commit that makes them true."""

from sqlalchemy import ColumnElement, Text, case, literal, select
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.sql.selectable import FromClause, Selectable

from pgw.core.ledger.engine.columns import Id, Whole
from pgw.core.ledger.engine.phase import Columns, Statement
from pgw.core.ledger.tables import payments, transfers
from pgw.core.money.transfer import SUSPENSE, TransferKind
from pgw.core.payment.payment import Status

BOOKED: Columns = {
    "transfer_id": Id,
    "transfer_kind": Text(),
    "debit_account": Text(),
    "credit_account": Text(),
    "transfer_amount_minor": Whole,
    "transfer_currency": Text(),
}
"""A transfer, all members empty where no money moved; none is named like a column of another table."""


def has_ended() -> ColumnElement[bool]:
    """Whether a payment has its answer: money that comes now is reversed."""
    return payments.c.status.in_((Status.SUCCESS, Status.FAILURE))


def book_once(won: FromClause) -> Statement:
    """Book an item's money as it says."""
    return _booked(
        select(*_members(won, won.c.attempt_number, won.c.transfer_kind, won.c.credit_account, won.c.at)).where(
            won.c.transfer_kind.is_not(None)
        )
    )


def book_end(won: FromClause) -> Statement:
    """Book the money an attempt's end moved, as the payment stands: stands before `settle_payment` among the effects.

    A payment that waits for it takes it as the write says. Under manual review the decision says whose it is, and
    where the payment has ended it is a duplicate: neither is the merchant's.
    """
    waits_for_person = payments.c.status == Status.MANUAL_REVIEW
    kind = case(
        (has_ended(), literal(TransferKind.DUPLICATE_CAPTURE, Text())),
        (waits_for_person, literal(TransferKind.UNMATCHED, Text())),
        else_=won.c.transfer_kind,
    )
    account = case((has_ended() | waits_for_person, literal(SUSPENSE, Text())), else_=won.c.credit_account)
    return _booked(
        select(*_members(won, won.c.end_number, kind, account, won.c.ended_at))
        .join_from(won, payments, payments.c.payment_id == won.c.payment_id)
        .where(won.c.transfer_kind.is_not(None))
    )


def _members(
    won: FromClause,
    number: ColumnElement[int],
    kind: ColumnElement[str],
    credit_account: ColumnElement[str],
    at: ColumnElement[object],
) -> list[ColumnElement[object]]:
    return [
        won.c.transfer_id,
        won.c.payment_id,
        number,
        kind,
        won.c.debit_account,
        credit_account,
        won.c.transfer_amount_minor,
        won.c.transfer_currency,
        at,
    ]


def _booked(found: Selectable) -> Statement:
    """Write them. Of its kind an attempt has one.

    A second capture of a payment is refused, and money an attempt took that is booked as something else already; and
    with it the whole item.
    """
    return (
        insert(transfers)
        .from_select([each.name for each in transfers.c], found)
        .on_conflict_do_nothing(index_elements=["payment_id", "attempt_number", "kind"])
    )
