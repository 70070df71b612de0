"""`pgw outbox` shows what waits and what is dead, and sends dead events again, on the stores themselves."""

import asyncio
import json
from pathlib import Path

import pytest

from pgw.cli.exits import Exit
from pgw.core.flow.metrics.leader import SoleLeader
from pgw.core.flow.metrics.relay import Relay
from pgw.core.ledger.outbox import DIE, MAX_DEAD
from tests.cli.conftest import Pgw
from tests.doubles import LEDGER_ID, NOON, VirtualClock
from tests.events import POISON, attempted, put
from tests.ledgers import opened


@pytest.fixture
def database(ledger: Path) -> str:
    """Give the address of the ledger that commands find."""
    return f"sqlite:///{ledger}"


def _kill(database: str, *numbers: int) -> None:
    """Publish what waits, and declare some of it dead."""

    async def work() -> None:
        async with opened(database) as ledger:
            await Relay(ledger, LEDGER_ID, SoleLeader(), VirtualClock()).step()
            for number in numbers:
                assert await ledger.commit(DIE, {"published": number, "dead_reason": f"reason {number}"})

    asyncio.run(work())


def test_status_tells_what_waits_and_what_is_dead(pgw: Pgw, database: str) -> None:
    put(database, [attempted(n) for n in range(5)])
    assert json.loads(pgw("outbox", "status", "-o", "json").out) == {
        "waiting": 5,
        "oldest_at": NOON.isoformat().replace("+00:00", "Z"),
        "last_published": 0,
        "dead": 0,
    }
    _kill(database, 2, 4)
    told = pgw("outbox", "status")
    assert (told.code, told.err) == (0, "")
    assert "pgw outbox dead" in told.out
    expected = {"waiting": 0, "oldest_at": None, "last_published": 5, "dead": 2}
    assert expected == json.loads(pgw("outbox", "status", "-o", "json").out)


def test_dead_lists_number_reason_and_event(pgw: Pgw, database: str) -> None:
    put(database, [attempted(1), POISON, attempted(3)])
    assert pgw("outbox", "dead").out == "no event is dead\n"
    _kill(database, 2, 3)
    first, second = json.loads(pgw("outbox", "dead", "-o", "json").out)["items"]
    assert (first["published"], first["reason"], first["event"]) == (2, "reason 2", POISON)
    assert (second["type"], second["payment_id"]) == ("payment.attempted", attempted(3).payment_id)
    assert pgw("outbox", "dead", "-q").out == "2\n3\n"


def test_requeue_sends_named_ones_or_all_and_says_which(pgw: Pgw, database: str) -> None:
    put(database, [attempted(n) for n in range(1, 7)])
    assert pgw("outbox", "requeue", "--all").out == "no event is dead\n"
    _kill(database, 1, 2, 3, 4)
    assert json.loads(pgw("outbox", "requeue", "2", "4", "2", "-o", "json").out) == {"requeued": [2, 4]}
    assert pgw("outbox", "dead", "-q").out == "1\n3\n"
    assert pgw("outbox", "requeue", "--all", "-q").out == "1\n3\n"
    status = json.loads(pgw("outbox", "status", "-o", "json").out)
    assert (status["waiting"], status["dead"]) == (4, 0)
    _kill(database)
    assert json.loads(pgw("outbox", "status", "-o", "json").out)["last_published"] == 10


@pytest.mark.parametrize("number", ["3", "5", "99", "-1"])
def test_an_event_that_is_not_dead_is_not_found(pgw: Pgw, database: str, number: str) -> None:
    put(database, [attempted(n) for n in range(1, 6)])
    _kill(database, 2, 3)
    assert pgw("outbox", "requeue", "3").code == 0
    ended = pgw("outbox", "requeue", "--", "2", number)
    assert (ended.code, ended.out, ended.err.count("\n")) == (Exit.NOT_FOUND, "", 1)
    assert f"no dead event has the number {number}" in ended.err
    assert "1 of 2 were requeued" in ended.err


@pytest.mark.parametrize("arguments", ["", "3 --all"])
def test_requeue_wants_numbers_or_all(pgw: Pgw, database: str, arguments: str) -> None:
    ended = pgw("outbox", "requeue", *arguments.split())
    assert (ended.code, ended.out) == (Exit.USAGE, "")
    assert "--all" in ended.err


def test_a_long_list_is_cut_and_says_so(pgw: Pgw, database: str) -> None:
    put(database, [attempted(n) for n in range(MAX_DEAD + 5)])
    _kill(database, *range(1, MAX_DEAD + 6))
    shown = pgw("outbox", "dead")
    assert f"the first {MAX_DEAD}; more may follow" in shown.out
    assert len(json.loads(pgw("outbox", "requeue", "--all", "-o", "json").out)["requeued"]) == MAX_DEAD
    assert len(json.loads(pgw("outbox", "requeue", "--all", "-o", "json").out)["requeued"]) == 5


@pytest.mark.parametrize(
    "command", ["outbox status", "outbox dead", "outbox requeue --all", "rebuild", "worker verify"]
)
def test_an_absent_store_is_named_and_not_made(pgw: Pgw, home: Path, command: str) -> None:
    ended = pgw(*command.split())
    assert (ended.code, ended.out, ended.err.count("\n")) == (Exit.ABSENT, "", 1)
    assert "DATABASE_URL" in ended.err
    assert not home.exists()
