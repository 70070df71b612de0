"""The database fails in the middle of a commit: what was written is known again, and what was not is said so."""

import asyncio
import sqlite3
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, closing

import psycopg
import pytest
from psycopg import sql

from pgw.core.ledger.engine.ledger import OpenLedger
from pgw.core.ledger.engine.on_sqlite import OnSqlite
from pgw.core.ledger.engine.writer import LedgerUnavailable
from pgw.core.ledger.payment_reads import by_key
from pgw.core.ledger.payments import CLOSE, OPEN, TURN
from pgw.core.ledger.tables import attempts, outbox, payments
from pgw.core.ledger.verifications import CLAIM, SETTLE
from tests.doubles import CAPTURED, GATEWAY_DECLINE, UNKNOWN
from tests.ledgers import (
    ENTERS_WITHIN_S,
    Gated,
    administrator,
    all_of,
    at_once,
    claims,
    closes,
    gated,
    id_of,
    opened,
    opens,
    rows,
    settles,
    turns,
)


def _fault(database: str) -> Exception:
    """Make the error a lost connection arrives as."""
    lost = "the connection is lost"
    return sqlite3.OperationalError(lost) if database.startswith("sqlite") else psycopg.OperationalError(lost)


def _raises(fault: Exception, times: int = 1) -> Callable[[], None]:
    left = [fault] * times

    def hook() -> None:
        if left:
            raise left.pop()

    return hook


@asynccontextmanager
async def _ready(database: str) -> AsyncIterator[tuple[OpenLedger, Gated]]:
    async with opened(database) as ledger:
        runner = gated(ledger)
        runner.gate.set()
        yield ledger, runner


def test_a_fault_before_the_commit_is_nobodys_item_and_the_batch_runs_again(database: str) -> None:
    async def scenario() -> None:
        async with _ready(database) as (ledger, runner):
            runner.before = _raises(_fault(database))
            assert await all_of(ledger, [(OPEN, opens(n)) for n in range(20)]) == [True] * 20
            assert len(await rows(ledger, payments)) == 20

    asyncio.run(scenario())


def test_a_commit_that_happened_unseen_is_run_again_and_adds_nothing(database: str) -> None:
    """An open, a turn, a close and a settlement each lose to themselves; their rows are the winner's."""

    async def scenario() -> None:
        async with _ready(database) as (ledger, runner):
            unknown = closes(4, UNKNOWN)
            claim = claims(4, unknown["end_next_check_at"])
            for number in range(2, 5):
                await ledger.commit(OPEN, opens(number))
            await all_of(ledger, [(CLOSE, unknown)])
            await all_of(ledger, [(CLAIM, claim)])
            writes = [
                (OPEN, opens(1)),
                (TURN, turns(2, GATEWAY_DECLINE)),
                (CLOSE, closes(3)),
                (SETTLE, settles(claim, CAPTURED, 4)),
            ]
            runner.after = _raises(_fault(database))
            assert await all_of(ledger, writes) == [False] * 4
            owner = await ledger.read(by_key, "m_001", "key-1")
            assert owner is not None
            assert owner.payment.payment_id == id_of(1)
            statuses = [row["status"] for row in await rows(ledger, payments)]
            assert statuses == ["PROCESSING", "PROCESSING", "SUCCESS", "SUCCESS"]
            made = [(row["payment_id"], row["attempt_number"], row["status"]) for row in await rows(ledger, attempts)]
            assert made == [
                (id_of(1), 1, "SENDING"),
                (id_of(2), 1, "FAILURE"),
                (id_of(2), 2, "SENDING"),
                (id_of(3), 1, "SUCCESS"),
                (id_of(4), 1, "SUCCESS"),
            ]
            # Attempted: the unknown end, the turn, the close; the close and the settlement also end a payment each.
            kinds = sorted(row["event"]["type"] for row in await rows(ledger, outbox))
            assert kinds == ["payment.attempted"] * 3 + ["payment.completed"] * 2 + ["payment.verified"]

    asyncio.run(scenario())


