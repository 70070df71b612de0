"""Razorpay's answers -> verdicts and findings: what a body proves, and nothing it does not.

The meaning of each status and reason: "Payments", "Orders: fetch payments", "Errors" of Razorpay's documentation.
"""

from collections.abc import Sequence
from typing import TypeVar

import msgspec
from msgspec import Struct

from pgw.core.enquiry import Authorized, Finding, Pending, Undecided
from pgw.core.gateways.wire import Reply
from pgw.core.outcome import ActionRequired, Blame, Captured, Decline, NotSent, Unknown, declined
from pgw.core.payment import NextAction

T = TypeVar("T", bound=Struct)


class Order(Struct, frozen=True):
    """What is read of an order."""

    id: str
    amount: int
    currency: str
    receipt: str | None = None


class Payment(Struct, frozen=True):
    """What is read of a payment."""

    id: str
    amount: int
    currency: str
    status: str
    error_reason: str | None = None
    error_step: str | None = None


class Step(Struct, frozen=True):
    """One thing the customer can do next."""

    action: str
    url: str


class Created(Struct, frozen=True):
    """The answer to a charging call."""

    razorpay_payment_id: str
    link: str | None = None
    next: tuple[Step, ...] = ()


class Fault(Struct, frozen=True):
    """Why a call was refused."""

    code: str
    reason: str | None = None
    step: str | None = None


class Refusal(Struct, frozen=True):
    """The answer that holds a fault."""

    error: Fault


class Refund(Struct, frozen=True):
    """What is read of a refund."""

    id: str
    status: str


class Listed(Struct, frozen=True):
    """A list whose items are read later, each by itself."""

    items: tuple[msgspec.Raw, ...]


RANK = {"captured": 3, "authorized": 2, "created": 1, "failed": 0, "refunded": -1}
"""Which payment of an order tells its outcome; the order of the list is promised nowhere."""

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
    """Read the answers that come before Razorpay looks at a request: no key, too many calls."""
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
    if refusal is None or refusal.error.reason is None:
        return Unknown("UNREADABLE_ANSWER", Blame.GATEWAY)
    return declined(refusal.error.reason, refusal.error.step)


def outcome(payments: Sequence[Payment]) -> Finding:
    """Reduce all payments of an attempt's order to what became of it; never "the last" one."""
    if not payments:
        return Undecided(Pending.ABSENT)
    told = max(payments, key=lambda each: RANK.get(each.status, len(RANK)))
    match told.status:
        case "captured":
            return Captured(told.id, told.amount, told.currency)
        case "authorized":
            return Authorized(told.id, told.amount, told.currency)
        case "failed" if told.error_reason is not None:
            answer = declined(told.error_reason, told.error_step)
            return Undecided(Pending.FAILED, answer.error_code) if isinstance(answer, Unknown) else answer
        case "failed":
            return Undecided(Pending.FAILED)
        case _:
            return Undecided(Pending.STILL_PENDING, told.status.upper())


def read(body: bytes, kind: type[T]) -> T | None:
    """Decode what a gateway sent; None for anything that is not exactly of this form."""
    try:
        return msgspec.json.decode(body, type=kind)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        return None
