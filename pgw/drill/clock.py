"""Real time -> a clock that can be moved on: what is asked again an hour later is seen at once."""

from datetime import datetime, timedelta

from pgw.core.flow.runtime.clock import SystemClock


class MovableClock(SystemClock):
    """Real time, and ahead of it by what was skipped; sleeps are real."""

    def __init__(self) -> None:
        self.skipped_s = 0.0

    def now(self) -> datetime:
        """Return the time in UTC, ahead by what was skipped."""
        return super().now() + timedelta(seconds=self.skipped_s)

    def elapsed(self) -> float:
        """Return seconds since the machine started, and those skipped."""
        return super().elapsed() + self.skipped_s

    def skip(self, seconds: float) -> None:
        """Move on."""
        self.skipped_s += seconds
