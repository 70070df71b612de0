"""What the tests of the HTTP door share: the real server on either ledger, and the app within reach."""

from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.server.serving import Inside, Served, inside, served
from tests.services import fresh_database


@pytest.fixture(scope="session")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    """Run `pgw serve` as it comes, for tests that leave its configuration as it is."""
    with served(tmp_path_factory.mktemp("sqlite")) as running:
        yield running


@pytest.fixture(scope="session")
def server_on_postgres(tmp_path_factory: pytest.TempPathFactory, postgres_url: str) -> Iterator[Served]:
    """Run `pgw serve` on a PostgreSQL of its own."""
    with ExitStack() as stack:
        url = stack.enter_context(fresh_database(postgres_url))
        yield stack.enter_context(served(tmp_path_factory.mktemp("postgres"), DATABASE_URL=url))


@pytest.fixture(scope="session", params=["server", "server_on_postgres"])
def either(request: pytest.FixtureRequest) -> Served:
    """Give the server on SQLite, then the one on PostgreSQL."""
    running: Served = request.getfixturevalue(request.param)
    return running


@pytest.fixture
def within(tmp_path: Path) -> Iterator[Inside]:
    """Run the app in this process, on a fresh SQLite ledger, with every gateway enabled."""
    with inside(tmp_path / "home") as running:
        running.api.set_gateways(is_enabled=True)
        yield running
