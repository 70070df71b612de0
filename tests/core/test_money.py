"""Currencies are those of ISO 4217, and an amount in words is the amount."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pgw.core.payment import currency as money
from pgw.core.payment.currency import MAX_AMOUNT_MINOR, MINOR_DIGITS, amount_text


@pytest.mark.parametrize(
    ("currency", "digits"), [("INR", 2), ("USD", 2), ("EUR", 2), ("JPY", 0), ("KRW", 0), ("KWD", 3), ("CLF", 4)]
)
def test_a_currency_has_the_minor_unit_of_the_standard(currency: str, digits: int) -> None:
    assert MINOR_DIGITS[currency] == digits


@pytest.mark.parametrize("code", ["XXX", "XTS", "XAU", "XDR", "HRK", "inr", "RUPEE", "", "IN"])
def test_what_is_no_currency_of_a_payment_is_not_known(code: str) -> None:
    assert code not in MINOR_DIGITS


def test_no_currency_is_listed_twice_with_different_digits() -> None:
    lists = (money._TWO_DIGITS, money._NO_DIGITS, money._THREE_DIGITS, money._FOUR_DIGITS)
    assert sum(len(each.split()) for each in lists) == len(MINOR_DIGITS)


def test_every_code_is_three_capital_letters() -> None:
    assert [code for code in MINOR_DIGITS if not (len(code) == 3 and code.isascii() and code.isupper())] == []


@pytest.mark.parametrize(
    ("amount_minor", "currency", "words"),
    [
        (1000, "INR", "INR 10.00"),
        (1, "INR", "INR 0.01"),
        (1000, "JPY", "JPY 1000"),
        (1005, "KWD", "KWD 1.005"),
        (MAX_AMOUNT_MINOR, "USD", "USD 10000000000.00"),
    ],
)
def test_an_amount_is_written_with_its_currencys_digits(amount_minor: int, currency: str, words: str) -> None:
    assert amount_text(amount_minor, currency) == words


@given(st.integers(0, MAX_AMOUNT_MINOR), st.sampled_from(sorted(MINOR_DIGITS)))
def test_the_digits_of_the_words_are_the_amount(amount_minor: int, currency: str) -> None:
    code, number = amount_text(amount_minor, currency).split(" ")
    assert (code, int(number.replace(".", ""))) == (currency, amount_minor)
