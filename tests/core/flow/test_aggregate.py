"""Events are counted once each, off the stream or out of the ledger; one that cannot be harms no other."""

import asyncio
import contextlib
from collections.abc import Callable, Iterable
from datetime import timedelta

import msgspec
import pytest

from pgw.core.errors import PgwError
from pgw.core.events import Corrects, Event
from pgw.core.flow.metrics.consume import MAX_BANKS, MAX_DELIVERIES, OTHER, Counter, Tail, horizon
from pgw.core.flow.metrics.leader import SoleLeader
from pgw.core.flow.metrics.relay import Relay
from pgw.core.hot.in_process import InProcessHotState
from pgw.core.hot.stream import Lag
from pgw.core.ledger.outbox import NOTHING, REQUEUE, dead
from pgw.core.metrics.counters import Increments, fold, parse_field, slice_of
from pgw.core.ports import Ledger
from tests.circle import circle, counted, held, plain
from tests.core.hot.streams import pending
from tests.doubles import LEDGER_ID, NOON, VirtualClock
from tests.events import POISON, attempted, put, some
from tests.faults.proof import violations
from tests.ledgers import opened
from tests.services import ask_redis
from tests.troubled import Trouble, Troubled

LATER = NOON + timedelta(minutes=11)


def _raw(events: Iterable[Event]) -> list[tuple[int, bytes]]:
    return [(number, msgspec.json.encode(event)) for number, event in enumerate(events, start=1)]


def _moody(events: Iterable[Event]) -> Increments:
    """Fold, but choke on one gateway's events."""
    known = list(events)
    if any(event.gateway_id == "choke" for event in known):
        raise ArithmeticError("cannot fold")
    return fold(known)


def test_a_batch_is_what_its_events_come_to() -> None:
    events = some(300)
    batch = Counter().count(_raw(events))
    assert counted(events) == plain(batch.increments)
    assert (list(range(1, 301)), {}) == (batch.numbers, batch.poison)


@pytest.mark.parametrize(
    ("document", "reason"),
    [
        (b"", "DecodeError"),
        (b"{", "DecodeError"),
        (b"[]", "ValidationError"),
        (b'{"event_id": "\xff"}', ("DecodeError", "UnicodeDecodeError")),
        (b'{"x":' * 100_000, "RecursionError"),
        (msgspec.json.encode(attempted(1)).replace(b"12:00:00Z", b"12:00:00"), "TypeError"),
        (msgspec.json.encode(POISON), "ValidationError"),
        (msgspec.json.encode(attempted(1, gateway_id="a\x1fb")), "ValueError"),
        (msgspec.json.encode(attempted(1, gateway_id="choke")), "ArithmeticError"),
    ],
    ids=["nothing", "torn", "no object", "no text", "too deep", "no zone", "no event", "no name", "no fold"],
)
def test_what_cannot_be_counted_is_named_and_spoils_nothing(document: bytes, reason: str | tuple[str, ...]) -> None:
    """Invalid UTF-8 has a name of its own with msgspec before 0.23."""
    events = some(20)
    rows = [*_raw(events[:10]), (50, document), (51, NOTHING), *((n + 60, raw) for n, raw in _raw(events[10:]))]
    batch = Counter(_moody).count(rows)
    assert list(batch.poison) == [50]
    assert batch.poison[50].startswith(reason)
    assert [number for number, _ in rows if number != 50] == list(batch.numbers)
    assert counted(events) == plain(batch.increments)


def test_banks_beyond_the_bound_count_together() -> None:
    """A handle is free text: who pays could else fill every process's memory."""
    events = [attempted(n, issuing_bank=f"BANK{n}") for n in range(MAX_BANKS + 50)]
    counter = Counter()
    first = counter.count(_raw(events))
    banks = {parse_field(field)[0][2] for field in first.increments[slice_of(NOON)]}
    assert {f"BANK{n}" for n in range(MAX_BANKS)} | {OTHER} == banks
    again = counter.count(_raw([attempted(1, issuing_bank="BANK7"), attempted(1, issuing_bank="BANK600")]))
    assert {"BANK7", OTHER} == {parse_field(field)[0][2] for field in again.increments[slice_of(NOON)]}


