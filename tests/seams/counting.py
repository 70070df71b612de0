"""A ledger and a Redis under load -> `pgw worker metrics` processes, real payments, and a count by plain SQL."""

import asyncio
import contextlib
import os
import signal
import subprocess
import sys
import time
from collections import Counter, defaultdict
from collections.abc import AsyncIterator, Iterator
from datetime import UTC, datetime
from pathlib import Path
from random import Random
from typing import Any

from pgw.core.errors import PgwError
from pgw.core.flow.payments.take import take
from pgw.core.flow.verification.verify import verify_due
from pgw.core.hot.on_redis import OnRedis, connect
from pgw.core.hot.stream import Stream
from pgw.core.ledger.engine.ledger import OpenLedger
from pgw.core.ledger.outbox import numbering
from pgw.core.metrics.counters import bucket_of, field_of
from pgw.core.payment.outcome import Verdict
from pgw.core.payment.payment import Upi
from tests.circle import Sums, held, plain
from tests.core.hot.streams import GROUP, KEY
from tests.doubles import (
    ACTION,
    CAPTURED,
    CUSTOMER_DECLINE,
    GATEWAY_DECLINE,
    NOT_SENT,
    UNKNOWN,
    Act,
    VirtualClock,
    request_of,
    scene_of,
)
from tests.ledgers import administrator
from tests.seams.serving import POLL_EVERY_S, START_LIMIT_S, wait_until

PAYMENTS_AT_ONCE = 8
PAUSE_S = 0.02
"""Between batches: the workers are what is tested, and they need a part of the machine."""

HANDLES = ("okhdfcbank", "okicici", "okaxis", "oksbi", "ybl", "nobody")
VERDICTS: tuple[tuple[int, Verdict], ...] = (
    (60, CAPTURED),
    (12, GATEWAY_DECLINE),
    (8, CUSTOMER_DECLINE),
    (5, NOT_SENT),
    (12, UNKNOWN),
    (3, ACTION),
)


class Workers:
    """Real `pgw worker metrics` processes on one ledger and one Redis."""

    def __init__(self, home: Path, database_url: str, redis_url: str, **environ: str) -> None:
        home.mkdir(parents=True, exist_ok=True)
        self._log = home / "workers.log"
        self._environ = {
            **{name: value for name, value in os.environ.items() if not name.startswith(("PGW_", "METRICS_"))},
            "PGW_HOME": str(home),
            "PGW_LOG_LEVEL": "warning",
            "DATABASE_URL": database_url,
            "REDIS_URL": redis_url,
            **environ,
        }
        for name in ("INTERNAL_API_KEY", "BIND_ADDR"):
            self._environ.pop(name, None)
        self.running: list[subprocess.Popen[bytes]] = []
        self._started = 0

    def start(self) -> subprocess.Popen[bytes]:
        """Start one more and wait until it says what it does."""
        with self._log.open("ab") as log:
            process = subprocess.Popen(
                [sys.executable, "-m", "pgw.cli", "worker", "metrics"], env=self._environ, stdout=log, stderr=log
            )
        self.running.append(process)
        self._started += 1
        wait_until(lambda: self.words().count("pgw worker metrics: counts") >= self._started, "the worker's first word")
        return process

    def kill(self, process: subprocess.Popen[bytes]) -> None:
        """End one without a chance to do anything."""
        self.running.remove(process)
        process.kill()
        process.wait(START_LIMIT_S)

    def stop(self) -> list[int]:
        """Ask all to stop and return how they ended."""
        for each in self.running:
            each.send_signal(signal.SIGTERM)
        codes = [each.wait(START_LIMIT_S) for each in self.running]
        self.running.clear()
        return codes

    def words(self) -> str:
        """Return what all of them have written."""
        return self._log.read_text(errors="replace") if self._log.exists() else ""


@contextlib.contextmanager
def workers(home: Path, database_url: str, redis_url: str, **environ: str) -> Iterator[Workers]:
    """Give a place for workers, and end them whatever happens, stopped ones too."""
    opened = Workers(home, database_url, redis_url, **environ)
    try:
        yield opened
    finally:
        for each in list(opened.running):
            opened.kill(each)


class Load:
    """Payments through the real flow on the real ledger, by gateways that decline, fail and fall silent at random."""

    def __init__(self, ledger: OpenLedger, seed: int) -> None:
        self._rng = Random(seed)
        self._clock = VirtualClock(datetime.now(UTC))
        scripts: dict[str, list[Act | Verdict]] = {name: [] for name in ("g1", "g2", "g3")}
        self._scene = scene_of(ledger, scripts, seed=seed, clock=self._clock)
        self._prefix = f"seed{seed}"
        self.made = 0
        self._more = asyncio.Condition()

    @contextlib.asynccontextmanager
    async def at_work(self) -> AsyncIterator[None]:
        """Pay for as long as the block runs; raises what went wrong meanwhile."""
        done = asyncio.Event()
        working = asyncio.create_task(self._work(done))
        try:
            yield
        finally:
            done.set()
            await working

    async def made_more(self, more: int) -> None:
        """Wait until so many more payments were made."""
        enough = self.made + more
        async with asyncio.timeout(START_LIMIT_S), self._more:
            await self._more.wait_for(lambda: self.made >= enough)

    async def _work(self, done: asyncio.Event) -> None:
        while not done.is_set():
            await asyncio.gather(*(self._pay(self.made + n) for n in range(PAYMENTS_AT_ONCE)))
            self.made += PAYMENTS_AT_ONCE
            self._clock.advance(0.5)
            if self._rng.random() < 0.3:
                self._clock.advance(4)
                await verify_due(self._scene.deps)
            async with self._more:
                self._more.notify_all()
            await asyncio.sleep(PAUSE_S)

    async def _pay(self, number: int) -> None:
        for gateway in self._scene.gateways.values():
            verdict = self._rng.choices([each for _, each in VERDICTS], [weight for weight, _ in VERDICTS])[0]
            moves = verdict is UNKNOWN and self._rng.random() < 0.7
            gateway._acts.append(Act(verdict, self._rng.random() / 10, moves_money=moves or None))
        vpa = f"test@{self._rng.choice(HANDLES)}"
        request = request_of(instrument=Upi(vpa=vpa))
        # A ledger that is busy with a failover refuses; that is a payment less.
        with contextlib.suppress(PgwError):
            await take(self._scene.deps, request, f"{self._prefix}-{number}")


