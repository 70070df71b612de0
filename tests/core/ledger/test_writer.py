"""The group commit by itself, over a database that does what the test says: bounds, deaths, and nobody left waiting."""

import asyncio
from collections.abc import Callable
from typing import Any

import pytest

from pgw.core.ledger.engine import writer as module
from pgw.core.ledger.engine.writer import LedgerUnavailable, WriteRefused
from tests.core.ledger.paper import (
    NOTE,
    SEAL,
    LostError,
    Paper,
    fate_of,
    lose_patience,
    queued,
    taken_by,
    writing,
)


@pytest.fixture
def swept(monkeypatch: pytest.MonkeyPatch) -> None:
    """Sweep all the time, and let patience end when the test says so: a busy thread may have its turn late."""
    monkeypatch.setattr(module, "COMMIT_WITHIN_S", 3600.0)
    monkeypatch.setattr(module, "SWEEP_EVERY_S", 0.001)


def test_a_waiter_waits_two_seconds_and_three_tries_fit_into_them() -> None:
    assert module.COMMIT_WITHIN_S == 2.0
    assert len(module.RETRY_AFTER_FAULT_S) == 3
    assert sum(module.RETRY_AFTER_FAULT_S) < module.COMMIT_WITHIN_S


def test_past_its_patience_a_queued_item_is_withdrawn_and_a_taken_one_reports_late(swept: None) -> None:
    """What was withdrawn is never written, whatever the database does later; what was taken may be."""

    async def scenario() -> None:
        paper = Paper()
        async with writing(paper) as writer:
            (taken,) = await queued(writer, "taken")
            await taken_by(paper)
            (behind,) = await queued(writer, "queued")
            lose_patience(writer)
            fates = [await fate_of(taken), await fate_of(behind)]
            assert [isinstance(fate, LedgerUnavailable) and fate.written for fate in fates] == [None, False]
            assert isinstance(fates[0], LedgerUnavailable)
            assert fates[0].late is not None
            assert not fates[0].late.done()
            paper.gate.set()
            assert await fates[0].late is True
            assert isinstance(fates[1], LedgerUnavailable)
            assert fates[1].late is None
        assert paper.written == ["taken"]

    asyncio.run(scenario())


def test_the_second_item_of_a_key_is_withdrawn_while_the_first_is_under_way(swept: None) -> None:
    async def scenario() -> None:
        paper = Paper()
        async with writing(paper) as writer:
            (busy,) = await queued(writer, "busy")
            await taken_by(paper)
            twins = await queued(writer, "twin", "twin")
            lose_patience(writer)
            ends = [await fate_of(each) for each in (busy, *twins)]
            assert [isinstance(end, LedgerUnavailable) and end.written for end in ends] == [None, False, False]
        assert paper.written == ["busy"]

    asyncio.run(scenario())


def test_a_late_item_that_is_refused_says_so_late(swept: None) -> None:
    async def scenario() -> None:
        paper = Paper()
        async with writing(paper) as writer:
            (bad,) = await queued(writer, "bad")
            await taken_by(paper)
            lose_patience(writer)
            fate = await fate_of(bad)
            assert isinstance(fate, LedgerUnavailable)
            assert fate.late is not None
            paper.gate.set()
            with pytest.raises(WriteRefused):
                await fate.late

    asyncio.run(scenario())


