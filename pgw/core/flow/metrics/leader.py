"""Many processes -> the one that relays: a lock of PostgreSQL's, held by a session that ends with its holder."""

import asyncio
from typing import Any, Protocol

import psycopg
from sqlalchemy.engine import make_url

from pgw.core.ledger.engine.writer import LedgerUnavailable
from pgw.core.ports import Clock

RELAY_LOCK = 7_263_002
"""Key of the advisory lock, beside the one that migrations take."""

SILENCE_MS = 10_000
"""After so long without a word from its holder the server ends the session, and with it the lock: a process that was
stopped keeps its connection, and would lead for ever."""

TRY_EVERY_S = 1.0
"""How often who does not lead asks for the lead, and how long it waits after a fault."""

ANSWER_WITHIN_S = 2.0
"""Bound of a question; a server that does not answer is not one to lead on."""

SILENCE_SINCE = 140_000
"""The first PostgreSQL that ends silent sessions; on an older one a stopped holder leads until it is gone."""


class Leader(Protocol):
    """The lead among the processes that might relay."""

    async def hold(self) -> bool:
        """Whether this process leads, as of now; raises LedgerUnavailable when the lead was lost."""

    async def close(self) -> None:
        """Give the lead up."""


class SoleLeader:
    """The lead on a ledger with one process: SQLite."""

    async def hold(self) -> bool:
        """Lead."""
        return True

    async def close(self) -> None:
        """Hold nothing."""


class PostgresLeader:
    """A session-level advisory lock on a connection of its own, which no pooler may share out by transactions."""

    def __init__(self, database: str, clock: Clock) -> None:
        address = make_url(database).set(drivername="postgresql")
        self._address = address.render_as_string(hide_password=False)
        self._clock = clock
        self._session: psycopg.AsyncConnection[Any] | None = None
        self._leads = False
        self._next_try = clock.elapsed()

    async def hold(self) -> bool:
        """Ask the server each time: what was true at the last step may have ended since."""
        if not self._leads and self._clock.elapsed() < self._next_try:
            return False
        self._next_try = self._clock.elapsed() + TRY_EVERY_S
        was_leading = self._leads
        try:
            async with asyncio.timeout(ANSWER_WITHIN_S):
                return await self._ask()
        except (psycopg.Error, OSError, TimeoutError) as fault:
            await self.close()
            state = "was lost" if was_leading else "could not be asked for"
            raise LedgerUnavailable(f"the relay's lock {state} ({type(fault).__name__})", written=False) from None

    async def close(self) -> None:
        """Give the lead up, and the session."""
        session, self._session, self._leads = self._session, None, False
        if session is not None:
            await session.close()

    async def _ask(self) -> bool:
        if self._session is None:
            self._session = await psycopg.AsyncConnection.connect(
                self._address, autocommit=True, connect_timeout=2, tcp_user_timeout=5_000, application_name="pgw relay"
            )
            if self._session.info.server_version >= SILENCE_SINCE:
                await self._session.execute(f"SET idle_session_timeout = {SILENCE_MS}")
        question = "SELECT true" if self._leads else f"SELECT pg_try_advisory_lock({RELAY_LOCK})"
        row = await (await self._session.execute(question)).fetchone()
        assert row is not None, "a SELECT without FROM is one row"
        self._leads = bool(row[0])
        return self._leads
