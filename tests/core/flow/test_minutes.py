"""Every minute of the slices is a row of the ledger, written whole, and written again only when it has more to say."""

import asyncio
from collections import Counter
from datetime import timedelta
from typing import Any

import pytest

from pgw.core.errors import PgwError
from pgw.core.events import Corrects, Event
from pgw.core.flow.metrics.minutes import Minutes
from pgw.core.hot.in_process import KEPT_S, InProcessHotState
from pgw.core.ledger.engine.ledger import OpenLedger
from pgw.core.ledger.tables import gateway_metrics
from pgw.core.metrics.counters import fold, parse_field
from tests.doubles import NOON, VirtualClock
from tests.events import attempted, some
from tests.ledgers import opened, rows
from tests.troubled import Trouble, Troubled


async def _rows(ledger: OpenLedger) -> dict[Any, Any]:
    return {
        (row["gateway_id"], row["payment_method"], row["issuing_bank"], int(row["minute"].timestamp())): row["counts"]
        for row in await rows(ledger, gateway_metrics)
    }


def _expected(events: list[Event]) -> dict[Any, Any]:
    """Sum the slices of each minute."""
    sums: dict[Any, Counter[str]] = {}
    for number, fields in fold(events).items():
        for field, amount in fields.items():
            cell, counter = parse_field(field)
            sums.setdefault((*cell, number * 10 // 60 * 60), Counter())[counter] += amount
    return {key: {name: n for name, n in counts.items() if n} for key, counts in sums.items()}


def test_rows_are_what_the_slices_come_to_and_a_second_look_writes_nothing(database: str) -> None:
    events = some(800)

    async def scenario() -> None:
        hot = InProcessHotState(VirtualClock(NOON + timedelta(minutes=11)))
        async with opened(database) as ledger:
            minutes = Minutes(ledger, hot)
            for start in range(0, 800, 160):
                hot.apply(fold(events[start : start + 160]))
                assert await minutes.step() > 0
                assert _expected(events[: start + 160]) == await _rows(ledger)
                assert await minutes.step() == 0
            before = await rows(ledger, gateway_metrics)
            assert await Minutes(ledger, hot).step() == 0
            assert before == await rows(ledger, gateway_metrics)

    asyncio.run(scenario())


def test_a_minute_is_written_whole_when_one_of_its_slices_changed(database: str) -> None:
    """Long after: a call of the first minute is found out, while others go on."""
    events = [attempted(n, NOON + timedelta(seconds=5 * n), status="TIMEOUT", blame="gateway") for n in range(120)]
    told = events[3]
    found_out = attempted(
        500,
        NOON + timedelta(minutes=10),
        type="payment.verified",
        corrects=Corrects("TIMEOUT", "gateway", None, told.occurred_at),
    )

    async def scenario() -> None:
        hot = InProcessHotState(VirtualClock(NOON + timedelta(minutes=11)))
        async with opened(database) as ledger:
            minutes = Minutes(ledger, hot)
            hot.apply(fold(events))
            assert await minutes.step() == 10
            hot.apply(fold([found_out]))
            assert await minutes.step() == 1
            assert _expected([*events, found_out]) == await _rows(ledger)

    asyncio.run(scenario())


def test_what_is_left_of_an_expired_minute_never_takes_its_place(database: str) -> None:
    events = some(300)
    clock = VirtualClock(NOON + timedelta(minutes=11))

    async def scenario() -> None:
        hot = InProcessHotState(clock)
        async with opened(database) as ledger:
            hot.apply(fold(events))
            minutes = Minutes(ledger, hot)
            await minutes.step()
            clock.advance(KEPT_S - 600)
            written = await _rows(ledger)
            late = InProcessHotState(clock)
            late.apply(fold(_found_out(each) for each in events if each.status == "TIMEOUT"))
            late.apply(fold([attempted(1, gateway_id="g3", issuing_bank="HDFC")]))
            await Minutes(ledger, late).step()
            assert written == await _rows(ledger)

    asyncio.run(scenario())


def _found_out(event: Event) -> Event:
    told = Corrects("TIMEOUT", "gateway", "TIMEOUT", event.occurred_at)
    return attempted(1, event.occurred_at, type="payment.verified", gateway_id=event.gateway_id, corrects=told)


@pytest.mark.parametrize("trouble", [Trouble.AWAY, Trouble.UNSEEN, Trouble.REFUSED])
def test_a_minute_that_was_not_written_is_written_next_time(database: str, trouble: Trouble) -> None:
    events = some(200)

    async def scenario() -> None:
        hot = InProcessHotState(VirtualClock(NOON + timedelta(minutes=11)))
        async with opened(database) as ledger:
            troubled = Troubled(ledger)
            minutes = Minutes(troubled, hot)
            hot.apply(fold(events))
            troubled.trouble["record_minute"] = trouble
            with pytest.raises(PgwError):
                await minutes.step()
            await minutes.step()
            assert _expected(events) == await _rows(ledger)

    asyncio.run(scenario())


def test_counts_of_another_generation_are_looked_at_from_the_start(database: str) -> None:
    events = some(200)

    async def scenario() -> None:
        hot = InProcessHotState(VirtualClock(NOON + timedelta(minutes=11)))
        async with opened(database) as ledger:
            minutes = Minutes(ledger, hot)
            hot.apply(fold(events[:150]))
            await minutes.step()
            hot.reset()
            hot.apply(fold(events))
            await minutes.step()
            assert _expected(events) == await _rows(ledger)

    asyncio.run(scenario())
