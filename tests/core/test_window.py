"""A process leaves a gateway by what it saw of it lately: rates over windows, runs of failures, never a lone one."""

import sys
from collections.abc import Iterable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pgw.core.breakers.breaker import CallOutcome, Rules, TransitionCause
from pgw.core.breakers.window import BUCKET_S, BUCKETS, NO_CALLS, CallRates, CallWindow, Tripping

RULES = Rules()
NO_RUNS = Rules(failures_in_a_row=1000, not_sent_in_a_row=1000)
FAST, SLOW = 20, 5000

GOOD, FAILED, NOT_SENT, TIMED_OUT, NOTHING = (
    CallOutcome.GOOD,
    CallOutcome.FAILED,
    CallOutcome.NOT_SENT,
    CallOutcome.TIMED_OUT,
    CallOutcome.NOTHING,
)


def window_of(
    signs: Iterable[CallOutcome], at: float = 1000.0, latency_ms: int = FAST, rules: Rules = RULES
) -> CallWindow:
    return filled(CallWindow(), signs, at, latency_ms, rules)


def filled(
    window: CallWindow, signs: Iterable[CallOutcome], at: float, latency_ms: int = FAST, rules: Rules = RULES
) -> CallWindow:
    for sign in signs:
        window.add(sign, latency_ms, at, rules)
    return window


@pytest.mark.parametrize(
    ("signs", "cause"),
    [
        # 20 attributed calls, 40 % of them bad.
        ([FAILED, FAILED, GOOD, GOOD, GOOD] * 4, TransitionCause.FAILURE_RATE),
        ([FAILED, FAILED, GOOD, GOOD, GOOD] * 4 + [GOOD], None),
        (([FAILED, FAILED, GOOD, GOOD, GOOD] * 4)[1:], None),
        # Whatever lies with the gateway is a failure; what does not is not even a call.
        ([TIMED_OUT, NOT_SENT, GOOD, GOOD, FAILED] * 4, TransitionCause.FAILURE_RATE),
        ([FAILED, FAILED, GOOD, GOOD, GOOD] * 4 + [NOTHING] * 100, TransitionCause.FAILURE_RATE),
        ([FAILED, NOTHING, GOOD, NOTHING, NOTHING] * 9, None),
        # In a row.
        ([FAILED] * 9, None),
        ([FAILED] * 10, TransitionCause.FAILURES_IN_A_ROW),
        ([FAILED] * 9 + [GOOD, FAILED], None),
        ([FAILED] * 9 + [NOTHING, FAILED], TransitionCause.FAILURES_IN_A_ROW),
        ([NOT_SENT] * 4, None),
        ([NOT_SENT] * 5, TransitionCause.NOT_SENT_IN_A_ROW),
        ([NOT_SENT] * 4 + [FAILED], None),
        ([FAILED] + [NOT_SENT] * 5, None),
        ([FAILED, GOOD] + [NOT_SENT] * 5, TransitionCause.NOT_SENT_IN_A_ROW),
        ([TIMED_OUT] * 9 + [NOT_SENT], TransitionCause.FAILURES_IN_A_ROW),
        ([], None),
        ([NOTHING] * 1000, None),
    ],
)
def test_a_rule_is_met_at_its_bound_and_not_before(signs: list[CallOutcome], cause: TransitionCause | None) -> None:
    tripping = window_of(signs).judged(1000.0, RULES)
    assert (tripping and tripping.cause) == cause


@pytest.mark.parametrize(("slow", "fast", "cause"), [(16, 4, TransitionCause.SLOW_RATE), (15, 5, None), (15, 3, None)])
def test_slow_answers_are_a_reason_to_leave(slow: int, fast: int, cause: TransitionCause | None) -> None:
    window = filled(window_of([GOOD] * slow, latency_ms=RULES.slow_ms + 1), [GOOD] * fast, 1000.0, RULES.slow_ms)
    tripping = window.judged(1000.0, RULES)
    assert (tripping and tripping.cause) == cause


def test_timeouts_count_for_five_minutes_other_failures_for_two() -> None:
    """Ten timeouts and ten good calls four minutes ago: only the rule for timeouts still looks that far back."""
    for sign, cause in ((TIMED_OUT, TransitionCause.TIMEOUT_RATE), (FAILED, None)):
        window = window_of([sign, GOOD] * 10, rules=NO_RUNS)
        assert window.judged(1000.0, NO_RUNS) == Tripping(TransitionCause.FAILURE_RATE, 1000.0)
        tripping = window.judged(1240.0, NO_RUNS)
        assert (tripping and tripping.cause) == cause
        assert window.judged(1300.0, NO_RUNS) is None


def test_a_bucket_leaves_the_window_whole_and_its_place_is_used_again() -> None:
    window = window_of([FAILED] * 20, rules=NO_RUNS)
    span = RULES.failure_window_s // BUCKET_S
    assert window.judged(1000.0 + (span - 1) * BUCKET_S + 9.9, NO_RUNS) == Tripping(
        TransitionCause.FAILURE_RATE, 1000.0
    )
    assert window.judged(1000.0 + span * BUCKET_S, NO_RUNS) is None
    later = 1000.0 + BUCKETS * BUCKET_S
    filled(window, [GOOD], later, rules=NO_RUNS)
    assert window.tally(later, NO_RUNS) == CallRates(1, 0.0, 0.0, 0.0, 0)


