"""PaymentRequest -> Context: the few facts a routing decision may look at, and nothing that identifies the customer."""

from datetime import datetime
from enum import StrEnum

from msgspec import Struct

from pgw.core.payment.payment import Card, Method, Netbanking, PaymentRequest, Upi, UpiFlow, upi_flow

UNKNOWN_BANK = "UNKNOWN"


class SizeBand(StrEnum):
    """Amount bands by minor units; the bounds are lower-inclusive."""

    LT_500 = "lt_500"
    FROM_500 = "500_2000"
    FROM_2000 = "2000_10000"
    GT_10000 = "gt_10000"


_BANDS = ((50_000, SizeBand.LT_500), (200_000, SizeBand.FROM_500), (1_000_000, SizeBand.FROM_2000))


def size_band(amount_minor: int) -> SizeBand:
    """Return the band an amount in minor units falls into."""
    for bound, band in _BANDS:
        if amount_minor < bound:
            return band
    return SizeBand.GT_10000


class Banks(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Directory of issuing banks: UPI handle -> bank, first six card digits -> bank."""

    upi_handles: dict[str, str]
    card_bins: dict[str, str]


SEED_BANKS = Banks(
    upi_handles={
        "okhdfcbank": "HDFC",
        "hdfcbank": "HDFC",
        "okicici": "ICICI",
        "icici": "ICICI",
        "okaxis": "AXIS",
        "axl": "AXIS",
        "axisbank": "AXIS",
        "oksbi": "SBI",
        "sbi": "SBI",
        "ybl": "YES",
    },
    card_bins={"411111": "HDFC", "555555": "ICICI", "444433": "AXIS"},
)


class Context(Struct, frozen=True, kw_only=True):
    """What the decision sees. `hour` and `day_of_month` are UTC; `fields` are the optional customer facts present."""

    merchant_id: str
    amount_minor: int
    currency: str
    payment_method: Method
    issuing_bank: str
    size_band: SizeBand
    hour: int
    day_of_month: int
    upi_flow: UpiFlow | None = None
    fields: tuple[str, ...] = ()


def make_context(request: PaymentRequest, now: datetime, banks: Banks) -> Context:
    """Reduce a request to what routing may know of it."""
    instrument = request.instrument
    return Context(
        merchant_id=request.merchant_id,
        amount_minor=request.amount_minor,
        currency=request.currency,
        payment_method=request.payment_method,
        issuing_bank=_issuing_bank(request, banks),
        size_band=size_band(request.amount_minor),
        hour=now.hour,
        day_of_month=now.day,
        upi_flow=upi_flow(instrument) if isinstance(instrument, Upi) else None,
        fields=_fields(request),
    )


def _issuing_bank(request: PaymentRequest, banks: Banks) -> str:
    match request.instrument:
        case Upi(vpa=str(vpa)):
            handle = vpa.rpartition("@")[2].lower()
            return banks.upi_handles.get(handle, handle).upper()
        case Card(bin=str(digits)):
            return banks.card_bins.get(digits[:6], UNKNOWN_BANK).upper()
        case Netbanking(bank_code=code):
            return code.upper()
        case _:
            return UNKNOWN_BANK


def _fields(request: PaymentRequest) -> tuple[str, ...]:
    """Name every optional customer fact that is present, as `customer.email`, the way a gateway names what it needs."""
    return tuple(
        f"{name}.{field}"
        for name, part in (("customer", request.customer), ("client", request.client))
        if part is not None
        for field in part.__struct_fields__
        if getattr(part, field) is not None
    )
