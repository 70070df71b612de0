"""`30m` -> seconds, and times -> `27m`: durations as operators type them and as they read them."""

import re
from datetime import UTC, datetime

from pgw.cli.exits import CommandError, Exit

_SPAN = re.compile(r"(\d{1,6})([smh])")
_SECONDS = {"s": 1, "m": 60, "h": 3600}

SHORTEST_TTL_S = 60
LONGEST_TTL_S = 86_400
"""Bounds of an override and of a pause; the server has the same."""

LONGEST = ((90, 1, "s"), (90 * 60, 60, "m"), (36 * 3600, 3600, "h"))
"""Up to how many seconds a duration is written in which unit; beyond them in days."""


def ttl_of(text: str | None) -> int | None:
    """Read `--ttl`; None is for the server to decide."""
    if text is None:
        return None
    found = _SPAN.fullmatch(text)
    seconds = int(found[1]) * _SECONDS[found[2]] if found else 0
    if not SHORTEST_TTL_S <= seconds <= LONGEST_TTL_S:
        raise CommandError(Exit.USAGE, "--ttl must be a time from 60s to 24h, such as 30m or 2h")
    return seconds


def read(timestamp: str) -> datetime:
    """Read a time as the server writes it."""
    return datetime.fromisoformat(timestamp)


def now() -> datetime:
    """Return the time in UTC, by this machine's clock."""
    return datetime.now(UTC)


def span(seconds: float) -> str:
    """Write a duration in one unit: `40s`, `27m`, `2h`, `6d`."""
    for most, size, unit in LONGEST:
        if seconds < most:
            return f"{seconds / size:.0f}{unit}"
    return f"{seconds / 86_400:.0f}d"


def since(timestamp: str | None, at: datetime) -> str:
    """Write how long ago a time was."""
    return "" if timestamp is None else span(max((at - read(timestamp)).total_seconds(), 0.0))


def left(timestamp: str, at: datetime) -> str:
    """Write how far away a time is."""
    return span(max((read(timestamp) - at).total_seconds(), 0.0))


def hour(timestamp: str) -> str:
    """Write a time of these hours, as it is read out in a call."""
    return f"{read(timestamp).astimezone(UTC):%H:%M} UTC"
