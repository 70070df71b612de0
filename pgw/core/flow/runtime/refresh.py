"""Hot state -> the snapshot, this process -> its heartbeat: keeps decisions current, and lists the live processes."""

import logging
from collections.abc import Callable
from datetime import UTC, datetime

from pgw.core.flow.breakers.circuit import Breakers
from pgw.core.flow.metrics.windows import MetricWindows
from pgw.core.flow.runtime.snapshot import Snapshots
from pgw.core.ports import Clock, Heartbeat, HotState

log = logging.getLogger(__name__)

NEVER = datetime.min.replace(tzinfo=UTC)
"""Age of a hot state that was never reached: every decision on it is degraded."""

REFRESH_EVERY_S = 0.25
BREAKERS_EVERY_S = 0.1
PUBLISH_EVERY_S = 0.5

SERVES, COUNTS, ASKS = "serve", "metrics", "command"
"""Roles of processes: they take payments, count outcomes, or run one command."""


class Refresher:
    """Reads the hot state into the snapshot. What cannot be reached stays as it was last read, and ages."""

    def __init__(
        self,
        process: str,
        role: str,
        hot: HotState,
        windows: MetricWindows,
        circuit: Breakers,
        snapshots: Snapshots,
        clock: Clock,
    ) -> None:
        self._process = process
        self._role = role
        self._hot = hot
        self._windows = windows
        self._circuit = circuit
        self._snapshots = snapshots
        self._clock = clock
        self._counted_at = clock.now()
        self._fleet: tuple[Heartbeat, ...] = ()
        self._is_counting = self._is_counted

    @property
    def fleet(self) -> tuple[Heartbeat, ...]:
        """Every live process that takes payments, as of the last heartbeat; this one too, if it does."""
        others = [each for each in self._fleet if each.role == SERVES and each.process != self._process]
        return (*others, self._heartbeat()) if self._role == SERVES else tuple(others)

    @property
    def processes(self) -> tuple[Heartbeat, ...]:
        """Every live process of any role, as of the last heartbeat."""
        return self._fleet

    def count_alone(self, is_counting: Callable[[], bool]) -> None:
        """Ask `is_counting` whether outcomes are counted, where this process counts for itself alone."""
        self._is_counting = is_counting

    async def beat(self) -> None:
        """Write this process's heartbeat, then read health and breakers."""
        try:
            self._fleet = await self._hot.beat(self._heartbeat())
        finally:
            await self.refresh()

    async def refresh(self) -> None:
        """Read health and breakers into the snapshot, without a heartbeat."""
        await self._windows.refresh()
        views = self._circuit.views()
        incidents = {
            key: (view.incident[0].timestamp(), view.incident[1].timestamp() if view.incident[1] else None)
            for key, view in views.items()
            if view.incident is not None
        }
        self._snapshots.update_hot(views, self._windows.health(incidents), self._as_of())

    async def catch_up(self) -> None:
        """Read all there is before the first decision; what cannot be reached is read later."""
        await self.step_breakers()
        await self.refresh()

    async def step_breakers(self) -> None:
        """Exchange breaker state with the other processes."""
        snapshot = self._snapshots.current
        keys = [(each.gateway_id, str(method)) for each in snapshot.gateways for method in each.supported_methods]
        live = frozenset(each.process for each in self.fleet)
        await self._circuit.step(keys, snapshot.overrides, live)
        self._snapshots.update_views(self._circuit.views())

    def _heartbeat(self) -> Heartbeat:
        return Heartbeat(
            process=self._process,
            role=self._role,
            config_version=self._snapshots.current.config_version,
            in_flight=sum(self._circuit.in_flight().values()),
        )

    def _as_of(self) -> datetime:
        """Return how current health is: while no process counts it ages, however often it is read."""
        if self._is_counting():
            self._counted_at = self._clock.now()
        return min(self._windows.as_of or NEVER, self._counted_at)

    def _is_counted(self) -> bool:
        return any(each.role == COUNTS for each in self._fleet)
