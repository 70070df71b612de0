"""What every test may ask for: servers, a line in the page of faults; and the summary's word on each server missing."""

import os
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from typing import TypeVar

import pytest
from hypothesis import settings

from tests.core.hot.mortal import MortalRedis, mortal_redis
from tests.core.ledger.mortal import MortalPostgres, mortal_postgres
from tests.faults.matrix import FAULTS
from tests.faults.page import Sight, tell_sight
from tests.services import (
    UnavailableError,
    ask_redis,
    fresh_database,
    postgres_server,
    redis_server,
)

T = TypeVar("T")

REQUIRE_VARIABLE = "PGW_TEST_REQUIRE"
SERVICES = ("postgres", "redis")

# The same examples in every run, and no judgement by the clock: a red test is red again, on a busy machine too.
settings.register_profile("pgw", derandomize=True, deadline=None)
settings.load_profile("pgw")


def pytest_configure() -> None:
    """Refuse a misspelt requirement, which would otherwise require nothing."""
    unknown = _required() - set(SERVICES)
    if unknown:
        raise pytest.UsageError(f"{REQUIRE_VARIABLE} names {sorted(unknown)}; there are {', '.join(SERVICES)}")


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Name each service that was not there, and how many tests did not run for it."""
    reasons = [str(report.longrepr[2]) for report in terminalreporter.getreports("skipped") if report.longrepr]
    for service in SERVICES:
        missed = [reason for reason in reasons if _absence(service) in reason]
        if missed:
            terminalreporter.section("services not there", yellow=True)
            terminalreporter.line(f"{service}: {len(missed)} tests did not run. {missed[0]}")


@pytest.fixture(scope="session")
def postgres_url() -> Iterator[str]:
    """Give the maintenance database of the one PostgreSQL server of this run, started when first asked for."""
    yield from _there_or_skip("postgres", postgres_server())


@pytest.fixture
def database_url(postgres_url: str) -> Iterator[str]:
    """Give an empty PostgreSQL database of one's own, as `DATABASE_URL` would name it."""
    with fresh_database(postgres_url) as url:
        yield url


@pytest.fixture(scope="session")
def _redis_server() -> Iterator[str]:
    yield from _there_or_skip("redis", redis_server())


@pytest.fixture
def redis_url(_redis_server: str) -> str:
    """Give an empty Redis database, as `REDIS_URL` would name it; the next test's is emptied again."""
    ask_redis(_redis_server, "FLUSHDB")
    return _redis_server


@pytest.fixture
def postgres() -> Iterator[MortalPostgres]:
    """Give a PostgreSQL of one's own, that may be spoilt and killed."""
    yield from _there_or_skip("postgres", mortal_postgres())


@pytest.fixture
def redis() -> Iterator[MortalRedis]:
    """Give a Redis of one's own, that may be filled, stopped and killed."""
    yield from _there_or_skip("redis", mortal_redis())


@pytest.fixture
def saw(request: pytest.FixtureRequest) -> Callable[..., None]:
    """Give the way to say what a test saw of a numbered fault: `saw(4, "words of what was observed")`."""
    test = request.node.nodeid.partition("[")[0]

    def told(number: int, what: str, case: str = "") -> None:
        tell_sight(FAULTS, Sight(number, case, what, test))

    return told


def _there_or_skip(service: str, opening: AbstractContextManager[T]) -> Iterator[T]:
    try:
        server = opening.__enter__()
    except UnavailableError as fault:
        reason = f"{_absence(service)}: {fault}"
        if service in _required():
            pytest.fail(f"{REQUIRE_VARIABLE} asks for it, but {reason}", pytrace=False)
        pytest.skip(reason)
    try:
        yield server
    finally:
        opening.__exit__(None, None, None)


def _absence(service: str) -> str:
    return f"{service} is not there"


def _required() -> set[str]:
    return set(filter(None, os.environ.get(REQUIRE_VARIABLE, "").replace(" ", "").split(",")))
