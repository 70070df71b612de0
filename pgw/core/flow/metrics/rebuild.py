"""The ledger -> a hot state that was lost, or is doubted: the last hour recounted, breakers as last written.

Events are folded by the code that counts them every day (`metrics.fold`).
"""

import asyncio
from collections.abc import Awaitable, Callable

from msgspec import Struct

from pgw.core.errors import Code, PgwError
from pgw.core.flow.metrics.consume import COUNTED_AT_ONCE, Counter, add, horizon, since
from pgw.core.hot.stream import Stream
from pgw.core.ledger.breaker_history import last_shared
from pgw.core.ledger.engine.writer import LedgerUnavailable
from pgw.core.ledger.outbox import first_since, last_published, rows_after
from pgw.core.metrics.counters import Increments, parse_field
from pgw.core.ports import Clock, HotState, Ledger

READ_AT_ONCE = 4 * COUNTED_AT_ONCE

MAX_DIFFERENCES = 1000
"""Differences that are listed; further ones are only counted."""


class Difference(Struct, frozen=True, kw_only=True):
    """One counter in which hot state and ledger differ; `slice` is a number of ten seconds since the epoch."""

    slice: int
    gateway_id: str
    payment_method: str
    issuing_bank: str
    counter: str
    held: int
    counted: int


class Rebuilt(Struct, frozen=True, kw_only=True):
    """The result of a rebuild: `events` counted, up to `base`, the last one published; `breakers` restored.

    `was_lost`: there was nothing to compare with. `under_way`: upper bound of the events that were published and not
    yet counted, which are among the differences. `differing` counters in all, the first of them listed.
    """

    generation: int
    events: int
    base: int
    was_lost: bool
    under_way: int
    differing: int
    differences: tuple[Difference, ...]
    breakers: int
    seconds: float


class _Held(Struct, frozen=True):
    """What the hot state held; `top` was the last event on the stream, `behind` events were not counted yet."""

    slices: Increments
    top: int
    behind: int


async def _always() -> bool:
    return True


async def rebuild(
    ledger: Ledger,
    ledger_id: str,
    hot: HotState,
    stream: Stream,
    clock: Clock,
    *,
    anew: bool = False,
    keep: Callable[[], Awaitable[bool]] = _always,
) -> Rebuilt:
    """Recount the last hour, replace the hot state's counts by it, and list the differences.

    Relay and consumers may run meanwhile: counts and the group's position change in one step, so each event either is
    in the new counts or is delivered again. `anew`: the stream is emptied too, whatever it holds. `keep` is awaited
    before each page; False ends the rebuild.

    Raises:
        PgwError: CONFLICT when the stream is ahead of the ledger and `anew` is not given; LEDGER_UNAVAILABLE.
        HotUnavailable: nothing was switched, or that is unknown.
    """
    began = clock.elapsed()
    # Read before the last published number, so that what it holds is not above that.
    held = await _held(hot, stream, ledger_id)
    base = await ledger.read(last_published)
    if held is not None and held.top > base and not anew:
        raise PgwError(
            Code.CONFLICT,
            f"the stream is at event {held.top}, the ledger at {base}: the ledger was restored from a backup, or "
            f"REDIS_URL is another ledger's; 'pgw rebuild --stream' begins the stream anew",
        )
    first, counted, events = await _recounted(ledger, clock, base, keep)
    switched = await stream.reset(ledger_id, base, counted, keep_newer=not anew)
    differences = [] if held is None else _differences(since(held.slices, first), counted)
    return Rebuilt(
        generation=switched.generation,
        events=events,
        base=base,
        was_lost=held is None,
        under_way=0 if held is None else max(base - held.top, 0) + held.behind,
        differing=len(differences),
        differences=tuple(differences[:MAX_DIFFERENCES]),
        breakers=await restore_breakers(ledger, hot),
        seconds=round(clock.elapsed() - began, 3),
    )


async def _held(hot: HotState, stream: Stream, ledger_id: str) -> _Held | None:
    """Read the counts; None when they were lost, or are another ledger's."""
    state = await stream.state()
    if state is None or state.ledger_id != ledger_id:
        return None
    lag = await stream.lag()
    slices = await hot.changed_slices(-1, {})
    counts = {number: fields for number, (_, fields) in slices.counts.items()}
    return _Held(counts, state.top, lag.waiting + lag.pending)


async def _recounted(
    ledger: Ledger, clock: Clock, base: int, keep: Callable[[], Awaitable[bool]]
) -> tuple[int, Increments, int]:
    """Count the ledger's last hour: return the first slice, the sums, and how many events they hold."""
    first, read_from = horizon(clock.now())
    counter = Counter()
    sums: dict[int, dict[str, int]] = {}
    events = 0
    last = await ledger.read(first_since, read_from) - 1
    while last < base:
        if not await keep():
            raise LedgerUnavailable("another process is the leader now", written=False)
        rows = await ledger.read(rows_after, last, min(READ_AT_ONCE, base - last))
        for start in range(0, len(rows), COUNTED_AT_ONCE):
            batch = counter.count(rows[start : start + COUNTED_AT_ONCE])
            add(sums, since(batch.increments, first))
            events += len(batch.numbers)
            await asyncio.sleep(0)
        last = rows[-1].published
    return first, sums, events


def _differences(held: Increments, counted: Increments) -> list[Difference]:
    differences = []
    for number in sorted(held.keys() | counted.keys()):
        before, after = held.get(number, {}), counted.get(number, {})
        for field in sorted(before.keys() | after.keys()):
            if before.get(field, 0) != after.get(field, 0):
                (gateway_id, payment_method, issuing_bank), counter = parse_field(field)
                differences.append(
                    Difference(
                        slice=number,
                        gateway_id=gateway_id,
                        payment_method=payment_method,
                        issuing_bank=issuing_bank,
                        counter=counter,
                        held=before.get(field, 0),
                        counted=after.get(field, 0),
                    )
                )
    return differences


async def restore_breakers(ledger: Ledger, hot: HotState) -> int:
    """Restore the shared breakers that the hot state has lost, as last written; return how many."""
    known = await ledger.read(last_shared)
    _, present = await hot.read_breakers(tuple(known))
    lost = {key: breaker for key, breaker in known.items() if present[key].raw is None}
    # A swap lost meanwhile left a newer state than the ledger's.
    return sum([await hot.swap_breaker(key, present[key], breaker) for key, breaker in lost.items()])
