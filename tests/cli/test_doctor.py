"""`pgw doctor` on Redis, the outbox, orders and pauses: what is wrong is a problem, what is meant is a note."""

import asyncio
import json
import sqlite3
from collections.abc import Iterator
from datetime import datetime, timedelta
from pathlib import Path

import pytest

from pgw.cli.exits import Exit
from pgw.core.hot.on_redis import connect
from pgw.core.hot.stream import Stream
from tests.cli import breaker_documents
from tests.cli.breaker_documents import breakers
from tests.cli.conftest import Pgw
from tests.cli.documents import NOW
from tests.cli.stub import Stub
from tests.services import ask_redis

Findings = dict[str, tuple[str, str]]


def _findings(pgw: Pgw, expected: Exit = Exit.DONE) -> Findings:
    ended = pgw("doctor", "-o", "json")
    assert (ended.code, ended.err) == (expected, "")
    return {each["check"]: (each["status"], each["detail"]) for each in json.loads(ended.out)["items"]}


@pytest.fixture(autouse=True)
def _installed(stub: Stub, ledger: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let there be a server and a ledger, at ten o'clock."""
    monkeypatch.setattr("pgw.cli.findings.now", lambda: NOW)
    assert (stub.answers, ledger.is_file()) != ({}, False)


class TestOrders:
    def test_an_order_in_force_is_a_note_with_its_end(self, pgw: Pgw, stub: Stub) -> None:
        found = {name: told for name, told in _findings(pgw).items() if name.startswith("breaker")}
        told = "forced open by asha (INC-4412) until 2026-01-31T10:27:00Z (in 27m)"
        way = "'pgw breaker clear razorpay UPI' ends it"
        assert found == {"breaker:razorpay/UPI": ("note", f"{told}: {way}")}
        assert stub.asked

    def test_one_that_the_rule_contradicts_is_a_problem(self, pgw: Pgw, stub: Stub) -> None:
        stub.answer("GET /circuit-breaker/status", breaker_documents.status(*breakers()))
        status, detail = _findings(pgw, Exit.GATE)["breaker:hdfc/CARD"]
        assert status == "problem"
        assert detail.endswith("the automatic rule holds it open → pgw breaker clear hdfc CARD")

    def test_a_pause_is_a_note_with_its_end(self, pgw: Pgw, stub: Stub) -> None:
        told = "no new payments until 2026-01-31T10:15:00Z: asha (INC-4412)"
        check = {"name": "pause", "status": "degraded", "detail": told}
        stub.answer("GET /ops/readiness", {"status": "degraded", "checks": [check]})
        assert _findings(pgw)["pause"] == ("note", f"{told}: 'pgw resume' ends it")


class TestOutbox:
    def _wait(self, ledger: Path, occurred_at: datetime) -> None:
        event = json.dumps({"occurred_at": occurred_at.isoformat()})
        with sqlite3.connect(ledger) as connection:
            connection.execute("INSERT INTO outbox (event) VALUES (?)", (event,))
        connection.close()

    def test_that_is_empty_is_fine(self, pgw: Pgw) -> None:
        assert _findings(pgw)["outbox"] == ("ok", "nothing waits, 0 events published")

    def test_what_has_just_been_written_is_fine(self, pgw: Pgw, ledger: Path) -> None:
        self._wait(ledger, NOW - timedelta(seconds=30))
        assert _findings(pgw)["outbox"] == ("ok", "1 event waits, the oldest for 30s")

    def test_what_waits_while_nobody_serves_an_embedded_ledger_is_a_note(self, pgw: Pgw, ledger: Path) -> None:
        self._wait(ledger, NOW - timedelta(minutes=27))
        status, detail = _findings(pgw)["outbox"]
        assert (status, "waits, the oldest for 27m: 'pgw serve'" in detail) == ("note", True)

    def test_what_waits_on_a_served_ledger_is_a_problem(
        self, pgw: Pgw, ledger: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        self._wait(ledger, NOW - timedelta(minutes=27))
        monkeypatch.setattr("pgw.cli.commands.doctor.running_server", lambda _: object())
        assert _findings(pgw, Exit.GATE)["outbox"][0] == "problem"

    def test_what_nobody_could_count_is_a_problem(self, pgw: Pgw, ledger: Path) -> None:
        self._wait(ledger, NOW)
        with sqlite3.connect(ledger) as connection:
            connection.execute("UPDATE outbox SET published = 1, dead_reason = 'no event'")
        connection.close()
        status, detail = _findings(pgw, Exit.GATE)["outbox:dead"]
        assert (status, "'pgw outbox dead'" in detail) == ("problem", True)


class TestRedis:
    @pytest.fixture
    def redis(self, redis_url: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
        """Give a Redis that the settings name, with the policy it should have."""
        monkeypatch.setenv("REDIS_URL", redis_url)
        yield redis_url
        ask_redis(redis_url, "CONFIG", "SET", "maxmemory-policy", "noeviction")

    def test_without_one_nothing_is_said_of_an_embedded_ledger(self, pgw: Pgw) -> None:
        assert {"redis", "stream"}.isdisjoint(_findings(pgw))

    def test_that_is_there_is_fine_and_its_stream_is_looked_for(self, pgw: Pgw, redis: str) -> None:
        found = _findings(pgw)
        assert found["redis"][0] == "ok"
        assert redis.partition("@")[2] in found["redis"][1]
        status, detail = found["stream"]
        assert (status, detail.startswith("payments:events:v1 is not there")) == ("note", True)

    @pytest.mark.parametrize(("behind_after_s", "expected"), [(60.0, "ok"), (-1.0, "problem")])
    def test_a_stream_is_told_with_what_is_not_counted_yet(
        self, pgw: Pgw, redis: str, monkeypatch: pytest.MonkeyPatch, behind_after_s: float, expected: str
    ) -> None:
        async def fill() -> None:
            server = connect(redis)
            stream = Stream(server, "payments:events:v1", "metrics-agg-v1")
            await stream.reset("a-ledger", 0, {})
            await stream.append(0, [(1, b"{}"), (2, b"{}"), (3, b"{}")])
            await stream.deliver("somebody", 1, 0)
            await server.close()

        asyncio.run(fill())
        monkeypatch.setattr("pgw.cli.findings.BEHIND_AFTER_S", behind_after_s)
        status, detail = _findings(pgw, Exit.DONE if expected == "ok" else Exit.GATE)["stream"]
        assert status == expected
        assert detail.startswith("payments:events:v1 at 3: 2 not delivered, 1 not counted yet")
        assert ("run 'pgw worker metrics'" in detail) == (expected == "problem")

    def test_that_may_drop_keys_is_a_problem(self, pgw: Pgw, redis: str) -> None:
        ask_redis(redis, "CONFIG", "SET", "maxmemory-policy", "allkeys-lru")
        status, detail = _findings(pgw, Exit.GATE)["redis"]
        assert (status, "CONFIG SET maxmemory-policy noeviction" in detail) == ("problem", True)

    def test_that_is_not_there_is_a_problem_without_its_password(
        self, pgw: Pgw, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("REDIS_URL", "redis://:planted-password@127.0.0.1:1/0")
        status, detail = _findings(pgw, Exit.GATE)["redis"]
        assert (status, detail.startswith("redis://127.0.0.1:1/0 does not answer (")) == ("problem", True)
        assert "planted" not in detail

    def test_a_postgresql_without_one_is_told_what_for(
        self, pgw: Pgw, database_url: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("DATABASE_URL", database_url)
        assert pgw("db", "upgrade").code == 0
        status, detail = _findings(pgw)["redis"]
        assert (status, "REDIS_URL" in detail) == ("note", True)
