"""A database address, a few numbers -> an opened ledger, items for each phase, and the rows they left."""

import asyncio
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, asynccontextmanager, contextmanager
from datetime import datetime, timedelta
from functools import cache
from itertools import count
from pathlib import Path
from random import Random
from tempfile import TemporaryDirectory
from threading import Event
from typing import Any, TypeVar

import psycopg
from sqlalchemy import Table, select

from pgw.core.breakers.breaker import State
from pgw.core.ids import uuid7
from pgw.core.ledger.engine.ledger import OpenLedger
from pgw.core.ledger.engine.phase import Phase
from pgw.core.ledger.engine.store import upgrade
from pgw.core.ledger.engine.writer import Runner
from pgw.core.ledger.payments import OPEN
from pgw.core.payment.outcome import Finish, Unknown, Verdict, attempt_end, next_step
from pgw.core.routing.context import make_context
from pgw.core.routing.plan import Plan, make_plan, seed_of
from pgw.core.verification.enquiry import CHECK_LEASE, Conclusion, ending_of
from pgw.core.verification.late_capture import monitor_of
from pgw.core.writes.attempts import (
    Announced,
    Ended,
    Item,
    Skipped,
    closing,
    opening,
    skipping,
    subject_of,
    turning,
)
from pgw.core.writes.verification import settling
from tests.doubles import CAPTURED, NOON, request_of, snapshot_of

T = TypeVar("T")

TIMEOUT = timedelta(seconds=2.5)


@cache
def _migrated() -> bytes:
    with TemporaryDirectory() as folder:
        path = Path(folder) / "pgw.db"
        upgrade(f"sqlite:///{path}")
        return path.read_bytes()


def new_file(folder: Path) -> str:
    """Put a new SQLite ledger into a folder and name its address; a copy is ten times faster than the migrations."""
    path = folder / "pgw.db"
    path.write_bytes(_migrated())
    return f"sqlite:///{path}"


@asynccontextmanager
async def opened(database: str) -> AsyncIterator[OpenLedger]:
    """Open a ledger on the running loop, and close it."""
    ledger = OpenLedger(database)
    try:
        yield ledger
    finally:
        await ledger.close()


@contextmanager
def administrator(database: str) -> Iterator[psycopg.Connection[Any]]:
    """Open a session of one's own on a PostgreSQL ledger, beside pgw."""
    with psycopg.connect(database.replace("+psycopg", ""), autocommit=True) as session:
        yield session


class Stage:
    """One open ledger for all examples of a test; each takes a fresh number, so that no two share a payment.

    Examples that run a round of checks share more than that: whatever is due. Each of those takes one of `Stages`.
    """

    def __init__(self, runner: asyncio.Runner, ledger: OpenLedger) -> None:
        self._runner = runner
        self._numbers = count()
        self.ledger = ledger

    def run(self, scenario: Coroutine[Any, Any, T]) -> T:
        return self._runner.run(scenario)

    def number(self) -> int:
        return next(self._numbers)


Stages = Callable[[], AbstractContextManager[Stage]]
"""Opens a new ledger at each call."""


@contextmanager
def staged(database: str) -> Iterator[Stage]:
    """Open a ledger on a loop that runs one scenario after another."""

    async def begin() -> OpenLedger:
        return OpenLedger(database)

    with asyncio.Runner() as runner:
        ledger = runner.run(begin())
        try:
            yield Stage(runner, ledger)
        finally:
            runner.run(ledger.close())


async def rows(ledger: OpenLedger, table: Table) -> list[dict[str, Any]]:
    """Read a whole table, in the order of its key."""
    query = select(table).order_by(*table.primary_key.columns)
    return await ledger.read(lambda connection: [dict(row) for row in connection.execute(query).mappings()])


def id_of(number: int, at: datetime = NOON) -> str:
    """Name the payment of this number; ids grow with the numbers."""
    return uuid7(at + timedelta(milliseconds=number), Random(number))


def plan_of(payment_id: str, at: datetime = NOON) -> Plan:
    """Decide for the payment of `request_of`."""
    snapshot = snapshot_of(("g1", "g2", "g3"), at)
    return make_plan(make_context(request_of(), at, snapshot.banks), snapshot, seed_of(payment_id), at)


def announced(number: int = 1, at: datetime = NOON) -> Announced:
    """Announce attempt `number`, each at the gateway of its place."""
    return Announced(number, f"g{number}", at, TIMEOUT)


def opens(number: int, *, key: str | None = None, at: datetime = NOON, **changes: Any) -> Item:
    """Open the payment of this number; its key is its own, unless told."""
    payment_id = id_of(number)
    item = opening(
        payment_id, key or f"key-{number}", "digest", request_of(), plan_of(payment_id), announced(at=at), at
    )
    return {**item, **changes}


def ended(verdict: Verdict, number: int = 1, at: datetime = NOON, check_at: datetime | None = None) -> Ended:
    """End attempt `number`; an unknown one is asked about two seconds later, one that failed is watched."""
    unknown = isinstance(verdict, Unknown)
    end = attempt_end(verdict)
    return Ended(
        number,
        f"g{number}",
        end,
        at,
        12,
        check_at or (at + timedelta(seconds=2) if unknown else None),
        monitor_of(end, at, at, Random(number)),
    )


