"""Breakers, increments, heartbeats -> the hot state of one process, without a server."""

from collections.abc import Mapping, Sequence

import msgspec

from pgw.core.breakers.breaker import Breaker, Key
from pgw.core.metrics.counters import SLICE_S, Increments
from pgw.core.ports import Clock, Heartbeat, Slices, StoredBreaker

KEPT_S = 70 * 60
"""How long a slice is kept: the longest window is 60 minutes, and late outcomes still correct its far end."""

LIVE_S = 5
"""Age of a heartbeat from which its process no longer counts as living."""


class InProcessHotState:
    """Lost with the process, rebuilt from the ledger at its start. Times are the clock's `now`, in epoch seconds."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._breakers: dict[Key, StoredBreaker] = {}
        self._fleet: dict[str, Heartbeat] = {}
        self._generation = 1
        self._counts: dict[int, dict[str, int]] = {}
        self._revisions: dict[int, int] = {}

    def apply(self, increments: Increments) -> None:
        """Add to the counts; slices that are no longer kept are dropped."""
        for number, fields in increments.items():
            counts = self._counts.setdefault(number, {})
            for field, amount in fields.items():
                counts[field] = counts.get(field, 0) + amount
            self._revisions[number] = self._revisions.get(number, 0) + 1
        self._drop_old()

    def reset(self) -> None:
        """Drop all counts and begin a new generation; breakers and heartbeats stay."""
        self._generation += 1
        self._counts.clear()
        self._revisions.clear()

    async def read_breakers(self, keys: Sequence[Key]) -> tuple[float, Mapping[Key, StoredBreaker]]:
        """Return the time and each breaker; see HotState."""
        return self._now(), {key: self._breakers.get(key) or StoredBreaker(Breaker(), None) for key in keys}

    async def swap_breaker(self, key: Key, held: StoredBreaker, value: Breaker) -> bool:
        """Store `value` if the breaker is still as it was read."""
        present = self._breakers.get(key)
        if (present.raw if present else None) != held.raw:
            return False
        self._breakers[key] = StoredBreaker(value, msgspec.json.encode(value))
        return True

    async def changed_slices(self, generation: int, seen: Mapping[int, int]) -> Slices:
        """Return copies of the slices that changed; see HotState."""
        self._drop_old()
        known = seen if generation == self._generation else {}
        changed = [(number, revision) for number, revision in self._revisions.items() if known.get(number) != revision]
        counts = {number: (revision, dict(self._counts[number])) for number, revision in changed}
        return Slices(self._generation, self._now(), counts)

    async def beat(self, heartbeat: Heartbeat) -> tuple[Heartbeat, ...]:
        """Store a heartbeat; only a test has others here."""
        now = self._now()
        self._fleet[heartbeat.process] = msgspec.structs.replace(heartbeat, at=now)
        self._fleet = {name: each for name, each in self._fleet.items() if each.at > now - LIVE_S}
        return tuple(self._fleet.values())

    async def close(self) -> None:
        """Do nothing."""

    def _now(self) -> float:
        return self._clock.now().timestamp()

    def _drop_old(self) -> None:
        oldest = int(self._now() - KEPT_S) // SLICE_S
        for number in [each for each in self._counts if each < oldest]:
            del self._counts[number], self._revisions[number]
