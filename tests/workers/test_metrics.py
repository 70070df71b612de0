"""The event pipeline of one process: its loops carry events to the metrics, and beat as one that counts."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import timedelta
from pathlib import Path

import pytest

from pgw.assembly import Hot, open_hot
from pgw.core.flow.runtime.refresh import COUNTS
from pgw.core.ledger.engine.ledger import OpenLedger
from pgw.core.ledger.engine.store import identity, upgrade
from pgw.core.ledger.tables import gateway_metrics
from pgw.core.ports import Heartbeat
from pgw.settings import Settings, load
from pgw.workers.metrics import BEAT_EVERY_S, Drained, EventPipeline, open_pipeline
from tests.circle import counted, held
from tests.doubles import NOON, VirtualClock
from tests.events import put, some
from tests.ledgers import new_file, opened, rows


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    """Name a new SQLite ledger, and no Redis."""
    new_file(tmp_path)
    return load({"PGW_HOME": str(tmp_path)})


@asynccontextmanager
async def _line(settings: Settings, process: str = "p1") -> AsyncIterator[tuple[EventPipeline, OpenLedger, Hot]]:
    clock = VirtualClock(NOON + timedelta(minutes=11))
    hot = open_hot(settings, clock)
    async with opened(settings.database) as ledger:
        line = open_pipeline(settings, ledger, await ledger.read(identity), hot, clock, process)
        try:
            yield line, ledger, hot
        finally:
            await line.close()
            await hot.state.close()


def test_without_redis_the_process_counts_for_itself(settings: Settings) -> None:
    events = some(300)
    put(settings.database, events)

    async def scenario() -> None:
        async with _line(settings) as (line, ledger, hot):
            assert [each.name for each in line.loops()] == ["relay", "metrics", "minutes"]
            was_caught_up = line.caught_up
            drained = await line.drain()
            written = len(await rows(ledger, gateway_metrics))
            assert Drained(leads=True, published=300, counted=300, minutes=written, trimmed=0) == drained
            assert (was_caught_up, line.caught_up) == (False, True)
            assert counted(events) == await held(hot.state)
            assert await line.drain() == Drained(leads=True, published=0, counted=0, minutes=0, trimmed=0)

    asyncio.run(scenario())


def test_its_loops_do_the_same_as_a_drain(settings: Settings) -> None:
    events = some(300)
    put(settings.database, events)

    async def scenario() -> None:
        async with _line(settings) as (line, _, hot):
            loops = line.loops()
            for each in loops:
                each.start()
            async with asyncio.timeout(50):
                while counted(events) != await held(hot.state):
                    await asyncio.sleep(0.01)
                    line.clock.advance(0.1)  # type: ignore[attr-defined]
            for each in loops:
                await each.stop()

    asyncio.run(scenario())


@pytest.fixture
def shared(database_url: str, redis_url: str, tmp_path: Path) -> Settings:
    """Name a new PostgreSQL ledger and a Redis."""
    settings = load({"DATABASE_URL": database_url, "REDIS_URL": redis_url, "PGW_HOME": str(tmp_path)})
    upgrade(settings.database)
    return settings


def test_of_two_processes_one_relays_both_count_and_both_say_so(shared: Settings) -> None:
    events = some(300)
    put(shared.database, events)

    async def scenario() -> None:
        async with _line(shared) as (one, _, hot), _line(shared, "p2") as (two, _, _):
            assert [each.name for each in one.loops()] == ["relay", "metrics", "minutes", "trim"]
            assert await one.relay.step() == 300
            assert await two.relay.step() == 0
            steps = [each._counting() for each in (one, two)]
            for step in steps:
                await step()
            assert counted(events) == await held(hot.state)
            fleet = await hot.state.beat(Heartbeat(process="p3", role="serve", config_version=0))
            assert {("p1/metrics", COUNTS), ("p2/metrics", COUNTS), ("p3", "serve")} == {
                (each.process, each.role) for each in fleet
            }
            assert (await two.drain()).leads is False
            assert (await one.drain()).leads is True

    asyncio.run(scenario())


def test_who_does_not_count_does_not_say_so(shared: Settings) -> None:
    """Redis lost the stream, and no relay has begun it anew: others must not believe in these metrics."""

    async def scenario() -> None:
        async with _line(shared) as (line, _, hot):
            step = line._counting()
            for _ in range(2):
                with pytest.raises(Exception, match="lost"):
                    await step()
                line.clock.advance(BEAT_EVERY_S)  # type: ignore[attr-defined]
            assert await hot.state.beat(Heartbeat(process="p3", role="serve", config_version=0)) != ()
            fleet = await hot.state.beat(Heartbeat(process="p3", role="serve", config_version=0))
            assert [each.process for each in fleet] == ["p3"]

    asyncio.run(scenario())


def test_the_next_process_leads_when_the_first_has_closed(shared: Settings) -> None:
    async def scenario() -> None:
        async with _line(shared, "p2") as (two, _, _):
            async with _line(shared) as (one, _, _):
                await one.relay.step()
                assert one.relay.is_leader
                await two.relay.step()
                assert not two.relay.is_leader
            async with asyncio.timeout(50):
                while not two.relay.is_leader:
                    two.clock.advance(1)  # type: ignore[attr-defined]
                    await two.relay.step()

    asyncio.run(scenario())
