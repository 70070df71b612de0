"""`python benchmarks/metrics.py` -> how many events a second come back to the metrics, and how soon scores know them.

First the relay and the metrics worker on PostgreSQL (fsync on) and Redis, by turns with the bare stream: the same
documents appended and read by a client that does nothing else. Then pgw as it runs in production, under an open-loop
load: from the end of each attempt to the moment at which a server that looks at the hot state as often as `pgw serve`
does has it in its counts. All processes share the machine's cores, the load too.
"""

import argparse
import asyncio
import statistics
import sys
import tempfile
import time
from pathlib import Path

import psycopg
import uvloop

sys.path.insert(0, str(Path(__file__).parents[1]))

from benchmarks.arrivals import Sent, load  # found beside this folder, not installed
from benchmarks.circle import Circle, circle
from benchmarks.line_back import Figures, measured
from pgw.core.flow.metrics.windows import MetricWindows
from pgw.core.flow.runtime.clock import SystemClock
from pgw.core.flow.runtime.refresh import REFRESH_EVERY_S
from pgw.core.hot.on_redis import OnRedis, connect
from pgw.settings import load as load_settings
from tests.services import fresh_database, postgres_server, redis_server

GATEWAYS = ("hdfc", "icici", "axis")
BEHAVIOUR = {"success_rate": 0.94, "latency_ms": 30}
SETTLE_S = 3.0
"""Before the first payment: workers connect, one of them takes the lead."""

WAIT_S = 5.0
"""After the last payment: what is not seen by then is not seen in time."""

GOAL_EVENTS, GOAL_MS = 60_000, 500


def throughput(events: int, rounds: int) -> list[Figures]:
    with (
        postgres_server(fsync=True) as server,
        fresh_database(server) as database,
        redis_server() as redis,
        tempfile.TemporaryDirectory() as home,
    ):
        settings = load_settings({"DATABASE_URL": database, "REDIS_URL": redis, "PGW_HOME": home})
        return uvloop.run(measured(settings, database, events // rounds, rounds))


async def look(redis_url: str, until: float) -> list[tuple[float, int]]:
    """Refresh a mirror as a server does; return when each refresh had ended, and the attempts it knew of."""
    hot = OnRedis(connect(redis_url))
    mirror = MetricWindows(hot, SystemClock())
    seen: list[tuple[float, int]] = []
    try:
        while time.time() < until:
            await mirror.refresh()
            seen.append((time.time(), sum(mirror.traffic("UPI", 3600).values())))
            await asyncio.sleep(REFRESH_EVERY_S)
    finally:
        await hot.close()
    return seen


async def arrive(started: Circle, rate: float, seconds: float) -> tuple[list[Sent], list[tuple[float, int]]]:
    for name in GATEWAYS:
        started.change_gateway(name, {"sandbox": {"UPI": BEHAVIOUR}})
    began = time.time() + SETTLE_S
    looking = asyncio.create_task(look(started.redis, began + seconds + WAIT_S))
    sent = await load(started.ports, rate, began, seconds, "metrics")
    return sent, await looking


def ends(database: str) -> list[float]:
    """List when attempts ended, in order."""
    query = "SELECT extract(epoch FROM ended_at)::float FROM attempts WHERE status <> 'SKIPPED' ORDER BY ended_at"
    with psycopg.connect(database) as connection:
        return [moment for (moment,) in connection.execute(query) if moment is not None]


def delays(ended: list[float], seen: list[tuple[float, int]]) -> list[float]:
    """Return how long each outcome took, in ms: the k-th is known to the first look that counts k."""
    found: list[float] = []
    looks = iter(seen)
    at, known = next(looks)
    for number, moment in enumerate(ended, start=1):
        while known < number:
            at, known = next(looks, (float("inf"), number))
        found.append((at - moment) * 1000)
    return sorted(found)


def freshness(rate: float, seconds: float) -> tuple[list[Sent], list[float]]:
    with circle() as started:
        sent, seen = uvloop.run(arrive(started, rate, seconds))
        return sent, delays(ends(started.database), seen)


def report_events(found: list[Figures]) -> None:
    print(f"{'events/s':38}{'median':>10}{'lowest .. highest':>24}{'of the bare stream':>22}")
    bare = {"relay": "bare append", "worker": "bare read"}
    for name in found[0]:
        rates = [each[name] for each in found]
        spread = f"{min(rates):,.0f} .. {max(rates):,.0f}"
        ratio = statistics.median(each[name] / each[bare[name]] for each in found) if name in bare else None
        print(f"{name:38}{statistics.median(rates):>10,.0f}{spread:>24}{'' if ratio is None else f'{ratio:.2f}':>22}")
    print(f"goal: relay and worker >= {GOAL_EVENTS:,} events/s each")


def report_delays(sent: list[Sent], found: list[float], rate: float) -> None:
    middle, most, nearly_all = (found[int(len(found) * part)] for part in (0.5, 0.95, 0.99))
    answered = {status: sum(each.status == status for each in sent) for status in sorted({e.status for e in sent})}
    print(f"{len(sent)} payments at {rate:.0f}/s, {len(found)} attempts; answers {answered}")
    print(f"outcome to score, ms: p50 {middle:.0f}, p95 {most:.0f}, p99 {nearly_all:.0f}   goal p99 <= {GOAL_MS}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--events", type=int, default=100_000, help="events in all rounds together")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--rate", type=float, default=500.0, help="payments a second, both servers together")
    parser.add_argument("--seconds", type=float, default=20.0, help="of load")
    asked = parser.parse_args()
    if asked.events:
        report_events(throughput(asked.events, asked.rounds))
    if asked.seconds:
        report_delays(*freshness(asked.rate, asked.seconds), asked.rate)


if __name__ == "__main__":
    main()
