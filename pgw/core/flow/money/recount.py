"""Minutes of the metrics, one a minute -> whether they equal a recount of their events, read page by page."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from random import Random

from sqlalchemy import Connection

from pgw.core.ledger.audit_reads import EventScan, last_position, position_since, scan
from pgw.core.ledger.audit_samples import MINUTE, compared, countable
from pgw.core.ledger.violations import DetectedViolation
from pgw.core.ports import Clock, Ledger

RECOUNT_EVERY = timedelta(minutes=1)

PAGE = 2_000
"""Events of one step: some 10 ms in a thread beside the payments."""

MAX_PAGES = 500
"""Pages of one minute: ten times the events a machine can make in it; beyond it the minute is left to a full audit."""

SLACK = timedelta(minutes=1)
"""How far an event may be behind others that occurred after it; a write waits for seconds, not for minutes."""


@dataclass
class Recounted:
    """A minute under recount, and how far its events are read."""

    minute: datetime
    first: int
    position: int
    events: EventScan = field(default_factory=lambda: EventScan(only_counts=True))
    pages: int = 0


class Recount:
    """Recounts, alternating: the newest complete minute, one within the look-back, one with an open violation."""

    def __init__(self, ledger: Ledger, clock: Clock, rng: Random, look_back: timedelta) -> None:
        self._ledger = ledger
        self._clock = clock
        self._rng = rng
        self._look_back = look_back
        self._under_way: Recounted | None = None
        self._next_at: datetime | None = None
        self._begun = 0

    async def step(self, wrong: Sequence[datetime]) -> tuple[datetime, Sequence[DetectedViolation]] | None:
        """Read a page; at the end of a minute return it with its violations, unless they cannot be determined.

        `wrong`: minutes with an open violation. Raises LedgerUnavailable; the minute begins again then.
        """
        work = self._under_way or await self._begin(wrong)
        if work is None:
            return None
        # Only a page that was read to its end is kept: half of one would be counted twice.
        self._under_way = None
        is_done = await self._ledger.read(_read_on, work)
        if not is_done:
            self._under_way = work if work.pages < MAX_PAGES else None
            return None
        found = await self._ledger.read(compared, work.minute, work.events, work.first, work.position)
        return None if found is None else (work.minute, found)

    async def _begin(self, wrong: Sequence[datetime]) -> Recounted | None:
        now = self._clock.now()
        if self._next_at is not None and now < self._next_at:
            return None
        self._next_at = now + RECOUNT_EVERY
        self._begun += 1
        minute = await self._choose(now, wrong)
        if minute is None:
            return None
        first = await self._ledger.read(position_since, minute)
        return Recounted(minute, first, first)

    async def _choose(self, now: datetime, wrong: Sequence[datetime]) -> datetime | None:
        if self._begun % 3 == 0 and wrong:
            return wrong[self._begun // 3 % len(wrong)]
        if self._begun % 2 == 0:
            some = now - self._look_back * self._rng.random()
            return await self._ledger.read(countable, now, some.replace(second=0, microsecond=0))
        return await self._ledger.read(countable, now)


def _read_on(connection: Connection, work: Recounted) -> bool:
    """Read a page; return whether all events of the minute are read."""
    last = last_position(connection)
    work.position = scan(connection, work.events, work.position, PAGE)
    work.pages += 1
    return work.position >= last or work.events.newest_at >= work.minute + MINUTE + SLACK
