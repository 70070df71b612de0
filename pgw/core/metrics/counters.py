"""Events -> counters of ten-second slices -> figures: what happened at each gateway, method and bank, mergeable."""

import math
from bisect import bisect_left
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime, timedelta

from msgspec import Struct

from pgw.core.events import Event
from pgw.core.payment.outcome import Blame
from pgw.core.payment.payment import AttemptStatus, Status
from pgw.core.routing.context import UNKNOWN_BANK

Cell = tuple[str, str, str]
"""Gateway id, payment method and issuing bank: what is counted apart."""

Increments = Mapping[int, Mapping[str, int]]
"""Slice -> field -> amount to add; a correction takes away, so amounts may be negative."""

SLICE_S = 10
"""Length of a slice in seconds; slice n holds what occurred from the epoch's second 10 n on."""

SEPARATOR = "\x1f"
"""Parts the members of a field (ASCII's unit separator): no printable name holds it."""

ATTEMPTED = "payment.attempted"
VERIFIED = "payment.verified"
SETTLED = frozenset({Status.SUCCESS, Status.FAILURE})
"""What verification may find that changes a count; MANUAL_REVIEW leaves open what became of the call."""

SUCCESS = f"s:{AttemptStatus.SUCCESS}"
FAILURE = f"s:{AttemptStatus.FAILURE}"
TIMEOUT = f"s:{AttemptStatus.TIMEOUT}"
REQUIRES_ACTION = f"s:{AttemptStatus.REQUIRES_ACTION}"
STATUSES = (SUCCESS, FAILURE, TIMEOUT, REQUIRES_ACTION)
"""Counters of attempts by how they stand; every attempt that was called is in exactly one."""

BLAME = "b:"
ERROR = "e:"
LATENCY = "l:"

BLAMED_ON_GATEWAY = f"{BLAME}{Blame.GATEWAY}"
GOOD = frozenset({AttemptStatus.SUCCESS, AttemptStatus.REQUIRES_ACTION})
NOT_SENT = "NOT_SENT_"

RELATIVE_ERROR = 0.05
"""How far a latency quantile may lie from the exact one, as a share of it, up to MAX_LATENCY_MS."""

MAX_LATENCY_MS = 60_000
"""Twice the longest time an attempt may have; what took longer counts as this long."""

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_SLICE = timedelta(seconds=SLICE_S)


def slice_of(at: datetime) -> int:
    """Return the slice in which something occurred."""
    return (at - _EPOCH) // _SLICE


def prefix_of(names: tuple[str, ...]) -> str:
    """Return how the fields begin of a cell, or of a gateway and method.

    Raises ValueError for a name that is not unambiguous when read again.
    """
    prefix = SEPARATOR.join((*names, ""))
    if prefix.count(SEPARATOR) != len(names):
        raise ValueError("a gateway, method or bank has a control character in its name")
    return prefix


def field_of(cell: Cell, counter: str) -> str:
    """Name one counter of one cell within a slice; raises ValueError as `prefix_of` does."""
    return prefix_of(cell) + counter


def parse_field(field: str) -> tuple[Cell, str]:
    """Take a field's name apart: its cell and its counter."""
    gateway_id, payment_method, issuing_bank, counter = field.split(SEPARATOR, 3)
    return (gateway_id, payment_method, issuing_bank), counter


