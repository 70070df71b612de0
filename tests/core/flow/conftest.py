"""A test of the flow -> a real ledger of its own, or one for each of its examples."""

from collections.abc import Iterator
from contextlib import AbstractContextManager
from itertools import count
from pathlib import Path

import pytest

from tests.ledgers import Stage, Stages, new_file, staged


@pytest.fixture
def database(tmp_path: Path) -> str:
    """Give the address of a new SQLite ledger."""
    return new_file(tmp_path)


@pytest.fixture
def stage(database: str) -> Iterator[Stage]:
    """Open it."""
    with staged(database) as stage:
        yield stage


@pytest.fixture
def stages(tmp_path: Path) -> Stages:
    """Open a new ledger at each call, for tests whose examples run a round of checks.

    A round asks about all that is due in its ledger, so what an earlier example left there would take part in it: it
    would use up the answers scripted for this one, and its share of the pace.
    """
    numbers = count()

    def begin() -> AbstractContextManager[Stage]:
        folder = tmp_path / f"example-{next(numbers)}"
        folder.mkdir()
        return staged(new_file(folder))

    return begin
