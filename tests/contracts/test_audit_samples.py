"""What the continuous check reads of a ledger, on both databases: events and minutes, and never a whole table."""

import re
from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Any

import pytest
from sqlalchemy import Connection, Engine, delete, event, insert, select, text, update

from pgw.core.flow.money import recount
from pgw.core.flow.money.invariant_check import InvariantCheck
from pgw.core.ledger import audit_samples
from pgw.core.ledger.audit_reads import EventScan, last_position, position_since, scan
from pgw.core.ledger.audit_samples import compared, countable, sampled, sampled_again
from pgw.core.ledger.engine.ledger import OpenLedger
from pgw.core.ledger.gauges import gauges
from pgw.core.ledger.outbox import REQUEUED
from pgw.core.ledger.tables import gateway_metrics, outbox, payments
from pgw.core.ledger.violations import DetectedBy, opened
from pgw.core.payment.payment import Status
from tests.contracts.aged import MINUTE, PAYMENTS, auditors, do, on, set_status
from tests.doubles import NOON, VirtualClock
from tests.events import POISON


def _last_end(connection: Connection) -> int:
    query = text("SELECT max(position) FROM outbox WHERE CAST(event AS TEXT) LIKE '%payment.completed%'")
    return int(connection.execute(query).scalar_one())


def test_events_are_judged_with_the_payments_they_tell_of(aged: str, hand: Engine) -> None:
    """I8: an end that was never told is found; told again from elsewhere, as a requeued event is, it is not missing."""

    async def scenario(ledger: OpenLedger, clock: VirtualClock) -> None:
        (auditor,) = auditors(ledger, clock)
        place = await ledger.read(_last_end)
        with hand.connect() as connection:
            row = connection.execute(select(outbox).where(outbox.c.position == place)).mappings().one()
        do(hand, delete(outbox).where(outbox.c.position == place))
        assert await auditor.step() == 1
        (found,) = await ledger.read(opened)
        assert (found.invariant, found.seen_in) == ("I8", DetectedBy.EVENTS)
        do(hand, insert(outbox).values(event=row["event"], published=row["published"]))
        clock.advance(5)
        await auditor.step()
        assert await ledger.read(opened) == []
        do(hand, update(outbox).where(outbox.c.published == row["published"]).values(dead_reason=REQUEUED))
        clock.advance(5)
        assert await auditor.step() == 0

    on(aged, scenario)


def test_what_is_no_event_is_left_out_of_a_sample(aged: str, hand: Engine) -> None:
    async def scenario(ledger: OpenLedger, clock: VirtualClock) -> None:
        (auditor,) = auditors(ledger, clock)
        do(hand, insert(outbox).values(event=POISON))
        assert await auditor.step() == 0
        assert await ledger.read(opened) == []

    on(aged, scenario)


