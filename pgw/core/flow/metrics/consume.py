"""Published events -> counts in the hot state, each event once: from the shared stream, or from the ledger."""

import logging
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import datetime, timedelta

import msgspec
from msgspec import Struct

from pgw.core.events import Event
from pgw.core.hot.in_process import InProcessHotState
from pgw.core.hot.stream import Stream, StreamEntry
from pgw.core.ledger.outbox import DIE, NOTHING, first_since, rows_after
from pgw.core.metrics.counters import SLICE_S, Increments, fold
from pgw.core.ports import Clock, Ledger
from pgw.malformed import MALFORMED

log = logging.getLogger(__name__)

COUNT_EVERY_S = 0.1

COUNTED_AT_ONCE = 250
"""Events of the ledger folded together: about a millisecond that requests of the same process wait for."""

DELIVERED_AT_ONCE = 1000
"""Entries of the stream folded together: what many events add to one counter is one sum, and one trip."""

MAX_ROUNDS = 20
"""Batches of one step."""

MAX_DELIVERIES = 5
"""Tries of an event that cannot be counted; then it is a dead letter, marked in the ledger."""

CLAIM_EVERY_S = 1.0
CLAIM_IDLE_MS = 3_000
"""Idle time after which an entry is claimed from its holder. Too short costs work done twice, never a count."""

MAX_BANKS = 512
"""Banks that one process counts separately. UPI handles are free text: further ones count as OTHER."""

OTHER = "OTHER"

LOOK_BACK = timedelta(hours=1)
"""How far back counts are rebuilt from the ledger: the longest window that is read."""

DISORDER = timedelta(minutes=2)
"""How much later than its neighbours an event may be numbered, by its own time, clock differences included."""

MAX_REASON = 255


class Counted(Struct, frozen=True):
    """A counted batch. `numbers`: the events in `increments`; `poison`: those that cannot be counted, and why."""

    increments: Increments
    numbers: Sequence[int]
    poison: Mapping[int, str]


class Counter:
    """Counts raw events. A poisoned one, which is no event or cannot be folded, is named and stops no other."""

    def __init__(self, folding: Callable[[Iterable[Event]], Increments] = fold) -> None:
        self._fold = folding
        self._banks: set[str] = set()
        self._decoder = msgspec.json.Decoder(Event)

    def count(self, rows: Iterable[tuple[int, bytes]]) -> Counted:
        """Fold a batch together; where that fails, one by one."""
        events: dict[int, Event | None] = {}
        poison: dict[int, str] = {}
        for number, raw in rows:
            try:
                events[number] = None if raw == NOTHING else self._known(self._decoder.decode(raw))
            except MALFORMED as fault:
                poison[number] = _reason(fault)
        countable = {number: event for number, event in events.items() if event is not None}
        try:
            increments = self._fold(countable.values())
        except Exception:  # noqa: BLE001  # whatever one event does to the fold must not stop the others
            increments, unfolded = self._one_by_one(countable)
            poison |= unfolded
        return Counted(increments, [number for number in events if number not in poison], poison)

    def _one_by_one(self, events: Mapping[int, Event]) -> tuple[Increments, dict[int, str]]:
        sums: dict[int, dict[str, int]] = {}
        poison: dict[int, str] = {}
        for number, event in events.items():
            try:
                add(sums, self._fold((event,)))
            except Exception as fault:  # noqa: BLE001  # named, counted, and given up after MAX_DELIVERIES
                poison[number] = _reason(fault)
        return sums, poison

    def _known(self, event: Event) -> Event:
        bank = event.issuing_bank
        if bank is None or bank in self._banks:
            return event
        if len(self._banks) >= MAX_BANKS:
            return msgspec.structs.replace(event, issuing_bank=OTHER)
        self._banks.add(bank)
        return event


def _reason(fault: Exception) -> str:
    return f"{type(fault).__name__}: {fault}"[:MAX_REASON]


def add(sums: dict[int, dict[str, int]], increments: Increments) -> None:
    """Add increments to sums."""
    for number, fields in increments.items():
        counts = sums.setdefault(number, {})
        for field, amount in fields.items():
            counts[field] = counts.get(field, 0) + amount


def horizon(now: datetime) -> tuple[int, datetime]:
    """Return the first slice that is rebuilt, the first of its minute, and since when events must be read for it.

    An older slice would hold corrections only, without what they correct.
    """
    minute = (now - LOOK_BACK).replace(second=0, microsecond=0)
    return int(minute.timestamp()) // SLICE_S, minute - DISORDER


def since(increments: Increments, first: int) -> Increments:
    """Return the increments without slices before `first`."""
    return {number: fields for number, fields in increments.items() if number >= first}


