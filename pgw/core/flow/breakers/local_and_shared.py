"""Call outcomes, the shared value -> LocalAndShared: one breaker in one process, its local and its shared state."""

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
"""How often a process that still calls a gateway repeats its vote; older votes no longer count as a caller's."""

MAX_REPORTS = 64
"""Probe outcomes that wait for the store; the oldest are dropped, their leases run out."""


class LocalAndShared:
    """The breaker of one (gateway, method): this process's own beside the one that all processes share.

    `local`, on this process's `elapsed`, opens at once by this process's own window. `shared`, on the store's clock, is
    the last value read of the one all processes vote on; where it is not closed it decides. It is ignored in a process
    that is `alone`: one without a shared store, or one that lost the store while the shared breaker decided.
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
        self.probing = asyncio.Lock()

    @property
    def epoch(self) -> int:
        """Grows with every transition of either: an outcome counts only in the epoch its call was admitted in."""
        return self.local.epoch + self.shared.epoch

    @property
    def released(self) -> int:
        """The newest forced-open override whose end has been taken into account."""
        return max(self.local.released, self.shared.released)

    @property
    def is_shared(self) -> bool:
        """Whether the shared breaker decides, and leases the probes."""
        return not self.alone and self.shared.state is not State.CLOSED

    def fold(self, outcome: CallOutcome, latency_ms: int, now: float, rules: Rules) -> Tripping | None:
        """Count a call that was not a probe; return the rule by which the local breaker trips now, if any."""
        self.window.add(outcome, latency_ms, now, rules)
        if outcome is CallOutcome.NOTHING:
            return None
        self.called = True
        self.successes += outcome is CallOutcome.GOOD and self.shared.trips > 0
        if self.local.state is not State.CLOSED or self.is_shared:
            return None
        return self.window.judged(now, rules)

    def move(self, signal: Signal, now: float, rules: Rules, jitter: float) -> Breaker:
        """Apply a signal to the local breaker; return what it was before."""
        before = self.local
        self.local = transition(before, signal, now, rules, jitter)
        if self.local.epoch != before.epoch:
            self.window.reset()
            self.tripping = None if self.local.state is State.CLOSED else self.tripping
        return before

    def absorb(self, value: Breaker) -> bool:
        """Take a newer shared value; a transition of it resets the local state. Return whether the view changed."""
        known = self.shared
        if value.epoch < known.epoch:
            return False
        if value.epoch > known.epoch:
            self.reset()
        self.shared = value
        before = (known.epoch, known.probes_good, known.probes_failed)
        return (value.epoch, value.probes_good, value.probes_failed) != before

    def reset(self) -> None:
        """Discard the local state."""
        self.local = Breaker(epoch=self.local.epoch + 1)
        self.window.reset()
        self.tripping = None
        self.successes = 0

    def detach(self, now: float, offset_s: float) -> None:
        """Continue locally from the last shared value, which the lost store can no longer lease probes of."""
        if not self.is_shared:
            return
        last = shifted(self.shared, -offset_s)
        self.reset()
        self.local = structs.replace(
            last,
            state=State.OPEN,
            epoch=self.local.epoch,
            until=last.until if last.state is State.OPEN else now,
            leases=(),
            probes_given=0,
            probes_good=0,
            probes_failed=0,
            successes=0,
            callers={},
        )
        self.alone = True

    def signals(
        self, process: str, live: frozenset[str], stored: Breaker, now: float, offset_s: float
    ) -> tuple[Signal, ...]:
        """List what is to be published, reports first, which are of the past; `now` is the store's."""
        vote = self._vote(process, live, stored, now, offset_s)
        # Good calls only matter while past openings still weigh on the shared breaker.
        succeeded = Succeeded(self.shared.epoch, self.successes) if self.successes else None
        return (*self.reports, *(each for each in (vote, succeeded) if each is not None))

    def delivered(self, signals: Iterable[Signal]) -> None:
        """Drop what was published; more may have come meanwhile."""
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

    def _vote(self, process: str, live: frozenset[str], stored: Breaker, now: float, offset_s: float) -> Vote | None:
        """Vote for or against opening; None: the vote is stored already, or this process made no call since."""
        known = stored.callers.get(process)
        trips = self.tripping is not None
        is_other = known is not None and known.trips != trips
        is_old = known is None or now - known.at >= VOTE_EVERY_S
        if not is_other and not (is_old and self.called):
            return None
        if self.tripping is None:
            return Vote(process, None, now, live)
        return Vote(process, self.tripping.cause, self.tripping.incident_from + offset_s, live)

    def view(self, now: datetime, elapsed: float, offset_s: float, rules: Rules) -> View | None:
        """Return the view of the breaker that decides, on this process's clock; None while it never opened."""
        breaker = self._deciding(offset_s)
        if breaker.cause is None:
            return None

        def timestamp(at: float) -> datetime:
            return now + timedelta(seconds=at - elapsed)

        incident = None
        if breaker.incident_from is not None:
            ended = None if breaker.incident_until is None else timestamp(breaker.incident_until)
            incident = (timestamp(breaker.incident_from), ended)
        is_closed = breaker.state is State.CLOSED
        return View(
            state=breaker.state,
            epoch=breaker.epoch,
            since=timestamp(breaker.since),
            until=timestamp(breaker.until) if breaker.state is State.OPEN else None,
            closed_at=timestamp(breaker.since) if is_closed else None,
            incident=incident,
            cause=breaker.cause,
            released=self.released,
            probes=_probes(breaker, rules) if breaker.state is State.HALF_OPEN else None,
        )

    def _deciding(self, offset_s: float) -> Breaker:
        """The shared breaker while it is not closed; else the local one, if it ever moved since."""
        is_local = self.alone or (self.local.cause is not None and not self.is_shared)
        return self.local if is_local else shifted(self.shared, -offset_s)


def _probes(breaker: Breaker, rules: Rules) -> str:
    """Good probes of those needed, more of which are needed once one has failed."""
    return f"{breaker.probes_good}/{ENOUGH_GOOD if breaker.probes_failed else min(rules.probes, ENOUGH_GOOD)}"
