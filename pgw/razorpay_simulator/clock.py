"""The time, as the sandbox asks for it."""

from collections.abc import Awaitable
from datetime import datetime
from typing import Protocol


class SimulatorClock(Protocol):
    """The time, which a test moves by hand."""

    def now(self) -> datetime:
        """Return the time in UTC."""

    def sleep(self, seconds: float) -> Awaitable[None]:
        """Wait."""
