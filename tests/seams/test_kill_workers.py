"""Workers are killed, stopped and robbed of their Redis under load: every event is counted once, in the end exactly."""

import asyncio
import json
import os
import signal
from collections.abc import Callable, Iterator
from pathlib import Path
from random import Random

import pytest

from pgw.core.ledger.engine.ledger import OpenLedger
from pgw.core.ledger.engine.store import identity, upgrade
from pgw.settings import load
from tests.events import published
from tests.faults.proof import violations
from tests.ledgers import administrator, opened
from tests.seams.counting import (
    Load,
    Workers,
    agreed,
    by_minute,
    history,
    on_stream,
    recount,
    shared_counts,
    workers,
)
from tests.services import ask_redis

KILLS_VARIABLE = "PGW_TEST_KILLS"
KILLS = int(os.environ.get(KILLS_VARIABLE, "8"))
SEED_VARIABLE = "PGW_TEST_SEED"
SEED = int(os.environ.get(SEED_VARIABLE, "20260105"))

QUIET_LIMIT_S = 60.0
"""A killed worker's entries are taken over after three seconds, its lead after one; minutes are written every five."""

KEPT = 10_000
"""Entries the stream keeps when all have been counted."""

PAUSED_MS = "2500"
"""More than twice the time that one call may take."""

END_THE_LEAD = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'pgw relay'"
LOCKED = "SELECT pid FROM pg_locks WHERE locktype = 'advisory' AND granted"

pytestmark = pytest.mark.slow


@pytest.fixture
def database(database_url: str) -> str:
    """Give a new PostgreSQL ledger."""
    address = load({"DATABASE_URL": database_url}).database
    upgrade(address)
    return address


@pytest.fixture
def crew(tmp_path: Path, database: str, database_url: str, redis_url: str) -> Iterator[Workers]:
    """Give a place for its workers."""
    with workers(tmp_path / "home", database_url, redis_url) as crew:
        yield crew


async def _agree(ledger: OpenLedger, database: str, redis_url: str) -> int:
    """Compare what the workers came to with the attempts themselves; return how many events there were."""
    await agreed(ledger, database, redis_url, QUIET_LIMIT_S)
    expected = recount(database)
    assert expected == await shared_counts(redis_url)
    assert by_minute(expected) == history(database)
    told = await published(ledger)
    assert [number for number, _ in told] == list(range(1, len(told) + 1))
    ids = [event["event_id"] for _, event in told]
    assert len(set(ids)) == len(ids)
    return len(told)


async def _on_stream_as_published(ledger: OpenLedger, redis_url: str, first: int) -> str:
    """Whatever is on the stream is on it once, in the ledger's order, under the ledger's number; say so."""
    told = dict(await published(ledger))
    found = await on_stream(redis_url)
    numbers = [number for number, _ in found]
    begins = max(first, len(told) - KEPT + 1) if len(found) >= KEPT else first
    expected = range(begins, len(told) + 1)
    assert list(expected) == numbers[-len(expected) :]
    assert [told[number]["event_id"] for number in numbers] == [json.loads(event)["event_id"] for _, event in found]
    return f"{len(set(expected) - set(numbers))} events missing on the stream, {len(numbers) - len(set(numbers))} twice"


async def _counted(database: str, redis_url: str) -> str:
    """Say how metrics and attempts agree, and whether the money does."""
    expected, counts = recount(database), await shared_counts(redis_url)
    differing = [each for each in expected.keys() | counts.keys() if expected.get(each) != counts.get(each)]
    found = violations(database)
    assert found == ()
    return f"{len(differing)} slices of the metrics differ from a recount; {len(found)} violations"


def test_kill_9_at_any_moment_leaves_exact_counts(
    crew: Workers, database: str, redis_url: str, saw: Callable[..., None]
) -> None:
    """Any worker may be the one that relays, any may be within a batch."""
    rng = Random(SEED)
    print(f"\nseed {SEED} ({SEED_VARIABLE}), {KILLS} kills ({KILLS_VARIABLE})")

    async def scenario() -> tuple[str, str]:
        async with opened(database) as ledger:
            load = Load(ledger, SEED)
            await asyncio.to_thread(crew.start)
            async with load.at_work():
                for _ in range(KILLS):
                    await asyncio.to_thread(crew.start)
                    await load.made_more(rng.randint(1, 200))
                    crew.kill(rng.choice(crew.running))
            events = await _agree(ledger, database, redis_url)
            told = await _on_stream_as_published(ledger, redis_url, 1)
            cells = sum(len(fields) for fields in recount(database).values())
            print(f"payments {load.made}, events {events}, counters compared {cells}, minutes {len(history(database))}")
            return told, await _counted(database, redis_url)

    told, counted = asyncio.run(scenario())
    assert set(crew.stop()) == {0}, crew.words()
    assert "Traceback" not in crew.words()
    saw(23, f"{counted}; {told}")