def turns(
    payment: int,
    verdict: Verdict,
    number: int = 1,
    at: datetime = NOON,
    following: int | None = None,
    replanned: Plan | None = None,
) -> Item:
    """End attempt `number` and announce the next, `following` where some between were skipped."""
    payment_id = id_of(payment)
    subject = subject_of(payment_id, plan_of(payment_id))
    next_one = announced(following or number + 1, at)
    return turning(subject, ended(verdict, number, at), next_one, replanned, id_of(payment, at))


def skips(payment: int, number: int, at: datetime = NOON) -> Item:
    """Pass over the gateway of place `number`, whose breaker opened after the plan."""
    return skipping(id_of(payment), Skipped(number, f"g{number}", "SKIPPED_BREAKER_OPEN", State.OPEN), at)


def closes(payment: int, verdict: Verdict = CAPTURED, number: int = 1, at: datetime = NOON) -> Item:
    """End attempt `number` and its payment, as the verdict asks."""
    payment_id = id_of(payment)
    finish = next_step(verdict, may_continue=False, only_not_sent=False)
    assert isinstance(finish, Finish)
    subject = subject_of(payment_id, plan_of(payment_id))
    return closing(
        subject, ended(verdict, number, at), finish, number, 34, None, (id_of(payment, at), id_of(payment, at))
    )


def claims(payment: int, due_at: datetime, number: int = 1, at: datetime | None = None) -> Item:
    """Take the attempt that is due at `due_at`."""
    claimed_at = at or due_at
    return {
        "payment_id": id_of(payment),
        "attempt_number": number,
        "gateway_id": f"g{number}",
        "attempts_made": number,
        "due_at": due_at,
        "claimed_at": claimed_at,
        "claimed_until": claimed_at + CHECK_LEASE,
    }


def records(claim: Item, next_check_at: datetime, check_number: int = 1) -> Item:
    """Write an enquiry that settled nothing."""
    check = {"check_number": check_number, "checked_at": claim["claimed_at"], "result": "PENDING", "error_code": None}
    return {**claim, **check, "next_check_at": next_check_at}


def settles(claim: Item, found: Conclusion, payment: int, check_number: int = 1) -> Item:
    """Write an enquiry that settled the attempt."""
    number, at = claim["attempt_number"], claim["claimed_at"]
    settlement = ending_of(found, 1000, "INR")
    watch = monitor_of(settlement.end, at, at, Random(number))
    end = Ended(number, f"g{number}", settlement.end, at, None, None, watch)
    check = {"check_number": check_number, "checked_at": at, "result": "SUCCESS", "error_code": None}
    payment_id = id_of(payment)
    subject = subject_of(payment_id, plan_of(payment_id))
    ids = id_of(payment, at), uuid7(at, Random(f"{payment}-{number}-{check_number}"))
    return settling(subject, end, settlement, number, 56, check, None, ids)


ENTERS_WITHIN_S = 60.0

Groups = Sequence[tuple[Phase, Sequence[Mapping[str, Any]]]]


class Gated:
    """A runner that lets nothing through until told, and remembers the size of each batch."""

    def __init__(self, runner: Runner) -> None:
        self.runner = runner
        self.entered = Event()
        self.gate = Event()
        self.batches: list[int] = []
        self.before: Callable[[], None] = lambda: None
        self.after: Callable[[], None] = lambda: None

    def run(self, groups: Groups) -> list[set[str]]:
        self.entered.set()
        assert self.gate.wait(60), "the test never opened the gate"
        self.batches.append(sum(len(items) for _, items in groups))
        self.before()
        winners = self.runner.run(groups)
        self.after()
        return winners

    def recover(self) -> None:
        self.runner.recover()

    def close(self) -> None:
        self.runner.close()


def gated(ledger: OpenLedger) -> Gated:
    """Put a gate before a ledger's database."""
    runner = Gated(ledger._writer._runner)
    ledger._writer._runner = runner
    return runner


Write = tuple[Phase, Item]
Fates = list[bool | BaseException]


async def all_of(ledger: OpenLedger, writes: Sequence[Write]) -> Fates:
    """Ask for all these writes together, and collect what each was told."""
    return await asyncio.gather(*(ledger.commit(*each) for each in writes), return_exceptions=True)


async def at_once(ledger: OpenLedger, runner: Gated, writes: Sequence[Write], busy_with: int = 0) -> Fates:
    """Keep the writer busy with one payment while all the others queue, so that they share the next commit."""
    first = asyncio.create_task(ledger.commit(OPEN, opens(busy_with)))
    # Without an end the thread could not be ended, should the writer have withdrawn the item before its turn.
    assert await asyncio.to_thread(runner.entered.wait, ENTERS_WITHIN_S), "the writer never took the first item"
    waiting = [asyncio.create_task(ledger.commit(phase, item)) for phase, item in writes]
    await asyncio.sleep(0)
    runner.gate.set()
    assert await first is True
    return await asyncio.gather(*waiting, return_exceptions=True)
