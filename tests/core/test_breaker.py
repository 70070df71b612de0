"""A breaker opens on a quorum, probes by leases, closes on evidence, and stays open longer while trouble lasts."""

import math
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, invariant, multiple, rule

from pgw.core.breakers.breaker import (
    Breaker,
    Caller,
    CallOutcome,
    Lease,
    Rules,
    State,
    TransitionCause,
    call_outcome_of,
    shifted,
)
from pgw.core.breakers.transition import (
    ENOUGH_GOOD,
    HEALTHY_AFTER,
    JITTER,
    MOST_PROBES,
    ProbeRequest,
    Release,
    Report,
    Signal,
    Succeeded,
    Vote,
    transition,
)
from pgw.core.payment.outcome import ActionRequired, Blame, FinalDecline, GatewayDecline, NotSent, Unknown, attempt_end
from pgw.core.payment.payment import NextAction
from tests.doubles import CAPTURED

RULES = Rules()
ME = frozenset({"a"})
TRIP = Vote("a", TransitionCause.FAILURE_RATE, 90.0, ME)


def after(breaker: Breaker, signal: Signal, now: float, jitter: float = 1.0, rules: Rules = RULES) -> Breaker:
    return transition(breaker, signal, now, rules, jitter)


def opened(now: float = 100.0) -> Breaker:
    return after(Breaker(), TRIP, now)


def asked(breaker: Breaker, now: float, *names: str) -> Breaker:
    """Ask for leases of ten seconds under these names."""
    for name in names:
        breaker = after(breaker, ProbeRequest(name, 10.0), now)
    return breaker


def probed(breaker: Breaker, now: float, signs: str) -> Breaker:
    """Send one probe after the other: `+` is good, `-` is not."""
    for number, sign in enumerate(signs):
        breaker = asked(breaker, now, f"p{number}")
        report = Report(breaker.epoch, f"p{number}", CallOutcome.GOOD if sign == "+" else CallOutcome.FAILED)
        breaker = after(breaker, report, now)
    return breaker


def leases(breaker: Breaker) -> list[str]:
    return [each.lease_id for each in breaker.leases]


def test_a_lone_process_counts_as_all() -> None:
    breaker = opened()
    assert (breaker.state, breaker.epoch, breaker.trips) == (State.OPEN, 1, 1)
    assert (breaker.since, breaker.until, breaker.cause) == (100.0, 130.0, TransitionCause.FAILURE_RATE)
    assert (breaker.incident_from, breaker.incident_until) == (90.0, None)
    assert breaker.callers == {}


@pytest.mark.parametrize(("agreeing", "of", "opens"), [(1, 2, True), (1, 3, False), (2, 3, True), (1, 1, True)])
def test_half_of_the_live_callers_open_the_breaker(agreeing: int, of: int, opens: bool) -> None:
    """So one bad worker of three leaves alone."""
    names = [f"w{number}" for number in range(of)]
    breaker = Breaker()
    for name in names:
        breaker = after(breaker, Vote(name, None, 0.0, frozenset(names)), 100.0)
    for name in names[:agreeing]:
        assert State.CLOSED is breaker.state
        breaker = after(breaker, Vote(name, TransitionCause.SLOW_RATE, 95.0, frozenset(names)), 101.0)
    assert (State.OPEN if opens else State.CLOSED) is breaker.state


def test_who_is_dead_or_has_not_called_lately_has_no_vote() -> None:
    live = frozenset({"a", "b", "c"})
    breaker = after(Breaker(), Vote("b", None, 0.0, live), 0.0)
    breaker = after(breaker, Vote("c", None, 0.0, live), 100.0)
    breaker = after(breaker, Vote("d", None, 0.0, live), 100.0)
    assert {"b", "c", "d"} == set(breaker.callers)
    # b's word is older than the window of two minutes, d does not live: a and c are left.
    assert State.OPEN is after(breaker, Vote("a", TransitionCause.FAILURE_RATE, 90.0, live), 121.0).state
    assert State.CLOSED is after(breaker, Vote("a", TransitionCause.FAILURE_RATE, 90.0, live), 119.0).state
    assert {"a", "c", "d"} == set(after(breaker, Vote("a", None, 0.0, live), 121.0).callers)


