"""Only what a gateway did moves its health; what is little known leans on the whole; an incident is left out."""

import math
from collections import Counter
from collections.abc import Mapping

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pgw.core.events import Event
from pgw.core.metrics.counters import SLICE_S, Counts, bucket_of, fold, parse_field
from pgw.core.metrics.health import (
    AHEAD_SLICES,
    LOOK_BACK_SLICES,
    WINDOW_SLICES,
    Evidence,
    Incident,
    evidence_of,
    healths,
    shrunk,
    window,
    window_outside,
)
from pgw.core.payment.outcome import AttemptEnd, Blame
from pgw.core.payment.payment import AttemptStatus
from pgw.core.routing.score import ALL, PRIOR_HEALTH, Health, health_of
from tests.core.drawn import healths as known_healths
from tests.core.told import FAULT, SUCCEEDED, told

NEWEST = 176_761_440
FAR_BACK = 2 * LOOK_BACK_SLICES

evidences = st.tuples(st.integers(0, 1000), st.integers(0, 1000), st.integers(0, 2000), st.integers(0, 60_000)).map(
    lambda each: Evidence(each[0], each[0] + each[1], each[2], each[3])
)
weights = st.sampled_from([4.0, 10.0])


def _is_between(value: float, one: float, other: float) -> bool:
    slack = 1e-9 * max(abs(one), abs(other), 1.0)
    return min(one, other) - slack <= value <= max(one, other) + slack


def _evidence(told_: list[Event]) -> Evidence:
    """What the calls of one cell say."""
    of: Counter[str] = Counter()
    for fields in fold(told_).values():
        of.update({parse_field(field)[1]: n for field, n in fields.items()})
    return evidence_of(Counts(of))


def _alone(own: Evidence) -> Mapping[tuple[str, str, str], Health]:
    """Judge a gateway that was called by one method for one bank."""
    return healths({"hdfc": own}, {("hdfc", "UPI"): own}, {("hdfc", "UPI", "HDFC"): own})


def test_known_healths() -> None:
    """Worked by hand. Gateway: (90 + 4 x .5) / (100 + 4), (90 x 200 + 4 x 1500) / 94; then each 10 further calls."""
    found = healths(
        {"hdfc": Evidence(90, 100, 90, 200)},
        {("hdfc", "UPI"): Evidence(88, 90, 80, 150)},
        {("hdfc", "UPI", "HDFC"): Evidence(1, 2, 1, 1000)},
    )
    gateway = Health(92 / 104, 24_000 / 94, 100.0)
    method = Health((88 + 10 * gateway.success_rate) / 100, (80 * 150 + 10 * gateway.latency_p95_ms) / 90, 90.0)
    bank = Health((1 + 10 * method.success_rate) / 12, (1000 + 10 * method.latency_p95_ms) / 11, 2.0)
    assert found == {("hdfc", ALL, ALL): gateway, ("hdfc", "UPI", ALL): method, ("hdfc", "UPI", "HDFC"): bank}
    assert math.isclose(bank.success_rate, 0.8904, abs_tol=5e-5)
    assert math.isclose(bank.latency_p95_ms, 238.0, abs_tol=0.5)


@given(evidences, known_healths, weights)
def test_what_is_judged_lies_between_its_own_rate_and_that_of_the_whole(
    own: Evidence, around: Health, weight: float
) -> None:
    judged = shrunk(own, around, weight)
    own_rate = own.successes / own.attributed if own.attributed else around.success_rate
    own_p95 = own.p95_ms if own.measured else around.latency_p95_ms
    assert _is_between(judged.success_rate, own_rate, around.success_rate)
    assert _is_between(judged.latency_p95_ms, own_p95, around.latency_p95_ms)
    assert judged.observations == own.attributed


@given(known_healths, weights, st.integers(1, 100), st.integers(0, 100), st.integers(2, 50))
def test_the_more_calls_the_nearer_to_the_own_rate(
    around: Health, weight: float, attributed: int, share: int, times: int
) -> None:
    successes = attributed * share // 100
    rate = successes / attributed
    few = shrunk(Evidence(successes, attributed, 0, 0), around, weight)
    many = shrunk(Evidence(successes * times, attributed * times, 0, 0), around, weight)
    assert abs(many.success_rate - rate) <= abs(few.success_rate - rate) + 1e-12


@given(evidences)
def test_no_gateway_is_ever_perfect_or_hopeless(own: Evidence) -> None:
    assert all(0.0 < each.success_rate < 1.0 for each in _alone(own).values())


def test_a_gateway_nobody_called_has_the_prior_whoever_asks() -> None:
    found = _alone(Evidence(5, 5, 5, 80))
    assert health_of(found, "axis", "UPI", "HDFC") == PRIOR_HEALTH
    assert health_of(healths({}, {}, {}), "hdfc", "UPI", "HDFC") == PRIOR_HEALTH


def test_a_cell_nobody_called_has_its_methods_health_and_a_method_its_gateways() -> None:
    found = _alone(Evidence(50, 60, 60, 80))
    assert health_of(found, "hdfc", "UPI", "SBI") == found["hdfc", "UPI", ALL]
    assert health_of(found, "hdfc", "CARD", "SBI") == found["hdfc", ALL, ALL]