def test_counting_anew_begins_with_a_whole_minute_an_hour_back() -> None:
    first, read_from = horizon(NOON + timedelta(seconds=125))
    assert slice_of(NOON - timedelta(minutes=58)) == first
    assert NOON - timedelta(minutes=60) == read_from


async def _published(ledger: Ledger) -> None:
    await Relay(ledger, LEDGER_ID, SoleLeader(), VirtualClock()).step()


def test_the_tail_counts_all_that_is_published_and_nothing_twice(database: str) -> None:
    events = some(700)

    async def scenario() -> None:
        clock = VirtualClock(LATER)
        hot = InProcessHotState(clock)
        async with opened(database) as ledger:
            tail = Tail(ledger, hot, clock)
            assert await tail.step() == 0
            assert tail.caught_up
            for start in range(0, 700, 100):
                put(database, events[start : start + 100])
                assert await tail.step() == 0
                await _published(ledger)
                assert await tail.step() == 100
                assert counted(events[: start + 100]) == await held(hot)
            fresh = InProcessHotState(clock)
            assert await Tail(ledger, fresh, clock).step() == 700
            assert counted(events) == await held(fresh)

    asyncio.run(scenario())


def test_a_tail_that_is_behind_says_so(database: str) -> None:
    put(database, some(6000))

    async def scenario() -> None:
        clock = VirtualClock(LATER)
        async with opened(database) as ledger:
            for _ in range(6):
                await _published(ledger)
            tail = Tail(ledger, InProcessHotState(clock), clock)
            assert not tail.caught_up
            assert await tail.step() == 5000
            assert not tail.caught_up
            assert await tail.step() == 1000
            assert tail.caught_up

    asyncio.run(scenario())


def test_a_tail_that_is_told_of_nothing_new_reads_nothing(database: str) -> None:
    put(database, some(20))

    async def scenario() -> None:
        clock = VirtualClock(LATER)
        async with opened(database) as ledger:
            relay, troubled = Relay(ledger, LEDGER_ID, SoleLeader(), clock), Troubled(ledger)
            tail = Tail(troubled, InProcessHotState(clock), clock, last=lambda: relay.last)
            await relay.step()
            assert await tail.step() == 20
            troubled.unreadable = True
            assert await tail.step() == 0
            assert tail.caught_up
            put(database, some(5))
            assert await relay.step() == 5
            with pytest.raises(PgwError):
                await tail.step()
            troubled.unreadable = False
            assert await tail.step() == 5

    asyncio.run(scenario())


def test_the_tail_begins_an_hour_back_and_corrects_no_slice_it_has_not_counted(database: str) -> None:
    clock = VirtualClock(NOON + timedelta(hours=3))
    old, young = NOON, NOON + timedelta(hours=2, minutes=30)
    found_out = attempted(9, young, type="payment.verified", corrects=Corrects("TIMEOUT", "gateway", "TIMEOUT", old))
    put(database, [*(attempted(n, old) for n in range(600)), *(attempted(n, young) for n in range(5)), found_out])

    async def scenario() -> None:
        async with opened(database) as ledger:
            await _published(ledger)
            hot = InProcessHotState(clock)
            assert await Tail(ledger, hot, clock).step() <= 6 + 256
            assert counted(attempted(n, young) for n in range(5)) == await held(hot)

    asyncio.run(scenario())


def test_the_tail_gives_an_event_up_after_five_tries_while_the_others_flow(database: str) -> None:
    events = some(40)
    put(database, [*events[:10], POISON, *events[10:20]])

    async def scenario() -> None:
        clock = VirtualClock(LATER)
        hot = InProcessHotState(clock)
        async with opened(database) as ledger:
            tail = Tail(ledger, hot, clock)
            await _published(ledger)
            for tried in range(1, MAX_DELIVERIES + 1):
                assert await ledger.read(dead) == []
                assert await tail.step() == (20 if tried == 1 else 0)
                assert counted(events[:20]) == await held(hot)
            assert [each.published for each in await ledger.read(dead)] == [11]
            put(database, events[20:])
            await _published(ledger)
            assert await tail.step() == 20
            assert counted(events) == await held(hot)

    asyncio.run(scenario())


