"""`python benchmarks/recovery.py` -> how soon a dead gateway is left, and how soon it has its payments back.

Two `pgw serve`, two `pgw worker metrics` and one `pgw worker verify` on PostgreSQL and Redis take payments at a fixed
rate, open loop. Three sandbox gateways approve 94, 92 and 90 % of what they get; the one that leads is first killed
(nothing can be sent to it), later hangs (it never answers). Beside it the rule of the nearest peer in the same world:
the same arrivals, the same draws, the same outage.

The peer's rule, re-implemented from its public description and not its code: of each gateway the last 125 outcomes,
all taken as successes at first; 95 % of the payments go to the highest share of successes, 5 % to one of the others at
random; every outcome counts, nothing else is known. It decides only: it has no fallback, so a failed attempt is a
failed payment.
"""

import argparse
import asyncio
import json
import random
import sys
import time
from collections import deque
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import pairwise
from pathlib import Path
from typing import Any

import psycopg

sys.path.insert(0, str(Path(__file__).parents[1]))

from benchmarks.arrivals import load  # found beside this folder, not installed
from benchmarks.circle import Circle, circle
from pgw.core.gateways.sandbox import drawn
from pgw.core.routing.gateway import SandboxBehaviour

RATES = {"hdfc": 0.94, "icici": 0.92, "axis": 0.90}
LATENCY_MS = 30
TIMEOUT_S = 2.5
BUCKET_S = 5.0
BACK = 0.9
PEER_WINDOW, PEER_HEDGE = 125, 0.05


@dataclass(frozen=True)
class Call:
    """One attempt, from the ledger: seconds since the epoch, the gateway, its breaker's state, its place."""

    payment_id: str
    number: int
    gateway_id: str
    breaker: str
    status: str
    at: float


def calls(database: str) -> list[Call]:
    with psycopg.connect(database) as connection:
        rows = connection.execute(
            "SELECT payment_id::text, attempt_number, gateway_id, circuit_breaker_state, status,"
            " extract(epoch FROM started_at)::float FROM attempts WHERE status <> 'SKIPPED' ORDER BY started_at"
        ).fetchall()
    return [Call(*row) for row in rows]


def share(found: list[Call], gateway_id: str, begin: float, end: float) -> float:
    """Return the gateway's share of first attempts in a span."""
    firsts = [each for each in found if each.number == 1 and begin <= each.at < end]
    return sum(each.gateway_id == gateway_id for each in firsts) / len(firsts) if firsts else 0.0


def seconds_until_back(found: list[Call], gateway_id: str, recovered: float, calm: float, end: float) -> float | None:
    """Return when the first bucket begins from which the gateway has at least 90 % of its calm share."""
    at = recovered
    while at + BUCKET_S <= end:
        if share(found, gateway_id, at, at + BUCKET_S) >= BACK * calm:
            return at - recovered
        at += 1.0
    return None


def left_after(found: list[Call], gateway_id: str, broke: float, until: float) -> float:
    """Return when the last ordinary call (no probe) went to the gateway, seconds after it broke."""
    ordinary = [e.at for e in found if e.gateway_id == gateway_id and e.breaker == "CLOSED" and broke <= e.at < until]
    return max(ordinary, default=broke) - broke


