"""ChargeOrder -> Verdict at Razorpay: an order for each attempt, one payment on it, captured only when pgw says so.

Facts from Razorpay's documentation: "Orders" (create, fetch all, fetch payments), "Configure Payment Capture Settings
using Orders API", "Capture a Payment", "S2S integration" (UPI intent and collect, cards, netbanking), "Errors".
"""

import asyncio
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

from msgspec import Struct

from pgw.core.gateways.razorpay_answers import (
    BAD_REQUEST,
    OK,
    REVERSAL,
    UNAUTHENTICATED,
    Created,
    Listed,
    RazorpayOrder,
    RazorpayPayment,
    RazorpayRefund,
    gate,
    next_action,
    outcome,
    read,
    refused,
    returned,
)
from pgw.core.gateways.razorpay_events import RECEIPT, receipt_of
from pgw.core.gateways.wire import Answer, Method, Reply, Wire
from pgw.core.payment.outcome import Blame, NotSent, Unknown, Verdict
from pgw.core.payment.payment import Card, Netbanking, Upi, UpiFlow, upi_flow
from pgw.core.ports import ChargeOrder, Reference
from pgw.core.verification.enquiry import Finding, Pending, Reversal, ReversalRefused, Undecided

T = TypeVar("T", bound=Struct)

CAPTURE_WITHIN_MINUTES = 12
"""How long an authorised payment may wait for a capture: the shortest period the capture settings document. Razorpay
refunds by itself what pgw does not capture by then."""

COLLECT_WITHIN_MINUTES = 5
"""How long a collect request waits for the customer: the documented default, which the call must still name."""

ORDER_SHARE = 0.4
"""Part of an attempt's time that the order may take; the charging call needs the rest."""

MOST_REFUNDS = 100
"""How many refunds of one payment are read; Razorpay's default is the last 10."""

AUTH = "AUTH"
"""Trouble: the keys are refused, or lack a permission."""


