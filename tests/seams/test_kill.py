"""A server is killed under load, again and again: nothing acknowledged is lost, and nothing is charged twice."""

import asyncio
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from random import Random

import pytest

from pgw.core.ledger.tables import attempts, payments
from pgw.core.payment.payment import AttemptStatus, Status
from tests.ledgers import administrator
from tests.seams.killing import Killed, healed, killed, violated
from tests.seams.killing_fleet import herd, killed_fleet
from tests.seams.load import Clients, body_of
from tests.seams.serving import Audit, Shop, audit, shop
from tests.services import UnavailableError

KILLS_VARIABLE = "PGW_TEST_KILLS"
KILLS = int(os.environ.get(KILLS_VARIABLE, "12"))
SEED_VARIABLE = "PGW_TEST_SEED"
SEED = int(os.environ.get(SEED_VARIABLE, "20260105"))

STOP_LIMIT_S = 30.0
"""A bound for a hung test; the drain's own budget is twelve seconds."""

pytestmark = pytest.mark.slow


@pytest.fixture(params=["sqlite", "postgres"])
def opened(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Shop]:
    """Give a home on each ledger."""
    url = request.getfixturevalue("database_url") if request.param == "postgres" else None
    with shop(tmp_path / "home", url) as opened:
        yield opened


@pytest.mark.parametrize("opened", ["sqlite"], indirect=True)
def test_kill_9_at_any_moment_loses_nothing_and_charges_nobody_twice(opened: Shop) -> None:
    print(f"\nseed {SEED} ({SEED_VARIABLE}), {KILLS} kills ({KILLS_VARIABLE})")
    outcome = killed(opened, SEED, KILLS)
    print(outcome.figures())
    assert outcome.wrong() == []
    _acknowledged_is_kept(outcome.clients, outcome.found)
    _the_money_is_right(outcome.found)
    assert opened.stop(STOP_LIMIT_S) == 0


def _acknowledged_is_kept(clients: Clients, found: Audit) -> None:
    told = clients.told
    assert told.acknowledged("SUCCESS").keys() <= found.ended(Status.SUCCESS)
    assert told.acknowledged("FAILURE").keys() <= found.ended(Status.FAILURE)
    by_key = {row["idempotency_key"]: row["payment_id"] for row in found.payments.values()}
    assert {key: told.ids(key) for key in told.answers if told.ids(key)} == {
        key: {by_key[key]} for key in told.answers if told.ids(key)
    }
    assert len(by_key) == len(found.payments)


def _the_money_is_right(found: Audit) -> None:
    """A success is one charge, anything else none; only `late@sandbox` takes money after it has said no."""
    late = {
        key
        for key, row in found.payments.items()
        if body_of(row["idempotency_key"])["instrument"]["vpa"] == "late@sandbox"
    }
    assert set(found.captures.values()) <= {1}
    assert found.orphans == []
    assert found.unscheduled() == set()
    assert found.captures.keys() - late == found.ended(Status.SUCCESS) - late
    assert found.ended(Status.PROCESSING) == found.ended(Status.MANUAL_REVIEW) == set()


def test_a_fleet_loses_nothing_when_any_of_it_and_its_stores_are_killed(tmp_path: Path) -> None:
    """Two servers, a verifier, two metrics workers, PostgreSQL, Redis; metrics are then what a recount says."""
    print(f"\nseed {SEED} ({SEED_VARIABLE}), {KILLS} kills ({KILLS_VARIABLE})")
    try:
        with herd(tmp_path) as running:
            outcome = killed_fleet(running, SEED, KILLS)
            print(outcome.figures())
            assert outcome.wrong() == []
            assert set(running.stop()) == {0}, running.words()
            assert "Traceback" not in running.words()
    except UnavailableError as fault:
        pytest.skip(f"a store is not there: {fault}")


def test_sigterm_under_load_finishes_what_was_begun(opened: Shop, saw: Callable[..., None]) -> None:
    """It exits cleanly within its budget; every payment it began has its end, or the check that will find it."""
    rng = Random(SEED)

    async def scenario() -> tuple[Clients, int]:
        clients = Clients(SEED)
        opened.start()
        async with clients.at_work(opened.address):
            await clients.answered(rng.randint(200, 800))
            code = await asyncio.to_thread(opened.stop, STOP_LIMIT_S)
            assert code == 0, opened.words()
        return clients, code

    clients, code = asyncio.run(scenario())
    sending = [row for row in opened.rows(attempts) if row["status"] == AttemptStatus.SENDING]
    assert sending == []
    found = audit(opened)
    print(Killed(clients, found, ()).figures())
    assert clients.told.unexpected() == []
    assert found.ended(Status.PROCESSING) == set()
    _acknowledged_is_kept(clients, found)

    opened.start()
    asyncio.run(healed(opened))
    _the_money_is_right(audit(opened))
    assert opened.stop(STOP_LIMIT_S) == 0
    assert len(opened.rows(payments)) == len(found.payments)
    later = Killed(clients, audit(opened), violated(opened))
    assert later.wrong() == []
    said = (
        f"exit {code}; {len(sending)} left sending; {len(later.lost())} lost,"
        f" {len(later.twice())} charged twice, {len(later.found.unscheduled())} without end or check;"
        f" {len(later.violations)} violations"
    )
    saw(35, said)


def test_a_stuck_database_does_not_hold_up_a_stop(database_url: str, tmp_path: Path) -> None:
    """A stop has a budget, whatever the ledger does; what was not confirmed is for verification."""
    with shop(tmp_path / "home", database_url, drain_s=2) as opened:
        opened.start()
        with administrator(opened.database) as session:
            session.autocommit = False
            session.execute("LOCK TABLE payments IN ACCESS EXCLUSIVE MODE")
            answers = asyncio.run(Clients(SEED).ask_again(opened.address, ["stuck"]))
            assert answers["stuck"].word == "LEDGER_UNAVAILABLE"
            assert opened.stop(STOP_LIMIT_S) == 0
            session.rollback()
