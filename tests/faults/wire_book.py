"""What a Razorpay of our own is asked to do -> its book: orders, payments on them, what was captured and given back.

A customer approves at once what was created: a payment is authorised, and captured when pgw asks for it.
"""

from dataclasses import dataclass, field
from typing import Any

from pgw.core.money.audit_rows import CAPTURED, REVERSED, SettlementLine

FIELDS = frozenset({"amount", "currency", "order_id", "email", "contact", "method"})

Document = dict[str, Any]
Reply = tuple[int, Document]


@dataclass
class Payment:
    """One payment."""

    id: str
    receipt: str
    amount: int
    currency: str
    status: str = "authorized"
    captured: int = 0
    refunds: dict[str, int] = field(default_factory=dict)

    def shown(self) -> Document:
        """Write it as Razorpay does, as far as pgw reads it."""
        return {"id": self.id, "amount": self.amount, "currency": self.currency, "status": self.status}

    def returned(self) -> list[Document]:
        """Write what of it went back as Razorpay does, as far as pgw reads it."""
        return [
            {"id": f"rfnd_{self.id}", "amount": amount, "status": "processed", "notes": {"reversal": key}}
            for key, amount in self.refunds.items()
        ]


@dataclass
class Order:
    """One order."""

    id: str
    receipt: str
    amount: int
    currency: str
    payments: list[Payment] = field(default_factory=list)

    def shown(self) -> Document:
        """Write it as Razorpay does, as far as pgw reads it."""
        return {
            "id": self.id,
            "amount": self.amount,
            "amount_paid": sum(each.captured for each in self.payments),
            "currency": self.currency,
            "receipt": self.receipt,
            "status": "attempted" if self.payments else "created",
            "attempts": len(self.payments),
        }


class Book:
    """Changed by the gateway's thread alone; what reads it from outside takes a copy first."""

    def __init__(self) -> None:
        self.orders: dict[str, Order] = {}
        self.odd: list[str] = []
        """What was asked for and is nothing that pgw may ask."""

    def place(self, asked: Document) -> Reply:
        """Make an order, which nobody but the merchant captures."""
        if asked["payment"]["capture"] != "manual" or self.found(asked["receipt"]):
            self.odd.append(f"order {asked['receipt']}: captured by itself, or its receipt is used")
            return refusal("Order receipt should be unique.")
        order = Order(f"order_{len(self.orders) + 1}", asked["receipt"], asked["amount"], asked["currency"])
        self.orders[order.id] = order
        return 200, {**order.shown(), "entity": "order"}

    def charge(self, asked: Document, takes: tuple[int, str] | None) -> Reply:
        """Make a payment on an order; `takes` is captured at once, whatever was asked for."""
        order = self.orders[asked["order_id"]]
        if missing := FIELDS - set(asked):
            self.odd.append(f"charge of {order.receipt} without {sorted(missing)}")
            return refusal("A member is missing")
        payment = Payment(f"pay_{len(self._payments()) + 1}", order.receipt, asked["amount"], asked["currency"])
        if takes is not None:
            payment.amount, payment.currency = takes
            payment.status, payment.captured = "captured", payment.amount
        order.payments.append(payment)
        return 200, {"razorpay_payment_id": payment.id, "link": f"upi://pay?pa=shop@upi&tr={payment.id}"}

    def capture(self, payment_id: str, asked: Document) -> Reply:
        """Take what was authorised, once."""
        payment = self._payment(payment_id)
        if payment.status != "authorized":
            return refusal("This payment has already been captured")
        if (asked["amount"], asked["currency"]) != (payment.amount, payment.currency):
            return refusal("Capture amount must be equal to the amount authorized")
        payment.status, payment.captured = "captured", payment.amount
        return 200, payment.shown()

    def refund(self, payment_id: str, key: str, asked: Document) -> Reply:
        """Give a payment back, once."""
        payment = self._payment(payment_id)
        if key not in payment.refunds:
            if payment.status != "captured" or asked["amount"] != payment.captured:
                return refusal("The payment cannot be refunded")
            payment.status, payment.refunds[key] = "refunded", asked["amount"]
        return 200, payment.returned()[0]

    def refunds(self, payment_id: str) -> Reply:
        """Show what of a payment went back."""
        return 200, {"items": self._payment(payment_id).returned()}

    def found(self, receipt: str) -> list[Document]:
        """Show the orders of a receipt."""
        return [each.shown() for each in tuple(self.orders.values()) if each.receipt == receipt]

    def statement(self) -> tuple[SettlementLine, ...]:
        """Write the settlement list of all that moved."""
        booked = self._payments()
        lines = [_line(each, each.captured, CAPTURED) for each in booked if each.captured]
        return (*lines, *(_line(each, amount, REVERSED) for each in booked for amount in each.refunds.values()))

    def _payment(self, payment_id: str) -> Payment:
        return next(each for each in self._payments() if each.id == payment_id)

    def _payments(self) -> list[Payment]:
        return [each for order in tuple(self.orders.values()) for each in tuple(order.payments)]


def refusal(description: str) -> Reply:
    """Refuse what was asked."""
    return 400, {"error": {"code": "BAD_REQUEST_ERROR", "description": description}}


def _line(payment: Payment, amount: int, kind: str) -> SettlementLine:
    payment_id, _, number = payment.receipt.rpartition("-")
    return SettlementLine(
        gateway_id="razorpay",
        payment_id=payment_id,
        attempt_number=int(number),
        amount_minor=amount,
        currency=payment.currency,
        kind=kind,
    )
