"""A few facts -> events as the flow writes them, and an outbox that holds them."""

from collections.abc import Iterable, Sequence
from datetime import datetime, timedelta
from random import Random
from typing import Any

import msgspec
from sqlalchemy import create_engine, insert

from pgw.core.events import Corrects, Event
from pgw.core.ids import uuid7
from pgw.core.ledger.engine.ledger import OpenLedger
from pgw.core.ledger.outbox import rows_after
from pgw.core.ledger.tables import outbox
from tests.doubles import NOON

GATEWAYS = ("g1", "g2", "g3")
BANKS = ("HDFC", "ICICI", "SBI", None)
ENDS = (
    ("SUCCESS", "none", None),
    ("FAILURE", "customer", "INSUFFICIENT_FUNDS"),
    ("FAILURE", "gateway", "GATEWAY_TECHNICAL_ERROR"),
    ("TIMEOUT", "gateway", "TIMEOUT"),
    ("REQUIRES_ACTION", "none", None),
)

POISON: dict[str, Any] = {"type": "payment.attempted", "gateway_id": 7}
"""What stands where an event should."""


def attempted(number: int, at: datetime = NOON, **changes: Any) -> Event:
    """Tell of one attempt."""
    event = Event(
        event_id=uuid7(at, Random(number)),
        type="payment.attempted",
        payment_id=uuid7(at, Random(-number)),
        attempt_number=1,
        gateway_id="g1",
        payment_method="UPI",
        issuing_bank="HDFC",
        status="SUCCESS",
        blame="none",
        latency_ms=100 + number % 50,
        amount_minor=1000,
        currency="INR",
        occurred_at=at,
    )
    return msgspec.structs.replace(event, **changes)


def some(count: int, since: datetime = NOON, seed: int = 0, spread_s: float = 600.0) -> list[Event]:
    """Tell of many attempts of all kinds, nearly in order; what is first unknown is sometimes found out."""
    rng = Random(seed)
    told: list[Event] = []
    for number in range(count):
        at = since + timedelta(seconds=spread_s * number / count + rng.random())
        unknown = [each for each in told if each.status == "TIMEOUT" and each.variant is None]
        if unknown and rng.random() < 0.2:
            earlier = rng.choice(unknown)
            told[told.index(earlier)] = msgspec.structs.replace(earlier, variant="found out")
            corrects = Corrects("TIMEOUT", "gateway", "TIMEOUT", earlier.occurred_at)
            status = rng.choice(("SUCCESS", "FAILURE"))
            told.append(
                msgspec.structs.replace(
                    earlier,
                    type="payment.verified",
                    status=status,
                    blame="none" if status == "SUCCESS" else "bank",
                    error_code=None if status == "SUCCESS" else "BANK_DECLINED",
                    occurred_at=at,
                    corrects=corrects,
                )
            )
            continue
        status, blame, error_code = rng.choice(ENDS)
        told.append(
            attempted(
                number,
                at,
                gateway_id=rng.choice(GATEWAYS),
                issuing_bank=rng.choice(BANKS),
                status=status,
                blame=blame,
                error_code=error_code,
                latency_ms=rng.randint(1, 2500),
            )
        )
    return told


def put(database: str, documents: Iterable[Event | dict[str, Any]]) -> None:
    """Commit events to the outbox, in this order."""
    engine = create_engine(database)
    values = [{"event": msgspec.to_builtins(each)} for each in documents]
    with engine.begin() as connection:
        for start in range(0, len(values), 500):
            connection.execute(insert(outbox), values[start : start + 500])
    engine.dispose()


async def published(ledger: OpenLedger) -> list[tuple[int, Any]]:
    """Read what was published: numbers and documents."""
    rows: Sequence[tuple[int, bytes]] = await ledger.read(rows_after, 0, 1_000_000)
    return [(number, msgspec.json.decode(event)) for number, event in rows]
