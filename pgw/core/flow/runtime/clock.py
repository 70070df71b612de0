"""The machine's time -> the Clock port."""

import asyncio
import time
from datetime import UTC, datetime

# CLOCK_BOOTTIME runs on while the machine is suspended; where there is none (macOS) the monotonic clock does so itself.
_ELAPSED = getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC)


class SystemClock:
    """Real time."""

    def now(self) -> datetime:
        """Return the time in UTC."""
        return datetime.now(UTC)

    def elapsed(self) -> float:
        """Return seconds since the machine started, suspended time included."""
        return time.clock_gettime(_ELAPSED)

    async def sleep(self, seconds: float) -> None:
        """Wait."""
        await asyncio.sleep(seconds)
