"""`pgw drill` is refused in production, names what it lacks, and ends by what the scorecard says."""

import json
from pathlib import Path

import pytest
from msgspec import structs

from pgw.cli.exits import Exit
from pgw.drill.scorecard import Scorecard
from pgw.drill.stage import DrillRequest
from tests.cli.conftest import Pgw
from tests.drill.cards import CARD


@pytest.fixture
def orders(monkeypatch: pytest.MonkeyPatch) -> list[DrillRequest]:
    """Run no drill, and keep what was ordered."""
    kept: list[DrillRequest] = []

    def drilled(order: DrillRequest, _: object) -> Scorecard:
        kept.append(order)
        return CARD

    monkeypatch.setattr("pgw.drill.run.drill", drilled)
    return kept


def test_production_refuses(pgw: Pgw, orders: list[DrillRequest], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PGW_ENV", "production")
    ended = pgw("drill", "outage")
    assert (ended.code, ended.out, ended.err.count("\n")) == (Exit.REFUSED, "", 1)
    assert "production" in ended.err
    assert orders == []


def test_without_a_ledger_it_is_the_seed_and_with_one_its_configuration(
    pgw: Pgw, orders: list[DrillRequest], home: Path, request: pytest.FixtureRequest
) -> None:
    assert pgw("drill", "outage").code == Exit.DONE
    assert not home.exists()
    ledger: Path = request.getfixturevalue("ledger")
    before = ledger.read_bytes()
    assert pgw("drill", "outage", "--gateway", "hdfc", "--fast").code == Exit.DONE
    assert before == ledger.read_bytes()
    assert orders[0].configuration is None
    assert orders[1].configuration is not None
    assert (orders[1].gateway_id, orders[1].timing.breakers_by) == ("hdfc", 10)


@pytest.mark.parametrize(
    ("change", "expected"),
    [({"passed": False}, Exit.GATE), ({"conclusive": False}, Exit.PARTIAL), ({}, Exit.DONE)],
)
def test_the_verdict_is_the_exit_code(
    pgw: Pgw, monkeypatch: pytest.MonkeyPatch, change: dict[str, bool], expected: Exit
) -> None:
    card = structs.replace(CARD, **change)
    monkeypatch.setattr("pgw.drill.run.drill", lambda *_: card)
    ended = pgw("drill", "outage", "-o", "json")
    assert (expected, card.passed) == (ended.code, json.loads(ended.out)["passed"])


@pytest.mark.parametrize(
    ("options", "code", "told"),
    [
        (["--redis", "rediss://127.0.0.1:1/0"], Exit.USAGE, "redis://"),
        (["--redis", "redis://127.0.0.1:2/0"], Exit.REFUSED, "throw-away"),
        (["--redis", "redis://127.0.0.1:1/0"], Exit.ABSENT, "--redis"),
        ([], Exit.ABSENT, "--redis"),
    ],
)
def test_a_redis_that_is_not_there_or_in_use_is_named(
    pgw: Pgw, monkeypatch: pytest.MonkeyPatch, options: list[str], code: Exit, told: str
) -> None:
    monkeypatch.setenv("REDIS_URL", "redis://127.0.0.1:2/0")
    monkeypatch.setattr("shutil.which", lambda _: None)
    ended = pgw("drill", "redis-loss", *options)
    assert (code, "") == (ended.code, ended.out)
    assert told in ended.err.splitlines()[-1]


def test_a_redis_that_holds_something_is_not_emptied(pgw: Pgw, redis_url: str) -> None:
    from tests.services import ask_redis  # noqa: PLC0415

    ask_redis(redis_url, "SET", "somebody", "here")
    ended = pgw("drill", "redis-loss", "--redis", redis_url)
    assert ended.code == Exit.REFUSED
    assert "holds 1 keys" in ended.err
    assert ask_redis(redis_url, "GET", "somebody") == "here"
