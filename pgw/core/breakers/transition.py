"""Breaker, signal, now -> Breaker: the one place that decides when a gateway is left, probed and regained."""

from msgspec import Struct, structs

from pgw.core.breakers.breaker import Breaker, Caller, CallOutcome, Lease, Rules, State, TransitionCause

MOST_PROBES = 10
"""Probes of one half-open epoch; leases returned without evidence do not count, expired ones do."""

ENOUGH_GOOD = 8
"""Good probes of MOST_PROBES that close a breaker which had a failed one."""

HEALTHY_AFTER = 20
"""Real successes after which past openings no longer make the next one longer."""

JITTER = (0.8, 1.2)
"""Bounds of the factor on an open time, so that processes and gateways are not all probed at the same time."""


class Vote(Struct, frozen=True):
    """Whether a process that called the gateway would leave it.

    `trips`: by which rule; None: it would stay. `incident_from`: when its run of failing calls began. `live`: the
    processes that live, itself included or not.
    """

    process: str
    trips: TransitionCause | None
    incident_from: float
    live: frozenset[str]


class ProbeRequest(Struct, frozen=True):
    """A probe requests a lease; it has one when the lease is among the breaker's afterwards."""

    lease_id: str
    lease_s: float


class Report(Struct, frozen=True):
    """The outcome of a probe."""

    epoch: int
    lease_id: str
    outcome: CallOutcome


class Release(Struct, frozen=True):
    """A forced-open override, the configuration's `version`, has ended or was cleared: the gateway is to be probed."""

    version: int


class Succeeded(Struct, frozen=True):
    """Good calls while the breaker was closed."""

    epoch: int
    count: int


Signal = Vote | ProbeRequest | Report | Release | Succeeded


def transition(breaker: Breaker, signal: Signal, now: float, rules: Rules, jitter: float) -> Breaker:
    """Apply a signal to a breaker; the same value when it changes nothing.

    All times are seconds on the clock that `now` is read from. `jitter`, drawn from JITTER, multiplies an open time
    that begins now.
    """
    match signal:
        case Vote():
            return _counted(breaker, signal, now, rules, jitter)
        case ProbeRequest():
            return _lease_given(breaker, signal, now, rules, jitter)
        case Report():
            return _reported(breaker, signal, now, rules, jitter)
        case Release(version):
            if version <= breaker.released:
                return breaker
            return _entered(
                structs.replace(breaker, released=version), State.HALF_OPEN, now, TransitionCause.OVERRIDE_ENDED
            )
        case Succeeded():
            return _succeeded(breaker, signal, now, rules)


def _counted(breaker: Breaker, vote: Vote, now: float, rules: Rules, jitter: float) -> Breaker:
    """Open when at least half of the live processes that called within the window would leave the gateway."""
    if breaker.state is not State.CLOSED:
        return breaker
    callers = {name: each for name, each in breaker.callers.items() if now - each.at <= rules.failure_window_s}
    callers[vote.process] = Caller(now, vote.trips is not None)
    breaker = structs.replace(breaker, callers=callers)
    voters = [each for name, each in callers.items() if name in vote.live or name == vote.process]
    agreeing = sum(each.trips for each in voters)
    if vote.trips is None or 2 * agreeing < len(voters):
        return breaker
    return _opened(breaker, vote.trips, vote.incident_from, now, rules, jitter)


def _lease_given(breaker: Breaker, request: ProbeRequest, now: float, rules: Rules, jitter: float) -> Breaker:
    """Grant a lease while one is free; the first after the open time begins the probing."""
    if breaker.state is State.OPEN and now >= breaker.until:
        breaker = _entered(breaker, State.HALF_OPEN, now, TransitionCause.OPEN_TIME_OVER)
    if breaker.state is not State.HALF_OPEN:
        return breaker
    breaker = _weighed(_reaped(breaker, now), now, rules, jitter)
    is_full = len(breaker.leases) >= rules.probes or breaker.probes_given >= MOST_PROBES
    if breaker.state is not State.HALF_OPEN or is_full:
        return breaker
    lease = Lease(request.lease_id, now + request.lease_s)
    return structs.replace(breaker, leases=(*breaker.leases, lease), probes_given=breaker.probes_given + 1)


