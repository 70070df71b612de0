"""The stream has every event once and in the ledger's order, whatever dies, sleeps or is wiped between the two."""

import asyncio
import contextlib
import logging
from collections.abc import Sequence
from datetime import timedelta

import pytest

from pgw.core.errors import Code, PgwError
from pgw.core.flow.metrics.leader import SoleLeader
from pgw.core.flow.metrics.rebuild import rebuild
from pgw.core.flow.metrics.relay import ALARM_EVERY_S, APPENDED, MAX_ROUNDS, Relay
from pgw.core.hot.stream import Stream, StreamEntry
from pgw.core.ledger.outbox import DIE, REQUEUE, last_published, numbering
from pgw.core.ports import HotUnavailable
from tests.circle import Circle, circle, counted, restore, snapshot
from tests.core.hot.streams import stored
from tests.doubles import LEDGER_ID, NOON, VirtualClock
from tests.events import attempted, put, some
from tests.ledgers import opened
from tests.services import ask_redis
from tests.troubled import Trouble, Troubled


async def _delivered(deps: Circle) -> list[int]:
    """Read all that is on the stream in a group of one's own."""
    ask_redis(deps.redis_url, "XGROUP", "CREATE", "payments:events:v1", "all", "0")
    reader = Stream(deps.stream._server, "payments:events:v1", "all")
    found: list[StreamEntry] = await reader.deliver("reader", 100_000, 0)
    return [each.number for each in found]


def test_the_first_relay_begins_the_stream_where_the_ledger_is(database: str, redis_url: str) -> None:
    """What the ledger published before there was a Redis is in the counts and never on the stream."""
    events = some(50)
    put(database, events[:30])

    async def scenario() -> None:
        async with circle(database, redis_url) as deps:
            await Relay(deps.ledger, LEDGER_ID, SoleLeader(), deps.clock).step()
            put(database, events[30:])
            assert await deps.relay().step() == 20
            assert await _delivered(deps) == list(range(31, 51))
            await deps.settled()
            assert counted(events) == await deps.held()

    asyncio.run(scenario())


def test_what_was_numbered_and_not_appended_is_appended_by_the_next(database: str, redis_url: str) -> None:
    events = some(40)
    put(database, events)

    async def scenario() -> None:
        async with circle(database, redis_url) as deps:
            killed = deps.relay()
            await killed.step()
            put(database, events)
            assert await killed._number(await deps.ledger.read(numbering)) == 80
            assert stored(redis_url) == 40
            assert await deps.relay().step() == 40
            assert await _delivered(deps) == list(range(1, 81))

    asyncio.run(scenario())


class _Sleepy(Stream):
    """A stream whose relay falls asleep right before it appends, or before it begins anew."""

    def __init__(self, stream: Stream) -> None:
        super().__init__(stream._server, stream._key, stream._group)
        self.asleep = asyncio.Event()
        self.wake = asyncio.Event()

    async def append(self, after: int, entries: Sequence[tuple[int, bytes]]) -> int:
        self.asleep.set()
        await self.wake.wait()
        return await super().append(after, entries)


def test_a_relay_that_wakes_up_appends_nothing_that_is_there(database: str, redis_url: str) -> None:
    """Another led while it slept, and is far ahead; then the two relay by turns, which changes nothing either."""
    events = some(60)
    put(database, events[:10])

    async def scenario() -> None:
        async with circle(database, redis_url) as deps:
            await deps.relay().step()
            put(database, events[10:20])
            sleepy = _Sleepy(deps.stream)
            zombie, other = deps.relay(stream=sleepy), deps.relay()
            sleeping = asyncio.create_task(zombie.step())
            await sleepy.asleep.wait()
            assert await other.step() == 10
            put(database, events[20:40])
            assert await other.step() == 20
            sleepy.wake.set()
            assert await sleeping == 0
            put(database, events[40:])
            await asyncio.gather(zombie.step(), other.step(), zombie.step(), other.step())
            assert await _delivered(deps) == list(range(1, 61))
            await deps.settled()
            assert counted(events) == await deps.held()

    asyncio.run(scenario())


def test_a_relay_that_slept_through_a_wipe_leaves_no_gap(database: str, redis_url: str) -> None:
    events = some(40)
    put(database, events[:10])

    async def scenario() -> None:
        async with circle(database, redis_url) as deps:
            await deps.relay().step()
            put(database, events[10:20])
            sleepy = _Sleepy(deps.stream)
            sleeping = asyncio.create_task(deps.relay(stream=sleepy).step())
            await sleepy.asleep.wait()
            ask_redis(redis_url, "FLUSHDB")
            await deps.relay().step()
            put(database, events[20:])
            sleepy.wake.set()
            await sleeping
            assert stored(redis_url) == 0
            await deps.settled()
            assert counted(events) == await deps.held()

    asyncio.run(scenario())


