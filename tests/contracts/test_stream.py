"""The Redis stream: entries without gap or duplicate, each counted exactly once, none removed before it was read."""

import asyncio

import pytest

from pgw.core.hot import stream as stream_module
from pgw.core.hot.on_redis import ANSWER_WITHIN_S
from pgw.core.hot.stream import ENTRIES_A_CALL, Lag, StreamEntry, StreamState
from pgw.core.ports import HotUnavailable
from tests.core.hot.streams import (
    GROUP,
    KEY,
    SLICE,
    begun,
    beside,
    blocked,
    counted,
    entries_from,
    event,
    numbers,
    once,
    opened,
    pending,
    stored,
    until,
)
from tests.doubles import LEDGER_ID
from tests.services import ask_redis


def test_a_stream_nobody_began_has_no_state(redis_url: str) -> None:
    async def scenario() -> None:
        async with opened(redis_url) as stream:
            assert await stream.state() is None
            state = await stream.reset(LEDGER_ID, 0, {})
            assert state == StreamState(state.generation, LEDGER_ID, 0, 0)
            assert await stream.append(0, entries_from(1, 2)) == 2
            assert await stream.state() == StreamState(state.generation, LEDGER_ID, 0, 2)

    asyncio.run(scenario())


@pytest.mark.parametrize("gone", ["the stream", "the group", "the state"])
def test_a_stream_that_lost_a_part_counts_as_never_begun(redis_url: str, gone: str) -> None:
    losses = {
        "the stream": ("DEL", KEY),
        "the group": ("XGROUP", "DESTROY", KEY, GROUP),
        "the state": ("DEL", "{pgw}:state"),
    }

    async def scenario() -> None:
        async with begun(redis_url, 3) as stream:
            ask_redis(redis_url, *losses[gone])
            assert await stream.state() is None

    asyncio.run(scenario())


def test_what_is_appended_is_delivered_in_its_order_once(redis_url: str) -> None:
    count = 2 * ENTRIES_A_CALL + 7

    async def scenario() -> None:
        async with begun(redis_url, count) as stream, opened(redis_url) as another:
            assert stored(redis_url) == count
            first = await stream.deliver("worker-1", 300, 0)
            second = await another.deliver("worker-2", 300, 0)
            assert [*first, *second] == [StreamEntry(number, event(number), 1) for number in range(1, count + 1)]
            assert await stream.deliver("worker-1", 300, 0) == []

    asyncio.run(scenario())


def test_entries_that_do_not_follow_the_top_are_refused(redis_url: str) -> None:
    """A relay that slept while another led learns where the stream is; it leaves no gap and writes nothing twice."""

    async def scenario() -> None:
        async with begun(redis_url, 5) as stream:
            assert await stream.append(3, entries_from(4, 4)) == 5
            assert await stream.append(7, entries_from(8, 4)) == 5
            assert await stream.append(5, []) == 5
            assert await stream.append(5, entries_from(6, 1)) == 6
            assert numbers(await stream.deliver("worker", 100, 0)) == [1, 2, 3, 4, 5, 6]

    asyncio.run(scenario())


def test_of_many_relays_that_append_at_once_each_number_enters_once(redis_url: str) -> None:
    async def scenario() -> None:
        async with begun(redis_url) as one, opened(redis_url) as two:

            async def relay(turn: int) -> None:
                top = 0
                while top < 600:
                    most = 30 + 7 * turn
                    top = await (one if turn % 2 else two).append(top, entries_from(top + 1, min(most, 600 - top)))

            await asyncio.gather(*(relay(turn) for turn in range(6)))
            assert numbers(await one.deliver("worker", 1000, 0)) == list(range(1, 601))

    asyncio.run(scenario())


def test_a_number_stays_taken_when_its_entry_is_gone(redis_url: str) -> None:
    async def scenario() -> None:
        async with begun(redis_url, 5) as stream:
            ask_redis(redis_url, "XTRIM", KEY, "MAXLEN", "0")
            assert await stream.append(0, entries_from(1, 3)) == 5
            assert stored(redis_url) == 0

    asyncio.run(scenario())


def test_a_reader_that_waits_is_woken_by_the_next_entry(redis_url: str) -> None:
    async def scenario() -> None:
        async with begun(redis_url) as stream:
            waiting = asyncio.create_task(stream.deliver("worker", 10, 60_000))
            await until(lambda: blocked(redis_url))
            await stream.append(0, entries_from(1, 1))
            assert numbers(await waiting) == [1]

    asyncio.run(scenario())


