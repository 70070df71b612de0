"""Items from many tasks -> group commits: one thread writes all that queued while the last commit ran."""

import asyncio
import logging
import threading
from collections import deque
from collections.abc import Sequence
from queue import SimpleQueue
from time import monotonic
from typing import Protocol

from pgw.core.errors import Code, PgwError
from pgw.core.ledger.engine.phase import Item, Phase

log = logging.getLogger(__name__)

COMMIT_WITHIN_S = 2.0
"""How long a waiter waits for its commit before it is answered that the ledger did not confirm."""

MAX_QUEUE = 4096
"""Items that may wait; beyond it a commit is refused at once, which keeps the wait of all others bounded."""

MAX_BATCH = 512
"""Items of one commit: past this a batch gains nothing and holds its neighbours up."""

RETRY_AFTER_FAULT_S = (0.0, 0.1, 0.4)
"""Waits before a batch is run again after a fault of no single write: three tries inside a waiter's patience."""

CLOSE_WITHIN_S = 5.0
"""How long a stop waits for the last commits; a batch that the database holds longer is lost to its waiters anyway."""

SWEEP_EVERY_S = 0.1


class LedgerUnavailable(PgwError):
    """The ledger did not confirm a write. `written` is False when it is certain that nothing was written."""

    def __init__(self, detail: str, *, written: bool | None, late: "asyncio.Future[bool] | None" = None) -> None:
        super().__init__(Code.LEDGER_UNAVAILABLE, detail, retry_after_s=1)
        self.written = written
        self.late = late


class WriteRefused(PgwError):
    """The database refused this one item; its neighbours were written."""

    def __init__(self, phase: Phase, fault: Exception) -> None:
        super().__init__(Code.INTERNAL, f"the ledger refused one {phase.name} item ({type(fault).__name__})")


class Runner(Protocol):
    """One database: runs a batch in one transaction."""

    def run(self, groups: Sequence[tuple[Phase, Sequence[Item]]]) -> list[set[str]]:
        """Return the winners' keys, group by group."""

    def recover(self) -> None:
        """Clear up after a failed run."""

    def close(self) -> None:
        """Give the connection up; the next run opens another."""


class Waiter:
    """One item on its way: queued, then taken by the writer or withdrawn by its task, then answered."""

    __slots__ = ("deadline", "fate", "item", "late", "phase", "taken", "withdrawn")

    def __init__(self, phase: Phase, item: Item, fate: "asyncio.Future[bool]", deadline: float) -> None:
        self.phase = phase
        self.item = item
        self.fate = fate
        self.deadline = deadline
        self.taken = False
        self.withdrawn = False
        self.late: asyncio.Future[bool] | None = None


Fate = bool | Exception


