"""A hot state -> SharedStore: its breakers, its clock's offset from this process's, and whether it is reachable."""

from collections.abc import Callable, Mapping

from pgw.core.breakers.breaker import Key
from pgw.core.ports import Clock, HotState, StoredBreaker

OFFSET_SLACK_S = 0.05
"""Change of the measured offset that is taken for round-trip noise, not for a change of the store's clock."""


class SharedStore:
    """The shared store of breakers. `reconnected` is called when it answers again after `is_lost` was set.

    `offset_s`: seconds by which the store's clock is ahead of `elapsed`; until the first read the local clock's.
    """

    def __init__(self, hot: HotState, clock: Clock, reconnected: Callable[[], None]) -> None:
        self._hot = hot
        self._clock = clock
        self._reconnected = reconnected
        self.is_lost = False
        self.offset_s = clock.now().timestamp() - clock.elapsed()

    def now(self) -> float:
        """Return the store's time in epoch seconds, by the last measured offset."""
        return self._clock.elapsed() + self.offset_s

    async def read(self, keys: tuple[Key, ...]) -> Mapping[Key, StoredBreaker]:
        """Read breakers, and the clock with them; raises HotUnavailable."""
        began = self._clock.elapsed()
        store_now, stored = await self._hot.read_breakers(keys)
        offset_s = store_now - (began + self._clock.elapsed()) / 2
        if abs(offset_s - self.offset_s) > OFFSET_SLACK_S:
            self.offset_s = offset_s
        if self.is_lost:
            self.is_lost = False
            self._reconnected()
        return stored
