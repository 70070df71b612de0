"""Razorpay's answers -> verdicts, findings, reversals: what a body proves, and no more.

The meaning of each status and reason: "Payments", "Orders: fetch payments", "Refunds", "Errors" of Razorpay's
documentation.
"""

from collections.abc import Sequence
from typing import Any, TypeVar

import msgspec
from msgspec import Struct

from pgw.core.gateways.wire import Reply
from pgw.core.payment.outcome import ActionRequired, Blame, Captured, Decline, NotSent, Unknown, declined
from pgw.core.payment.payment import NextAction
from pgw.core.verification.enquiry import Authorized, Finding, Pending, Reversal, ReversalRefused, Reversed, Undecided
from pgw.malformed import MALFORMED

T = TypeVar("T", bound=Struct)


class RazorpayOrder(Struct, frozen=True):
    """What is read of an order."""

    id: str
    amount: int
    currency: str
    receipt: str | None = None
    status: str | None = None
    attempts: int = 0
    amount_paid: int = 0

    @property
    def is_untouched(self) -> bool:
        """Whether no payment was tried on it yet."""
        return self.status == "created" and not self.attempts and not self.amount_paid

    @property
    def is_paid(self) -> bool:
        """Whether money was captured on it, which no refund changes."""
        return self.status == "paid" or self.amount_paid > 0


class RazorpayPayment(Struct, frozen=True):
    """What is read of a payment."""

    id: str
    amount: int
    currency: str
    status: str
    error_reason: str | None = None
    error_step: str | None = None
    error_source: str | None = None


class NextStep(Struct, frozen=True):
    """One thing the customer can do next."""

    action: str
    url: str


class Created(Struct, frozen=True):
    """The answer to a charging call."""

    razorpay_payment_id: str
    link: str | None = None
    next: tuple[NextStep, ...] = ()


class RazorpayError(Struct, frozen=True):
    """Why a call was refused."""

    code: str
    reason: str | None = None
    step: str | None = None
    source: str | None = None


class Refusal(Struct, frozen=True):
    """The answer that holds a fault."""

    error: RazorpayError


class RazorpayRefund(Struct, frozen=True):
    """What is read of a refund; without notes, they come as an empty list."""

    id: str
    status: str
    amount: int
    notes: dict[str, Any] | list[Any] | None = None

    def is_made_under(self, key: str) -> bool:
        """Whether it is the one that pgw asked for under this key."""
        return isinstance(self.notes, dict) and self.notes.get(REVERSAL) == key


class Listed(Struct, frozen=True):
    """A list whose items are read later, each by itself."""

    items: tuple[msgspec.Raw, ...]


REVERSAL = "reversal"
"""Under this name a refund's notes hold the key of the reversal it is."""

RANK = {"captured": 3, "authorized": 2, "created": 1, "failed": 0, "refunded": -1}
"""Which payment of an order decides its outcome; the order of the list is undocumented."""

UNAUTHENTICATED = frozenset({401, 403})
TOO_MANY = 429
SERVER_FAULT = 500
BAD_REQUEST = 400
OK = 200


def next_action(created: Created) -> ActionRequired | None:
    """Read what the customer must do; the link is handed on exactly as it came."""
    reference = created.razorpay_payment_id
    if created.link is not None:
        return ActionRequired(reference, NextAction(type="upi_intent", url=created.link))
    for step in created.next:
        if step.action in {"redirect", "intent"}:
            kind = "redirect" if step.action == "redirect" else "upi_intent"
            return ActionRequired(reference, NextAction(type=kind, url=step.url))
    return ActionRequired(reference, NextAction(type="approve_in_app", url="")) if not created.next else None


def gate(reply: Reply) -> NotSent | None:
    """Read the answers given before a request is processed: no valid key, too many calls."""
    if reply.status in UNAUTHENTICATED:
        return NotSent("NOT_SENT_AUTH", Blame.NONE)
    if reply.status == TOO_MANY:
        return NotSent("NOT_SENT_RATE_LIMITED", Blame.GATEWAY)
    return None


