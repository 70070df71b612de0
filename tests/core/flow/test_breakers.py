"""Each process leaves a failing gateway at once, all by agreement, and they probe it together within a budget."""

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable, Coroutine, Mapping
from datetime import datetime, timedelta
from random import Random
from typing import Any

import pytest

from pgw.core.breakers.admission import Admission
from pgw.core.breakers.breaker import Breaker, CallOutcome, Permit, State, TransitionCause
from pgw.core.breakers.override import Override
from pgw.core.breakers.transition import HEALTHY_AFTER, MOST_PROBES
from pgw.core.breakers.window import NO_CALLS
from pgw.core.flow.breakers import transition_log
from pgw.core.flow.breakers.circuit import MAX_SWAPS
from pgw.core.flow.breakers.local_and_shared import MAX_REPORTS, VOTE_EVERY_S
from pgw.core.ledger.breaker_history import TRANSITION
from pgw.core.ledger.engine.phase import Phase
from pgw.core.ledger.engine.writer import LedgerUnavailable, WriteRefused
from tests.core.flow.fleet import KEY, LEASE_S, Fleet, Process
from tests.doubles import NOON

GOOD, FAILED, NOT_SENT, NOTHING = CallOutcome.GOOD, CallOutcome.FAILED, CallOutcome.NOT_SENT, CallOutcome.NOTHING
OPEN_S = 36.0
"""Longer than the first open time, jitter included."""


def run(scenario: Coroutine[Any, Any, None]) -> None:
    asyncio.run(scenario)


def states(fleet: Fleet) -> list[State]:
    return [each.standing().state for each in fleet.processes]


def forced_open(until: datetime, version: int = 7) -> Override:
    return Override(
        gateway_id=KEY[0],
        payment_method=KEY[1],
        state=State.FORCED_OPEN,
        reason="INC-1",
        actor="ops",
        forced_at=NOON,
        expires_at=until,
        version=version,
    )


async def opened(processes: int = 1, *, shared: bool = True) -> Fleet:
    """Bring a fleet to the end of its first open time."""
    fleet = Fleet(processes, shared=shared)
    for each in fleet.processes:
        await each.call(*[NOT_SENT] * 5)
    await fleet.step()
    assert set(states(fleet)) == {State.OPEN}
    fleet.advance(OPEN_S)
    assert set(states(fleet)) == {State.HALF_OPEN}
    return fleet


def test_a_trip_holds_from_the_next_decision_on() -> None:
    async def scenario() -> None:
        (process,) = Fleet(shared=False).processes
        await process.call(GOOD, *[NOT_SENT] * 4)
        assert (process.standing().state, process.changes) == (State.CLOSED, 0)
        process.clock.advance(1.0)
        await process.call(NOT_SENT)
        assert (process.standing().state, process.changes) == (State.OPEN, 1)
        assert await process.admit() is None
        view = process.view
        assert (view.cause, view.epoch, view.closed_at) == (TransitionCause.NOT_SENT_IN_A_ROW, 1, None)
        assert (view.since, view.incident) == (NOON + timedelta(seconds=1), (NOON, None))
        assert view.until is not None
        assert 24.0 <= (view.until - view.since).total_seconds() <= OPEN_S

    run(scenario())


def test_a_gateway_nobody_left_has_no_view() -> None:
    async def scenario() -> None:
        fleet = Fleet()
        await fleet.processes[0].call(*[GOOD] * 100)
        await fleet.step()
        assert fleet.processes[0].breakers.views() == {}

    run(scenario())


