"""Money at risk is told in one sentence: how many, how much of each currency, since when."""

from datetime import timedelta

import pytest

from pgw.core.money.exposure import NONE, REVERSALS, Exposure, exposure_of
from tests.doubles import NOON


@pytest.mark.parametrize(
    ("seconds", "told"),
    [
        (0, "0 s"),
        (89, "89 s"),
        (90, "2 min"),
        (14 * 60, "14 min"),
        (5399, "90 min"),
        (5400, "2 h"),
        (129_599, "36 h"),
        (129_600, "2 d"),
        (5 * 86_400, "5 d"),
    ],
)
def test_an_age_is_told_in_one_unit(seconds: int, told: str) -> None:
    risk = Exposure(1, NOON, {"INR": 1000})
    assert risk.text(NOON + timedelta(seconds=seconds)) == f"1 payment, INR 10.00 at risk, oldest {told}"


def test_parts_add_up_by_currency_and_the_oldest_counts() -> None:
    early, late = NOON - timedelta(minutes=14), NOON - timedelta(minutes=3)
    risk = exposure_of([(2, late, "INR", 11_000), (1, early, "INR", 1000), (1, late, "JPY", 7), (1, late, None, None)])
    assert (risk.count, risk.oldest_at, risk.age(NOON)) == (5, early, timedelta(minutes=14))
    assert risk.text(NOON) == "5 payments, INR 120.00 + JPY 7 at risk, oldest 14 min"


def test_nothing_is_no_risk_and_has_no_age() -> None:
    assert (exposure_of([]).text(NOON), exposure_of([]).age(NOON)) == (NONE, timedelta(0))


def test_a_clock_that_was_set_back_makes_no_negative_age() -> None:
    assert Exposure(1, NOON).age(NOON - timedelta(hours=1)) == timedelta(0)


def test_an_amount_that_is_not_known_is_not_told() -> None:
    assert Exposure(1, NOON).text(NOON, REVERSALS) == "1 reversal, oldest 0 s"


def test_a_currency_that_only_a_gateway_knows_is_told_as_it_says() -> None:
    assert Exposure(2, NOON, {"XBT": 5}).text(NOON) == "2 payments, XBT 5 in minor units at risk, oldest 0 s"
