"""Redis is full and takes no more writes: payments go on, their events wait in the ledger, and then all are counted."""

import asyncio
from collections.abc import Callable
from pathlib import Path

import pytest

from pgw.core.ledger.engine.ledger import OpenLedger
from pgw.core.ledger.tables import outbox
from pgw.settings import load
from tests.core.hot.mortal import MortalRedis
from tests.core.hot.streams import KEY
from tests.faults.proof import settled_in, violations
from tests.ledgers import opened, rows
from tests.seams.counting import agreed, recount, shared_counts
from tests.seams.fleet import Crowd, Customers, Fleet, Server, Told, fleet
from tests.seams.redis_judging import is_late
from tests.services import ask_redis

BEFORE, MEANWHILE, RATE = 10, 40, 20
FULL_B = 5_000_000
QUIET_LIMIT_S = 60.0

pytestmark = pytest.mark.slow


def _filled(redis: MortalRedis) -> None:
    ask_redis(redis.url, "SET", "filler", "x" * FULL_B)
    for setting, value in (("maxmemory-policy", "noeviction"), ("maxmemory", str(FULL_B))):
        ask_redis(redis.url, "CONFIG", "SET", setting, value)
    with pytest.raises(ConnectionError, match="OOM"):
        ask_redis(redis.url, "SET", "another", "word")


async def _waiting(ledger: OpenLedger, redis: MortalRedis) -> int:
    """Count the events that the stream does not have."""
    return len(await rows(ledger, outbox)) - int(ask_redis(redis.url, "XLEN", KEY) or 0)


async def _paid(crowd: Crowd, ledger: OpenLedger, redis: MortalRedis, database: str) -> tuple[list[Told], int, int]:
    """Pay before, while it is full, and after; return the answers of meanwhile, and what waited then and at the end."""
    await crowd.send(BEFORE, "m_001", 0)
    await crowd.answers()
    assert await agreed(ledger, database, redis.url, QUIET_LIMIT_S)
    _filled(redis)
    await crowd.send(MEANWHILE, "m_001", BEFORE)
    told = await crowd.answers()
    waiting = await _waiting(ledger, redis)
    ask_redis(redis.url, "DEL", "filler")
    assert await agreed(ledger, database, redis.url, QUIET_LIMIT_S)
    return told, waiting, await _waiting(ledger, redis)


def test_a_full_redis_holds_no_payment_up_and_loses_no_event(
    tmp_path: Path, database_url: str, redis: MortalRedis, saw: Callable[..., None]
) -> None:
    """It answers every write with OOM; when there is room again, the metrics are what a recount says."""
    database = load({"DATABASE_URL": database_url}).database

    async def scenario(running: Fleet, server: Server) -> tuple[list[Told], int, int, int]:
        async with Customers() as customers, asyncio.TaskGroup() as group, opened(database) as ledger:
            paid = await _paid(Crowd(customers, [server], group, RATE), ledger, redis, database)
            expected, counts = recount(database), await shared_counts(redis.url)
            differing = [each for each in expected.keys() | counts.keys() if expected.get(each) != counts.get(each)]
            return *paid, len(differing)

    with fleet(tmp_path, DATABASE_URL=database_url, REDIS_URL=redis.url) as running:
        running.upgrade()
        server = running.serve()
        running.work("metrics")
        told, waited, waiting, differing = asyncio.run(scenario(running, server))
    found = violations(database, settled_in(tmp_path / ".pgw"))
    refused = [each.code for each in told if each.code not in {201, 202}]
    late = [each for each in told if is_late(each)]
    assert (refused, late, waiting, differing, found) == ([], [], 0, 0, ())
    assert waited >= MEANWHILE
    said = (
        f"{len(refused)} of {len(told)} payments refused, {len(late)} too late; {waited} events wait, then {waiting};"
        f" {differing} slices differ; {len(found)} violations"
    )
    saw(26, said, case="it is full")
