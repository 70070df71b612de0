"""Numbered faults that take days, played on virtual time: what becomes of the payment, and of the money."""

from collections import Counter
from collections.abc import Callable, Sequence
from datetime import datetime, timedelta
from random import Random
from typing import Any

import pytest

from pgw.core.ledger.tables import attempts, outbox, payments, verification_checks, watches
from pgw.core.ports import ChargeOrder, Reference
from pgw.core.verification.enquiry import ABSENT_APART, GIVE_UP_AFTER, LONGEST_LEASE
from pgw.core.writes.verification import REVERSED
from tests.fake_gateway import Deed, Fate, Reach, Reply, Stand
from tests.simulation.checks import faults
from tests.simulation.run import simulate
from tests.simulation.scene import Run
from tests.simulation.weather import CALM, DAY_S, Fates

Saw = Callable[..., None]

MINUTE_S = 60.0


class Each(Fates):
    """Deals each gateway's first charge as told, and answers the first reversals as told; all else goes well."""

    def __init__(self, played: Sequence[Fate], reversals: Sequence[Reply] = ()) -> None:
        super().__init__(CALM, Random(0))
        self._charges = iter(played)
        self._reversals = iter(reversals)
        self.reversals = 0

    def of_charge(self, gateway_id: str, order: ChargeOrder) -> Fate:
        self.struck("charge")
        return next(self._charges, Fate())

    def of_call(self, gateway_id: str, name: str, reference: Reference) -> Reach:
        if name != "reverse":
            return Reach()
        self.reversals += 1
        return Reach(next(self._reversals, Reply.TOLD))


def _lived(*played: Fate) -> Run:
    return simulate(1, CALM, Each(played), payments=1)


def _rows(run: Run, table: Any) -> list[dict[str, Any]]:
    return run.store.memory.rows(table)


def _nets(run: Run) -> list[int]:
    """Say what each charge keeps."""
    return [each.net(run.book.now()) for each in run.book.charges]


def _first(run: Run) -> str:
    return next(each.word for each in run.answers if each.payment_id)


def _end(run: Run) -> str:
    (payment,) = _rows(run, payments)
    return " ".join(filter(None, (payment["status"], payment["failure_code"])))


def _tried(run: Run) -> str:
    return ", ".join(f"{row['gateway_id']} {row['status']}" for row in _rows(run, attempts))


def _given_back(run: Run) -> int:
    return sum(len(each.given_back) for each in run.book.charges)


def _told_back(run: Run) -> list[str]:
    return [row["event"]["occurred_at"] for row in _rows(run, outbox) if row["event"]["type"] == REVERSED]


def _violations(run: Run) -> int:
    found = faults(run)
    assert found == []
    return len(found)


def _days(period: timedelta) -> int:
    return round(period.total_seconds() / DAY_S)


SWALLOWED = Fate(Deed.SWALLOWED, reply=Reply.LOST)


def test_a_charge_that_was_never_made_fails_by_two_absences_and_is_watched(saw: Saw) -> None:
    run = _lived(SWALLOWED)
    (attempt,), (watch,) = _rows(run, attempts), _rows(run, watches)
    checks = _rows(run, verification_checks)
    assert {row["result"] for row in checks} == {"ABSENT"}
    counts_from = max(attempt["ended_at"], attempt["started_at"] + LONGEST_LEASE) + timedelta(minutes=15)
    counted = [row["checked_at"] for row in checks if row["checked_at"] >= counts_from]
    assert len(counted) == 2
    assert counted[-1] - counted[0] >= ABSENT_APART
    assert (_end(run), watch["cause"], watch["state"]) == ("FAILURE ABSENT", "ABSENT", "OVER")
    assert (watch["until"] - attempt["started_at"], run.book.charges) == (GIVE_UP_AFTER, [])
    early, apart = len(checks) - len(counted), counted[-1] - counted[0]
    words = (
        f"{_first(run)}; absent {early} times early, {len(counted)} times {_minutes(apart)} min apart: {_end(run)}; "
        f"watched to T+{_days(watch['until'] - attempt['started_at'])} d; {_violations(run)} violations"
    )
    saw(5, words, case="never")


