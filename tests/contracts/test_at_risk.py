"""Unsettled money is counted as it stands, from indexes that hold nothing else, on both ledgers."""

import asyncio
import re
from collections.abc import Awaitable, Callable
from datetime import timedelta
from typing import Any

import pytest
from sqlalchemy import Connection, Engine, create_engine, event, text

from pgw.core.flow.verification.late_capture import monitor_due
from pgw.core.flow.verification.resolve import resolve
from pgw.core.ledger.at_risk import MoneyAtRisk, at_risk
from pgw.core.ledger.engine.ledger import OpenLedger
from pgw.core.ledger.payment_reads import PaymentFilter, listed
from pgw.core.ledger.payments import CLOSE, OPEN
from pgw.core.ledger.verifications import CLAIM, SETTLE
from pgw.core.money.exposure import Exposure
from pgw.core.payment.outcome import Blame, Captured
from pgw.core.payment.payment import Status
from pgw.core.verification.enquiry import GaveUp, ReversalRefused, Undecided
from pgw.core.verification.enquiry import Pending as Answer
from pgw.core.writes.resolution import Resolution, ResolvedAs
from tests.doubles import CUSTOMER_DECLINE, NOON, UNKNOWN, VirtualClock, scene_of
from tests.ledgers import claims, closes, id_of, opened, opens, settles

MINUTE = timedelta(minutes=1)
AT = NOON + MINUTE
NOTHING = Exposure()
GAVE_UP = GaveUp(Blame.GATEWAY, None)
FAILED = Resolution(outcome=ResolvedAs.FAILURE, actor="asha", reason="INC-7", evidence=None)


def on(database: str, scenario: Callable[[OpenLedger], Awaitable[None]]) -> None:
    """Play a scene on an opened ledger."""

    async def run() -> None:
        async with opened(database) as ledger:
            await scenario(ledger)

    asyncio.run(run())


async def unknown(ledger: OpenLedger, number: int, **changes: Any) -> None:
    """Leave a payment whose outcome nobody knows."""
    for write in ((OPEN, opens(number, **changes)), (CLOSE, closes(number, UNKNOWN))):
        assert await ledger.commit(*write) is True


async def review(ledger: OpenLedger, number: int, found: Any = GAVE_UP, **changes: Any) -> None:
    """Leave a payment to a person."""
    await unknown(ledger, number, **changes)
    claim = claims(number, closes(number, UNKNOWN)["end_next_check_at"])
    for write in ((CLAIM, claim), (SETTLE, settles(claim, found, number))):
        assert await ledger.commit(*write) is True


def test_what_is_settled_or_on_its_way_is_at_no_risk(database: str) -> None:
    async def scenario(ledger: OpenLedger) -> None:
        await ledger.commit(OPEN, opens(1))
        for number, verdict in ((2, Captured("ref-1", 1000, "INR")), (3, CUSTOMER_DECLINE)):
            await ledger.commit(OPEN, opens(number))
            await ledger.commit(CLOSE, closes(number, verdict))
        assert await ledger.read(at_risk, NOON) == MoneyAtRisk(NOTHING, NOTHING, NOTHING, NOTHING)

    on(database, scenario)


def test_unknown_payments_are_added_up_by_currency_with_what_its_owner_left(database: str) -> None:
    async def scenario(ledger: OpenLedger) -> None:
        await unknown(ledger, 1, created_at=NOON - 2 * MINUTE)
        await unknown(ledger, 2, amount_minor=500, created_at=NOON - 9 * MINUTE)
        await unknown(ledger, 3, currency="USD")
        await ledger.commit(OPEN, opens(4, amount_minor=7))
        lease_until = opens(4)["next_check_at"]
        early = (await ledger.read(at_risk, lease_until - timedelta(microseconds=1))).unknown
        found = (await ledger.read(at_risk, lease_until)).unknown
        assert early == Exposure(3, NOON - 9 * MINUTE, {"INR": 1500, "USD": 1000})
        assert found == Exposure(4, NOON - 9 * MINUTE, {"INR": 1507, "USD": 1000})

    on(database, scenario)


def test_what_waits_for_a_person_counts_from_then_until_he_has_spoken(database: str) -> None:
    async def scenario(ledger: OpenLedger) -> None:
        await review(ledger, 1)
        await review(ledger, 2, Captured("ref-1", 999, "INR"))
        found = await ledger.read(at_risk, AT)
        since = NOON + timedelta(seconds=2)
        assert found == MoneyAtRisk(NOTHING, Exposure(2, since, {"INR": 2000}), NOTHING, NOTHING)
        await resolve(scene_of(ledger, {"g1": []}).deps, id_of(1), FAILED)
        assert (await ledger.read(at_risk, AT)).review == Exposure(1, since, {"INR": 1000})
        shown = await ledger.read(listed, PaymentFilter(status=Status.MANUAL_REVIEW), AT)
        assert [each.payment.payment_id for each in shown] == [id_of(2)]

    on(database, scenario)


