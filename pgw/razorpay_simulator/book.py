"""Calls, and the time -> the book of money: who ordered, who paid, what was captured and what was refunded."""

import re
from collections.abc import Callable
from datetime import datetime, timedelta
from random import Random
from string import ascii_letters, digits

from pgw.razorpay_simulator.faults import PLAIN, Effect
from pgw.razorpay_simulator.refusals import Failure, Refused, invalid
from pgw.razorpay_simulator.requests import CaptureRequest, CreateOrder, CreatePayment, CreateRefund
from pgw.razorpay_simulator.states import SimulatedOrder, SimulatedPayment, SimulatedRefund, SimulatedStatus

ID_LENGTH = 14
SHORTEST_KEY = 10

_ALPHABET = digits + ascii_letters


class SimulatorBook:
    """Orders and payments. Whatever time does to them has happened when they are looked at."""

    def __init__(self, now: Callable[[], datetime], rng: Random, approve_after_s: float | None = None) -> None:
        self._now = now
        self._rng = rng
        self._approve_after_s = approve_after_s
        self._orders: dict[str, SimulatedOrder] = {}
        self._receipts: dict[str, SimulatedOrder] = {}
        self._payments: dict[str, SimulatedPayment] = {}
        self._refunds: dict[str, tuple[str, CreateRefund, SimulatedRefund]] = {}

    def create_order(self, asked: CreateOrder) -> SimulatedOrder:
        """Note what a merchant wants; one receipt names one order."""
        if asked.receipt is not None and (other := self._receipts.get(asked.receipt)):
            failure = Failure(description="Order receipt should be unique.", field="receipt")
            raise Refused(failure, metadata={"order_id": other.id})
        order = SimulatedOrder(self._id("order"), asked, self._now())
        self._orders[order.id] = order
        if asked.receipt is not None:
            self._receipts[asked.receipt] = order
        return order

    def order(self, order_id: str) -> SimulatedOrder:
        """Find one order."""
        order = self._orders.get(_checked(order_id, "order"))
        if order is None:
            raise _absent()
        order.settle(self._now())
        return order

    def orders(self, receipt: str | None = None) -> list[SimulatedOrder]:
        """List orders, the newest first."""
        if receipt is None:
            found = list(reversed(self._orders.values()))
        else:
            found = [self._receipts[receipt]] if receipt in self._receipts else []
        for order in found:
            order.settle(self._now())
        return found

    def payments(self) -> list[SimulatedPayment]:
        """List every payment, the oldest first."""
        self.orders()
        return list(self._payments.values())

    def payment(self, payment_id: str) -> SimulatedPayment:
        """Find one payment."""
        payment = self._payments.get(_checked(payment_id, "pay"))
        if payment is None:
            raise _absent()
        payment.order.settle(self._now())
        return payment

    def create_payment(self, asked: CreatePayment, effect: Effect = PLAIN) -> SimulatedPayment:
        """Try to pay an order: a payment that waits for its customer, unless `effect` says otherwise."""
        order = self.order(asked.order_id)
        if order.is_taken:
            raise _already_paid(order)
        if asked.amount != order.asked.amount:
            raise _mismatch("amount", order)
        if asked.currency != order.asked.currency:
            raise _mismatch("currency", order)
        now = self._now()
        waits_s = effect.authorizes_after_s
        if effect is PLAIN:
            waits_s = self._approve_after_s
        payment = SimulatedPayment(
            id=self._id("pay"),
            order=order,
            asked=asked,
            amount=asked.amount + effect.surplus,
            created_at=now,
            bank_reference=f"{self._rng.randrange(10**12):012d}",
            card_id=self._id("card") if asked.method == "card" else None,
            authorizes_at=None if waits_s is None else now + timedelta(seconds=waits_s),
        )
        if effect.decline is not None:
            payment.fail(effect.decline)
        order.payments.append(payment)
        self._payments[payment.id] = payment
        order.settle(now)
        return payment

    def approve(self, payment_id: str) -> SimulatedPayment:
        """Let the customer pay, even after the payment had failed; a second time changes nothing."""
        payment = self.payment(payment_id)
        if payment.status in {SimulatedStatus.CREATED, SimulatedStatus.FAILED}:
            payment.authorize(self._now())
            payment.order.settle(self._now())
        return payment

    def decline(self, payment_id: str, failure: Failure) -> SimulatedPayment:
        """Let a payment that waits fail."""
        payment = self.payment(payment_id)
        if payment.status is not SimulatedStatus.CREATED:
            raise invalid(f"The payment is {payment.status}: only a created one can be declined")
        payment.authorizes_at = None
        payment.fail(failure)
        return payment

    def capture(self, payment_id: str, asked: CaptureRequest) -> SimulatedPayment:
        """Give an authorized payment to the merchant, once."""
        payment = self.payment(payment_id)
        if payment.captured_at is not None:
            raise invalid("This payment has already been captured")
        if payment.status is not SimulatedStatus.AUTHORIZED:
            raise invalid("Only payments which have been authorized and not yet captured can be captured")
        if asked.currency != payment.asked.currency:
            raise invalid("Capture currency must be equal to the currency of the payment", "currency")
        if asked.amount != payment.amount:
            raise invalid("Capture amount must be equal to the amount authorized", "amount")
        if asked.amount != payment.order.asked.amount:
            raise invalid("Capture amount must be equal to the amount of the order", "amount")
        payment.capture(self._now())
        return payment

    def refund(self, payment_id: str, asked: CreateRefund, key: str | None = None) -> SimulatedRefund:
        """Return captured money; the same request under the same key is the refund that was made."""
        if key is not None and (made := self._replayed(payment_id, asked, _checked_key(key))):
            return made
        payment = self.payment(payment_id)
        if payment.status is SimulatedStatus.REFUNDED:
            raise invalid("The payment has been fully refunded already")
        if payment.status is not SimulatedStatus.CAPTURED:
            raise invalid("The payment status should be captured for action to be taken")
        left = payment.captured_amount - payment.refunded_amount
        amount = left if asked.amount is None else asked.amount
        if amount > left:
            raise invalid("The refund amount provided is greater than amount captured", "amount")
        refund = SimulatedRefund(self._id("rfnd"), payment, amount, asked, self._now())
        payment.refund(refund)
        if key is not None:
            self._refunds[key] = (payment_id, asked, refund)
        return refund

    def _replayed(self, payment_id: str, asked: CreateRefund, key: str) -> SimulatedRefund | None:
        known = self._refunds.get(key)
        if known is None:
            return None
        if known[:2] != (payment_id, asked):
            failure = Failure(
                description="Different request with the same idempotency key has already been processed.",
                source="NA",
                step="NA",
                reason="NA",
            )
            raise Refused(failure)
        return known[2]

    def _id(self, kind: str) -> str:
        return f"{kind}_{''.join(self._rng.choices(_ALPHABET, k=ID_LENGTH))}"


def _checked(identity: str, kind: str) -> str:
    if not re.fullmatch(rf"{kind}_[0-9A-Za-z]{{{ID_LENGTH}}}", identity):
        raise invalid(f"{identity} is not a valid id")
    return identity


def _checked_key(key: str) -> str:
    if len(key) < SHORTEST_KEY:
        raise invalid("The idempotency key must be at least 10 characters long.")
    if not re.fullmatch("[0-9A-Za-z_-]+", key):
        raise invalid("The idempotency key must only contain alphanumeric characters, underscores, and hyphens")
    return key


def _absent() -> Refused:
    return invalid("The id provided does not exist")


def _already_paid(order: SimulatedOrder) -> Refused:
    failure = Failure(
        description="Your payment has been declined as the order is already paid. "
        "Please initiate the payment with a new order.",
        reason="order_already_paid",
    )
    return Refused(failure, metadata={"order_id": order.id})


def _mismatch(name: str, order: SimulatedOrder) -> Refused:
    failure = Failure(
        description=f"Your payment {name} is different from your order {name}. "
        f"To pay successfully, please try using right {name}.",
        reason=f"order_{name}_mismatch",
        field=name,
    )
    return Refused(failure, metadata={"order_id": order.id})
