"""Hot state -> the snapshot; this process -> its heartbeat: what keeps decisions current, and says who else decides."""

import logging
from collections.abc import Callable
from datetime import UTC, datetime

from pgw.core.flow.breakers.circuit import Breakers
from pgw.core.flow.metrics.windows import MetricWindows
from pgw.core.flow.runtime.snapshot import Snapshots
from pgw.core.ports import Clock, Heartbeat, HotState

log = logging.getLogger(__name__)

NEVER = datetime.min.replace(tzinfo=UTC)
"""When a process that has not yet reached the hot state last saw it: all it decides is degraded, from the first on."""

REFRESH_EVERY_S = 0.25
BREAKERS_EVERY_S = 0.1
PUBLISH_EVERY_S = 0.5

SERVES, COUNTS, ASKS = "serve", "metrics", "command"
"""Roles of processes: those that take payments, those that count outcomes, and one that lives for one command."""


class Refresher:
    """Looks at the hot state again and again. Nothing it cannot reach stops it: what is known stays, and grows old."""

    def __init__(
        self,
        process: str,
        role: str,
        hot: HotState,
        mirror: MetricWindows,
        circuit: Breakers,
        snapshots: Snapshots,
        clock: Clock,
    ) -> None:
        self._process = process
        self._role = role
        self._hot = hot
        self._windows = mirror
        self._circuit = circuit
        self._snapshots = snapshots
        self._clock = clock
        self._counted_at = clock.now()
        self._fleet: tuple[Heartbeat, ...] = ()
        self._is_counting = self._is_counted

    @property
    def fleet(self) -> tuple[Heartbeat, ...]:
        """Every live process that takes payments, as of the last look; this one too, if it does."""
        others = [each for each in self._fleet if each.role == SERVES and each.process != self._process]
        return (*others, self._heartbeat()) if self._role == SERVES else tuple(others)

    @property
    def processes(self) -> tuple[Heartbeat, ...]:
        """Every live process of any role, as of the last look."""
        return self._fleet

    def count_alone(self, is_counting: Callable[[], bool]) -> None:
        """Take this process's own word for it that outcomes are counted: no other counts for it."""
        self._is_counting = is_counting

    async def beat(self) -> None:
        """Say that this process lives, then look at all that is shared."""
        try:
            self._fleet = await self._hot.beat(self._heartbeat())
        finally:
            await self.look()

    async def look(self) -> None:
        """Take in health and breakers, without saying anything of this process."""
        await self._windows.refresh()
        views = self._circuit.views()
        incidents = {
            key: (view.incident[0].timestamp(), view.incident[1].timestamp() if view.incident[1] else None)
            for key, view in views.items()
            if view.incident is not None
        }
        self._snapshots.see(views, self._windows.health(incidents), self._as_of())

    async def catch_up(self) -> None:
        """Take in all that is there before the first decision; what cannot be reached is seen later."""
        await self.step_breakers()
        await self.look()

    async def step_breakers(self) -> None:
        """Report what calls said of their gateways, and read what all processes together made of it."""
        snapshot = self._snapshots.current
        keys = [(each.gateway_id, str(method)) for each in snapshot.gateways for method in each.supported_methods]
        live = frozenset(each.process for each in self.fleet)
        await self._circuit.step(keys, snapshot.overrides, live)
        self._snapshots.see_breakers(self._circuit.views())

    def _heartbeat(self) -> Heartbeat:
        return Heartbeat(
            process=self._process,
            role=self._role,
            config_version=self._snapshots.current.config_version,
            in_flight=sum(self._circuit.in_flight().values()),
        )

    def _as_of(self) -> datetime:
        """Tell how current health is: what nobody counts grows old, however often it is looked at."""
        if self._is_counting():
            self._counted_at = self._clock.now()
        return min(self._windows.as_of or NEVER, self._counted_at)

    def _is_counted(self) -> bool:
        return any(each.role == COUNTS for each in self._fleet)
