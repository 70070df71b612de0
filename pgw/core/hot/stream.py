"""Numbered events -> each one counted once: the Redis stream between the relay and the metrics workers."""

from collections.abc import Iterable, Mapping, Sequence
from itertools import chain, pairwise

from msgspec import Struct

from pgw.core.hot import scripts
from pgw.core.hot.in_process import KEPT_S
from pgw.core.hot.on_redis import ANSWER_WITHIN_S, GENERATION, GONE, METRICS, STATE, Argument, Server
from pgw.core.metrics.counters import Increments
from pgw.core.ports import HotUnavailable

ENTRIES_A_CALL = 256
"""Entries of one append: beyond it a call gains nothing and delays every other one."""

MOST_CLAIMED = 1000
"""Entries of one claim; a script may not unpack more than a few thousand values at once."""

KEPT_ENTRIES = 10_000
"""Acknowledged entries that stay readable, for operators and for a group that is set back."""

KEPT_DEAD = 10_000
"""Dead letters that stay readable; the ledger has them all."""

FORGET_CONSUMER_MS = 60 * 60 * 1000
"""Idle time after which a consumer that holds nothing is deleted."""

SLICES_A_CALL = 20
"""Slices of a new generation staged in one trip."""

SWITCH_WITHIN_S = 5.0
"""How long the switch to a new generation may take; no payment waits for it."""

OLD_METRICS_S = 60
"""How long the metrics of the previous generation stay: a reader may be between its two trips."""

EVENT = b"event"


class StreamEntry(Struct, frozen=True):
    """One event as it was delivered; `deliveries` counts how often, this time included."""

    number: int
    event: bytes
    deliveries: int


class StreamState(Struct, frozen=True):
    """What the stream holds: events above `base` up to `top`; the metrics of `generation` began with all up to `base`.

    `ledger_id` names the ledger whose numbers these are.
    """

    generation: int
    ledger_id: str
    base: int
    top: int


class Lag(Struct, frozen=True):
    """How far the group is behind: undelivered, delivered but not applied, idle milliseconds of the lowest of these."""

    waiting: int
    pending: int
    oldest_idle_ms: int