def test_who_votes_lives() -> None:
    """Its heartbeat may be late; its word is here."""
    breaker = after(Breaker(), Vote("b", None, 0.0, frozenset({"b"})), 100.0)
    assert after(breaker, Vote("a", TransitionCause.SLOW_RATE, 90.0, frozenset({"b"})), 100.0).state is State.OPEN


def test_a_vote_that_was_taken_back_no_longer_counts() -> None:
    live = frozenset({"a", "b", "c"})
    breaker = Breaker()
    for name in sorted(live):
        breaker = after(breaker, Vote(name, None, 0.0, live), 99.0)
    for name, cause in (("a", TransitionCause.FAILURE_RATE), ("a", None), ("b", TransitionCause.FAILURE_RATE)):
        breaker = after(breaker, Vote(name, cause, 90.0, live), 100.0)
    assert State.CLOSED is breaker.state
    assert {name: each.trips for name, each in breaker.callers.items()} == {"a": False, "b": True, "c": False}


def test_votes_mean_nothing_while_it_is_not_closed() -> None:
    breaker = opened()
    assert breaker is after(breaker, TRIP, 101.0)
    half_open = asked(breaker, 130.0, "p")
    assert half_open is after(half_open, TRIP, 131.0)


def test_nobody_probes_before_the_open_time_is_over() -> None:
    breaker = opened()
    assert breaker is asked(breaker, 129.9, "early")
    assert Breaker() == asked(Breaker(), 129.9, "closed needs none")
    half_open = asked(breaker, 130.0, "p")
    assert (half_open.state, half_open.epoch, half_open.cause) == (State.HALF_OPEN, 2, TransitionCause.OPEN_TIME_OVER)
    assert (Lease("p", 140.0),) == half_open.leases


def test_three_probes_at_once_and_no_more() -> None:
    breaker = asked(opened(), 130.0, "p1", "p2", "p3")
    assert leases(breaker) == ["p1", "p2", "p3"]
    assert breaker is asked(breaker, 130.0, "p4")


def test_a_dead_probers_lease_is_free_when_it_ends() -> None:
    breaker = asked(opened(), 130.0, "p1", "p2", "p3")
    assert breaker is asked(breaker, 139.9, "p4")
    later = asked(breaker, 140.0, "p4", "p5")
    assert leases(later) == ["p4", "p5"]
    assert (later.probes_good, later.probes_failed, later.probes_given) == (0, 0, 5)
    assert later is after(later, Report(later.epoch, "p1", CallOutcome.GOOD), 141.0)


def test_a_report_after_the_lease_counts_for_nothing_even_before_the_slot_is_taken() -> None:
    breaker = asked(opened(), 130.0, "p1")
    assert breaker is after(breaker, Report(breaker.epoch, "p1", CallOutcome.GOOD), 140.0)


def test_three_good_probes_of_three_close_it() -> None:
    breaker = probed(opened(), 130.0, "++")
    assert (breaker.state, breaker.probes_good) == (State.HALF_OPEN, 2)
    closed = probed(breaker, 131.0, "+")
    assert (closed.state, closed.epoch, closed.since, closed.cause) == (
        State.CLOSED,
        3,
        131.0,
        TransitionCause.PROBES_PASSED,
    )
    assert (closed.incident_from, closed.incident_until) == (90.0, 131.0)
    assert (closed.trips, closed.probes_good, closed.leases) == (1, 0, ())


@pytest.mark.parametrize(
    ("signs", "state"),
    [
        ("-++", State.HALF_OPEN),
        ("--+++++++", State.HALF_OPEN),
        ("--++++++++", State.CLOSED),
        ("-++++++++", State.CLOSED),
        ("++-++++++", State.CLOSED),
        ("--", State.HALF_OPEN),
        ("---", State.OPEN),
        ("-+-+-", State.OPEN),
        ("++-+++++--", State.OPEN),
    ],
)
def test_with_a_failed_probe_eight_of_ten_are_needed_and_the_third_failure_ends_it(signs: str, state: State) -> None:
    breaker = probed(opened(), 130.0, signs[:-1])
    assert State.HALF_OPEN is breaker.state
    assert state is probed(breaker, 130.0, signs[-1]).state


