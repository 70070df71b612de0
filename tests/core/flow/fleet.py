"""A few numbers -> processes that share one store of breakers, which a test may stop, empty or contend for."""

import asyncio
from collections.abc import Mapping, Sequence
from datetime import timedelta
from random import Random

from pgw.core.breakers.admission import ADMITTED, Admission, admission_of
from pgw.core.breakers.breaker import Breaker, CallOutcome, Key, Permit, Rules, View
from pgw.core.breakers.override import Override
from pgw.core.flow.breakers.circuit import Breakers
from pgw.core.hot.in_process import InProcessHotState
from pgw.core.ports import Heartbeat, HotUnavailable, Slices, StoredBreaker
from tests.doubles import NOON, VirtualClock

KEY: Key = ("g1", "UPI")
LEASE_S = 4.5


class Store:
    """A hot state on another machine: other processes run during each call."""

    def __init__(self, clock: VirtualClock) -> None:
        self._clock = clock
        self._inner = InProcessHotState(clock)
        self.is_down = False
        self.is_contended = False
        self.reads = 0
        self.swaps = 0

    def flush(self) -> None:
        """Lose everything."""
        self._inner = InProcessHotState(self._clock)

    async def read_breakers(self, keys: Sequence[Key]) -> tuple[float, Mapping[Key, StoredBreaker]]:
        await self._travel()
        self.reads += 1
        return await self._inner.read_breakers(keys)

    async def swap_breaker(self, key: Key, held: StoredBreaker, value: Breaker) -> bool:
        await self._travel()
        self.swaps += 1
        return not self.is_contended and await self._inner.swap_breaker(key, held, value)

    async def changed_slices(self, generation: int, seen: Mapping[int, int]) -> Slices:
        return await self._inner.changed_slices(generation, seen)

    async def beat(self, heartbeat: Heartbeat) -> tuple[Heartbeat, ...]:
        return await self._inner.beat(heartbeat)

    async def close(self) -> None:
        """Hold nothing."""

    async def _travel(self) -> None:
        await asyncio.sleep(0)
        if self.is_down:
            raise HotUnavailable("the store is down")

    async def value(self, key: Key = KEY) -> Breaker:
        """Return what is stored."""
        return (await self._inner.read_breakers((key,)))[1][key].value


class Process:
    """One process with its breakers, on a clock of its own; it calls gateways as the flow does."""

    def __init__(self, name: str, store: Store, clock: VirtualClock, *, shared: bool, seed: int) -> None:
        self.name = name
        self.clock = clock
        self.changes = 0
        self.overrides: dict[Key, Override] = {}
        self.rules = Rules()
        self.breakers = Breakers(name, clock, Random(seed), store, lambda: self.rules, self._changed, shared)

    def _changed(self) -> None:
        self.changes += 1

    @property
    def view(self) -> View:
        """The one breaker of these tests."""
        return self.breakers.views()[KEY]

    def standing(self) -> Admission:
        """Judge it as a decision would now."""
        view = self.breakers.views().get(KEY)
        return admission_of(view, self.overrides.get(KEY), self.clock.now(), self.rules)

    async def admit(self) -> Permit | None:
        return await self.breakers.admit(KEY, self.standing(), LEASE_S)

    async def call(self, *signs: CallOutcome, latency_ms: int = 20) -> None:
        """Make one call after the other, each of which is admitted, with these outcomes."""
        for sign in signs:
            admission = await self.breakers.admit(KEY, ADMITTED, LEASE_S)
            assert admission is not None
            self.breakers.record(admission, sign, latency_ms)

    async def probe(self, *signs: CallOutcome) -> None:
        """Send one probe after the other, each of which is admitted."""
        for sign in signs:
            admission = await self.admit()
            assert admission is not None
            assert admission.lease_id is not None
            self.breakers.record(admission, sign, 20)


class Fleet:
    """Processes whose wall clocks disagree by an hour, beside a store with a clock of its own."""

    def __init__(self, processes: int = 1, *, shared: bool = True) -> None:
        self._clock = VirtualClock()
        self.store = Store(self._clock)
        self.processes: list[Process] = []
        self.shared = shared
        for _ in range(processes):
            self.join()

    def join(self) -> Process:
        """Start one more process."""
        number = len(self.processes)
        clock = VirtualClock(NOON + timedelta(hours=number))
        process = Process(f"w{number}", self.store, clock, shared=self.shared, seed=number)
        self.processes.append(process)
        return process

    @property
    def live(self) -> frozenset[str]:
        return frozenset(each.name for each in self.processes)

    def advance(self, seconds: float) -> None:
        for clock in (self._clock, *(each.clock for each in self.processes)):
            clock.advance(seconds)

    async def step(self) -> None:
        """Step each process, twice, so that the first reads what the last published."""
        for _ in range(2):
            for each in self.processes:
                await each.breakers.step((KEY,), each.overrides, self.live)

    def override(self, override: Override) -> None:
        """Let every process know what an operator ordered."""
        for each in self.processes:
            each.overrides[KEY] = override
