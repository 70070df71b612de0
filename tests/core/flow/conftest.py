"""A test of the flow -> a real ledger of its own."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.ledgers import Stage, new_file, staged


@pytest.fixture
def database(tmp_path: Path) -> str:
    """Give the address of a new SQLite ledger."""
    return new_file(tmp_path)


@pytest.fixture
def stage(database: str) -> Iterator[Stage]:
    """Open it."""
    with staged(database) as stage:
        yield stage