def test_a_full_queue_refuses_at_once_and_has_room_again_later(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MAX_QUEUE", 8)

    async def scenario() -> None:
        paper = Paper()
        async with writing(paper) as writer:
            waiting = await queued(writer, *(f"key-{n}" for n in range(8)))
            with pytest.raises(LedgerUnavailable, match="queue is full") as refusal:
                await writer.commit(NOTE, {"key": "one too many"})
            assert refusal.value.written is False
            assert refusal.value.retry_after_s == 1
            paper.gate.set()
            assert await asyncio.gather(*waiting) == [True] * 8
            assert await writer.commit(NOTE, {"key": "later"}) is True
        assert paper.written == [*(f"key-{n}" for n in range(8)), "later"]

    asyncio.run(scenario())


def test_a_batch_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MAX_BATCH", 8)

    async def scenario() -> None:
        paper = Paper()
        async with writing(paper) as writer:
            first = await queued(writer, "first")
            await taken_by(paper)
            waiting = await queued(writer, *(f"key-{n}" for n in range(20)))
            paper.gate.set()
            assert await asyncio.gather(*first, *waiting) == [True] * 21
        assert paper.batches == [1, 8, 8, 4]

    asyncio.run(scenario())


def test_a_batch_is_sorted_so_that_all_writers_take_their_locks_in_one_order() -> None:
    """By phase and then by key, whatever the order of arrival; each waiter still gets the fate of its own item."""

    async def scenario() -> None:
        paper = Paper()
        async with writing(paper) as writer:
            first = await queued(writer, "a")
            await taken_by(paper)
            asked = [(SEAL, "9"), (NOTE, "c"), (NOTE, "a"), (SEAL, "1"), (NOTE, "b")]
            waiting = [asyncio.create_task(writer.commit(phase, {"key": key})) for phase, key in asked]
            await asyncio.sleep(0)
            paper.gate.set()
            assert await asyncio.gather(*first, *waiting) == [True, True, True, False, True, True]
        assert paper.asked[1] == [("note", "a"), ("note", "b"), ("note", "c"), ("seal", "1"), ("seal", "9")]

    asyncio.run(scenario())


def test_many_items_of_one_key_are_written_one_after_another_and_all_answered(monkeypatch: pytest.MonkeyPatch) -> None:
    """More of them than a batch holds: those held back must neither be lost nor stop the others."""
    monkeypatch.setattr(module, "MAX_BATCH", 4)

    async def scenario() -> None:
        paper = Paper()
        async with writing(paper) as writer:
            waiting = await queued(writer, *["same"] * 9, "other")
            paper.gate.set()
            assert await asyncio.gather(*waiting) == [True] + [False] * 8 + [True]

    asyncio.run(scenario())


@pytest.mark.parametrize("death", [SystemExit(1), KeyboardInterrupt()], ids=repr)
def test_when_the_writer_dies_every_waiter_is_told_and_nobody_hangs(
    death: BaseException, caplog: pytest.LogCaptureFixture
) -> None:
    async def scenario() -> None:
        paper = Paper()
        async with writing(paper) as writer:
            waiting = await queued(writer, "taken")
            await taken_by(paper)
            waiting += await queued(writer, "queued", "queued", "queued too")
            paper.faults = [death]
            paper.gate.set()
            ends = [await fate_of(each) for each in waiting]
            assert [isinstance(end, LedgerUnavailable) and end.written for end in ends] == [None] * 4
            with pytest.raises(LedgerUnavailable) as refusal:
                await writer.commit(NOTE, {"key": "afterwards"})
            assert refusal.value.written is False
        assert (paper.closed, paper.written) == (1, [])

    asyncio.run(asyncio.wait_for(scenario(), 30))
    assert "writer died" in caplog.text


def test_when_the_writer_dies_late_answers_come_too(swept: None) -> None:
    """Whoever was told `late` waits for the end of its item, to end what nobody called."""

    async def scenario() -> None:
        paper = Paper()
        async with writing(paper) as writer:
            (taken,) = await queued(writer, "taken")
            await taken_by(paper)
            lose_patience(writer)
            fate = await fate_of(taken)
            assert isinstance(fate, LedgerUnavailable)
            assert fate.late is not None
            paper.faults = [SystemExit(1)]
            paper.gate.set()
            with pytest.raises(LedgerUnavailable):
                await fate.late

    asyncio.run(asyncio.wait_for(scenario(), 30))


def test_a_stop_that_the_database_holds_up_leaves_nobody_waiting(swept: None) -> None:
    """Neither who waits for its commit nor who waits for a late end: the thread may be stuck for good."""

    async def scenario() -> None:
        paper = Paper()
        async with writing(paper) as writer:
            (taken,) = await queued(writer, "taken")
            await taken_by(paper)
            lose_patience(writer)
            fate = await fate_of(taken)
            assert isinstance(fate, LedgerUnavailable)
            assert fate.late is not None
            (behind,) = await queued(writer, "queued")
            await writer.close(within_s=0.01)
            end = await fate_of(behind)
            assert (type(end), fate.late.done()) == (LedgerUnavailable, True)
            paper.gate.set()

    asyncio.run(asyncio.wait_for(scenario(), 30))


def test_closing_a_writer_nobody_used_and_closing_it_twice_are_fine() -> None:
    async def scenario() -> None:
        paper = Paper()
        async with writing(paper) as writer:
            await writer.close()
        assert paper.closed == 1

    asyncio.run(scenario())


FAULTS: dict[str, tuple[list[Exception], Callable[[Any], bool], int]] = {
    "once": ([LostError()], lambda end: end is True, 1),
    "twice": ([LostError(), LostError()], lambda end: end is True, 2),
    "for good": (
        [LostError(), LostError(), LostError()],
        lambda end: isinstance(end, LedgerUnavailable) and end.written is None,
        3,
    ),
}


@pytest.mark.parametrize("case", FAULTS)
def test_a_fault_of_the_database_is_tried_three_times(case: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Tried again as a whole, never halved; after each fault the connection is cleared up."""
    monkeypatch.setattr(module, "RETRY_AFTER_FAULT_S", (0.0, 0.0, 0.0))
    faults, expected, recoveries = FAULTS[case]

    async def scenario() -> None:
        paper = Paper()
        async with writing(paper) as writer:
            first = await queued(writer, "first")
            await taken_by(paper)
            waiting = await queued(writer, "a", "b", "c")
            paper.faults = [None, *faults]
            paper.gate.set()
            assert await asyncio.gather(*first) == [True]
            ends = await asyncio.gather(*waiting, return_exceptions=True)
            assert set(paper.batches) == {1, 3}
            assert [expected(end) for end in ends] == [True] * 3
            assert paper.recovered == recoveries

    asyncio.run(scenario())


def test_what_waits_in_the_queue_is_bounded_while_the_database_hangs(
    swept: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Withdrawn items are nobody's any more: they must not pile up behind a writer that is stuck."""
    monkeypatch.setattr(module, "MAX_QUEUE", 8)

    async def scenario() -> None:
        paper = Paper()
        async with writing(paper) as writer:
            taken = await queued(writer, "taken")
            await taken_by(paper)
            lose_patience(writer)
            await asyncio.gather(*taken, return_exceptions=True)
            for turn in range(20):
                waiting = await queued(writer, *(f"{turn}-{n}" for n in range(7)))
                lose_patience(writer)
                ends = await asyncio.gather(*waiting, return_exceptions=True)
                assert {type(end) for end in ends} == {LedgerUnavailable}
            assert writer._queue.qsize() <= module.MAX_QUEUE

    asyncio.run(scenario())
