"""Money a gateway says it moved -> a Transfer: what one account is debited another is credited."""

from enum import StrEnum

from msgspec import Struct

SUSPENSE = "suspense"
"""The account of money with no owner yet: it is reversed to where it came from, or a manual decision assigns it."""

MOST_MINOR = 2**63 - 1
"""What the ledger's integers hold."""


class TransferKind(StrEnum):
    """Why money moved."""

    CAPTURE = "capture"
    DUPLICATE_CAPTURE = "duplicate_capture"
    REVERSAL = "reversal"
    UNMATCHED = "unmatched"
    RESOLUTION = "resolution"


IN_SUSPENSE = (TransferKind.DUPLICATE_CAPTURE, TransferKind.UNMATCHED)
"""Money that came in and has no owner: it may have to be reversed."""


class Transfer(Struct, frozen=True, kw_only=True):
    """One movement in double entry; an attempt took money once and has one of each kind, a payment one capture."""

    kind: TransferKind
    debit_account: str
    credit_account: str
    amount_minor: int
    currency: str


def gateway_account(gateway_id: str) -> str:
    """Name the account of what a gateway owes."""
    return f"gateway:{gateway_id}"


def merchant_account(merchant_id: str) -> str:
    """Name the account of what a merchant is owed."""
    return f"merchant:{merchant_id}"


def is_bookable(amount_minor: int) -> bool:
    """Whether a gateway's number can be an amount; another one needs manual review."""
    return 0 < amount_minor <= MOST_MINOR


def capture(gateway_id: str, merchant_id: str, amount_minor: int, currency: str) -> Transfer:
    """Book the money of a payment: the gateway owes it, and the merchant is owed it."""
    return Transfer(
        kind=TransferKind.CAPTURE,
        debit_account=gateway_account(gateway_id),
        credit_account=merchant_account(merchant_id),
        amount_minor=amount_minor,
        currency=currency,
    )


def unmatched(gateway_id: str, amount_minor: int, currency: str) -> Transfer:
    """Book money that is not what was asked for, as the gateway states it, until a manual decision."""
    return _to_suspense(TransferKind.UNMATCHED, gateway_id, amount_minor, currency)


def duplicate_capture(gateway_id: str, amount_minor: int, currency: str) -> Transfer:
    """Book money that an attempt moved although its payment had ended without it; it must be reversed."""
    return _to_suspense(TransferKind.DUPLICATE_CAPTURE, gateway_id, amount_minor, currency)


def reversal(gateway_id: str, amount_minor: int, currency: str) -> Transfer:
    """Book the reversal of a duplicate capture."""
    return Transfer(
        kind=TransferKind.REVERSAL,
        debit_account=SUSPENSE,
        credit_account=gateway_account(gateway_id),
        amount_minor=amount_minor,
        currency=currency,
    )


def _to_suspense(kind: TransferKind, gateway_id: str, amount_minor: int, currency: str) -> Transfer:
    return Transfer(
        kind=kind,
        debit_account=gateway_account(gateway_id),
        credit_account=SUSPENSE,
        amount_minor=amount_minor,
        currency=currency,
    )
