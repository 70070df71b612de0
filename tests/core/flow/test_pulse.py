"""What a process shares with others is as current as it was read and counted; before it was read, it is not known."""

import asyncio
from collections.abc import Mapping, Sequence
from random import Random
from typing import Any

from msgspec.structs import replace

from pgw.core.breakers.breaker import Breaker, Key, Rules
from pgw.core.flow.breakers.circuit import Breakers
from pgw.core.flow.metrics.windows import MetricWindows
from pgw.core.flow.runtime.refresh import COUNTS, SERVES, Refresher
from pgw.core.flow.runtime.snapshot import Snapshots
from pgw.core.hot.in_process import InProcessHotState
from pgw.core.ports import Heartbeat, HotUnavailable, Slices, StoredBreaker
from pgw.core.routing.plan import HOT_LIMIT, is_degraded
from tests.doubles import VirtualClock

LIMIT_S = HOT_LIMIT.total_seconds()
OTHER = Heartbeat(process="worker", role=COUNTS, config_version=0)


class Distant:
    """A hot state that may be out of reach."""

    def __init__(self, clock: VirtualClock) -> None:
        self._inner = InProcessHotState(clock)
        self.is_down = False

    def _reached(self) -> InProcessHotState:
        if self.is_down:
            raise HotUnavailable("out of reach")
        return self._inner

    async def read_breakers(self, keys: Sequence[Key]) -> tuple[float, Mapping[Key, StoredBreaker]]:
        return await self._reached().read_breakers(keys)

    async def swap_breaker(self, key: Key, held: StoredBreaker, value: Breaker) -> bool:
        return await self._reached().swap_breaker(key, held, value)

    async def changed_slices(self, generation: int, seen: Mapping[int, int]) -> Slices:
        return await self._reached().changed_slices(generation, seen)

    async def beat(self, heartbeat: Heartbeat) -> tuple[Heartbeat, ...]:
        return await self._reached().beat(heartbeat)

    async def close(self) -> None:
        """Hold nothing."""


class Process:
    """One process that takes payments beside others."""

    def __init__(self) -> None:
        self.clock = VirtualClock()
        self.hot = Distant(self.clock)
        ledger: Any = None
        snapshots = Snapshots(ledger, self.clock, lambda _: None)
        circuit = Breakers("me", self.clock, Random(1), self.hot, Rules, lambda: None, shared=True)
        self.snapshots = snapshots
        self.refresher = Refresher(
            "me", SERVES, self.hot, MetricWindows(self.hot, self.clock), circuit, snapshots, self.clock
        )

    async def beat(self) -> bool:
        """Beat once, as the loop does, and return whether a decision right after is degraded."""
        try:
            await self.refresher.beat()
        except HotUnavailable:
            assert self.hot.is_down
        return self.is_degraded()

    def is_degraded(self) -> bool:
        """Whether a decision now is degraded, with its configuration just read."""
        now = self.clock.now()
        return is_degraded(replace(self.snapshots.current, as_of=now), now)


def test_a_process_that_never_reached_the_hot_state_is_degraded_from_its_first_decision_on() -> None:
    async def scenario() -> None:
        process = Process()
        process.hot.is_down = True
        await process.refresher.refresh()
        assert process.is_degraded()
        assert await process.beat()
        process.hot.is_down = False
        await process.hot.beat(OTHER)
        assert not await process.beat()

    asyncio.run(scenario())


def test_what_is_out_of_reach_grows_old_and_is_current_again_when_it_is_back() -> None:
    async def scenario() -> None:
        process = Process()
        await process.hot.beat(OTHER)
        assert not await process.beat()
        process.hot.is_down = True
        process.clock.advance(LIMIT_S)
        assert not await process.beat()
        process.clock.advance(0.1)
        assert await process.beat()
        process.hot.is_down = False
        assert not await process.beat()

    asyncio.run(scenario())


def test_what_nobody_counts_grows_old_however_often_it_is_read() -> None:
    """A worker's heartbeat says that it counts; five seconds without one say that no process does."""

    async def scenario() -> None:
        process = Process()
        await process.hot.beat(OTHER)
        assert not await process.beat()
        process.clock.advance(10)
        assert await process.beat()
        await process.hot.beat(OTHER)
        assert not await process.beat()

    asyncio.run(scenario())


def test_a_process_that_counts_for_itself_goes_by_its_own_word() -> None:
    async def scenario() -> None:
        process = Process()
        is_counting = True
        process.refresher.count_alone(lambda: is_counting)
        process.clock.advance(10)
        assert not await process.beat()
        is_counting = False
        process.clock.advance(LIMIT_S + 0.1)
        assert await process.beat()

    asyncio.run(scenario())
