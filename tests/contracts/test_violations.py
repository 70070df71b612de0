"""The continuous check writes violations into the ledger, on both databases: once for all, told once, cleared."""

from datetime import timedelta

import pytest
from sqlalchemy import Engine, update

from pgw.core.ledger.audit_samples import sampled
from pgw.core.ledger.engine.ledger import OpenLedger
from pgw.core.ledger.tables import payments, violations
from pgw.core.ledger.violations import (
    CLEAR,
    OPEN,
    DetectedBy,
    DetectedViolation,
    ViolationCount,
    clearing,
    open_of,
    opened,
    opening,
    tallies,
)
from pgw.core.money.invariants import Violation
from pgw.core.payment.payment import Status
from tests.contracts.aged import MINUTE, PAYMENTS, auditors, do, on, set_status
from tests.doubles import NOON, VirtualClock
from tests.ledgers import rows


def _alarms(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [each.getMessage() for each in caplog.records if each.levelname == "CRITICAL"]


def test_what_is_right_is_written_nowhere(aged: str, caplog: pytest.LogCaptureFixture) -> None:
    async def scenario(ledger: OpenLedger, clock: VirtualClock) -> None:
        (auditor,) = auditors(ledger, clock)
        assert await auditor.step() == 0
        assert auditor.checked >= PAYMENTS
        assert await rows(ledger, violations) == []

    on(aged, scenario)
    assert _alarms(caplog) == []


def test_a_violation_is_found_once_for_all_cleared_and_found_again(
    aged: str, hand: Engine, caplog: pytest.LogCaptureFixture
) -> None:
    """Of several processes one writes and tells; any of them clears what holds no more; what is back counts again."""

    async def scenario(ledger: OpenLedger, clock: VirtualClock) -> None:
        fleet = auditors(ledger, clock, 2)
        do(hand, set_status(Status.FAILURE))
        found = sum([await each.step() for each in fleet])
        assert found == len(_alarms(caplog)) == len(await ledger.read(opened)) > 0
        assert {"I3", "I7"} <= {each.invariant for each in await ledger.read(opened)}
        clock.advance(5)
        restarted = auditors(ledger, clock)
        assert [await each.step() for each in (*fleet, *restarted)] == [0, 0, 0]
        assert len(_alarms(caplog)) == found

        do(hand, set_status(Status.SUCCESS))
        clock.advance(5)
        assert await fleet[1].step() == 0
        assert await ledger.read(opened) == []
        kept = await rows(ledger, violations)
        assert {(each["cleared_at"], each["times_found"]) for each in kept} == {(clock.now(), 1)}

        do(hand, set_status(Status.FAILURE))
        clock.advance(5)
        assert await fleet[0].step() == found
        assert {each["times_found"] for each in await rows(ledger, violations)} == {2}
        told = await ledger.read(tallies)
        assert (sum(each.found for each in told.values()), sum(each.open for each in told.values())) == (
            2 * found,
            found,
        )

    on(aged, scenario)


def test_a_payment_nobody_would_sample_is_looked_at_again(aged: str, hand: Engine) -> None:
    """It was made weeks ago; only its open violation leads to it."""

    async def scenario(ledger: OpenLedger, clock: VirtualClock) -> None:
        do(hand, set_status(Status.FAILURE))
        (auditor,) = auditors(ledger, clock)
        assert await auditor.step() > 0
        clock.advance(timedelta(days=20).total_seconds())
        assert await ledger.read(sampled, clock.now() - MINUTE) == []
        await auditor.step()
        assert len(await ledger.read(opened)) > 0
        do(hand, set_status(Status.SUCCESS))
        await auditor.step()
        assert await ledger.read(opened) == []

    on(aged, scenario)


def test_an_older_look_neither_opens_nor_clears_what_a_newer_one_has_seen(database: str) -> None:
    """Looks of several processes are written in any order; the later look is right."""

    async def scenario(ledger: OpenLedger, _: VirtualClock) -> None:
        found = DetectedViolation(Violation("I1", None, "2 captures are booked"), DetectedBy.ROWS)
        at = [NOON + timedelta(seconds=each) for each in range(5)]
        each = open_of(found, at[1])
        assert await ledger.commit(OPEN, opening(found, at[1])) is True
        assert await ledger.commit(OPEN, opening(found, at[2])) is False
        assert await ledger.read(opened) == [each]
        assert await ledger.commit(CLEAR, clearing(each, at[0])) is False
        assert await ledger.commit(CLEAR, clearing(each, at[3])) is True
        assert await ledger.commit(CLEAR, clearing(each, at[4])) is False
        assert await ledger.commit(OPEN, opening(found, at[2])) is False
        assert await ledger.read(tallies) == {"I1": ViolationCount(1, 0)}
        assert await ledger.commit(OPEN, opening(found, at[4])) is True
        assert await ledger.read(tallies) == {"I1": ViolationCount(2, 1)}

    on(database, scenario)


def test_no_more_violations_are_kept_open_than_somebody_would_read(
    aged: str, hand: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pgw.core.flow.money.invariant_check.MAX_OPEN", 2)

    async def scenario(ledger: OpenLedger, clock: VirtualClock) -> None:
        do(hand, update(payments).values(status=Status.FAILURE))
        (auditor,) = auditors(ledger, clock)
        assert await auditor.step() == 2
        assert len(await ledger.read(opened)) == 2

    on(aged, scenario)
