"""Events get numbers 1, 2, 3 in an order that no commit confuses; dead ones are named, and told again as new ones."""

import asyncio
import contextlib
from collections.abc import Awaitable, Callable
from datetime import timedelta
from random import Random
from typing import Any

import psycopg
import pytest

from pgw.core.errors import PgwError
from pgw.core.flow.metrics.leader import SoleLeader
from pgw.core.flow.metrics.relay import Relay
from pgw.core.ledger.engine import on_postgres
from pgw.core.ledger.engine.ledger import OpenLedger
from pgw.core.ledger.outbox import (
    DIE,
    MAX_DEAD,
    MAX_PUBLISHED,
    NOTHING,
    PUBLISH,
    REQUEUE,
    DeadEvent,
    Numbering,
    OutboxStatus,
    dead,
    first_since,
    last_published,
    numbering,
    rows_after,
    status,
)
from pgw.core.ledger.payments import CLOSE, OPEN
from tests.doubles import LEDGER_ID, NOON, VirtualClock
from tests.events import POISON, attempted, published, put
from tests.ledgers import administrator, closes, opened, opens

Scenario = Callable[[OpenLedger], Awaitable[None]]


def _on(database: str, scenario: Scenario) -> None:
    async def run() -> None:
        async with opened(database) as ledger:
            await scenario(ledger)

    asyncio.run(run())


def _relay(ledger: OpenLedger) -> Relay:
    return Relay(ledger, LEDGER_ID, SoleLeader(), VirtualClock())


def test_events_are_numbered_in_the_order_of_their_positions(database: str) -> None:
    put(database, [attempted(n) for n in range(1, 6)])

    async def scenario(ledger: OpenLedger) -> None:
        assert await ledger.read(numbering) == Numbering(0, is_waiting=True)
        assert await ledger.commit(PUBLISH, {"first": 1}) is True
        assert await ledger.read(numbering) == Numbering(5, is_waiting=False)
        assert [(n, attempted(n).event_id) for n in range(1, 6)] == [
            (number, event["event_id"]) for number, event in await published(ledger)
        ]

    _on(database, scenario)


@pytest.mark.parametrize("first", [0, 1, 3, 5, 7])
def test_only_the_next_number_wins(database: str, first: int) -> None:
    """A relay that was away knows an old last number: what it wants to give is given already."""
    put(database, [attempted(n) for n in range(1, 6)])

    async def scenario(ledger: OpenLedger) -> None:
        assert await ledger.commit(PUBLISH, {"first": 1}) is True
        put(database, [attempted(6)])
        assert await ledger.commit(PUBLISH, {"first": first}) is False
        assert await ledger.read(last_published) == 5
        assert await ledger.commit(PUBLISH, {"first": 6}) is True
        assert await ledger.commit(PUBLISH, {"first": 7}) is False

    _on(database, scenario)


def test_a_commit_numbers_a_bounded_part_and_the_relay_goes_on(database: str) -> None:
    put(database, [attempted(n) for n in range(1, MAX_PUBLISHED + 12)])

    async def scenario(ledger: OpenLedger) -> None:
        assert await ledger.commit(PUBLISH, {"first": 1}) is True
        assert await ledger.read(last_published) == MAX_PUBLISHED
        assert await _relay(ledger).step() == 11
        assert await _relay(ledger).step() == 0
        assert [number for number, _ in await published(ledger)] == list(range(1, MAX_PUBLISHED + 12))

    _on(database, scenario)


def test_a_payments_events_are_published_in_their_order(database: str) -> None:
    """They share commits with the writes of payments, on the same writer."""

    async def scenario(ledger: OpenLedger) -> None:
        relay = _relay(ledger)

        async def pay(number: int) -> None:
            assert await ledger.commit(OPEN, opens(number))
            assert await ledger.commit(CLOSE, closes(number))

        paying = [asyncio.create_task(pay(number)) for number in range(1, 80)]
        while not all(each.done() for each in paying):
            await relay.step()
        await relay.step()
        told = await published(ledger)
        assert [number for number, _ in told] == list(range(1, 159))
        orders: dict[str, list[str]] = {}
        for _, event in told:
            orders.setdefault(event["payment_id"], []).append(event["type"])
        assert list(orders.values()) == [["payment.attempted", "payment.completed"]] * 79

    _on(database, scenario)


