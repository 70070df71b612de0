"""Unsettled amounts -> how many, how much, since when: the sentence operators read."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from pgw.core.payment.currency import MINOR_DIGITS, amount_text

LONG_UNKNOWN = timedelta(minutes=30)
"""From this age on an unsettled amount is reported: most are settled within a minute, all but a few within ten."""

NONE = "none"

PAYMENTS = ("payment", "payments")
REVERSALS = ("reversal", "reversals")

_UNITS = ((90, 1, "s"), (90 * 60, 60, "min"), (36 * 3600, 3600, "h"))
"""Up to how many seconds an age is written in which unit; beyond them in days."""


@dataclass(frozen=True, slots=True)
class Exposure:
    """Money that is neither known to be there nor known not to be: `sums` by currency, in minor units."""

    count: int = 0
    oldest_at: datetime | None = None
    sums: Mapping[str, int] = field(default_factory=dict)

    def age(self, now: datetime) -> timedelta:
        """Return how long the oldest has waited."""
        return timedelta(0) if self.oldest_at is None else max(now - self.oldest_at, timedelta(0))

    def text(self, now: datetime, things: tuple[str, str] = PAYMENTS) -> str:
        """Return `3 payments, INR 120.00 at risk, oldest 14 min`; `things` is what is counted, one and many."""
        if not self.count:
            return NONE
        counted = f"{self.count} {things[self.count != 1]}"
        sums = " + ".join(_amount(amount, currency) for currency, amount in sorted(self.sums.items()))
        return ", ".join((counted, *((f"{sums} at risk",) if sums else ()), f"oldest {_span(self.age(now))}"))


def exposure_of(parts: Iterable[tuple[int, datetime | None, str | None, int | None]]) -> Exposure:
    """Add up parts of (count, oldest, currency, amount in minor units); of some the amount may not be known."""
    count, oldest_at, sums = 0, None, dict[str, int]()
    for number, since, currency, amount_minor in parts:
        count += number
        if since is not None and (oldest_at is None or since < oldest_at):
            oldest_at = since
        if currency is not None and amount_minor is not None:
            sums[currency] = sums.get(currency, 0) + amount_minor
    return Exposure(count, oldest_at, sums)


def _amount(amount_minor: int, currency: str) -> str:
    """Write an amount; a currency in a gateway's own word may be none that ISO 4217 has."""
    if currency in MINOR_DIGITS:
        return amount_text(amount_minor, currency)
    return f"{currency} {amount_minor} in minor units"


def _span(age: timedelta) -> str:
    seconds = age.total_seconds()
    for most, size, unit in _UNITS:
        if seconds < most:
            return f"{seconds / size:.0f} {unit}"
    return f"{seconds / 86_400:.0f} d"
