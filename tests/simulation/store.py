"""One SQLite in memory for all runs, the real statements -> the Ledger port, as unreliable as a seed wants it.

The writer is the real one but for its thread: items that are asked for together share a commit, a refused one is found
by halving, a batch that failed is run again.
"""

import asyncio
import contextvars
import sqlite3
from collections.abc import Callable, Mapping
from datetime import datetime
from enum import StrEnum
from functools import cache
from pathlib import Path
from random import Random
from tempfile import TemporaryDirectory
from typing import Any, TypeVar

from sqlalchemy import Connection, Table, create_engine, select
from sqlalchemy.pool import StaticPool

from pgw.core.ledger.engine.on_sqlite import RETRYABLE, OnSqlite
from pgw.core.ledger.engine.phase import Phase
from pgw.core.ledger.engine.store import upgrade
from pgw.core.ledger.engine.writer import COMMIT_WITHIN_S, LedgerUnavailable, Waiter, Writer, WriteRefused
from pgw.core.ledger.verifications import CLAIM
from pgw.core.payment.payment import Status
from tests.simulation.virtual import Process, VirtualLoop

T = TypeVar("T")


class Due(StrEnum):
    """What may be due, and where that is written."""

    WEBHOOK = "SELECT min(received_at) FROM webhook_deliveries WHERE handled_at IS NULL"
    CHECK = "SELECT min(next_check_at) FROM attempts"
    WATCH = "SELECT min(next_check_at) FROM watches"


REST_S = 600.0
"""How often is looked at least."""


class Trouble(StrEnum):
    """What may befall one commit."""

    AWAY = "nothing was written"
    UNSEEN = "it was written, and nobody knows"
    LATE = "it is written after its waiter gave up"
    LOST = "its waiter gave up, and it is never written"
    TWICE = "it was written unseen, run again, and lost to itself"
    REFUSED = "the database refused the item"
    SLOW = "it takes its time"


@cache
def _migrated() -> sqlite3.Connection:
    """Make a ledger, and hold it in memory."""
    held = sqlite3.connect(":memory:", check_same_thread=False)
    with TemporaryDirectory() as folder:
        path = Path(folder) / "pgw.db"
        upgrade(f"sqlite:///{path}")
        file = sqlite3.connect(path)
        file.execute("PRAGMA journal_mode = DELETE")
        file.backup(held)
        file.close()
    return held


class Memory:
    """The database of this interpreter; `anew` empties it, while compiled statements are kept."""

    def __init__(self) -> None:
        self.driver = sqlite3.connect(":memory:", check_same_thread=False, isolation_level=None, cached_statements=512)
        engine = create_engine("sqlite://", poolclass=StaticPool, creator=lambda: self.driver)
        self.runner = OnSqlite(engine)
        self.runner._connection = self.driver
        self.connection: Connection = engine.connect().execution_options(isolation_level="AUTOCOMMIT")

    def anew(self) -> None:
        """Begin with an empty ledger."""
        if self.driver.in_transaction:
            self.driver.execute("ROLLBACK")
        _migrated().backup(self.driver)

    def rows(self, table: Table) -> list[dict[str, Any]]:
        """Read a whole table, in the order of its key."""
        query = select(table).order_by(*table.primary_key.columns)
        return [dict(row) for row in self.connection.execute(query).mappings()]


@cache
def memory() -> Memory:
    """Give the one database."""
    return Memory()


class _Writing(Writer):
    """The group commit without its thread."""

    def __init__(self, runner: OnSqlite) -> None:
        self._runner = runner
        self._retryable = RETRYABLE


