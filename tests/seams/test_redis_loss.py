"""Redis is wiped, stopped, killed under load, one gateway dead: payments go on, and then all is as it should be."""

import asyncio
import json
import os
import time
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest

from pgw.core.routing.plan import HOT_LIMIT
from pgw.settings import load
from tests.core.hot.mortal import MortalRedis
from tests.faults.proof import settled_in, violations
from tests.ledgers import opened
from tests.seams.counting import by_minute, history, is_quiet, recount, shared_counts
from tests.seams.fleet import Crowd, Customers, Fleet, Server, Told, fleet
from tests.seams.redis_judging import (
    BUDGET_MS,
    DEAD,
    FAULTY,
    FORCED,
    HEALTHY,
    WELL,
    is_late,
    judge_answers,
    judge_ends,
    rates,
)
from tests.services import ask_redis

PAUSE_VARIABLE = "PGW_TEST_REDIS_PAUSE_S"
PAUSE_S = int(os.environ.get(PAUSE_VARIABLE, "6"))
"""How long Redis is stopped, and how long it is dead; the tag `degraded` comes after two seconds of it."""

RATE = 40
"""Payments a second, both servers together: two cores are shared by nine processes."""

CALM_S, AFTER_S = 2, 3
HEALED_WITHIN_S = 45.0
TIMEOUT_MS = 800

pytestmark = pytest.mark.slow


@dataclass
class _Faulty:
    """A run with its faults: how many were sent, and when Redis was away, epoch seconds."""

    sent: int = 0
    away: dict[str, tuple[float, float]] = field(default_factory=dict)

    async def send(self, crowd: Crowd, seconds: float) -> None:
        """Let the crowd go on for so long."""
        self.sent += await crowd.send(round(seconds * RATE), FAULTY, self.sent)

    @asynccontextmanager
    async def fault(self, name: str) -> AsyncIterator[None]:
        """Note from when to when a fault lasted."""
        begin = time.time()
        yield
        self.away[name] = (begin, time.time())

    def during(self, name: str, at: float) -> bool:
        """Whether a time is inside a fault, and so far that what is known of Redis must be too old."""
        begin, end = self.away[name]
        return begin + HOT_LIMIT.total_seconds() < at < end


SECONDS = CALM_S + AFTER_S + PAUSE_S + AFTER_S + PAUSE_S + AFTER_S


async def _with_faults(crowd: Crowd, running: Fleet, redis: MortalRedis) -> _Faulty:
    """Wipe it, stop it, kill it; while it is dead, restart a server."""
    run = _Faulty()
    await run.send(crowd, CALM_S)
    async with run.fault("wiped"):
        await asyncio.to_thread(ask_redis, redis.url, "FLUSHALL")
    await run.send(crowd, AFTER_S)
    async with run.fault("stopped"):
        redis.pause()
        await run.send(crowd, PAUSE_S)
        await asyncio.to_thread(_look_while_away, crowd.servers)
        redis.resume()
    await run.send(crowd, AFTER_S)
    async with run.fault("killed"):
        await asyncio.to_thread(redis.kill)
        await asyncio.gather(run.send(crowd, PAUSE_S), _restart(crowd, running))
        await asyncio.to_thread(_look_while_away, crowd.servers)
        await asyncio.to_thread(redis.start)
    await run.send(crowd, AFTER_S)
    return run


async def _restart(crowd: Crowd, running: Fleet) -> None:
    """Stop a server while the other takes its payments, and start another in its place, without a Redis."""
    old = crowd.servers.pop(0)
    await asyncio.gather(*crowd.paying)
    assert await asyncio.to_thread(old.stop) == 0, old.words()
    crowd.servers.append(await asyncio.to_thread(running.serve))


def _look_while_away(servers: Sequence[Server]) -> None:
    """A server's readiness now says that it serves, that something is wrong, and that the override holds."""
    for each in servers:
        status, document = each.ask("GET", "/ops/readiness")
        assert (status, document["status"]) == (200, "degraded"), document
        order = each.breaker(FORCED)["override"]
        assert (order["state"], order["reason"]) == ("FORCED_OPEN", "drill")


