"""A test of the contract -> the same test on each ledger."""

from pathlib import Path

import pytest

from pgw.core.ledger.store import upgrade
from pgw.settings import load


@pytest.fixture(params=["sqlite", "postgres"])
def empty_database(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """Give the address of a ledger nobody has made yet."""
    environ = {"PGW_HOME": str(tmp_path)}
    if request.param == "postgres":
        environ["DATABASE_URL"] = request.getfixturevalue("database_url")
    return load(environ).database


@pytest.fixture
def database(empty_database: str) -> str:
    """Give the address of a new ledger."""
    upgrade(empty_database)
    return empty_database
