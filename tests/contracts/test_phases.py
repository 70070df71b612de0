"""Each write of a payment has one winner, and what it leaves is the same on both ledgers."""

import asyncio
from collections.abc import Awaitable, Callable
from datetime import datetime, timedelta
from typing import Any

import msgspec

from pgw.core.ledger.engine.ledger import OpenLedger
from pgw.core.ledger.payment_reads import attempts_of, by_id, by_key, decision_of
from pgw.core.ledger.payments import CLOSE, OPEN, TURN
from pgw.core.ledger.tables import attempts, outbox, payments
from pgw.core.ledger.verifications import CLAIM
from pgw.core.payment.outcome import Captured, Unknown
from pgw.core.payment.payment import AttemptStatus, Status
from pgw.core.writes.attempts import Item
from tests.doubles import CAPTURED, GATEWAY_DECLINE, NOON, UNKNOWN
from tests.ledgers import claims, closes, id_of, opened, opens, plan_of, rows, turns

WRONG_AMOUNT = Captured("ref-1", 999, "INR")
Scenario = Callable[[OpenLedger], Awaitable[None]]


def _on(database: str, scenario: Scenario) -> None:
    async def run() -> None:
        async with opened(database) as ledger:
            await scenario(ledger)

    asyncio.run(run())


async def _payment(ledger: OpenLedger, number: int = 1) -> dict[str, Any]:
    return next(row for row in await rows(ledger, payments) if row["payment_id"] == id_of(number))


async def _attempt(ledger: OpenLedger, number: int = 1) -> dict[str, Any]:
    return next(row for row in await rows(ledger, attempts) if row["attempt_number"] == number)


async def _write(ledger: OpenLedger, *writes: tuple[Any, Item]) -> list[bool]:
    return [await ledger.commit(phase, item) for phase, item in writes]


def test_an_open_keeps_the_key_the_plan_and_the_announcement(database: str) -> None:
    async def scenario(ledger: OpenLedger) -> None:
        item = opens(1, merchant_reference="order 7", metadata={"note": "ü 漢 \U0001f600"})
        assert await ledger.commit(OPEN, item) is True
        stored = await ledger.read(by_key, "m_001", "key-1")
        assert stored is not None
        assert stored == await ledger.read(by_id, id_of(1))
        assert stored.lease_until == item["next_check_at"] == NOON + timedelta(seconds=4.5)
        assert stored.payment.status is Status.PROCESSING
        assert stored.payment.metadata == {"note": "ü 漢 \U0001f600"}
        assert (stored.payment.created_at, stored.payment.version) == (NOON, 1)
        assert await ledger.read(decision_of, id_of(1)) == (plan_of(id_of(1)), NOON)
        (attempt,) = await ledger.read(attempts_of, id_of(1))
        assert (attempt.attempt_number, attempt.gateway_id, attempt.status) == (1, "g1", AttemptStatus.SENDING)
        assert await rows(ledger, outbox) == []

    _on(database, scenario)


def test_one_key_means_one_payment_within_its_merchant(database: str) -> None:
    async def scenario(ledger: OpenLedger) -> None:
        fates = await _write(
            ledger,
            (OPEN, opens(1, key="k")),
            (OPEN, opens(2, key="k")),
            (OPEN, opens(3, key="k") | {"merchant_id": "m_002"}),
            (OPEN, opens(4, key="K")),
        )
        assert fates == [True, False, True, True]
        found = [await ledger.read(by_key, *each) for each in (("m_001", "k"), ("m_002", "k"), ("m_003", "k"))]
        assert [each and each.payment.payment_id for each in found] == [id_of(1), id_of(3), None]
        assert len(await rows(ledger, attempts)) == 3

    _on(database, scenario)