def _prepare(server: Server) -> None:
    """The gateway that everybody would choose is dead, the second is forced open, the third fails now and then."""
    _, document = server.ask("GET", "/scoring/config")
    document["method_affinity"] = {DEAD: {"UPI": 1.0}, FORCED: {"UPI": 0.9}, WELL: {"UPI": 0.1}}
    assert server.ask("PUT", "/scoring/config", document)[0] == 200
    behaviours: dict[str, dict[str, Any]] = {
        DEAD: {"outage": ["2026-01-01T00:00Z/P9999D"]},
        FORCED: {},
        WELL: {"success_rate": 0.95, "timeout_rate": 0.02, "latency_ms": 20},
    }
    for gateway_id, behaviour in behaviours.items():
        assert server.ask("PATCH", f"/gateways/{gateway_id}", {"sandbox": {"UPI": behaviour}})[0] == 200
    for merchant_id in (HEALTHY, FAULTY):
        policy = {
            "merchant_id": merchant_id,
            "max_attempts": 3,
            "latency_budget_ms": BUDGET_MS,
            "retry_on_timeout": False,
            "enabled": True,
        }
        assert server.ask("PUT", f"/retry-policy/{merchant_id}", policy)[0] == 200
    assert server.ask("POST", f"/circuit-breaker/force-open/{FORCED}/UPI", {"reason": "drill"})[0] == 200


def _started(running: Fleet) -> list[Server]:
    running.upgrade()
    servers = [running.serve(), running.serve()]
    for kind in ("metrics", "metrics", "verify"):
        running.work(kind)
    _prepare(servers[0])
    return servers