@pytest.mark.parametrize("sign", [CallOutcome.FAILED, CallOutcome.NOT_SENT, CallOutcome.TIMED_OUT])
def test_whatever_is_not_good_fails_a_probe(sign: CallOutcome) -> None:
    breaker = asked(opened(), 130.0, "p1")
    assert after(breaker, Report(breaker.epoch, "p1", sign), 131.0).probes_failed == 1


def test_a_probe_that_says_nothing_gives_its_lease_back() -> None:
    breaker = opened()
    for number in range(2 * MOST_PROBES):
        breaker = asked(breaker, 130.0, f"p{number}")
        assert [f"p{number}"] == leases(breaker)
        breaker = after(breaker, Report(breaker.epoch, f"p{number}", CallOutcome.NOTHING), 130.0)
    assert (breaker.probes_given, breaker.probes_good, breaker.probes_failed) == (0, 0, 0)


def test_probes_that_nobody_reports_open_it_again() -> None:
    """Otherwise it would stay half-open for ever, with no probe left to ask for."""
    breaker, now = opened(), 130.0
    for number in range(MOST_PROBES - RULES.probes + 1):
        breaker = asked(breaker, now, f"p{number}")
        assert leases(breaker) == [f"p{number}"]
        now += 10.0
    breaker = asked(breaker, now, "one more")
    assert (breaker.state, breaker.cause, breaker.trips) == (State.OPEN, TransitionCause.PROBES_FAILED, 2)


def test_a_report_sees_that_other_probes_ran_out() -> None:
    breaker = asked(asked(opened(), 130.0, "p1", "p2"), 135.0, "p3")
    assert after(breaker, Report(breaker.epoch, "p3", CallOutcome.FAILED), 139.0).state is State.HALF_OPEN
    # Two are lost and one failed: seven are left, and eight would have to be good.
    assert after(breaker, Report(breaker.epoch, "p3", CallOutcome.FAILED), 141.0).state is State.OPEN


def test_a_report_of_another_epoch_or_of_no_lease_changes_nothing() -> None:
    breaker = asked(opened(), 130.0, "p1")
    for report in (Report(breaker.epoch - 1, "p1", CallOutcome.GOOD), Report(breaker.epoch, "p9", CallOutcome.FAILED)):
        assert breaker is after(breaker, report, 131.0)
    closed = probed(breaker, 130.0, "+++")
    assert closed is after(closed, Report(2, "p1", CallOutcome.FAILED), 131.0)


def reopened(breaker: Breaker) -> Breaker:
    """Fail three probes the moment they are allowed."""
    return probed(breaker, breaker.until, "---")


def test_the_open_time_does_not_grow_for_two_minutes_then_doubles_up_to_its_cap() -> None:
    breaker = opened(now=90.0)
    lengths = [breaker.until - breaker.since]
    for _ in range(8):
        breaker = reopened(breaker)
        lengths.append(breaker.until - breaker.since)
    assert lengths == [30, 30, 30, 30, 60, 120, 240, 300, 300]
    assert (breaker.trips, breaker.incident_from, breaker.incident_until) == (9, 90.0, None)


def test_closing_for_a_moment_does_not_make_the_open_time_short_again() -> None:
    """A gateway that flaps is well only when it has shown so."""
    breaker = opened(now=90.0)
    lengths = []
    for _ in range(5):
        closed = probed(breaker, breaker.until, "+++")
        failing = closed.since + 5.0
        breaker = after(closed, Vote("a", TransitionCause.FAILURES_IN_A_ROW, failing - 3.0, ME), failing)
        lengths.append(breaker.until - breaker.since)
        assert (failing - 3.0, None) == (breaker.incident_from, breaker.incident_until)
    assert lengths == [30, 30, 30, 60, 120]