def test_a_ledger_that_fails_in_the_middle_makes_the_tail_count_nothing_twice(database: str) -> None:
    events = some(30)
    put(database, [*events[:10], POISON, *events[10:]])

    async def scenario() -> None:
        clock = VirtualClock(LATER)
        hot = InProcessHotState(clock)
        async with opened(database) as ledger:
            await _published(ledger)
            troubled = Troubled(ledger)
            tail = Tail(troubled, hot, clock)
            for trouble in (None, None, None, None, Trouble.AWAY, Trouble.UNSEEN, None):
                if trouble is not None:
                    troubled.trouble["die"] = trouble
                with contextlib.suppress(PgwError):
                    await tail.step()
                assert counted(events) == await held(hot)
            assert [each.published for each in await ledger.read(dead)] == [11]
            troubled.unreadable = True
            with pytest.raises(PgwError):
                await tail.step()

    asyncio.run(scenario())


def test_consumers_share_the_work_and_count_each_event_once(database: str, redis_url: str) -> None:
    events = some(1200)
    put(database, events)

    async def scenario() -> None:
        async with circle(database, redis_url, VirtualClock(NOON - timedelta(hours=2))) as deps:
            await deps.relay().step()
            consumers = [deps.consumer(f"worker-{n}") for n in range(3)]
            counts = await asyncio.gather(*(each.step() for each in consumers))
            assert sum(counts) >= 1200
            await deps.settled("worker-0", "worker-1", "worker-2")
            assert counted(events) == await deps.held()
            assert await deps.stream.lag() == Lag(0, 0, 0)

    asyncio.run(scenario())


def test_a_consumer_that_waits_counts_what_comes(database: str, redis_url: str) -> None:
    events = some(30)

    async def scenario() -> None:
        async with circle(database, redis_url) as deps:
            await deps.relay().step()
            waiting = asyncio.create_task(deps.consumer().step(wait_ms=30_000))
            put(database, events)
            assert await deps.relay().step() == 30
            assert await waiting == 30
            assert counted(events) == await deps.held()
            assert await deps.consumer().step(wait_ms=1) == 0

    asyncio.run(scenario())


def test_what_a_dead_consumer_held_is_counted_by_another_once(database: str, redis_url: str) -> None:
    """Dead before its count was in, or right after: its entries are pending, or they are not."""
    events = some(30)
    put(database, events)

    async def scenario() -> None:
        async with circle(database, redis_url) as deps:
            await deps.relay().step()
            taken = await deps.stream.deliver("dead-1", 10, 0)
            batch = Counter().count((each.number, each.event) for each in taken)
            assert await deps.stream.apply("dead-1", batch.numbers, batch.increments) == frozenset()
            assert len(await deps.stream.deliver("dead-2", 10, 0)) == 10
            assert pending(redis_url) == 10
            assert await deps.consumer().step() == 20
            assert counted(events) == await deps.held()
            assert pending(redis_url) == 0

    asyncio.run(scenario())


def test_a_consumer_that_slept_counts_nothing_that_another_took(database: str, redis_url: str) -> None:
    """It wakes up with ten entries in hand, of which another has counted some; it counts the rest."""
    events = some(10)
    put(database, events)

    async def scenario() -> None:
        async with circle(database, redis_url) as deps:
            await deps.relay().step()
            sleeper = deps.consumer("sleeper")
            in_hand = await deps.stream.deliver("sleeper", 10, 0)
            taken = await deps.stream.claim("another", 0, 4)
            batch = Counter().count((each.number, each.event) for each in taken)
            assert await deps.stream.apply("another", batch.numbers, batch.increments) == frozenset()
            assert await sleeper._take(in_hand) == 6
            assert counted(events) == await deps.held()
            assert await sleeper._take(in_hand) == 0
            assert counted(events) == await deps.held()

    asyncio.run(scenario())