@pytest.mark.parametrize("empty_database", ["postgres"], indirect=True)
def test_two_relays_and_commits_in_any_order_leave_no_gap_and_no_duplicate(own_database: str) -> None:
    """Nobody leads: both relays number at once while transactions end long after they got their positions."""
    seed = 20260105
    rng = Random(seed)
    writers, rounds = 6, 12

    async def write(number: int) -> None:
        address = own_database.replace("+psycopg", "")
        async with await psycopg.AsyncConnection.connect(address) as session:
            for turn in range(rounds):
                for part in range(rng.randint(1, 4)):
                    document = f'{{"writer": {number}, "turn": {turn}, "part": {part}}}'
                    await session.execute("INSERT INTO outbox (event) VALUES (%s)", (document,))
                    await asyncio.sleep(0)
                if rng.random() < 0.2:
                    await session.rollback()
                else:
                    await session.commit()

    async def relay(ledger: OpenLedger, done: asyncio.Event) -> None:
        relaying = _relay(ledger)
        while not done.is_set():
            # The one that came second may be refused on the index of numbers, or be a deadlock's victim.
            with contextlib.suppress(PgwError):
                await relaying.step()

    async def scenario() -> None:
        done = asyncio.Event()
        async with opened(own_database) as one, opened(own_database) as two:
            relays = [asyncio.create_task(relay(ledger, done)) for ledger in (one, two)]
            await asyncio.gather(*(write(number) for number in range(writers)))
            done.set()
            await asyncio.gather(*relays)
            await _relay(one).step()
            assert await one.read(numbering) == Numbering(await one.read(last_published), is_waiting=False)
            told = await published(one)
            assert [number for number, _ in told] == list(range(1, len(told) + 1)), f"seed {seed}"
            keys = [tuple(event.values()) for _, event in told]
            assert len(set(keys)) == len(keys), f"seed {seed}"
            for number in range(writers):
                mine = [key for key in keys if key[0] == number]
                assert mine == sorted(mine), f"seed {seed}"

    asyncio.run(scenario())


@pytest.mark.parametrize("empty_database", ["postgres"], indirect=True)
def test_numbering_looks_up_what_it_numbers_however_much_waits(own_database: str) -> None:
    """Planned on an empty table, as a new ledger's first relay does, and run when a hundred thousand events wait."""
    statements = on_postgres.PostgresStatements(PUBLISH)
    with administrator(own_database) as session:
        session.execute("ALTER TABLE outbox SET (autovacuum_enabled = off)")
        session.execute(on_postgres.PLANNING)
        text = psycopg.ClientCursor(session).mogrify(statements.text, statements.constants)
        session.execute(f"PREPARE numbering (text) AS {text}".encode())
        call = """EXECUTE numbering ('[{"first": 1}]')"""
        session.execute(call.encode())
        session.execute("INSERT INTO outbox (event) SELECT '{}' FROM generate_series(1, 100000)")
        plan = session.execute(b"EXPLAIN (ANALYZE, FORMAT JSON) " + call.encode()).fetchone()
        assert plan is not None
        assert max(_rows(plan[0][0]["Plan"])) == MAX_PUBLISHED


def _rows(node: dict[str, Any]) -> list[float]:
    """List how many rows each part of a plan has looked at, those it threw away included."""
    looked = node["Actual Rows"] + node.get("Rows Removed by Filter", 0) + node.get("Rows Removed by Join Filter", 0)
    return [looked * node["Actual Loops"], *(rows for each in node.get("Plans", ()) for rows in _rows(each))]


def test_rows_are_read_in_order_as_they_were_written(database: str) -> None:
    put(database, [attempted(n, merchant_id="ü 漢 \U0001f600") for n in range(1, 8)])

    async def scenario(ledger: OpenLedger) -> None:
        assert await ledger.read(rows_after, 0, 10) == []
        await _relay(ledger).step()
        assert [number for number, _ in await ledger.read(rows_after, 2, 3)] == [3, 4, 5]
        assert [number for number, _ in await ledger.read(rows_after, 5, 300)] == [6, 7]
        assert [event["merchant_id"] for _, event in await published(ledger)] == ["ü 漢 \U0001f600"] * 7

    _on(database, scenario)


