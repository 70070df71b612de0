"""A step -> the same step until stopped: the only `while` that waits, with its pause and its last good time."""

import asyncio
import logging
from collections.abc import Awaitable, Callable

from pgw.core.errors import PgwError
from pgw.core.ports import Clock, HotUnavailable

log = logging.getLogger(__name__)

AFTER_FAULT_S = 0.1
"""Least pause after a failed step: a step that blocks for work hardly pauses, and would storm a store that is down."""


class Loop:
    """Runs `step` every `every_s` seconds until stopped; a step that fails is logged and tried again on time."""

    def __init__(self, name: str, every_s: float, step: Callable[[], Awaitable[object]], clock: Clock) -> None:
        self.name = name
        self.every_s = every_s
        self._step = step
        self._clock = clock
        self._last_good = clock.elapsed()
        self._logged: str | None = None
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Begin, in a task of the running event loop."""
        self._task = asyncio.get_running_loop().create_task(self._run(), name=f"pgw-{self.name}")

    async def stop(self) -> None:
        """End, also in the middle of a pause or a step: every step leaves what it did not finish to the next one."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait({self._task})

    def idle_s(self) -> float:
        """Return the seconds since a step last ended well."""
        return self._clock.elapsed() - self._last_good

    def _log_once(self, fault: str) -> None:
        """Log an outage once: a loop of ten steps a second would log little else."""
        if fault != self._logged:
            log.warning("%s: %s", self.name, fault)
        self._logged = fault

    async def _run(self) -> None:
        while True:
            pause_s = max(self.every_s, AFTER_FAULT_S)
            try:
                await self._step()
                pause_s = self.every_s
                self._last_good, self._logged = self._clock.elapsed(), None
            except (PgwError, HotUnavailable) as fault:
                self._log_once(str(fault))
            except Exception:
                log.exception("%s: a step failed", self.name)
            await self._clock.sleep(pause_s)
