"""A ledger, a Redis -> events/s of the relay and the metrics worker, and of the bare stream with the same payload."""

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from random import Random
from typing import TYPE_CHECKING, Any

import msgspec
import psycopg
from redis.asyncio import Redis

from pgw.assembly import open_hot
from pgw.core.flow.metrics.consume import Consumer
from pgw.core.flow.runtime.clock import SystemClock
from pgw.core.ids import uuid7
from pgw.core.ledger.engine.ledger import OpenLedger
from pgw.core.ledger.engine.store import identity, upgrade
from pgw.core.payment.outcome import Blame, Captured, FinalDecline, GatewayDecline, Unknown, attempt_end
from pgw.core.writes.attempts import Ended, Subject, event_of
from pgw.settings import Settings
from pgw.workers.metrics import EventPipeline, open_pipeline

if TYPE_CHECKING:
    from pgw.core.events import Event

Figures = dict[str, float]

WRITTEN_TOGETHER, READ_TOGETHER = 256, 1000
KEY, GROUP, READER = "ceiling", "all", "reader"
ADD = "for i = 1, #ARGV do redis.call('XADD', KEYS[1], '*', 'event', ARGV[i]) end"
ENDS = (
    *9 * (Captured("hdfc_0199c1f0-7b5e-7000-8000-000000000000", 1000, "INR"),),
    GatewayDecline("GATEWAY_TECHNICAL_ERROR", Blame.GATEWAY),
    FinalDecline("INSUFFICIENT_FUNDS"),
    Unknown("TIMEOUT", Blame.GATEWAY),
)
SPREAD_S = 20.0
WAIT_MS = 100
EXPERIMENT = "0199c1f0-0000-7000-8000-000000000000"
"""Half of the payments take part in one: then their events say so."""


def events(count: int, seed: int) -> list[bytes]:
    """Write events as payments leave them, two each, of three gateways and four banks, over the last seconds."""
    rng = Random(seed)
    now = datetime.now(UTC)
    documents: list[Event] = []
    for number in range(count // 2):
        at = now - timedelta(seconds=SPREAD_S * (1 - 2 * number / count))
        subject = Subject(
            payment_id=uuid7(at, rng),
            payment_method="UPI",
            issuing_bank=rng.choice(("HDFC", "ICICI", "SBI", "AXIS")),
            size_band="SMALL",
            merchant_id="m_001",
            amount_minor=1000,
            currency="INR",
            experiment_id=EXPERIMENT if number % 2 else None,
            variant="challenger" if number % 2 else None,
        )
        latency_ms = rng.randint(20, 400)
        ended = Ended(1, rng.choice(("hdfc", "icici", "axis")), attempt_end(rng.choice(ENDS)), at, latency_ms)
        kinds = ("payment.attempted", "payment.completed")
        documents += [event_of(each, uuid7(at, rng), subject, ended, ended.end.status, latency_ms) for each in kinds]
    return [msgspec.json.encode(each) for each in documents]


@asynccontextmanager
async def line_back(settings: Settings) -> AsyncIterator[EventPipeline]:
    """Open what `pgw worker metrics` runs."""
    clock = SystemClock()
    upgrade(settings.database)
    ledger = OpenLedger(settings.database)
    hot = open_hot(settings, clock)
    line = open_pipeline(settings, ledger, await ledger.read(identity), hot, clock, "benchmark")
    try:
        yield line
    finally:
        await line.close()
        await hot.state.close()
        await ledger.close()


async def until_moved(step: Callable[[], Awaitable[int]], count: int) -> None:
    moved = 0
    while moved < count:
        moved += await step()


async def timed(count: int, *work: Awaitable[object]) -> float:
    """Return how many of `count` a second it took."""
    began = time.perf_counter()
    await asyncio.gather(*work)
    return count / (time.perf_counter() - began)


async def ours(line: EventPipeline, database: str, written: list[bytes]) -> Figures:
    """Relay and count, one after the other, then both at once as one `pgw worker metrics` does."""
    stream, consumer, count = line.hot.stream, line.counter, len(written)
    assert stream is not None
    assert isinstance(consumer, Consumer)
    fill(database, written)
    relay = await timed(count, until_moved(line.relay.step, count))
    worker = await timed(count, until_moved(consumer.step, count))
    fill(database, written)
    both = await timed(count, until_moved(line.relay.step, count), until_moved(lambda: consumer.step(WAIT_MS), count))
    await stream.trim()
    return {"relay": relay, "worker": worker, "both in one process": both}


def fill(database: str, written: list[bytes]) -> None:
    with psycopg.connect(database, autocommit=True) as connection:
        with connection.cursor().copy("COPY outbox (event) FROM STDIN") as copy:
            for each in written:
                copy.write_row((each.decode(),))
        connection.execute("CHECKPOINT")


async def bare(redis_url: str, written: list[bytes]) -> Figures:
    """Append the same documents and read them in a group, with a bare client and nothing else to do."""
    count = len(written)
    client: Any = Redis.from_url(redis_url, protocol=2)
    try:
        await client.delete(KEY)
        await client.xgroup_create(KEY, GROUP, "0", mkstream=True)
        return {
            "bare append": await timed(count, _add(client, written)),
            "bare read": await timed(count, _read(client)),
        }
    finally:
        await client.delete(KEY)
        await client.aclose()


async def _add(client: Any, written: list[bytes]) -> None:
    script = client.register_script(ADD)
    for start in range(0, len(written), WRITTEN_TOGETHER):
        await script((KEY,), written[start : start + WRITTEN_TOGETHER])


async def _read(client: Any) -> None:
    while found := await client.xreadgroup(GROUP, READER, {KEY: ">"}, count=READ_TOGETHER):
        await client.xack(KEY, GROUP, *(number for number, _ in found[0][1]))


async def measured(settings: Settings, database: str, count: int, rounds: int) -> list[Figures]:
    """Measure ours and the bare stream by turns."""
    assert settings.redis_url is not None
    found: list[Figures] = []
    async with line_back(settings) as line:
        await line.relay.step()
        for number in range(rounds):
            written = events(count, number)
            found.append(await ours(line, database, written) | await bare(settings.redis_url, written))
    return found