@pytest.mark.parametrize(
    ("seconds", "expected"), [(-5, 1), (0, 1), (0.5, 2), (1, 2), (250, 251), (499, 500), (500, 501)]
)
def test_the_first_event_since_a_moment_is_found(database: str, seconds: float, expected: int) -> None:
    put(database, [attempted(n, NOON + timedelta(seconds=n)) for n in range(500)])

    async def scenario(ledger: OpenLedger) -> None:
        assert await ledger.read(first_since, NOON) == 1
        await _relay(ledger).step()
        assert expected == await ledger.read(first_since, NOON + timedelta(seconds=seconds))

    _on(database, scenario)


@pytest.mark.parametrize("place", [0, 150, 400, 500])
def test_events_told_again_long_after_do_not_hide_the_first_since_a_moment(database: str, place: int) -> None:
    """As many old ones as are requeued at once, and some that are no events, wherever they stand among the others."""
    fresh = [attempted(n, NOON + timedelta(seconds=n)) for n in range(500)]
    stale = [POISON] * 5 + [attempted(n, NOON - timedelta(hours=5)) for n in range(MAX_DEAD)]
    put(database, [attempted(1, NOON - timedelta(hours=9)), *fresh[:place], *stale, *fresh[place:]])

    async def scenario(ledger: OpenLedger) -> None:
        await _relay(ledger).step()
        found = await ledger.read(first_since, NOON)
        assert 2 <= found <= (2 if place else 2 + len(stale))

    _on(database, scenario)


def test_a_dead_event_is_named_once_and_is_nothing_to_its_readers(database: str) -> None:
    put(database, [attempted(1), POISON, attempted(3)])

    async def scenario(ledger: OpenLedger) -> None:
        assert await ledger.commit(DIE, {"published": 2, "dead_reason": "not yet published"}) is False
        await _relay(ledger).step()
        assert await ledger.commit(DIE, {"published": 2, "dead_reason": "no event"}) is True
        assert await ledger.commit(DIE, {"published": 2, "dead_reason": "another's word"}) is False
        assert await ledger.commit(DIE, {"published": 4, "dead_reason": "not there"}) is False
        (found,) = await ledger.read(dead)
        assert (found.published, found.reason) == (2, "no event")
        assert '"gateway_id"' in found.event
        rows = await ledger.read(rows_after, 0, 10)
        assert [row.published for row in rows] == [1, 2, 3]
        assert rows[1].event == NOTHING

    _on(database, scenario)


def test_a_requeued_event_is_published_anew_and_no_number_is_given_twice(database: str) -> None:
    """The dead one was the last: were its number free again, the next event would get it."""
    put(database, [attempted(1), attempted(2)])

    async def scenario(ledger: OpenLedger) -> None:
        relay = _relay(ledger)
        await relay.step()
        assert await ledger.commit(REQUEUE, {"published": 2}) is False
        assert await ledger.commit(DIE, {"published": 2, "dead_reason": "why"}) is True
        assert await ledger.commit(REQUEUE, {"published": 2}) is True
        assert await ledger.commit(REQUEUE, {"published": 2}) is False
        assert await ledger.commit(DIE, {"published": 2, "dead_reason": "again"}) is False
        put(database, [attempted(4)])
        assert await relay.step() == 2
        told = await published(ledger)
        assert [number for number, _ in told] == [1, 2, 3, 4]
        assert [event and event["event_id"] for _, event in told] == [
            attempted(1).event_id,
            None,
            attempted(2).event_id,
            attempted(4).event_id,
        ]
        assert await ledger.read(dead) == []

    _on(database, scenario)


def test_the_status_counts_what_waits_and_what_is_dead(database: str) -> None:
    async def scenario(ledger: OpenLedger) -> None:
        assert await ledger.read(status) == OutboxStatus(waiting=0, oldest_at=None, last_published=0, dead=0)
        put(database, [attempted(n, NOON + timedelta(seconds=n)) for n in range(4)])
        assert await ledger.read(status) == OutboxStatus(waiting=4, oldest_at=NOON, last_published=0, dead=0)
        await _relay(ledger).step()
        put(database, [POISON])
        for number in (1, 2):
            assert await ledger.commit(DIE, {"published": number, "dead_reason": "why"})
        assert await ledger.commit(REQUEUE, {"published": 1})
        assert await ledger.read(status) == OutboxStatus(waiting=2, oldest_at=None, last_published=4, dead=1)
        assert [type(each) for each in await ledger.read(dead)] == [DeadEvent]

    _on(database, scenario)
