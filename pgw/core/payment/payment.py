"""Request bytes' meaning -> PaymentRequest: the words of a payment, and the rules its values obey."""

import re
from collections.abc import Iterator
from datetime import datetime
from enum import StrEnum
from typing import Annotated, Any

from msgspec import Meta, Struct

from pgw.core.errors import FieldError
from pgw.core.payment.currency import MAX_AMOUNT_MINOR, MINOR_DIGITS

MAX_METADATA = 15


class Method(StrEnum):
    """How the customer pays."""

    UPI = "UPI"
    CARD = "CARD"
    NETBANKING = "NETBANKING"


class Status(StrEnum):
    """Where a payment stands; SUCCESS means captured, with amount and currency as asked."""

    PROCESSING = "PROCESSING"
    REQUIRES_ACTION = "REQUIRES_ACTION"
    PENDING_VERIFICATION = "PENDING_VERIFICATION"
    MANUAL_REVIEW = "MANUAL_REVIEW"
    SUCCESS = "SUCCESS"
    FAILURE = "FAILURE"

    @property
    def is_final(self) -> bool:
        """Money has a settled answer: nothing but a reversal can follow."""
        return self in _FINAL


_FINAL = frozenset({Status.SUCCESS, Status.FAILURE})

EXITS: dict[Status, frozenset[Status]] = {
    Status.PROCESSING: frozenset(Status) - {Status.PROCESSING},
    Status.REQUIRES_ACTION: frozenset(
        {Status.PENDING_VERIFICATION, Status.SUCCESS, Status.FAILURE, Status.MANUAL_REVIEW}
    ),
    Status.PENDING_VERIFICATION: frozenset({Status.SUCCESS, Status.FAILURE, Status.MANUAL_REVIEW}),
    Status.MANUAL_REVIEW: frozenset({Status.SUCCESS, Status.FAILURE}),
    Status.SUCCESS: frozenset(),
    Status.FAILURE: frozenset(),
}
"""Status -> the statuses it may turn into; the ledger's guards refuse every other step."""


class AttemptStatus(StrEnum):
    """Where one call to one gateway stands; TIMEOUT means unknown, whatever the cause."""

    SENDING = "SENDING"
    SUCCESS = "SUCCESS"
    FAILURE = "FAILURE"
    TIMEOUT = "TIMEOUT"
    REQUIRES_ACTION = "REQUIRES_ACTION"
    SKIPPED = "SKIPPED"
    REVERSED = "REVERSED"


class UpiFlow(StrEnum):
    """Who starts: the customer's app opened by a link (intent), or a request sent to the address (collect)."""

    INTENT = "intent"
    COLLECT = "collect"


Word = Annotated[str, Meta(min_length=1, max_length=255)]
Name = Annotated[str, Meta(min_length=1, max_length=64)]


class Upi(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, tag_field="type", tag="UPI"):
    """UPI; the flow defaults to collect when an address is given, else intent."""

    vpa: Word | None = None
    flow: UpiFlow | None = None


class Card(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, tag_field="type", tag="CARD"):
    """A card by the gateway's token; the number itself is never accepted."""

    token: Word
    bin: Annotated[str, Meta(pattern=r"^[0-9]{6,8}$")] | None = None
    last4: Annotated[str, Meta(pattern=r"^[0-9]{4}$")] | None = None
    exp_month: Annotated[int, Meta(ge=1, le=12)] | None = None
    exp_year: Annotated[int, Meta(ge=2000, le=2100)] | None = None
    name: Word | None = None


class Netbanking(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, tag_field="type", tag="NETBANKING"):
    """A bank's own page."""

    bank_code: Word


Instrument = Upi | Card | Netbanking


