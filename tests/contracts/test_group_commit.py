"""Many tasks write at once: they share commits, each learns its own fate, and one bad item harms nobody else."""

import asyncio
from random import Random
from typing import Any

import pytest
from sqlalchemy import create_engine, text

from pgw.core.ledger.engine.writer import LedgerUnavailable, WriteRefused
from pgw.core.ledger.payments import CLOSE, OPEN
from pgw.core.ledger.tables import attempts, outbox, payments, routing_decisions
from tests.ledgers import at_once, closes, gated, id_of, opened, opens, rows


def test_all_that_queues_during_a_commit_shares_the_next_one(database: str) -> None:
    async def scenario() -> None:
        async with opened(database) as ledger:
            runner = gated(ledger)
            assert await at_once(ledger, runner, [(OPEN, opens(number)) for number in range(1, 301)]) == [True] * 300
            assert runner.batches == [1, 300]
            assert [row["payment_id"] for row in await rows(ledger, payments)] == [id_of(n) for n in range(301)]
            assert len(await rows(ledger, attempts)) == len(await rows(ledger, routing_decisions)) == 301

    asyncio.run(scenario())


def test_every_waiter_is_told_its_own_fate(database: str) -> None:
    """Every third key is taken already: exactly those who ask for one of them lose."""

    async def scenario() -> None:
        async with opened(database) as ledger:
            for number in range(30, 40):
                assert await ledger.commit(OPEN, opens(number, key=f"taken-{number}")) is True
            runner = gated(ledger)
            keys = [f"taken-{30 + n // 3}" if n % 3 == 0 else f"free-{n}" for n in range(30)]
            asked = [(OPEN, opens(100 + n, key=key)) for n, key in enumerate(keys)]
            fates = await at_once(ledger, runner, asked)
            assert fates == [not key.startswith("taken") for key in keys]
            assert len(await rows(ledger, payments)) == 10 + 1 + 20

    asyncio.run(scenario())


def test_of_two_items_with_one_key_in_one_batch_one_wins(database: str) -> None:
    async def scenario() -> None:
        async with opened(database) as ledger:
            runner = gated(ledger)
            twins = [(OPEN, opens(number, key=f"twin-{number % 20}")) for number in range(20, 80)]
            fates = await at_once(ledger, runner, twins)
            assert fates == [True] * 20 + [False] * 40
            assert runner.batches == [1, 20, 20, 20]
            assert len(await rows(ledger, payments)) == 21

    asyncio.run(scenario())


def test_different_phases_share_a_commit(database: str) -> None:
    async def scenario() -> None:
        async with opened(database) as ledger:
            for number in range(1, 6):
                await ledger.commit(OPEN, opens(number))
            runner = gated(ledger)
            mixed = [(CLOSE, closes(n)) for n in range(1, 6)] + [(OPEN, opens(n)) for n in range(6, 9)]
            assert await at_once(ledger, runner, mixed) == [True] * 8
            assert runner.batches == [1, 8]
            statuses = [row["status"] for row in await rows(ledger, payments)]
            assert statuses == ["PROCESSING"] + ["SUCCESS"] * 5 + ["PROCESSING"] * 3

    asyncio.run(scenario())


REFUSE = "CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RAISE check_violation; END $$"
ON_SQLITE = "CREATE TRIGGER poison BEFORE INSERT ON payments"
AT_ONCE = "CREATE TRIGGER poison BEFORE INSERT ON payments FOR EACH ROW"
AT_COMMIT = "CREATE CONSTRAINT TRIGGER late AFTER INSERT ON payments DEFERRABLE INITIALLY DEFERRED FOR EACH ROW"

TRIGGERS = {
    "sqlite": (f"{ON_SQLITE} WHEN NEW.customer_id = 'poison' BEGIN SELECT RAISE(ABORT, 'poison'); END",),
    "postgresql": (
        REFUSE,
        f"{AT_ONCE} WHEN (NEW.customer_id = 'poison') EXECUTE FUNCTION refuse()",
        f"{AT_COMMIT} WHEN (NEW.customer_id = 'late poison') EXECUTE FUNCTION refuse()",
    ),
}
"""On PostgreSQL one of them speaks only when the commit itself is asked for."""


def _with_triggers(database: str) -> None:
    engine = create_engine(database)
    with engine.begin() as connection:
        for statement in TRIGGERS[engine.dialect.name]:
            connection.execute(text(statement))
    engine.dispose()


def _deep() -> Any:
    document: Any = {}
    for _ in range(5000):
        document = {"deeper": document}
    return document


POISON: dict[str, dict[str, Any]] = {
    "a lone surrogate": {"merchant_reference": "\ud800"},
    "a lone surrogate in its key": {"idempotency_key": "\udfff"},
    "a lone surrogate in a document": {"metadata": {"note": "\ud800"}},
    "an integer over 63 bits": {"amount_minor": 2**63},
    "an integer over 64 bits": {"amount_minor": 2**64},
    "an amount the CHECK refuses": {"amount_minor": 0},
    "a word for a number": {"amount_minor": "many"},
    "nothing where something must be": {"customer_id": None},
    "no moment": {"created_at": "not a moment"},
    "a payment id that is taken": {"payment_id": id_of(0)},
    "what a trigger refuses": {"customer_id": "poison"},
    "a document too deep to write": {"metadata": _deep()},
    "a value nobody can encode": {"metadata": {"note": object()}},
}
POSTGRES_POISON: dict[str, dict[str, Any]] = {
    "a NUL, which PostgreSQL has no place for": {"merchant_reference": "a\0b"},
    "what the commit itself refuses": {"customer_id": "late poison"},
}


