"""An order with its payments, and the time -> their states: what customers, merchants and the clock make of them."""

from dataclasses import dataclass, field
from datetime import datetime, timedelta
from enum import StrEnum

from pgw.razorpay_simulator.refusals import COLLECT_EXPIRED, TIMED_OUT, Failure
from pgw.razorpay_simulator.requests import CaptureOptions, CaptureSettings, CreateOrder, CreatePayment, CreateRefund

PATIENCE = timedelta(minutes=10)
"""How long a payment stays created without a word from the customer's bank before it is marked failed."""

ACCOUNT_CAPTURE = CaptureSettings(capture="automatic", capture_options=CaptureOptions(automatic_expiry_period=4320))
"""How payments of an order that does not say are captured: by themselves within 3 days, as every account begins."""


class SimulatedStatus(StrEnum):
    """The states of a payment."""

    CREATED = "created"
    AUTHORIZED = "authorized"
    CAPTURED = "captured"
    REFUNDED = "refunded"
    FAILED = "failed"


@dataclass(frozen=True, slots=True)
class SimulatedRefund:
    """Captured money on its way back to the customer."""

    id: str
    payment: "SimulatedPayment"
    amount: int
    asked: CreateRefund
    created_at: datetime


@dataclass(slots=True, eq=False)
class SimulatedOrder:
    """What a merchant wants to be paid: once, however often it is tried."""

    id: str
    asked: CreateOrder
    created_at: datetime
    payments: list["SimulatedPayment"] = field(default_factory=list)

    @property
    def capture(self) -> CaptureSettings:
        """Who captures, and how long that may take."""
        return self.asked.payment or ACCOUNT_CAPTURE

    @property
    def amount_paid(self) -> int:
        """All that was captured, refunded or not."""
        return sum(payment.captured_amount for payment in self.payments)

    @property
    def is_taken(self) -> bool:
        """Whether a payment has succeeded, or may still be captured: no other may then be made."""
        return any(each.status is SimulatedStatus.AUTHORIZED or each.captured_at is not None for each in self.payments)

    @property
    def status(self) -> str:
        """The state of the order, which no refund changes."""
        if self.amount_paid:
            return "paid"
        return "attempted" if self.payments else "created"

    def settle(self, now: datetime) -> None:
        """Let everything happen, in order, that time has brought by `now`: bounded, no state comes twice."""
        while due := [(each.due_at, each) for each in self.payments if each.due_at is not None and each.due_at <= now]:
            instant, payment = min(due, key=lambda pair: pair[0])
            payment.elapse(instant)


@dataclass(slots=True, eq=False, kw_only=True)
class SimulatedPayment:
    """One try to pay an order. `authorizes_at` is when it will be authorized without anybody's call."""

    id: str
    order: SimulatedOrder
    asked: CreatePayment
    amount: int
    created_at: datetime
    bank_reference: str
    card_id: str | None
    authorizes_at: datetime | None = None
    status: SimulatedStatus = SimulatedStatus.CREATED
    failure: Failure | None = None
    authorized_at: datetime | None = None
    captured_at: datetime | None = None
    released_at: datetime | None = None
    refunds: list[SimulatedRefund] = field(default_factory=list)

    @property
    def captured_amount(self) -> int:
        """What the merchant got, before refunds."""
        return 0 if self.captured_at is None else self.amount

    @property
    def refunded_amount(self) -> int:
        """What of that was refunded."""
        return sum(refund.amount for refund in self.refunds)

    @property
    def released_amount(self) -> int:
        """What was authorised, never captured, and returned by itself."""
        return 0 if self.released_at is None else self.amount

    @property
    def due_at(self) -> datetime | None:
        """When time alone changes the state next; none when it never will."""
        match self.status:
            case SimulatedStatus.CREATED:
                return min(filter(None, (self.authorizes_at, self._gives_up_at)))
            case SimulatedStatus.FAILED:
                return self.authorizes_at
            case SimulatedStatus.AUTHORIZED:
                assert self.authorized_at is not None, "an authorized payment was authorized"
                minutes = self.order.capture.capture_options.manual_expiry_period
                return max(self.authorized_at, self.created_at + timedelta(minutes=minutes))
            case SimulatedStatus.CAPTURED | SimulatedStatus.REFUNDED:
                return None

    @property
    def _collect_expiry(self) -> timedelta | None:
        upi = self.asked.upi
        return timedelta(minutes=upi.expiry_time) if upi is not None and upi.flow == "collect" else None

    @property
    def _gives_up_at(self) -> datetime:
        return self.created_at + (self._collect_expiry or PATIENCE)

    def elapse(self, instant: datetime) -> None:
        """Do what was due at `instant`."""
        if self.status is SimulatedStatus.AUTHORIZED:
            self._release(instant)
        elif self.authorizes_at is not None and self.authorizes_at <= instant:
            self.authorize(instant)
        else:
            self.fail(COLLECT_EXPIRED if self._collect_expiry else TIMED_OUT)

    def fail(self, failure: Failure) -> None:
        """Note that the customer did not pay, or that it is unknown: it may still be authorized."""
        assert self.status is SimulatedStatus.CREATED, "only a payment that waits can fail"
        self.status, self.failure = SimulatedStatus.FAILED, failure

    def authorize(self, instant: datetime) -> None:
        """Take the customer's money; of a second success for one order it goes straight back."""
        assert self.status in {SimulatedStatus.CREATED, SimulatedStatus.FAILED}, "money is taken once"
        is_second = self.order.is_taken
        self.status, self.failure, self.authorizes_at, self.authorized_at = (
            SimulatedStatus.AUTHORIZED,
            None,
            None,
            instant,
        )
        if is_second:
            self._release(instant)
        elif self._captures_itself(instant):
            self.capture(instant)

    def capture(self, instant: datetime) -> None:
        """Give the money to the merchant."""
        assert self.status is SimulatedStatus.AUTHORIZED, "money is captured once"
        assert self.amount == self.order.asked.amount, "never more is captured than was ordered"
        self.status, self.captured_at = SimulatedStatus.CAPTURED, instant

    def refund(self, refund: SimulatedRefund) -> None:
        """Return captured money, in part or all of it."""
        assert self.status is SimulatedStatus.CAPTURED, "only captured money is refunded"
        self.refunds.append(refund)
        assert self.refunded_amount <= self.captured_amount, "never more is refunded than was captured"
        if self.refunded_amount == self.captured_amount:
            self.status = SimulatedStatus.REFUNDED

    def _release(self, instant: datetime) -> None:
        assert self.captured_at is None, "captured money is not returned by itself"
        self.status, self.released_at = SimulatedStatus.REFUNDED, instant

    def _captures_itself(self, instant: datetime) -> bool:
        settings = self.order.capture
        minutes = settings.capture_options.automatic_expiry_period
        if settings.capture == "manual" or minutes is None or self.amount != self.order.asked.amount:
            return False
        return instant <= self.created_at + timedelta(minutes=minutes)
