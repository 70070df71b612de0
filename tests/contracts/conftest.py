"""A test of the contract -> the same test on each ledger."""

import asyncio
from collections.abc import Iterator
from pathlib import Path

import pytest
from sqlalchemy import Engine, create_engine, delete, text

from pgw.core.ledger.configuration import SEED
from pgw.core.ledger.engine.columns import metadata
from pgw.core.ledger.engine.store import upgrade
from pgw.core.ledger.tables import configurations, ledger_identity
from pgw.settings import load
from tests.contracts.aged import age
from tests.ledgers import new_file
from tests.services import fresh_database


@pytest.fixture(params=["sqlite", "postgres"])
def empty_database(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """Give the address of a ledger nobody has made yet."""
    environ = {"PGW_HOME": str(tmp_path)}
    if request.param == "postgres":
        environ["DATABASE_URL"] = request.getfixturevalue("database_url")
    return load(environ).database


@pytest.fixture
def own_database(empty_database: str) -> str:
    """Give the address of a new ledger that a test may alter as it likes."""
    upgrade(empty_database)
    return empty_database


@pytest.fixture(scope="session")
def _shared_postgres(postgres_url: str) -> Iterator[str]:
    with fresh_database(postgres_url) as url:
        address = load({"DATABASE_URL": url}).database
        upgrade(address)
        yield address


@pytest.fixture(params=["sqlite", "postgres"])
def database(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """Give the address of a ledger as new; the one on PostgreSQL is emptied, which is quicker than to make one."""
    if request.param == "sqlite":
        return new_file(tmp_path)
    address: str = request.getfixturevalue("_shared_postgres")
    kept = {configurations.name, ledger_identity.name}
    engine = create_engine(address)
    with engine.begin() as connection:
        names = ", ".join(name for name in metadata.tables if name not in kept)
        # What is append-only is so for tests too; a superuser may look away for one transaction.
        connection.execute(text("SET LOCAL session_replication_role = replica"))
        connection.execute(text(f"TRUNCATE {names} RESTART IDENTITY"))
        connection.execute(delete(configurations).where(configurations.c.version > len(SEED)))
    engine.dispose()
    return address


@pytest.fixture
def aged(database: str) -> str:
    """Give a ledger that payments were made in."""
    asyncio.run(age(database))
    return database


@pytest.fixture
def hand(aged: str) -> Iterator[Engine]:
    """Give somebody who changes that ledger past pgw."""
    engine = create_engine(aged)
    yield engine
    engine.dispose()
