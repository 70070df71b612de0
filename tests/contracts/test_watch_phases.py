"""What must not capture is watched from the commit that ends it, by one worker at a time, on both ledgers alike."""

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable
from datetime import datetime, timedelta
from typing import Any

import pytest

from pgw.core.ledger.due import due_monitors
from pgw.core.ledger.engine.ledger import OpenLedger
from pgw.core.ledger.late_captures import BOOK_LATE_CAPTURE, CLAIM_MONITOR, MOVE_MONITOR, REVERSE
from pgw.core.ledger.payments import CLOSE, OPEN, TURN
from pgw.core.ledger.tables import attempts, outbox, payments, transfers, watches
from pgw.core.ledger.verifications import CLAIM, SETTLE
from pgw.core.payment.outcome import Blame, Captured
from pgw.core.verification.enquiry import CHECK_LEASE, Absent
from pgw.core.writes.attempts import Item, subject_of
from pgw.core.writes.verification import late_capture, reversing
from tests.doubles import CAPTURED, CUSTOMER_DECLINE, GATEWAY_DECLINE, NOON, NOT_SENT, UNKNOWN
from tests.ledgers import all_of, claims, closes, id_of, opened, opens, plan_of, rows, settles, turns

Scenario = Callable[[OpenLedger], Awaitable[None]]
FAR = NOON + timedelta(days=1)


def _on(database: str, scenario: Scenario) -> None:
    async def run() -> None:
        async with opened(database) as ledger:
            await scenario(ledger)

    asyncio.run(run())


async def _write(ledger: OpenLedger, *writes: tuple[Any, Item]) -> list[bool]:
    return [await ledger.commit(phase, item) for phase, item in writes]


def _claim(payment: int, due_at: datetime, at: datetime = FAR) -> Item:
    named = {"payment_id": id_of(payment), "attempt_number": 1, "gateway_id": "g1"}
    return {**named, "due_at": due_at, "claimed_until": at + CHECK_LEASE}


def _moved(claim: Item, state: str, next_check_at: datetime | None, was: str = "WATCHING") -> Item:
    step = {"was": was, "state": state, "next_check_at": next_check_at, "check_number": 1, "at": FAR}
    return {**claim, **step, "evidence": {"answer": "FAILURE"}}


async def _declined(ledger: OpenLedger, number: int = 1) -> Item:
    """Leave a payment that failed, its watch claimed."""
    end = closes(number, CUSTOMER_DECLINE)
    claim = _claim(number, end["watch_next_check_at"])
    assert await _write(ledger, (OPEN, opens(number)), (CLOSE, end), (CLAIM_MONITOR, claim)) == [True] * 3
    return claim


def _found(claim: Item) -> Item:
    return late_capture(claim, CAPTURED, FAR, id_of(501))


def _given_back(claim: Item, number: int = 1) -> Item:
    subject = subject_of(id_of(number), plan_of(id_of(number)))
    return reversing(claim, subject, (1000, "INR"), "back-1", FAR, id_of(502))


async def _watch(ledger: OpenLedger) -> dict[str, Any]:
    return (await rows(ledger, watches))[0]


@pytest.mark.parametrize(
    ("verdict", "begins"),
    [(GATEWAY_DECLINE, True), (NOT_SENT, False)],
    ids=["declined", "not sent"],
)
def test_an_attempt_that_another_follows_is_watched_unless_it_was_never_sent(
    database: str, verdict: Any, begins: bool
) -> None:
    async def scenario(ledger: OpenLedger) -> None:
        turn = turns(1, verdict)
        await _write(ledger, (OPEN, opens(1)), (TURN, turn), (CLOSE, closes(1, number=2)))
        found = await rows(ledger, watches)
        assert len(found) == begins
        if begins:
            (watch,) = found
            assert (watch["attempt_number"], watch["gateway_id"], watch["state"]) == (1, "g1", "WATCHING")
            assert (watch["until"], watch["next_check_at"]) == (NOON + timedelta(days=5), turn["watch_next_check_at"])
            assert (watch["cause"], watch["checks_made"], watch["evidence"]) == ("DECLINED", 0, None)

    _on(database, scenario)


