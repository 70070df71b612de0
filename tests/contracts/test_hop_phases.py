"""Gateways passed over and plans changed on the way leave the same rows on both ledgers, and count for nothing else."""

import asyncio
from collections.abc import Awaitable, Callable
from datetime import timedelta
from typing import Any

import pytest
from msgspec.structs import replace

from pgw.core.breakers.breaker import State
from pgw.core.ledger.due import due
from pgw.core.ledger.engine.ledger import OpenLedger
from pgw.core.ledger.payment_reads import attempts_of, by_id, decision_of
from pgw.core.ledger.payments import CLOSE, OPEN, SKIP, TURN
from pgw.core.ledger.tables import attempts, outbox, payments, routing_decisions
from pgw.core.ledger.verifications import CLAIM, LEASE_EXPIRED, SETTLE, verification_of
from pgw.core.payment.payment import AttemptStatus, Status
from pgw.core.routing.plan import Plan
from pgw.core.writes.attempts import Item
from tests.doubles import CAPTURED, GATEWAY_DECLINE, NOON, NOT_SENT, UNKNOWN
from tests.ledgers import all_of, claims, closes, id_of, opened, opens, plan_of, rows, settles, skips, turns

Scenario = Callable[[OpenLedger], Awaitable[None]]
SECOND = timedelta(seconds=1)


def _on(database: str, scenario: Scenario) -> None:
    async def run() -> None:
        async with opened(database) as ledger:
            await scenario(ledger)

    asyncio.run(run())


async def _write(ledger: OpenLedger, *writes: tuple[Any, Item]) -> list[bool]:
    return [await ledger.commit(phase, item) for phase, item in writes]


async def _plan(ledger: OpenLedger, number: int = 1) -> Plan:
    stored = await ledger.read(decision_of, id_of(number))
    assert stored is not None
    return stored[0]


def test_a_skipped_gateway_has_a_row_that_was_over_when_it_began(database: str) -> None:
    """It was never called: no event, no check, no lease, and the payment stays as it is."""

    async def scenario(ledger: OpenLedger) -> None:
        await ledger.commit(OPEN, opens(1))
        before = await rows(ledger, payments)
        at = NOON + SECOND
        assert await ledger.commit(SKIP, skips(1, 2, at)) is True
        assert (await rows(ledger, attempts))[1] == {
            "payment_id": id_of(1),
            "attempt_number": 2,
            "gateway_id": "g2",
            "status": AttemptStatus.SKIPPED,
            "error_code": "SKIPPED_BREAKER_OPEN",
            "blame": None,
            "latency_ms": None,
            "circuit_breaker_state": State.OPEN,
            "fallback_reason": None,
            "transaction_ref": None,
            "started_at": at,
            "ended_at": at,
            "next_check_at": None,
            "claimed_until": None,
            "checks_made": 0,
        }
        assert (await rows(ledger, payments), await rows(ledger, outbox)) == (before, [])
        stored = await ledger.read(by_id, id_of(1))
        assert stored is not None
        assert stored.lease_until == opens(1)["next_check_at"]
        assert await ledger.read(due, NOON + timedelta(days=1), 10) == await ledger.read(due, NOON + 5 * SECOND, 10)

    _on(database, scenario)


def test_a_skipped_gateway_is_written_once_and_over_no_other_attempt(database: str) -> None:
    """A commit that is run again, its answer lost, finds its own row; one already announced is not undone by it."""

    async def scenario(ledger: OpenLedger) -> None:
        fates = await _write(ledger, (OPEN, opens(1)), (SKIP, skips(1, 2)), (SKIP, skips(1, 2, NOON + SECOND)))
        assert fates == [True, True, False]
        assert await ledger.commit(SKIP, skips(1, 1)) is False
        shown = await ledger.read(attempts_of, id_of(1))
        assert [(each.status, each.started_at) for each in shown] == [("SENDING", NOON), ("SKIPPED", NOON)]

    _on(database, scenario)


def test_skipped_gateways_of_many_payments_share_a_commit(database: str) -> None:
    async def scenario(ledger: OpenLedger) -> None:
        await all_of(ledger, [(OPEN, opens(number)) for number in range(8)])
        writes = [(SKIP, skips(number, 2)) for number in range(8)]
        others = [(CLOSE, closes(number)) for number in range(4)]
        assert await all_of(ledger, [*writes, *others, *writes]) == [True] * 12 + [False] * 8

    _on(database, scenario)


def test_a_turn_behind_skipped_gateways_announces_the_attempt_after_them(database: str) -> None:
    async def scenario(ledger: OpenLedger) -> None:
        turn = turns(1, GATEWAY_DECLINE, following=4)
        writes = [(OPEN, opens(1)), (SKIP, skips(1, 2)), (SKIP, skips(1, 3)), (TURN, turn), (TURN, turn)]
        assert await _write(ledger, *writes) == [True, True, True, True, False]
        shown = await ledger.read(attempts_of, id_of(1))
        assert [(each.attempt_number, each.status) for each in shown] == [
            (1, "FAILURE"),
            (2, "SKIPPED"),
            (3, "SKIPPED"),
            (4, "SENDING"),
        ]
        assert len(await rows(ledger, outbox)) == 1

    _on(database, scenario)


def _replanned(number: int) -> Plan:
    """Return another plan than the one the payment was opened with."""
    plan = plan_of(id_of(number))
    return replace(plan, ranked=tuple(each for each in plan.ranked if each.gateway_id != "g2"))


