"""Hot state, in process and on Redis: one value wins a race, changes are told once, and who lives is known."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass

import msgspec
import pytest

from pgw.core.breakers.breaker import Breaker, Caller, Lease, State
from pgw.core.hot.in_process import KEPT_S, InProcessHotState
from pgw.core.hot.on_redis import SLICES_A_TRIP, OnRedis, connect
from pgw.core.hot.stream import Stream
from pgw.core.metrics.counters import SLICE_S, Increments
from pgw.core.ports import Heartbeat, HotState, HotUnavailable, StoredBreaker
from tests.core.hot.streams import GROUP, KEY, event
from tests.doubles import LEDGER_ID, NOON, VirtualClock
from tests.services import ask_redis

RAZORPAY, HDFC = ("razorpay", "UPI"), ("hdfc", "UPI")
NEVER_STORED = StoredBreaker(Breaker(), None)
SLICE = int(NOON.timestamp()) // SLICE_S
TIME = "local time = redis.call('TIME') return string.format('%d.%06d', time[1], time[2])"
SICK = Breaker(
    state=State.HALF_OPEN,
    epoch=7,
    since=1_767_614_400.123456,
    until=1_767_614_430.5,
    trips=2,
    cause="FAILURE_RATE",
    incident_from=1_767_614_300.1,
    leases=(Lease("lease-1", 1_767_614_440.25),),
    callers={"api-1": Caller(1_767_614_399.9, trips=True)},
    released=3,
)


@dataclass
class Bench:
    """One hot state as two processes see it; `count` adds to its metrics, `reset` begins them anew."""

    hot: HotState
    other: HotState
    count: Callable[[Increments], Awaitable[None]]
    reset: Callable[[], Awaitable[None]]
    now: Callable[[], float]
    silence: Callable[[str, float], None]
    """Let a process have said nothing for so many seconds."""


@asynccontextmanager
async def _in_process() -> AsyncIterator[Bench]:
    clock = VirtualClock()
    hot = InProcessHotState(clock)

    async def count(increments: Increments) -> None:
        hot.apply(increments)

    async def reset() -> None:
        hot.reset()

    yield Bench(hot, hot, count, reset, lambda: clock.now().timestamp(), lambda _, seconds: clock.advance(seconds))


@asynccontextmanager
async def _on_redis(url: str) -> AsyncIterator[Bench]:
    server = connect(url)
    hot, other = OnRedis(server), OnRedis(connect(url))
    stream = Stream(server, KEY, GROUP)
    top = (await stream.reset(LEDGER_ID, 0, {})).top

    async def count(increments: Increments) -> None:
        nonlocal top
        top = await stream.append(top, [(top + 1, event(top + 1))])
        assert [top] == [each.number for each in await stream.deliver("worker", 1, 0)]
        assert await stream.apply("worker", [top], increments) == frozenset()

    async def reset() -> None:
        await stream.reset(LEDGER_ID, top, {})

    def now() -> float:
        return float(ask_redis(url, "EVAL", TIME, "0") or 0)

    def silence(process: str, seconds: float) -> None:
        said = ask_redis(url, "HGET", "{pgw}:fleet", process)
        assert said is not None
        at, _, document = said.partition(" ")
        ask_redis(url, "HSET", "{pgw}:fleet", process, f"{float(at) - seconds} {document}")

    try:
        yield Bench(hot, other, count, reset, now, silence)
    finally:
        await hot.close()
        await other.close()


@pytest.fixture(params=["in process", "on redis"])
def run(request: pytest.FixtureRequest) -> Callable[[Callable[[Bench], Awaitable[None]]], None]:
    """Run a scenario on one of the two."""

    async def scene(scenario: Callable[[Bench], Awaitable[None]]) -> None:
        bench = _in_process() if request.param == "in process" else _on_redis(request.getfixturevalue("redis_url"))
        async with bench as opened:
            await scenario(opened)

    return lambda scenario: asyncio.run(scene(scenario))


Run = Callable[[Callable[[Bench], Awaitable[None]]], None]


def test_a_breaker_never_stored_is_the_default(run: Run) -> None:
    async def scenario(bench: Bench) -> None:
        _, breakers = await bench.hot.read_breakers([RAZORPAY, HDFC])
        assert breakers == {RAZORPAY: NEVER_STORED, HDFC: NEVER_STORED}

    run(scenario)


def test_what_one_process_stores_the_other_reads_to_the_last_digit(run: Run) -> None:
    async def scenario(bench: Bench) -> None:
        assert await bench.hot.swap_breaker(RAZORPAY, NEVER_STORED, SICK) is True
        _, breakers = await bench.other.read_breakers([HDFC, RAZORPAY])
        assert breakers[RAZORPAY].value == SICK
        assert breakers[HDFC] == NEVER_STORED

    run(scenario)


def test_a_swap_that_comes_too_late_changes_nothing(run: Run) -> None:
    async def scenario(bench: Bench) -> None:
        first = Breaker(trips=1)
        assert await bench.hot.swap_breaker(RAZORPAY, NEVER_STORED, first) is True
        assert await bench.other.swap_breaker(RAZORPAY, NEVER_STORED, Breaker(trips=2)) is False
        _, breakers = await bench.other.read_breakers([RAZORPAY])
        assert first == breakers[RAZORPAY].value
        assert await bench.other.swap_breaker(RAZORPAY, breakers[RAZORPAY], Breaker(trips=3)) is True
        assert await bench.hot.swap_breaker(RAZORPAY, breakers[RAZORPAY], Breaker(trips=4)) is False

    run(scenario)


def test_of_many_who_read_the_same_value_exactly_one_stores_its_own(run: Run) -> None:
    async def scenario(bench: Bench) -> None:
        for _ in range(5):
            _, breakers = await bench.hot.read_breakers([RAZORPAY])
            held = breakers[RAZORPAY]
            values = [msgspec.structs.replace(held.value, epoch=held.value.epoch + 1, trips=n) for n in range(40)]
            won = await asyncio.gather(
                *(
                    (bench.hot if n % 2 else bench.other).swap_breaker(RAZORPAY, held, value)
                    for n, value in enumerate(values)
                )
            )
            _, breakers = await bench.hot.read_breakers([RAZORPAY])
            assert [breakers[RAZORPAY].value] == [value for value, mine in zip(values, won, strict=True) if mine]

    run(scenario)


def test_no_change_is_lost_among_many_who_try_again(run: Run) -> None:
    """Each try that fails means that another succeeded: the tries are bounded by the changes of all."""
    writers, changes = 8, 5

    async def scenario(bench: Bench) -> None:
        async def writer(hot: HotState) -> int:
            tries = 0
            for _ in range(changes):
                swapped = False
                while not swapped:
                    _, breakers = await hot.read_breakers([RAZORPAY])
                    held = breakers[RAZORPAY]
                    value = msgspec.structs.replace(held.value, trips=held.value.trips + 1)
                    swapped = await hot.swap_breaker(RAZORPAY, held, value)
                    tries += 1
                    assert tries <= writers * changes
            return tries

        await asyncio.gather(*(writer(bench.hot if n % 2 else bench.other) for n in range(writers)))
        _, breakers = await bench.hot.read_breakers([RAZORPAY])
        assert writers * changes == breakers[RAZORPAY].value.trips

    run(scenario)


def test_breakers_come_with_the_time_of_their_store(run: Run) -> None:
    """Every process measures a lease or an open time by the same clock, whatever its own says."""

    async def scenario(bench: Bench) -> None:
        before = bench.now()
        now, breakers = await bench.hot.read_breakers([])
        assert breakers == {}
        assert before <= now <= bench.now()

    run(scenario)


def test_only_slices_that_changed_are_told(run: Run) -> None:
    async def scenario(bench: Bench) -> None:
        empty = await bench.hot.changed_slices(0, {})
        assert empty.counts == {}
        await bench.count({SLICE: {"a": 2, "b": 1}, SLICE - 1: {"a": 1}})
        first = await bench.hot.changed_slices(empty.generation, {})
        assert {n: counts for n, (_, counts) in first.counts.items()} == {SLICE: {"a": 2, "b": 1}, SLICE - 1: {"a": 1}}
        seen = {number: revision for number, (revision, _) in first.counts.items()}
        assert (await bench.hot.changed_slices(first.generation, seen)).counts == {}
        await bench.count({SLICE: {"a": 1, "b": -1, "c": -4}})
        second = await bench.other.changed_slices(first.generation, seen)
        assert {number: counts for number, (_, counts) in second.counts.items()} == {SLICE: {"a": 3, "b": 0, "c": -4}}
        assert first.counts[SLICE][1] == {"a": 2, "b": 1}
        assert first.generation == second.generation == empty.generation

    run(scenario)


def test_a_reader_of_another_generation_is_told_everything(run: Run) -> None:
    async def scenario(bench: Bench) -> None:
        await bench.count({SLICE: {"a": 5}, SLICE - 1: {"a": 1}})
        before = await bench.hot.changed_slices(0, {})
        seen = {number: revision for number, (revision, _) in before.counts.items()}
        await bench.reset()
        await bench.count({SLICE: {"a": 1}})
        after = await bench.hot.changed_slices(before.generation, seen)
        assert before.generation < after.generation
        assert {number: counts for number, (_, counts) in after.counts.items()} == {SLICE: {"a": 1}}
        assert after.counts == (await bench.hot.changed_slices(before.generation - 1, {SLICE: 1})).counts

    run(scenario)


def test_an_hour_of_slices_is_read_in_several_trips(run: Run) -> None:
    async def scenario(bench: Bench) -> None:
        hour = {SLICE - back: {"a": back} for back in range(3 * SLICES_A_TRIP + 1)}
        await bench.count(hour)
        told = await bench.hot.changed_slices(0, {})
        assert hour == {number: counts for number, (_, counts) in told.counts.items()}

    run(scenario)


def test_a_process_that_falls_silent_no_longer_counts_as_living(run: Run) -> None:
    async def scenario(bench: Bench) -> None:
        api = Heartbeat(process="api-1", role="serve", config_version=4, in_flight=17)
        before = bench.now()
        alone = await bench.hot.beat(api)
        assert [api] == [msgspec.structs.replace(each, at=0.0) for each in alone]
        assert before <= alone[0].at <= bench.now()
        worker = Heartbeat(process="worker-1", role="worker", config_version=3)
        assert {"api-1", "worker-1"} == {each.process for each in await bench.other.beat(worker)}
        bench.silence("api-1", 4.0)
        assert {"api-1", "worker-1"} == {each.process for each in await bench.other.beat(worker)}
        bench.silence("api-1", 1.5)
        assert {"worker-1"} == {each.process for each in await bench.other.beat(worker)}
        assert {"api-1", "worker-1"} == {each.process for each in await bench.hot.beat(api)}

    run(scenario)


def test_in_process_slices_older_than_any_window_are_dropped() -> None:
    async def scenario() -> None:
        clock = VirtualClock()
        hot = InProcessHotState(clock)
        oldest = SLICE - KEPT_S // SLICE_S
        hot.apply({oldest: {"a": 1}, oldest - 1: {"a": 1}, SLICE: {"a": 1}})
        assert {oldest, SLICE} == set((await hot.changed_slices(0, {})).counts)
        clock.advance(SLICE_S)
        assert {SLICE} == set((await hot.changed_slices(0, {})).counts)
        clock.advance(KEPT_S)
        hot.apply({SLICE + 1: {"a": 1}})
        assert set(hot._counts) == {SLICE + 1}, "it must not grow where nobody reads"
        assert (await hot.changed_slices(0, {})).counts == {SLICE + 1: (1, {"a": 1})}

    asyncio.run(scenario())


def test_on_redis_a_slice_expires_and_its_revision_goes_with_the_next_new_one(redis_url: str) -> None:
    async def scenario() -> None:
        async with _on_redis(redis_url) as bench:
            await bench.count({SLICE: {"a": 1}})
            generation = (await bench.hot.changed_slices(0, {})).generation
            metrics = f"{{pgw}}:metrics:{generation}:"
            for name in (str(SLICE), "revs"):
                assert 0 < int(ask_redis(redis_url, "TTL", metrics + name) or 0) <= KEPT_S
            ask_redis(redis_url, "DEL", f"{metrics}{SLICE}")
            await bench.count({SLICE + 1: {"a": 1}})
            assert (await bench.hot.changed_slices(0, {})).counts == {SLICE + 1: (1, {"a": 1})}

    asyncio.run(scenario())


def test_on_redis_a_process_is_forgotten_a_minute_after_its_last_word(redis_url: str) -> None:
    async def scenario() -> None:
        async with _on_redis(redis_url) as bench:
            for name in ("api-1", "api-2", "api-3"):
                await bench.hot.beat(Heartbeat(process=name, role="serve", config_version=1))
            bench.silence("api-1", 59.0)
            bench.silence("api-2", 61.0)
            await bench.hot.beat(Heartbeat(process="api-3", role="serve", config_version=1))
            known = ask_redis(
                redis_url, "EVAL", "return table.concat(redis.call('HKEYS', KEYS[1]), ' ')", "1", "{pgw}:fleet"
            )
            assert sorted((known or "").split()) == ["api-1", "api-3"]

    asyncio.run(scenario())


@pytest.mark.parametrize("text", ["{", '{"state":"ASLEEP"}', "5"])
def test_a_breaker_that_cannot_be_read_is_as_good_as_never_stored(redis_url: str, text: str) -> None:
    """Another version's, or somebody's hand: the next change replaces it, and only if it is still what was read."""

    async def scenario() -> None:
        async with _on_redis(redis_url) as bench:
            ask_redis(redis_url, "SET", "{pgw}:breaker:razorpay:UPI", text)
            _, breakers = await bench.hot.read_breakers([RAZORPAY])
            assert StoredBreaker(Breaker(), text.encode()) == breakers[RAZORPAY]
            assert await bench.hot.swap_breaker(RAZORPAY, NEVER_STORED, SICK) is False
            assert await bench.hot.swap_breaker(RAZORPAY, breakers[RAZORPAY], SICK) is True

    asyncio.run(scenario())


def test_a_heartbeat_that_cannot_be_read_hides_nobody_else(redis_url: str) -> None:
    async def scenario() -> None:
        async with _on_redis(redis_url) as bench:
            ask_redis(redis_url, "HSET", "{pgw}:fleet", "strange", "what")
            ask_redis(redis_url, "HSET", "{pgw}:fleet", "newer", "9999999999.0 {}")
            alive = await bench.hot.beat(Heartbeat(process="api-1", role="serve", config_version=1))
            assert [each.process for each in alive] == ["api-1"]

    asyncio.run(scenario())


def test_metrics_that_were_wiped_are_lost_and_not_empty(redis_url: str) -> None:
    """A reader that took them for empty would forget what it knows of every gateway."""

    async def scenario() -> None:
        async with _on_redis(redis_url) as bench:
            await bench.count({SLICE: {"a": 1}})
            generation = (await bench.hot.changed_slices(0, {})).generation
            ask_redis(redis_url, "FLUSHDB")
            for known in (0, generation):
                with pytest.raises(HotUnavailable, match="lost"):
                    await bench.hot.changed_slices(known, {})

    asyncio.run(scenario())