def test_poison_is_dead_after_five_deliveries_while_the_rest_flows(
    database: str, redis_url: str, saw: Callable[..., None]
) -> None:
    events = some(60)
    put(database, [*events[:20], POISON, *events[20:40]])

    async def scenario() -> None:
        async with circle(database, redis_url) as deps:
            consumer = deps.consumer()
            await deps.relay().step()
            for delivery in range(1, MAX_DELIVERIES + 1):
                assert await deps.ledger.read(dead) == []
                assert await consumer.step() == (40 if delivery == 1 else 0)
                assert counted(events[:40]) == await deps.held()
                deps.clock.advance(1)
            (found,) = await deps.ledger.read(dead)
            assert (found.published, found.reason[:15]) == (21, "ValidationError")
            assert ask_redis(redis_url, "XLEN", deps.stream.dead_key) == "1"
            assert pending(redis_url) == 0
            put(database, events[40:])
            await deps.settled()
            assert counted(events) == await deps.held()
            lag, buried = await deps.stream.lag(), ask_redis(redis_url, "XLEN", deps.stream.dead_key)
            said = (
                f"dead after {MAX_DELIVERIES} tries, {buried} put aside; {len(events)} others counted,"
                f" {lag.waiting + lag.pending} waiting; {len(violations(database))} violations"
            )
            saw(24, said)

    asyncio.run(scenario())


def test_a_burial_waits_for_the_ledger(database: str, redis_url: str) -> None:
    """Dead in the stream and unmarked in the ledger, an event would be lost."""
    put(database, [POISON])

    async def scenario() -> None:
        async with circle(database, redis_url) as deps:
            troubled = Troubled(deps.ledger)
            consumer = deps.consumer(ledger=troubled)
            await deps.relay().step()
            for _ in range(MAX_DELIVERIES - 1):
                await consumer.step()
                deps.clock.advance(1)
            troubled.trouble["die"] = Trouble.AWAY
            with pytest.raises(PgwError):
                await consumer.step()
            assert pending(redis_url) == 1
            deps.clock.advance(1)
            await consumer.step()
            assert pending(redis_url) == 0
            assert len(await deps.ledger.read(dead)) == 1

    asyncio.run(scenario())


def test_a_requeued_event_is_counted_once_its_fault_is_mended(database: str, redis_url: str) -> None:
    """As after an upgrade: the old program choked on it, the new one does not, and a rebuild agrees with both."""
    events = [*some(5), attempted(6, gateway_id="choke"), *some(3, seed=7)]
    put(database, events)

    async def scenario() -> None:
        async with circle(database, redis_url) as deps:
            old = deps.consumer(counter=Counter(_moody))
            await deps.relay().step()
            for _ in range(MAX_DELIVERIES):
                await old.step()
                deps.clock.advance(1)
            assert await deps.ledger.commit(REQUEUE, {"published": 6}) is True
            await deps.settled()
            assert counted(events) == await deps.held()
            ask_redis(redis_url, "FLUSHDB")
            await deps.settled()
            assert counted(events) == await deps.held()

    asyncio.run(scenario())


def test_tail_consumer_and_recount_agree(database: str, redis_url: str) -> None:
    events = some(900, NOON - timedelta(minutes=20))
    put(database, [*events[:300], POISON, *events[300:]])

    async def scenario() -> None:
        async with circle(database, redis_url) as deps:
            await deps.settled("worker-1", "worker-2")
            alone = InProcessHotState(deps.clock)
            await Tail(deps.ledger, alone, deps.clock).step()
            by_consumers = await deps.held()
            ask_redis(redis_url, "FLUSHDB")
            await deps.relay().step()
            recounted = await deps.held()
            assert counted(events) == by_consumers == await held(alone) == recounted

    asyncio.run(scenario())