def test_alone_it_is_probed_by_three_and_comes_back_with_a_slow_start() -> None:
    async def scenario() -> None:
        fleet = await opened(shared=False)
        (process,) = fleet.processes
        probes = [await process.admit() for _ in range(4)]
        assert [each is not None for each in probes] == [True, True, True, False]
        assert process.breakers.in_flight() == {KEY: 3}
        for probe, shown in zip(probes[:3], ("1/3", "2/3", None), strict=True):
            assert probe is not None
            process.breakers.record(probe, GOOD, 20)
            assert process.view.probes == shown
        assert process.breakers.in_flight() == {}
        now = process.clock.now()
        assert (process.view.closed_at, process.view.incident) == (now, (NOON, now))
        assert process.standing() == Admission(State.CLOSED, 0.1)
        fleet.advance(20.0)
        assert process.standing() == Admission(State.CLOSED, 1.0)
        assert (fleet.store.reads, fleet.store.swaps) == (0, 0)

    run(scenario())


def test_what_was_called_before_a_move_says_nothing_after_it() -> None:
    async def scenario() -> None:
        fleet = Fleet(shared=False)
        (process,) = fleet.processes
        early = [await process.admit() for _ in range(30)]
        await process.call(*[FAILED] * 10)
        assert process.standing().state is State.OPEN
        fleet.advance(OPEN_S)
        await process.probe(*[GOOD] * 3)
        for admission in early:
            assert admission is not None
            process.breakers.record(admission, FAILED, 20)
        assert process.standing().state is State.CLOSED
        assert process.breakers.local_figures(KEY) == NO_CALLS
        assert process.breakers.in_flight() == {}

    run(scenario())


def test_a_call_in_spite_of_an_open_breaker_moves_nothing() -> None:
    """It was made in panic, without leave."""

    async def scenario() -> None:
        (process,) = Fleet(shared=False).processes
        for _ in range(100):
            process.breakers.record(Permit(KEY, State.OPEN, -1), FAILED, 20)
        assert process.breakers.views() == {}
        assert process.breakers.in_flight() == {}
        assert process.breakers.local_figures(KEY) == NO_CALLS

    run(scenario())


def test_a_forced_closed_breaker_is_called_and_still_judged() -> None:
    async def scenario() -> None:
        (process,) = Fleet(shared=False).processes
        for _ in range(10):
            admission = await process.breakers.admit(KEY, Admission(State.FORCED_CLOSED), LEASE_S)
            assert admission is not None
            assert admission.state is State.FORCED_CLOSED
            process.breakers.record(admission, FAILED, 20)
        assert process.view.state is State.OPEN
        assert await process.breakers.admit(KEY, Admission(State.FORCED_CLOSED), LEASE_S) is not None
        assert await process.breakers.admit(KEY, Admission(State.FORCED_OPEN), LEASE_S) is None

    run(scenario())


def test_forced_calls_do_not_make_one_process_leave_what_all_have_left() -> None:
    async def scenario() -> None:
        fleet = await opened(2)
        process = fleet.processes[0]
        before = len(process.breakers.transition_log.transitions)
        for _ in range(20):
            admission = await process.breakers.admit(KEY, Admission(State.FORCED_CLOSED), LEASE_S)
            assert admission is not None
            process.breakers.record(admission, FAILED, 20)
        await fleet.step()
        assert len(process.breakers.transition_log.transitions) == before
        assert process.breakers.local_figures(KEY).failures_in_a_row == 20

    run(scenario())


def test_one_bad_worker_of_three_leaves_alone_and_comes_back_by_its_own_probes() -> None:
    async def scenario() -> None:
        fleet = Fleet(3)
        bad, *well = fleet.processes
        for each in well:
            await each.call(*[GOOD] * 5)
        await fleet.step()
        await bad.call(*[NOT_SENT] * 5)
        await fleet.step()
        assert states(fleet) == [State.OPEN, State.CLOSED, State.CLOSED]
        assert (await fleet.store.value()).callers["w0"].trips is True
        fleet.advance(OPEN_S)
        reads = fleet.store.reads
        await bad.probe(*[GOOD] * 3)
        assert fleet.store.reads == reads
        assert bad.view.closed_at == bad.clock.now()
        await fleet.step()
        assert states(fleet) == [State.CLOSED] * 3
        assert (await fleet.store.value()).callers["w0"].trips is False
        assert {each.scope for each in bad.breakers.transition_log.transitions} == {"process"}
        assert [len(each.breakers.transition_log.transitions) for each in fleet.processes] == [3, 0, 0]

    run(scenario())


