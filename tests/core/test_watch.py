"""An attempt that must not capture is watched until its gateway's last word, however long that takes."""

from datetime import datetime, timedelta
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pgw.core.payment.outcome import Captured, FinalDecline, NotSent, Unknown, Verdict, attempt_end
from pgw.core.verification.enquiry import Authorized, Finding, Pending, Undecided
from pgw.core.verification.late_capture import (
    MonitorState,
    Reverse,
    judge_late,
    may_try_again,
    monitor_of,
    next_poll_at,
)
from tests.core.drawn import captures, verdicts
from tests.doubles import CAPTURED, CUSTOMER_DECLINE, GATEWAY_DECLINE, NOON, NOT_SENT

UNTIL = NOON + timedelta(days=5)
MOMENT = timedelta(microseconds=1)

moments = st.timedeltas(timedelta(0), timedelta(days=20)).map(lambda gone: NOON + gone)


@given(verdicts, st.integers(0, 1000))
def test_exactly_what_failed_and_may_have_been_sent_is_watched_for_five_days(verdict: Verdict, seed: int) -> None:
    watch = monitor_of(attempt_end(verdict), NOON, NOON + timedelta(seconds=9), Random(seed))
    sent = not isinstance(verdict, NotSent) and not isinstance(verdict, Captured | Unknown)
    failed = attempt_end(verdict).status == "FAILURE"
    assert (watch is not None) is (sent and failed)
    if watch is not None:
        assert (watch.cause, watch.until) == ("DECLINED", UNTIL)
        assert watch.next_check_at > NOON


def test_known_ends() -> None:
    ends = [attempt_end(each) for each in (CUSTOMER_DECLINE, GATEWAY_DECLINE, NOT_SENT, CAPTURED)]
    assert [monitor_of(end, NOON, NOON, Random(0)) is not None for end in ends] == [True, True, False, False]
    absent = monitor_of(attempt_end(FinalDecline("ABSENT")), NOON, NOON, Random(0))
    assert absent is not None
    assert absent.cause == "ABSENT"


def test_looks_are_few_and_far_between_but_never_more_than_a_day_and_a_fifth_apart() -> None:
    waits = [(next_poll_at(made, NOON, Random(made)) - NOON).total_seconds() for made in range(8)]
    for wait, expected in zip(waits, [600, 3600, 21600, 86400, 86400, 86400, 86400, 86400], strict=True):
        assert 0.8 <= wait / expected <= 1.2


@given(captures, moments)
def test_money_that_moved_goes_back_at_any_time(found: Captured, now: datetime) -> None:
    assert judge_late(found, UNTIL, now) == Reverse(found)


@pytest.mark.parametrize("amount", [0, -1, 2**63])
def test_money_that_cannot_be_booked_is_for_a_person(amount: int) -> None:
    step = judge_late(Captured("ref", amount, "INR"), UNTIL, NOON)
    assert isinstance(step, Reverse) is False
    assert getattr(step, "state", None) is MonitorState.MANUAL_REVIEW


SAID = [
    (CUSTOMER_DECLINE, MonitorState.OVER),
    (Undecided(Pending.ABSENT), MonitorState.OVER),
    (Undecided(Pending.RETURNED, "REFUNDED"), MonitorState.OVER),
    (Undecided(Pending.FAILED), MonitorState.OVER),
    (Undecided(Pending.UNREACHABLE), MonitorState.WATCHING),
    (Undecided(Pending.STILL_PENDING, "CREATED"), MonitorState.WATCHING),
    (Authorized("ref", 1000, "INR"), MonitorState.WATCHING),
]


@pytest.mark.parametrize(("finding", "at_the_end"), SAID, ids=lambda each: str(getattr(each, "result", each))[:20])
def test_a_watch_is_over_by_an_answer_and_never_by_time(finding: Finding, at_the_end: MonitorState) -> None:
    """Reserved money, an attempt still under way, a gateway nobody reaches: watched on, then a person is told."""
    states = [
        getattr(judge_late(finding, UNTIL, now), "state", None)
        for now in (NOON, UNTIL - MOMENT, UNTIL, UNTIL + timedelta(days=5) - MOMENT, UNTIL + timedelta(days=5))
    ]
    last = MonitorState.OVER if at_the_end is MonitorState.OVER else MonitorState.MANUAL_REVIEW
    assert states == [MonitorState.WATCHING, MonitorState.WATCHING, at_the_end, at_the_end, last]


def test_a_reversal_may_take_longer_than_seven_working_days_whenever_it_begins() -> None:
    assert all(may_try_again(UNTIL + timedelta(days=day), UNTIL + timedelta(days=day + 12)) for day in range(7))
    assert may_try_again(UNTIL, UNTIL + timedelta(days=14) - MOMENT)
    assert not may_try_again(UNTIL, UNTIL + timedelta(days=14))