class Store:
    """The database server of one run: what is asked for within a moment is committed together."""

    def __init__(self, loop: VirtualLoop, rng: Random) -> None:
        self.memory = memory()
        self.memory.anew()
        self._loop = loop
        self._rng = rng
        self._writer = _Writing(self.memory.runner)
        self._queue: list[tuple[Process, Waiter]] = []
        self._outside = contextvars.copy_context()
        self.draw: Callable[[Phase], Trouble | None] = lambda _: None
        self.struck: Callable[[Process, Phase], None] = lambda *_: None
        self.reviewed: Callable[[str], None] = lambda _: None
        """Who is told of each payment that is left to a person."""
        self.is_away = False
        self.commits = 0
        self.claimed: dict[tuple[str, int], float] = {}
        """When each attempt was first taken over from its owner, by a verifier."""

    def submit(self, process: Process, phase: Phase, item: Mapping[str, Any], delay_s: float) -> Waiter:
        """Queue one item."""
        waiter = Waiter(phase, item, self._loop.create_future(), 0.0)
        if not self._queue:
            self._loop.call_later(delay_s, self.flush, context=self._outside)
        self._queue.append((process, waiter))
        return waiter

    def flush(self) -> None:
        """Commit what queued; the second item of a key waits for the next commit, as the writer has it."""
        batch: list[Waiter] = []
        owners: list[Process] = []
        later: list[tuple[Process, Waiter]] = []
        seen: set[tuple[Phase, tuple[str, ...]]] = set()
        for process, waiter in self._queue:
            place = (waiter.phase, waiter.phase.place(waiter.item))
            if place in seen:
                later.append((process, waiter))
            else:
                seen.add(place)
                batch.append(waiter)
                owners.append(process)
        self._queue = later
        if later:
            self._loop.call_later(0.001, self.flush, context=self._outside)
        for owner, waiter, fate in zip(owners, batch, self._writer._write(batch), strict=True):
            self.commits += 1
            self.struck(owner, waiter.phase)
            if fate is True and waiter.phase is CLAIM:
                named = (waiter.item["payment_id"], waiter.item["attempt_number"])
                self.claimed.setdefault(named, self._loop.time())
            if fate is True and waiter.item.get("payment_status") == Status.MANUAL_REVIEW:
                self.reviewed(waiter.item["payment_id"])
            if waiter.fate.done():
                continue
            if isinstance(fate, Exception):
                waiter.fate.set_exception(fate)
                waiter.fate.exception()
            else:
                waiter.fate.set_result(fate)

    def forget(self, process: Process) -> None:
        """A process died: what it had asked for is on its way to the database, or is not."""
        if self._rng.random() < 0.5:
            self._queue = [each for each in self._queue if each[0] is not process]

    def due_in(self, now: datetime, due: Due) -> float:
        """Look, beside everything, in how many seconds something is due."""
        found = self.memory.driver.execute(due).fetchone()[0]
        return REST_S if found is None else min((datetime.fromisoformat(found) - now).total_seconds(), REST_S)


class StoreLedger:
    """The Ledger port of one process."""

    def __init__(self, store: Store, process: Process, loop: VirtualLoop, rng: Random) -> None:
        self._store = store
        self._process = process
        self._loop = loop
        self._rng = rng

    async def commit(self, phase: Phase, item: Mapping[str, Any]) -> bool:
        self._lives()
        if self._store.is_away:
            await asyncio.sleep(self._rng.uniform(0.001, COMMIT_WITHIN_S))
            raise LedgerUnavailable("away", written=False)
        match self._store.draw(phase):
            case Trouble.AWAY:
                await asyncio.sleep(self._rng.uniform(0.0, COMMIT_WITHIN_S))
                raise LedgerUnavailable("away", written=False)
            case Trouble.UNSEEN:
                await self._written(phase, item, 0.002)
                raise LedgerUnavailable("not known", written=None)
            case Trouble.LATE:
                await self._late(phase, item, self._rng.uniform(COMMIT_WITHIN_S, 12.0))
            case Trouble.LOST:
                await self._late(phase, item, None)
            case Trouble.TWICE:
                await self._written(phase, item, 0.002)
            case Trouble.REFUSED:
                raise WriteRefused(phase, ValueError("refused"))
            case Trouble.SLOW:
                return await self._written(phase, item, self._rng.uniform(0.05, COMMIT_WITHIN_S - 0.05))
            case None:
                pass
        return await self._written(phase, item, self._rng.uniform(0.0005, 0.004))

    async def read(self, query: Callable[..., T], *args: Any) -> T:
        self._lives()
        await asyncio.sleep(self._rng.uniform(0.0, 0.002))
        if self._store.is_away:
            raise LedgerUnavailable("cannot be read", written=False)
        found = query(self._store.memory.connection, *args)
        if self._rng.random() < 0.2:
            # What is read is old by the time it is looked at.
            await asyncio.sleep(self._rng.uniform(0.0, 0.05))
        return found

    async def _written(self, phase: Phase, item: Mapping[str, Any], delay_s: float) -> bool:
        return await self._store.submit(self._process, phase, item, delay_s).fate

    async def _late(self, phase: Phase, item: Mapping[str, Any], after_s: float | None) -> None:
        """Give up waiting; the commit comes later, or not at all."""
        told: asyncio.Future[bool] = self._loop.create_future()
        outside = self._store._outside
        began = self._loop.time()

        def arrive() -> None:
            fate = self._store.submit(self._process, phase, item, 0.001).fate
            fate.add_done_callback(lambda done: _hand_on(done, told), context=outside)

        def vanish() -> None:
            told.set_exception(LedgerUnavailable("lost", written=None))
            told.exception()

        if after_s is None:
            self._loop.call_at(began + 2 * COMMIT_WITHIN_S, vanish, context=outside)
        else:
            self._loop.call_at(began + after_s, arrive, context=outside)
        await asyncio.sleep(COMMIT_WITHIN_S)
        raise LedgerUnavailable("not in time", written=None, late=told)

    def _lives(self) -> None:
        if not self._process.alive:
            # Only while its remains are let go of.
            raise LedgerUnavailable("this process is dead", written=False)


def _hand_on(done: "asyncio.Future[bool]", told: "asyncio.Future[bool]") -> None:
    if told.done():
        return
    fault = done.exception()
    if fault is None:
        told.set_result(done.result())
    else:
        told.set_exception(fault)
        told.exception()
