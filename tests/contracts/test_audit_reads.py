"""The audit of a real ledger, on both databases: what is right passes, what a hand has changed is found."""

import asyncio
from collections.abc import Iterator
from datetime import timedelta
from typing import Any

import pytest
from msgspec import structs
from sqlalchemy import Connection, insert, text, update

from pgw.core.flow.payments.take import take
from pgw.core.flow.verification.late_capture import monitor_due
from pgw.core.flow.verification.verify import verify_due
from pgw.core.ledger import audit_reads
from pgw.core.ledger.audit_reads import Audited, audit
from pgw.core.ledger.engine.store import open_engine
from pgw.core.ledger.tables import gateway_metrics, outbox, payments
from pgw.core.money.audit_rows import SettlementLine, SettlementList
from pgw.core.payment.outcome import Verdict
from pgw.core.payment.payment import Status
from tests.doubles import CUSTOMER_DECLINE, GATEWAY_DECLINE, NOON, UNKNOWN, Act, request_of, scene_of
from tests.events import POISON
from tests.ledgers import opened

LATER = NOON + timedelta(hours=1)


@pytest.fixture
def lived(database: str) -> str:
    """Give a ledger with some payments of each kind: successes, a fallback, a decline, one that was verified."""

    async def live() -> None:
        async with opened(database) as ledger:
            acts: list[Act | Verdict] = [Act(UNKNOWN, moves_money=True), GATEWAY_DECLINE, CUSTOMER_DECLINE]
            scene = scene_of(ledger, {"g1": acts, "g2": list[Act | Verdict]()})
            for number in range(6):
                await take(scene.deps, request_of(), f"key-{number}")
                scene.clock.advance(3)
            assert await verify_due(scene.deps) == 1
            assert await monitor_due(scene.deps) == 0

    asyncio.run(live())
    return database


@pytest.fixture
def connection(lived: str) -> Iterator[Connection]:
    """Give a hand in that ledger."""
    engine = open_engine(lived)
    with engine.connect() as opened_one:
        yield opened_one
    engine.dispose()


def _audited(connection: Connection, settlement: SettlementList | None = None, **given: Any) -> Audited:
    connection.commit()
    engine = connection.engine
    with engine.connect() as other:
        return audit(other, given.get("since"), given.get("now", LATER), settlement)


def _broken(found: Audited) -> set[str]:
    return {each.invariant for each in found.violations}


def test_what_was_lived_is_right(connection: Connection) -> None:
    found = _audited(connection)
    assert (found.payments, found.reached, found.violations) == (6, True, ())
    assert found.events >= 12


def test_what_is_no_event_is_left_out(connection: Connection) -> None:
    before = _audited(connection)
    connection.execute(insert(outbox).values(event=POISON))
    found = _audited(connection)
    assert (before.events, ()) == (found.events, found.violations)


def test_pages_and_a_beginning_bound_what_is_read(connection: Connection, monkeypatch: pytest.MonkeyPatch) -> None:
    assert _audited(connection, since=NOON + timedelta(seconds=7)).payments == 3
    monkeypatch.setattr(audit_reads, "MOST_PAYMENTS", 3)
    monkeypatch.setattr(audit_reads.payments_after, "__defaults__", (2,))
    found = _audited(connection)
    assert (found.payments, found.reached) == (4, False)
    assert found.violations == ()


def test_what_a_hand_has_changed_is_found(connection: Connection) -> None:
    connection.execute(update(payments).where(payments.c.idempotency_key == "key-5").values(status=Status.FAILURE))
    assert {"I3", "I7"} <= _broken(_audited(connection))


def test_what_gateways_settled_is_compared(connection: Connection) -> None:
    won = text("SELECT payment_id, attempt_number, gateway_id FROM attempts WHERE status = 'SUCCESS'")
    lines = [
        SettlementLine(
            payment_id=str(payment_id),
            attempt_number=number,
            gateway_id=gateway_id,
            amount_minor=1000,
            currency="INR",
            kind="captured",
        )
        for payment_id, number, gateway_id in connection.execute(won)
    ]
    assert _broken(_audited(connection, SettlementList(lines))) == set()
    assert _broken(_audited(connection, SettlementList(lines[1:], ("g1", "g2")))) == {"I2"}
    for nobody in ("019b8e07-0000-7000-8000-000000000000", "no id at all"):
        stranger = structs.replace(lines[0], payment_id=nobody)
        assert _broken(_audited(connection, SettlementList([*lines, stranger]))) == {"I4"}


def test_minutes_are_a_recount_of_the_events(connection: Connection) -> None:
    connection.execute(update(outbox).values(published=outbox.c.position))
    row = {
        "payment_method": "UPI",
        "issuing_bank": "HDFC",
        "minute": NOON,
        **dict.fromkeys(("successes", "failures", "unknown", "pending"), 0),
        "counts": {},
    }
    # g1 was called by each payment, g2 by the one that fell back.
    connection.execute(insert(gateway_metrics).values(gateway_id="g1", attempts=6, **row))
    connection.execute(insert(gateway_metrics).values(gateway_id="g2", attempts=1, **row))
    assert _broken(_audited(connection)) == set()
    connection.execute(update(gateway_metrics).where(gateway_metrics.c.gateway_id == "g1").values(attempts=5))
    assert _broken(_audited(connection)) == {"I9"}
    assert _broken(_audited(connection, now=NOON + timedelta(minutes=5))) == set()