def test_half_of_the_callers_open_it_for_all() -> None:
    async def scenario() -> None:
        fleet = Fleet(3)
        for each in fleet.processes:
            await each.call(GOOD)
        await fleet.step()
        for each in fleet.processes[:2]:
            await each.call(*[NOT_SENT] * 5)
        await fleet.step()
        assert states(fleet) == [State.OPEN] * 3
        stored = await fleet.store.value()
        assert (stored.state, stored.epoch, stored.incident_from) == (State.OPEN, 1, NOON.timestamp())
        for hours, each in enumerate(fleet.processes):
            assert each.view.since == NOON + timedelta(hours=hours)
            assert each.view.incident == (NOON + timedelta(hours=hours), None)

    run(scenario())


def test_nothing_is_written_while_nothing_is_new() -> None:
    async def scenario() -> None:
        fleet = Fleet(2)
        await fleet.step()
        assert fleet.store.swaps == 0
        for each in fleet.processes:
            await each.call(GOOD)
        await fleet.step()
        assert fleet.store.swaps == 2
        for _ in range(5):
            fleet.advance(VOTE_EVERY_S - 9.0)
            await fleet.processes[0].call(GOOD, FAILED, NOTHING)
            await fleet.step()
        assert fleet.store.swaps == 2
        fleet.advance(5.0)
        await fleet.processes[1].call(NOTHING)
        await fleet.step()
        # A process that still calls repeats its vote; one that saw only faults of others has none.
        assert fleet.store.swaps == 3
        assert [each.changes for each in fleet.processes] == [0, 0]

    run(scenario())


def test_a_stampede_at_the_half_open_instant_lets_three_through() -> None:
    """Four processes of 25 calls each; the peers let 4 to 100 of 100 through."""

    async def scenario() -> None:
        fleet = await opened(4)
        admissions = await asyncio.gather(*(each.admit() for each in fleet.processes for _ in range(25)))
        admitted = [each for each in admissions if each is not None]
        assert len(admitted) == 3
        assert {(each.state, each.epoch) for each in admitted} == {(State.HALF_OPEN, 2)}
        assert len({each.lease_id for each in admitted}) == 3
        assert (await fleet.store.value()).probes_given == 3

    run(scenario())


def test_callers_who_wait_for_a_probe_do_not_each_ask_the_store() -> None:
    async def scenario() -> None:
        fleet = await opened()
        reads = fleet.store.reads
        admissions = await asyncio.gather(*(fleet.processes[0].admit() for _ in range(25)))
        assert sum(each is not None for each in admissions) == 3
        assert fleet.store.reads - reads == 3

    run(scenario())


def test_a_dead_prober_frees_its_lease() -> None:
    async def scenario() -> None:
        fleet = await opened(2)
        dying, other = fleet.processes
        assert all([await dying.admit() for _ in range(3)])
        await fleet.step()
        assert await other.admit() is None
        fleet.advance(LEASE_S)
        assert await other.admit() is not None

    run(scenario())


def test_who_loses_every_swap_is_denied() -> None:
    async def scenario() -> None:
        fleet = await opened()
        fleet.store.is_contended = True
        swaps = fleet.store.swaps
        assert await fleet.processes[0].admit() is None
        assert fleet.store.swaps - swaps == MAX_SWAPS
        assert fleet.processes[0].breakers.in_flight() == {}
        fleet.store.is_contended = False
        assert await fleet.processes[0].admit() is not None

    run(scenario())


