"""Whoever asks about an attempt has it alone, and only a definitive answer ends it, on both ledgers alike."""

import asyncio
from collections.abc import Awaitable, Callable
from datetime import timedelta
from typing import Any

import pytest

from pgw.core.ledger.due import due
from pgw.core.ledger.engine.ledger import OpenLedger
from pgw.core.ledger.payments import CLOSE, OPEN, TURN
from pgw.core.ledger.tables import attempts, outbox, payments, verification_checks
from pgw.core.ledger.verifications import CLAIM, RECORD, SETTLE, WIN, verification_of
from pgw.core.payment.outcome import Captured
from pgw.core.payment.payment import AttemptStatus, Status
from pgw.core.writes.attempts import Item
from tests.doubles import CAPTURED, CUSTOMER_DECLINE, GATEWAY_DECLINE, NOON, NOT_SENT, UNKNOWN
from tests.ledgers import all_of, claims, closes, id_of, opened, opens, records, rows, settles, turns

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


async def _unknown(ledger: OpenLedger, number: int = 1) -> Item:
    """Leave a payment whose outcome nobody knows, claimed by a verifier."""
    end = closes(number, UNKNOWN)
    claim = claims(number, end["end_next_check_at"])
    assert await _write(ledger, (OPEN, opens(number)), (CLOSE, end), (CLAIM, claim)) == [True] * 3
    return claim


def test_an_attempt_is_due_when_its_lease_is_over_and_not_before(database: str) -> None:
    async def scenario(ledger: OpenLedger) -> None:
        await ledger.commit(OPEN, opens(1))
        lease_until = NOON + timedelta(seconds=4.5)
        assert await ledger.read(due, lease_until - timedelta(microseconds=1), 10) == []
        (found,) = await ledger.read(due, lease_until, 10)
        assert (found.payment_id, found.attempt_number, found.due_at) == (id_of(1), 1, lease_until)
        assert (found.status, found.amount_minor, found.currency) == (AttemptStatus.SENDING, 1000, "INR")
        assert (found.created_at, found.checks_made) == (NOON, 0)

    _on(database, scenario)


def test_what_is_due_longest_is_listed_first_and_no_more_than_asked(database: str) -> None:
    """Among them moments without microseconds, which text would otherwise put after those that have some."""

    async def scenario(ledger: OpenLedger) -> None:
        offsets = [0.0, 0.5, 1.0, 0.000001, 1.000001, 0.999999, 2.0, 10.0]
        for number, offset in enumerate(offsets):
            moment = NOON + timedelta(seconds=offset)
            await ledger.commit(OPEN, opens(number, next_check_at=moment))
        listed = await ledger.read(due, NOON + timedelta(seconds=2), 6)
        assert [each.due_at for each in listed] == [NOON + timedelta(seconds=each) for each in sorted(offsets)[:6]]
        assert len(await ledger.read(due, NOON + timedelta(seconds=2), 100)) == 7

    _on(database, scenario)


def test_only_one_of_many_workers_claims(database: str) -> None:
    async def scenario(ledger: OpenLedger) -> None:
        await all_of(ledger, [(OPEN, opens(n)) for n in range(20)])
        due_at = opens(1)["next_check_at"]
        async with opened(database) as other:
            claiming = [(CLAIM, claims(n, due_at)) for n in range(20)]
            fates = await asyncio.gather(*(all_of(each, claiming) for each in (ledger, other, ledger, other)))
        assert [sum(1 for fate in each if fate is True) for each in zip(*fates, strict=True)] == [1] * 20
        assert {row["status"] for row in await rows(ledger, attempts)} == {"TIMEOUT"}
        assert {row["status"] for row in await rows(ledger, payments)} == {"PENDING_VERIFICATION"}
        assert {row["version"] for row in await rows(ledger, payments)} == {2}

    _on(database, scenario)