def test_a_wiped_redis_is_healed_by_the_next_step(database: str, redis_url: str) -> None:
    """Wiped at every stage an event can be at; what is lost with it is in the ledger."""
    events = some(100)

    async def scenario() -> None:
        async with circle(database, redis_url) as deps:
            relay, consumer = deps.relay(), deps.consumer()
            for start in range(0, 100, 25):
                put(database, events[start : start + 25])
                await relay.step()
                await deps.stream.deliver("gone", 5, 0)
                await consumer.step()
                ask_redis(redis_url, "FLUSHALL")
                with pytest.raises(HotUnavailable, match="lost"):
                    await consumer.step()
            await relay.step()
            await consumer.step()
            assert counted(events) == await deps.held()

    asyncio.run(scenario())


def test_a_redis_restored_from_an_older_copy_catches_up(database: str, redis_url: str) -> None:
    """The copy has counts, pending entries and a stream of one time; all that came later is delivered again."""
    events = some(120)

    async def scenario() -> None:
        async with circle(database, redis_url) as deps:
            put(database, events[:50])
            await deps.relay().step()
            await deps.consumer()._take(await deps.stream.deliver("worker-1", 30, 0))
            put(database, events[50:80])
            await deps.relay().step()
            await deps.stream.deliver("worker-1", 10, 0)
            copy = await snapshot(redis_url)
            put(database, events[80:])
            await deps.settled()
            assert counted(events) == await deps.held()
            await restore(redis_url, copy)
            assert counted(events) != await deps.held()
            await deps.settled()
            assert counted(events) == await deps.held()
            assert await _delivered(deps) == list(range(1, 121))

    asyncio.run(scenario())


def test_what_was_given_up_and_told_again_is_not_counted_twice_after_a_restore(database: str, redis_url: str) -> None:
    """The older copy never had it: appended once more, the dead event is a number without a content."""
    events = some(30)

    async def scenario() -> None:
        async with circle(database, redis_url) as deps:
            await deps.relay().step()
            copy = await snapshot(redis_url)
            put(database, events)
            await deps.relay().step()
            assert await deps.ledger.commit(DIE, {"published": 7, "dead_reason": "given up"})
            assert await deps.ledger.commit(REQUEUE, {"published": 7})
            await restore(redis_url, copy)
            await deps.settled()
            assert counted(events) == await deps.held()
            assert await _delivered(deps) == list(range(1, 32))

    asyncio.run(scenario())


def test_a_stream_ahead_of_the_ledger_stops_the_relay_until_somebody_decides(
    database: str, redis_url: str, caplog: pytest.LogCaptureFixture
) -> None:
    """The ledger was restored from a backup: were it to go on numbering, it would one day pass the stream unnoticed."""
    put(database, some(10))

    async def scenario() -> None:
        async with circle(database, redis_url) as deps:
            await deps.relay().step()
            await deps.stream.append(10, [(n, b"{}") for n in range(11, 21)])
            put(database, some(5, seed=2))
            relay = deps.relay()
            for _ in range(3):
                assert await relay.step() == 0
            assert (stored(redis_url), await deps.ledger.read(last_published)) == (20, 10)
            assert [record.levelname for record in caplog.records] == ["WARNING", "CRITICAL"]
            assert "pgw rebuild --stream" in caplog.text
            deps.clock.advance(ALARM_EVERY_S)
            assert await relay.step() == 0
            assert len(caplog.records) == 3
            parts = (deps.ledger, LEDGER_ID, deps.hot, deps.stream, deps.clock)
            with pytest.raises(PgwError, match="--stream") as refusal:
                await rebuild(*parts)
            assert refusal.value.code is Code.CONFLICT
            await rebuild(*parts, anew=True)
            assert await relay.step() == 5
            await deps.settled()
            assert counted([*some(10), *some(5, seed=2)]) == await deps.held()
            assert await _delivered(deps) == list(range(11, 16))

    with caplog.at_level(logging.WARNING):
        asyncio.run(scenario())


def test_a_stream_of_another_ledger_is_begun_anew(database: str, redis_url: str) -> None:
    events = some(10)
    put(database, events)

    async def scenario() -> None:
        async with circle(database, redis_url) as deps:
            await deps.stream.reset("another ledger", 400, {7: {"g1\x1fUPI\x1fHDFC\x1fs:SUCCESS": 3}})
            await deps.stream.append(400, [(401, b"{}")])
            await deps.settled()
            assert counted(events) == await deps.held()
            state = await deps.stream.state()
            assert state is not None
            assert (state.ledger_id, state.base, state.top) == (LEDGER_ID, 0, 10)

    asyncio.run(scenario())