def test_twenty_real_successes_after_the_slow_start_make_it_well() -> None:
    closed = probed(opened(), 130.0, "+++")
    early = closed.since + RULES.slow_start_s - 0.1
    assert closed is after(closed, Succeeded(closed.epoch, 100), early)
    late = closed.since + RULES.slow_start_s
    assert closed is after(closed, Succeeded(closed.epoch - 1, 100), late)
    nearly = after(closed, Succeeded(closed.epoch, HEALTHY_AFTER - 1), late)
    assert (nearly.trips, nearly.successes) == (1, HEALTHY_AFTER - 1)
    well = after(nearly, Succeeded(closed.epoch, 1), late)
    assert (well.trips, well.successes, well.unwell_from, well.open_s) == (0, 0, None, 0.0)
    assert (State.CLOSED, closed.epoch) == (well.state, well.epoch)
    assert well is after(well, Succeeded(well.epoch, 1), late)
    assert (again := after(well, TRIP, 10_000.0)).until - again.since == 30.0


def test_successes_before_an_opening_do_not_count_after_it() -> None:
    closed = probed(opened(), 130.0, "+++")
    nearly = after(closed, Succeeded(closed.epoch, HEALTHY_AFTER - 1), 200.0)
    again = probed(after(nearly, TRIP, 200.0), 300.0, "+++")
    assert (again.trips, again.successes) == (2, 0)


@pytest.mark.parametrize("jitter", JITTER)
def test_jitter_stretches_or_shortens_the_open_time(jitter: float) -> None:
    assert 100.0 + 30.0 * jitter == after(Breaker(), TRIP, 100.0, jitter).until


def test_an_ended_override_begins_probing_once() -> None:
    for breaker in (Breaker(), opened(), asked(opened(), 130.0, "p1")):
        released = after(breaker, Release(7), 200.0)
        assert (State.HALF_OPEN, breaker.epoch + 1, 7) == (released.state, released.epoch, released.released)
        assert (released.cause, released.since, released.leases) == (TransitionCause.OVERRIDE_ENDED, 200.0, ())
        for version in (6, 7):
            assert released is after(released, Release(version), 201.0)
        assert released.epoch + 1 == after(released, Release(8), 201.0).epoch


def test_forcing_a_well_gateway_open_is_no_incident() -> None:
    released = after(Breaker(), Release(7), 200.0)
    closed = probed(released, 201.0, "+++")
    assert (closed.state, closed.incident_from, closed.incident_until) == (State.CLOSED, None, None)
    ill = probed(released, 201.0, "---")
    assert (ill.state, ill.incident_from, ill.incident_until) == (State.OPEN, 200.0, None)


def test_forcing_a_gateway_open_after_an_incident_leaves_its_bounds_alone() -> None:
    closed = probed(opened(), 130.0, "+++")
    again = probed(after(closed, Release(7), 500.0), 501.0, "+++")
    assert (again.incident_from, again.incident_until) == (90.0, 130.0)


def test_one_probe_or_ten_can_be_asked_for() -> None:
    one, ten = Rules(probes=1), Rules(probes=10)
    breaker = after(opened(), ProbeRequest("p0", 10.0), 130.0, rules=one)
    assert breaker is after(breaker, ProbeRequest("p1", 10.0), 130.0, rules=one)
    assert State.CLOSED is after(breaker, Report(2, "p0", CallOutcome.GOOD), 131.0, rules=one).state
    breaker = opened()
    for number in range(MOST_PROBES):
        breaker = after(breaker, ProbeRequest(f"p{number}", 10.0), 130.0, rules=ten)
    assert breaker is after(breaker, ProbeRequest("p10", 10.0), 130.0, rules=ten)
    for number in range(ENOUGH_GOOD):
        assert State.HALF_OPEN is breaker.state
        breaker = after(breaker, Report(2, f"p{number}", CallOutcome.GOOD), 131.0, rules=ten)
    assert State.CLOSED is breaker.state