def test_a_relay_that_dies_between_appending_and_knowing_it_leaves_no_gap_and_no_double(
    tmp_path: Path, database: str, database_url: str, redis_url: str, saw: Callable[..., None]
) -> None:
    """It dies when its first events are on the stream and it has not heard so; another goes on behind them."""

    async def scenario(dying: Workers, living: Workers) -> tuple[str, str]:
        async with opened(database) as ledger:
            load = Load(ledger, SEED)
            async with load.at_work():
                relay = await asyncio.to_thread(dying.start)
                assert await asyncio.to_thread(relay.wait, QUIET_LIMIT_S) == -signal.SIGKILL
                dying.running.clear()
                assert await on_stream(redis_url)
                await asyncio.to_thread(living.start)
                await load.made_more(80)
            await _agree(ledger, database, redis_url)
            told = await _on_stream_as_published(ledger, redis_url, 1)
            return told, await _counted(database, redis_url)

    with (
        workers(tmp_path / "dying", database_url, redis_url, PGW_FAILPOINT="append:after:exit") as dying,
        workers(tmp_path / "living", database_url, redis_url) as living,
    ):
        told, counted = asyncio.run(scenario(dying, living))
        assert living.stop() == [0], living.words()
    saw(21, f"{told}; {counted}")


def test_stores_that_fail_under_load_are_healed_and_exact(crew: Workers, database: str, redis_url: str) -> None:
    """Redis loses everything, Redis answers no call for longer than any waits, the leader's session is ended."""
    rng = Random(SEED)

    def end_the_lead() -> None:
        with administrator(database) as session:
            session.execute(END_THE_LEAD)

    faults: tuple[Callable[[], object], ...] = (
        lambda: ask_redis(redis_url, "FLUSHALL"),
        lambda: ask_redis(redis_url, "CLIENT", "PAUSE", PAUSED_MS, "ALL"),
        end_the_lead,
    )

    async def scenario() -> None:
        async with opened(database) as ledger:
            load = Load(ledger, SEED)
            for _ in range(2):
                await asyncio.to_thread(crew.start)
            async with load.at_work():
                for fault in (*faults, *faults, faults[0]):
                    await load.made_more(rng.randint(20, 120))
                    await asyncio.to_thread(fault)
            events = await _agree(ledger, database, redis_url)
            print(f"\npayments {load.made}, events {events}")
            assert ask_redis(redis_url, "HGET", "{pgw}:state", "ledger_id") == await ledger.read(identity)

    asyncio.run(scenario())
    assert set(crew.stop()) == {0}, crew.words()
    assert "Traceback" not in crew.words()


def test_a_stopped_relay_is_followed_and_changes_nothing_when_it_wakes(
    crew: Workers, database: str, redis_url: str, saw: Callable[..., None]
) -> None:
    """Its connections stay, only its silence shows; it wakes up wherever in a step it was, believing that it leads."""

    async def scenario() -> tuple[str, str]:
        async with opened(database) as ledger:
            load = Load(ledger, SEED)
            zombie = await asyncio.to_thread(crew.start)
            async with load.at_work():
                await load.made_more(20)
                first = _locked_by(database)
                await asyncio.to_thread(crew.start)
                zombie.send_signal(signal.SIGSTOP)
                async with asyncio.timeout(QUIET_LIMIT_S):
                    while _locked_by(database) in {first, None}:
                        await load.made_more(8)
                await load.made_more(40)
                zombie.send_signal(signal.SIGCONT)
                await load.made_more(80)
            events = await _agree(ledger, database, redis_url)
            told = await _on_stream_as_published(ledger, redis_url, 1)
            print(f"\npayments {load.made}, events {events}")
            return told, await _counted(database, redis_url)

    told, counted = asyncio.run(scenario())
    lost = "the relay's lock was lost"
    assert lost in crew.words()
    assert set(crew.stop()) == {0}, crew.words()
    saw(22, f"{lost}: {told}; {counted}")


def _locked_by(database: str) -> int | None:
    with administrator(database) as session:
        row = session.execute(LOCKED).fetchone()
    return None if row is None else int(row[0])