@pytest.mark.parametrize("trouble", [Trouble.AWAY, Trouble.UNSEEN, Trouble.TWICE, Trouble.REFUSED])
def test_whatever_befalls_the_numbering_the_next_step_goes_on(database: str, redis_url: str, trouble: Trouble) -> None:
    events = some(30)
    put(database, events)

    async def scenario() -> None:
        async with circle(database, redis_url) as deps:
            troubled = Troubled(deps.ledger)
            troubled.trouble["publish"] = trouble
            relay = deps.relay(ledger=troubled)
            if trouble is Trouble.TWICE:
                assert await relay.step() == 30
            else:
                with pytest.raises(PgwError):
                    await relay.step()
            await deps.settled()
            assert await _delivered(deps) == list(range(1, 31))
            assert counted(events) == await deps.held()

    asyncio.run(scenario())


@pytest.mark.parametrize("trouble", [Trouble.AWAY, Trouble.UNSEEN])
def test_numbering_that_fails_beside_an_append_leaves_the_append_whole(
    database: str, redis_url: str, trouble: Trouble
) -> None:
    """What was numbered before is on the stream, the fault is raised, and nothing of the step runs on behind it."""
    events = some(APPENDED + 100)
    put(database, events)

    async def scenario() -> None:
        async with circle(database, redis_url) as deps:
            troubled = Troubled(deps.ledger)
            troubled.after["publish"] = lambda: troubled.trouble.update({"publish": trouble})
            with pytest.raises(PgwError):
                await deps.relay(ledger=troubled).step()
            assert stored(redis_url) == APPENDED
            await deps.settled()
            assert await _delivered(deps) == list(range(1, APPENDED + 101))
            assert counted(events) == await deps.held()

    asyncio.run(scenario())


def test_the_last_number_is_known_to_who_leads_and_to_nobody_else(database: str) -> None:
    """Whoever takes it for the end of what there is must not take an old one."""

    class Elected(SoleLeader):
        leads = True

        async def hold(self) -> bool:
            return self.leads

    put(database, some(5))

    async def scenario() -> None:
        async with opened(database) as ledger:
            leader, troubled = Elected(), Troubled(ledger)
            relay = Relay(troubled, LEDGER_ID, leader, VirtualClock())
            known = [relay.last]
            for leads, trouble in ((True, None), (False, None), (True, Trouble.UNSEEN), (True, None)):
                leader.leads = leads
                if trouble is not None:
                    put(database, some(3))
                    troubled.trouble["publish"] = trouble
                with contextlib.suppress(PgwError):
                    await relay.step()
                known.append(relay.last)
            assert known == [None, 5, None, None, 8]

    asyncio.run(scenario())


def test_without_redis_nothing_is_numbered_and_nothing_is_lost(database: str, redis_url: str) -> None:
    events = some(20)
    put(database, events)

    async def scenario() -> None:
        async with circle(database, "redis://127.0.0.1:1/0") as away:
            with pytest.raises(HotUnavailable):
                await away.relay().step()
        async with circle(database, redis_url) as deps:
            await deps.settled()
            assert counted(events) == await deps.held()

    asyncio.run(scenario())


def test_a_relay_that_was_away_catches_up_in_bounded_steps(database: str, redis_url: str) -> None:
    waiting = MAX_ROUNDS * APPENDED + 100
    put(database, (attempted(n, NOON + timedelta(seconds=n % 600)) for n in range(waiting)))

    async def scenario() -> None:
        async with circle(database, redis_url, VirtualClock(NOON + timedelta(minutes=11))) as deps:
            relay = deps.relay()
            assert await relay.step() == MAX_ROUNDS * APPENDED
            assert await relay.step() == 100
            assert await relay.step() == 0
            assert stored(redis_url) == waiting

    asyncio.run(scenario())


def test_who_does_not_lead_does_nothing(database: str, redis_url: str) -> None:
    class Follower(SoleLeader):
        async def hold(self) -> bool:
            return False

    put(database, some(5))

    async def scenario() -> None:
        async with circle(database, redis_url) as deps:
            relay = Relay(deps.ledger, LEDGER_ID, Follower(), deps.clock, (deps.hot, deps.stream))
            assert await relay.step() == 0
            assert not relay.is_leader
            assert await deps.stream.state() is None

    asyncio.run(scenario())