def test_a_claim_of_an_attempt_past_its_lease_makes_it_unknown(database: str) -> None:
    async def scenario(ledger: OpenLedger) -> None:
        await ledger.commit(OPEN, opens(1))
        claim = claims(1, opens(1)["next_check_at"])
        assert await ledger.commit(CLAIM, claim) is True
        attempt, payment = await _attempt(ledger), await _payment(ledger)
        assert (attempt["status"], attempt["error_code"], attempt["blame"]) == ("TIMEOUT", "LEASE_EXPIRED", "none")
        assert (attempt["ended_at"], attempt["next_check_at"]) == (claim["claimed_at"], claim["claimed_until"])
        assert (payment["status"], payment["gateway_used"]) == ("PENDING_VERIFICATION", "g1")

    _on(database, scenario)


def test_a_claim_of_an_unknown_attempt_keeps_what_is_known_of_it(database: str) -> None:
    async def scenario(ledger: OpenLedger) -> None:
        await _unknown(ledger)
        attempt, payment = await _attempt(ledger), await _payment(ledger)
        assert (attempt["status"], attempt["error_code"], attempt["ended_at"]) == ("TIMEOUT", "TIMEOUT", NOON)
        assert (payment["status"], payment["version"]) == ("PENDING_VERIFICATION", 2)

    _on(database, scenario)


def test_after_a_claim_no_other_gateway_is_announced(database: str) -> None:
    """The owner was away past its lease: whoever verifies now must not be overtaken by a second charge."""

    async def scenario(ledger: OpenLedger) -> None:
        await ledger.commit(OPEN, opens(1))
        await ledger.commit(CLAIM, claims(1, opens(1)["next_check_at"]))
        fates = await _write(ledger, (TURN, turns(1, GATEWAY_DECLINE)), (TURN, turns(1, NOT_SENT)))
        assert fates == [False, False]
        assert len(await rows(ledger, attempts)) == 1
        assert await rows(ledger, outbox) == []

    _on(database, scenario)


@pytest.mark.parametrize("verdict", [CAPTURED, CUSTOMER_DECLINE, NOT_SENT], ids=lambda each: type(each).__name__)
def test_a_definitive_end_merges_over_an_unknown_one(database: str, verdict: Any) -> None:
    """The owner comes back with an answer after the verifier has taken over: an answer is an answer."""

    async def scenario(ledger: OpenLedger) -> None:
        await ledger.commit(OPEN, opens(1))
        claim = claims(1, opens(1)["next_check_at"])
        await ledger.commit(CLAIM, claim)
        late = closes(1, verdict, at=claim["claimed_until"])
        assert await ledger.commit(CLOSE, late) is True
        attempt, payment = await _attempt(ledger), await _payment(ledger)
        assert attempt["status"] == payment["status"] == late["end_status"]
        assert attempt["next_check_at"] is None
        # The verifier that was asking meanwhile has nothing left to write.
        again = records(claim, claim["claimed_until"] + timedelta(seconds=5))
        assert await _write(ledger, (RECORD, again), (SETTLE, settles(claim, CAPTURED, 1))) == [False, False]
        assert (await _payment(ledger), await rows(ledger, verification_checks)) == (payment, [])

    _on(database, scenario)


def test_a_recorded_enquiry_moves_the_next_one_and_a_stale_worker_moves_nothing(database: str) -> None:
    async def scenario(ledger: OpenLedger) -> None:
        claim = await _unknown(ledger)
        again = NOON + timedelta(seconds=40)
        assert await ledger.commit(RECORD, records(claim, again)) is True
        assert await ledger.commit(RECORD, records(claim, again, check_number=2)) is False
        attempt = await _attempt(ledger)
        assert (attempt["next_check_at"], attempt["checks_made"], attempt["status"]) == (again, 1, "TIMEOUT")
        verification = await ledger.read(verification_of, id_of(1), Status.PENDING_VERIFICATION)
        assert verification is not None
        assert (verification.state, verification.checks_made, verification.last_result) == ("scheduled", 1, "PENDING")
        assert (verification.next_check_at, verification.gives_up_at) == (again, NOON + timedelta(days=5))

    _on(database, scenario)


