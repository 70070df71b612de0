"""Many processes -> the leader that relays: a PostgreSQL lock, held by a session that ends with its holder."""

import asyncio
from typing import Any, Protocol

import psycopg
from sqlalchemy.engine import make_url

from pgw.core.ledger.engine.writer import LedgerUnavailable
from pgw.core.ports import Clock

RELAY_LOCK = 7_263_002
"""Key of the advisory lock, beside the one that migrations take."""

IDLE_LIMIT_MS = 10_000
"""Idle time after which the server ends the session, and with it the lock: a stopped process keeps its connection, and
would lead for ever."""

TRY_EVERY_S = 1.0
"""How often a follower tries for the lock, and how long it waits after a fault."""

ANSWER_WITHIN_S = 2.0
"""Bound of one query; without an answer the lock counts as lost."""

IDLE_LIMIT_SINCE = 140_000
"""The first PostgreSQL that ends idle sessions; on an older one a stopped holder leads until its process ends."""


class Leader(Protocol):
    """Leader election among the processes that may relay."""

    async def hold(self) -> bool:
        """Whether this process leads now; raises LedgerUnavailable when the lock was lost."""

    async def close(self) -> None:
        """Release the lock."""


class SoleLeader:
    """Leader on a ledger with one process: SQLite."""

    async def hold(self) -> bool:
        """Return True."""
        return True

    async def close(self) -> None:
        """Do nothing."""


class PostgresLeader:
    """A session-level advisory lock on a connection of its own, which no pooler may share by transactions."""

    def __init__(self, database: str, clock: Clock) -> None:
        address = make_url(database).set(drivername="postgresql")
        self._address = address.render_as_string(hide_password=False)
        self._clock = clock
        self._session: psycopg.AsyncConnection[Any] | None = None
        self._leads = False
        self._next_try = clock.elapsed()

    async def hold(self) -> bool:
        """Query the server each time: the session may have ended since the last step."""
        if not self._leads and self._clock.elapsed() < self._next_try:
            return False
        self._next_try = self._clock.elapsed() + TRY_EVERY_S
        was_leading = self._leads
        try:
            async with asyncio.timeout(ANSWER_WITHIN_S):
                return await self._query()
        except (psycopg.Error, OSError, TimeoutError) as fault:
            await self.close()
            state = "was lost" if was_leading else "could not be requested"
            raise LedgerUnavailable(f"the relay's lock {state} ({type(fault).__name__})", written=False) from None

    async def close(self) -> None:
        """End the session, and the lock with it."""
        session, self._session, self._leads = self._session, None, False
        if session is not None:
            await session.close()

    async def _query(self) -> bool:
        if self._session is None:
            self._session = await psycopg.AsyncConnection.connect(
                self._address, autocommit=True, connect_timeout=2, tcp_user_timeout=5_000, application_name="pgw relay"
            )
            if self._session.info.server_version >= IDLE_LIMIT_SINCE:
                await self._session.execute(f"SET idle_session_timeout = {IDLE_LIMIT_MS}")
        query = "SELECT true" if self._leads else f"SELECT pg_try_advisory_lock({RELAY_LOCK})"
        row = await (await self._session.execute(query)).fetchone()
        assert row is not None, "a SELECT without FROM is one row"
        self._leads = bool(row[0])
        return self._leads
