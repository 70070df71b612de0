"""View, override, now -> Admission: whether a gateway may be chosen now, and for what share of payments."""

from datetime import datetime
from enum import StrEnum

from msgspec import Struct, field

from pgw.core.breakers.breaker import Rules, State, View
from pgw.core.breakers.override import Override


class Panic(StrEnum):
    """What to do when every breaker that could take a payment is open: refuse, or the best one not forced open."""

    FAIL_CLOSED = "fail_closed"
    LEAST_BAD = "least_bad"


class Admission(Struct, frozen=True):
    """A breaker as one decision sees it. `admission` is the share of payments let through during a slow start."""

    state: State
    share: float = field(default=1.0, name="admission")


ADMITTED = Admission(State.CLOSED)


def admission_of(view: View | None, override: Override | None, now: datetime, rules: Rules) -> Admission:
    """Judge one breaker now: an operator's word first, then the automatic state.

    A forced-open override that has ended means probing until the breaker itself has taken notice of the end; an open
    time that has passed means probing too.
    """
    if override is not None:
        if now < override.expires_at:
            return Admission(override.state)
        if override.state is State.FORCED_OPEN and (view is None or view.released < override.version):
            return Admission(State.HALF_OPEN)
    if view is None:
        return ADMITTED
    if view.state is State.OPEN:
        return Admission(State.HALF_OPEN if view.until is not None and now >= view.until else State.OPEN)
    if view.state is State.CLOSED and view.closed_at is not None:
        return Admission(State.CLOSED, _ramp((now - view.closed_at).total_seconds(), rules))
    return Admission(view.state)


def _ramp(seconds: float, rules: Rules) -> float:
    """Grow the admitted share linearly from its first value to 1 over the slow start."""
    grown = rules.slow_start_from + (1.0 - rules.slow_start_from) * max(seconds, 0.0) / rules.slow_start_s
    return min(grown, 1.0)
