"""`pgw worker` and `pgw rebuild` work on the stores: once and shown, or refused with what is missing."""

import json
from pathlib import Path

import pytest

from pgw.cli.exits import Exit
from pgw.core.ledger.engine.store import upgrade
from pgw.settings import load
from tests.cli.conftest import Pgw
from tests.core.hot.streams import stored
from tests.events import put, some
from tests.services import ask_redis

NOWHERE = "redis://127.0.0.1:1/0"


@pytest.fixture
def shared(home: Path, database_url: str, redis_url: str, monkeypatch: pytest.MonkeyPatch) -> str:
    """Point the settings at a new PostgreSQL ledger and a Redis; give the ledger's address."""
    monkeypatch.setenv("DATABASE_URL", database_url)
    monkeypatch.setenv("REDIS_URL", redis_url)
    database = load().database
    upgrade(database)
    return database


def test_metrics_once_moves_what_is_there(pgw: Pgw, shared: str, redis_url: str) -> None:
    put(shared, some(120))
    ended = pgw("worker", "metrics", "--once", "-o", "json")
    assert (ended.code, ended.err) == (0, "")
    told = json.loads(ended.out)
    assert (told["published"], told["counted"], told["relays"], told["trimmed"]) == (120, 120, True, 0)
    assert stored(redis_url) == 120
    again = json.loads(pgw("worker", "metrics", "--once", "-o", "json").out)
    assert (again["published"], again["counted"], again["minutes_written"]) == (0, 0, 0)


def test_metrics_names_what_it_lacks(pgw: Pgw, ledger: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ended = pgw("worker", "metrics")
    assert (ended.code, ended.out, ended.err.count("\n")) == (Exit.ABSENT, "", 1)
    assert "REDIS_URL" in ended.err
    monkeypatch.setenv("REDIS_URL", NOWHERE)
    ended = pgw("worker", "metrics")
    assert (ended.code, ended.out, ended.err.count("\n")) == (Exit.ABSENT, "", 1)
    assert "DATABASE_URL" in ended.err


@pytest.mark.parametrize("command", ["worker metrics --once", "rebuild"])
def test_a_redis_that_is_not_there_is_named(
    pgw: Pgw, shared: str, monkeypatch: pytest.MonkeyPatch, command: str
) -> None:
    monkeypatch.setenv("REDIS_URL", "redis://:secret@127.0.0.1:1/0")
    ended = pgw(*command.split())
    assert (ended.code, ended.out, ended.err.count("\n")) == (Exit.ABSENT, "", 1)
    assert "redis://127.0.0.1:1/0 does not answer" in ended.err
    assert "secret" not in ended.err


def test_verify_once_on_the_embedded_ledger(pgw: Pgw, ledger: Path) -> None:
    ended = pgw("worker", "verify", "--once", "-o", "json")
    assert (ended.code, ended.err, json.loads(ended.out)) == (0, "", {"checked": 0})


def test_a_rebuild_shows_what_redis_held_otherwise(pgw: Pgw, shared: str, redis_url: str) -> None:
    put(shared, [each for each in some(50) if each.gateway_id == "g1"])
    assert json.loads(pgw("rebuild", "-o", "json").out)["was_lost"] is True
    pgw("worker", "metrics", "--once")
    sound = pgw("rebuild")
    assert (sound.code, sound.err) == (0, "")
    assert "no counter differed" in sound.out
    ask_redis(redis_url, "FLUSHDB")
    lost = pgw("rebuild", "-o", "json")
    assert (lost.code, json.loads(lost.out)["was_lost"]) == (0, True)


def test_a_rebuild_of_a_stream_that_is_ahead_is_refused_without_the_word(pgw: Pgw, shared: str, redis_url: str) -> None:
    put(shared, some(5))
    pgw("worker", "metrics", "--once")
    for number in range(6, 9):
        ask_redis(redis_url, "XADD", "payments:events:v1", f"{number}-0", "event", "{}")
    ended = pgw("rebuild")
    assert (ended.code, ended.out, ended.err.count("\n")) == (Exit.CONFLICT, "", 1)
    assert "pgw rebuild --stream" in ended.err
    assert pgw("rebuild", "--stream").code == 0
    assert stored(redis_url) == 0


def test_without_redis_there_is_nothing_shared_to_rebuild(pgw: Pgw, ledger: Path) -> None:
    ended = pgw("rebuild")
    assert (ended.code, ended.err) == (0, "")
    assert "nothing shared to rebuild" in ended.out
    assert json.loads(pgw("rebuild", "-o", "json").out) == {"rebuilt": False}
