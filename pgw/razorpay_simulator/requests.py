"""The bytes of a call -> its request, every member checked as Razorpay's documentation writes it."""

import re
from typing import Any, Literal, TypeVar

import msgspec
from msgspec import Struct, field

from pgw.malformed import MALFORMED
from pgw.razorpay_simulator.refusals import Refused, extra_field, invalid

T = TypeVar("T")

LEAST_AMOUNT = 100
LONGEST_RECEIPT = 40
MOST_NOTES = 15
LONGEST_NOTE = 256
LONGEST_EMAIL = 40
LONGEST_CONTACT = 15
SHORTEST_EXPIRY_MIN = 12
LONGEST_EXPIRY_MIN = 7200
LONGEST_COLLECT_MIN = 5760

Notes = dict[str, str]


class CaptureOptions(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How long a payment may stay authorized, in minutes from its creation."""

    automatic_expiry_period: int | None = None
    manual_expiry_period: int = LONGEST_EXPIRY_MIN
    refund_speed: Literal["normal", "optimum"] = "normal"

    def __post_init__(self) -> None:
        least = self.automatic_expiry_period or SHORTEST_EXPIRY_MIN
        if least < SHORTEST_EXPIRY_MIN:
            raise invalid("The automatic expiry period must be at least 12.", "automatic_expiry_period")
        if not least <= self.manual_expiry_period <= LONGEST_EXPIRY_MIN:
            raise invalid(f"The manual expiry period must be between {least} and 7200.", "manual_expiry_period")


class CaptureSettings(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Who captures: Razorpay by itself, or the merchant by a call."""

    capture: Literal["automatic", "manual"]
    capture_options: CaptureOptions = field(default_factory=CaptureOptions)

    def __post_init__(self) -> None:
        if self.capture == "automatic" and self.capture_options.automatic_expiry_period is None:
            raise _missing("automatic_expiry_period")


class CreateOrder(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """`POST /v1/orders`."""

    amount: int
    currency: str
    receipt: str | None = None
    notes: Notes = field(default_factory=dict)
    payment: CaptureSettings | None = None

    def __post_init__(self) -> None:
        _check_money(self.amount, self.currency)
        _check_notes(self.notes)
        if self.receipt is not None and not 1 <= len(self.receipt) <= LONGEST_RECEIPT:
            raise invalid("The receipt may not be greater than 40 characters.", "receipt")


class UpiFields(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How a customer pays by UPI; `expiry_time` is in minutes."""

    flow: Literal["intent", "collect"] = "collect"
    vpa: str | None = None
    expiry_time: int = 5

    def __post_init__(self) -> None:
        if self.flow == "collect" and not re.fullmatch(r"[^@\s]+@[^@\s]+", self.vpa or ""):
            raise invalid("Invalid VPA. Please enter a valid Virtual Payment Address", "vpa")
        if not 1 <= self.expiry_time <= LONGEST_COLLECT_MIN:
            raise invalid("The expiry time must be between 1 and 5760.", "expiry_time")


class CardFields(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A card paid by its token: Razorpay wants the object, and takes it without a CVV."""

    cvv: Literal[""] | None = None


class CreatePayment(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """`POST /v1/payments/create/upi` and `.../json`. A card comes as its token only: this sandbox takes no number."""

    amount: int
    currency: str
    order_id: str
    email: str
    contact: str
    method: Literal["upi", "card", "netbanking"]
    upi: UpiFields | None = None
    token: str | None = None
    card: CardFields | None = None
    bank: str | None = None
    customer_id: str | None = None
    save: bool | None = None
    ip: str | None = None
    referer: str | None = None
    user_agent: str | None = None
    description: str | None = None
    notes: Notes = field(default_factory=dict)
    callback_url: str | None = None
    authentication: dict[str, Any] | None = None
    browser: dict[str, Any] | None = None

    def __post_init__(self) -> None:
        _check_money(self.amount, self.currency)
        _check_notes(self.notes)
        if "@" not in self.email or len(self.email) > LONGEST_EMAIL:
            raise invalid("The email must be a valid email address.", "email")
        if not re.fullmatch(rf"\+?\d{{8,{LONGEST_CONTACT - 1}}}", self.contact):
            raise invalid("Contact number should be at least 8 digits, including country code", "contact")
        for name in _needed(self):
            if not getattr(self, name):
                raise _missing(name)
        if self.method == "upi" and self.currency != "INR":
            raise invalid("Currency is not supported", "currency")


def _needed(asked: CreatePayment) -> tuple[str, ...]:
    """Name what the documentation of one method marks as mandatory beyond what every method needs."""
    match asked.method:
        case "upi" if asked.upi is not None and asked.upi.flow == "collect":
            return ("ip", "referer", "user_agent")
        case "upi":
            return ("upi",)
        case "card":
            return ("token", "card")
        case "netbanking":
            return ("bank",)


class CaptureRequest(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """`POST /v1/payments/:id/capture`."""

    amount: int
    currency: str

    def __post_init__(self) -> None:
        _check_money(self.amount, self.currency)


class CreateRefund(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """`POST /v1/payments/:id/refund`; without an amount all that is left is refunded."""

    amount: int | None = None
    speed: Literal["normal", "optimum"] = "normal"
    notes: Notes = field(default_factory=dict)
    receipt: str | None = None

    def __post_init__(self) -> None:
        _check_notes(self.notes)
        if self.amount is not None and self.amount < LEAST_AMOUNT:
            raise invalid("The amount must be at least INR 1.00", "amount")


class OrderQuery(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """`GET /v1/orders`."""

    receipt: str | None = None
    count: int = 10
    skip: int = 0
    expand: Literal["payments"] | None = field(name="expand[]", default=None)

    def __post_init__(self) -> None:
        if not 1 <= self.count <= 100 or self.skip < 0:  # noqa: PLR2004  # as the page of the call says
            raise invalid("The count must be between 1 and 100.", "count")


class RefundsQuery(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """`GET /v1/payments/:id/refunds`; times are in seconds since 1970."""

    since: int = field(name="from", default=0)
    to: int | None = None
    count: int = 10
    skip: int = 0

    def __post_init__(self) -> None:
        if not 1 <= self.count <= 100 or self.skip < 0:  # noqa: PLR2004  # as the page of the orders says
            raise invalid("The count must be between 1 and 100.", "count")


def decode(body: bytes, kind: type[T]) -> T:
    """Read one request. Raises Refused."""
    try:
        asked = msgspec.json.decode(body or b"{}", type=kind)
        _check_nulls(msgspec.json.decode(body or b"{}"))
    except msgspec.ValidationError as error:
        raise _explained(str(error)) from None
    except MALFORMED:
        raise invalid("The request body is not valid JSON") from None
    return asked


def query(parameters: dict[str, str], kind: type[T]) -> T:
    """Read the parameters of an address, where every value is text. Raises Refused."""
    try:
        return msgspec.convert(parameters, kind, strict=False)
    except msgspec.ValidationError as error:
        raise _explained(str(error)) from None


_FAULT = re.compile(r"Object (?P<how>contains unknown|missing required) field `(?P<name>[^`]*)`")
_PLACE = re.compile(r" - at `\$\.?(?P<path>[^`]*)`$")


def _explained(told: str) -> Refused:
    """Turn what the decoder said into Razorpay's words; a value is never repeated."""
    if fault := _FAULT.match(told):
        return extra_field(fault["name"]) if fault["how"] == "contains unknown" else _missing(fault["name"])
    place = _PLACE.search(told)
    name = place["path"] if place else "request"
    wanted = "an integer" if "`int" in told else "valid"
    return invalid(f"The {name} must be {wanted}.", name)


def _check_nulls(document: dict[str, Any]) -> None:
    """Refuse a member that is there and says nothing: only a card's CVV is documented so."""
    for name, value in document.items():
        if value is None and name != "cvv":
            raise invalid(f"The {name} must be valid.", name)
        if isinstance(value, dict):
            _check_nulls(value)


def _missing(name: str) -> Refused:
    return invalid(f"The {name} field is required.", name)


def _check_money(amount: int, currency: str) -> None:
    if not re.fullmatch("[A-Z]{3}", currency):
        raise invalid("The currency must be an ISO code of 3 letters.", "currency")
    if amount < LEAST_AMOUNT:
        raise invalid(f"The amount must be at least {currency} 1.00", "amount")


def _check_notes(notes: Notes) -> None:
    if len(notes) > MOST_NOTES or any(len(each) > LONGEST_NOTE for pair in notes.items() for each in pair):
        raise invalid("The notes may hold 15 pairs of 256 characters each.", "notes")
