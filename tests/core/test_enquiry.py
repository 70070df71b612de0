"""An unknown attempt is asked after on the contract's schedule, and ends only by a definitive answer."""

from datetime import UTC, datetime, timedelta
from random import Random
from typing import get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pgw.core.payment.outcome import (
    ActionRequired,
    Blame,
    Captured,
    FinalDecline,
    GatewayDecline,
    NotSent,
    Unknown,
)
from pgw.core.payment.payment import AttemptStatus, Status
from pgw.core.verification.enquiry import (
    GIVE_UP_AFTER,
    Absent,
    Authorized,
    EarlierResult,
    Finding,
    GaveUp,
    KnownAttempt,
    Lapsed,
    Pending,
    Settled,
    Undecided,
    Unfit,
    ending_of,
    judge,
    next_check_at,
    result_of,
)
from tests.core.drawn import amounts, captures, currencies, customer_declines, gateway_declines, moments
from tests.doubles import NOON

MOMENT = timedelta(microseconds=1)
HOUR = timedelta(hours=1)
SCHEDULE_S = [2, 5, 15, 30, 60, 120, 300, 600, 1800, 3600, 3600]


@given(moments, st.integers(0, 2**32), st.integers(0, len(SCHEDULE_S) - 1))
def test_the_next_check_follows_the_schedule_within_a_fifth(now: datetime, seed: int, checks_made: int) -> None:
    wait = next_check_at(checks_made, now, Random(seed)) - now
    assert 0.8 <= wait / timedelta(seconds=SCHEDULE_S[checks_made]) <= 1.2


@given(moments, st.integers(0, 10_000), st.integers(0, 2**32))
def test_the_same_seed_gives_the_same_moment_and_never_one_in_the_past(
    now: datetime, checks_made: int, seed: int
) -> None:
    moment = next_check_at(checks_made, now, Random(seed))
    assert moment > now
    assert moment == next_check_at(checks_made, now, Random(seed))


def test_an_outages_payments_do_not_all_ask_at_the_same_moment() -> None:
    now = datetime(2026, 1, 1, tzinfo=UTC)
    assert len({next_check_at(0, now, Random(seed)) for seed in range(100)}) == 100


def test_the_end_of_patience_is_the_day_banks_must_have_reversed_an_unconfirmed_debit() -> None:
    assert timedelta(days=5) == GIVE_UP_AFTER


def test_an_enquiry_can_prove_neither_that_nothing_was_sent_nor_that_all_is_open() -> None:
    """What is not definitive is Undecided, and settles nothing: `settle` does not take it."""
    assert set(get_args(Finding)) == {Captured, GatewayDecline, FinalDecline, Authorized, Undecided}
    assert set(get_args(Settled)) == set(get_args(Finding)) - {Authorized, Undecided}
    assert set(get_args(Settled)) & {NotSent, Unknown, ActionRequired} == set()


@given(captures)
def test_a_capture_of_the_amount_asked_for_is_a_success(found: Captured) -> None:
    settled = ending_of(found, found.amount_minor, found.currency)
    assert (settled.end.status, settled.end.transaction_ref) == (AttemptStatus.SUCCESS, found.transaction_ref)
    assert (settled.finish.status, settled.finish.failure_code) == (Status.SUCCESS, None)


@given(captures, amounts, currencies)
def test_a_capture_of_anything_else_is_for_a_person_to_judge(found: Captured, amount_minor: int, currency: str) -> None:
    if (amount_minor, currency) == (found.amount_minor, found.currency):
        amount_minor += 1
    finish = ending_of(found, amount_minor, currency).finish
    assert (finish.status, finish.failure_code) == (Status.MANUAL_REVIEW, "AMOUNT_MISMATCH")


@given(gateway_declines | customer_declines, amounts, currencies)
def test_a_definitive_no_ends_the_payment_with_its_reason(
    found: GatewayDecline | FinalDecline, amount_minor: int, currency: str
) -> None:
    settled = ending_of(found, amount_minor, currency)
    assert (settled.end.status, settled.end.error_code) == (AttemptStatus.FAILURE, found.error_code)
    assert (settled.finish.status, settled.finish.failure_code) == (Status.FAILURE, found.error_code)


pendings = st.sampled_from(Pending)
answers = st.lists(st.tuples(st.timedeltas(timedelta(0), timedelta(days=9)), pendings), max_size=8)


def _known(*, at_customer: bool = False, ref: str | None = None) -> KnownAttempt:
    return KnownAttempt(
        started_at=NOON,
        ended_at=NOON + timedelta(seconds=3),
        at_customer=at_customer,
        transaction_ref=ref,
        blame=Blame.GATEWAY,
    )


COUNTS_FROM = NOON + timedelta(minutes=15, seconds=32)
"""Fifteen minutes after the longest lease that can have been the attempt's."""