@pytest.mark.parametrize(
    ("found", "attempt", "payment", "events"),
    [
        (CAPTURED, "SUCCESS", "SUCCESS", ["payment.attempted", "payment.completed", "payment.verified"]),
        (CUSTOMER_DECLINE, "FAILURE", "FAILURE", ["payment.attempted", "payment.completed", "payment.verified"]),
        (GATEWAY_DECLINE, "FAILURE", "FAILURE", ["payment.attempted", "payment.completed", "payment.verified"]),
        (WRONG_AMOUNT, "TIMEOUT", "MANUAL_REVIEW", ["payment.attempted", "payment.verified"]),
    ],
    ids=["captured", "customer decline", "gateway decline", "wrong amount"],
)
def test_a_definitive_answer_settles(database: str, found: Any, attempt: str, payment: str, events: list[str]) -> None:
    async def scenario(ledger: OpenLedger) -> None:
        claim = await _unknown(ledger)
        assert await ledger.commit(SETTLE, settles(claim, found, 1)) is True
        seen = await _attempt(ledger)
        assert (seen["status"], seen["next_check_at"], seen["checks_made"]) == (attempt, None, 1)
        assert (await _payment(ledger))["status"] == payment
        assert sorted(row["event"]["type"] for row in await rows(ledger, outbox)) == events
        assert len(await rows(ledger, verification_checks)) == 1

    _on(database, scenario)


def test_what_waits_for_a_person_is_ended_by_no_machine(database: str) -> None:
    async def scenario(ledger: OpenLedger) -> None:
        claim = await _unknown(ledger)
        await ledger.commit(SETTLE, settles(claim, WRONG_AMOUNT, 1))
        before = await _payment(ledger)
        await _write(ledger, (SETTLE, settles(claim, CAPTURED, 1, check_number=2)), (CLOSE, closes(1)))
        assert before["status"] == "MANUAL_REVIEW"
        assert await _payment(ledger) == before

    _on(database, scenario)


def test_one_attempt_of_a_payment_wins_its_money_and_only_while_it_is_open(database: str) -> None:
    """Only the winner may be captured; asking again for the same attempt is no second win."""

    async def scenario(ledger: OpenLedger) -> None:
        await _unknown(ledger)
        async with opened(database) as other:
            first, second = [{"payment_id": id_of(1), "attempt_number": number} for number in (1, 2)]
            fates = await asyncio.gather(ledger.commit(WIN, first), other.commit(WIN, second))
        assert sorted(fates) == [False, True]
        winner, loser = (first, second) if fates[0] else (second, first)
        assert await _write(ledger, (WIN, winner), (WIN, loser)) == [True, False]
        assert (await _payment(ledger))["winner_attempt"] == winner["attempt_number"]
        await _write(ledger, (OPEN, opens(2)), (CLOSE, closes(2)))
        assert await ledger.commit(WIN, {"payment_id": id_of(2), "attempt_number": 1}) is False

    _on(database, scenario)


def test_events_of_one_commit_keep_their_order(database: str) -> None:
    """An attempt ends before its payment does; who relays by position must find it so."""

    async def scenario(ledger: OpenLedger) -> None:
        claim = await _unknown(ledger, 1)
        await ledger.commit(SETTLE, settles(claim, CAPTURED, 1))
        await _write(ledger, (OPEN, opens(2)), (CLOSE, closes(2)))
        kinds = [row["event"]["type"] for row in await rows(ledger, outbox)]
        first = ["payment.attempted", "payment.verified", "payment.completed"]
        assert kinds == [*first, "payment.attempted", "payment.completed"]

    _on(database, scenario)


def test_a_payment_that_waits_for_a_person_is_not_said_to_be_completed(database: str) -> None:
    """The owner's capture arrives after a verifier saw another amount: the attempt learns it, the payment waits on."""

    async def scenario(ledger: OpenLedger) -> None:
        claim = await _unknown(ledger)
        await ledger.commit(SETTLE, settles(claim, WRONG_AMOUNT, 1))
        await _write(ledger, (CLOSE, closes(1)), (SETTLE, settles(claim, CAPTURED, 1, check_number=2)))
        assert (await _payment(ledger))["status"] == "MANUAL_REVIEW"
        assert "payment.completed" not in {row["event"]["type"] for row in await rows(ledger, outbox)}

    _on(database, scenario)
