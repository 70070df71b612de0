"""Ledger address -> payments a second of the group commit alone: open and close, nothing before or behind them."""

import asyncio
import json
import sys
import time
from datetime import UTC, datetime, timedelta

import msgspec
import uvloop

from pgw.core.flow.runtime.entropy import Entropy
from pgw.core.ids import uuid7
from pgw.core.ledger.configuration import SANDBOX_GATEWAYS
from pgw.core.ledger.engine import store
from pgw.core.ledger.engine.ledger import OpenLedger
from pgw.core.ledger.payments import CLOSE, OPEN
from pgw.core.payment.outcome import Captured, Finish, attempt_end
from pgw.core.payment.payment import Method, PaymentRequest, Status, Upi
from pgw.core.routing.context import SEED_BANKS, make_context
from pgw.core.routing.plan import Snapshot, make_plan, seed_of
from pgw.core.writes.attempts import Announced, Ended, Item, closing, opening, subject_of

REQUEST = PaymentRequest(
    amount_minor=1000,
    currency="INR",
    payment_method=Method.UPI,
    merchant_id="m_001",
    customer_id="cust_001",
    instrument=Upi(vpa="test@okhdfcbank"),
)
ENTROPY = Entropy()


def items() -> tuple[Item, Item]:
    """Make one payment's open and close, as the flow would."""
    now = datetime.now(UTC)
    gateways = tuple(msgspec.structs.replace(each, is_enabled=True) for each in SANDBOX_GATEWAYS)
    snapshot = Snapshot(config_version=1, as_of=now, gateways=gateways)
    payment_id = uuid7(now, ENTROPY)
    plan = make_plan(make_context(REQUEST, now, SEED_BANKS), snapshot, seed_of(payment_id), now)
    first = Announced(1, "hdfc", now, timedelta(seconds=2.5))
    ended = Ended(1, "hdfc", attempt_end(Captured(f"hdfc_{payment_id}", 1000, "INR")), now, 1)
    ids = (uuid7(now, ENTROPY), uuid7(now, ENTROPY))
    return (
        opening(payment_id, payment_id, "-", REQUEST, plan, first, now),
        closing(subject_of(payment_id, plan), ended, Finish(Status.SUCCESS), 1, 1, None, ids),
    )


async def main(database: str, waiters: int, payments: int) -> dict[str, float]:
    store.upgrade(database)
    ledger = OpenLedger(database)
    prepared = iter([items() for _ in range(payments)])
    took: list[float] = []

    async def one() -> None:
        for opened, closed in prepared:
            began = time.perf_counter()
            assert await ledger.commit(OPEN, opened)
            assert await ledger.commit(CLOSE, closed)
            took.append(time.perf_counter() - began)

    began = time.perf_counter()
    await asyncio.gather(*(one() for _ in range(waiters)))
    seconds = time.perf_counter() - began
    await ledger.close()
    took.sort()
    return {
        "per_s": payments / seconds,
        "p50_ms": took[len(took) // 2] * 1000,
        "p99_ms": took[int(len(took) * 0.99)] * 1000,
    }


if __name__ == "__main__":
    print(json.dumps(uvloop.run(main(sys.argv[1], int(sys.argv[2]), int(sys.argv[3])))))