class Customer(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Who pays, as far as a gateway asks."""

    email: Word | None = None
    contact: Word | None = None


class Client(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The browser or app the customer pays from."""

    ip: Word | None = None
    user_agent: Word | None = None
    referer: Word | None = None


class PaymentRequest(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One payment as the merchant asks for it; decoded straight from the body."""

    amount_minor: Annotated[int, Meta(ge=1, le=MAX_AMOUNT_MINOR)]
    currency: Annotated[str, Meta(min_length=3, max_length=3)]
    payment_method: Method
    merchant_id: Name
    customer_id: Name
    instrument: Instrument
    merchant_reference: Word | None = None
    metadata: Annotated[dict[Word, Word], Meta(max_length=MAX_METADATA)] = {}
    customer: Customer | None = None
    client: Client | None = None
    return_url: Word | None = None


_VPA = re.compile(r"[A-Za-z0-9._-]{1,200}@[A-Za-z0-9.-]{1,64}")
_URL = re.compile(r"https?://[^\s/]+(/\S*)?")


def faults(request: PaymentRequest) -> tuple[FieldError, ...]:
    """What the types cannot say: printable strings, a known currency, an instrument that fits its method."""
    found = [FieldError(pointer, "must be printable and not only white space") for pointer in _unprintable(request)]
    if request.currency not in MINOR_DIGITS:
        found.append(FieldError("/currency", "is not an ISO 4217 currency code"))
    instrument = request.instrument
    if method_of(instrument) is not request.payment_method:
        found.append(FieldError("/instrument/type", "must agree with payment_method"))
    if isinstance(instrument, Upi):
        if instrument.vpa is None and instrument.flow is UpiFlow.COLLECT:
            found.append(FieldError("/instrument/vpa", "is required for the collect flow"))
        if instrument.vpa is not None and not _VPA.fullmatch(instrument.vpa):
            found.append(FieldError("/instrument/vpa", "must read name@handle"))
    if request.return_url is not None and not _URL.fullmatch(request.return_url):
        found.append(FieldError("/return_url", "must be an http or https address"))
    return tuple(found)


def _unprintable(request: PaymentRequest) -> Iterator[str]:
    for name in ("merchant_id", "customer_id", "merchant_reference", "return_url"):
        value = getattr(request, name)
        if value is not None and not is_clean(value):
            yield f"/{name}"
    for key, value in request.metadata.items():
        if not (is_clean(key) and is_clean(value)):
            yield "/metadata"
    for name in ("instrument", "customer", "client"):
        part = getattr(request, name)
        for field in part.__struct_fields__ if part is not None else ():
            value = getattr(part, field)
            if isinstance(value, str) and not is_clean(value):
                yield f"/{name}/{field}"


def is_clean(text: str) -> bool:
    """No control character, and something other than white space."""
    return text.isprintable() and not text.isspace()


def method_of(instrument: Instrument) -> Method:
    """Return the method an instrument pays by."""
    return Method(str(instrument.__struct_config__.tag))


def upi_flow(instrument: Upi) -> UpiFlow:
    """Return the flow that holds: the one asked for, else collect when there is an address, else intent."""
    return instrument.flow or (UpiFlow.COLLECT if instrument.vpa else UpiFlow.INTENT)


def masked(instrument: Instrument) -> str:
    """Return what may be kept of an instrument (PCI DSS 3.4.1: at most BIN and last four; an address by its handle)."""
    match instrument:
        case Upi(vpa=vpa):
            name, _, handle = (vpa or "").partition("@")
            return f"{name[:1]}***@{handle}" if vpa else "intent"
        case Card():
            return f"{(instrument.bin or '')[:6]}******{instrument.last4 or ''}"
        case Netbanking():
            return instrument.bank_code


class NextAction(Struct, frozen=True, kw_only=True):
    """What the customer must do next; `url` is handed on exactly as the gateway gave it."""

    type: str
    url: str


class ExperimentArm(Struct, frozen=True, kw_only=True):
    """The experiment a payment belongs to, and its arm."""

    experiment_id: str
    variant: str


class Payment(Struct, frozen=True, kw_only=True):
    """A payment as clients read it: the ledger's truth at one time."""

    payment_id: str
    merchant_id: str
    customer_id: str
    merchant_reference: str | None
    status: Status
    amount_minor: int
    currency: str
    payment_method: Method
    gateway_used: str | None
    transaction_ref: str | None
    routing_strategy: str
    routing_reason: str
    failure_code: str | None
    attempts_made: int
    latency_ms: int | None
    experiment: ExperimentArm | None
    next_action: NextAction | None
    metadata: dict[str, str]
    created_at: datetime
    updated_at: datetime
    version: int


class Attempt(Struct, frozen=True, kw_only=True):
    """One announced call to one gateway, as everybody sees it."""

    attempt_number: int
    gateway_id: str
    status: AttemptStatus
    error_code: str | None
    blame: str | None
    latency_ms: int | None
    circuit_breaker_state: str
    fallback_reason: str | None
    transaction_ref: str | None
    started_at: datetime
    ended_at: datetime | None


Document = dict[str, Any]
"""A JSON object whose shape is a foreign or a stored one."""
