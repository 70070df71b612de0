"""An opened database -> the Ledger: group-committed writes by one thread, plain reads beside it."""

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeVar

from sqlalchemy import Connection, Engine, text
from sqlalchemy.exc import DBAPIError
from sqlalchemy.exc import TimeoutError as PoolTimeout

from pgw.core.ledger.engine import on_postgres, on_sqlite
from pgw.core.ledger.engine.phase import Item, Phase
from pgw.core.ledger.engine.store import READERS, open_engine
from pgw.core.ledger.engine.writer import CLOSE_WITHIN_S, LedgerUnavailable, Runner, Writer

T = TypeVar("T")

MAX_READS = 1024
"""Reads that may wait for a connection; beyond it a read is refused at once."""

CHECKPOINT_EVERY_S = 1.0
"""How often an SQLite log is folded into its file, so that the log stays a few megabytes."""


class OpenLedger:
    """The ledger port on PostgreSQL or SQLite. Make it on the event loop that uses it; `close` when done."""

    def __init__(self, database: str, around: Callable[[Runner], Runner] = lambda runner: runner) -> None:
        """Open it. `around`: what is put around the runner of the batches; nothing, unless they are meant to fail."""
        self._engine: Engine = open_engine(database)
        self._readers = ThreadPoolExecutor(READERS, thread_name_prefix="pgw-ledger-reader")
        self._reads = 0
        self._on_sqlite = self._engine.dialect.name == "sqlite"
        if self._on_sqlite:
            runner: on_sqlite.OnSqlite | on_postgres.OnPostgres = on_sqlite.OnSqlite(self._engine)
            self._writer = Writer(around(runner), on_sqlite.RETRYABLE)
        else:
            runner = on_postgres.OnPostgres(self._engine)
            self._writer = Writer(around(runner), on_postgres.RETRYABLE)

    async def commit(self, phase: Phase, item: Item) -> bool:
        """Write one item; see Writer.commit."""
        return await self._writer.commit(phase, item)

    @property
    def is_writing(self) -> bool:
        """Whether commits can succeed."""
        return self._writer.is_alive

    async def read(self, query: Callable[..., T], *args: Any) -> T:
        """Run `query(connection, *args)` on a connection of its own; raises LedgerUnavailable when there is none."""
        if self._reads >= MAX_READS:
            raise LedgerUnavailable("too many reads are waiting for the ledger; try again shortly", written=False)
        self._reads += 1
        try:
            return await asyncio.get_running_loop().run_in_executor(self._readers, self._run, query, args)
        except (DBAPIError, PoolTimeout) as fault:
            kind = type(getattr(fault, "orig", None) or fault).__name__
            raise LedgerUnavailable(f"the ledger could not be read ({kind})", written=False) from None
        finally:
            self._reads -= 1

    def _run(self, query: Callable[..., T], args: tuple[Any, ...]) -> T:
        with self._engine.connect() as connection:
            return query(connection.execution_options(isolation_level="AUTOCOMMIT"), *args)

    async def checkpoint(self) -> None:
        """Fold SQLite's log into its file, beside the writer; nothing to do on PostgreSQL."""
        if self._on_sqlite:
            await self.read(_checkpoint)

    async def close(self, within_s: float = CLOSE_WITHIN_S) -> None:
        """Write what is queued, then give every connection up."""
        await self._writer.close(within_s)
        self._readers.shutdown(wait=False, cancel_futures=True)
        self._engine.dispose()


def _checkpoint(connection: Connection) -> None:
    connection.execute(text("PRAGMA wal_checkpoint(PASSIVE)"))
