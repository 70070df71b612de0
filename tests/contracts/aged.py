"""A ledger that some payments were made in, a hand that changes it past pgw, and processes that check it."""

import asyncio
from collections.abc import Awaitable, Callable
from datetime import datetime, timedelta
from random import Random
from typing import Any

from sqlalchemy import Engine, Update, create_engine, update

from pgw.core.flow.money.invariant_check import InvariantCheck
from pgw.core.flow.payments.take import take
from pgw.core.ledger.engine.ledger import OpenLedger
from pgw.core.ledger.tables import outbox, payments
from pgw.core.payment.outcome import Verdict
from pgw.core.payment.payment import Status
from tests.doubles import CAPTURED, NOON, Act, VirtualClock, request_of, scene_of
from tests.ledgers import opened as opening_ledger

PAYMENTS = 6
MINUTE = timedelta(minutes=1)
SOON = NOON + timedelta(seconds=30)


async def age(database: str) -> None:
    """Take some payments that succeed, three seconds apart, and publish their events."""
    async with opening_ledger(database) as ledger:
        scene = scene_of(ledger, {"g1": list[Act | Verdict]([CAPTURED] * PAYMENTS)})
        for number in range(PAYMENTS):
            await take(scene.deps, request_of(), f"key-{number}")
            scene.clock.advance(3)
    engine = create_engine(database)
    do(engine, update(outbox).values(published=outbox.c.position))
    engine.dispose()


def do(hand: Engine, *statements: Any) -> None:
    with hand.begin() as connection:
        for each in statements:
            connection.execute(each)


def set_status(status: Status) -> Update:
    return update(payments).where(payments.c.idempotency_key == "key-5").values(status=status)


def auditors(ledger: OpenLedger, clock: VirtualClock, number: int = 1) -> list[InvariantCheck]:
    return [InvariantCheck(ledger, clock, Random(seed)) for seed in range(number)]


def on(database: str, scenario: Callable[[OpenLedger, VirtualClock], Awaitable[None]], at: datetime = SOON) -> None:
    async def run() -> None:
        async with opening_ledger(database) as ledger:
            await scenario(ledger, VirtualClock(at))

    asyncio.run(run())