@pytest.mark.parametrize(
    ("verdict", "begins"),
    [(CUSTOMER_DECLINE, 1), (GATEWAY_DECLINE, 1), (NOT_SENT, 0), (UNKNOWN, 0), (CAPTURED, 0)],
    ids=lambda each: type(each).__name__,
)
def test_a_last_attempt_is_watched_when_it_failed(database: str, verdict: Any, begins: int) -> None:
    async def scenario(ledger: OpenLedger) -> None:
        await _write(ledger, (OPEN, opens(1)), (CLOSE, closes(1, verdict)), (CLOSE, closes(1, verdict)))
        assert Counter(row["state"] for row in await rows(ledger, watches)) == Counter(
            {"WATCHING": begins} if begins else {}
        )

    _on(database, scenario)


@pytest.mark.parametrize(
    ("found", "cause"),
    [
        (CUSTOMER_DECLINE, "DECLINED"),
        (Absent(NOON, NOON + timedelta(minutes=10), Blame.GATEWAY), "ABSENT"),
    ],
    ids=["declined", "absent"],
)
def test_an_attempt_that_verification_failed_is_watched(database: str, found: Any, cause: str) -> None:
    async def scenario(ledger: OpenLedger) -> None:
        end = closes(1, UNKNOWN)
        claim = claims(1, end["end_next_check_at"])
        await _write(ledger, (OPEN, opens(1)), (CLOSE, end), (CLAIM, claim), (SETTLE, settles(claim, found, 1)))
        watch = await _watch(ledger)
        assert (watch["state"], watch["cause"]) == ("WATCHING", cause)

    _on(database, scenario)


def test_watches_are_listed_when_they_are_due_the_longest_waiting_first(database: str) -> None:
    async def scenario(ledger: OpenLedger) -> None:
        due_at = {}
        for number in range(5):
            end = closes(number, CUSTOMER_DECLINE, at=NOON + timedelta(hours=number))
            await _write(ledger, (OPEN, opens(number)), (CLOSE, end))
            due_at[id_of(number)] = end["watch_next_check_at"]
        listed = await ledger.read(due_monitors, FAR, 4)
        assert [each.payment_id for each in listed] == sorted(due_at, key=lambda each: due_at[each])[:4]
        assert await ledger.read(due_monitors, min(due_at.values()) - timedelta(microseconds=1), 4) == []
        assert await ledger.read(due_monitors, FAR, 4, frozenset({"g1"})) == []
        assert {(each.state, each.amount_minor, each.transaction_ref) for each in listed} == {("WATCHING", None, None)}

    _on(database, scenario)


def test_only_one_of_many_workers_claims_a_watch(database: str) -> None:
    async def scenario(ledger: OpenLedger) -> None:
        ends = {number: closes(number, CUSTOMER_DECLINE) for number in range(10)}
        for number, end in ends.items():
            await _write(ledger, (OPEN, opens(number)), (CLOSE, end))
        async with opened(database) as other:
            claiming = [(CLAIM_MONITOR, _claim(number, end["watch_next_check_at"])) for number, end in ends.items()]
            fates = await asyncio.gather(*(all_of(each, claiming) for each in (ledger, other, ledger, other)))
        assert [sum(1 for fate in each if fate is True) for each in zip(*fates, strict=True)] == [1] * 10
        assert await ledger.read(due_monitors, FAR, 10) == []
        assert len(await ledger.read(due_monitors, FAR + CHECK_LEASE, 10)) == 10

    _on(database, scenario)


def test_a_look_that_found_nothing_moves_the_next_one_and_a_stale_worker_moves_nothing(database: str) -> None:
    async def scenario(ledger: OpenLedger) -> None:
        claim = await _declined(ledger)
        again = FAR + timedelta(days=1)
        moves = [(MOVE_MONITOR, _moved(claim, "WATCHING", again)), (MOVE_MONITOR, _moved(claim, "OVER", None))]
        assert await _write(ledger, *moves, (BOOK_LATE_CAPTURE, _found(claim))) == [True, False, False]
        watch = await _watch(ledger)
        assert (watch["state"], watch["next_check_at"], watch["checks_made"]) == ("WATCHING", again, 1)
        assert (watch["evidence"], watch["updated_at"]) == ({"answer": "FAILURE"}, FAR)
        assert await rows(ledger, transfers) == []

    _on(database, scenario)