class Writer:
    """The group commit. Made and awaited on one event loop; `close` before that loop ends."""

    def __init__(self, runner: Runner, retryable: tuple[type[Exception], ...]) -> None:
        self._runner = runner
        self._retryable = retryable
        self._loop = asyncio.get_running_loop()
        self._queue: SimpleQueue[Waiter | None] = SimpleQueue()
        self._waiting: deque[Waiter] = deque()
        self._overdue: set[Waiter] = set()
        self._unanswered = 0
        self._lock = threading.Lock()
        self._sweeper: asyncio.TimerHandle | None = None
        self._fault: BaseException | None = None
        self._closed = False
        self._pause = threading.Event()
        self._thread = threading.Thread(target=self._run, name="pgw-ledger-writer", daemon=True)
        self._thread.start()

    @property
    def is_alive(self) -> bool:
        """Whether commits can succeed; once the thread has died they cannot, until the process is restarted."""
        return self._fault is None

    async def commit(self, phase: Phase, item: Item) -> bool:
        """Write one item; return whether it won. Durable on return.

        Raises:
            LedgerUnavailable: not confirmed within COMMIT_WITHIN_S, or the queue is full, or the writer is gone.
            ItemRefused: the database refused this item.
        """
        if self._closed or self._fault is not None:
            raise LedgerUnavailable("the ledger's writer has stopped: nothing was written", written=False)
        if self._queue.qsize() >= MAX_QUEUE or self._unanswered >= MAX_QUEUE:
            raise LedgerUnavailable("the ledger's queue is full: nothing was written, try again shortly", written=False)
        waiter = Waiter(phase, item, self._loop.create_future(), monotonic() + COMMIT_WITHIN_S)
        self._unanswered += 1
        self._waiting.append(waiter)
        self._queue.put(waiter)
        if self._sweeper is None:
            self._sweeper = self._loop.call_later(SWEEP_EVERY_S, self._sweep)
        return await waiter.fate

    async def close(self, within_s: float = CLOSE_WITHIN_S) -> None:
        """Write what is queued, then stop the thread; one that is stuck in the database ends with the process."""
        self._closed = True
        self._queue.put(None)
        await self._loop.run_in_executor(None, self._thread.join, within_s)
        if self._thread.is_alive():
            log.error("the ledger's writer is stuck in the database: what it held is left to verification")
            self._fail_all()
        if self._sweeper is not None:
            self._sweeper.cancel()

    def _sweep(self) -> None:
        """Answer waiters past their deadline that the ledger did not confirm; all wait equally long, so in order."""
        now = monotonic()
        while self._waiting and (self._waiting[0].fate.done() or self._waiting[0].deadline <= now):
            waiter = self._waiting.popleft()
            if waiter.fate.done():
                continue
            with self._lock:
                waiter.withdrawn = not waiter.taken
            if waiter.withdrawn:
                self._unanswered -= 1
                fault = LedgerUnavailable("the ledger is not answering: nothing was written", written=False)
            else:
                waiter.late = self._loop.create_future()
                self._overdue.add(waiter)
                fault = LedgerUnavailable("the ledger did not confirm in time", written=None, late=waiter.late)
            waiter.fate.set_exception(fault)
            # The task that waited may be gone; an unread exception must not be reported as lost.
            waiter.fate.exception()
        self._sweeper = self._loop.call_later(SWEEP_EVERY_S, self._sweep) if self._waiting else None

    def _run(self) -> None:
        """Be the writer thread. If it dies, every waiter is answered: none hangs."""
        held: list[Waiter] = []
        try:
            while True:
                batch, held, last = self._take(held)
                self._answer(batch, self._write(batch))
                if last and not held:
                    break
        except BaseException as fault:  # whatever ended the thread, the waiters must learn of it
            self._fault = fault
            log.critical("the ledger's writer died: %s", type(fault).__name__, exc_info=fault)
            self._loop.call_soon_threadsafe(self._fail_all)
        finally:
            self._runner.close()

    def _take(self, held: list[Waiter]) -> tuple[list[Waiter], list[Waiter], bool]:
        """Take what queued, at most MAX_BATCH; hold back the second item of a key, which must see the first's end."""
        queued = list(held)
        last = False
        while len(queued) < MAX_BATCH:
            if queued and self._queue.empty():
                break
            waiter = self._queue.get()
            if waiter is None:
                last = True
                break
            queued.append(waiter)
        batch: list[Waiter] = []
        later: list[Waiter] = []
        seen: set[tuple[Phase, tuple[str, ...]]] = set()
        with self._lock:
            for waiter in queued:
                place = (waiter.phase, waiter.phase.place(waiter.item))
                if waiter.withdrawn:
                    continue
                if place in seen:
                    later.append(waiter)
                    continue
                seen.add(place)
                waiter.taken = True
                batch.append(waiter)
        if last and later:
            self._queue.put(None)
            last = False
        return batch, later, last

    def _write(self, batch: Sequence[Waiter]) -> list[Fate]:
        """Write a batch; a refused item is found by halving, so that it alone is refused."""
        if not batch:
            return []
        try:
            return self._commit(batch)
        except self._retryable:
            self._runner.recover()
            fault = LedgerUnavailable("the ledger failed; whether it wrote is not known", written=None)
            return [fault] * len(batch)
        except Exception as refusal:
            # What the database refuses, and what cannot even be encoded, is some item's own fault.
            self._runner.recover()
            if len(batch) == 1:
                (each,) = batch
                named = each.phase.name, each.phase.key, each.item.get(each.phase.key)
                # Nothing of it is written, and nothing else reports it: what stood against it is for an operator.
                log.critical("the ledger refused one %s item, %s %s", *named, exc_info=refusal)
                return [WriteRefused(each.phase, refusal)]
            half = len(batch) // 2
            return self._write(batch[:half]) + self._write(batch[half:])

    def _commit(self, batch: Sequence[Waiter]) -> list[Fate]:
        groups: dict[Phase, list[Waiter]] = {}
        for waiter in batch:
            groups.setdefault(waiter.phase, []).append(waiter)
        ordered = sorted(groups.items(), key=lambda each: each[0].name)
        for phase, waiters in ordered:
            waiters.sort(key=lambda waiter, place=phase.place: place(waiter.item))  # type: ignore[misc]
        winners = self._try([(phase, [waiter.item for waiter in waiters]) for phase, waiters in ordered])
        won = {phase: keys for (phase, _), keys in zip(ordered, winners, strict=True)}
        return [str(waiter.item[waiter.phase.key]) in won[waiter.phase] for waiter in batch]

    def _try(self, groups: Sequence[tuple[Phase, Sequence[Item]]]) -> list[set[str]]:
        """Run a batch, again if the fault is of no single write: a commit that did happen is already written then."""
        for wait in RETRY_AFTER_FAULT_S[1:]:
            try:
                return self._runner.run(groups)
            except self._retryable as fault:
                log.warning("the ledger failed, running the batch again: %s", type(fault).__name__)
                log.debug("the fault", exc_info=fault)
                self._runner.recover()
                self._pause.wait(wait)
        return self._runner.run(groups)

    def _answer(self, batch: Sequence[Waiter], fates: Sequence[Fate]) -> None:
        if batch:
            self._loop.call_soon_threadsafe(self._wake, list(zip(batch, fates, strict=True)))

    def _wake(self, fates: Sequence[tuple[Waiter, Fate]]) -> None:
        self._unanswered -= len(fates)
        for waiter, fate in fates:
            future = waiter.fate if waiter.late is None else waiter.late
            self._overdue.discard(waiter)
            if future.done():
                continue
            if isinstance(fate, Exception):
                future.set_exception(fate)
                future.exception()
            else:
                future.set_result(fate)
        while self._waiting and self._waiting[0].fate.done():
            self._waiting.popleft()

    def _fail_all(self) -> None:
        fault = LedgerUnavailable("the ledger's writer has stopped; whether it wrote is not known", written=None)
        for future in (*(each.fate for each in self._waiting), *(each.late for each in self._overdue)):
            if future is not None and not future.done():
                future.set_exception(fault)
                future.exception()
        self._waiting.clear()
        self._overdue.clear()