def stamp(moment: float) -> str:
    return datetime.fromtimestamp(moment, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def outcome(seed: int, number: int, gateway_id: str) -> bool:
    """Draw what the sandbox draws for this payment at this gateway, as a first attempt."""
    told = SandboxBehaviour(success_rate=RATES[gateway_id])
    return drawn(told, "0", f"recovery-{seed}-{number}", gateway_id, 1).reason is None


@dataclass(frozen=True)
class PeerRun:
    """What became of the peer's rule: the leader it was, and the figures the table shows."""

    calm: float
    failed: int
    to_leave: int | None
    back_s: float | None


def peer(leader: str, rate: float, times: tuple[float, float, float, float], seed: int) -> PeerRun:
    """Run the peer's rule over the same arrivals; `times`: measuring begins, kill, recovery, end (seconds)."""
    measured, kill, recovery, end = times
    rng = random.Random(seed)
    windows = {name: deque([1] * PEER_WINDOW, PEER_WINDOW) for name in RATES}
    chosen: list[tuple[float, str, bool]] = []
    for number in range(round(rate * end)):
        at = number / rate
        best = max(windows, key=lambda name: (sum(windows[name]), rng.random()))
        others = [name for name in windows if name != best]
        name = rng.choice(others) if rng.random() < PEER_HEDGE else best
        well = outcome(seed, number, name) and not (name == leader and kill <= at < recovery)
        windows[name].append(int(well))
        chosen.append((at, name, well))

    def part(begin: float, until: float) -> float:
        firsts = [name for at, name, _ in chosen if begin <= at < until]
        return sum(name == leader for name in firsts) / len(firsts) if firsts else 0.0

    calm = part(measured, kill)
    dead = [(at, name) for at, name, _ in chosen if kill <= at < recovery]
    streak = [place for place, (one, two) in enumerate(pairwise(dead)) if one[1] != leader and two[1] != leader]
    back = next(
        (at for at in range(round(recovery), round(end - BUCKET_S)) if part(at, at + BUCKET_S) >= BACK * calm), None
    )
    return PeerRun(
        calm,
        sum(name == leader for _, name in dead),
        streak[0] if streak else None,
        None if back is None else back - recovery,
    )


async def run(started: Circle, asked: argparse.Namespace) -> dict[str, Any]:
    for name, rate in RATES.items():
        told = {"success_rate": rate, "latency_ms": LATENCY_MS}
        started.change_gateway(name, {"sandbox": {"UPI": told}, "timeout_ms": round(TIMEOUT_S * 1000)})
    began = float(round(time.time()) + 2)
    kill = began + asked.calm
    recovery = kill + asked.out
    hang = recovery + asked.after
    hang_over = hang + asked.hang
    end = hang_over + asked.after
    sending = asyncio.create_task(load(started.ports, asked.rate, began, end - began, f"recovery-{asked.seed}"))
    await asyncio.sleep(kill - time.time() - 2.0)
    before = calls(started.database)
    leader = max(RATES, key=lambda name: share(before, name, kill - asked.calm / 2, kill))
    outage = f"{stamp(kill)}/PT{asked.out:.0f}S"
    well = {"success_rate": RATES[leader], "latency_ms": LATENCY_MS}
    started.change_gateway(leader, {"sandbox": {"UPI": {**well, "outage": [outage]}}})
    await asyncio.sleep(hang - time.time())
    started.change_gateway(leader, {"sandbox": {"UPI": {**well, "timeout_rate": 1.0}}})
    hung_at = time.time()
    await asyncio.sleep(hang_over - time.time())
    started.change_gateway(leader, {"sandbox": {"UPI": well}})
    answered_at = time.time()
    sent = await sending
    found = calls(started.database)
    calm = share(found, leader, kill - asked.calm / 2, kill)
    calm_again = share(found, leader, hang - asked.after / 3, hang)
    left_s = left_after(found, leader, kill, recovery)
    on_dead = {each.payment_id for each in found if each.gateway_id == leader and kill <= each.at <= kill + left_s}
    lost = [each for each in sent if each.payment_id in on_dead and each.status == "FAILURE"]
    return {
        "leader": leader,
        "payments": len(sent),
        "calm": calm,
        "touched": len(on_dead),
        "failure": [sum(each.server == server for each in lost) for server in range(len(started.ports))],
        "left_s": left_s,
        "probes": sum(e.gateway_id == leader and e.breaker == "HALF_OPEN" and kill <= e.at < recovery for e in found),
        "back_s": seconds_until_back(found, leader, recovery, calm, hang),
        "hang_left_s": left_after(found, leader, hung_at, answered_at),
        "hang_pending": sum(e.gateway_id == leader and e.status == "TIMEOUT" and e.at >= hung_at - 1 for e in found),
        "hang_back_s": seconds_until_back(found, leader, answered_at, calm_again, end),
        "statuses": {word: sum(each.status == word for each in sent) for word in sorted({e.status for e in sent})},
        "peer": peer(
            leader, asked.rate, (asked.calm / 2, asked.calm, asked.calm + asked.out, hang - began), asked.seed
        ),
    }


def seconds(value: float | None) -> str:
    return "not within the run" if value is None else f"{value:.0f} s"


def report(found: dict[str, Any], asked: argparse.Namespace) -> None:
    other: PeerRun = found["peer"]
    print(f"{found['payments']} payments at {asked.rate:.0f}/s; {found['leader']} leads with {found['calm']:.0%}")
    print(f"statuses: {json.dumps(found['statuses'])}")
    rows = [
        ("", "pgw (2 processes)", "peer's rule"),
        ("share of the leader, calm", f"{found['calm']:.0%}", f"{other.calm:.0%}"),
        ("killed: payments that ended FAILURE before it was left", f"{found['failure']} by process", ""),
        ("killed: payments that met the dead gateway", str(found["touched"]), f"{other.failed} failed"),
        ("killed: left after", f"{found['left_s']:.1f} s", f"{other.to_leave} payments"),
        ("killed: probes during the outage", str(found["probes"]), ""),
        ("killed: >= 90 % of its share back after", seconds(found["back_s"]), seconds(other.back_s)),
        ("hangs: left after (attempt timeout 2.5 s)", f"{found['hang_left_s']:.1f} s", ""),
        ("hangs: attempts left unknown, for verification", str(found["hang_pending"]), ""),
        ("hangs: >= 90 % of its share back after", seconds(found["hang_back_s"]), ""),
    ]
    for what, ours, theirs in rows:
        print(f"{what:<58} {ours:<22} {theirs}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rate", type=float, default=60.0, help="payments a second, both processes together")
    parser.add_argument("--calm", type=float, default=40.0, help="seconds before the gateway is killed")
    parser.add_argument("--out", type=float, default=60.0, help="seconds it is dead")
    parser.add_argument("--after", type=float, default=75.0, help="seconds watched after each recovery")
    parser.add_argument("--hang", type=float, default=20.0, help="seconds it hangs")
    parser.add_argument("--seed", type=int, default=1)
    asked = parser.parse_args()
    with circle() as started:
        report(asyncio.run(run(started, asked)), asked)


if __name__ == "__main__":
    main()
