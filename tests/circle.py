"""A ledger, a Redis -> the line back on both, step by step, and what it must come to."""

import asyncio
from collections.abc import AsyncIterator, Iterable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

from pgw.core.events import Event
from pgw.core.flow.metrics.consume import Consumer
from pgw.core.flow.metrics.leader import SoleLeader
from pgw.core.flow.metrics.relay import Relay
from pgw.core.hot.on_redis import OnRedis, connect
from pgw.core.hot.stream import Stream
from pgw.core.ledger.engine.ledger import OpenLedger
from pgw.core.metrics.counters import fold
from pgw.core.ports import HotState, Ledger
from tests.core.hot.streams import GROUP, KEY
from tests.doubles import LEDGER_ID, VirtualClock
from tests.ledgers import opened

Sums = dict[int, dict[str, int]]


@dataclass
class Circle:
    """One process's view: a ledger, the hot state and stream of one Redis, and a clock."""

    database: str
    redis_url: str
    ledger: OpenLedger
    hot: OnRedis
    stream: Stream
    clock: VirtualClock

    def relay(self, ledger: Ledger | None = None, stream: Stream | None = None) -> Relay:
        """Make a relay that leads."""
        return Relay(ledger or self.ledger, LEDGER_ID, SoleLeader(), self.clock, (self.hot, stream or self.stream))

    def consumer(self, name: str = "worker-1", **parts: Any) -> Consumer:
        """Make a consumer that takes what others hold at once."""
        ledger = parts.pop("ledger", self.ledger)
        consumer = Consumer(ledger, self.stream, name, self.clock, **parts)
        consumer.claim_idle_ms = 0
        return consumer

    async def settled(self, *names: str) -> None:
        """Relay and count until nothing moves any more."""
        relay, consumers = self.relay(), [self.consumer(name) for name in names or ("worker-1",)]
        moved = 1
        while moved:
            moved = await relay.step()
            for each in consumers:
                moved += await each.step()
            self.clock.advance(1)

    async def held(self) -> Sums:
        """Read all counts of the hot state."""
        return await held(self.hot)


async def held(hot: HotState) -> Sums:
    """Read all counts of a hot state."""
    slices = await hot.changed_slices(-1, {})
    return plain({number: fields for number, (_, fields) in slices.counts.items()})


def plain(counts: Mapping[int, Mapping[str, int]]) -> Sums:
    """Leave out counters at 0, which are as good as none."""
    found = {number: {name: n for name, n in fields.items() if n} for number, fields in counts.items()}
    return {number: fields for number, fields in found.items() if fields}


def counted(events: Iterable[Event]) -> Sums:
    """Count events as they must be counted."""
    return plain(fold(events))


@asynccontextmanager
async def circle(database: str, redis_url: str, clock: VirtualClock | None = None) -> AsyncIterator[Circle]:
    """Open it."""
    server = connect(redis_url)
    async with opened(database) as ledger:
        try:
            yield Circle(
                database,
                redis_url,
                ledger,
                OnRedis(server),
                Stream(server, KEY, GROUP),
                clock or VirtualClock(),
            )
        finally:
            await server.close()


async def snapshot(redis_url: str) -> dict[bytes, bytes]:
    """Copy all that a Redis holds, as its dump file would."""
    server = connect(redis_url)
    try:
        keys = await server.ask("KEYS", "*")
        return {key: await server.ask("DUMP", key) for key in keys}
    finally:
        await server.close()


async def restore(redis_url: str, copy: Mapping[bytes, bytes]) -> None:
    """Put a Redis back to an earlier copy of it."""
    server = connect(redis_url)
    try:
        await server.ask("FLUSHDB")
        await asyncio.gather(*(server.ask("RESTORE", key, 0, value) for key, value in copy.items()))
    finally:
        await server.close()