def test_a_database_that_stays_away_is_said_so_and_then_works_again(database: str) -> None:
    async def scenario() -> None:
        async with _ready(database) as (ledger, runner):
            runner.before = _raises(_fault(database), times=3)
            fates = await all_of(ledger, [(OPEN, opens(n)) for n in range(5)])
            assert [type(fate) for fate in fates] == [LedgerUnavailable] * 5
            assert {fate.written for fate in fates if isinstance(fate, LedgerUnavailable)} == {None}
            assert await ledger.commit(OPEN, opens(9)) is True
            assert [row["payment_id"] for row in await rows(ledger, payments)] == [id_of(9)]

    asyncio.run(scenario())


@pytest.mark.parametrize("empty_database", ["sqlite"], indirect=True)
def test_a_file_another_process_holds_is_waited_for(own_database: str) -> None:
    """The batch is written once the other lets go; nobody is refused for it."""

    async def scenario() -> None:
        async with _ready(own_database) as (ledger, runner):
            with closing(sqlite3.connect(own_database.removeprefix("sqlite:///"), isolation_level=None)) as other:
                other.execute("BEGIN IMMEDIATE")
                writing = asyncio.create_task(ledger.commit(OPEN, opens(1)))
                assert await asyncio.to_thread(runner.entered.wait, ENTERS_WITHIN_S)
                other.execute("ROLLBACK")
                assert await writing is True

    asyncio.run(scenario())


@pytest.mark.parametrize("empty_database", ["sqlite"], indirect=True)
def test_a_full_disk_is_everybodys_fault_until_there_is_room_again(own_database: str) -> None:
    async def scenario() -> None:
        async with _ready(own_database) as (ledger, runner):
            assert await ledger.commit(OPEN, opens(0)) is True
            assert isinstance(runner.runner, OnSqlite)
            connection = runner.runner._connection
            assert connection is not None
            connection.execute("PRAGMA max_page_count = 1")
            fates = await all_of(ledger, [(OPEN, opens(n, metadata={"note": "x" * 9000})) for n in range(1, 30)])
            assert {type(fate) for fate in fates} == {LedgerUnavailable}
            connection.execute("PRAGMA max_page_count = 1073741823")
            assert await all_of(ledger, [(OPEN, opens(n)) for n in range(1, 30)]) == [True] * 29

    asyncio.run(scenario())


KILL = """
SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity
WHERE datname = current_database() AND pid <> pg_backend_pid()
"""


@pytest.mark.parametrize("moment", ["before", "after"])
@pytest.mark.parametrize("empty_database", ["postgres"], indirect=True)
def test_a_killed_connection_is_made_again(own_database: str, moment: str) -> None:
    """The server ends every session of the database, before the batch, or between its commit and its answer."""

    async def scenario() -> None:
        async with _ready(own_database) as (ledger, runner):
            assert await ledger.commit(OPEN, opens(100)) is True
            pending = [True]

            def kill() -> None:
                if pending:
                    pending.clear()
                    with administrator(own_database) as session:
                        session.execute(KILL)
                    if moment == "after":
                        raise _fault(own_database)

            setattr(runner, moment, kill)
            fates = await all_of(ledger, [(OPEN, opens(n)) for n in range(20)])
            # Those of the batch that was hit after its commit lose to themselves.
            assert pending == []
            assert set(fates) <= {True, False}
            assert moment == "after" or fates == [True] * 20
            written = await rows(ledger, payments)
            assert [row["payment_id"] for row in written] == [id_of(n) for n in (*range(20), 100)]

    asyncio.run(scenario())


