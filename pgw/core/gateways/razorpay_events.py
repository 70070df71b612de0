"""Razorpay's webhook document -> what it names: the event, its time, our attempt; leniently, but within bounds.

Forms: "Webhooks: payments, orders, refunds: payloads" of Razorpay's documentation. An event holds entities by kind;
of them an order has our receipt, a payment the notes it was made with, a refund the payment's id.
"""

import re
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

from msgspec import Struct

from pgw.core.gateways.razorpay_answers import read
from pgw.core.payment import card_data
from pgw.core.ports import Reference
from pgw.core.verification.webhook import WebhookNotice

RECEIPT = "receipt"
"""Under this name a payment's notes hold the attempt, as its order's receipt does."""

_RECEIPT = re.compile(r"([0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12})-([1-9][0-9]?)")
"""No payment has a hundred attempts, skipped ones included: each is at another gateway."""

_EVENT = re.compile(r"[a-z0-9_.]{1,64}")
_PAYMENT = re.compile(r"pay_[0-9A-Za-z]{1,40}")

Document = dict[str, Any]


class _Event(Struct, frozen=True):
    """What is read of an event; the rest is ignored."""

    event: str
    created_at: int
    payload: Any = None


def receipt_of(reference: Reference) -> str:
    """Name an attempt in an order's receipt: 38 characters of the 40 there are."""
    return f"{reference.payment_id}-{reference.attempt_number}"


def reference_in(receipt: Any) -> Reference | None:
    """Read a receipt back; None for what is no receipt of ours."""
    matched = _RECEIPT.fullmatch(receipt) if isinstance(receipt, str) else None
    return None if matched is None else Reference(matched[1], int(matched[2]))


def notice_in(body: bytes) -> WebhookNotice | None:
    """Read a signed body; None where it is no event. Other members are ignored unless they have the form of a name."""
    event = read(body, _Event)
    occurred_at = None if event is None else _timestamp(event.created_at)
    if event is None or occurred_at is None or not _is_name(_EVENT, event.event):
        return None
    payment, order, refund = (_entity(event.payload, kind) for kind in ("payment", "order", "refund"))
    reference = next(_references(order, payment), None)
    return WebhookNotice(
        event=event.event,
        occurred_at=occurred_at,
        payment_id=None if reference is None else reference.payment_id,
        attempt_number=None if reference is None else reference.attempt_number,
        transaction_ref=_payment_id(payment.get("id")) or _payment_id(refund.get("payment_id")),
    )


def _references(order: Document, payment: Document) -> Iterator[Reference]:
    notes = payment.get("notes")
    for receipt in (order.get("receipt"), notes.get(RECEIPT) if isinstance(notes, dict) else None):
        reference = reference_in(receipt)
        if reference is not None:
            yield reference


def _entity(payload: Any, kind: str) -> Document:
    wrapped = payload.get(kind) if isinstance(payload, dict) else None
    entity = wrapped.get("entity") if isinstance(wrapped, dict) else None
    return entity if isinstance(entity, dict) else {}


def _payment_id(text: Any) -> str | None:
    return text if isinstance(text, str) and _is_name(_PAYMENT, text) else None


def _is_name(form: re.Pattern[str], text: str) -> bool:
    """Whether a text may be kept as a name: of the form, and no card number, which a form of digits could hold."""
    return form.fullmatch(text) is not None and not card_data.in_text(text)


def _timestamp(seconds: int) -> datetime | None:
    try:
        return datetime.fromtimestamp(seconds, UTC)
    except (OverflowError, ValueError, OSError):
        return None