class Razorpay:
    """The gateway. `trouble` is why an operator must look at it, until a call succeeds again."""

    def __init__(self, wire: Wire) -> None:
        self._wire = wire
        self.trouble: str | None = None

    async def charge(self, order: ChargeOrder) -> Verdict:
        """Create an order, then one payment on it. An order without a payment moves no money."""
        placed = await self._order(order)
        if isinstance(placed, NotSent):
            return placed
        path, document = _payment(order, placed.id)
        reply = await self._call("POST", path, document, may_send=order.may_send)
        if not isinstance(reply, Reply):
            return reply
        created = read(reply.body, Created)
        if reply.status != OK or created is None:
            return refused(reply)
        action = next_action(created)
        return Unknown("UNREADABLE_ANSWER", Blame.GATEWAY) if action is None else action

    async def enquire(self, reference: Reference) -> Finding:
        """Find the attempt's order by its receipt, and reduce all its payments to one outcome."""
        orders = await self._list("/v1/orders", {"receipt": receipt_of(reference)}, RazorpayOrder)
        if isinstance(orders, Undecided):
            return orders
        ours = [order for order in orders if order.receipt == receipt_of(reference)]
        payments: list[RazorpayPayment] = []
        for order in ours:
            listed = await self._list(f"/v1/orders/{order.id}/payments", None, RazorpayPayment)
            if isinstance(listed, Undecided):
                return listed
            payments += listed
        return outcome(ours, payments)

    async def capture(self, transaction_ref: str, amount_minor: int, currency: str) -> None:
        """Capture an authorised payment; the next enquiry reports the outcome."""
        document = {"amount": amount_minor, "currency": currency}
        await self._call("POST", f"/v1/payments/{transaction_ref}/capture", document)

    async def reverse(self, transaction_ref: str, amount_minor: int, key: str) -> Reversal:
        """Refund captured money, or return its refund's state. `key`, the same for each try, makes it happen once."""
        path = f"/v1/payments/{transaction_ref}/refund"
        refunds = await self._list(f"{path}s", {"count": str(MOST_REFUNDS)}, RazorpayRefund)
        if isinstance(refunds, Undecided):
            unknown = refunds.error_code == f"HTTP_{BAD_REQUEST}"
            return ReversalRefused("REFUNDS_REFUSED") if unknown else refunds
        if (state := returned(refunds, amount_minor, key)) is not None:
            return state
        document = {"amount": amount_minor, "notes": {REVERSAL: key}}
        reply = await self._call("POST", path, document, headers={"X-Refund-Idempotency": key})
        if not isinstance(reply, Reply):
            return Undecided(Pending.UNREACHABLE, reply.error_code)
        if reply.status == BAD_REQUEST:
            return ReversalRefused("REFUND_REFUSED")
        refund = read(reply.body, RazorpayRefund) if reply.status == OK else None
        if refund is None:
            return Undecided(Pending.STILL_PENDING, f"HTTP_{reply.status}")
        # Failed, or not of this amount; the same key would return the same refund for ever.
        return returned([refund], amount_minor, key) or ReversalRefused("REFUND_FAILED")

    async def close(self) -> None:
        """Close the connections."""
        await self._wire.close()

    async def _order(self, order: ChargeOrder) -> RazorpayOrder | NotSent:
        document = {
            "amount": order.amount_minor,
            "currency": order.currency,
            "receipt": receipt_of(order.reference),
            "payment": {
                "capture": "manual",
                "capture_options": {"manual_expiry_period": CAPTURE_WITHIN_MINUTES, "refund_speed": "normal"},
            },
        }
        try:
            async with asyncio.timeout(order.timeout_s * ORDER_SHARE):
                reply = await self._call("POST", "/v1/orders", document)
        except TimeoutError:
            return NotSent("NOT_SENT_ORDER_TIMEOUT", Blame.GATEWAY)
        if isinstance(reply, NotSent):
            return reply
        if isinstance(reply, Unknown):
            return NotSent(f"NOT_SENT_ORDER_{reply.error_code}", reply.blame)
        if (refusal := gate(reply)) is not None:
            return refusal
        placed = read(reply.body, RazorpayOrder) if reply.status == OK else None
        if placed is None or (placed.amount, placed.currency) != (order.amount_minor, order.currency):
            return NotSent("NOT_SENT_ORDER_REFUSED", Blame.GATEWAY)
        return placed

    async def _call(
        self,
        method: Method,
        path: str,
        document: object | None = None,
        *,
        query: dict[str, str] | None = None,
        headers: dict[str, str] | None = None,
        may_send: Callable[[], bool] | None = None,
    ) -> Answer:
        reply = await self._wire.call(method, path, document=document, query=query, headers=headers, may_send=may_send)
        if isinstance(reply, Reply):
            self.trouble = AUTH if reply.status in UNAUTHENTICATED else None
        return reply

    async def _list(self, path: str, query: dict[str, str] | None, kind: type[T]) -> Sequence[T] | Undecided:
        reply = await self._call("GET", path, query=query)
        if not isinstance(reply, Reply):
            return Undecided(Pending.UNREACHABLE, reply.error_code)
        listed = read(reply.body, Listed) if reply.status == OK else None
        if listed is None:
            return Undecided(Pending.UNREACHABLE, f"HTTP_{reply.status}")
        decoded = [read(bytes(item), kind) for item in listed.items]
        whole = [each for each in decoded if each is not None]
        return whole if len(whole) == len(decoded) else Undecided(Pending.UNREACHABLE, "UNREADABLE_ANSWER")


def _payment(order: ChargeOrder, order_id: str) -> tuple[str, dict[str, Any]]:
    """Lay out the charging call: its path and its document."""
    customer, client = order.customer, order.client
    common: dict[str, Any] = {
        "amount": order.amount_minor,
        "currency": order.currency,
        "order_id": order_id,
        "email": customer.email if customer else None,
        "contact": customer.contact if customer else None,
        "ip": client.ip if client else None,
        "referer": client.referer if client else None,
        "user_agent": client.user_agent if client else None,
        # A webhook carries a payment with its notes, never with its order's receipt.
        "notes": {RECEIPT: receipt_of(order.reference)},
    }
    path = "/v1/payments/create/json"
    match order.instrument:
        case Upi() as upi:
            path = "/v1/payments/create/upi"
            flow: dict[str, Any] = {"flow": "intent"}
            if upi_flow(upi) is UpiFlow.COLLECT:
                flow = {"flow": "collect", "vpa": upi.vpa, "expiry_time": COLLECT_WITHIN_MINUTES}
            document = {**common, "method": "upi", "upi": flow}
        case Card() as card:
            # A payment by token still names the card object, which may be empty: no CVV is ever taken.
            document = {**common, "method": "card", "token": card.token, "card": {}, "callback_url": order.return_url}
        case Netbanking() as bank:
            document = {**common, "method": "netbanking", "bank": bank.bank_code, "callback_url": order.return_url}
    return path, {name: value for name, value in document.items() if value is not None}
