"""`python benchmarks/faults.py` -> how often the money came out wrong: in simulated runs, and under real kills.

`--runs N` simulates N runs of the whole money path on virtual time, each with faults of its own: gateways that lose,
delay and change their minds, processes stopped and killed at any await, wrong clocks, a ledger that refuses or does
not confirm. A wrong run is named by its seed; `python -m tests.simulation SEED` tells its story.

`--kills N` kills real processes under load N times: half of the time one server on SQLite, half of the time any of a
fleet of servers, verifier, metrics workers, PostgreSQL and Redis. Then it compares ledger, book, metrics and what
clients were told. The same seed draws the same victims in the same order.
"""

import argparse
import os
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

from tests.seams.killing import Killed, killed
from tests.seams.killing_fleet import herd, killed_fleet
from tests.seams.serving import shop
from tests.simulation.checks import faults
from tests.simulation.run import simulate

GROUP = 50
SHOWN = 20


def lived(first: int, count: int) -> tuple[Counter[str], list[tuple[int, str]]]:
    """Simulate some runs: what happened in them, and what is wrong."""
    seen: Counter[str] = Counter()
    wrong: list[tuple[int, str]] = []
    for seed in range(first, first + count):
        run = simulate(seed)
        found = faults(run)
        wrong += [(seed, each) for each in found]
        seen["runs"] += 1
        seen["runs with a fault in the money"] += bool(found)
        seen["payments"] += len(run.asked)
        seen["answers"] += len(run.answers)
        seen["charges"] += len(run.book.charges)
        seen["reversals"] += sum(len(each.given_back) for each in run.book.charges)
        seen["processes killed"] += len(run.dead)
        seen["commits"] += run.store.commits
        seen["days"] += round(run.loop.time() / 86_400)
    return seen, wrong


def simulated(runs: int, first: int, processes: int) -> int:
    """Simulate on all cores, and print what came of it; return the number of wrong runs."""
    began = time.perf_counter()
    seen: Counter[str] = Counter()
    wrong: list[tuple[int, str]] = []
    starts = range(first, first + runs, GROUP)
    counts = [min(GROUP, first + runs - start) for start in starts]
    with ProcessPoolExecutor(processes) as pool:
        for part, found in pool.map(lived, starts, counts):
            seen += part
            wrong += found
    took = time.perf_counter() - began
    print(f"simulated: seeds {first} to {first + runs - 1}, {took:.0f} s, {runs / took:.1f} runs/s")
    print(", ".join(f"{name} {seen[name]}" for name in SHOWN_COUNTS))
    for seed, what in wrong[:SHOWN]:
        print(f"  seed {seed}: {what}")
    return seen["runs with a fault in the money"]


SHOWN_COUNTS = (
    "runs",
    "payments",
    "answers",
    "charges",
    "reversals",
    "processes killed",
    "commits",
    "days",
    "runs with a fault in the money",
)


def crashed(kills: int, seed: int) -> int:
    """Kill real processes, and print what came of it; return how much is wrong."""
    print(f"kills: seed {seed}; again by `python benchmarks/faults.py --runs 0 --kills {kills} --seed {seed}`")
    bad = 0
    for name, outcome, took_s in _outcomes(kills, seed):
        print(f"{name}, {took_s:.0f} s: {outcome.figures()}")
        wrong = outcome.wrong()
        for what in wrong[:SHOWN]:
            print(f"  seed {seed}: {what}")
        bad += len(wrong)
    return bad


def _outcomes(kills: int, seed: int) -> Iterator[tuple[str, Killed, float]]:
    half = kills // 2
    with tempfile.TemporaryDirectory() as folder:
        if kills - half:
            began = time.monotonic()
            with shop(Path(folder) / "sqlite", None) as opened:
                outcome = killed(opened, seed, kills - half)
            yield f"{kills - half} kills of a server on SQLite", outcome, time.monotonic() - began
        if half:
            began = time.monotonic()
            with herd(Path(folder)) as running:
                outcome = killed_fleet(running, seed, half)
            yield f"{half} kills in a fleet on PostgreSQL and Redis", outcome, time.monotonic() - began


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=10_000)
    parser.add_argument("--first", type=int, default=0, help="the first seed")
    parser.add_argument("--processes", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--kills", type=int, default=0)
    parser.add_argument("--seed", type=int, default=7, help="of the kills: who, after how many answers")
    chosen = parser.parse_args()
    wrong = simulated(chosen.runs, chosen.first, chosen.processes) if chosen.runs else 0
    wrong += crashed(chosen.kills, chosen.seed) if chosen.kills else 0
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
