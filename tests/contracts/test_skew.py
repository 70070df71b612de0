"""Two writers of one payment at the same moment end it as one after the other would, on PostgreSQL.

SQLite has one writer at a time.
"""

import asyncio
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import Any

import psycopg
import pytest

from pgw.core.flow.verification.late_capture import monitor_due
from pgw.core.flow.verification.resolve import _ending
from pgw.core.ledger.audit_reads import payment_rows
from pgw.core.ledger.engine.ledger import OpenLedger
from pgw.core.ledger.late_captures import BOOK_LATE_CAPTURE, CLAIM_MONITOR
from pgw.core.ledger.payment_reads import by_id
from pgw.core.ledger.payments import CLOSE, OPEN
from pgw.core.ledger.resolutions import RESOLVE, last_called
from pgw.core.ledger.tables import attempts, payments, transfers, watches
from pgw.core.ledger.verifications import CLAIM, SETTLE
from pgw.core.money.invariants import check
from pgw.core.payment.outcome import Blame, Captured
from pgw.core.ports import Reference
from pgw.core.verification.enquiry import CHECK_LEASE, GaveUp
from pgw.core.writes.resolution import Resolution, ResolvedAs
from pgw.core.writes.verification import late_capture
from tests.doubles import CAPTURED, CUSTOMER_DECLINE, NOON, UNKNOWN, Entry, Scene, VirtualClock, scene_of
from tests.ledgers import Fates, Write, administrator, claims, closes, id_of, opened, opens, rows, settles
from tests.seams.serving import wait_until

pytestmark = pytest.mark.parametrize("empty_database", ["postgres"], indirect=True)

PAYMENT = id_of(1)
LATE = NOON + timedelta(days=5, hours=1)
"""When everything here happens: the watch of an attempt that is declined now looks once more, and rests."""

LOOKS = 10
WAITS_WITHIN_S = 20.0

Waiting = Callable[[int], Awaitable[None]]


async def _write(ledger: OpenLedger, *writes: Write) -> None:
    assert [await ledger.commit(*each) for each in writes] == [True] * len(writes)


async def _given_up(ledger: OpenLedger) -> None:
    """Leave a payment to a person, while its sender is still away."""
    end = closes(1, UNKNOWN)
    claim = claims(1, end["end_next_check_at"])
    settled = settles(claim, GaveUp(Blame.GATEWAY, None), 1)
    await _write(ledger, (OPEN, opens(1)), (CLOSE, end), (CLAIM, claim), (SETTLE, settled))


async def _resolution(scene: Scene, ledger: OpenLedger, outcome: ResolvedAs) -> Write:
    """Lay out a person's word as of now."""
    stored = await ledger.read(by_id, PAYMENT)
    assert stored is not None
    said = Resolution(outcome=outcome, actor="asha", reason="INC-7", evidence="UTR 1234")
    attempt = await ledger.read(last_called, PAYMENT)
    return RESOLVE, dict(await _ending(scene.deps, stored.payment, attempt, said))


@contextmanager
def _held(database: str, table: str) -> Iterator[Waiting]:
    """Hold a table's rows; gives a way to wait until so many sessions wait for a lock. The end lets them go."""
    with administrator(database) as holder, administrator(database) as watcher:

        async def until(count: int) -> None:
            waits = f"{count} sessions that wait for a lock"
            await asyncio.to_thread(wait_until, lambda: _blocked(watcher) == count, waits, WAITS_WITHIN_S)

        with holder.transaction():
            holder.execute(f"SELECT FROM {table} FOR UPDATE".encode())
            yield until


def _blocked(session: psycopg.Connection[Any]) -> int:
    query = "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND datname = current_database()"
    (found,) = session.execute(query).fetchone() or (0,)
    return int(found)


async def _race(database: str, table: str, one: OpenLedger, first: Write, second: Write) -> Fates:
    """Let `first` wait for a row and `second` come behind it, so that both have begun before either has ended."""
    async with opened(database) as other:
        with _held(database, table) as waiting:
            leading = asyncio.create_task(other.commit(*first))
            await waiting(1)
            following = asyncio.create_task(one.commit(*second))
            await waiting(2)
        return list(await asyncio.gather(leading, following, return_exceptions=True))


async def _ends(ledger: OpenLedger) -> tuple[Any, ...]:
    """Return where payment, attempt and watches stand, and what was booked; it breaks no invariant."""
    (case,) = await ledger.read(payment_rows, [PAYMENT])
    assert check(case) == ()
    (payment,) = await rows(ledger, payments)
    (attempt,) = await rows(ledger, attempts)
    states = [each["state"] for each in await rows(ledger, watches)]
    return payment["status"], attempt["status"], states, sorted(each["kind"] for each in await rows(ledger, transfers))


