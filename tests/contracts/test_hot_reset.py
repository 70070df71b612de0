"""A stream begins anew: readers switch at once, what is counted already never returns, nothing above it is missing."""

import asyncio
from typing import Any

import pytest

from pgw.core.hot.on_redis import connect
from pgw.core.hot.scripts import NEXT_GENERATION
from pgw.core.hot.stream import SLICES_A_CALL, StreamEntry, StreamState
from tests.core.hot.streams import (
    GROUP,
    KEY,
    SLICE,
    begun,
    beside,
    counted,
    entries_from,
    event,
    numbers,
    once,
    opened,
    pending,
    stored,
)
from tests.doubles import LEDGER_ID
from tests.services import ask_redis

ANOTHER_LEDGER = "0f0c2a52-8d4e-4a31-9f1e-0f2d7b6c1a11"


@pytest.mark.parametrize("base", [0, 1, 700])
def test_after_a_wipe_the_stream_goes_on_above_what_is_counted_already(redis_url: str, base: int) -> None:
    async def scenario() -> None:
        async with begun(redis_url, 5) as stream:
            old = await stream.state()
            ask_redis(redis_url, "FLUSHDB")
            state = await stream.reset(LEDGER_ID, base, once([3]))
            assert state == StreamState(state.generation, LEDGER_ID, base, base)
            assert old is not None
            assert state.generation > old.generation
            assert await stream.append(base + 1, entries_from(base + 2, 1)) == base
            assert await stream.append(base, entries_from(base + 1, 2)) == base + 2
            assert numbers(await stream.deliver("worker", 10, 0)) == [base + 1, base + 2]
            assert await stream.apply("worker", [base + 1], once([base + 1])) == set()
            assert await counted(redis_url) == {SLICE: {**once([3])[SLICE], str(base + 1): 1}}
            lag = await stream.lag()
            assert (lag.waiting, lag.pending) == (0, 1)

    asyncio.run(scenario())


def test_on_a_live_stream_pending_entries_vanish_and_those_above_are_appended_again(redis_url: str) -> None:
    """A worker that still holds some applies nothing: its batch may be counted in the new metrics already."""

    async def scenario() -> None:
        async with begun(redis_url, 10) as stream:
            await stream.deliver("worker", 8, 0)
            await stream.apply("worker", [1, 2], once([1, 2]))
            state = await stream.reset(LEDGER_ID, 6, once(range(1, 7)))
            assert (state.base, state.top, pending(redis_url)) == (6, 6, 0)
            assert await stream.apply("worker", [3, 4, 5, 6, 7, 8], once(range(3, 9))) == {3, 4, 5, 6, 7, 8}
            assert await stream.claim("worker", 0, 10) == []
            assert await stream.append(10, entries_from(11, 1)) == 6
            assert await stream.append(6, entries_from(7, 5)) == 11
            again = await stream.deliver("worker", 100, 0)
            assert again == [StreamEntry(number, event(number), 1) for number in range(7, 12)]
            assert await stream.apply("worker", numbers(again), once(numbers(again))) == set()
            assert await counted(redis_url) == once(range(1, 12))

    asyncio.run(scenario())


def test_newer_entries_may_stay_and_are_delivered_to_the_new_group(redis_url: str) -> None:
    """What a relay appended while the metrics were recounted: it goes on, and other groups notice nothing."""

    async def scenario() -> None:
        async with begun(redis_url, 10) as stream, beside(redis_url, "other") as other:
            await other.deliver("reader", 4, 0)
            await stream.deliver("worker", 9, 0)
            state = await stream.reset(LEDGER_ID, 6, once(range(1, 7)), keep_newer=True)
            assert (state.base, state.top) == (6, 10)
            assert await stream.append(10, entries_from(11, 1)) == 11
            assert numbers(await stream.deliver("worker", 100, 0)) == [7, 8, 9, 10, 11]
            assert pending(redis_url, "other") == 4
            assert numbers(await other.deliver("reader", 100, 0)) == [5, 6, 7, 8, 9, 10, 11]

    asyncio.run(scenario())


@pytest.mark.parametrize("why", ["one is missing", "another ledger's"])
def test_newer_entries_do_not_stay_when_they_would_not_be_all(redis_url: str, why: str) -> None:
    async def scenario() -> None:
        async with begun(redis_url, 10) as stream:
            if why == "one is missing":
                ask_redis(redis_url, "XTRIM", KEY, "MINID", "8-0")
            ledger_id = LEDGER_ID if why == "one is missing" else ANOTHER_LEDGER
            state = await stream.reset(ledger_id, 6, {}, keep_newer=True)
            assert state == StreamState(state.generation, ledger_id, 6, 6)
            assert stored(redis_url) == 0

    asyncio.run(scenario())