@pytest.mark.parametrize("poison", POISON)
def test_a_poisoned_item_fails_alone(own_database: str, poison: str) -> None:
    _fails_alone(own_database, POISON[poison])


@pytest.mark.parametrize("poison", POSTGRES_POISON)
@pytest.mark.parametrize("empty_database", ["postgres"], indirect=True)
def test_what_only_postgresql_refuses_fails_alone(own_database: str, poison: str) -> None:
    """SQLite would store it; the doors let nothing of the kind in."""
    _fails_alone(own_database, POSTGRES_POISON[poison])


def _fails_alone(database: str, poison: dict[str, Any]) -> None:
    """The last neighbour is of another phase: a batch is one transaction, whatever is in it."""
    _with_triggers(database)
    bad = opens(13, **poison)

    async def scenario() -> None:
        async with opened(database) as ledger:
            await ledger.commit(OPEN, opens(40))
            writes = [(OPEN, opens(n) if n != 13 else bad) for n in range(1, 31)]
            fates = await at_once(ledger, gated(ledger), [*writes, (CLOSE, closes(40))])
            refusals = {n: fate for n, fate in enumerate(fates, start=1) if fate is not True}
            assert {n: type(fate) for n, fate in refusals.items()} == {13: WriteRefused}
            written = [row["payment_id"] for row in await rows(ledger, payments)]
            assert written == sorted(id_of(n) for n in (*range(31), 40) if n != 13)
            assert len(await rows(ledger, outbox)) == 2
            # The ledger is not harmed: the next item is written.
            assert await ledger.commit(OPEN, opens(99)) is True

    asyncio.run(scenario())


def test_poisoned_items_of_different_phases_fail_alone(database: str) -> None:
    """The bad close comes first in the batch, so that on PostgreSQL all that follows it is aborted with it."""
    bad: dict[int, dict[str, Any]] = {
        3: {"amount_minor": 0},
        4: {"merchant_reference": "\ud800"},
        17: {"amount_minor": 2**63},
    }
    bad_close = {"end_latency_ms": "long"}

    async def scenario() -> None:
        async with opened(database) as ledger:
            for number in (41, 42, 43):
                await ledger.commit(OPEN, opens(number))
            closing = [(CLOSE, closes(n) if n != 42 else closes(n) | bad_close) for n in (41, 42, 43)]
            opening = [(OPEN, opens(n, **bad.get(n, {}))) for n in range(1, 41)]
            fates = await at_once(ledger, gated(ledger), [*opening, *closing])
            told = dict(zip([*range(1, 41), 41, 42, 43], fates, strict=True))
            assert [n for n, fate in told.items() if isinstance(fate, WriteRefused)] == [*sorted(bad), 42]
            assert [n for n, fate in told.items() if fate is True] == [n for n in range(1, 44) if n not in {*bad, 42}]
            assert len(await rows(ledger, outbox)) == 4

    asyncio.run(scenario())


def test_cancelled_waiters_change_nothing_for_their_items(database: str) -> None:
    """A queued item is never taken back by who goes away: each is written once, and its retry is told so."""
    seed = 20260105
    rng = Random(seed)

    async def scenario() -> None:
        async with opened(database) as ledger:
            waiting = [asyncio.create_task(ledger.commit(OPEN, opens(number))) for number in range(1000)]
            await asyncio.sleep(0)
            for _ in range(40):
                for task in rng.sample(waiting, 10):
                    task.cancel()
                await asyncio.sleep(0)
            ends = await asyncio.gather(*waiting, return_exceptions=True)
            stayed = {end for end in ends if not isinstance(end, asyncio.CancelledError)}
            assert stayed == {True}, f"seed {seed}"
            again = await asyncio.gather(*(ledger.commit(OPEN, opens(number)) for number in range(1000)))
            assert again == [False] * 1000, f"seed {seed}"
            assert len(await rows(ledger, payments)) == len(await rows(ledger, attempts)) == 1000

    asyncio.run(scenario())


def test_closing_writes_all_that_is_queued(database: str) -> None:
    async def scenario() -> None:
        async with opened(database) as ledger:
            runner = gated(ledger)
            waiting = [asyncio.create_task(ledger.commit(OPEN, opens(n, key=f"key-{n % 40}"))) for n in range(60)]
            await asyncio.sleep(0)
            runner.gate.set()
            await ledger.close()
            assert await asyncio.gather(*waiting) == [True] * 40 + [False] * 20
            with pytest.raises(LedgerUnavailable) as refusal:
                await ledger.commit(OPEN, opens(99))
            assert refusal.value.written is False
        async with opened(database) as ledger:
            assert len(await rows(ledger, payments)) == 40

    asyncio.run(scenario())
