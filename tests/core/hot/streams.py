"""A Redis address -> a stream that has begun, entries for it, and what its readers see."""

import asyncio
from collections.abc import AsyncIterator, Callable, Iterable, Mapping
from contextlib import asynccontextmanager

from pgw.core.hot.on_redis import OnRedis, connect
from pgw.core.hot.stream import Stream, StreamEntry
from tests.doubles import LEDGER_ID
from tests.services import ask_redis

KEY = "payments:events:v1"
GROUP = "metrics-agg-v1"
SLICE = 176_000_000


@asynccontextmanager
async def opened(url: str, group: str = GROUP) -> AsyncIterator[Stream]:
    """Open a stream as it is found."""
    server = connect(url)
    try:
        yield Stream(server, KEY, group)
    finally:
        await server.close()


@asynccontextmanager
async def begun(url: str, entries: int = 0, base: int = 0) -> AsyncIterator[Stream]:
    """Open a stream that starts after `base` and holds this many entries."""
    async with opened(url) as stream:
        await stream.reset(LEDGER_ID, base, {})
        assert await stream.append(base, entries_from(base + 1, entries)) == base + entries
        yield stream


@asynccontextmanager
async def beside(url: str, group: str, start: int = 0) -> AsyncIterator[Stream]:
    """Read the same stream in a foreign group, made at `start`."""
    ask_redis(url, "XGROUP", "CREATE", KEY, group, str(start))
    async with opened(url, group) as stream:
        yield stream


def entries_from(first: int, count: int) -> list[tuple[int, bytes]]:
    """Write events that say which they are."""
    return [(number, event(number)) for number in range(first, first + count)]


def event(number: int) -> bytes:
    """Write the event of this number."""
    return b'{"n":%d}' % number


def numbers(entries: Iterable[StreamEntry]) -> list[int]:
    """Return the delivered numbers."""
    return [each.number for each in entries]


def once(entries: Iterable[int]) -> dict[int, dict[str, int]]:
    """Count each of these entries once, each in a field of its own."""
    return {SLICE: {str(number): 1 for number in entries}}


async def counted(url: str) -> Mapping[int, Mapping[str, int]]:
    """Read all metrics there are, without revisions."""
    hot = OnRedis(connect(url))
    try:
        slices = await hot.changed_slices(0, {})
    finally:
        await hot.close()
    return {number: counts for number, (_, counts) in slices.counts.items()}


def stored(url: str) -> int:
    """Ask Redis how many entries the stream holds."""
    length = ask_redis(url, "XLEN", KEY)
    assert length is not None
    return int(length)


def pending(url: str, group: str = GROUP) -> int:
    """Ask Redis how many entries were delivered to a group and not acknowledged."""
    script = "return redis.call('XPENDING', KEYS[1], ARGV[1])[1]"
    found = ask_redis(url, "EVAL", script, "1", KEY, group)
    assert found is not None
    return int(found)


async def until(look: Callable[[], object]) -> None:
    """Wait until this comes true."""
    async with asyncio.timeout(50):
        seen = look()
        while not seen:
            await asyncio.sleep(0.01)
            seen = look()


def blocked(url: str) -> int:
    """Ask Redis how many clients wait for an entry."""
    facts = ask_redis(url, "INFO", "clients") or ""
    return int(facts.partition("blocked_clients:")[2].split()[0])
