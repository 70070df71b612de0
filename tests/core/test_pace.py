"""Gateways are asked at a rate, and one that does not answer is left alone for longer and longer."""

from hypothesis import given
from hypothesis import strategies as st

from pgw.core.verification.rate_limit import (
    BURST,
    LONGEST_BACK_OFF_S,
    OUTAGE_AFTER,
    PER_S,
    SHORTEST_BACK_OFF_S,
    EnquiryRateLimit,
)


def _silent(pace: EnquiryRateLimit, now: float = 0.0) -> None:
    for _ in range(OUTAGE_AFTER):
        assert pace.take("g", "verify", now)
        pace.learn("g", now, reached=False)


def test_after_a_burst_comes_the_rate_for_each_gateway_and_purpose() -> None:
    pace = EnquiryRateLimit()
    assert [pace.take("g", "verify", 0.0) for _ in range(BURST + 1)] == [True] * BURST + [False]
    assert pace.take("g", "watch", 0.0)
    assert pace.take("other", "verify", 0.0)
    assert [pace.take("g", "verify", 1.0) for _ in range(int(PER_S) + 1)] == [True] * int(PER_S) + [False]


@given(st.lists(st.floats(0.0, 10.0), min_size=1, max_size=200))
def test_no_stretch_of_time_sees_more_than_the_burst_and_the_rate(gaps: list[float]) -> None:
    pace, now, taken = EnquiryRateLimit(), 0.0, 0
    for gap in gaps:
        now += gap
        taken += sum(pace.take("g", "verify", now) for _ in range(30))
        assert taken <= BURST + PER_S * now + 1e-6


def test_a_leave_that_was_not_used_is_there_again() -> None:
    pace = EnquiryRateLimit()
    for _ in range(5 * BURST):
        assert pace.take("g", "verify", 0.0)
        pace.put_back("g", "verify", 0.0)


def test_a_silent_gateway_rests_for_longer_each_time_and_is_tried_by_one() -> None:
    pace, now = EnquiryRateLimit(), 0.0
    _silent(pace)
    for rest_s in (SHORTEST_BACK_OFF_S, 10.0, 20.0, 40.0, LONGEST_BACK_OFF_S, LONGEST_BACK_OFF_S):
        assert pace.backing_off(now) == {"g"}
        assert not pace.take("g", "verify", now + rest_s - 0.001)
        now += rest_s
        assert pace.backing_off(now) == frozenset()
        assert pace.take("g", "verify", now)
        assert not pace.take("g", "watch", now)
        pace.learn("g", now, reached=False)


def test_one_answer_ends_the_rest_and_the_count() -> None:
    pace = EnquiryRateLimit()
    _silent(pace)
    pace.learn("g", 1.0, reached=True)
    assert pace.backing_off(1.0) == frozenset()
    for _ in range(OUTAGE_AFTER - 1):
        pace.learn("g", 2.0, reached=False)
    assert pace.take("g", "verify", 2.0)


def test_answers_to_what_was_asked_before_the_rest_do_not_make_it_longer() -> None:
    pace = EnquiryRateLimit()
    _silent(pace)
    for _ in range(16):
        pace.learn("g", 0.1, reached=False)
    assert pace.take("g", "verify", SHORTEST_BACK_OFF_S)


def test_a_trial_that_came_to_nothing_leaves_the_next_one_its_turn() -> None:
    """Another worker had the attempt: nobody was asked."""
    pace = EnquiryRateLimit()
    _silent(pace)
    assert pace.take("g", "verify", SHORTEST_BACK_OFF_S)
    pace.put_back("g", "verify", SHORTEST_BACK_OFF_S)
    assert pace.take("g", "watch", SHORTEST_BACK_OFF_S)
