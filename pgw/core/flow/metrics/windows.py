"""Changed slices of the hot state -> the sums of every window, health and figures, at the cost of what changed."""

import asyncio
import logging
from collections import defaultdict
from collections.abc import Collection, Hashable, Mapping
from datetime import datetime
from functools import reduce
from heapq import nlargest
from typing import Generic, TypeVar

from pgw.core.breakers.breaker import Key
from pgw.core.metrics.counters import NOTHING, SLICE_S, Cell, Counts, Figures, figures_of, parse_field, prefix_of
from pgw.core.metrics.health import LOOK_BACK_SLICES, Evidence, Incident, evidence_of, healths, window, window_outside
from pgw.core.ports import Clock, HotState, HotUnavailable
from pgw.core.routing.score import Health

log = logging.getLogger(__name__)

HEALTH_WINDOW_S = 300
BREAKER_WINDOW_S = 120
"""The window that breakers are shown with: the failure rule's, unless that is configured otherwise."""

WINDOWS_S = (60, BREAKER_WINDOW_S, HEALTH_WINDOW_S, 900, 3600)
"""The windows whose sums are kept. Each ends with the slice that has only begun, so it is up to 10 s short."""

MAX_BANKS = 200
"""Banks of one gateway and method that have a health of their own, those with most calls; the others have the method's.

The issuing bank may be any text that a customer's address ends with, so their number is unbounded."""

MAX_REVISIONS = 2_000
"""Revisions remembered; beyond it the oldest half is dropped, and what the store still has of it is read again."""

MAX_NAMES = 100_000
"""Parsed field names remembered; beyond it all are dropped."""

K = TypeVar("K", bound=Hashable)
Change = Mapping[Cell, Mapping[str, int]]
"""What is added to the counters of each cell."""


class Sums(Generic[K]):
    """Counters by name, and the evidence of each, computed once per change."""

    def __init__(self) -> None:
        self.of: dict[K, dict[str, int]] = {}
        self._evidence: dict[K, Evidence] = {}

    def add(self, name: K, amounts: Mapping[str, int]) -> None:
        """Add to the counters of a name, which is dropped when none is left."""
        counters = self.of.setdefault(name, {})
        for counter, amount in amounts.items():
            if moved := counters.get(counter, 0) + amount:
                counters[counter] = moved
            else:
                counters.pop(counter, None)
        if not counters:
            del self.of[name]
        self._evidence.pop(name, None)

    def evidence(self, name: K) -> Evidence:
        """Return the evidence that the counters of a name hold of the gateway."""
        known = self._evidence.get(name)
        if known is None:
            known = self._evidence[name] = evidence_of(Counts(self.of[name]))
        return known


class MetricWindow:
    """The sums of chosen slices, by cell. `prefix`: of fields that begin so; empty: of all."""

    def __init__(self, prefix: str = "") -> None:
        self.prefix = prefix
        self.numbers: Collection[int] = ()
        self.cells: Sums[Cell] = Sums()

    def add(self, change: Change) -> None:
        """Add what a slice holds, or how it changed."""
        for cell, amounts in change.items():
            self.cells.add(cell, amounts)


class HealthWindow(MetricWindow):
    """A window that health is computed from: also by gateway and method. `only`: of this one alone."""

    def __init__(self, only: Key | None = None) -> None:
        super().__init__("" if only is None else prefix_of(only))
        self.methods: Sums[Key] = Sums()
        self.moved = False
        """Whether anything was added since health was last computed."""
        self._only = only

    def add(self, change: Change) -> None:
        """Add what a slice holds, or how it changed."""
        for cell, amounts in change.items():
            key = cell[:2]
            if self._only in {None, key}:
                self.cells.add(cell, amounts)
                self.methods.add(key, amounts)
                self.moved = True

    def part(self, key: Key) -> "HealthWindow":
        """Return a copy for one gateway and method alone."""
        part = HealthWindow(only=key)
        part.add(self.cells.of)
        part.numbers = self.numbers
        return part