@pytest.mark.parametrize(
    ("verdict", "sign"),
    [
        (CAPTURED, CallOutcome.GOOD),
        (ActionRequired("r", NextAction(type="redirect", url="upi://pay")), CallOutcome.GOOD),
        (NotSent("NOT_SENT_REFUSED", Blame.GATEWAY), CallOutcome.NOT_SENT),
        (NotSent("NOT_SENT_AUTH", Blame.NONE), CallOutcome.NOT_SENT),
        (NotSent("NOT_SENT_POOL", Blame.NONE), CallOutcome.NOTHING),
        (GatewayDecline("SERVER", Blame.GATEWAY), CallOutcome.FAILED),
        (GatewayDecline("BANK_DOWN", Blame.BANK), CallOutcome.NOTHING),
        (FinalDecline("NO_FUNDS"), CallOutcome.NOTHING),
        (Unknown("TIMEOUT", Blame.GATEWAY), CallOutcome.TIMED_OUT),
        (Unknown("TIMEOUT", Blame.NETWORK), CallOutcome.NOTHING),
    ],
)
def test_only_what_is_the_gateways_speaks_for_or_against_it(verdict: Any, sign: CallOutcome) -> None:
    assert sign is call_outcome_of(attempt_end(verdict))


def test_shifting_to_another_clock_and_back_is_the_same_breaker() -> None:
    breaker = msgspec.structs.replace(asked(opened(), 130.0, "p1"), callers={"a": Caller(3.0, trips=True)})
    moved = shifted(breaker, 1000.0)
    assert (1130.0, Lease("p1", 1140.0), 1090.0, 1003.0) == (
        moved.since,
        moved.leases[0],
        moved.incident_from,
        moved.callers["a"].at,
    )
    assert breaker == shifted(moved, -1000.0)
    assert breaker == msgspec.json.decode(msgspec.json.encode(breaker), type=Breaker)


names = st.sampled_from(["a", "b", "c"])
causes = st.none() | st.sampled_from([TransitionCause.FAILURE_RATE, TransitionCause.SLOW_RATE])
jitters = st.sampled_from([*JITTER, 1.0]) | st.floats(*JITTER)