@given(answers, pendings, st.timedeltas(timedelta(0), timedelta(days=9)), st.booleans())
def test_an_undecided_answer_fails_an_attempt_by_two_absences_or_a_lapse_and_by_nothing_else(
    earlier: list[tuple[timedelta, Pending]], result: Pending, after: timedelta, at_customer: bool
) -> None:
    """Whatever was answered when: time alone leads to a person, never to a failure."""
    now = NOON + max([after, *(at for at, _ in earlier)])
    known = _known(at_customer=at_customer)
    seen = [EarlierResult(NOON + at, each) for at, each in earlier]
    conclusion = judge(Undecided(result, "TIMEOUT"), known, seen, now)
    absences = [each.at for each in seen if each.result == Pending.ABSENT and each.at >= COUNTS_FROM]
    knew = {each.result for each in seen} & {Pending.STILL_PENDING, Pending.FAILED}
    is_absent = result is Pending.ABSENT and not knew and any(now - each >= timedelta(minutes=10) for each in absences)
    is_lapsed = result is Pending.FAILED and at_customer and now >= known.ended_at + timedelta(minutes=15)
    assert isinstance(conclusion, Absent) is is_absent
    assert isinstance(conclusion, Lapsed) is is_lapsed
    assert isinstance(conclusion, GaveUp) is (not is_absent and not is_lapsed and now >= NOON + timedelta(days=5))
    if not isinstance(conclusion, Undecided):
        status = ending_of(conclusion, 1000, "INR").finish.status
        assert status is (Status.FAILURE if is_absent or is_lapsed else Status.MANUAL_REVIEW)


@pytest.mark.parametrize(
    ("first", "second", "fails"),
    [
        (COUNTS_FROM, COUNTS_FROM + timedelta(minutes=10), True),
        (COUNTS_FROM - MOMENT, COUNTS_FROM + timedelta(minutes=10), False),
        (COUNTS_FROM, COUNTS_FROM + timedelta(minutes=10) - MOMENT, False),
        (COUNTS_FROM, COUNTS_FROM + timedelta(days=5), True),
    ],
    ids=["just enough", "the first too early", "too close together", "even after five days"],
)
def test_an_absence_takes_two_late_answers_ten_minutes_apart(first: datetime, second: datetime, fails: bool) -> None:
    conclusion = judge(Undecided(Pending.ABSENT), _known(), [EarlierResult(first, "ABSENT")], second)
    assert isinstance(conclusion, Absent) is fails
    if isinstance(conclusion, Absent):
        end = ending_of(conclusion, 1000, "INR").end
        assert (end.status, end.error_code, end.blame) == (AttemptStatus.FAILURE, "ABSENT", Blame.GATEWAY)


def test_a_gateway_that_gave_the_attempt_a_name_cannot_prove_its_absence() -> None:
    earlier = [EarlierResult(COUNTS_FROM, "ABSENT")]
    assert isinstance(judge(Undecided(Pending.ABSENT), _known(ref="pay_1"), earlier, NOON + HOUR), Undecided)


def test_no_absence_can_be_written_down_without_two_answers_that_lie_apart() -> None:
    with pytest.raises(ValueError, match="two answers"):
        Absent(NOON, NOON + timedelta(minutes=10) - MOMENT, Blame.NONE)


@given(st.timedeltas(timedelta(0), timedelta(days=30)), answers)
def test_a_definitive_answer_is_taken_whenever_it_comes(
    after: timedelta, earlier: list[tuple[timedelta, Pending]]
) -> None:
    seen = [EarlierResult(NOON + at, each) for at, each in earlier]
    for found in (Captured("ref", 1000, "INR"), GatewayDecline("X", Blame.BANK), FinalDecline("Y"), Unfit("ref")):
        assert judge(found, _known(), seen, NOON + after) == found


def test_money_that_moved_is_told_with_the_amount_the_gateway_names() -> None:
    right, wrong = Captured("ref", 1000, "INR"), Captured("ref", 999, "USD")
    assert ending_of(right, 1000, "INR").moved == right
    assert ending_of(wrong, 1000, "INR").moved == wrong
    assert ending_of(Unfit("ref"), 1000, "INR").moved is None
    assert ending_of(Unfit("ref"), 1000, "INR").finish.failure_code == "AMOUNT_MISMATCH"


def test_a_lapse_blames_whom_its_reason_blames() -> None:
    late = NOON + HOUR
    for code, blame in (("SERVER_ERROR", Blame.GATEWAY), ("PAYMENT_TIMED_OUT", Blame.NONE)):
        lapsed = judge(Undecided(Pending.FAILED, code), _known(at_customer=True), [], late)
        assert lapsed == Lapsed(code, blame)


@pytest.mark.parametrize(
    ("finding", "word"),
    [
        (Captured("ref", 1, "INR"), "SUCCESS"),
        (FinalDecline("CARD_EXPIRED"), "FAILURE"),
        (Authorized("ref", 1, "INR"), "AUTHORIZED"),
        (Unfit("ref"), "AUTHORIZED"),
        *[(Undecided(each), each.value) for each in Pending],
    ],
)
def test_a_check_is_recorded_in_one_word(finding: Finding | Unfit, word: str) -> None:
    assert result_of(finding) == word