def _buckets() -> tuple[list[int], list[int]]:
    """Cut 0..MAX_LATENCY_MS into the widest runs of whole milliseconds that one of them stands for within the error.

    From the lowest of a run, the furthest value that is still within 5 % of it; from that value, the furthest latency
    it is still within 5 % of.
    """
    ends: list[int] = []
    values: list[int] = []
    lowest = 0
    while lowest <= MAX_LATENCY_MS:
        value = lowest * 105 // 100
        values.append(value)
        ends.append(value * 100 // 95)
        lowest = ends[-1] + 1
    return ends, values


# DDSketch (Masson, Rim, Lee, VLDB 2019): buckets that grow by (1 + a) / (1 - a) answer every quantile within a share a
# of it, and sketches merge by adding. Here their bounds are whole milliseconds, so that rounding costs no accuracy, 0
# has a bucket of its own, and a bucket's name is the latency it stands for.
_ENDS, _VALUES = _buckets()
_MS_OF = {f"{LATENCY}{value}": value for value in _VALUES}


def bucket_of(ms: int) -> int:
    """Return the bucket of a latency: the latency in ms that stands for it."""
    return _VALUES[bisect_left(_ENDS, min(max(ms, 0), MAX_LATENCY_MS))]


def quantile(buckets: Mapping[int, int], q: float) -> int | None:
    """Return the least latency in ms that a share `q` of the calls did not exceed; None without a call.

    Of `q` above 0, and buckets with at least one call each.
    """
    rank = math.ceil(q * sum(buckets.values()))
    below = 0
    for value in sorted(buckets):
        below += buckets[value]
        if below >= rank:
            return value
    return None


def _counters(status: str, blame: str | None, error_code: str | None) -> tuple[str, ...]:
    """Name what one end of an attempt counts as; nothing where no gateway was called."""
    counter = f"s:{status}"
    if counter not in STATUSES:
        return ()
    counters = [counter]
    if status not in GOOD and blame is not None and blame != Blame.NONE:
        counters.append(BLAME + blame)
    if error_code is not None:
        counters.append(ERROR + error_code)
    return tuple(counters)


def _measures(event: Event) -> bool:
    """Whether an attempt's time says something of the gateway.

    Not the time a customer, a bank or a network took; and not that of a call never sent: a refused connection takes no
    time at all, which would make a dead gateway the fastest.
    """
    if event.latency_ms is None or event.type != ATTEMPTED:
        return False
    if event.status in GOOD:
        return True
    return event.blame == Blame.GATEWAY and not (event.error_code or "").startswith(NOT_SENT)


def fold(events: Iterable[Event]) -> Increments:
    """Add up what events say; folding them in parts, in any order, and adding the parts gives the same.

    An attempt counts in the slice in which it ended. When verification finds its true end, that slice is corrected: the
    old end is taken away and the true one added; its latency stays, it did take so long to answer. An attempt whose end
    was never published counts when it is verified, without a latency: its payment's time is not the gateway's.
    Raises ValueError for an event that cannot be counted.
    """
    slices: dict[int, dict[str, int]] = {}
    names: dict[tuple[Cell, str, str | None, str | None], tuple[str, ...]] = {}

    def count(at: datetime, end: tuple[Cell, str, str | None, str | None], amount: int) -> dict[str, int]:
        fields = names.get(end)
        if fields is None:
            prefix = prefix_of(end[0])
            fields = names[end] = tuple(prefix + counter for counter in _counters(*end[1:]))
        within = slices.setdefault(slice_of(at), {})
        for field in fields:
            within[field] = within.get(field, 0) + amount
        return within

    for event in events:
        if event.type != ATTEMPTED and not (event.type == VERIFIED and event.status in SETTLED):
            continue
        cell = (event.gateway_id, event.payment_method, event.issuing_bank or UNKNOWN_BANK)
        end = (cell, event.status, event.blame, event.error_code)
        earlier = event.corrects
        if earlier is None:
            within = count(event.occurred_at, end, 1)
            if _measures(event):
                field = f"{prefix_of(cell)}{LATENCY}{bucket_of(event.latency_ms or 0)}"
                within[field] = within.get(field, 0) + 1
        else:
            count(earlier.occurred_at, (cell, earlier.status, earlier.blame, earlier.error_code), -1)
            count(earlier.occurred_at, end, 1)
    return slices


class Counts(Struct, frozen=True):
    """The counters of one cell over some time, as a value; a counter that is not there is 0, and none is kept at 0.

    A counter is below 0 where only the correction of a call is known, and not the call; its figures are then 0.
    """

    of: Mapping[str, int] = {}

    def add(self, counter: str, amount: int) -> "Counts":
        """Return these counts with one counter moved."""
        return self.merge(Counts({counter: amount}))

    def merge(self, other: "Counts") -> "Counts":
        """Return both together."""
        return self._moved(other, 1)

    def subtract(self, other: "Counts") -> "Counts":
        """Return these counts without the others."""
        return self._moved(other, -1)

    def _moved(self, other: "Counts", sign: int) -> "Counts":
        of = dict(self.of)
        for counter, amount in other.of.items():
            if moved := of.get(counter, 0) + sign * amount:
                of[counter] = moved
            else:
                of.pop(counter, None)
        return Counts(of)

    @property
    def attempts(self) -> int:
        """Calls, however they ended."""
        return max(sum(self.of.get(status, 0) for status in STATUSES), 0)

    @property
    def successes(self) -> int:
        """Calls that ended in money captured."""
        return max(self.of.get(SUCCESS, 0), 0)

    @property
    def attributed(self) -> int:
        """Calls whose end says something of the gateway: its successes and its own faults."""
        return self.successes + max(self.of.get(BLAMED_ON_GATEWAY, 0), 0)

    def under(self, prefix: str) -> dict[str, int]:
        """Return the counters of one kind without its prefix, most frequent first."""
        found = {name.removeprefix(prefix): n for name, n in self.of.items() if name.startswith(prefix) and n > 0}
        return dict(sorted(found.items(), key=lambda each: (-each[1], each[0])))

    def latencies(self) -> dict[int, int]:
        """Return the latency sketch: bucket -> calls."""
        return {_MS_OF[name]: n for name, n in self.of.items() if name in _MS_OF and n > 0}


NOTHING = Counts()


class Latency(Struct, frozen=True, kw_only=True):
    """How long the gateway took in `calls` calls, in ms; null without a call, each within `relative_error` of exact."""

    calls: int
    p50_ms: int | None
    p95_ms: int | None
    p99_ms: int | None
    relative_error: float = RELATIVE_ERROR


class Figures(Struct, frozen=True, kw_only=True):
    """Counts as they are shown. `unknown` calls await verification, `pending` ones the customer.

    `success_rate` is the share of successes among the attributed calls: the successes and the gateway's own faults.
    """

    attempts: int
    successes: int
    failures: int
    unknown: int
    pending: int
    success_rate: float | None
    latency: Latency
    blame: dict[str, int]
    errors: dict[str, int]


def figures_of(counts: Counts) -> Figures:
    """Show counts."""
    sketch = counts.latencies()
    return Figures(
        attempts=counts.attempts,
        successes=counts.successes,
        failures=max(counts.of.get(FAILURE, 0), 0),
        unknown=max(counts.of.get(TIMEOUT, 0), 0),
        pending=max(counts.of.get(REQUIRES_ACTION, 0), 0),
        success_rate=counts.successes / counts.attributed if counts.attributed > 0 else None,
        latency=Latency(
            calls=sum(sketch.values()),
            p50_ms=quantile(sketch, 0.5),
            p95_ms=quantile(sketch, 0.95),
            p99_ms=quantile(sketch, 0.99),
        ),
        blame=counts.under(BLAME),
        errors=counts.under(ERROR),
    )