def test_a_wait_that_ends_without_an_entry_is_no_fault(redis_url: str) -> None:
    """Longer than any other call may take."""

    async def scenario() -> None:
        async with begun(redis_url) as stream:
            assert await stream.deliver("worker", 10, int(1200 * ANSWER_WITHIN_S)) == []

    asyncio.run(scenario())


def test_effect_and_acknowledgement_are_one_step_that_happens_once(redis_url: str) -> None:
    async def scenario() -> None:
        async with begun(redis_url, 4) as stream:
            assert numbers(await stream.deliver("worker", 3, 0)) == [1, 2, 3]
            assert await stream.apply("worker", [1, 2, 3], {SLICE: {"a": 2, "b": -1}, SLICE + 1: {"a": 1}}) == set()
            assert pending(redis_url) == 0
            assert await counted(redis_url) == {SLICE: {"a": 2, "b": -1}, SLICE + 1: {"a": 1}}
            assert await stream.apply("worker", [1, 2, 3], {SLICE: {"a": 2}}) == {1, 2, 3}
            assert await counted(redis_url) == {SLICE: {"a": 2, "b": -1}, SLICE + 1: {"a": 1}}

    asyncio.run(scenario())


def test_entries_that_count_for_nothing_are_acknowledged_too(redis_url: str) -> None:
    async def scenario() -> None:
        async with begun(redis_url, 2) as stream:
            await stream.deliver("worker", 2, 0)
            assert await stream.apply("worker", [1, 2], {}) == set()
            assert await stream.apply("worker", [], {}) == set()
            assert pending(redis_url) == 0
            assert await counted(redis_url) == {}

    asyncio.run(scenario())


def test_a_batch_of_which_one_entry_was_taken_over_changes_nothing(redis_url: str) -> None:
    async def scenario() -> None:
        async with begun(redis_url, 5) as stream:
            assert numbers(await stream.deliver("slept", 5, 0)) == [1, 2, 3, 4, 5]
            assert numbers(await stream.claim("awake", 0, 2)) == [1, 2]
            assert await stream.apply("slept", [1, 2, 3, 4, 5], once([1, 2, 3, 4, 5])) == {1, 2}
            assert await stream.apply("awake", [1, 2, 3], once([1, 2, 3])) == {3}
            assert pending(redis_url) == 5
            assert await counted(redis_url) == {}
            assert await stream.apply("slept", [3, 4, 5], once([3, 4, 5])) == set()
            assert await stream.apply("awake", [2, 1], once([1, 2])) == set()
            assert await counted(redis_url) == once([1, 2, 3, 4, 5])

    asyncio.run(scenario())


def test_scattered_numbers_and_more_than_redis_takes_in_one_command_are_applied(redis_url: str) -> None:
    count = 9000

    async def scenario() -> None:
        async with begun(redis_url, count) as stream:
            assert len(await stream.deliver("worker", count, 0)) == count
            odd, even = range(1, 400, 2), [*range(2, 400, 2), *range(400, count + 1)]
            assert await stream.apply("worker", odd, {SLICE: {"odd": len(odd)}}) == set()
            assert await stream.apply("worker", even, {SLICE: {"even": len(even)}}) == set()
            assert pending(redis_url) == 0
            assert await counted(redis_url) == {SLICE: {"odd": len(odd), "even": len(even)}}

    asyncio.run(scenario())


def test_only_entries_that_were_held_long_enough_are_taken_over(redis_url: str) -> None:
    async def scenario() -> None:
        async with begun(redis_url, 3) as stream:
            await stream.deliver("worker-1", 3, 0)
            assert await stream.claim("worker-2", 3_600_000, 10) == []
            assert await stream.claim("worker-2", 0, 2) == [StreamEntry(1, event(1), 2), StreamEntry(2, event(2), 2)]
            assert await stream.claim("worker-2", 0, 1) == [StreamEntry(1, event(1), 3)]
            assert await stream.claim("worker-1", 0, 10) == [
                StreamEntry(n, event(n), d) for n, d in ((1, 4), (2, 3), (3, 2))
            ]

    asyncio.run(scenario())


def test_an_entry_somebody_deleted_is_acknowledged_when_it_is_claimed(redis_url: str) -> None:
    """It can never be applied; left pending it would be claimed for ever and keep the stream from being trimmed."""

    async def scenario() -> None:
        async with begun(redis_url, 3) as stream:
            await stream.deliver("worker", 3, 0)
            ask_redis(redis_url, "XDEL", KEY, "2-0")
            assert numbers(await stream.claim("worker", 0, 10)) == [1, 3]
            assert pending(redis_url) == 2

    asyncio.run(scenario())