def refused(reply: Reply) -> NotSent | Decline | Unknown:
    """Read an answer to the charging call that is no success; what is not understood leaves the outcome open."""
    if (gated := gate(reply)) is not None:
        return gated
    if reply.status >= SERVER_FAULT:
        return Unknown(f"HTTP_{reply.status}", Blame.GATEWAY)
    refusal = read(reply.body, Refusal)
    if refusal is None or not refusal.error.reason:
        return Unknown("UNREADABLE_ANSWER", Blame.GATEWAY)
    return declined(refusal.error.reason, refusal.error.step, refusal.error.source)


def outcome(orders: Sequence[RazorpayOrder], payments: Sequence[RazorpayPayment]) -> Finding:
    """Reduce an attempt's orders and all payments on them to its outcome; never "the last" one."""
    if (unsure := _contradiction(orders, payments)) is not None:
        return unsure
    # Of equals always the same one, in whatever order they are listed: two must not be captured in turn.
    decisive = max(payments, key=lambda each: (RANK.get(each.status, len(RANK)), each.id), default=None)
    match decisive:
        case None:
            return Undecided(Pending.ABSENT)
        case RazorpayPayment(status="captured"):
            return Captured(decisive.id, decisive.amount, decisive.currency)
        case RazorpayPayment(status="authorized"):
            return Authorized(decisive.id, decisive.amount, decisive.currency)
        case RazorpayPayment(status="failed"):
            # Each must prove that no money moved: one that leaves it open leaves the attempt open.
            ends = [_failed(decisive), *(_failed(each) for each in payments if each.status == "failed")]
            return next((each for each in ends if isinstance(each, Undecided)), ends[0])
        case _:
            is_refunded = decisive.status == "refunded"
            return Undecided(Pending.RETURNED if is_refunded else Pending.STILL_PENDING, decisive.status.upper())


def _contradiction(orders: Sequence[RazorpayOrder], payments: Sequence[RazorpayPayment]) -> Undecided | None:
    """Return why the lists contradict each other or are incomplete: then they decide nothing."""
    states = [each.status for each in payments]
    if any(each.is_paid for each in orders) and not {"captured", "refunded"} & set(states):
        return Undecided(Pending.STILL_PENDING, "ORDER_PAID")
    if not payments and not all(each.is_untouched for each in orders):
        return Undecided(Pending.STILL_PENDING, "ORDER_ATTEMPTED")
    if states.count("captured") > 1:
        # An order is captured once, says the documentation: which is the attempt's is left to manual review.
        return Undecided(Pending.STILL_PENDING, "SEVERAL_CAPTURED")
    return None


def _failed(payment: RazorpayPayment) -> Decline | Undecided:
    if not payment.error_reason:
        return Undecided(Pending.FAILED)
    answer = declined(payment.error_reason, payment.error_step, payment.error_source)
    return Undecided(Pending.FAILED, answer.error_code) if isinstance(answer, Unknown) else answer


def returned(refunds: Sequence[RazorpayRefund], amount_minor: int, key: str) -> Reversal | None:
    """Reduce all refunds of a payment to the state of its reversal under `key`; None: it is still to be requested.

    Money is refunded when refunds of the whole amount are `processed`, whoever requested them: an operator may have, on
    the gateway's own dashboard. One that is `pending` can still fail.
    """
    done = [each for each in refunds if each.status == "processed"]
    ours = [each for each in refunds if each.is_made_under(key)]
    if done and sum(each.amount for each in done) >= amount_minor:
        return Reversed(next((each for each in ours if each in done), done[0]).id)
    if sum(each.amount for each in refunds if each.status != "failed") >= amount_minor:
        return Undecided(Pending.STILL_PENDING, "REFUND_PENDING")
    # The same key would return the same failed refund for ever.
    return ReversalRefused("REFUND_FAILED") if any(each.status == "failed" for each in ours) else None


def read(body: bytes, kind: type[T]) -> T | None:
    """Decode what a gateway sent; None for anything that is not exactly of this form."""
    try:
        return msgspec.json.decode(body, type=kind)
    except MALFORMED:
        return None
