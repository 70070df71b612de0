"""Money goes from one account to another: what comes in as a duplicate and goes back leaves nothing behind."""

from collections import Counter

from hypothesis import given
from hypothesis import strategies as st

from pgw.core.money.transfer import (
    MOST_MINOR,
    SUSPENSE,
    Transfer,
    TransferKind,
    capture,
    duplicate_capture,
    is_bookable,
    reversal,
    unmatched,
)

amounts = st.integers(1, MOST_MINOR)


def _balances(*transfers: Transfer) -> dict[str, int]:
    balances: Counter[str] = Counter()
    for each in transfers:
        balances[each.debit_account] += each.amount_minor
        balances[each.credit_account] -= each.amount_minor
    return {account: balance for account, balance in balances.items() if balance}


@given(amounts)
def test_a_capture_is_owed_by_the_gateway_to_the_merchant(amount: int) -> None:
    booked = capture("hdfc", "m_001", amount, "INR")
    assert (booked.kind, booked.currency) == (TransferKind.CAPTURE, "INR")
    assert _balances(booked) == {"gateway:hdfc": amount, "merchant:m_001": -amount}


@given(amounts)
def test_what_is_nobodys_stands_in_suspense(amount: int) -> None:
    for booked in (duplicate_capture("hdfc", amount, "INR"), unmatched("hdfc", amount, "INR")):
        assert _balances(booked) == {"gateway:hdfc": amount, SUSPENSE: -amount}


@given(amounts)
def test_a_duplicate_that_went_back_leaves_nothing(amount: int) -> None:
    assert _balances(duplicate_capture("hdfc", amount, "INR"), reversal("hdfc", amount, "INR")) == {}


@given(st.integers())
def test_only_what_the_ledger_can_hold_is_booked(amount: int) -> None:
    assert is_bookable(amount) is (1 <= amount <= 9_223_372_036_854_775_807)
