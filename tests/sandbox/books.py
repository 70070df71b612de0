"""A book without a server, and the requests that a test writes into it."""

from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import timedelta
from random import Random
from typing import Any

import msgspec
import pytest

from pgw.razorpay_simulator.book import SimulatorBook
from pgw.razorpay_simulator.faults import PLAIN, Effect
from pgw.razorpay_simulator.refusals import Refused
from pgw.razorpay_simulator.requests import CaptureRequest, CreateOrder, CreatePayment, CreateRefund
from pgw.razorpay_simulator.states import SimulatedOrder, SimulatedPayment
from tests.doubles import VirtualClock
from tests.sandbox.served import AMOUNT, MANUAL, order_of, payment_of

AUTOMATIC = {"capture": "automatic", "capture_options": {"automatic_expiry_period": 12, "manual_expiry_period": 60}}


@dataclass
class Shelf:
    """One book and its clock."""

    approve_after_s: float | None = None
    clock: VirtualClock = field(default_factory=VirtualClock)
    book: SimulatorBook = field(init=False)

    def __post_init__(self) -> None:
        self.book = SimulatorBook(self.clock.now, Random(7), self.approve_after_s)

    def order(self, **members: Any) -> SimulatedOrder:
        return self.book.create_order(msgspec.convert(order_of(**members), CreateOrder))

    def charge(self, order: SimulatedOrder | None = None, effect: Effect = PLAIN, **members: Any) -> SimulatedPayment:
        asked = payment_of((order or self.order()).id, **members)
        return self.book.create_payment(msgspec.convert(asked, CreatePayment), effect)

    def authorized(self, order: SimulatedOrder | None = None) -> SimulatedPayment:
        return self.book.approve(self.charge(order).id)

    def captured(self) -> SimulatedPayment:
        return self.capture(self.authorized())

    def capture(self, payment: SimulatedPayment, amount: int = AMOUNT, currency: str = "INR") -> SimulatedPayment:
        return self.book.capture(payment.id, CaptureRequest(amount=amount, currency=currency))

    def refund(self, payment: SimulatedPayment, amount: int | None = None, key: str | None = None) -> int:
        return self.book.refund(payment.id, CreateRefund(amount=amount), key).amount

    def pass_time(self, **span: float) -> None:
        self.clock.advance(timedelta(**span).total_seconds())

    def status(self, payment: SimulatedPayment) -> str:
        return self.book.payment(payment.id).status


def refusal(call: Callable[[], object]) -> Refused:
    """Return the refusal of what must be refused."""
    with pytest.raises(Refused) as refused:
        call()
    return refused.value


__all__ = ["AMOUNT", "AUTOMATIC", "MANUAL", "Shelf", "refusal"]
