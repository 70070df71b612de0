"""A process knows the store's time as well as a round trip allows, and does not take the trip's length for time."""

import asyncio
from collections.abc import Mapping, Sequence
from datetime import timedelta

import pytest

from pgw.core.breakers.breaker import Key
from pgw.core.flow.breakers.shared_store import OFFSET_SLACK_S, SharedStore
from pgw.core.ports import StoredBreaker
from tests.core.flow.fleet import KEY, Store
from tests.doubles import NOON, VirtualClock


class FarStore(Store):
    """Answers after a while, with the time at which it was half-way."""

    def __init__(self, clock: VirtualClock, ours: VirtualClock) -> None:
        super().__init__(clock)
        self._both = (clock, ours)
        self.one_way_s = 0.0

    async def read_breakers(self, keys: Sequence[Key]) -> tuple[float, Mapping[Key, StoredBreaker]]:
        self._travels()
        answer = await super().read_breakers(keys)
        self._travels()
        return answer

    def _travels(self) -> None:
        for clock in self._both:
            clock.advance(self.one_way_s)


def test_the_stores_clock_is_read_at_the_middle_of_the_trip() -> None:
    async def scenario() -> None:
        theirs, ours = VirtualClock(NOON), VirtualClock(NOON + timedelta(hours=1))
        store = FarStore(theirs, ours)
        shared = SharedStore(store, ours, lambda: None)
        assert shared.now() == ours.now().timestamp()
        store.one_way_s = 0.4
        await shared.read((KEY,))
        assert shared.now() == pytest.approx(theirs.now().timestamp(), abs=1e-3)

    asyncio.run(scenario())


def test_a_small_difference_is_the_trips_not_the_clocks() -> None:
    """So that displayed times do not flicker."""

    async def scenario() -> None:
        theirs, ours = VirtualClock(), VirtualClock()
        shared = SharedStore(FarStore(theirs, ours), ours, lambda: None)
        offset_s = shared.offset_s
        theirs.advance(OFFSET_SLACK_S * 0.9)
        await shared.read((KEY,))
        assert shared.offset_s == offset_s
        theirs.advance(OFFSET_SLACK_S * 0.2)
        await shared.read((KEY,))
        assert shared.offset_s == pytest.approx(offset_s + OFFSET_SLACK_S * 1.1, abs=1e-3)

    asyncio.run(scenario())


def test_who_lost_sight_is_told_once_when_it_is_back() -> None:
    async def scenario() -> None:
        clock = VirtualClock()
        calls: list[int] = []
        shared = SharedStore(Store(clock), clock, lambda: calls.append(1))
        await shared.read((KEY,))
        assert calls == []
        shared.is_lost = True
        for _ in range(2):
            await shared.read((KEY,))
        assert (calls, shared.is_lost) == ([1], False)

    asyncio.run(scenario())
