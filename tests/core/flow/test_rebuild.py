"""A rebuild puts the ledger's counts in the place of what is there, names what differed, and may run at any time."""

import asyncio
from collections.abc import Awaitable, Callable
from datetime import timedelta
from typing import Any

import pytest

from pgw.core.breakers.breaker import Breaker, State
from pgw.core.errors import PgwError
from pgw.core.events import Corrects
from pgw.core.flow.metrics import rebuild as rebuilding
from pgw.core.flow.metrics.rebuild import Difference, Rebuilt, rebuild, restore_breakers
from pgw.core.hot.in_process import InProcessHotState
from pgw.core.ledger.breaker_history import TRANSITION, Transition, transition_write
from pgw.core.ledger.engine.ledger import OpenLedger
from pgw.core.ledger.outbox import numbering
from pgw.core.metrics.counters import slice_of
from pgw.core.ports import StoredBreaker
from tests.circle import Circle, circle, counted
from tests.doubles import LEDGER_ID, NOON, VirtualClock
from tests.events import POISON, attempted, put, some
from tests.ledgers import id_of, opened
from tests.services import ask_redis

SLICE = slice_of(NOON)
TOLD = ("TIMEOUT", "gateway", "TIMEOUT")


async def _rebuild(deps: Circle, **options: Any) -> Rebuilt:
    return await rebuild(deps.ledger, LEDGER_ID, deps.hot, deps.stream, deps.clock, **options)


async def _tamper(deps: Circle, changes: dict[str, int], number: int = SLICE) -> None:
    state = await deps.stream.state()
    assert state is not None
    for counter, amount in changes.items():
        field = f"g1\x1fUPI\x1fHDFC\x1f{counter}"
        ask_redis(deps.redis_url, "HINCRBY", f"{{pgw}}:metrics:{state.generation}:{number}", field, str(amount))


def _difference(counter: str, held: int, counted: int) -> Difference:
    cell = {"gateway_id": "g1", "payment_method": "UPI", "issuing_bank": "HDFC"}
    return Difference(slice=SLICE, counter=counter, held=held, counted=counted, **cell)


def test_a_sound_state_differs_in_nothing(database: str, redis_url: str) -> None:
    events = some(400)
    put(database, events)

    async def scenario() -> None:
        async with circle(database, redis_url) as deps:
            await deps.settled()
            found = await _rebuild(deps)
            assert (found.differing, found.differences, found.under_way, found.was_lost) == (0, (), 0, False)
            assert (found.events, found.base) == (400, 400)
            assert counted(events) == await deps.held()

    asyncio.run(scenario())


def test_every_counter_that_differs_is_named_and_put_right(database: str, redis_url: str) -> None:
    put(database, [attempted(n) for n in range(5)])

    async def scenario() -> None:
        async with circle(database, redis_url) as deps:
            await deps.settled()
            sound = await deps.held()
            await _tamper(deps, {"s:SUCCESS": 2, "e:GHOST": 1})
            found = await _rebuild(deps)
            assert [_difference("e:GHOST", 1, 0), _difference("s:SUCCESS", 7, 5)] == list(found.differences)
            assert sound == await deps.held()
            assert (await _rebuild(deps)).differing == 0

    asyncio.run(scenario())


def test_more_differences_than_anybody_reads_are_only_counted(
    database: str, redis_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rebuilding, "MAX_DIFFERENCES", 3)
    put(database, [attempted(1)])

    async def scenario() -> None:
        async with circle(database, redis_url) as deps:
            await deps.settled()
            await _tamper(deps, {f"e:E{n}": 1 for n in range(10)})
            found = await _rebuild(deps)
            assert (found.differing, len(found.differences)) == (10, 3)

    asyncio.run(scenario())


def test_events_on_their_way_are_told_as_such_and_counted_once(database: str, redis_url: str) -> None:
    """Not appended yet, not delivered, in a worker's hands: each is among the differences, none is counted again."""
    events = some(40)
    put(database, events[:30])

    async def scenario() -> None:
        async with circle(database, redis_url) as deps:
            await deps.relay().step()
            await deps.consumer()._take(await deps.stream.deliver("worker-1", 10, 0))
            in_hand = await deps.stream.deliver("worker-1", 5, 0)
            put(database, events[30:])
            await deps.relay()._number(await deps.ledger.read(numbering))
            found = await _rebuild(deps)
            assert (found.under_way, found.differing > 0) == (30, True)
            assert counted(events) == await deps.held()
            assert await deps.consumer()._take(in_hand) == 0
            await deps.settled()
            assert counted(events) == await deps.held()

    asyncio.run(scenario())


