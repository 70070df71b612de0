"""Committed events -> their order: gapless numbers in the ledger, and the same events on the stream."""

import asyncio
import logging
from collections.abc import Awaitable
from typing import TypeVar, cast

from pgw.core.flow.metrics.leader import Leader
from pgw.core.flow.metrics.rebuild import rebuild
from pgw.core.hot.stream import Stream
from pgw.core.ledger.outbox import PUBLISH, Numbering, numbering, rows_after
from pgw.core.ports import Clock, HotState, HotUnavailable, Ledger

log = logging.getLogger(__name__)

T = TypeVar("T")
U = TypeVar("U")

RELAY_EVERY_S = 0.1

MAX_ROUNDS = 20
"""Commits, and appends, of one step: a relay that is behind catches up in many steps, each of which can be stopped."""

APPENDED = 1000
"""Events of one append."""

ALARM_EVERY_S = 30.0


class Relay:
    """Numbers events, under one leader; with a stream it also appends them, each once and in order.

    Correctness does not depend on the leader's lock, which only avoids contention: numbers are given by
    compare-and-swap on the last one, entries are appended by compare-and-swap on the stream's top.
    """

    def __init__(
        self,
        ledger: Ledger,
        ledger_id: str,
        leader: Leader,
        clock: Clock,
        shared: tuple[HotState, Stream] | None = None,
    ) -> None:
        self._ledger = ledger
        self._ledger_id = ledger_id
        self._leader = leader
        self._clock = clock
        self._shared = shared
        self._next_alarm = clock.elapsed()
        self.is_leader = False
        """Whether this process was the leader at its last step."""
        self._last: int | None = None

    @property
    def last(self) -> int | None:
        """The last number given, as of the last step; None where another process leads, and where there is a stream."""
        return self._last if self.is_leader else None

    async def step(self) -> int:
        """Number what waits and append what is numbered; return how many events moved, 0 where another process leads.

        Raises LedgerUnavailable or HotUnavailable; the next step starts afresh.
        """
        self.is_leader = False
        if not await self._leader.hold():
            return 0
        self.is_leader = True
        if self._shared is not None:
            return await self._publish(*self._shared)
        start = await self._ledger.read(numbering)
        if start.is_waiting:
            # Unknown while numbers are being given, and after a fault.
            self._last = None
        self._last = await self._number(start)
        return self._last - start.last

    async def close(self) -> None:
        """Release the leader's lock."""
        self.is_leader = False
        await self._leader.close()

    async def _publish(self, hot: HotState, stream: Stream) -> int:
        """Number and append. The stream is read first, so that all on it was numbered before."""
        state = await stream.state()
        if state is None or state.ledger_id != self._ledger_id:
            log.warning("the stream %s: rebuilding it", "is lost" if state is None else "is another ledger's")
            await rebuild(self._ledger, self._ledger_id, hot, stream, self._clock, keep=self._leader.hold)
            state = await stream.state()
            if state is None:
                raise HotUnavailable("lost again")
        now = await self._ledger.read(numbering)
        if state.top > now.last:
            self._alarm(state.top, now.last)
            return 0
        return await self._append(stream, state.top, await self._number_some(now))

    def _alarm(self, top: int, last: int) -> None:
        """Report that the stream has numbers the ledger never gave; relaying stops until an operator decides."""
        if self._clock.elapsed() >= self._next_alarm:
            self._next_alarm = self._clock.elapsed() + ALARM_EVERY_S
            log.critical(
                "the stream is at event %d, the ledger at %d: the ledger was restored from a backup, or REDIS_URL is "
                "another's; nothing is relayed until `pgw rebuild --stream` begins the stream anew",
                top,
                last,
            )

    async def _number(self, now: Numbering) -> int:
        """Number what waits; return the last number given."""
        for _ in range(MAX_ROUNDS):
            if not now.is_waiting:
                break
            now = await self._number_some(now)
        return now.last

    async def _number_some(self, now: Numbering) -> Numbering:
        """Number a part of what waits, if anything does; return the numbering after it."""
        if not now.is_waiting:
            return now
        await self._ledger.commit(PUBLISH, {"first": now.last + 1})
        return await self._ledger.read(numbering)

    async def _append(self, stream: Stream, top: int, now: Numbering) -> int:
        """Append what is numbered, while more is being numbered: database and Redis work side by side."""
        first = top
        for left in reversed(range(MAX_ROUNDS)):
            if top >= now.last:
                break
            appending = self._append_some(stream, top)
            if left:
                now, reached = await _both(self._number_some(now), appending)
            else:
                reached = await appending
            if reached is None:
                break
            top = reached
        return top - first

    async def _append_some(self, stream: Stream, top: int) -> int | None:
        """Append what follows `top`; return the new top, None where the stream was no longer at `top`."""
        rows = await self._ledger.read(rows_after, top, APPENDED)
        if not rows:
            return None
        reached = await stream.append(top, rows)
        if reached == rows[-1].published:
            return reached
        log.warning("the stream moved from event %d to %d meanwhile: trying again", top, reached)
        return None


async def _both(one: Awaitable[T], two: Awaitable[U]) -> tuple[T, U]:
    """Wait for both to end, then raise the fault of the first that has one."""
    results = await asyncio.gather(one, two, return_exceptions=True)
    for each in results:
        if isinstance(each, BaseException):
            raise each
    return cast("tuple[T, U]", tuple(results))