RECOUNT = """
SELECT floor(extract(epoch FROM CASE WHEN a.latency_ms IS NULL THEN v.last ELSE a.ended_at END) / 10)::bigint,
       a.gateway_id, p.payment_method, p.issuing_bank,
       a.status, a.blame, a.error_code, a.latency_ms, v.last IS NOT NULL
FROM attempts a JOIN payments p USING (payment_id)
LEFT JOIN (SELECT payment_id, attempt_number, max(checked_at) AS last FROM verification_checks GROUP BY 1, 2) v
     USING (payment_id, attempt_number)
WHERE a.status IN ('SUCCESS', 'FAILURE', 'TIMEOUT', 'REQUIRES_ACTION') AND a.ended_at IS NOT NULL
  AND a.error_code IS DISTINCT FROM 'LEASE_EXPIRED'
"""
"""Every attempt whose end was published, as it is now; no event is read.

One whose owner died has no time of its own, and counts where its gateway said what became of it, if it did.
"""


def recount(database: str) -> Sums:
    """Count attempts where they are: slice -> field -> count."""
    sums: dict[int, Counter[str]] = defaultdict(Counter)
    with administrator(database) as session:
        for number, *cell, status, blame, error_code, latency_ms, was_asked in session.execute(RECOUNT).fetchall():
            fields = sums[number]
            gateway_id, method, bank = cell
            name = (gateway_id, method, bank)
            fields[field_of(name, f"s:{status}")] += 1
            if status in {"FAILURE", "TIMEOUT"} and blame not in {None, "none"}:
                fields[field_of(name, f"b:{blame}")] += 1
            if error_code is not None:
                fields[field_of(name, f"e:{error_code}")] += 1
            sent_and_blamed = blame == "gateway" and not (error_code or "").startswith("NOT_SENT_")
            says_something = was_asked or status in {"SUCCESS", "REQUIRES_ACTION"} or sent_and_blamed
            if latency_ms is not None and says_something:
                fields[field_of(name, f"l:{bucket_of(latency_ms)}")] += 1
    return plain(sums)


HISTORY = """
SELECT extract(epoch FROM minute)::bigint / 60, gateway_id, payment_method, issuing_bank, counts,
       attempts, successes, failures, unknown, pending
FROM gateway_metrics
"""


def history(database: str) -> Sums:
    """Read the ledger's minutes: minute -> field -> count; the figures of a row agree with its counts."""
    found: dict[int, dict[str, int]] = defaultdict(dict)
    with administrator(database) as session:
        for minute, gateway_id, method, bank, counts, *figures in session.execute(HISTORY).fetchall():
            ends = [counts.get(f"s:{end}", 0) for end in ("SUCCESS", "FAILURE", "TIMEOUT", "REQUIRES_ACTION")]
            assert figures == [sum(ends), *ends]
            found[minute] |= {field_of((gateway_id, method, bank), name): n for name, n in counts.items()}
    return plain(found)


def by_minute(slices: Sums) -> Sums:
    """Add the slices of each minute."""
    sums: dict[int, Counter[str]] = defaultdict(Counter)
    for number, fields in slices.items():
        sums[number // 6].update(fields)
    return plain(sums)


async def shared_counts(redis_url: str) -> Sums:
    """Read the hot metrics of all processes."""
    hot = OnRedis(connect(redis_url))
    try:
        return await held(hot)
    finally:
        await hot.close()


async def is_quiet(ledger: OpenLedger, redis_url: str) -> bool:
    """Whether every event has been published, appended and counted."""
    server = connect(redis_url)
    try:
        stream = Stream(server, KEY, GROUP)
        state = await stream.state()
        last, is_waiting = await ledger.read(numbering)
        if state is None or is_waiting or state.top != last:
            return False
        lag = await stream.lag()
        return lag.waiting == lag.pending == 0
    finally:
        await server.close()


async def agreed(ledger: OpenLedger, database: str, redis_url: str, within_s: float) -> bool:
    """Wait until all is counted and written down; whether both counts are then what the attempts come to."""
    until = time.monotonic() + within_s
    while time.monotonic() < until:
        if await is_quiet(ledger, redis_url) and history(database) == by_minute(recount(database)):
            break
        await asyncio.sleep(POLL_EVERY_S)
    expected = recount(database)
    return (expected, by_minute(expected)) == (await shared_counts(redis_url), history(database))


async def on_stream(redis_url: str) -> list[tuple[int, bytes]]:
    """Read the whole stream: numbers and events."""
    server = connect(redis_url)
    try:
        entries: Any = await server.ask("XRANGE", KEY, "-", "+", within_s=10)
        assert all(entry_id.endswith(b"-0") for entry_id, _ in entries)
        return [(int(entry_id.partition(b"-")[0]), fields[1]) for entry_id, fields in entries]
    finally:
        await server.close()