@pytest.mark.parametrize("empty_database", ["postgres"], indirect=True)
def test_a_connection_killed_by_its_own_transaction_is_made_again(own_database: str) -> None:
    """The session dies inside the batch's own statement, as when a server goes down under it."""
    with administrator(own_database) as session:
        session.execute("CREATE TABLE fuse (lit int)")
        session.execute(
            "CREATE FUNCTION burn() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN"
            " IF EXISTS (SELECT 1 FROM fuse) THEN PERFORM pg_terminate_backend(pg_backend_pid()); END IF;"
            " RETURN NEW; END $$"
        )
        session.execute("CREATE TRIGGER burn BEFORE INSERT ON attempts FOR EACH ROW EXECUTE FUNCTION burn()")

    async def scenario() -> None:
        async with _ready(own_database) as (ledger, runner):
            assert await ledger.commit(OPEN, opens(100)) is True
            with administrator(own_database) as session:
                session.execute("INSERT INTO fuse VALUES (1)")

                def mend() -> None:
                    if len(runner.batches) > 2:
                        session.execute("DELETE FROM fuse")

                runner.before = mend
                assert await all_of(ledger, [(OPEN, opens(n)) for n in range(20)]) == [True] * 20
            assert len(runner.batches) > 2
            assert len(await rows(ledger, payments)) == len(await rows(ledger, attempts)) == 21

    asyncio.run(scenario())


EVERYBODYS = {
    "deadlock_detected": "another session holds what this one needs",
    "serialization_failure": "another session wrote first",
    "disk_full": "no room",
    "lock_not_available": "waited too long for a lock",
    "query_canceled": "a statement's time ran out",
    "io_error": "the disk failed",
    "read_only_sql_transaction": "this server is no longer the primary",
}


@pytest.mark.parametrize("condition", EVERYBODYS)
@pytest.mark.parametrize("empty_database", ["postgres"], indirect=True)
def test_what_is_the_servers_fault_is_nobodys_item(own_database: str, condition: str) -> None:
    """The batch runs again as a whole; nobody is told that his item is bad."""
    with administrator(own_database) as session:
        session.execute("CREATE TABLE fuse (lit int)")
        session.execute(
            f"CREATE FUNCTION burn() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN"
            f" IF EXISTS (SELECT 1 FROM fuse) THEN RAISE {condition}; END IF; RETURN NEW; END $$"
        )
        session.execute("CREATE TRIGGER burn BEFORE INSERT ON attempts FOR EACH ROW EXECUTE FUNCTION burn()")

    async def scenario() -> None:
        with administrator(own_database) as session:
            async with opened(own_database) as ledger:
                runner = gated(ledger)

                def light_then_mend() -> None:
                    statement = {2: "INSERT INTO fuse VALUES (1)", 3: "DELETE FROM fuse"}.get(len(runner.batches))
                    if statement:
                        session.execute(statement)

                runner.before = light_then_mend
                assert await at_once(ledger, runner, [(OPEN, opens(n)) for n in range(1, 9)]) == [True] * 8
                assert runner.batches == [1, 8, 8]

    asyncio.run(scenario())


@pytest.mark.parametrize("empty_database", ["postgres"], indirect=True)
def test_a_database_that_became_read_only_is_away(own_database: str) -> None:
    """After a failover the old primary refuses every write; payments must be told that the ledger is away."""

    async def scenario() -> None:
        async with _ready(own_database) as (ledger, _):
            assert await ledger.commit(OPEN, opens(1)) is True
            _make_read_only(own_database, "on")
            fates = await all_of(ledger, [(OPEN, opens(n)) for n in range(2, 8)])
            assert [type(fate) for fate in fates] == [LedgerUnavailable] * 6
            _make_read_only(own_database, "off")
            assert await ledger.commit(OPEN, opens(9)) is True

    asyncio.run(scenario())


def _make_read_only(database: str, state: str) -> None:
    with administrator(database) as session:
        session.execute("SET default_transaction_read_only = off")
        name = sql.Identifier(session.info.dbname)
        session.execute(sql.SQL("ALTER DATABASE {} SET default_transaction_read_only = {}").format(name, state))
        session.execute(KILL)
