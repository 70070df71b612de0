"""A store of breakers -> Sight: its values, its clock beside this process's own, and whether it can be reached."""

from collections.abc import Callable, Mapping

from pgw.core.breakers.breaker import Breaker, Key
from pgw.core.ports import Clock, HotState, StoredBreaker

OFFSET_SLACK_S = 0.05
"""By how much the store's clock may seem to wander before it is believed: a round trip, not time, makes it wander."""


class SharedStore:
    """The store as one process sees it. `back` is called when it answers again after `is_lost` was set.

    `lead`: seconds by which the store's clock is ahead of `elapsed`; until it was read its clock is taken to be ours.
    """

    def __init__(self, hot: HotState, clock: Clock, back: Callable[[], None]) -> None:
        self._hot = hot
        self._clock = clock
        self._back = back
        self.is_lost = False
        self.lead = clock.now().timestamp() - clock.elapsed()

    def now(self) -> float:
        """Return the store's time, as far as it is known here."""
        return self._clock.elapsed() + self.lead

    async def read(self, keys: tuple[Key, ...]) -> Mapping[Key, StoredBreaker]:
        """Read breakers, and the clock with them; raises HotUnavailable."""
        began = self._clock.elapsed()
        store_now, found = await self._hot.read_breakers(keys)
        lead = store_now - (began + self._clock.elapsed()) / 2
        if abs(lead - self.lead) > OFFSET_SLACK_S:
            self.lead = lead
        if self.is_lost:
            self.is_lost = False
            self._back()
        return found

    async def swap(self, key: Key, held: StoredBreaker, value: Breaker) -> bool:
        """Change a breaker nobody else changed meanwhile; raises HotUnavailable."""
        return await self._hot.swap_breaker(key, held, value)