def _reported(breaker: Breaker, report: Report, now: float, rules: Rules, jitter: float) -> Breaker:
    """Count a probe; whatever is neither good nor unattributed is a failure, an unknown outcome too."""
    is_ours = any(each.lease_id == report.lease_id and now < each.until for each in breaker.leases)
    if breaker.state is not State.HALF_OPEN or report.epoch != breaker.epoch or not is_ours:
        return breaker
    left = tuple(each for each in breaker.leases if each.lease_id != report.lease_id)
    if report.outcome is CallOutcome.NOTHING:
        return structs.replace(breaker, leases=left, probes_given=breaker.probes_given - 1)
    is_good = report.outcome is CallOutcome.GOOD
    counted = structs.replace(
        breaker,
        leases=left,
        probes_good=breaker.probes_good + is_good,
        probes_failed=breaker.probes_failed + (not is_good),
    )
    return _weighed(_reaped(counted, now), now, rules, jitter)


def _reaped(breaker: Breaker, now: float) -> Breaker:
    """Free the slots of probes whose holder let the lease run out."""
    held = tuple(each for each in breaker.leases if now < each.until)
    return breaker if len(held) == len(breaker.leases) else structs.replace(breaker, leases=held)


def _weighed(breaker: Breaker, now: float, rules: Rules, jitter: float) -> Breaker:
    """Close on good probes; open again as soon as there can be no more enough of them."""
    needed = ENOUGH_GOOD if breaker.probes_failed else min(rules.probes, ENOUGH_GOOD)
    if breaker.probes_good >= needed:
        return _closed(breaker, now)
    possible = breaker.probes_good + len(breaker.leases) + MOST_PROBES - breaker.probes_given
    if possible >= needed:
        return breaker
    return _opened(breaker, TransitionCause.PROBES_FAILED, breaker.since, now, rules, jitter)


def _closed(breaker: Breaker, now: float) -> Breaker:
    is_over = breaker.incident_from is None or breaker.incident_until is not None
    ended = breaker if is_over else structs.replace(breaker, incident_until=now)
    return _entered(ended, State.CLOSED, now, TransitionCause.PROBES_PASSED)


def _opened(
    breaker: Breaker, cause: TransitionCause, incident_from: float, now: float, rules: Rules, jitter: float
) -> Breaker:
    """Open for a time that doubles from one opening to the next once trouble has lasted."""
    began = breaker.incident_from
    if began is None or breaker.incident_until is not None:
        began = incident_from
    unwell_from = began if breaker.unwell_from is None else breaker.unwell_from
    grows = now - unwell_from >= rules.open_growth_after_s
    open_s = min(max(2 * breaker.open_s if grows else 0.0, rules.open_s), rules.max_open_s)
    opened = structs.replace(
        breaker,
        trips=breaker.trips + 1,
        unwell_from=unwell_from,
        open_s=open_s,
        incident_from=began,
        incident_until=None,
    )
    return structs.replace(_entered(opened, State.OPEN, now, cause), until=now + open_s * jitter)


def _entered(breaker: Breaker, state: State, now: float, cause: TransitionCause) -> Breaker:
    """Begin a new epoch: votes, leases and counts belong to the old one."""
    return structs.replace(
        breaker,
        state=state,
        epoch=breaker.epoch + 1,
        since=now,
        until=0.0,
        cause=cause,
        leases=(),
        probes_given=0,
        probes_good=0,
        probes_failed=0,
        successes=0,
        callers={},
    )


def _succeeded(breaker: Breaker, succeeded: Succeeded, now: float, rules: Rules) -> Breaker:
    """Forget past openings on evidence alone, and only on that of a full share: not during the slow start."""
    is_stale = breaker.state is not State.CLOSED or succeeded.epoch != breaker.epoch
    if is_stale or breaker.trips == 0 or now - breaker.since < rules.slow_start_s:
        return breaker
    successes = breaker.successes + succeeded.count
    if successes < HEALTHY_AFTER:
        return structs.replace(breaker, successes=successes)
    return structs.replace(breaker, successes=0, trips=0, unwell_from=None, open_s=0.0)