def test_entries_of_another_ledger_are_not_kept_below_the_base_either(redis_url: str) -> None:
    async def scenario() -> None:
        async with begun(redis_url, 10) as stream, beside(redis_url, "other") as other:
            state = await stream.reset(ANOTHER_LEDGER, 20, {})
            assert (state.ledger_id, state.top, stored(redis_url)) == (ANOTHER_LEDGER, 20, 0)
            assert await stream.append(20, entries_from(21, 1)) == 21
            assert numbers(await other.deliver("reader", 100, 0)) == [21]

    asyncio.run(scenario())


def test_the_other_groups_of_a_stream_that_starts_again_read_it_from_there(redis_url: str) -> None:
    async def scenario() -> None:
        async with begun(redis_url, 10) as stream, beside(redis_url, "other") as other:
            await other.deliver("reader", 8, 0)
            ask_redis(redis_url, "XDEL", KEY, "9-0")
            await stream.reset(LEDGER_ID, 5, {})
            assert pending(redis_url, "other") == 0
            await stream.append(5, entries_from(6, 3))
            assert numbers(await other.deliver("reader", 100, 0)) == [6, 7, 8]

    asyncio.run(scenario())


def test_a_reader_of_metrics_sees_all_of_the_old_or_all_of_the_new(redis_url: str) -> None:
    """More slices than are staged in one trip: readers look all the time, none sees half of them."""
    old = {SLICE + number: {"old": 1} for number in range(3 * SLICES_A_CALL)}
    new = {SLICE + number: {"new": 1} for number in range(3 * SLICES_A_CALL)}

    async def scenario() -> None:
        async with opened(redis_url) as stream:
            await stream.reset(LEDGER_ID, 0, old)
            switched = asyncio.create_task(stream.reset(LEDGER_ID, 0, new))
            seen = [await counted(redis_url)]
            while not switched.done() or seen[-1] != new:
                seen.append(await counted(redis_url))
            assert [each for each in seen if each not in (old, new)] == []
            assert seen[0] == old

    asyncio.run(scenario())


def test_metrics_of_the_generation_before_go_after_a_minute(redis_url: str) -> None:
    async def scenario() -> None:
        async with opened(redis_url) as stream:
            first = await stream.reset(LEDGER_ID, 0, once([1]))
            second = await stream.reset(LEDGER_ID, 0, once([2]))
            for generation, longest in ((first.generation, 60), (second.generation, 4200)):
                for name in (str(SLICE), "revs"):
                    left = int(ask_redis(redis_url, "TTL", f"{{pgw}}:metrics:{generation}:{name}") or 0)
                    assert longest - 60 < left <= longest

    asyncio.run(scenario())


def test_of_two_rebuilds_the_one_that_began_later_stands(redis_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The first sleeps between staging and switching, for so long that the second is done."""

    async def scenario() -> None:
        async with opened(redis_url) as slept, opened(redis_url) as awake:
            run, later = slept._server.run, []

            async def sleeping(script: str, *arguments: Any) -> Any:
                answer = await run(script, *arguments)
                if script == NEXT_GENERATION:
                    later.append(await awake.reset(LEDGER_ID, 9, once([9])))
                return answer

            monkeypatch.setattr(slept._server, "run", sleeping)
            assert [await slept.reset(LEDGER_ID, 4, once([4]))] == later
            assert await counted(redis_url) == once([9])

    asyncio.run(scenario())


def test_a_generation_is_never_given_out_twice_even_when_the_clock_of_redis_went_back(redis_url: str) -> None:
    async def scenario() -> None:
        server = connect(redis_url)
        ask_redis(redis_url, "SET", "{pgw}:generation", "9000000000000")
        given = [int(await server.run(NEXT_GENERATION, ("{pgw}:generation",), ())) for _ in range(3)]
        assert given == [9000000000001, 9000000000002, 9000000000003]
        await server.close()

    asyncio.run(scenario())


def test_numbers_stay_exact_where_a_float_would_print_an_exponent(redis_url: str) -> None:
    base = 10**15

    async def scenario() -> None:
        async with begun(redis_url, 3, base) as stream:
            assert ask_redis(redis_url, "XLEN", KEY) == "3"
            delivered = numbers(await stream.deliver("worker", 10, 0))
            assert delivered == [base + 1, base + 2, base + 3]
            assert await stream.apply("worker", delivered[:2], once([1])) == set()
            assert await stream.apply("worker", delivered, {}) == set(delivered[:2])
            assert (await stream.lag()).pending == 1
            assert await stream.trim() == 0

    asyncio.run(scenario())


def test_the_group_of_the_stream_is_ours_alone(redis_url: str) -> None:
    """A rebuild makes our group anew and leaves the others with what they had read."""

    async def scenario() -> None:
        async with begun(redis_url, 6) as stream, beside(redis_url, "other") as other:
            await other.deliver("reader", 2, 0)
            await stream.deliver("worker", 3, 0)
            await stream.reset(LEDGER_ID, 6, {})
            assert (pending(redis_url, GROUP), pending(redis_url, "other")) == (0, 2)
            assert stored(redis_url) == 6

    asyncio.run(scenario())