class Consumer:
    """One of any number of processes that count the stream's events, members of one consumer group.

    An entry is this consumer's until its count is in the hot state: counting, and ceasing to be pending, are one step.
    """

    def __init__(self, ledger: Ledger, stream: Stream, name: str, clock: Clock, counter: Counter | None = None) -> None:
        self._ledger = ledger
        self._stream = stream
        self._name = name
        self._clock = clock
        self._counter = counter or Counter()
        self._next_claim = clock.elapsed()
        self.claim_idle_ms = CLAIM_IDLE_MS

    async def step(self, wait_ms: int = 0) -> int:
        """Count what is there, or what comes first within `wait_ms`; return how many events.

        Raises HotUnavailable, and LedgerUnavailable for a dead letter.
        """
        counted = 0
        if self._clock.elapsed() >= self._next_claim:
            self._next_claim = self._clock.elapsed() + CLAIM_EVERY_S
            counted += await self._take(await self._stream.claim(self._name, self.claim_idle_ms, DELIVERED_AT_ONCE))
        for _ in range(MAX_ROUNDS):
            entries = await self._stream.deliver(self._name, DELIVERED_AT_ONCE, wait_ms)
            counted += await self._take(entries) if entries else 0
            if len(entries) < DELIVERED_AT_ONCE:
                break
            wait_ms = 0
        return counted

    async def _take(self, entries: Sequence[StreamEntry]) -> int:
        """Count entries that were delivered here, but for those that another consumer has claimed meanwhile."""
        batch = self._counter.count((each.number, each.event) for each in entries)
        claimed = await self._stream.apply(self._name, batch.numbers, batch.increments)
        if claimed:
            rest = [each for each in entries if each.number not in claimed and each.number not in batch.poison]
            batch = self._counter.count((each.number, each.event) for each in rest)
            if await self._stream.apply(self._name, batch.numbers, batch.increments):
                return 0
        for each in entries:
            if each.number in batch.poison:
                await self._refuse(each, batch.poison[each.number])
        return len(batch.numbers)

    async def _refuse(self, entry: StreamEntry, reason: str) -> None:
        """Leave a poisoned entry pending for another try; after the last mark it dead, the ledger before the stream."""
        if entry.deliveries < MAX_DELIVERIES:
            return
        await self._ledger.commit(DIE, {"published": entry.number, "dead_reason": reason})
        if await self._stream.bury(self._name, entry, reason):
            log.error("event %d is a dead letter, see `pgw outbox dead`: %s", entry.number, reason)


class _Poisoned(Struct, frozen=True):
    """An event that could not be counted, why, and how often it was tried."""

    raw: bytes
    reason: str
    tries: int


class Tail:
    """Counts into this process's own hot state, from the ledger, in the order of publication."""

    def __init__(
        self,
        ledger: Ledger,
        hot: InProcessHotState,
        clock: Clock,
        counter: Counter | None = None,
        last: Callable[[], int | None] = lambda: None,
    ) -> None:
        """`last`: the last number published, where this process knows it: saves reads that find nothing."""
        self._ledger = ledger
        self._hot = hot
        self._clock = clock
        self._counter = counter or Counter()
        self._last = last
        self._cursor: int | None = None
        self._first = 0
        self._tries: dict[int, _Poisoned] = {}
        self.caught_up = False
        """Whether all that was published had been counted at the end of the last step."""

    async def step(self) -> int:
        """Count what was published since; the first step begins an hour back. Raises LedgerUnavailable."""
        if self._cursor is None:
            self._first, read_from = horizon(self._clock.now())
            self._cursor = await self._ledger.read(first_since, read_from) - 1
        counted = self._count([(number, each.raw) for number, each in self._tries.items()])
        for _ in range(MAX_ROUNDS):
            if self._cursor == self._last():
                self.caught_up = True
                break
            rows = await self._ledger.read(rows_after, self._cursor, COUNTED_AT_ONCE)
            if rows:
                # Nothing is awaited between the two: the cursor always covers what is counted.
                counted += self._count(rows)
                self._cursor = rows[-1].published
            self.caught_up = len(rows) < COUNTED_AT_ONCE
            if self.caught_up:
                break
        await self._bury()
        return counted

    def _count(self, rows: Sequence[tuple[int, bytes]]) -> int:
        batch = self._counter.count(rows)
        self._hot.apply(since(batch.increments, self._first))
        for number, raw in rows:
            known = self._tries.pop(number, None)
            if number in batch.poison:
                self._tries[number] = _Poisoned(raw, batch.poison[number], (known.tries if known else 0) + 1)
        return len(batch.numbers)

    async def _bury(self) -> None:
        """Mark in the ledger what could not be counted in MAX_DELIVERIES tries."""
        for number, each in list(self._tries.items()):
            if each.tries >= MAX_DELIVERIES:
                await self._ledger.commit(DIE, {"published": number, "dead_reason": each.reason})
                del self._tries[number]
                log.error("event %d is a dead letter, see `pgw outbox dead`: %s", number, each.reason)
