"""Outcomes, the shared value -> Levels: one breaker as one process has it, its own word and that of all."""

import asyncio
from collections import deque
from collections.abc import Iterable
from datetime import datetime, timedelta

from msgspec import structs

from pgw.core.breakers.breaker import Breaker, CallOutcome, Rules, State, View, shifted
from pgw.core.breakers.retry_budget import RetryBudget
from pgw.core.breakers.transition import ENOUGH_GOOD, Report, Signal, Succeeded, Vote, transition
from pgw.core.breakers.window import CallWindow, Tripping

VOTE_EVERY_S = 10.0
"""How often a process that goes on calling a gateway says so again, for those who count votes."""

MAX_REPORTS = 64
"""Probes whose outcome waits for the store; the oldest are dropped, their leases run out."""


class LocalAndShared:
    """The breaker of one (gateway, method) on two levels.

    `local`, on this process's `elapsed`, opens at once by this process's own window. `shared`, on the store's clock, is
    the last value seen of the one all processes vote on; where it is not closed it decides alone. It never moves in a
    process that is alone, and counts for nothing in one that has lost sight of the store and taken its place (`alone`).
    """

    def __init__(self, *, alone: bool) -> None:
        self.window = CallWindow()
        self.local = Breaker()
        self.shared = Breaker()
        self.alone = alone
        self.tripping: Tripping | None = None
        self.called = False
        self.successes = 0
        self.reports: deque[Report] = deque(maxlen=MAX_REPORTS)
        self.in_flight = 0
        self.budget = RetryBudget()
        self.asking = asyncio.Lock()

    @property
    def epoch(self) -> int:
        """Grows with every move of either level: what a call says counts only in the epoch it was admitted in."""
        return self.local.epoch + self.shared.epoch

    @property
    def released(self) -> int:
        """The newest forced-open override whose end has been taken into account."""
        return max(self.local.released, self.shared.released)

    @property
    def is_shared(self) -> bool:
        """Whether the shared breaker decides, so that a probe's lease is its to give."""
        return not self.alone and self.shared.state is not State.CLOSED

    def fold(self, sign: CallOutcome, latency_ms: int, now: float, rules: Rules) -> Tripping | None:
        """Take a call that was not a probe; return the rule by which this process leaves the gateway now, if any."""
        self.window.add(sign, latency_ms, now, rules)
        if sign is CallOutcome.NOTHING:
            return None
        self.called = True
        self.successes += sign is CallOutcome.GOOD and self.shared.trips > 0
        if self.local.state is not State.CLOSED or self.is_shared:
            return None
        return self.window.judged(now, rules)

    def move(self, signal: Signal, now: float, rules: Rules, jitter: float) -> Breaker:
        """Apply a signal to this process's own level; return what it was before."""
        before = self.local
        self.local = transition(before, signal, now, rules, jitter)
        if self.local.epoch != before.epoch:
            self.window.reset()
            self.tripping = None if self.local.state is State.CLOSED else self.tripping
        return before

    def absorb(self, value: Breaker) -> bool:
        """Take a newer shared value; a move of it ends this process's own word. Return whether the view is another."""
        known = self.shared
        if value.epoch < known.epoch:
            return False
        if value.epoch > known.epoch:
            self.reset()
        self.shared = value
        return (value.epoch, value.probes_good, value.probes_failed) != (
            known.epoch,
            known.probes_good,
            known.probes_failed,
        )

    def reset(self) -> None:
        """Forget what this process alone thought of the gateway."""
        self.local = Breaker(epoch=self.local.epoch + 1)
        self.window.reset()
        self.tripping = None
        self.successes = 0

    def go_alone(self, now: float, lead: float) -> None:
        """Lose sight of the store: go on alone from what was last seen of it, and probe by own leases."""
        if not self.is_shared:
            return
        seen = shifted(self.shared, -lead)
        self.reset()
        self.local = structs.replace(
            seen,
            state=State.OPEN,
            epoch=self.local.epoch,
            until=seen.until if seen.state is State.OPEN else now,
            leases=(),
            probes_given=0,
            probes_good=0,
            probes_failed=0,
            successes=0,
            callers={},
        )
        self.alone = True

    def rejoin(self) -> None:
        """See the store again: its word holds, whatever was found out alone."""
        self.alone = False

    def signals(self, me: str, live: frozenset[str], stored: Breaker, now: float, lead: float) -> tuple[Signal, ...]:
        """List what the others are to be told, reports first, which are of the past; `now` is the store's."""
        vote = self._vote(me, live, stored, now, lead)
        # Good calls only matter while past openings still weigh on the shared breaker.
        succeeded = Succeeded(self.shared.epoch, self.successes) if self.successes else None
        return (*self.reports, *(each for each in (vote, succeeded) if each is not None))

    def delivered(self, signals: Iterable[Signal]) -> None:
        """Forget what was told; more may have come meanwhile."""
        for signal in signals:
            match signal:
                case Report() if self.reports and self.reports[0] is signal:
                    self.reports.popleft()
                case Vote():
                    self.called = False
                case Succeeded(count=count):
                    self.successes = max(self.successes - count, 0)
                case _:
                    pass

    def _vote(self, me: str, live: frozenset[str], stored: Breaker, now: float, lead: float) -> Vote | None:
        """Say whether this process would leave the gateway; None: that is known, or it has not called since."""
        known = stored.callers.get(me)
        trips = self.tripping is not None
        is_other = known is not None and known.trips != trips
        is_old = known is None or now - known.at >= VOTE_EVERY_S
        if not is_other and not (is_old and self.called):
            return None
        if self.tripping is None:
            return Vote(me, None, now, live)
        return Vote(me, self.tripping.cause, self.tripping.incident_from + lead, live)

    def view(self, now: datetime, elapsed: float, lead: float, rules: Rules) -> View | None:
        """Show what decides, on this process's clock; None when nothing ever moved."""
        breaker = self._deciding(lead)
        if breaker.cause is None:
            return None

        def moment(at: float) -> datetime:
            return now + timedelta(seconds=at - elapsed)

        incident = None
        if breaker.incident_from is not None:
            ended = None if breaker.incident_until is None else moment(breaker.incident_until)
            incident = (moment(breaker.incident_from), ended)
        is_closed = breaker.state is State.CLOSED
        return View(
            state=breaker.state,
            epoch=breaker.epoch,
            since=moment(breaker.since),
            until=moment(breaker.until) if breaker.state is State.OPEN else None,
            closed_at=moment(breaker.since) if is_closed else None,
            incident=incident,
            cause=breaker.cause,
            released=self.released,
            probes=_probes(breaker, rules) if breaker.state is State.HALF_OPEN else None,
        )

    def _deciding(self, lead: float) -> Breaker:
        """The shared breaker while it is not closed; else the one that moved last, which is ours if it moved at all."""
        is_ours = self.alone or (self.local.cause is not None and not self.is_shared)
        return self.local if is_ours else shifted(self.shared, -lead)


def _probes(breaker: Breaker, rules: Rules) -> str:
    """Good probes of those that are needed, which are more once one has failed."""
    return f"{breaker.probes_good}/{ENOUGH_GOOD if breaker.probes_failed else min(rules.probes, ENOUGH_GOOD)}"
