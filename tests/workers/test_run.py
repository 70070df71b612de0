"""A worker's process works until SIGTERM or SIGINT, and then ends well."""

import asyncio
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from pgw.core.errors import Code, PgwError
from pgw.core.ledger.engine.store import upgrade
from pgw.core.ledger.payments import OPEN
from pgw.core.ledger.tables import attempts, gateway_metrics
from pgw.settings import load
from pgw.workers.run import count_metrics, verify
from tests.events import put, some
from tests.ledgers import new_file, opened, opens, rows
from tests.seams.serving import START_LIMIT_S, wait_until


def _environ(home: Path, **settings: str) -> dict[str, str]:
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("PGW_", "METRICS_"))}
    for name in ("DATABASE_URL", "REDIS_URL", "INTERNAL_API_KEY", "BIND_ADDR"):
        kept.pop(name, None)
    return {**kept, "PGW_HOME": str(home), **settings}


def _ends_well(worker: str, environ: dict[str, str], number: signal.Signals, has_worked: Any, log: Path) -> None:
    with log.open("wb") as words:
        process = subprocess.Popen([sys.executable, "-m", "pgw.cli", "worker", worker], env=environ, stderr=words)
    try:
        wait_until(has_worked, "the worker's work")
        process.send_signal(number)
        assert process.wait(START_LIMIT_S) == 0
    finally:
        process.kill()
        process.wait()
    assert f"pgw worker {worker}: " in log.read_text()
    assert "Traceback" not in log.read_text()


def _rows(database: str, table: Any) -> list[dict[str, Any]]:
    async def read() -> list[dict[str, Any]]:
        async with opened(database) as ledger:
            return await rows(ledger, table)

    return asyncio.run(read())


def _overdue(database: str, count: int) -> None:
    """Leave attempts behind whose owner is gone."""

    async def work() -> None:
        async with opened(database) as ledger:
            for number in range(count):
                assert await ledger.commit(OPEN, opens(number))

    asyncio.run(work())


def test_verify_asks_until_told_to_stop(tmp_path: Path) -> None:
    database = new_file(tmp_path)
    _overdue(database, 3)

    def asked() -> bool:
        return [row["checks_made"] for row in _rows(database, attempts)] == [1, 1, 1]

    _ends_well("verify", _environ(tmp_path), signal.SIGTERM, asked, tmp_path / "log")


def test_verify_once_asks_for_all_that_is_due(tmp_path: Path) -> None:
    database = new_file(tmp_path)
    _overdue(database, 3)
    settings = load({"PGW_HOME": str(tmp_path)})
    assert verify(settings, once=True) == 3
    assert verify(settings, once=True) == 0


def test_metrics_counts_until_told_to_stop(tmp_path: Path, database_url: str, redis_url: str) -> None:
    environ = _environ(tmp_path, DATABASE_URL=database_url, REDIS_URL=redis_url)
    database = load(environ).database
    upgrade(database)
    put(database, some(50))
    _ends_well("metrics", environ, signal.SIGINT, lambda: _rows(database, gateway_metrics) != [], tmp_path / "log")


@pytest.mark.parametrize("work", [count_metrics, verify])
def test_a_worker_refuses_what_a_server_refuses(tmp_path: Path, work: Any) -> None:
    settings = load({"PGW_HOME": str(tmp_path), "PGW_ENV": "production"})
    with pytest.raises(PgwError) as refusal:
        work(settings, once=True)
    assert refusal.value.code is Code.REFUSED_TO_START