def test_a_buried_entry_is_kept_with_its_reason_and_no_longer_pending(redis_url: str) -> None:
    async def scenario() -> None:
        async with begun(redis_url, 2) as stream:
            poison, _ = await stream.deliver("worker", 2, 0)
            assert await stream.bury("another", poison, "not its own") is False
            assert await stream.bury("worker", poison, "not an event: é") is True
            assert await stream.bury("worker", poison, "not an event: é") is False
            assert pending(redis_url) == 1
            read = "return table.concat(redis.call('XRANGE', KEYS[1], '-', '+')[1][2], ' ')"
            told = 'event {"n":1} number 1 reason not an event: é'
            assert ask_redis(redis_url, "EVAL", read, "1", stream.dead_key) == told
            assert ask_redis(redis_url, "XLEN", stream.dead_key) == "1"
            assert await counted(redis_url) == {}

    asyncio.run(scenario())


def test_what_a_group_has_not_acknowledged_is_never_trimmed(redis_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stream_module, "KEPT_ENTRIES", 10)

    async def scenario() -> None:
        async with begun(redis_url, 100) as stream, beside(redis_url, "slow") as slow:
            await stream.deliver("worker", 100, 0)
            await stream.apply("worker", range(1, 91), {})
            assert await stream.trim() == 0
            await slow.deliver("reader", 60, 0)
            assert await stream.trim() == 0
            ask_redis(redis_url, "XACK", KEY, "slow", *(f"{n}-0" for n in range(1, 61) if n != 41))
            assert await stream.trim() == 30
            ask_redis(redis_url, "XACK", KEY, "slow", "41-0")
            assert await stream.trim() == 20
            await slow.deliver("reader", 100, 0)
            ask_redis(redis_url, "XACK", KEY, "slow", *(f"{n}-0" for n in range(61, 101)))
            assert await stream.trim() == 30
            await stream.apply("worker", range(91, 101), {})
            assert await stream.trim() == 10
            assert stored(redis_url) == 10
            assert await stream.trim() == 0

    asyncio.run(scenario())


def test_trimming_forgets_consumers_that_ended_long_ago_and_no_others(
    redis_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def scenario() -> None:
        async with begun(redis_url, 2) as stream:
            await stream.deliver("ended", 1, 0)
            await stream.apply("ended", [1], {})
            await stream.deliver("died", 1, 0)
            await stream.trim()
            assert _consumers(redis_url) == ["died", "ended"]
            monkeypatch.setattr(stream_module, "FORGET_CONSUMER_MS", -1)
            await stream.trim()
            assert _consumers(redis_url) == ["died"]

    asyncio.run(scenario())


def _consumers(url: str) -> list[str]:
    read = """
    local names = {}
    for _, each in ipairs(redis.call('XINFO', 'CONSUMERS', KEYS[1], ARGV[1])) do names[#names + 1] = each[2] end
    return table.concat(names, ' ')
    """
    return sorted((ask_redis(url, "EVAL", read, "1", KEY, GROUP) or "").split())


def test_the_lag_counts_what_waits_and_what_was_delivered_in_vain(redis_url: str) -> None:
    async def scenario() -> None:
        async with begun(redis_url, 10) as stream:
            assert await stream.lag() == Lag(10, 0, 0)
            await stream.deliver("worker", 7, 0)
            await stream.apply("worker", [1, 2, 3], {})
            ask_redis(redis_url, "XCLAIM", KEY, GROUP, "worker", "0", "4-0", "IDLE", "3600000")
            lag = await stream.lag()
            assert (lag.waiting, lag.pending) == (3, 4)
            assert lag.oldest_idle_ms >= 3_600_000

    asyncio.run(scenario())


def test_a_stream_that_was_wiped_is_lost_for_everyone_who_asks(redis_url: str) -> None:
    """Nobody makes it anew by the way: entries appended to a stream without its group would never be counted."""

    async def scenario() -> None:
        async with begun(redis_url, 3) as stream:
            (entry, *_) = await stream.deliver("worker", 2, 0)
            ask_redis(redis_url, "FLUSHDB")
            for call in (
                stream.append(3, entries_from(4, 1)),
                stream.deliver("worker", 1, 0),
                stream.deliver("worker", 1, 60_000),
                stream.claim("worker", 0, 10),
                stream.apply("worker", [1, 2], once([1, 2])),
                stream.bury("worker", entry, "reason"),
                stream.lag(),
            ):
                with pytest.raises(HotUnavailable, match="lost"):
                    await call
            assert await stream.trim() == 0
            assert await stream.state() is None
            assert ask_redis(redis_url, "DBSIZE") == "0"

    asyncio.run(scenario())