class Probing(RuleBasedStateMachine):
    """Voters, probers, operators and time in any order; some probers die, some report late or twice."""

    granted = Bundle("granted")

    def __init__(self) -> None:
        super().__init__()
        self.now = 1000.0
        self.breaker = Breaker()
        self.in_epoch: set[str] = set()
        self.evidence = 0
        self.asked = 0

    def send(self, signal: Signal, jitter: float = 1.0) -> Breaker:
        """Apply a signal, and judge what it did."""
        before, self.breaker = self.breaker, transition(self.breaker, signal, self.now, RULES, jitter)
        self.judge(before, self.breaker, signal)
        return before

    def judge(self, before: Breaker, now: Breaker, signal: Signal) -> None:
        assert now.epoch - before.epoch in {0, 1}
        assert now.epoch > before.epoch or now.state is before.state
        assert now.released >= before.released
        if now.epoch > before.epoch:
            self.in_epoch = set()
            self.evidence = 0
            assert self.now == now.since
            assert (now.probes_good, now.probes_failed, now.callers) == (0, 0, {})
        if now.state is State.CLOSED and before.state is not State.CLOSED:
            assert isinstance(signal, Report)
            assert State.HALF_OPEN is before.state
            assert before.probes_good + 1 >= (RULES.probes if not before.probes_failed else ENOUGH_GOOD)
        if now.state is State.OPEN and now.epoch > before.epoch:
            assert before.trips + 1 == now.trips
            assert JITTER[0] * RULES.open_s <= now.until - now.since + 1e-6
            assert now.until - now.since <= JITTER[1] * RULES.max_open_s + 1e-6
            assert now.incident_until is None
            assert now.incident_from is not None
            assert now.incident_from <= self.now
        elif now.trips != before.trips:
            assert (now.trips, now.state) == (0, State.CLOSED)
            assert self.evidence >= HEALTHY_AFTER
            assert self.now - now.since >= RULES.slow_start_s

    @rule(seconds=st.sampled_from([0.1, 1.0, 4.4, 5.0, 20.0, 31.0, 121.0, 400.0]))
    def time_passes(self, seconds: float) -> None:
        self.now += seconds

    @rule(name=names, trips=causes, live=st.frozensets(names), ago=st.floats(0.0, 60.0), jitter=jitters)
    def somebody_votes(
        self, name: str, trips: TransitionCause | None, live: frozenset[str], ago: float, jitter: float
    ) -> None:
        self.send(Vote(name, trips, self.now - ago, live), jitter)

    @rule(target=granted, jitter=jitters)
    def somebody_asks(self, jitter: float) -> Any:
        self.asked += 1
        name = f"p{self.asked}"
        self.send(ProbeRequest(name, 4.5), jitter)
        if name not in leases(self.breaker):
            return multiple()
        self.in_epoch.add(name)
        return (self.breaker.epoch, name, self.now + 4.5)

    @rule(probe=granted, outcome=st.sampled_from(CallOutcome), jitter=jitters)
    def a_probe_reports(self, probe: tuple[int, str, float], outcome: CallOutcome, jitter: float) -> None:
        """Of the same probe again and again, too: only the first, in time and in its epoch, may count."""
        epoch, name, until = probe
        is_in_time = epoch == self.breaker.epoch and name in self.in_epoch and self.now < until
        before = self.send(Report(epoch, name, outcome), jitter)
        self.in_epoch.discard(name) if outcome is CallOutcome.NOTHING else None
        if not is_in_time or name not in leases(before):
            assert before is self.breaker

    @rule(version=st.integers(1, 5))
    def an_override_ends(self, version: int) -> None:
        before = self.send(Release(version))
        assert (before is self.breaker) == (version <= before.released)

    @rule(count=st.integers(1, 12), stale=st.booleans(), jitter=jitters)
    def calls_succeed(self, count: int, stale: bool, jitter: float) -> None:
        is_evidence = not stale and self.now - self.breaker.since >= RULES.slow_start_s
        self.evidence += count if is_evidence else 0
        before = self.send(Succeeded(self.breaker.epoch - stale, count), jitter)
        if self.breaker.trips != before.trips:
            self.evidence = 0

    @invariant()
    def no_more_probes_than_are_permitted(self) -> None:
        assert sum(self.now < each.until for each in self.breaker.leases) <= RULES.probes
        assert self.breaker.probes_given <= MOST_PROBES
        assert len(self.in_epoch) <= MOST_PROBES
        held = len(self.breaker.leases) + self.breaker.probes_good + self.breaker.probes_failed
        assert held <= self.breaker.probes_given or self.breaker.state is not State.HALF_OPEN

    @invariant()
    def what_does_not_belong_to_a_state_is_not_there(self) -> None:
        breaker = self.breaker
        assert breaker.state in {State.CLOSED, State.OPEN, State.HALF_OPEN}
        assert breaker.state is State.HALF_OPEN or breaker.leases == ()
        assert breaker.state is State.CLOSED or not breaker.callers
        assert (breaker.until > breaker.since) == (breaker.state is State.OPEN)
        assert (breaker.trips == 0) == (breaker.unwell_from is None)
        if breaker.incident_from is not None and breaker.incident_until is not None:
            assert breaker.incident_from <= breaker.incident_until

    @invariant()
    def it_never_gets_stuck(self) -> None:
        """Whatever happened, one who asks late enough is admitted, or it has opened again for a bounded time."""
        late = max([self.now, self.breaker.until, *(each.until for each in self.breaker.leases)])
        if self.breaker.state is not State.CLOSED:
            asked_late = transition(self.breaker, ProbeRequest("late", 1.0), late, RULES, 1.0)
            assert "late" in leases(asked_late) or asked_late.state is State.OPEN
            assert math.isfinite(asked_late.until)


TestProbing = Probing.TestCase
TestProbing.settings = settings(max_examples=150, stateful_step_count=60)


@given(st.integers(1, 12), st.data())
def test_n_processes_open_it_exactly_when_half_of_them_agree(of: int, data: st.DataObject) -> None:
    voters = frozenset(f"w{number}" for number in range(of))
    breaker = Breaker()
    for name in sorted(voters):
        breaker = after(breaker, Vote(name, None, 0.0, voters), 100.0)
    for agreeing, name in enumerate(data.draw(st.permutations(sorted(voters)))):
        assert (2 * agreeing >= of) == (breaker.state is State.OPEN)
        breaker = after(breaker, Vote(name, TransitionCause.FAILURE_RATE, 90.0, voters), 100.0)
    assert State.OPEN is breaker.state
