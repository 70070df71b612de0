"""Any order of deliveries, takeovers, late and repeated applications: every entry is counted or buried, once."""

import asyncio
from collections.abc import Sequence

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pgw.core.hot.stream import Stream, StreamEntry
from tests.core.hot.streams import begun, counted, entries_from, numbers, once, pending
from tests.services import ask_redis

WORKERS = ("worker-1", "worker-2", "worker-3")

Step = tuple[str, str, int]
"""What is done, by whom, how much."""

STEPS = st.lists(
    st.tuples(
        st.sampled_from(("append", "deliver", "claim", "apply", "apply late", "bury", "trim")),
        st.sampled_from(WORKERS),
        st.integers(1, 5),
    ),
    max_size=40,
)


class Play:
    """A few workers that each remember all they were ever given, as one that slept does, and a model of who owns what.

    `owner` is whose entry each pending one is; `counts` are those whose effect must be there.
    """

    def __init__(self, stream: Stream) -> None:
        self.stream = stream
        self.top = 0
        self.given: dict[str, dict[int, StreamEntry]] = {worker: {} for worker in WORKERS}
        self.owner: dict[int, str] = {}
        self.counts: set[int] = set()
        self.buried: set[int] = set()

    async def step(self, what: str, worker: str, much: int) -> None:
        """Do one thing and compare what came of it with the model."""
        match what:
            case "append":
                assert await self.stream.append(self.top, entries_from(self.top + 1, much)) == self.top + much
                self.top += much
            case "deliver":
                self._receives(worker, await self.stream.deliver(worker, much, 0))
            case "claim":
                expected = sorted(self.owner)[:much]
                taken = await self.stream.claim(worker, 0, much)
                assert numbers(taken) == expected
                self._receives(worker, taken)
            case "apply":
                mine = [number for number in self.given[worker] if self.owner.get(number) == worker]
                await self._applies(worker, mine[:much])
            case "apply late":
                await self._applies(worker, list(self.given[worker])[-much:])
            case "bury":
                await self._buries(worker)
            case _:
                assert await self.stream.trim() == 0

    async def drain(self) -> None:
        """Let one worker finish: what nobody was given, and what everybody left."""
        await self.step("deliver", WORKERS[0], 10_000)
        await self.step("claim", WORKERS[0], 1000)
        await self.step("apply", WORKERS[0], 10_000)

    def _receives(self, worker: str, entries: Sequence[StreamEntry]) -> None:
        self.given[worker].update((each.number, each) for each in entries)
        self.owner.update((each.number, worker) for each in entries)

    async def _applies(self, worker: str, asked: Sequence[int]) -> None:
        strangers = {number for number in asked if self.owner.get(number) != worker}
        assert await self.stream.apply(worker, asked, once(asked) if asked else {}) == strangers
        if not strangers:
            self.counts.update(asked)
            for number in asked:
                del self.owner[number]

    async def _buries(self, worker: str) -> None:
        for number, entry in list(self.given[worker].items())[:1]:
            mine = self.owner.get(number) == worker
            assert await self.stream.bury(worker, entry, "poison") is mine
            if mine:
                self.buried.add(number)
                del self.owner[number]


@given(steps=STEPS)
@settings(max_examples=150, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_every_entry_is_counted_or_buried_once(redis_url: str, steps: list[Step]) -> None:
    """One Redis for all sequences; each begins with an empty one."""

    async def scenario() -> None:
        ask_redis(redis_url, "FLUSHDB")
        async with begun(redis_url) as stream:
            play = Play(stream)
            for step in steps:
                await play.step(*step)
                assert pending(redis_url) == len(play.owner)
            await play.drain()
            assert play.counts | play.buried == set(range(1, play.top + 1))
            assert await counted(redis_url) == (once(sorted(play.counts)) if play.counts else {})
            assert ask_redis(redis_url, "XLEN", stream.dead_key) == str(len(play.buried))
            assert pending(redis_url) == 0

    asyncio.run(scenario())