@pytest.mark.parametrize("anew", [False, True], ids=["counts", "counts and stream"])
def test_relay_and_consumers_at_work_lose_and_repeat_nothing(database: str, redis_url: str, anew: bool) -> None:
    events = some(600)

    async def scenario() -> None:
        async with circle(database, redis_url) as deps:
            relay = deps.relay()
            consumers = [deps.consumer(f"worker-{n}") for n in range(2)]

            async def work(step: Callable[[], Awaitable[int]]) -> None:
                while not done.is_set():
                    await step()
                    deps.clock.advance(0.3)
                    await asyncio.sleep(0)

            done = asyncio.Event()
            await relay.step()
            async with asyncio.TaskGroup() as group:
                for step in (relay.step, *(each.step for each in consumers)):
                    group.create_task(work(step))
                for start in range(0, 600, 30):
                    put(database, events[start : start + 30])
                    await _rebuild(deps, anew=anew)
                done.set()
            await deps.settled("worker-0", "worker-1")
            assert counted(events) == await deps.held()
            assert (await _rebuild(deps)).differing == 0

    asyncio.run(scenario())


def test_only_the_last_hour_is_counted_and_corrections_of_older_slices_are_left_out(
    database: str, redis_url: str
) -> None:
    late = attempted(3, NOON + timedelta(hours=3), type="payment.verified")
    found_out = attempted(5, NOON + timedelta(hours=3), type="payment.verified", corrects=Corrects(*TOLD, NOON))
    put(database, [*(attempted(n, NOON) for n in range(500)), found_out, POISON, late])

    async def scenario() -> None:
        async with circle(database, redis_url, VirtualClock(NOON + timedelta(hours=3, minutes=5))) as deps:
            await deps.relay()._number(await deps.ledger.read(numbering))
            found = await _rebuild(deps)
            assert found.was_lost
            assert counted([late]) == await deps.held()

    asyncio.run(scenario())


def test_who_lost_the_lead_stops_counting_and_switches_nothing(database: str, redis_url: str) -> None:
    put(database, some(10))

    async def lost() -> bool:
        return False

    async def scenario() -> None:
        async with circle(database, redis_url) as deps:
            await deps.relay()._number(await deps.ledger.read(numbering))
            with pytest.raises(PgwError, match="another process is the leader"):
                await _rebuild(deps, keep=lost)
            assert await deps.stream.state() is None

    asyncio.run(scenario())


async def _tell(ledger: OpenLedger, number: int, gateway_id: str, scope: Any, breaker: Breaker) -> None:
    transition = Transition(
        event_id=id_of(number),
        key=(gateway_id, "UPI"),
        scope=scope,
        process="p1",
        was=State.CLOSED,
        breaker=breaker,
        occurred_at=NOON,
    )
    assert await ledger.commit(TRANSITION, transition_write(transition))


OPEN = Breaker(state=State.OPEN, epoch=3, since=100.0, until=130.0, trips=1, cause="FAILURE_RATE")
PROBED = Breaker(state=State.HALF_OPEN, epoch=4, since=130.0, trips=1, cause="OPEN_TIME_PASSED")
LOCAL = Breaker(state=State.OPEN, epoch=9, cause="FAILURE_RATE")


def test_lost_breakers_are_put_back_as_they_last_stood(database: str, redis_url: str) -> None:
    """One that is there has seen more than the ledger; what a process did alone was never shared."""
    newer = Breaker(state=State.CLOSED, epoch=5)

    async def scenario() -> None:
        async with circle(database, redis_url) as deps:
            await _tell(deps.ledger, 1, "g1", "shared", OPEN)
            await _tell(deps.ledger, 2, "g1", "shared", PROBED)
            await _tell(deps.ledger, 3, "g2", "shared", OPEN)
            await _tell(deps.ledger, 4, "g3", "process", LOCAL)
            assert await deps.hot.swap_breaker(("g2", "UPI"), StoredBreaker(Breaker(), None), newer)
            assert (await _rebuild(deps)).breakers == 1
            keys = [(f"g{n}", "UPI") for n in (1, 2, 3)]
            _, present = await deps.hot.read_breakers(keys)
            assert [PROBED, newer, Breaker()] == [present[key].value for key in keys]
            assert (await _rebuild(deps)).breakers == 0

    asyncio.run(scenario())


def test_a_hot_state_in_process_gets_its_breakers_back_too(database: str) -> None:
    async def scenario() -> None:
        async with opened(database) as ledger:
            await _tell(ledger, 1, "g1", "shared", OPEN)
            hot = InProcessHotState(VirtualClock())
            assert await restore_breakers(ledger, hot) == 1
            _, present = await hot.read_breakers([("g1", "UPI")])
            assert present["g1", "UPI"].value == OPEN

    asyncio.run(scenario())