def _minutes(period: timedelta) -> int:
    return round(period.total_seconds() / MINUTE_S)


def test_a_charge_that_turns_up_after_its_failure_goes_back_once(saw: Saw) -> None:
    run = _lived(Fate(arrives_s=3 * DAY_S, reply=Reply.LOST))
    (charge,), (watch,), (told,) = run.book.charges, _rows(run, watches), _told_back(run)
    assert (_end(run), watch["state"], _nets(run)) == ("FAILURE ABSENT", "REVERSED", [0])
    after = datetime.fromisoformat(told) - charge.stands[-1][0]
    assert timedelta() < after < timedelta(days=2)
    words = (
        f"{_first(run)}, then {_end(run)}; captured on day {_days(charge.stands[-1][0] - charge.sent_at)}: "
        f"reversed {_given_back(run)} time; net {_nets(run)[0]}; {_violations(run)} violations"
    )
    saw(5, words, case="until day 3")


def test_money_that_comes_late_after_another_gateway_won_goes_back(saw: Saw) -> None:
    run = _lived(Fate(stands=((0.0, Stand.REFUSED), (20 * MINUTE_S, Stand.CAPTURED))))
    (amount,) = {each.amount_minor for each in run.book.charges}
    assert (_first(run), _tried(run)) == ("SUCCESS", "g1 REVERSED, g2 SUCCESS")
    assert (_nets(run), _given_back(run), len(_told_back(run))) == ([0, amount], 1, 1)
    kept = sum(net > 0 for net in _nets(run))
    words = (
        f"{_first(run)}; {_tried(run)}; reversed {_given_back(run)} time, reported {len(_told_back(run))} time; "
        f"{kept} net capture; {_violations(run)} violations"
    )
    saw(16, words)


@pytest.mark.parametrize("becomes", [Stand.REFUSED, Stand.CAPTURED], ids=["expires", "captured"])
def test_a_failed_charge_that_is_authorised_two_days_later_keeps_nothing(saw: Saw, becomes: Stand) -> None:
    late = 2 * DAY_S
    run = _lived(Fate(stands=((0.0, Stand.DECLINED), (late, Stand.AUTHORIZED), (late + 7200, becomes))))
    (watch,) = _rows(run, watches)
    is_taken = becomes is Stand.CAPTURED
    assert (_first(run), _nets(run), watch["state"]) == ("FAILURE", [0], "REVERSED" if is_taken else "OVER")
    assert _given_back(run) == is_taken
    words = (
        f"{_first(run)}; watch {watch['state']}; reversed {_given_back(run)} times; net {_nets(run)[0]}; "
        f"{_violations(run)} violations"
    )
    saw(17, words, case="and captured" if is_taken else "and left to expire")


def test_a_refund_whose_answer_is_lost_is_asked_for_again_under_one_key(saw: Saw) -> None:
    fates = Each(
        [Fate(stands=((0.0, Stand.DECLINED), (60.0, Stand.CAPTURED)))], [Reply.LOST, Reply.RESET, Reply.CRASHED]
    )
    run = simulate(1, CALM, fates, payments=1)
    (charge,) = run.book.charges
    assert (fates.reversals, len(charge.given_back), _nets(run), _tried(run)) == (4, 1, [0], "g1 REVERSED")
    keys = Counter(row["reversal_key"] for row in _rows(run, watches))
    assert charge.given_back.keys() == keys.keys()
    words = (
        f"asked {fates.reversals} times under {len(keys)} key; reversed {_given_back(run)} time; "
        f"net {_nets(run)[0]}; {_tried(run)}; {_violations(run)} violations"
    )
    saw(43, words)
