"""A person's hand on the simulation: one process that does only what it is told to, moment by moment."""

import asyncio
from collections import deque
from collections.abc import Callable, Coroutine
from datetime import datetime
from random import Random
from typing import Any, TypeVar

from pgw.core.errors import PgwError
from pgw.core.ledger.audit_reads import NO_ID, payment_rows, payments_after
from pgw.core.ledger.engine.phase import Phase
from pgw.core.money.audit_rows import PaymentRows, SettlementLine, SettlementList
from pgw.core.money.invariants import Violation, check
from pgw.core.payment.payment import EXITS, Status
from pgw.core.ports import ChargeOrder, Dependencies, Reference
from tests.fake_gateway import Fate, Reach
from tests.simulation.run import prepared
from tests.simulation.scene import GATEWAYS, STEPS, House, build
from tests.simulation.store import Due, Trouble
from tests.simulation.virtual import Process, let_go
from tests.simulation.weather import CALM, Fates

T = TypeVar("T")

NAME = "a"
BREATH_S = 60.0
"""How long a step may take: longer than any call's deadline."""

MOST_ROUNDS = 2000
"""Rounds of the workers until nothing is due any more: nine days of hourly checks are fewer."""


class Hand(Fates):
    """Hands out what a test put there, once each; everything else goes well."""

    def __init__(self) -> None:
        super().__init__(CALM, Random(0))
        self.charges: deque[Fate] = deque()
        self.calls: deque[Reach] = deque()
        self.commits: deque[Trouble] = deque()

    def of_charge(self, gateway_id: str, order: ChargeOrder) -> Fate:
        return self.charges.popleft() if self.charges else Fate()

    def of_call(self, gateway_id: str, name: str, reference: Reference) -> Reach:
        return self.calls.popleft() if self.calls else Reach()

    def of_commit(self, phase: Phase) -> Trouble | None:
        return self.commits.popleft() if self.commits else None


class Bench:
    """One world under a test's hands. `wrong`: steps of payments that must not be, seen as they were committed."""

    def __init__(self, hand: Hand | None = None) -> None:
        self.hand = hand or Hand()
        self.run = prepared(1, CALM, self.hand)
        self.wrong: list[str] = []
        self._known: dict[str, Status] = {}
        self.run.store.struck = self._look
        build(self.run, NAME)

    @property
    def runtime(self) -> House:
        return self.run.houses[NAME]

    @property
    def now(self) -> datetime:
        return self.run.book.now()

    def let(self, work: Coroutine[Any, Any, None]) -> None:
        """Begin something, which goes on while other things happen."""
        self.run.troubles.append(self.run.loop.create_task(work))

    def wait(self, seconds: float) -> None:
        """Let time pass."""
        self._until(asyncio.sleep(seconds))

    def do(self, step: Callable[[Dependencies], Coroutine[Any, Any, T]], place: str = NAME) -> T | PgwError:
        """Let a process do one thing, and wait for it; a refusal is an answer."""
        runtime = self.run.houses[place]
        return self._until(_answer(runtime.process.ask(lambda: step(runtime.deps))))

    def crash(self) -> None:
        """Kill the process, and start another."""
        runtime = self.run.houses.pop(NAME)
        self.run.dead.append(runtime)
        runtime.process.kill()
        self.run.store.forget(runtime.process)
        build(self.run, NAME)

    def heal(self) -> None:
        """Let all go well from here on, and the workers do their work until nothing is due any more."""
        for each in (self.hand.charges, self.hand.calls, self.hand.commits):
            each.clear()
        self.wait(BREATH_S)
        assert self.work() is None, "there is always something due"

    def work(self, until: datetime | None = None) -> datetime | None:
        """Let the workers look at what is due, as it falls due, until a moment; return what is due next."""
        for _ in range(MOST_ROUNDS):
            moments = {due: moment for due in Due if (moment := self._due_at(due)) is not None}
            first = min(moments, key=lambda due: moments[due], default=None)
            if first is None or (until is not None and moments[first] > until):
                break
            self.wait(max(0.5, (moments[first] - self.now).total_seconds()))
            self.do(STEPS[first])
        return None if first is None else moments[first]

    def _due_at(self, due: Due) -> datetime | None:
        found = self.run.store.memory.driver.execute(due).fetchone()[0]
        return None if found is None else datetime.fromisoformat(found)

    def cases(self) -> list[PaymentRows]:
        """Read every payment."""
        connection, after = self.run.store.memory.connection, NO_ID
        found: list[PaymentRows] = []
        while page := payments_after(connection, after):
            found += payment_rows(connection, page)
            after = page[-1]
        return found

    def violations(self, found: list[PaymentRows]) -> list[Violation]:
        """Check what must be true at every moment, by the ledger and by the gateways' book."""
        settlement = SettlementList([SettlementLine(**each) for each in self.run.book.statement()], GATEWAYS)
        return [violation for case in found for violation in check(case, settlement)]

    def close(self) -> None:
        """Switch the machine off."""
        let_go(self.run.loop)

    def _until(self, work: Coroutine[Any, Any, T]) -> T:
        return self.run.loop.run_until_complete(work)

    def _look(self, _: Process, phase: Phase) -> None:
        """See each commit, as it is made."""
        rows = self.run.store.memory.driver.execute("SELECT payment_id, status FROM payments").fetchall()
        for payment_id, word in rows:
            status = Status(word)
            was = self._known.setdefault(payment_id, Status.PROCESSING)
            if status is not was and status not in EXITS[was]:
                self.wrong.append(f"{payment_id}: {was} became {status} by {phase.name}")
            self._known[payment_id] = status


async def _answer(work: Coroutine[Any, Any, T]) -> T | PgwError:
    try:
        return await work
    except PgwError as fault:
        return fault