def test_good_probes_of_several_processes_close_it_for_all() -> None:
    async def scenario() -> None:
        fleet = await opened(3)
        for each in fleet.processes:
            await each.probe(GOOD)
        assert (await fleet.store.value()).state is State.HALF_OPEN
        await fleet.step()
        assert states(fleet) == [State.CLOSED] * 3
        for hours, each in enumerate(fleet.processes):
            closed_at = NOON + timedelta(hours=hours, seconds=OPEN_S)
            assert (each.view.closed_at, each.view.cause) == (closed_at, TransitionCause.PROBES_PASSED)
            assert each.view.incident == (NOON + timedelta(hours=hours), closed_at)
            assert each.standing().share == pytest.approx(0.1)

    run(scenario())


def test_failed_probes_open_it_again_for_all() -> None:
    async def scenario() -> None:
        fleet = await opened(2)
        await fleet.processes[0].probe(GOOD, FAILED)
        await fleet.processes[1].probe(NOT_SENT)
        await fleet.step()
        assert [each.view.probes for each in fleet.processes] == ["1/8", "1/8"]
        await fleet.processes[0].probe(FAILED)
        await fleet.step()
        assert states(fleet) == [State.OPEN] * 2
        assert fleet.processes[1].view.cause == TransitionCause.PROBES_FAILED

    run(scenario())


def test_the_failures_that_opened_it_do_not_open_it_again() -> None:
    """Windows are those of one epoch: whatever moved the breaker has been spent."""

    async def scenario() -> None:
        fleet = Fleet(3)
        for each in fleet.processes:
            await each.call(*[FAILED] * 9)
        for each in fleet.processes[:2]:
            await each.call(FAILED)
        await fleet.step()
        fleet.advance(OPEN_S)
        await fleet.processes[0].probe(*[GOOD] * 3)
        await fleet.step()
        for each in fleet.processes:
            await each.call(*[FAILED] * 9)
        await fleet.step()
        assert states(fleet) == [State.CLOSED] * 3

    run(scenario())


