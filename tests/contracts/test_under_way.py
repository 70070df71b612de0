"""What an order for a breaker leaves where it is, is counted: calls not answered, and outcomes nobody knows yet."""

import asyncio
from datetime import datetime, timedelta

from pgw.core.ledger.engine.ledger import OpenLedger
from pgw.core.ledger.payment_reads import in_flight
from pgw.core.ledger.payments import CLOSE, OPEN, TURN
from pgw.core.ledger.verifications import CLAIM
from pgw.core.routing.preview import InFlight
from tests.doubles import ACTION, CUSTOMER_DECLINE, NOON, NOT_SENT, UNKNOWN
from tests.ledgers import claims, closes, opened, opens, turns

LEASE_OVER = NOON + timedelta(seconds=4.5)
NONE = InFlight(0, 0)


async def _counted(ledger: OpenLedger, gateway_id: str = "g1", method: str = "UPI", now: datetime = NOON) -> InFlight:
    return await ledger.read(in_flight, gateway_id, method, now)


def test_each_payment_counts_where_its_last_attempt_waits(database: str) -> None:
    """An attempt past its lease is under verification, before anybody has written so."""

    async def scenario(ledger: OpenLedger) -> None:
        assert await _counted(ledger) == NONE
        for number in range(6):
            await ledger.commit(OPEN, opens(number))
        assert await _counted(ledger) == InFlight(6, 0)
        await ledger.commit(CLOSE, closes(0))
        await ledger.commit(CLOSE, closes(1, CUSTOMER_DECLINE))
        await ledger.commit(CLOSE, closes(2, UNKNOWN))
        await ledger.commit(CLOSE, {**closes(3, ACTION), "end_next_check_at": LEASE_OVER})
        await ledger.commit(TURN, turns(4, NOT_SENT))
        assert await _counted(ledger, now=LEASE_OVER - timedelta(microseconds=1)) == InFlight(1, 2)
        assert await _counted(ledger, now=LEASE_OVER) == InFlight(0, 3)
        assert await _counted(ledger, "g2") == InFlight(1, 0)
        assert await _counted(ledger, method="CARD") == NONE
        await ledger.commit(CLAIM, claims(5, LEASE_OVER))
        assert await _counted(ledger, now=LEASE_OVER) == InFlight(0, 3)

    async def run() -> None:
        async with opened(database) as ledger:
            await scenario(ledger)

    asyncio.run(run())
