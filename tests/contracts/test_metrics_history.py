"""A minute's row grows with what is known of the minute; nothing that knows less ever takes its place."""

import asyncio
from collections.abc import Awaitable, Callable
from datetime import timedelta
from typing import Any

import pytest

from pgw.core.flow.metrics.minutes import minute_write
from pgw.core.ledger.engine.ledger import OpenLedger
from pgw.core.ledger.metrics_history import RECORD_MINUTE, Minute, minutes_of
from pgw.core.metrics.counters import Counts, bucket_of
from tests.doubles import NOON
from tests.ledgers import opened

CELL = ("g1", "UPI", "HDFC")
MINUTE = int(NOON.timestamp()) // 60

USUAL_MS, SLOW_MS = bucket_of(100), bucket_of(2000)

FULL = {
    "s:SUCCESS": 7,
    "s:FAILURE": 2,
    "s:TIMEOUT": 2,
    "s:REQUIRES_ACTION": 1,
    "b:gateway": 3,
    f"l:{USUAL_MS}": 8,
    f"l:{SLOW_MS}": 1,
}


def _on(database: str, scenario: Callable[[OpenLedger], Awaitable[None]]) -> None:
    async def run() -> None:
        async with opened(database) as ledger:
            await scenario(ledger)

    asyncio.run(run())


async def _write(ledger: OpenLedger, counts: dict[str, int], cell: Any = CELL, minute: int = MINUTE) -> bool:
    return await ledger.commit(RECORD_MINUTE, minute_write(cell, minute, Counts(counts)))


async def _counts(ledger: OpenLedger) -> list[Any]:
    found = await ledger.read(minutes_of, "g1", NOON, NOON + timedelta(minutes=1))
    return [each.counts for each in found]


def test_a_row_holds_the_figures_and_every_counter(database: str) -> None:
    async def scenario(ledger: OpenLedger) -> None:
        assert await _write(ledger, FULL) is True
        expected = Minute(
            gateway_id="g1",
            payment_method="UPI",
            issuing_bank="HDFC",
            minute=NOON,
            attempts=12,
            successes=7,
            failures=2,
            unknown=2,
            pending=1,
            p50_ms=USUAL_MS,
            p95_ms=SLOW_MS,
            p99_ms=SLOW_MS,
            counts=FULL,
        )
        assert await ledger.read(minutes_of, "g1", NOON, NOON + timedelta(minutes=1)) == [expected]

    _on(database, scenario)


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ({}, False),
        ({"s:SUCCESS": 8}, True),
        ({"s:SUCCESS": 6}, False),
        ({"s:TIMEOUT": 1, "s:SUCCESS": 8}, True),
        ({"s:TIMEOUT": 3, "s:SUCCESS": 6}, False),
        ({"s:REQUIRES_ACTION": 0, "s:FAILURE": 3}, True),
        ({"s:SUCCESS": 1, "s:TIMEOUT": -1, "s:FAILURE": 0, "s:REQUIRES_ACTION": 0}, False),
    ],
    ids=["the same", "one more", "one fewer", "one found out", "before it was found out", "came back", "corrections"],
)
def test_only_what_knows_more_replaces_a_row(database: str, change: dict[str, int], expected: bool) -> None:
    counts = {**FULL, **change}

    async def scenario(ledger: OpenLedger) -> None:
        assert await _write(ledger, FULL) is True
        assert expected == await _write(ledger, counts)
        assert [counts if expected else FULL] == await _counts(ledger)

    _on(database, scenario)


def test_cells_and_minutes_stand_apart_and_are_read_by_gateway_span_and_method(database: str) -> None:
    cells = [("g1", "UPI", "HDFC"), ("g1", "UPI", "SBI"), ("g1", "CARD", "HDFC"), ("g2", "UPI", "HDFC")]

    async def scenario(ledger: OpenLedger) -> None:
        writes = [_write(ledger, FULL, cell, MINUTE + minute) for minute in range(3) for cell in cells]
        assert await asyncio.gather(*writes) == [True] * 12
        until = NOON + timedelta(minutes=2)
        found = await ledger.read(minutes_of, "g1", NOON, until)
        assert [(each.minute, each.payment_method, each.issuing_bank) for each in found] == [
            (NOON + timedelta(minutes=minute), *rest)
            for minute in range(2)
            for rest in (("CARD", "HDFC"), ("UPI", "HDFC"), ("UPI", "SBI"))
        ]
        assert len(await ledger.read(minutes_of, "g1", NOON, until, "CARD")) == 2
        assert len(await ledger.read(minutes_of, "g1", NOON, until, None, 4)) == 4
        assert await ledger.read(minutes_of, "g3", NOON, until) == []

    _on(database, scenario)
