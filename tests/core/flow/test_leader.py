"""One process leads; its lead ends with it, with its session, and with its silence."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest

from pgw.core.errors import PgwError
from pgw.core.flow.metrics import leader
from pgw.core.flow.metrics.leader import TRY_EVERY_S, PostgresLeader, SoleLeader
from tests.doubles import VirtualClock
from tests.ledgers import administrator

HOLDER = "SELECT pid FROM pg_locks WHERE locktype = 'advisory' AND granted AND objid = %s"


@pytest.fixture
def database(database_url: str) -> str:
    """Give an empty PostgreSQL database; no table is needed to lead."""
    return "postgresql+psycopg://" + database_url.partition("://")[2]


@asynccontextmanager
async def _two(database: str) -> AsyncIterator[tuple[PostgresLeader, PostgresLeader, VirtualClock]]:
    clock = VirtualClock()
    one, two = PostgresLeader(database, clock), PostgresLeader(database, clock)
    try:
        yield one, two, clock
    finally:
        await one.close()
        await two.close()


def _holder(database: str) -> Any:
    with administrator(database) as session:
        row = session.execute(HOLDER, (leader.RELAY_LOCK,)).fetchone()
    return None if row is None else row[0]


async def _until_leading(candidate: PostgresLeader, clock: VirtualClock) -> None:
    async with asyncio.timeout(50):
        while not await candidate.hold():
            clock.advance(TRY_EVERY_S)
            await asyncio.sleep(0.01)


def test_one_of_two_leads_and_asks_its_server_each_time(database: str) -> None:
    async def scenario() -> None:
        async with _two(database) as (one, two, clock):
            for _ in range(3):
                assert [await one.hold(), await two.hold()] == [True, False]
                clock.advance(TRY_EVERY_S)

    asyncio.run(scenario())


def test_who_gives_the_lead_up_is_followed(database: str) -> None:
    async def scenario() -> None:
        async with _two(database) as (one, two, clock):
            assert await one.hold()
            assert not await two.hold()
            await one.close()
            assert not await two.hold(), "it asks once a second"
            clock.advance(TRY_EVERY_S)
            await _until_leading(two, clock)
            assert not await one.hold()

    asyncio.run(scenario())


def test_a_session_that_was_ended_is_a_lead_that_was_lost(database: str) -> None:
    """The holder learns of it at its next step, and may lead again only by asking."""

    async def scenario() -> None:
        async with _two(database) as (one, two, clock):
            assert await one.hold()
            with administrator(database) as session:
                session.execute("SELECT pg_terminate_backend(%s)", (_holder(database),))
            with pytest.raises(PgwError, match="was lost"):
                await one.hold()
            await _until_leading(two, clock)
            clock.advance(TRY_EVERY_S)
            assert not await one.hold()

    asyncio.run(scenario())


def test_a_holder_that_falls_silent_is_followed(database: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A stopped process keeps its connection; its server ends the session, or it would lead for ever."""
    monkeypatch.setattr(leader, "IDLE_LIMIT_MS", 100)

    async def scenario() -> None:
        async with _two(database) as (one, two, clock):
            assert await one.hold()
            await _until_leading(two, clock)
            with pytest.raises(PgwError, match="was lost"):
                await one.hold()

    asyncio.run(scenario())


def test_a_server_that_is_not_there_is_named_and_asked_again_a_second_later() -> None:
    async def scenario() -> None:
        clock = VirtualClock()
        candidate = PostgresLeader("postgresql+psycopg://nobody:secret@127.0.0.1:1/none", clock)
        for _ in range(2):
            with pytest.raises(PgwError, match="could not be requested") as refusal:
                await candidate.hold()
            assert "secret" not in str(refusal.value)
            assert await candidate.hold() is False
            clock.advance(TRY_EVERY_S)

    asyncio.run(scenario())


def test_alone_one_leads() -> None:
    async def scenario() -> None:
        alone = SoleLeader()
        assert await alone.hold()
        await alone.close()

    asyncio.run(scenario())
