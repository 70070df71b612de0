"""The whole money path on virtual time, drawn from seeds: whatever goes wrong, the money comes out right.

A seed is the test's id, so a failure names what to run again: `python -m tests.simulation SEED` tells its story.
"""

import os
import subprocess
import sys
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import pytest

from pgw.core.money.invariants import MEANINGS
from tests.simulation.checks import faults
from tests.simulation.mutants import MUTANTS, Patch
from tests.simulation.run import simulate

RUNS_VARIABLE = "PGW_TEST_RUNS"
RUNS = int(os.environ.get(RUNS_VARIABLE, "500"))

PLAIN = 100
"""Seeds of the plain command, in groups: a test for each would say nothing more."""

GROUP = 10
ROOT = Path(__file__).parents[2]


@dataclass(frozen=True)
class Lived:
    """What a run leaves."""

    story: str
    wrong: list[str]
    words: frozenset[str]
    gave_back: bool


@cache
def _lived(seed: int) -> Lived:
    run = simulate(seed)
    words = frozenset(answer.word for answer in run.answers)
    return Lived("\n".join(run.story), faults(run), words, any(each.given_back for each in run.book.charges))


def _wrong(seeds: range) -> dict[int, list[str]]:
    return {seed: found for seed in seeds if (found := faults(simulate(seed)))}


@pytest.mark.parametrize("first", range(0, PLAIN, GROUP))
def test_the_money_comes_out_right(first: int) -> None:
    wrong = {seed: found for seed in range(first, first + GROUP) if (found := _lived(seed).wrong)}
    assert wrong == {}, "python -m tests.simulation SEED tells the story"


@pytest.mark.slow
def test_the_money_comes_out_right_in_many_more_runs() -> None:
    print(f"\n{RUNS} runs ({RUNS_VARIABLE})")
    assert _wrong(range(PLAIN, PLAIN + RUNS)) == {}, "python -m tests.simulation SEED tells the story"


def test_a_seed_is_the_same_story_in_every_process() -> None:
    """Names are hashed otherwise in each, which must not matter."""
    story = _lived(16).story.splitlines()
    for hashing in ("1", "2"):
        told = subprocess.run(
            [sys.executable, "-m", "tests.simulation", "16"],
            cwd=ROOT,
            env={**os.environ, "PYTHONPATH": str(ROOT), "PYTHONHASHSEED": hashing},
            capture_output=True,
            text=True,
            check=True,
        )
        assert told.stdout.splitlines() == [*story, "nothing is wrong"]


def test_the_runs_are_not_idle() -> None:
    """What they are about does happen in them."""
    runs = [_lived(seed) for seed in range(PLAIN)]
    story = "\n".join(run.story for run in runs)
    for happens in (
        "is killed",
        "is stopped",
        "is struck",
        "clock of",
        "ledger is away",
        "LOST",
        "LATE",
        "answer lost",
        "a person says SUCCESS",
        "a person says FAILURE",
    ):
        assert happens in story, happens
    words = frozenset().union(*(run.words for run in runs))
    assert {"SUCCESS", "FAILURE", "PENDING_VERIFICATION", "REQUIRES_ACTION", "ConnectionResetError"} <= words
    assert any(run.gave_back for run in runs)


def test_unknown_taken_for_not_sent_breaks_the_invariants(monkeypatch: pytest.MonkeyPatch) -> None:
    """The one rule of the house, mutated: within a few runs somebody has paid twice, or paid for nothing."""
    mutate = MUTANTS[0]
    mutate(monkeypatch)
    found = [each for wrong in _wrong(range(12)).values() for each in wrong]
    assert {each.split()[0] for each in found} & {"I1", "I3"}
    assert MEANINGS.keys() >= {"I1", "I3"}


@pytest.mark.slow
@pytest.mark.parametrize("mutate", MUTANTS[1:], ids=lambda each: each.__name__)
def test_each_safeguard_is_missed_when_it_is_gone(mutate: Patch, monkeypatch: pytest.MonkeyPatch) -> None:
    mutate(monkeypatch)
    assert any(_wrong(range(seed, seed + 1)) for seed in range(400))