def test_a_bank_that_calls_itself_everything_is_not_the_whole() -> None:
    own, whole = Evidence(0, 50, 50, 9000), Evidence(950, 1000, 1000, 90)
    found = healths({"hdfc": whole}, {("hdfc", "NETBANKING"): whole}, {("hdfc", "NETBANKING", ALL): own})
    assert found["hdfc", "NETBANKING", ALL].observations == 1000.0


@given(
    st.lists(st.sampled_from([SUCCEEDED, FAULT]), max_size=20),
    st.lists(
        st.tuples(
            st.sampled_from([AttemptStatus.FAILURE, AttemptStatus.TIMEOUT]),
            st.sampled_from([Blame.CUSTOMER, Blame.BANK, Blame.NETWORK, Blame.NONE]),
            st.integers(0, 60_000),
        ),
        max_size=20,
    ),
)
def test_what_customers_banks_and_networks_do_moves_no_health(
    own: list[AttemptEnd], others: list[tuple[AttemptStatus, Blame, int]]
) -> None:
    """Neither its success nor its latency, be they many or slow."""
    ours = [told(end) for end in own]
    theirs = [told(AttemptEnd(status, "X", blame), latency_ms=ms) for status, blame, ms in others]
    assert _alone(_evidence(ours)) == _alone(_evidence(ours + theirs))


@given(st.lists(st.sampled_from([SUCCEEDED, FAULT]), max_size=20))
def test_a_fault_lowers_the_health_and_a_success_raises_it(own: list[AttemptEnd]) -> None:
    cell = ("hdfc", "UPI", "HDFC")
    worse, as_it_was, better = (
        _alone(_evidence([told(end) for end in ends]))[cell].success_rate
        for ends in ([*own, FAULT], own, [*own, SUCCEEDED])
    )
    assert worse < as_it_was < better


def test_a_gateway_that_refuses_connections_is_not_fast() -> None:
    refused = [told(AttemptEnd(AttemptStatus.FAILURE, "NOT_SENT_REFUSED", Blame.GATEWAY), latency_ms=1)] * 50
    judged = _alone(_evidence(refused))["hdfc", "UPI", "HDFC"]
    assert judged.success_rate < 0.05
    assert judged.latency_p95_ms == PRIOR_HEALTH.latency_p95_ms


def test_the_latency_is_the_p95_of_the_sketch() -> None:
    slow = [told(SUCCEEDED, latency_ms=100)] * 94 + [told(SUCCEEDED, latency_ms=3000)] * 6
    assert _evidence(slow) == Evidence(100, 100, 100, bucket_of(3000))


def test_the_window_is_five_minutes_that_end_with_the_slice_that_has_begun() -> None:
    assert SLICE_S * WINDOW_SLICES == 300
    assert window(NEWEST) == range(NEWEST - 29, NEWEST + 1 + AHEAD_SLICES)
    assert window(NEWEST, 6) == range(NEWEST - 5, NEWEST + 1 + AHEAD_SLICES)


def _at(slice_: int) -> float:
    return float(slice_ * SLICE_S)


def test_while_an_incident_lasts_the_five_minutes_before_it_count() -> None:
    outside = window_outside(NEWEST, (_at(NEWEST - 100), None))
    assert outside == frozenset(range(NEWEST - 130, NEWEST - 100))


def test_after_an_incident_what_followed_counts_and_the_rest_comes_from_before_it() -> None:
    outside = window_outside(NEWEST, (_at(NEWEST - 100), _at(NEWEST - 9)))
    after = range(NEWEST - 8, NEWEST + 1 + AHEAD_SLICES)
    assert outside == frozenset([*after, *range(NEWEST - 121, NEWEST - 100)])


def test_a_slice_an_incident_only_touches_is_left_out_whole() -> None:
    outside = window_outside(NEWEST, (_at(NEWEST - 5) + 9.9, _at(NEWEST - 3)))
    assert {NEWEST - 5, NEWEST - 4, NEWEST - 3}.isdisjoint(outside)
    assert {NEWEST - 6, NEWEST - 2} <= outside


@pytest.mark.parametrize("incident", [(0.0, _at(NEWEST - 30)), (_at(NEWEST + 5), None)], ids=["over", "to come"])
def test_an_incident_out_of_sight_leaves_the_window_as_it_is(incident: Incident) -> None:
    assert frozenset(window(NEWEST)) == window_outside(NEWEST, incident)


def test_of_an_incident_longer_than_the_look_back_nothing_is_left() -> None:
    assert window_outside(NEWEST, (_at(NEWEST - LOOK_BACK_SLICES), None)) == frozenset()


@given(
    st.integers(0, FAR_BACK * SLICE_S).map(lambda s: _at(NEWEST - FAR_BACK) + s),
    st.none() | st.integers(0, FAR_BACK * SLICE_S),
)
def test_the_window_holds_the_newest_slices_of_an_hour_that_the_incident_does_not_touch(
    began: float, lasted: int | None
) -> None:
    ended = None if lasted is None else began + lasted
    last = math.inf if ended is None else ended
    touched = {n for n in range(NEWEST - FAR_BACK, NEWEST + 2) if _at(n) <= last and began < _at(n + 1)}
    hour = range(NEWEST, NEWEST - LOOK_BACK_SLICES, -1)
    past = [n for n in hour if n not in touched][:WINDOW_SLICES]
    assert {*past, *({NEWEST + 1} - touched)} == window_outside(NEWEST, (began, ended))