async def _warm(crowd: Crowd) -> None:
    """Pay until both servers have left the dead gateway."""
    number = 0
    async with asyncio.timeout(HEALED_WITHIN_S):
        while any(each.breaker(DEAD)["state"] == "CLOSED" for each in crowd.servers):
            number += await crowd.send(RATE // 2, "m_warm", number)
            await crowd.answers()


async def _healed(database: str, redis_url: str) -> float:
    """Wait until every payment has its end, and everything is counted; return the seconds it took."""
    began = time.monotonic()
    async with asyncio.timeout(HEALED_WITHIN_S), opened(database) as ledger:
        while True:
            is_over = all(set(ends) <= {"SUCCESS", "FAILURE"} for _, ends in rates(database).values())
            if is_over and await is_quiet(ledger, redis_url):
                expected = recount(database)
                if (await shared_counts(redis_url), history(database)) == (expected, by_minute(expected)):
                    return time.monotonic() - began
            await asyncio.sleep(0.2)


async def _current(crowd: Crowd) -> None:
    """Pay at each server until a decision is no longer degraded."""
    async with asyncio.timeout(HEALED_WITHIN_S):
        for server in crowd.servers:
            is_degraded = True
            while is_degraded:
                key = f"again-{server.process.pid}-{time.monotonic()}"
                told = await crowd.customers.pay(server, crowd.at(server), key, "m_warm")
                [decision] = await crowd.customers.decisions(crowd.at(server), [told.document["payment_id"]])
                is_degraded = decision["degraded"]
                await asyncio.sleep(0.05)


def _moment(decision: dict[str, Any]) -> float:
    return datetime.fromisoformat(decision["decided_at"]).timestamp()


def _judge_decisions(run: _Faulty, decisions: Sequence[dict[str, Any]]) -> None:
    """The forced gateway is left out by all; degraded are those made while Redis was long away, not those before."""
    assert all({"gateway_id": FORCED, "reason": "FORCED_OPEN"} in each["excluded"] for each in decisions)
    degraded = sorted(_moment(each) for each in decisions if each["degraded"])
    print(f"decisions: {len(decisions)}, {FORCED} FORCED_OPEN in all of them, degraded {len(degraded)}")
    calm = [each for each in decisions if _moment(each) < run.away["wiped"][0]]
    assert not all(each["degraded"] for each in calm)
    ends = [*(begin for begin, _ in run.away.values()), float("inf")][1:]
    moments = [_moment(each) for each in decisions]
    for (name, (begin, end)), following in zip(run.away.items(), ends, strict=True):
        late = [at for at in moments if run.during(name, at)]
        tagged = set(late) & set(degraded)
        stale_s = max((at - end for at in degraded if end <= at < following), default=0.0)
        print(
            f"  {name} for {end - begin:.1f} s: {sum(begin <= at <= end for at in moments)} decisions,"
            f" {len(late)} from 2 s on, {len(tagged)} degraded; the last one {stale_s:.1f} s after its return"
        )
        assert tagged == set(late)
        assert late or name == "wiped"


async def _rebuilt(running: Fleet) -> int:
    """A rebuild finds that everything is as the ledger has it; return how many counters differ."""
    said = await asyncio.to_thread(running.type, "pgw rebuild -o json")
    assert said.code == 0, said.err
    found = json.loads(said.out)
    print(f"pgw rebuild: {found['events']} events, {found['differing']} counters differ")
    assert (found["was_lost"], found["under_way"], found["differences"]) == (False, 0, [])
    differing: int = found["differing"]
    return differing


@dataclass(frozen=True)
class _Seen:
    """What came of the faulty run: its answers and decisions, fault by fault, and what was left at the end."""

    run: _Faulty
    told: Sequence[Told]
    decisions: Sequence[dict[str, Any]]
    waiting: int
    differing: int
    forgotten: int

    def answers(self, name: str) -> str:
        """Say how payments fared that were asked for while Redis was away, and until it was away again."""
        begin = self.run.away[name][0]
        end = min((other for other, _ in self.run.away.values() if other > begin), default=float("inf"))
        mine = [each for each in self.told if begin <= each.asked_at < end]
        refused = sum(each.code not in {201, 202} for each in mine)
        return f"{refused} payments refused, {sum(map(is_late, mine))} too late"

    def unforced(self) -> int:
        """Count the decisions that knew nothing of the forced breaker."""
        order = {"gateway_id": FORCED, "reason": "FORCED_OPEN"}
        return sum(order not in each["excluded"] for each in self.decisions)


async def _both_runs(crowd: Crowd, running: Fleet, redis: MortalRedis, database: str) -> _Seen:
    """Let them pay with a Redis, then without one now and then; judge what they were answered, and what is left."""
    await _warm(crowd)
    sent = await crowd.send(SECONDS * RATE, HEALTHY, 0)
    judge_answers("nothing happens", await crowd.answers())
    run = await _with_faults(crowd, running, redis)
    told = await crowd.answers()
    assert sent == run.sent
    judge_answers("Redis is lost three times", told)
    await _current(crowd)
    healed_s = await _healed(database, redis.url)
    ids = [each.document["payment_id"] for each in told]
    decisions = await crowd.customers.decisions(crowd.at(crowd.servers[0]), ids)
    _judge_decisions(run, decisions)
    print(f"hot metrics equal a recount {healed_s:.1f} s after the last payment")
    judge_ends(database)
    forgotten = sum(each.breaker(DEAD)["state"] not in {"OPEN", "HALF_OPEN"} for each in crowd.servers)
    assert forgotten == 0
    outbox = json.loads((await asyncio.to_thread(running.type, "pgw outbox status -o json")).out)
    return _Seen(run, told, decisions, outbox["waiting"], await _rebuilt(running), forgotten)


def test_without_redis_payments_go_on_and_all_heals_when_it_is_back(
    tmp_path: Path, database_url: str, redis: MortalRedis, saw: Callable[..., None]
) -> None:
    """Wiped, stopped, killed; the success rate is that of the run in which nothing happened, within a point."""
    stores = {"DATABASE_URL": database_url, "REDIS_URL": redis.url, "GATEWAY_TIMEOUT_MS": str(TIMEOUT_MS)}
    database = load({"DATABASE_URL": database_url}).database

    async def scenario(running: Fleet) -> _Seen:
        servers = await asyncio.to_thread(_started, running)
        async with Customers() as customers, asyncio.TaskGroup() as group:
            crowd = Crowd(customers, servers, group, RATE)
            return await _both_runs(crowd, running, redis, database)

    print(f"\nRedis is away for {PAUSE_S} s at a time ({PAUSE_VARIABLE})")
    with fleet(tmp_path, **stores) as running:
        seen = asyncio.run(scenario(running))
    found = violations(database, settled_in(tmp_path / ".pgw"))
    assert found == ()
    end = f"{seen.differing} counters differ; {len(found)} violations"
    saw(25, f"{seen.answers('killed')}; a dead gateway forgotten by {seen.forgotten} servers; {end}")
    saw(26, f"{seen.answers('stopped')}; afterwards {seen.waiting} in the outbox; {end}", case="it stands still")
    saw(27, f"{seen.answers('wiped')}; the forced breaker unknown to {seen.unforced()} decisions; {end}")