def test_a_turn_ends_one_attempt_and_announces_the_next_in_one_commit(database: str) -> None:
    async def scenario(ledger: OpenLedger) -> None:
        turn = turns(1, GATEWAY_DECLINE, at=NOON + timedelta(seconds=1))
        assert await _write(ledger, (OPEN, opens(1)), (TURN, turn), (TURN, turn)) == [True, True, False]
        first, second = await ledger.read(attempts_of, id_of(1))
        assert (first.status, first.error_code, first.blame) == ("FAILURE", "GATEWAY_TECHNICAL_ERROR", "gateway")
        assert (second.attempt_number, second.gateway_id, second.status) == (2, "g2", "SENDING")
        assert (first.ended_at, second.ended_at) == (NOON + timedelta(seconds=1), None)
        assert (await _attempt(ledger, 1))["next_check_at"] is None
        assert (await _attempt(ledger, 2))["next_check_at"] == NOON + timedelta(seconds=5.5)
        assert [row["event"]["type"] for row in await rows(ledger, outbox)] == ["payment.attempted"]

    _on(database, scenario)


def test_a_close_sets_the_payment_and_says_so_in_events(database: str) -> None:
    async def scenario(ledger: OpenLedger) -> None:
        end = closes(1, CAPTURED, at=NOON + timedelta(seconds=1))
        assert await _write(ledger, (OPEN, opens(1)), (CLOSE, end), (CLOSE, end)) == [True, True, False]
        stored = await ledger.read(by_id, id_of(1))
        assert stored is not None
        shown = stored.payment
        assert (shown.status, shown.gateway_used, shown.transaction_ref) == (Status.SUCCESS, "g1", "ref-1")
        assert (shown.attempts_made, shown.latency_ms, shown.version) == (1, 34, 2)
        assert shown.updated_at == NOON + timedelta(seconds=1)
        events = {row["event"]["type"]: row["event"] for row in await rows(ledger, outbox)}
        assert {each["payment_id"] for each in events.values()} == {id_of(1)}
        assert {kind: each["latency_ms"] for kind, each in events.items()} == {
            "payment.attempted": 12,
            "payment.completed": 34,
        }

    _on(database, scenario)


def test_an_unknown_end_never_overwrites_anything(database: str) -> None:
    async def scenario(ledger: OpenLedger) -> None:
        await _write(ledger, (OPEN, opens(1)), (CLOSE, closes(1)), (OPEN, opens(2)))
        await ledger.commit(CLAIM, claims(2, opens(2)["next_check_at"]))
        before = (await rows(ledger, payments), await rows(ledger, attempts))
        assert await _write(ledger, (CLOSE, closes(1, UNKNOWN)), (CLOSE, closes(2, UNKNOWN))) == [False, False]
        assert (await rows(ledger, payments), await rows(ledger, attempts)) == before

    _on(database, scenario)


def test_an_unknown_outcome_has_one_type_and_one_status() -> None:
    """The rest of this file takes TIMEOUT for unknown; here is where that comes from."""
    assert isinstance(UNKNOWN, Unknown)
    assert closes(1, UNKNOWN)["end_status"] is AttemptStatus.TIMEOUT


def test_moments_are_kept_to_the_microsecond_whatever_their_offset(database: str) -> None:
    async def scenario(ledger: OpenLedger) -> None:
        moments = [
            datetime.fromisoformat("2026-03-01T12:00:00+05:30"),
            datetime.fromisoformat("2026-03-01T12:00:00.000001Z"),
            datetime.fromisoformat("1999-12-31T23:59:59.999999-11:00"),
        ]
        for number, moment in enumerate(moments):
            await ledger.commit(OPEN, opens(number, created_at=moment))
        assert [row["created_at"] for row in await rows(ledger, payments)] == moments
        assert {row["created_at"].tzinfo for row in await rows(ledger, payments)} == {NOON.tzinfo}

    _on(database, scenario)


def test_an_event_is_the_document_its_phase_was_given(database: str) -> None:
    async def scenario(ledger: OpenLedger) -> None:
        end = closes(1)
        await _write(ledger, (OPEN, opens(1)), (CLOSE, end))
        written = {row["event"]["type"]: row["event"] for row in await rows(ledger, outbox)}
        given = [msgspec.to_builtins(end[name]) for name in ("event", "completed")]
        assert written == {each["type"]: each for each in given}

    _on(database, scenario)
