"""Money is booked once, in the commit that makes it true, and never changed, on both ledgers alike."""

import asyncio
from collections.abc import Awaitable, Callable
from datetime import timedelta
from typing import Any

import pytest
from sqlalchemy import create_engine, update
from sqlalchemy.exc import DBAPIError

from pgw.core.ledger.engine.ledger import OpenLedger
from pgw.core.ledger.engine.writer import WriteRefused
from pgw.core.ledger.payments import CLOSE, OPEN, TURN
from pgw.core.ledger.tables import attempts, payments, transfers, watches
from pgw.core.ledger.verifications import CLAIM, SETTLE
from pgw.core.payment.outcome import Captured
from pgw.core.writes.attempts import Item
from tests.doubles import CAPTURED, CUSTOMER_DECLINE, GATEWAY_DECLINE, NOON, NOT_SENT, UNKNOWN
from tests.ledgers import claims, closes, id_of, opened, opens, rows, settles, turns

WRONG_AMOUNT = Captured("ref-1", 999, "USD")
Scenario = Callable[[OpenLedger], Awaitable[None]]


def _on(database: str, scenario: Scenario) -> None:
    async def run() -> None:
        async with opened(database) as ledger:
            await scenario(ledger)

    asyncio.run(run())


async def _write(ledger: OpenLedger, *writes: tuple[Any, Item]) -> list[bool]:
    return [await ledger.commit(phase, item) for phase, item in writes]


async def _unknown(ledger: OpenLedger) -> Item:
    end = closes(1, UNKNOWN)
    claim = claims(1, end["end_next_check_at"])
    assert await _write(ledger, (OPEN, opens(1)), (CLOSE, end), (CLAIM, claim)) == [True] * 3
    return claim


def _ended_as(database: str, status: str) -> None:
    """Let somebody else end the payment, as a person does."""
    engine = create_engine(database)
    with engine.begin() as connection:
        connection.execute(update(payments).values(status=status))
    engine.dispose()


async def _booked(ledger: OpenLedger) -> list[tuple[Any, ...]]:
    names = ("payment_id", "attempt_number", "kind", "debit_account", "credit_account", "amount_minor", "currency")
    return [tuple(row[name] for name in names) for row in await rows(ledger, transfers)]


CAPTURE = (id_of(1), 1, "capture", "gateway:g1", "merchant:m_001", 1000, "INR")
DUPLICATE = (id_of(1), 1, "duplicate_capture", "gateway:g1", "suspense", 1000, "INR")
UNMATCHED = (id_of(1), 1, "unmatched", "gateway:g1", "suspense", 999, "USD")


def test_a_close_books_the_capture_that_makes_it_a_success_once(database: str) -> None:
    async def scenario(ledger: OpenLedger) -> None:
        assert await _write(ledger, (OPEN, opens(1)), (CLOSE, closes(1)), (CLOSE, closes(1))) == [True, True, False]
        assert await _booked(ledger) == [CAPTURE]
        assert (await rows(ledger, transfers))[0]["booked_at"] == NOON
        assert await rows(ledger, watches) == []

    _on(database, scenario)


@pytest.mark.parametrize("verdict", [CUSTOMER_DECLINE, NOT_SENT, UNKNOWN], ids=lambda each: type(each).__name__)
def test_a_close_without_money_books_none(database: str, verdict: Any) -> None:
    async def scenario(ledger: OpenLedger) -> None:
        await _write(ledger, (OPEN, opens(1)), (CLOSE, closes(1, verdict)))
        assert await _booked(ledger) == []

    _on(database, scenario)


@pytest.mark.parametrize(
    ("found", "booked", "status"),
    [
        (CAPTURED, [CAPTURE], "SUCCESS"),
        (CUSTOMER_DECLINE, [], "FAILURE"),
        (WRONG_AMOUNT, [UNMATCHED], "MANUAL_REVIEW"),
        (Captured("ref-1", 0, "INR"), [], "MANUAL_REVIEW"),
        (Captured("ref-1", 2**70, "INR"), [], "MANUAL_REVIEW"),
    ],
    ids=["captured", "declined", "wrong amount", "nothing", "more than there is"],
)
def test_what_an_enquiry_finds_is_booked_as_the_gateway_names_it(
    database: str, found: Any, booked: list[Any], status: str
) -> None:
    async def scenario(ledger: OpenLedger) -> None:
        claim = await _unknown(ledger)
        assert await ledger.commit(SETTLE, settles(claim, found, 1)) is True
        assert await _booked(ledger) == booked
        assert (await rows(ledger, payments))[0]["status"] == status

    _on(database, scenario)


