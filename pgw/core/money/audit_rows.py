"""What the ledger says of one payment, and what a gateway says it settled -> Case, Settlement."""

from collections.abc import Iterable, Sequence
from datetime import datetime

from msgspec import Struct

from pgw.core.payment.payment import AttemptStatus, Status

CAPTURED, REVERSED = "captured", "reversed"
"""What a line of a settlement list may say."""


class PaymentRow(Struct, frozen=True, kw_only=True):
    """A payment's row, as far as the invariants speak of it."""

    payment_id: str
    merchant_id: str
    idempotency_key: str
    status: Status
    amount_minor: int
    currency: str
    created_at: datetime


class AttemptRow(Struct, frozen=True, kw_only=True):
    """An attempt's row."""

    attempt_number: int
    gateway_id: str
    status: AttemptStatus
    started_at: datetime
    ended_at: datetime | None
    next_check_at: datetime | None


class TransferRow(Struct, frozen=True, kw_only=True):
    """A transfer's row."""

    attempt_number: int
    kind: str
    debit_account: str
    credit_account: str
    amount_minor: int
    currency: str


class MonitorRow(Struct, frozen=True, kw_only=True):
    """The row of an attempt that must not capture."""

    attempt_number: int
    gateway_id: str
    state: str
    next_check_at: datetime | None


class EventRow(Struct, frozen=True, kw_only=True):
    """An event in the outbox; `published` is its place in the stream."""

    position: int
    published: int | None
    event_id: str
    type: str
    attempt_number: int | None
    status: str


class PaymentRows(Struct, frozen=True, kw_only=True):
    """All that the ledger knows of one payment; attempts by number, events by position (None: not looked at)."""

    payment: PaymentRow
    attempts: Sequence[AttemptRow] = ()
    transfers: Sequence[TransferRow] = ()
    watches: Sequence[MonitorRow] = ()
    events: Sequence[EventRow] | None = None


class SettlementLine(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One movement, as a gateway's settlement list has it; `kind` is `captured` or `reversed`."""

    gateway_id: str
    payment_id: str
    attempt_number: int
    amount_minor: int
    currency: str
    kind: str


class SettlementList:
    """A list of settlement lines, by payment. It speaks of the gateways it names, and is whole for them."""

    def __init__(self, lines: Iterable[SettlementLine], gateways: Iterable[str] = ()) -> None:
        self._by_payment: dict[str, list[SettlementLine]] = {}
        named = set(gateways)
        for line in lines:
            self._by_payment.setdefault(line.payment_id, []).append(line)
            named.add(line.gateway_id)
        self.gateways = frozenset(named)

    def of(self, payment_id: str) -> Sequence[SettlementLine]:
        """Return the lines of one payment."""
        return self._by_payment.get(payment_id, ())

    @property
    def payment_ids(self) -> Sequence[str]:
        """Name every payment it speaks of."""
        return sorted(self._by_payment)