def test_twenty_good_calls_in_the_fleet_make_the_next_opening_short_again() -> None:
    async def scenario() -> None:
        fleet = await opened(2)
        await fleet.processes[0].probe(*[GOOD] * 3)
        await fleet.step()
        await fleet.processes[0].call(*[GOOD] * 50)
        await fleet.step()
        assert (await fleet.store.value()).trips == 1
        fleet.advance(20.0)
        await fleet.processes[0].call(*[GOOD] * (HEALTHY_AFTER // 2))
        await fleet.step()
        assert ((await fleet.store.value()).trips, (await fleet.store.value()).successes) == (1, HEALTHY_AFTER // 2)
        await fleet.processes[1].call(*[GOOD] * (HEALTHY_AFTER // 2))
        await fleet.step()
        assert (await fleet.store.value()).trips == 0
        swaps = fleet.store.swaps
        await fleet.processes[0].call(*[GOOD] * 50)
        await fleet.step()
        assert fleet.store.swaps == swaps

    run(scenario())


def test_alone_too_twenty_good_calls_make_it_well() -> None:
    async def scenario() -> None:
        fleet = await opened(shared=False)
        (process,) = fleet.processes
        await process.probe(*[GOOD] * 3)
        fleet.advance(20.0)
        both = process.breakers._of(KEY)
        await process.call(*[GOOD] * (HEALTHY_AFTER - 1))
        assert both.local.trips == 1
        await process.call(GOOD)
        assert (both.local.trips, both.successes) == (0, 0)

    run(scenario())


def test_without_the_store_a_process_leaves_and_probes_by_itself() -> None:
    async def scenario() -> None:
        fleet = Fleet(2)
        fleet.store.is_down = True
        await fleet.step()
        process = fleet.processes[0]
        await process.call(*[NOT_SENT] * 5)
        await fleet.step()
        assert states(fleet) == [State.OPEN, State.CLOSED]
        fleet.advance(OPEN_S)
        assert len([each for each in [await process.admit() for _ in range(10)] if each]) == 3
        assert fleet.store.reads == 0
        fleet.store.is_down = False
        await fleet.step()
        assert fleet.store.reads > 0

    run(scenario())


def test_an_open_breaker_stays_open_when_the_store_goes_and_is_then_probed_by_each_process() -> None:
    async def scenario() -> None:
        fleet = Fleet(2)
        for each in fleet.processes:
            await each.call(*[NOT_SENT] * 5)
        await fleet.step()
        views = [each.view for each in fleet.processes]
        fleet.store.is_down = True
        await fleet.step()
        for view, each in zip(views, fleet.processes, strict=True):
            assert (each.view.state, each.view.until, each.view.incident) == (view.state, view.until, view.incident)
        fleet.advance(OPEN_S)
        for each in fleet.processes:
            assert sum([await each.admit() is not None for _ in range(10)]) == 3
        fleet.advance(LEASE_S)
        await fleet.processes[0].probe(*[GOOD] * 3)
        # Three of the ten never reported: with one failure, eight good ones are out of reach.
        await fleet.processes[1].probe(FAILED)
        assert states(fleet) == [State.CLOSED, State.OPEN]
        # The store's word holds again when it is back: open, its time over.
        fleet.store.is_down = False
        await fleet.step()
        assert states(fleet) == [State.HALF_OPEN] * 2

    run(scenario())


def test_the_store_may_go_while_a_probe_asks_for_its_lease() -> None:
    async def scenario() -> None:
        fleet = await opened(2)
        assert await fleet.processes[0].admit() is not None
        fleet.store.is_down = True
        fleet.advance(1.0)
        admissions = await asyncio.gather(*(fleet.processes[1].admit() for _ in range(25)))
        assert sum(each is not None for each in admissions) == 3
        reads = fleet.store.reads
        assert await fleet.processes[1].admit() is None
        assert fleet.store.reads == reads

    run(scenario())


def test_a_probes_outcome_reaches_the_store_when_it_is_back_in_time() -> None:
    async def scenario() -> None:
        fleet = await opened()
        (process,) = fleet.processes
        probes = [await process.admit() for _ in range(3)]
        fleet.store.is_down = True
        await fleet.step()
        for probe in probes:
            assert probe is not None
            process.breakers.record(probe, GOOD, 20)
        fleet.advance(1.0)
        fleet.store.is_down = False
        await fleet.step()
        assert states(fleet) == [State.CLOSED]

    run(scenario())


def test_a_lost_store_gets_back_what_its_readers_remember() -> None:
    async def scenario() -> None:
        fleet = await opened(2)
        await fleet.processes[0].probe(GOOD)
        await fleet.step()
        before = await fleet.store.value()
        fleet.store.flush()
        assert await fleet.store.value() == Breaker()
        assert await fleet.processes[0].admit() is None
        await fleet.step()
        assert await fleet.store.value() == before
        assert states(fleet) == [State.HALF_OPEN] * 2
        await fleet.processes[1].probe(*[GOOD] * 2)
        await fleet.step()
        assert states(fleet) == [State.CLOSED] * 2
        fleet.store.flush()
        await fleet.step()
        assert (await fleet.store.value()).epoch == before.epoch + 1

    run(scenario())


@pytest.mark.parametrize("store_is_empty", [True, False])
def test_a_new_fleet_begins_with_the_ledgers_last_word_unless_the_store_knows_more(store_is_empty: bool) -> None:
    async def scenario() -> None:
        fleet = await opened(2)
        last = await fleet.store.value()
        if store_is_empty:
            fleet.store.flush()
        else:
            await fleet.processes[0].probe(*[GOOD] * 3)
            await fleet.step()
        fleet.processes.clear()
        new = fleet.join()
        new.breakers.restore({KEY: last})
        assert new.standing().state is State.OPEN
        new.clock.advance(OPEN_S)
        await fleet.step()
        assert new.standing().state is (State.HALF_OPEN if store_is_empty else State.CLOSED)
        assert (await fleet.store.value()).epoch == (last.epoch if store_is_empty else last.epoch + 2)

    run(scenario())


def test_a_lone_process_begins_where_the_one_before_it_ended() -> None:
    async def scenario() -> None:
        before = Fleet(shared=False)
        await before.processes[0].call(*[FAILED] * 10)
        last = before.processes[0].breakers.transition_log.transitions[-1]
        after = Fleet(shared=False)
        (process,) = after.processes
        after.advance(10.0)
        process.breakers.restore({last.key: last.breaker})
        assert (process.standing().state, process.view) == (State.OPEN, before.processes[0].view)

    run(scenario())


@pytest.mark.parametrize("shared", [True, False])
def test_an_override_that_ends_begins_probing_once(shared: bool) -> None:
    async def scenario() -> None:
        fleet = Fleet(2 if shared else 1, shared=shared)
        process = fleet.processes[0]
        process.overrides[KEY] = forced_open(NOON + timedelta(seconds=60))
        await fleet.step()
        assert process.standing().state is State.FORCED_OPEN
        fleet.advance(60.0)
        assert process.standing().state is State.HALF_OPEN
        assert await process.admit() is None
        await fleet.step()
        assert (process.view.state, process.view.released, process.view.epoch) == (State.HALF_OPEN, 7, 1)
        await process.probe(*[GOOD] * 3)
        await fleet.step()
        assert (process.standing().state, process.view.epoch) == (State.CLOSED, 2)
        process.overrides[KEY] = forced_open(process.clock.now(), version=8)
        await fleet.step()
        assert (process.standing().state, process.view.released) == (State.HALF_OPEN, 8)

    run(scenario())


def test_an_override_whose_end_all_have_probed_is_not_probed_again_without_the_store() -> None:
    async def scenario() -> None:
        fleet = Fleet()
        fleet.override(forced_open(NOON))
        await fleet.step()
        await fleet.processes[0].probe(*[GOOD] * 3)
        await fleet.step()
        fleet.store.is_down = True
        await fleet.step()
        assert states(fleet) == [State.CLOSED]
        assert len(fleet.processes[0].breakers.transition_log.transitions) == 2

    run(scenario())


def test_an_override_ends_in_the_store_or_not_yet() -> None:
    """Who loses every swap waits for the next step, and does not begin a probing of its own."""

    async def scenario() -> None:
        fleet = Fleet()
        fleet.override(forced_open(NOON))
        fleet.store.is_contended = True
        await fleet.step()
        assert len(fleet.processes[0].breakers.transition_log.transitions) == 0
        assert await fleet.processes[0].admit() is None
        fleet.store.is_contended = False
        await fleet.step()
        assert await fleet.processes[0].admit() is not None

    run(scenario())


def test_an_override_that_ends_while_the_store_is_away_is_probed_by_each_process() -> None:
    async def scenario() -> None:
        fleet = Fleet()
        (process,) = fleet.processes
        fleet.override(forced_open(NOON + timedelta(seconds=60)))
        fleet.store.is_down = True
        fleet.advance(60.0)
        await fleet.step()
        await process.probe(*[GOOD] * 3)
        assert process.standing().state is State.CLOSED
        fleet.store.is_down = False
        await fleet.step()
        assert (await fleet.store.value()).released == 7

    run(scenario())


def test_of_many_processes_one_ends_an_override() -> None:
    async def scenario() -> None:
        fleet = Fleet(4)
        for each in fleet.processes:
            each.overrides[KEY] = forced_open(NOON)
        await asyncio.gather(*(each.breakers.step((KEY,), each.overrides, fleet.live) for each in fleet.processes))
        assert (await fleet.store.value()).epoch == 1
        assert sum(len(each.breakers.transition_log.transitions) for each in fleet.processes) == 1

    run(scenario())


def test_a_fallback_is_paid_for_at_the_gateway_it_leaves() -> None:
    async def scenario() -> None:
        (process,) = Fleet(shared=False).processes
        other = ("g2", "UPI")
        for _ in range(5):
            process.breakers.deposit(KEY)
        assert sum(process.breakers.withdraw(KEY) for _ in range(100)) == 31
        assert sum(process.breakers.withdraw(other) for _ in range(100)) == 30

    run(scenario())


def test_what_waits_for_the_store_is_bounded() -> None:
    async def scenario() -> None:
        fleet = await opened()
        (process,) = fleet.processes
        for number in range(1000):
            process.breakers.record(Permit(KEY, State.HALF_OPEN, 1, f"gone-{number}"), GOOD, 20)
        assert len(process.breakers._of(KEY).reports) == MAX_REPORTS
        await fleet.step()
        assert len(process.breakers._of(KEY).reports) == 0

    run(scenario())


def test_alone_nothing_waits_for_a_store_that_is_never_asked() -> None:
    async def scenario() -> None:
        fleet = await opened(shared=False)
        (process,) = fleet.processes
        late = await process.admit()
        assert late is not None
        fleet.advance(LEASE_S)
        await process.probe(*[GOOD] * 3)
        process.breakers.record(late, FAILED, 20)
        assert process.standing().state is State.CLOSED
        assert len(process.breakers._of(KEY).reports) == 0

    run(scenario())


class Paper:
    """A ledger that keeps what it confirmed, and fails as scripted."""

    def __init__(self, *faults: Exception | None) -> None:
        self.kept: list[Mapping[str, Any]] = []
        self._faults = list(faults)

    async def commit(self, phase: Phase, item: Mapping[str, Any]) -> bool:
        await asyncio.sleep(0)
        assert phase is TRANSITION
        fault = self._faults.pop(0) if self._faults else None
        if fault is not None:
            raise fault
        self.kept.append(item)
        return True

    async def read(self, query: Callable[..., Any], *args: Any) -> Any:
        raise AssertionError


def written(items: list[Mapping[str, Any]]) -> list[tuple[str, str, str, int]]:
    return [(item["scope"], item["was"], item["state"], item["epoch"]) for item in items]


def test_each_shared_move_is_told_by_one_process_and_each_own_by_its_own() -> None:
    async def scenario() -> None:
        fleet = await opened(3)
        await fleet.processes[0].probe(*[GOOD] * 3)
        await fleet.step()
        ledger = Paper()
        for each in fleet.processes:
            await each.breakers.transition_log.publish(ledger)
        shared = sorted(each for each in written(ledger.kept) if each[0] == "shared")
        assert shared == [
            ("shared", "CLOSED", "OPEN", 1),
            ("shared", "HALF_OPEN", "CLOSED", 3),
            ("shared", "OPEN", "HALF_OPEN", 2),
        ]
        own = Counter((item["process"], item["state"]) for item in ledger.kept if item["scope"] == "process")
        assert own == {(each.name, "OPEN"): 1 for each in fleet.processes}
        assert all((item["event"] is None) == (item["scope"] == "process") for item in ledger.kept)
        assert len({item["event_id"] for item in ledger.kept}) == len(ledger.kept)

    run(scenario())


def test_no_move_is_lost_while_the_ledger_is_away() -> None:
    async def scenario() -> None:
        fleet = await opened(shared=False)
        (process,) = fleet.processes
        await process.probe(*[GOOD] * 3)
        refused = WriteRefused(TRANSITION, ValueError())
        ledger = Paper(None, LedgerUnavailable("away", written=None), None, refused)
        with pytest.raises(LedgerUnavailable):
            await process.breakers.transition_log.publish(ledger)
        assert [each.was for each in process.breakers.transition_log.transitions] == [State.OPEN, State.HALF_OPEN]
        # A transition that the ledger refuses for good delays no other.
        await process.breakers.transition_log.publish(ledger)
        assert written(ledger.kept) == [("shared", "CLOSED", "OPEN", 1), ("shared", "OPEN", "HALF_OPEN", 2)]
        assert len(process.breakers.transition_log.transitions) == 0
        breaker = ledger.kept[0]["breaker"]
        assert breaker.since == NOON.timestamp()

    run(scenario())


def test_what_waits_for_the_ledger_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    async def scenario() -> None:
        monkeypatch.setattr(transition_log, "MAX_WAITING", 4)
        fleet = Fleet(shared=False)
        (process,) = fleet.processes
        for _ in range(10):
            await process.call(*[FAILED] * 10)
            fleet.advance(400.0)
            await process.probe(*[GOOD] * 3)
        assert len(process.breakers.transition_log.transitions) == 4
        assert process.breakers.transition_log.transitions[-1].breaker.epoch == 30

    run(scenario())


def test_a_move_that_is_dropped_while_it_is_told_takes_no_other_with_it(monkeypatch: pytest.MonkeyPatch) -> None:
    async def scenario() -> None:
        monkeypatch.setattr(transition_log, "MAX_WAITING", 2)
        fleet = Fleet(shared=False)
        (process,) = fleet.processes
        ledger = Paper()
        await process.call(*[FAILED] * 10)
        publishing = asyncio.create_task(process.breakers.transition_log.publish(ledger))
        await asyncio.sleep(0)
        fleet.advance(OPEN_S)
        await process.probe(*[GOOD] * 3)
        await publishing
        assert written(ledger.kept) == [
            ("shared", "CLOSED", "OPEN", 1),
            ("shared", "OPEN", "HALF_OPEN", 2),
            ("shared", "HALF_OPEN", "CLOSED", 3),
        ]

    run(scenario())


async def _some_calls(process: Process, rng: Random, is_sick: bool, under_way: list[Permit]) -> None:
    """Make a few calls at once, and answer some of those that are under way."""
    granted = await asyncio.gather(*(process.admit() for _ in range(rng.randrange(6))))
    under_way += [each for each in granted if each is not None]
    rng.shuffle(under_way)
    for _ in range(rng.randrange(len(under_way) + 1)):
        sign = rng.choice([FAILED, NOT_SENT, NOTHING] if is_sick else [GOOD, GOOD, NOTHING])
        process.breakers.record(under_way.pop(), sign, 20)


@pytest.mark.parametrize("seed", range(10))
def test_in_any_order_of_things_probes_stay_few_and_a_recovered_gateway_is_regained(seed: int) -> None:
    """Four processes, a gateway that comes and goes, a store that goes and forgets."""

    async def scenario() -> None:
        rng = Random(seed)
        fleet = Fleet(4)
        under_way: dict[str, list[Permit]] = {each.name: [] for each in fleet.processes}
        epochs = dict.fromkeys(under_way, 0)
        for turn in range(300):
            is_sick = (turn // 60) % 2 == 0
            fleet.store.is_down = rng.random() < 0.05
            if rng.random() < 0.02:
                fleet.store.flush()
            work: list[Awaitable[None]] = [
                _some_calls(each, rng, is_sick, under_way[each.name]) for each in fleet.processes
            ]
            work += [each.breakers.step((KEY,), each.overrides, fleet.live) for each in fleet.processes]
            await asyncio.gather(*work)
            stored = await fleet.store.value()
            assert stored.probes_given <= MOST_PROBES
            assert len(stored.leases) <= 3
            for each in fleet.processes:
                assert each.breakers.in_flight().get(KEY, 0) == len(under_way[each.name])
                assert each.breakers._of(KEY).epoch >= epochs[each.name]
                epochs[each.name] = each.breakers._of(KEY).epoch
            fleet.advance(rng.choice([0.1, 0.1, 1.0, 5.0]))
        fleet.store.is_down = False
        for _ in range(400):
            for each in fleet.processes:
                await _some_calls(each, rng, is_sick=False, under_way=under_way[each.name])
            await fleet.step()
            fleet.advance(1.0)
        assert states(fleet) == [State.CLOSED] * 4
        assert [each.standing().share for each in fleet.processes] == [1.0] * 4
        assert (await fleet.store.value()).trips == 0

    run(scenario())
