"""An unknown attempt is asked after on the contract's schedule, and ends only by a definitive answer."""

from datetime import UTC, datetime, timedelta
from random import Random
from typing import get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pgw.core.enquiry import (
    GIVE_UP_AFTER,
    Authorized,
    Finding,
    Pending,
    Settled,
    Undecided,
    next_check_at,
    result_word,
    settle,
)
from pgw.core.outcome import (
    ActionRequired,
    Captured,
    CustomerDecline,
    GatewayDecline,
    NotSent,
    Unknown,
)
from pgw.core.payment import AttemptStatus, Status
from tests.core.drawn import amounts, captures, currencies, customer_declines, gateway_declines, moments

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
    assert set(get_args(Finding)) == {Captured, GatewayDecline, CustomerDecline, Authorized, Undecided}
    assert set(get_args(Settled)) == set(get_args(Finding)) - {Authorized, Undecided}
    assert set(get_args(Settled)) & {NotSent, Unknown, ActionRequired} == set()


@given(captures)
def test_a_capture_of_the_amount_asked_for_is_a_success(found: Captured) -> None:
    settled = settle(found, found.amount_minor, found.currency)
    assert (settled.end.status, settled.end.transaction_ref) == (AttemptStatus.SUCCESS, found.transaction_ref)
    assert (settled.finish.status, settled.finish.failure_code) == (Status.SUCCESS, None)


@given(captures, amounts, currencies)
def test_a_capture_of_anything_else_is_for_a_person_to_judge(found: Captured, amount_minor: int, currency: str) -> None:
    if (amount_minor, currency) == (found.amount_minor, found.currency):
        amount_minor += 1
    finish = settle(found, amount_minor, currency).finish
    assert (finish.status, finish.failure_code) == (Status.MANUAL_REVIEW, "AMOUNT_MISMATCH")


@given(gateway_declines | customer_declines, amounts, currencies)
def test_a_definitive_no_ends_the_payment_with_its_reason(
    found: GatewayDecline | CustomerDecline, amount_minor: int, currency: str
) -> None:
    settled = settle(found, amount_minor, currency)
    assert (settled.end.status, settled.end.error_code) == (AttemptStatus.FAILURE, found.error_code)
    assert (settled.finish.status, settled.finish.failure_code) == (Status.FAILURE, found.error_code)


@pytest.mark.parametrize(
    ("finding", "word"),
    [
        (Captured("ref", 1, "INR"), "SUCCESS"),
        (CustomerDecline("CARD_EXPIRED"), "FAILURE"),
        *[(Undecided(each), each.value) for each in Pending],
    ],
)
def test_a_check_is_recorded_in_one_word(finding: Finding, word: str) -> None:
    assert result_word(finding) == word