def test_money_that_came_to_light_is_booked_before_it_goes_back(database: str) -> None:
    """A worker that dies here leaves it due, with all that the next one needs; the payment keeps its answer."""

    async def scenario(ledger: OpenLedger) -> None:
        claim = await _declined(ledger)
        before = await rows(ledger, payments)
        assert await _write(ledger, (BOOK_LATE_CAPTURE, _found(claim)), (BOOK_LATE_CAPTURE, _found(claim))) == [
            True,
            False,
        ]
        assert await rows(ledger, payments) == before
        watch = await _watch(ledger)
        assert (watch["state"], watch["transaction_ref"], watch["checks_made"]) == ("REVERSING", "ref-1", 0)
        assert watch["evidence"]["found"]["amount_minor"] == 1000
        (booked,) = await rows(ledger, transfers)
        assert (booked["kind"], booked["credit_account"], booked["amount_minor"]) == (
            "duplicate_capture",
            "suspense",
            1000,
        )
        assert (await rows(ledger, attempts))[0]["transaction_ref"] == "ref-1"
        (due,) = await ledger.read(due_monitors, claim["claimed_until"], 10)
        assert (due.state, due.transaction_ref, due.amount_minor, due.currency) == ("REVERSING", "ref-1", 1000, "INR")
        assert due.reversal_key == f"reversal-{id_of(1)}-1"

    _on(database, scenario)


def test_money_that_waits_for_a_person_is_not_booked_again_by_a_watch(database: str) -> None:
    """Its owner came back with a decline after a verifier had found money of another amount: the money is one."""

    async def scenario(ledger: OpenLedger) -> None:
        unknown, declined = closes(1, UNKNOWN), closes(1, CUSTOMER_DECLINE)
        claim = claims(1, unknown["end_next_check_at"])
        settle = settles(claim, Captured("ref-1", 999, "INR"), 1)
        writes = (OPEN, opens(1)), (CLOSE, unknown), (CLAIM, claim), (SETTLE, settle), (CLOSE, declined)
        assert await _write(ledger, *writes) == [True] * 5
        watch = _claim(1, declined["watch_next_check_at"])
        assert await _write(ledger, (CLAIM_MONITOR, watch), (BOOK_LATE_CAPTURE, _found(watch))) == [True, False]
        (booked,) = await rows(ledger, transfers)
        assert (booked["kind"], booked["amount_minor"]) == ("unmatched", 999)
        assert (await _watch(ledger))["state"] == "WATCHING"
        (due,) = await ledger.read(due_monitors, FAR + CHECK_LEASE, 10)
        assert (due.state, due.amount_minor) == ("WATCHING", 999)

    _on(database, scenario)


def test_a_reversal_is_written_once_with_its_transfer_and_its_event(database: str) -> None:
    async def scenario(ledger: OpenLedger) -> None:
        claim = await _declined(ledger)
        await ledger.commit(BOOK_LATE_CAPTURE, _found(claim))
        before = await rows(ledger, payments)
        back = _given_back(claim)
        assert await _write(ledger, (REVERSE, back), (REVERSE, back)) == [True, False]
        watch = await _watch(ledger)
        assert (watch["state"], watch["reversal_ref"], watch["next_check_at"]) == ("REVERSED", "back-1", None)
        kinds = {row["kind"]: (row["debit_account"], row["credit_account"]) for row in await rows(ledger, transfers)}
        assert kinds == {"duplicate_capture": ("gateway:g1", "suspense"), "reversal": ("suspense", "gateway:g1")}
        told = [row["event"] for row in await rows(ledger, outbox)][-1]
        assert (told["type"], told["status"], told["attempt_number"]) == ("payment.duplicate_reversed", "REVERSED", 1)
        assert (await rows(ledger, attempts))[0]["status"] == "REVERSED"
        assert await rows(ledger, payments) == before

    _on(database, scenario)


def test_nothing_goes_back_that_was_not_booked(database: str) -> None:
    async def scenario(ledger: OpenLedger) -> None:
        claim = await _declined(ledger)
        assert await ledger.commit(REVERSE, _given_back(claim)) is False
        assert await rows(ledger, transfers) == []
        moves = [(MOVE_MONITOR, _moved(claim, state, None)) for state in ("OVER", "MANUAL_REVIEW")]
        assert await _write(ledger, *moves, (BOOK_LATE_CAPTURE, _found(claim))) == [True, False, False]

    _on(database, scenario)
