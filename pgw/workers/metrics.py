"""Ledger, hot state -> the event pipeline: events are numbered, published, counted, and written by the minute."""

import logging
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from msgspec import Struct

from pgw.assembly import Hot
from pgw.core.flow.metrics.consume import COUNT_EVERY_S, Consumer, Tail
from pgw.core.flow.metrics.leader import Leader, PostgresLeader, SoleLeader
from pgw.core.flow.metrics.minutes import MINUTES_EVERY_S, Minutes
from pgw.core.flow.metrics.relay import RELAY_EVERY_S, Relay
from pgw.core.flow.runtime.refresh import COUNTS
from pgw.core.hot.in_process import InProcessHotState
from pgw.core.ledger.configuration import head
from pgw.core.ports import Clock, Heartbeat, Ledger
from pgw.settings import Settings
from pgw.workers.loop import Loop

log = logging.getLogger(__name__)

APPEND_EVERY_S = 0.05
"""How often the relay polls where there is a stream and events come: its consumers wait for what it appends."""

DELIVER_WITHIN_MS = 500
"""How long one delivery waits for the first entry; heartbeats and claims are made in between."""

DELIVER_EVERY_S = 0.01
"""Pause between two deliveries: what comes within it is counted together."""

TRIM_EVERY_S = 15.0
BEAT_EVERY_S = 1.0

MAX_DRAINS = 10_000
"""Rounds of one drain: ten million events and more, far beyond what can wait."""


class Drained(Struct, frozen=True, kw_only=True):
    """What one drain moved. `leads`: False where another process relays."""

    leads: bool
    published: int
    counted: int
    minutes: int
    trimmed: int


@dataclass(frozen=True, slots=True)
class EventPipeline:
    """The way of events from the outbox to the metrics in one process.

    `process` names it among those that share the hot state.
    """

    process: str
    ledger: Ledger
    hot: Hot
    clock: Clock
    relay: Relay
    counter: Consumer | Tail
    minutes: Minutes

    @property
    def caught_up(self) -> bool:
        """Whether this process's own counts are up to date; always true where the counts are shared."""
        return not isinstance(self.counter, Tail) or self.counter.caught_up

    def loops(self) -> tuple[Loop, ...]:
        """List its loops."""
        minutes = Loop("minutes", MINUTES_EVERY_S, self._write_minutes, self.clock)
        if self.hot.stream is None:
            relay = Loop("relay", RELAY_EVERY_S, self.relay.step, self.clock)
            return relay, Loop("metrics", COUNT_EVERY_S, self.counter.step, self.clock), minutes
        relay = Loop("relay", APPEND_EVERY_S, self._relay, self.clock)
        counting = Loop("metrics", DELIVER_EVERY_S, self._counting(), self.clock)
        return relay, counting, minutes, Loop("trim", TRIM_EVERY_S, self._trim, self.clock)

    async def drain(self) -> Drained:
        """Move what waits, at most MAX_DRAINS rounds."""
        published = counted = 0
        for _ in range(MAX_DRAINS):
            moved = await self.relay.step()
            added = await self.counter.step()
            published, counted = published + moved, counted + added
            if not moved and not added and self.caught_up:
                break
        return Drained(
            leads=self.relay.is_leader,
            published=published,
            counted=counted,
            minutes=await self._write_minutes(),
            trimmed=await self._trim(),
        )

    async def close(self) -> None:
        """Release the relay's lock."""
        await self.relay.close()

    def _counting(self) -> Callable[[], Awaitable[object]]:
        """Count as entries come, and beat: decisions trust the metrics only while a live process counts."""
        consumer = self.counter
        assert isinstance(consumer, Consumer), "entries of a stream have a consumer"
        next_beat = self.clock.elapsed()

        async def step() -> None:
            nonlocal next_beat
            await consumer.step(DELIVER_WITHIN_MS)
            if self.clock.elapsed() >= next_beat:
                next_beat = self.clock.elapsed() + BEAT_EVERY_S
                version = await self.ledger.read(head)
                await self.hot.state.beat(Heartbeat(process=self.process, role=COUNTS, config_version=version))

        return step

    async def _relay(self) -> None:
        """Relay; where nothing comes, poll less often: a poll costs Redis and the database a trip each."""
        if not await self.relay.step():
            await self.clock.sleep(RELAY_EVERY_S - APPEND_EVERY_S)

    async def _write_minutes(self) -> int:
        """Write minutes where this process leads: two writers would only overwrite each other."""
        return await self.minutes.step() if self.relay.is_leader else 0

    async def _trim(self) -> int:
        if self.hot.stream is None or not self.relay.is_leader:
            return 0
        return await self.hot.stream.trim()


def open_pipeline(
    settings: Settings, ledger: Ledger, ledger_id: str, hot: Hot, clock: Clock, process: str
) -> EventPipeline:
    """Build it on stores that the caller opened, and closes after it."""
    leader: Leader = SoleLeader() if settings.on_sqlite else PostgresLeader(settings.database, clock)
    if hot.stream is not None:
        relay = Relay(ledger, ledger_id, leader, clock, (hot.state, hot.stream))
        counter: Consumer | Tail = Consumer(ledger, hot.stream, settings.consumer_name, clock)
    else:
        assert isinstance(hot.state, InProcessHotState), "without a stream the hot state is in this process"
        relay = Relay(ledger, ledger_id, leader, clock)
        counter = Tail(ledger, hot.state, clock, last=lambda: relay.last)
    # A name of its own: the process may also take payments, and beats for that under its first.
    return EventPipeline(f"{process}/metrics", ledger, hot, clock, relay, counter, Minutes(ledger, hot.state))