@pytest.mark.parametrize("refused", [False, True])
def test_money_on_its_way_back_counts_until_it_is_there_or_a_person_must_judge(database: str, refused: bool) -> None:
    async def scenario(ledger: OpenLedger) -> None:
        await review(ledger, 1, Captured("ref-1", 999, "INR"))
        scene = scene_of(ledger, {"g1": []}, clock=VirtualClock(AT))
        await resolve(scene.deps, id_of(1), FAILED)
        money = Exposure(1, NOON + timedelta(seconds=2), {"INR": 999})
        assert await ledger.read(at_risk, AT) == MoneyAtRisk(NOTHING, NOTHING, money, NOTHING)
        late = Undecided(Answer.UNREACHABLE, "HTTP_502")
        scene.gateways["g1"].reversal_answers.append(ReversalRefused("NO_BALANCE") if refused else late)
        assert await monitor_due(scene.deps) == 1
        found = await ledger.read(at_risk, AT)
        assert (found.reversing, found.stuck) == ((NOTHING, money) if refused else (money, NOTHING))
        if not refused:
            scene.clock.advance(60)
            assert await monitor_due(scene.deps) == 1
            assert await ledger.read(at_risk, AT) == MoneyAtRisk(NOTHING, NOTHING, NOTHING, NOTHING)

    on(database, scenario)


GROWN = (
    """INSERT INTO payments SELECT (json_populate_record(p, json_build_object(
           'payment_id', gen_random_uuid(), 'idempotency_key', 'grown-' || n))).*
       FROM payments p, generate_series(1, 4000) n WHERE p.status = 'FAILURE'""",
    """INSERT INTO attempts SELECT (json_populate_record(a, json_build_object('payment_id', p.payment_id))).*
       FROM attempts a, payments p WHERE a.status = 'FAILURE' AND p.idempotency_key LIKE 'grown-%'""",
    """INSERT INTO watches SELECT (json_populate_record(w, json_build_object('payment_id', p.payment_id))).*
       FROM watches w, payments p WHERE p.idempotency_key LIKE 'grown-%'""",
    "ANALYZE payments, attempts, watches",
)
"""Thousands of failed payments like the one there is: PostgreSQL plans by what it has counted."""


def test_nothing_is_read_but_what_is_unsettled(database: str) -> None:
    """Each statement begins at an index of open rows alone, and reaches others by key: at any size of ledger."""

    async def scenario(ledger: OpenLedger) -> None:
        for number in range(3):
            await review(ledger, number)
        await unknown(ledger, 3)
        for write in ((OPEN, opens(4)), (CLOSE, closes(4, CUSTOMER_DECLINE))):
            assert await ledger.commit(*write) is True

    on(database, scenario)
    engine = create_engine(database)
    with engine.connect() as connection:
        for statement in GROWN if engine.dialect.name == "postgresql" else ():
            connection.execute(text(statement))
        plans = _plans(engine, connection, lambda: at_risk(connection, AT))
        plans += _plans(engine, connection, lambda: listed(connection, PaymentFilter(status=Status.MANUAL_REVIEW), AT))
        connection.rollback()
    engine.dispose()
    reviewed = "payments_in_review_index"
    for plan, index in zip(plans, ("attempts_due_index", reviewed, "watches_in_hand_index", reviewed), strict=True):
        assert index in plan, plan
        assert not re.search(
            r"Seq Scan on (payments|attempts|watches)|SCAN (payments|attempts|watches)$", plan, re.MULTILINE
        ), plan


def _plans(engine: Engine, connection: Connection, work: Callable[[], object]) -> list[str]:
    """Run a query and return how each of its statements is answered."""
    asked: list[tuple[str, Any]] = []

    def remember(_: Any, __: Any, statement: str, parameters: Any, *___: Any) -> None:
        asked.append((statement, parameters))

    event.listen(engine, "before_cursor_execute", remember)
    work()
    event.remove(engine, "before_cursor_execute", remember)
    verb = "EXPLAIN" if engine.dialect.name == "postgresql" else "EXPLAIN QUERY PLAN"
    return [
        "\n".join(str(row[-1]) for row in connection.exec_driver_sql(f"{verb} {each}", given)) for each, given in asked
    ]
