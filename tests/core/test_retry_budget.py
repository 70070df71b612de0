"""Fallbacks away from a gateway are paid for by first attempts on it, above a floor, and savings do not last."""

from hypothesis import given
from hypothesis import strategies as st

from pgw.core.breakers.retry_budget import SECONDS, RetryBudget

FLOOR = 3 * SECONDS


def withdrawn(budget: RetryBudget, now: float) -> int:
    """Take all that is there."""
    count = 0
    while budget.withdraw(now):
        count += 1
    return count


def test_without_first_attempts_there_are_three_a_second() -> None:
    budget = RetryBudget()
    assert withdrawn(budget, 1000.0) == FLOOR
    assert budget.withdraw(1000.0 + SECONDS - 1) is False
    assert withdrawn(budget, 1000.0 + SECONDS) == FLOOR


def test_five_first_attempts_earn_one_fallback() -> None:
    budget = RetryBudget()
    for _ in range(9):
        budget.deposit(1000.0)
    assert withdrawn(budget, 1000.5) == FLOOR + 1
    budget.deposit(1001.0)
    assert withdrawn(budget, 1001.0) == 1


def test_what_was_earned_lasts_ten_seconds() -> None:
    for wait in range(3 * SECONDS):
        budget = RetryBudget()
        for _ in range(100):
            budget.deposit(1000.0)
        assert withdrawn(budget, 1000.0 + wait) == (FLOOR + 20 if wait < SECONDS else FLOOR)


def test_a_clock_that_seems_to_stand_or_step_back_gives_nothing_away() -> None:
    budget = RetryBudget()
    assert withdrawn(budget, 1000.0) == FLOOR
    assert budget.withdraw(999.0) is False
    assert budget.withdraw(1000.0) is False


calls = st.lists(
    st.tuples(st.sampled_from([0.0, 0.05, 0.4, 1.0, 3.0, 12.0]), st.integers(0, 60), st.integers(0, 60)), max_size=40
)


@given(calls)
def test_no_more_is_ever_spent_than_floor_and_first_attempts_allow(turns: list[tuple[float, int, int]]) -> None:
    """Over any ten slots of a second that end with a withdrawal: 30 + 0.2 x first attempts at most."""
    budget, now = RetryBudget(), 1000.0
    deposits: list[int] = []
    spent: list[int] = []
    for wait, firsts, wanted in turns:
        now += wait
        for _ in range(firsts):
            budget.deposit(now)
            deposits.append(int(now))
        for _ in range(wanted):
            if not budget.withdraw(now):
                break
            spent.append(int(now))
            oldest = int(now) - SECONDS
            earned = sum(each > oldest for each in deposits)
            assert 5 * sum(each > oldest for each in spent) <= 5 * FLOOR + earned


@given(calls)
def test_who_spends_within_one_fallback_for_five_attempts_is_never_refused(
    turns: list[tuple[float, int, int]],
) -> None:
    """So a gateway that fails now and then costs nobody a fallback."""
    budget, now = RetryBudget(), 1000.0
    for wait, firsts, _ in turns:
        now += wait
        for _ in range(firsts):
            budget.deposit(now)
        assert all(budget.withdraw(now) for _ in range(firsts // 5))


def test_it_keeps_ten_numbers_however_long_it_lives() -> None:
    budget = RetryBudget()
    for second in range(5000):
        budget.deposit(second / 3)
        budget.withdraw(second / 3)
    assert len(budget._slots) == SECONDS
