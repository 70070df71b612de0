"""The ledger -> a hot state that was lost, or is doubted: the last hour counted again, breakers as they last stood.

The counting is the counting of every day (`metrics.fold`), so what it finds is what should be there.
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
"""Differences that are named; further ones are only counted."""


class Difference(Struct, frozen=True, kw_only=True):
    """One counter that the hot state held otherwise than the ledger has it; `slice` is ten seconds of the epoch."""

    slice: int
    gateway_id: str
    payment_method: str
    issuing_bank: str
    counter: str
    held: int
    counted: int


class Rebuilt(Struct, frozen=True, kw_only=True):
    """What a rebuild did: `events` counted, up to `base`, the last one published; `breakers` put back.

    `was_lost`: there was nothing to compare with. `under_way`: at most so many events had been published and not yet
    counted; they are among the differences. `differing` counters in all, the first of them named.
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
    """What the hot state held; `top` was the last event on the stream, `behind` of which were not counted yet."""

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
    """Count the last hour again, put it in the place of what the hot state holds, and name the differences.

    Relay and consumers may be at work meanwhile: the counts and the group's place change in one step, so each event
    either is in the new counts or is delivered once more. `anew`: the stream begins anew too, whatever it holds. `keep`
    is asked along the way; False ends it.

    Raises:
        PgwError: CONFLICT when the stream is ahead of the ledger and `anew` is not given; LEDGER_UNAVAILABLE.
        HotUnavailable: nothing was switched, or it is not known.
    """
    began = clock.elapsed()
    # Read before the last number: what is counted here was published by then.
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
    """Read what is there; None when it was lost, or is another ledger's."""
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
    """Count what the ledger has of the last hour: the first slice counted, the sums, and how many events they hold."""
    first, moment = horizon(clock.now())
    counter = Counter()
    sums: dict[int, dict[str, int]] = {}
    events = 0
    last = await ledger.read(first_since, moment) - 1
    while last < base:
        if not await keep():
            raise LedgerUnavailable("another process has the lead now", written=False)
        rows = await ledger.read(rows_after, last, min(READ_AT_ONCE, base - last))
        for start in range(0, len(rows), COUNTED_AT_ONCE):
            batch = counter.count(rows[start : start + COUNTED_AT_ONCE])
            add(sums, since(batch.increments, first))
            events += len(batch.numbers)
            await asyncio.sleep(0)
        last = rows[-1].published
    return first, sums, events


def _differences(held: Increments, counted: Increments) -> list[Difference]:
    found = []
    for number in sorted(held.keys() | counted.keys()):
        was, is_ = held.get(number, {}), counted.get(number, {})
        for field in sorted(was.keys() | is_.keys()):
            if was.get(field, 0) != is_.get(field, 0):
                (gateway_id, payment_method, issuing_bank), counter = parse_field(field)
                found.append(
                    Difference(
                        slice=number,
                        gateway_id=gateway_id,
                        payment_method=payment_method,
                        issuing_bank=issuing_bank,
                        counter=counter,
                        held=was.get(field, 0),
                        counted=is_.get(field, 0),
                    )
                )
    return found


async def restore_breakers(ledger: Ledger, hot: HotState) -> int:
    """Put back the shared breakers that the hot state has lost, as they last stood; return how many."""
    known = await ledger.read(last_shared)
    _, present = await hot.read_breakers(tuple(known))
    lost = {key: breaker for key, breaker in known.items() if present[key].raw is None}
    # Whoever stored one meanwhile has seen more than the ledger.
    return sum([await hot.swap_breaker(key, present[key], breaker) for key, breaker in lost.items()])
