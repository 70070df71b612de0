"""An attempt's end -> CallOutcome, Rules, Breaker: the values by which a gateway is left, probed and regained."""

from collections.abc import Mapping
from datetime import datetime
from enum import StrEnum
from typing import Annotated

from msgspec import Meta, Struct, structs

from pgw.core.payment.outcome import AttemptEnd, Blame
from pgw.core.payment.payment import AttemptStatus

Key = tuple[str, str]
"""Gateway id and payment method: what one breaker is about."""

Share = Annotated[float, Meta(gt=0.0, le=1.0)]
Seconds = Annotated[int, Meta(ge=1, le=3600)]
WindowSeconds = Annotated[int, Meta(ge=10, le=300)]
"""No longer than what a process remembers of its own calls: 30 buckets of 10 seconds."""
Calls = Annotated[int, Meta(ge=1, le=1000)]


class State(StrEnum):
    """States of a breaker; the two forced ones are an operator's and beat the others."""

    CLOSED = "CLOSED"
    OPEN = "OPEN"
    HALF_OPEN = "HALF_OPEN"
    FORCED_OPEN = "FORCED_OPEN"
    FORCED_CLOSED = "FORCED_CLOSED"


class TransitionCause(StrEnum):
    """Why a breaker moved."""

    FAILURE_RATE = "failure_rate"
    TIMEOUT_RATE = "timeout_rate"
    SLOW_RATE = "slow_rate"
    FAILURES_IN_A_ROW = "failures_in_a_row"
    NOT_SENT_IN_A_ROW = "not_sent_in_a_row"
    OPEN_TIME_OVER = "open_time_over"
    PROBES_FAILED = "probes_failed"
    PROBES_PASSED = "probes_passed"
    OVERRIDE_ENDED = "override_ended"


class Rules(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The thresholds of every breaker; configuration. Rates are shares of attributed calls, windows seconds."""

    min_calls: Calls = 20
    failure_rate: Share = 0.40
    failure_window_s: WindowSeconds = 120
    timeout_rate: Share = 0.50
    timeout_window_s: WindowSeconds = 300
    slow_rate: Share = 0.80
    slow_ms: Annotated[int, Meta(ge=50, le=30_000)] = 2_000
    failures_in_a_row: Calls = 10
    not_sent_in_a_row: Calls = 5
    open_s: Seconds = 30
    open_growth_after_s: Seconds = 120
    max_open_s: Seconds = 300
    probes: Annotated[int, Meta(ge=1, le=10)] = 3
    slow_start_s: Seconds = 20
    slow_start_from: Share = 0.10


class CallOutcome(StrEnum):
    """What one call says of the gateway; NOTHING is what customers, banks and networks did."""

    GOOD = "GOOD"
    FAILED = "FAILED"
    NOT_SENT = "NOT_SENT"
    TIMED_OUT = "TIMED_OUT"
    NOTHING = "NOTHING"


KEYS_REFUSED = "NOT_SENT_AUTH"
"""Refused keys are no outage, but no call succeeds until they are replaced: the breaker spares every payment."""


def call_outcome_of(end: AttemptEnd) -> CallOutcome:
    """Read one attempt's end: only what is attributed to the gateway counts for or against it."""
    if end.status in {AttemptStatus.SUCCESS, AttemptStatus.REQUIRES_ACTION}:
        return CallOutcome.GOOD
    if end.blame is not Blame.GATEWAY and end.error_code != KEYS_REFUSED:
        return CallOutcome.NOTHING
    if end.status is AttemptStatus.TIMEOUT:
        return CallOutcome.TIMED_OUT
    return CallOutcome.NOT_SENT if (end.error_code or "").startswith("NOT_SENT_") else CallOutcome.FAILED


class Lease(Struct, frozen=True):
    """One probe under way; `until` (seconds, the store's clock) frees it when its holder died."""

    lease_id: str
    until: float


class Caller(Struct, frozen=True):
    """One process that called the gateway: when last, and whether it would leave it (its vote in this epoch)."""

    at: float
    trips: bool


class Breaker(Struct, frozen=True, kw_only=True):
    """The shared value of one (gateway, method). Times are seconds on the store's own clock.

    `epoch` counts transitions: a report from another epoch changes nothing. `cause` is why the newest one happened, a
    `Cause`. `trips` counts how often it opened since it last recovered; `unwell_from` is when the first incident since
    then began, and `open_s` the newest open time before jitter: they make open times grow. `incident_from` and
    `incident_until` bound the last incident, whose calls no score uses. `probes_given` counts the leases of this epoch
    that were not returned unused. `released` is the version of the newest forced-open override whose end has been taken
    into account.
    """

    state: State = State.CLOSED
    epoch: int = 0
    since: float = 0.0
    until: float = 0.0
    trips: int = 0
    unwell_from: float | None = None
    open_s: float = 0.0
    cause: str | None = None
    incident_from: float | None = None
    incident_until: float | None = None
    leases: tuple[Lease, ...] = ()
    probes_given: int = 0
    probes_good: int = 0
    probes_failed: int = 0
    successes: int = 0
    callers: Mapping[str, Caller] = {}
    released: int = 0


def shifted(breaker: Breaker, seconds: float) -> Breaker:
    """Set a breaker's times on another clock, which is ahead by `seconds`."""

    def moved(at: float | None) -> float | None:
        return None if at is None else at + seconds

    return structs.replace(
        breaker,
        since=breaker.since + seconds,
        until=breaker.until + seconds,
        unwell_from=moved(breaker.unwell_from),
        incident_from=moved(breaker.incident_from),
        incident_until=moved(breaker.incident_until),
        leases=tuple(Lease(each.lease_id, each.until + seconds) for each in breaker.leases),
        callers={name: Caller(each.at + seconds, each.trips) for name, each in breaker.callers.items()},
    )


class View(Struct, frozen=True, kw_only=True):
    """What a decision knows of one breaker; times are on this process's clock.

    `until`: OPEN ends here. `closed_at`: the slow start began here. `incident`: bounds of the last one, open while
    it lasts.
    """

    state: State
    epoch: int
    since: datetime
    until: datetime | None = None
    closed_at: datetime | None = None
    incident: tuple[datetime, datetime | None] | None = None
    cause: str | None = None
    released: int = 0
    probes: str | None = None
    """For people: probes so far, such as `2/3`."""


class Permit(Struct, frozen=True):
    """Permission to call a gateway; the call's outcome is recorded under the same epoch and lease."""

    key: Key
    state: State
    epoch: int
    lease_id: str | None = None
