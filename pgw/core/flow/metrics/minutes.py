"""Slices of the hot state -> minutes in the ledger, which keep the metrics when the slices have expired."""

import asyncio
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from datetime import UTC, datetime

from pgw.core.hot.in_process import KEPT_S
from pgw.core.ledger.metrics_history import RECORD_MINUTE, SEPARATOR
from pgw.core.metrics.counters import SLICE_S, STATUSES, Cell, Counts, figures_of, parse_field
from pgw.core.ports import HotState, Ledger, Slices
from pgw.core.writes.attempts import Item

MINUTES_EVERY_S = 5.0

SLICES_A_MINUTE = 60 // SLICE_S

WRITTEN_TOGETHER = 256
"""Rows that wait for the ledger at one time; payments share their commits."""


class Minutes:
    """Writes the minutes of which any slice has changed since the last step."""

    def __init__(self, ledger: Ledger, hot: HotState) -> None:
        self._ledger = ledger
        self._hot = hot
        self._generation = 0
        self._revisions: dict[int, int] = {}
        self._due: set[int] = set()

    async def step(self) -> int:
        """Write what is due; return how many rows. Raises HotUnavailable, LedgerUnavailable; what is due stays due."""
        slices = await self._read(self._due)
        if slices is None:
            return 0
        written = 0
        for minute in sorted(self._due):
            parts = [slices.counts[each][1] for each in _slices_of(minute) if each in slices.counts]
            written += await self._write(minute, parts)
            self._due.discard(minute)
        return written

    async def _read(self, due: set[int]) -> Slices | None:
        """Find the minutes that are due, and read all their slices; None while the hot state is being rebuilt."""
        slices = await self._hot.changed_slices(self._generation, self._without(due))
        if slices.generation != self._generation:
            self._generation, self._revisions = slices.generation, {}
        due |= {number // SLICES_A_MINUTE for number in slices.counts if self._is_new(slices, number)}
        oldest = (int(slices.now) - KEPT_S) // SLICE_S
        known = self._revisions | {number: revision for number, (revision, _) in slices.counts.items()}
        self._revisions = {number: revision for number, revision in known.items() if number >= oldest}
        # A minute is written whole, also where one slice of it changed.
        if any(each in known and each not in slices.counts for minute in due for each in _slices_of(minute)):
            slices = await self._hot.changed_slices(self._generation, self._without(due))
        return slices if slices.generation == self._generation else None

    def _is_new(self, slices: Slices, number: int) -> bool:
        return self._revisions.get(number) != slices.counts[number][0]

    def _without(self, due: set[int]) -> Mapping[int, int]:
        """Return the known revisions, but for the minutes that are due and the newest, which most likely grows."""
        wanted = due | {max(self._revisions, default=0) // SLICES_A_MINUTE}
        return {
            number: revision for number, revision in self._revisions.items() if number // SLICES_A_MINUTE not in wanted
        }

    async def _write(self, minute: int, parts: Iterable[Mapping[str, int]]) -> int:
        writes = list(_writes(minute, parts))
        written = 0
        for start in range(0, len(writes), WRITTEN_TOGETHER):
            some = writes[start : start + WRITTEN_TOGETHER]
            written += sum(await asyncio.gather(*(self._ledger.commit(RECORD_MINUTE, each) for each in some)))
        return written


def _slices_of(minute: int) -> range:
    return range(minute * SLICES_A_MINUTE, (minute + 1) * SLICES_A_MINUTE)


def _writes(minute: int, parts: Iterable[Mapping[str, int]]) -> Iterator[Item]:
    """Lay out the row of each cell; a late correction without what it corrects is left out."""
    cells: dict[Cell, dict[str, int]] = defaultdict(lambda: defaultdict(int))
    for fields in parts:
        for field, amount in fields.items():
            cell, counter = parse_field(field)
            cells[cell][counter] += amount
    for cell, sums in cells.items():
        counts = Counts({counter: amount for counter, amount in sums.items() if amount})
        if counts.attempts <= 0 or any(counts.of.get(status, 0) < 0 for status in STATUSES):
            continue
        yield minute_write(cell, minute, counts)


def minute_write(cell: Cell, minute: int, counts: Counts) -> Item:
    """Lay out one row; `minute` counts from the epoch."""
    gateway_id, payment_method, issuing_bank = cell
    figures = figures_of(counts)
    return {
        "cell": SEPARATOR.join(cell),
        "gateway_id": gateway_id,
        "payment_method": payment_method,
        "issuing_bank": issuing_bank,
        "minute": datetime.fromtimestamp(minute * 60, UTC),
        "attempts": figures.attempts,
        "successes": figures.successes,
        "failures": figures.failures,
        "unknown": figures.unknown,
        "pending": figures.pending,
        "p50_ms": figures.latency.p50_ms,
        "p95_ms": figures.latency.p95_ms,
        "p99_ms": figures.latency.p99_ms,
        "counts": counts.of,
    }