class Stream:
    """One stream and the group that counts it. Every method may raise HotUnavailable: with GONE when it was wiped."""

    def __init__(self, server: Server, key: str, group: str) -> None:
        self._server = server
        self._key = key
        self._group = group

    @property
    def dead_key(self) -> str:
        """Key of the stream of dead letters."""
        return f"{self._key}:dead"

    async def state(self) -> StreamState | None:
        """Return what the stream holds; None when it was never begun, or was wiped."""
        reply = await self._server.run(scripts.STATE, (STATE, self._key), (self._group,))
        if reply is None:
            return None
        generation, ledger_id, base, top = reply
        return StreamState(int(generation), ledger_id.decode(), int(base), int(top))

    async def reset(self, ledger_id: str, base: int, slices: Increments, *, keep_newer: bool = False) -> StreamState:
        """Switch every reader at once to `slices` as the metrics, which count all events up to `base`.

        Nothing up to `base` is delivered again, and `base` + 1 is the next to be appended: a stream that is ahead,
        or of another ledger, is emptied for all its groups. With `keep_newer` the entries above `base` stay and are
        delivered, if they are this ledger's and none is missing. Where `base` is above the top, other groups never
        see what is between.
        Returns the state after it: another's, when a rebuild that began later was quicker.
        """
        generation = int(await self._server.run(scripts.NEXT_GENERATION, (GENERATION,), ()))
        await self._stage(generation, slices)
        arguments = (self._group, ledger_id, generation, base, base + 1, int(keep_newer), METRICS, OLD_METRICS_S)
        await self._server.run(scripts.SWITCH, (STATE, self._key), arguments, SWITCH_WITHIN_S)
        state = await self.state()
        if state is None:
            raise HotUnavailable(GONE)
        return state

    async def append(self, after: int, entries: Sequence[tuple[int, bytes]]) -> int:
        """Append entries whose numbers follow `after` without a gap, if the stream's top is `after`.

        Returns the stream's top: the last number, or another when another relay came first.
        """
        assert [number for number, _ in entries] == list(range(after + 1, after + 1 + len(entries)))
        top = after
        for start in range(0, len(entries), ENTRIES_A_CALL):
            chunk = entries[start : start + ENTRIES_A_CALL]
            arguments: list[Argument] = [chunk[0][0] - 1, *(event for _, event in chunk)]
            top = int(await self._server.run(scripts.APPEND, (STATE, self._key), arguments))
            if top != chunk[-1][0]:
                break
        return top

    async def deliver(self, consumer: str, count: int, block_ms: int) -> list[StreamEntry]:
        """Return entries not delivered yet, waiting up to `block_ms` for the first; 0 does not wait."""
        block: tuple[Argument, ...] = ("BLOCK", block_ms) if block_ms > 0 else ()
        arguments = ("GROUP", self._group, consumer, "COUNT", count, *block, "STREAMS", self._key, ">")
        reply = await self._server.ask("XREADGROUP", *arguments, within_s=ANSWER_WITHIN_S + block_ms / 1000)
        return [_entry(each[0], each[1], 1) for each in reply[0][1]] if reply else []

    async def claim(self, consumer: str, idle_ms: int, count: int) -> list[StreamEntry]:
        """Claim entries that were delivered `idle_ms` ago and never applied, this consumer's own among them."""
        arguments = (self._group, consumer, idle_ms, min(count, MOST_CLAIMED))
        return [_entry(*each) for each in await self._server.run(scripts.CLAIM, (self._key,), arguments)]

    async def apply(self, consumer: str, numbers: Sequence[int], increments: Increments) -> frozenset[int]:
        """Count these entries and acknowledge them, in one step, if every one is pending for this consumer.

        Otherwise nothing changes, and the numbers that are not (or no longer) this consumer's are returned.
        """
        if not numbers:
            assert not increments, "increments without the entries they come from would be counted again"
            return frozenset()
        runs = _runs(sorted(numbers))
        arguments: list[Argument] = [self._group, consumer, METRICS, KEPT_S, len(runs)]
        arguments.extend(chain.from_iterable((first, last, last - first + 1) for first, last in runs))
        for number, fields in increments.items():
            arguments += (number, len(fields), *_flat(fields))
        ours = await self._server.run(scripts.APPLY, (STATE, self._key), arguments)
        return frozenset() if ours is None else frozenset(numbers) - frozenset(map(_number, ours))

    async def bury(self, consumer: str, entry: StreamEntry, reason: str) -> bool:
        """Move an entry to the dead letters; False, and nothing moved, when it is no longer this consumer's."""
        arguments = (self._group, consumer, entry.number, entry.event, reason, KEPT_DEAD)
        return bool(await self._server.run(scripts.BURY, (self._key, self.dead_key), arguments))

    async def trim(self) -> int:
        """Remove what every group has acknowledged but the newest KEPT_ENTRIES; return how many were removed."""
        arguments = (self._group, KEPT_ENTRIES, FORGET_CONSUMER_MS)
        return int(await self._server.run(scripts.TRIM, (self._key,), arguments))

    async def lag(self) -> Lag:
        """Return how far the group is behind."""
        top, delivered, pending, idle_ms = await self._server.run(scripts.LAG, (self._key,), (self._group,))
        return Lag(int(top) - int(delivered), pending, idle_ms)

    async def _stage(self, generation: int, slices: Increments) -> None:
        """Write the metrics of a generation that is not read yet; what an abandoned rebuild leaves expires."""
        revisions = f"{METRICS}{generation}:revs"
        numbers = sorted(slices)
        for start in range(0, len(numbers), SLICES_A_CALL):
            commands: list[Sequence[Argument]] = []
            for number in numbers[start : start + SLICES_A_CALL]:
                if fields := slices[number]:
                    counts = f"{METRICS}{generation}:{number}"
                    commands += ("HSET", counts, *_flat(fields)), ("EXPIRE", counts, KEPT_S)
                    commands.append(("HSET", revisions, number, 1))
            commands.append(("EXPIRE", revisions, KEPT_S))
            await self._server.ask_together(commands)


def _runs(numbers: Sequence[int]) -> list[tuple[int, int]]:
    """Split ascending numbers into runs without a gap: (first, last) of each."""
    cuts = [(left, right) for left, right in pairwise(numbers) if right != left + 1]
    firsts = [numbers[0], *(right for _, right in cuts)]
    lasts = [*(left for left, _ in cuts), numbers[-1]]
    return list(zip(firsts, lasts, strict=True))


def _flat(fields: Mapping[str, int]) -> Iterable[Argument]:
    return chain.from_iterable(fields.items())


def _entry(entry_id: bytes, fields: Sequence[bytes], deliveries: int) -> StreamEntry:
    """Decode one entry; without an event in its first field it is foreign, and counts as poisoned."""
    return StreamEntry(_number(entry_id), fields[1] if fields[0] == EVENT else b"", deliveries)


def _number(entry_id: bytes) -> int:
    return int(entry_id.partition(b"-")[0])