class Copy:
    """The slices of one generation of the hot state as this process has read them, and the windows over them."""

    def __init__(self, generation: int) -> None:
        self.generation = generation
        self.revisions: dict[int, int] = {}
        self.newest = -1
        self.whole = HealthWindow()
        self.windows = {window_s: MetricWindow() for window_s in WINDOWS_S} | {HEALTH_WINDOW_S: self.whole}
        self.apart: dict[Key, HealthWindow] = {}
        self._slices: dict[int, dict[str, int]] = {}
        self._names: dict[str, tuple[str, Cell, str]] = {}

    def rotate(self, newest: int) -> None:
        """Move the windows on to the newest slice, and drop what has left the longest one."""
        if newest == self.newest:
            return
        self.newest = newest
        kept = newest - LOOK_BACK_SLICES
        for window_s, each in self.windows.items():
            self._choose(each, window(newest, window_s // SLICE_S))
        for each in self.apart.values():
            self._choose(each, frozenset(number for number in each.numbers if number > kept))
        self._slices = {number: held for number, held in self._slices.items() if number > kept}
        if len(self.revisions) > MAX_REVISIONS:
            self.revisions = dict(sorted(self.revisions.items())[-MAX_REVISIONS // 2 :])

    def take(self, number: int, revision: int, fields: Mapping[str, int]) -> None:
        """Replace what was known of a slice, at the cost of what differs."""
        self.revisions[number] = revision
        if number <= self.newest - LOOK_BACK_SLICES:
            return
        held = self._slices.setdefault(number, {})
        known = held.get
        moved = {field: count - known(field, 0) for field, count in fields.items() if known(field, 0) != count}
        moved |= {field: -held[field] for field in held.keys() - fields.keys()}
        change = self._by_cell(moved)
        for field in moved:
            held[self._names[field][0]] = fields.get(field, 0)
        for each in (*self.windows.values(), *self.apart.values()):
            if number in each.numbers:
                each.add(change)

    def set_apart(self, incidents: Mapping[Key, Incident]) -> None:
        """Give each gateway and method with an incident in the health window one of its own, which leaves it out."""
        usual = frozenset(window(self.newest))
        apart: dict[Key, HealthWindow] = {}
        for key, incident in incidents.items():
            numbers = window_outside(self.newest, incident)
            if numbers != usual:
                apart[key] = self.apart.get(key) or self.whole.part(key)
                self._choose(apart[key], numbers)
        self.apart = apart

    def _choose(self, which: MetricWindow, numbers: Collection[int]) -> None:
        """Move a window to other slices: subtract those that leave, add those that enter."""
        if numbers == which.numbers:
            return
        for number, held in self._slices.items():
            if (number in numbers) != (number in which.numbers):
                sign = 1 if number in numbers else -1
                which.add(self._by_cell({name: sign * n for name, n in held.items() if name.startswith(which.prefix)}))
        which.numbers = numbers

    def _by_cell(self, fields: Mapping[str, int]) -> Change:
        """Sort counts under their cells, and remember every field's name."""
        change: defaultdict[Cell, dict[str, int]] = defaultdict(dict)
        names = self._names
        if len(names) > MAX_NAMES:
            names.clear()
        for field, count in fields.items():
            name = names.get(field)
            if name is None:
                name = names[field] = (field, *parse_field(field))
            change[name[1]][name[2]] = count
        return change


class MetricWindows:
    """The metrics as this process last read them. One task refreshes; reads are answered from memory."""

    as_of: datetime | None = None
    """When the metrics were last read; None: not yet."""

    def __init__(self, hot: HotState, clock: Clock) -> None:
        self._hot = hot
        self._clock = clock
        self._copy = Copy(generation=-1)
        self._reached = True
        self._set_apart_for: tuple[Copy, int, dict[Key, Incident]] | None = None
        self._computed_for: tuple[Copy, frozenset[Key]] | None = None
        self._health: dict[Cell, Health] = {}

    async def refresh(self) -> None:
        """Read what changed. Where the hot state cannot be reached the metrics stay, and `as_of` with them."""
        began, copy = self._clock.now(), self._copy
        try:
            slices = await self._hot.changed_slices(copy.generation, copy.revisions)
        except HotUnavailable as fault:
            if self._reached:
                log.warning("health and figures cannot be refreshed: %s", fault)
            self._reached = False
            return
        self._reached = True
        if slices.generation != copy.generation:
            # Everything was rebuilt. Until all of it is read, the old copy is better than a part.
            copy = Copy(slices.generation)
        copy.rotate(int(slices.now // SLICE_S))
        for number, (revision, fields) in slices.counts.items():
            copy.take(number, revision, fields)
            # A new slice of 5 000 calls takes a few milliseconds, and an hour has 360: other tasks run in between.
            await asyncio.sleep(0)
        self._copy, self.as_of = copy, began

    def health(self, incidents: Mapping[Key, Incident]) -> Mapping[Cell, Health]:
        """Compute every cell's health over the last five minutes, a breaker's incident left out; see `health.healths`.

        The same value as before when nothing changed, else a new one.
        """
        copy = self._copy
        set_apart_for = (copy, copy.newest, dict(incidents))
        if set_apart_for != self._set_apart_for:
            copy.set_apart(incidents)
            self._set_apart_for = set_apart_for
        parts = [copy.whole, *copy.apart.values()]
        computed_for = (copy, frozenset(copy.apart))
        if computed_for != self._computed_for or any(each.moved for each in parts):
            self._health = self._compute(copy)
            self._computed_for = computed_for
            for each in parts:
                each.moved = False
        return self._health

    @staticmethod
    def _compute(copy: Copy) -> dict[Cell, Health]:
        whole, apart = copy.whole, copy.apart
        of_key = {key: apart.get(key, whole) for key in {*whole.methods.of, *apart}}
        methods = {key: each.methods for key, each in of_key.items() if key in each.methods.of}
        cells = {cell: whole.cells for cell in whole.cells.of if cell[:2] not in apart}
        for each in apart.values():
            cells |= dict.fromkeys(each.cells.of, each.cells)
        gateways: dict[str, Counts] = {}
        for key, sums in methods.items():
            gateways[key[0]] = gateways.get(key[0], NOTHING).merge(Counts(sums.of[key]))
        return healths(
            {gateway_id: evidence_of(counts) for gateway_id, counts in gateways.items()},
            {key: sums.evidence(key) for key, sums in methods.items()},
            {cell: cells[cell].evidence(cell) for cell in _most_called(cells)},
        )

    def cells(
        self, window_s: int, gateway_id: str, method: str | None = None, bank: str | None = None
    ) -> dict[Cell, Counts]:
        """Return the counts of one of WINDOWS_S at a gateway, of one method or all, of one bank or all."""
        return {
            cell: Counts(dict(of))
            for cell, of in self._copy.windows[window_s].cells.of.items()
            if cell[0] == gateway_id and method in {None, cell[1]} and bank in {None, cell[2]}
        }

    def figures(self, window_s: int, gateway_id: str, method: str | None = None, bank: str | None = None) -> Figures:
        """Return the figures of such cells together."""
        return figures_of(reduce(Counts.merge, self.cells(window_s, gateway_id, method, bank).values(), NOTHING))

    def traffic(self, method: str, window_s: int = HEALTH_WINDOW_S) -> Mapping[tuple[str, str], int]:
        """Return how many attempts of a method each gateway had, by issuing bank, in one of WINDOWS_S."""
        cells = self._copy.windows[window_s].cells.of
        return {(cell[0], cell[2]): Counts(of).attempts for cell, of in cells.items() if cell[1] == method}


def _most_called(cells: Mapping[Cell, Sums[Cell]]) -> Collection[Cell]:
    if len(cells) <= MAX_BANKS:
        return cells
    banks: defaultdict[Key, list[Cell]] = defaultdict(list)
    for cell in cells:
        banks[cell[:2]].append(cell)
    most = (
        nlargest(MAX_BANKS, each, key=lambda cell: cells[cell].evidence(cell).attributed) for each in banks.values()
    )
    return [cell for each in most for cell in each]