def test_events_that_stand_apart_accuse_nobody(aged: str, hand: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where only some of the events near a sample are read, what looks missing is looked for before it is told."""
    monkeypatch.setattr(audit_samples, "NEAR_EVENTS", 3)
    monkeypatch.setattr(audit_samples, "MARGIN", 0)

    async def scenario(ledger: OpenLedger, clock: VirtualClock) -> None:
        do(hand, update(payments).values(updated_at=NOON))
        (auditor,) = auditors(ledger, clock)
        assert await auditor.step() == 0
        monkeypatch.setattr(audit_samples, "MAX_SEARCHED", 0)
        looked = await ledger.read(sampled, clock.now() - MINUTE)
        assert [each for each in looked if each.found] == []
        assert {each.by_events for each in looked} == {True, False}

    on(aged, scenario)


def _minute(gateway_id: str, minute: datetime, attempts: int) -> Any:
    return insert(gateway_metrics).values(
        gateway_id=gateway_id,
        payment_method="UPI",
        issuing_bank="HDFC",
        minute=minute,
        attempts=attempts,
        **dict.fromkeys(("successes", "failures", "unknown", "pending"), 0),
        counts={},
    )


@pytest.mark.parametrize("page", [1, recount.PAGE])
def test_a_minute_that_is_no_recount_of_its_events_is_found_and_cleared(
    aged: str, hand: Engine, monkeypatch: pytest.MonkeyPatch, page: int
) -> None:
    """I9, in however many pages; the minute it is about is recounted again until it is right."""
    monkeypatch.setattr(recount, "PAGE", page)

    async def rounds(auditor: InvariantCheck, clock: VirtualClock) -> int:
        """Step through the recounts of four minutes."""
        found = 0
        for _ in range(4):
            clock.advance(61)
            for _ in range(2 * PAYMENTS // page + 3):
                found += await auditor.step()
        return found

    async def scenario(ledger: OpenLedger, clock: VirtualClock) -> None:
        (auditor,) = auditors(ledger, clock)
        do(hand, _minute("g1", NOON, PAYMENTS), _minute("g1", NOON + 5 * MINUTE, 0))
        assert await rounds(auditor, clock) == 0
        changed = update(gateway_metrics).where(gateway_metrics.c.minute == NOON)
        do(hand, changed.values(attempts=PAYMENTS - 1))
        assert await rounds(auditor, clock) == 1
        (found,) = await ledger.read(opened)
        assert (found.invariant, found.payment_id, found.minute) == ("I9", None, NOON)
        assert f"{PAYMENTS - 1} in the metrics, {PAYMENTS} by the events" in found.what
        do(hand, changed.values(attempts=PAYMENTS))
        await rounds(auditor, clock)
        assert await ledger.read(opened) == []

    on(aged, scenario, NOON + timedelta(hours=1))


def test_only_a_minute_that_everybody_has_counted_is_recounted(aged: str, hand: Engine) -> None:
    """Not the newest of the history, none of the last minutes, none an event of which waits, or was requeued."""

    async def scenario(ledger: OpenLedger, clock: VirtualClock) -> None:
        now = NOON + timedelta(hours=1)
        assert await ledger.read(countable, now) is None
        do(hand, _minute("g1", NOON, 0))
        assert await ledger.read(countable, now) is None
        do(hand, _minute("g1", NOON + 2 * MINUTE, 0))
        assert await ledger.read(countable, now) == NOON
        assert await ledger.read(countable, now, NOON - MINUTE) == NOON
        assert await ledger.read(countable, now, NOON + MINUTE) is None
        assert await ledger.read(countable, NOON + timedelta(minutes=10)) is None

        (auditor,) = auditors(ledger, clock)
        first = await ledger.read(_last_end)
        for change in ({"published": None}, {"dead_reason": REQUEUED}):
            do(hand, update(outbox).where(outbox.c.position == first).values(**change))
            clock.advance(3600)
            assert [each for each in [await auditor.step() for _ in range(3)] if each] == []
            assert [each.invariant for each in await ledger.read(opened) if each.minute] == []
            do(hand, update(outbox).where(outbox.c.position == first).values(published=first, dead_reason=None))

    on(aged, scenario, NOON + timedelta(hours=1))


@pytest.mark.parametrize("is_published", [True, False])
def test_a_moment_is_found_in_the_outbox_whether_anybody_relays_or_not(
    aged: str, hand: Engine, *, is_published: bool
) -> None:
    """Where nobody does, nothing has a number, and no payment may look as if its events were missing."""

    async def scenario(ledger: OpenLedger, clock: VirtualClock) -> None:
        if not is_published:
            do(hand, update(outbox).values(published=None))
        last = await ledger.read(last_position)
        moments = (NOON, NOON + timedelta(seconds=4), NOON + timedelta(seconds=6), NOON + MINUTE)
        assert [await ledger.read(position_since, each, 0) for each in moments] == [0, 4, 4, last]
        assert await ledger.read(position_since, NOON + MINUTE, 5) == last - 5
        (auditor,) = auditors(ledger, clock)
        assert await auditor.step() == 0
        assert [each.by_events for each in await ledger.read(sampled, NOON - MINUTE)] == [True] * PAYMENTS

    on(aged, scenario)


def _plans(engine: Engine, *reads: Callable[[Connection], object]) -> list[str]:
    """Run some reads and return how each of their statements is answered; the planner must not scan, if it can help."""
    asked: list[tuple[str, Any]] = []

    def remember(_: Any, __: Any, statement: str, parameters: Any, *___: Any) -> None:
        if statement.startswith("SELECT"):
            asked.append((statement, parameters))

    event.listen(engine, "before_cursor_execute", remember)
    for read in reads:
        with engine.connect() as connection:
            assert read(connection.execution_options(isolation_level="AUTOCOMMIT"))
    event.remove(engine, "before_cursor_execute", remember)
    is_postgres = engine.dialect.name == "postgresql"
    verb = "EXPLAIN" if is_postgres else "EXPLAIN QUERY PLAN"
    with engine.connect() as connection:
        if is_postgres:
            connection.execute(text("SET enable_seqscan = off"))
        plans = [connection.exec_driver_sql(f"{verb} {each}", given).all() for each, given in asked]
    return ["\n".join(str(row[-1]) for row in plan) for plan in plans]


def test_no_look_walks_through_a_whole_table(aged: str, hand: Engine) -> None:
    """A ledger of millions of rows is asked through its indexes alone; but for the violations, which are few."""
    do(hand, set_status(Status.FAILURE), _minute("g1", NOON, 1), _minute("g1", NOON + 5 * MINUTE, 1))
    later, heard, wrong = NOON + timedelta(hours=1), EventScan(only_counts=True), list[str]()

    def first(connection: Connection) -> object:
        wrong.extend(each.payment_id for each in sampled(connection, NOON - MINUTE) if each.found)
        return wrong

    plans = _plans(
        hand,
        first,
        lambda connection: sampled_again(connection, wrong),
        lambda connection: countable(connection, later) == countable(connection, later, NOON) == NOON,
        lambda connection: scan(connection, heard, position_since(connection, NOON)),
        lambda connection: compared(connection, NOON, heard, 0, 10 * PAYMENTS),
        lambda connection: opened(connection) == [],
        lambda connection: gauges(connection, later),
    )
    assert len(plans) > 40
    big = "payments|attempts|transfers|outbox|gateway_metrics"
    scans = rf"Seq Scan on ({big})|SCAN ({big})$"
    assert [each for each in plans if re.search(scans, each, re.MULTILINE)] == []