def test_rules_that_change_hold_at_once() -> None:
    window = window_of([FAILED, GOOD, GOOD] * 7, rules=NO_RUNS)
    assert window.judged(1000.0, NO_RUNS) is None
    stricter = Rules(failures_in_a_row=1000, not_sent_in_a_row=1000, failure_rate=0.3)
    assert window.judged(1000.0, stricter) == Tripping(TransitionCause.FAILURE_RATE, 1000.0)
    assert window.judged(1060.0, Rules(failure_window_s=60, failure_rate=0.3)) is None


def test_a_run_began_with_its_first_failure() -> None:
    window = window_of([GOOD], at=1000.0)
    for second in range(10):
        assert window.judged(1003.0 + second, RULES) is None
        filled(window, [FAILED, NOTHING], 1003.0 + second)
    assert window.judged(1012.0, RULES) == Tripping(TransitionCause.FAILURES_IN_A_ROW, 1003.0)


def test_a_rate_was_met_since_its_oldest_unbroken_bucket() -> None:
    """Back over buckets with half the rate or more; one without calls breaks nothing, a good one ends the series."""
    window = window_of([FAILED] * 2 + [GOOD] * 4, at=1000.0, rules=NO_RUNS)
    filled(window, [GOOD] * 9 + [FAILED], 1010.0, rules=NO_RUNS)
    filled(window, [GOOD] * 8 + [FAILED] * 2, 1020.0, rules=NO_RUNS)
    filled(window, [FAILED] * 12, 1049.0, rules=NO_RUNS)
    assert window.judged(1049.0, NO_RUNS) == Tripping(TransitionCause.FAILURE_RATE, 1020.0)


def test_calls_of_the_last_turn_of_the_ring_are_not_taken_for_new_ones() -> None:
    window = window_of([FAILED] * 5, at=1000.0, rules=NO_RUNS)
    filled(window, [FAILED] * 20, 1350.0, rules=NO_RUNS)
    assert window.judged(1350.0, NO_RUNS) == Tripping(TransitionCause.FAILURE_RATE, 1350.0)


def test_an_incident_does_not_begin_before_the_first_call_that_was_seen() -> None:
    window = window_of([FAILED] * 20, at=1007.5, rules=NO_RUNS)
    assert window.judged(1008.0, NO_RUNS) == Tripping(TransitionCause.FAILURE_RATE, 1007.5)


def test_a_reset_forgets_everything() -> None:
    window = window_of([FAILED] * 30)
    window.reset()
    assert window.judged(1000.0, RULES) is None
    assert window.tally(1000.0, RULES) == NO_CALLS


def test_people_see_calls_and_rates() -> None:
    window = filled(window_of([FAILED, TIMED_OUT, GOOD, NOTHING]), [TIMED_OUT, NOT_SENT], 1200.0, SLOW)
    assert window.tally(1200.0, RULES) == CallRates(2, 1.0, 0.4, 1.0, 2)


@given(
    st.lists(
        st.tuples(
            st.sampled_from(CallOutcome), st.sampled_from([FAST, SLOW]), st.sampled_from([0.0, 0.3, 4.0, 33.0, 150.0])
        ),
        max_size=120,
    )
)
def test_the_ring_says_what_counting_every_call_says(calls: list[tuple[CallOutcome, int, float]]) -> None:
    window, now = CallWindow(), 5000.0
    seen: list[tuple[int, CallOutcome, int]] = []
    for sign, latency_ms, wait in calls:
        now += wait
        window.add(sign, latency_ms, now, RULES)
        if sign is not NOTHING:
            seen.append((int(now // BUCKET_S), sign, latency_ms))
        recent = [each for each in seen if each[0] > int(now // BUCKET_S) - RULES.failure_window_s // BUCKET_S]
        longer = [each for each in seen if each[0] > int(now // BUCKET_S) - RULES.timeout_window_s // BUCKET_S]
        tally = window.tally(now, RULES)
        assert tally.calls == len(recent)
        if recent:
            assert tally.failure_rate == sum(each[1] is not GOOD for each in recent) / len(recent)
            assert tally.slow_rate == sum(each[2] == SLOW for each in recent) / len(recent)
        if longer:
            assert tally.timeout_rate == sum(each[1] is TIMED_OUT for each in longer) / len(longer)
        tripping = window.judged(now, RULES)
        assert tripping is None or 5000.0 <= tripping.incident_from <= now


def test_memory_does_not_grow_with_calls() -> None:
    window = window_of([FAILED, GOOD], at=0.0)
    for second in range(3000):
        filled(window, [FAILED, TIMED_OUT, GOOD], float(second))
    assert len(window._ring) == BUCKETS
    assert sum(sys.getsizeof(each) for each in window._ring) < 10_000