def test_a_turn_with_a_plan_replaces_the_stored_one_and_one_without_leaves_it(database: str) -> None:
    """Only its own payment's, also where payments with and without share a commit; the time of the decision stays."""

    async def scenario(ledger: OpenLedger) -> None:
        await all_of(ledger, [(OPEN, opens(number)) for number in range(4)])
        changed = {number: _replanned(number) for number in (1, 3)}
        writes = [
            (TURN, turns(number, NOT_SENT, at=NOON + SECOND, replanned=changed.get(number))) for number in range(4)
        ]
        assert await all_of(ledger, writes) == [True] * 4
        for number in range(4):
            assert await _plan(ledger, number) == changed.get(number, plan_of(id_of(number)))
        assert {row["decided_at"] for row in await rows(ledger, routing_decisions)} == {NOON}

    _on(database, scenario)


def test_a_turn_that_loses_leaves_the_plan_as_it_was(database: str) -> None:
    """A verifier has the payment: what its owner would have done is no part of what happened."""

    async def scenario(ledger: OpenLedger) -> None:
        await _write(ledger, (OPEN, opens(1)), (CLAIM, claims(1, opens(1)["next_check_at"])))
        turn = turns(1, GATEWAY_DECLINE, replanned=_replanned(1))
        assert await ledger.commit(TURN, turn) is False
        assert await _plan(ledger) == plan_of(id_of(1))

    _on(database, scenario)


@pytest.mark.parametrize("skipped", [0, 1, 2])
def test_only_called_gateways_count_when_a_payment_is_found_overdue(database: str, skipped: int) -> None:
    """Skipped ones before the attempt under check, that is; those behind it were never reached."""

    async def scenario(ledger: OpenLedger) -> None:
        last = 2 + skipped
        between = [(SKIP, skips(1, number)) for number in range(2, last)]
        turn = (TURN, turns(1, NOT_SENT, following=last))
        await _write(ledger, (OPEN, opens(1)), *between, turn, (SKIP, skips(1, last + 1)))
        (found,) = await ledger.read(due, NOON + timedelta(hours=1), 10)
        assert (found.attempt_number, found.skipped, found.attempts_made) == (last, skipped, 2)
        claim = {**claims(1, found.due_at, last), "attempts_made": found.attempts_made}
        assert await ledger.commit(CLAIM, claim) is True
        stored = await ledger.read(by_id, id_of(1))
        assert stored is not None
        assert (stored.payment.status, stored.payment.attempts_made) == (Status.PENDING_VERIFICATION, 2)
        settle = {**settles(claim, CAPTURED, 1), "attempts_made": found.attempts_made}
        assert await ledger.commit(SETTLE, settle) is True
        stored = await ledger.read(by_id, id_of(1))
        assert stored is not None
        assert (stored.payment.status, stored.payment.attempts_made) == (Status.SUCCESS, 2)

    _on(database, scenario)


def test_skipped_gateways_of_one_payment_count_for_no_other(database: str) -> None:
    async def scenario(ledger: OpenLedger) -> None:
        await _write(ledger, (OPEN, opens(1)), (SKIP, skips(1, 2)), (OPEN, opens(2)))
        await _write(ledger, (TURN, turns(1, NOT_SENT, following=3)), (TURN, turns(2, NOT_SENT)))
        found = await ledger.read(due, NOON + timedelta(hours=1), 10)
        assert {each.payment_id: each.skipped for each in found} == {id_of(1): 1, id_of(2): 0}

    _on(database, scenario)


def test_the_check_of_a_payment_is_that_of_its_newest_call_whatever_was_skipped_behind_it(database: str) -> None:
    async def scenario(ledger: OpenLedger) -> None:
        await _write(ledger, (OPEN, opens(1)), (SKIP, skips(1, 2, NOON + SECOND)))
        end = closes(1, UNKNOWN)
        await ledger.commit(CLOSE, end)
        verification = await ledger.read(verification_of, id_of(1), Status.PENDING_VERIFICATION)
        assert verification is not None
        assert verification.next_check_at == end["end_next_check_at"]
        assert verification.gives_up_at == NOON + timedelta(days=5)

    _on(database, scenario)


def test_an_attempt_under_check_is_listed_with_the_end_it_was_told_with(database: str) -> None:
    """What nobody told, its lease having ended it, is recognisable by its code."""

    async def scenario(ledger: OpenLedger) -> None:
        end = closes(1, UNKNOWN, at=NOON + SECOND)
        await _write(ledger, (OPEN, opens(1)), (CLOSE, end), (OPEN, opens(2)), (OPEN, opens(3)))
        claim = claims(3, opens(3)["next_check_at"])
        await ledger.commit(CLAIM, claim)
        found = {each.payment_id: each for each in await ledger.read(due, NOON + timedelta(days=1), 10)}
        told = {
            payment_id: (each.status, each.error_code, each.blame, each.ended_at) for payment_id, each in found.items()
        }
        assert told == {
            id_of(1): ("TIMEOUT", "TIMEOUT", "gateway", NOON + SECOND),
            id_of(2): ("SENDING", None, None, None),
            id_of(3): ("TIMEOUT", LEASE_EXPIRED, "none", claim["claimed_at"]),
        }

    _on(database, scenario)