def _on(database: str, scenario: Callable[[Scene, OpenLedger], Awaitable[None]]) -> None:
    async def run() -> None:
        async with opened(database) as ledger:
            scene = scene_of(ledger, {"g1": []}, clock=VirtualClock(LATE))
            scene.gateways["g1"].book[Reference(PAYMENT, 1)] = Entry(moved=(1000, "INR"))
            await scenario(scene, ledger)

    asyncio.run(run())


async def _wait_weeks(scene: Scene) -> None:
    """Let every watch come to its end."""
    for _ in range(LOOKS):
        scene.clock.advance(timedelta(days=1).total_seconds())
        await monitor_due(scene.deps)


def test_a_late_decline_beside_the_word_success_is_watched_no_more(own_database: str) -> None:
    """Else the watch of the decline finds the payment's own capture and gives it back."""

    async def scenario(scene: Scene, ledger: OpenLedger) -> None:
        await _given_up(ledger)
        word = await _resolution(scene, ledger, ResolvedAs.SUCCESS)
        decline = CLOSE, closes(1, CUSTOMER_DECLINE, at=LATE)
        assert await _race(own_database, "attempts", ledger, decline, word) == [True, True]
        assert await _ends(ledger) == ("SUCCESS", "SUCCESS", ["OVER"], ["capture"])
        await _wait_weeks(scene)
        assert await _ends(ledger) == ("SUCCESS", "SUCCESS", ["OVER"], ["capture"])
        assert scene.gateways["g1"].reversed == {}

    _on(own_database, scenario)


def test_money_found_beside_the_word_success_goes_back_and_the_word_is_refused(own_database: str) -> None:
    async def scenario(scene: Scene, ledger: OpenLedger) -> None:
        await _given_up(ledger)
        decline = closes(1, CUSTOMER_DECLINE, at=LATE)
        named = {"payment_id": PAYMENT, "attempt_number": 1, "gateway_id": "g1", "claimed_until": LATE + CHECK_LEASE}
        claim = {**named, "due_at": decline["watch_next_check_at"]}
        await _write(ledger, (CLOSE, decline), (CLAIM_MONITOR, claim))
        word = await _resolution(scene, ledger, ResolvedAs.SUCCESS)
        found = BOOK_LATE_CAPTURE, late_capture(named, CAPTURED, LATE, id_of(2))
        assert await _race(own_database, "watches", ledger, found, word) == [True, False]
        assert await _ends(ledger) == ("MANUAL_REVIEW", "FAILURE", ["REVERSING"], ["duplicate_capture"])
        await _wait_weeks(scene)
        assert await _ends(ledger) == ("MANUAL_REVIEW", "REVERSED", ["REVERSED"], ["duplicate_capture", "reversal"])

    _on(own_database, scenario)


def test_a_late_capture_beside_the_word_failure_goes_back(own_database: str) -> None:
    async def scenario(scene: Scene, ledger: OpenLedger) -> None:
        await _given_up(ledger)
        word = await _resolution(scene, ledger, ResolvedAs.FAILURE)
        capture = CLOSE, closes(1, CAPTURED, at=LATE)
        assert await _race(own_database, "attempts", ledger, capture, word) == [True, True]
        assert await _ends(ledger) == ("FAILURE", "FAILURE", ["REVERSING"], ["unmatched"])
        await _wait_weeks(scene)
        assert await _ends(ledger) == ("FAILURE", "REVERSED", ["REVERSED"], ["reversal", "unmatched"])
        assert list(scene.gateways["g1"].reversed.values()) == [("ref-1", 1000)]

    _on(own_database, scenario)


def test_another_amount_found_beside_the_senders_own_answer_is_booked_once(own_database: str) -> None:
    async def scenario(_: Scene, ledger: OpenLedger) -> None:
        claim = claims(1, opens(1)["next_check_at"])
        await _write(ledger, (OPEN, opens(1)), (CLAIM, claim))
        other_amount = SETTLE, settles(claim, Captured("ref-1", 999, "INR"), 1)
        assert await _race(own_database, "attempts", ledger, other_amount, (CLOSE, closes(1))) == [True, True]
        assert await _ends(ledger) == ("MANUAL_REVIEW", "SUCCESS", [], ["unmatched"])

    _on(own_database, scenario)