@pytest.mark.parametrize("status", ["SUCCESS", "FAILURE"])
@pytest.mark.parametrize("late", ["settle", "close"])
def test_money_for_a_payment_that_had_ended_goes_to_suspense_and_is_due_to_go_back(
    database: str, status: str, late: str
) -> None:
    """The payment keeps its answer; whoever crashes after this commit leaves a reversal that is due."""

    async def scenario(ledger: OpenLedger) -> None:
        claim = await _unknown(ledger)
        _ended_as(database, status)
        at = claim["claimed_at"]
        write = (SETTLE, settles(claim, CAPTURED, 1)) if late == "settle" else (CLOSE, closes(1, at=at))
        assert await _write(ledger, write) == [True]
        assert (await rows(ledger, payments))[0]["status"] == status
        assert await _booked(ledger) == [DUPLICATE]
        (watch,) = await rows(ledger, watches)
        assert (watch["state"], watch["cause"], watch["gateway_id"]) == ("REVERSING", "DUPLICATE", "g1")
        assert (watch["next_check_at"], watch["transaction_ref"], watch["checks_made"]) == (at, "ref-1", 0)
        assert watch["evidence"]["payment_id"] == id_of(1)
        assert watch["reversal_key"] == f"reversal-{id_of(1)}-1"

    _on(database, scenario)


def test_money_for_a_payment_that_waits_for_a_person_waits_with_it(database: str) -> None:
    async def scenario(ledger: OpenLedger) -> None:
        claim = await _unknown(ledger)
        await ledger.commit(SETTLE, settles(claim, WRONG_AMOUNT, 1))
        await ledger.commit(CLOSE, closes(1, at=claim["claimed_at"]))
        assert await _booked(ledger) == [UNMATCHED]
        assert await rows(ledger, watches) == []

    _on(database, scenario)


def test_a_second_capture_of_a_payment_is_refused_whatever_wants_to_book_it(database: str) -> None:
    """The last wall: a payment whose money is booked cannot be made a success once more."""

    async def scenario(ledger: OpenLedger) -> None:
        await _write(ledger, (OPEN, opens(1)), (TURN, turns(1, GATEWAY_DECLINE)), (CLOSE, closes(1, number=2)))
        engine = create_engine(database)
        with engine.begin() as connection:
            connection.execute(update(payments).values(status="PENDING_VERIFICATION"))
            connection.execute(update(attempts).values(status="TIMEOUT"))
        engine.dispose()
        before = await _booked(ledger)
        with pytest.raises(WriteRefused):
            await ledger.commit(CLOSE, closes(1, number=1, at=NOON + timedelta(seconds=1)))
        assert await _booked(ledger) == before

    _on(database, scenario)


def test_what_an_attempt_took_is_booked_once_whatever_it_would_be_booked_as(
    database: str, caplog: pytest.LogCaptureFixture
) -> None:
    """The wall behind the phases: what would book it anew is refused as a whole, and said aloud."""

    async def scenario(ledger: OpenLedger) -> None:
        claim = await _unknown(ledger)
        await ledger.commit(SETTLE, settles(claim, WRONG_AMOUNT, 1))
        _ended_as(database, "FAILURE")
        with pytest.raises(WriteRefused):
            await ledger.commit(CLOSE, closes(1, at=claim["claimed_at"]))
        assert await _booked(ledger) == [UNMATCHED]
        assert (await rows(ledger, attempts))[0]["status"] == "TIMEOUT"
        assert await rows(ledger, watches) == []

    _on(database, scenario)
    told = [each.getMessage() for each in caplog.records if each.levelname == "CRITICAL"]
    assert told == [f"the ledger refused one close item, payment_id {id_of(1)}"]


@pytest.mark.parametrize("statement", [update(transfers).values(amount_minor=1), transfers.delete()], ids=["u", "d"])
def test_what_is_booked_stands_for_ever(database: str, statement: Any) -> None:
    async def scenario(ledger: OpenLedger) -> None:
        await _write(ledger, (OPEN, opens(1)), (CLOSE, closes(1)))
        before = await _booked(ledger)
        engine = create_engine(database)
        with pytest.raises(DBAPIError, match="append-only"), engine.begin() as connection:
            connection.execute(statement)
        engine.dispose()
        assert await _booked(ledger) == before

    _on(database, scenario)
