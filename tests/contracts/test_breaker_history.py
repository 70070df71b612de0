"""What became of a breaker, and who ordered it, is one history on both ledgers, and its last word is kept."""

import asyncio
from collections.abc import Awaitable, Callable
from datetime import datetime, timedelta
from random import Random

import msgspec

from pgw.core.breakers.breaker import Breaker, Caller, Key, Lease, State, TransitionCause
from pgw.core.breakers.override import Override
from pgw.core.events import Event
from pgw.core.ids import uuid7
from pgw.core.ledger.breaker_history import (
    AUTOMATIC,
    TRANSITION,
    HistoryCursor,
    HistoryRow,
    Scope,
    Transition,
    history,
    last_shared,
    transition_write,
)
from pgw.core.ledger.configuration import CONFIGURE, SEED, breaker_subject
from pgw.core.ledger.engine.ledger import OpenLedger
from pgw.core.ledger.tables import breaker_events, outbox
from pgw.core.writes.attempts import Item
from tests.doubles import NOON
from tests.ledgers import id_of, opened, rows

RAZORPAY: Key = ("razorpay", "UPI")
HDFC: Key = ("hdfc", "CARD")
OPEN = Breaker(
    state=State.OPEN,
    epoch=1,
    since=1000.5,
    until=1031.25,
    trips=1,
    unwell_from=990.125,
    open_s=30.0,
    cause=TransitionCause.FAILURE_RATE,
    incident_from=990.125,
)


def moved(number: int, key: Key = RAZORPAY, *, scope: Scope = "shared", epoch: int = 1, seconds: float = 0) -> Item:
    """Lay out one transition to OPEN; its id grows with the number."""
    return transition_write(
        Transition(
            event_id=id_of(number),
            key=key,
            scope=scope,
            process="w1",
            was=State.CLOSED,
            breaker=msgspec.structs.replace(OPEN, epoch=epoch),
            occurred_at=NOON + timedelta(seconds=seconds),
        )
    )


def ordered(number: int, key: Key, state: State, seconds: float, expires_at: datetime | None = None) -> Item:
    """Lay out an override; it is the `number`th change of configuration."""
    at = NOON + timedelta(seconds=seconds)
    document = Override(
        gateway_id=key[0],
        payment_method=key[1],
        state=state,
        reason="INC-4412",
        actor="asha",
        forced_at=at,
        expires_at=expires_at or at + timedelta(hours=1),
    )
    return {
        "version": len(SEED) + number,
        "subject": breaker_subject(*key),
        "document": document,
        "actor": "asha",
        "reason": "INC-4412",
        "changed_at": at,
    }


def _on(database: str, scenario: Callable[[OpenLedger], Awaitable[None]]) -> None:
    async def run() -> None:
        async with opened(database) as ledger:
            await scenario(ledger)

    asyncio.run(run())


def test_a_transition_is_written_once_with_its_value_and_its_event(database: str) -> None:
    async def scenario(ledger: OpenLedger) -> None:
        assert [await ledger.commit(TRANSITION, moved(1)) for _ in range(2)] == [True, False]
        (row,) = await rows(ledger, breaker_events)
        assert msgspec.convert(row.pop("breaker"), Breaker) == OPEN
        assert row == {
            "event_id": id_of(1),
            "gateway_id": "razorpay",
            "payment_method": "UPI",
            "scope": "shared",
            "process": "w1",
            "was": "CLOSED",
            "state": "OPEN",
            "epoch": 1,
            "cause": "failure_rate",
            "occurred_at": NOON,
        }
        (event,) = [msgspec.convert(row["event"], Event) for row in await rows(ledger, outbox)]
        assert event == Event(
            event_id=id_of(1),
            type="breaker.changed",
            gateway_id="razorpay",
            payment_method="UPI",
            status="OPEN",
            error_code="failure_rate",
            occurred_at=NOON,
        )

    _on(database, scenario)


def test_what_one_process_does_alone_is_history_but_no_event(database: str) -> None:
    async def scenario(ledger: OpenLedger) -> None:
        items = [moved(1, scope="process"), moved(2), moved(3, HDFC, scope="process")]
        # Of one batch, too.
        assert await asyncio.gather(*(ledger.commit(TRANSITION, item) for item in items)) == [True, True, True]
        assert len(await rows(ledger, breaker_events)) == 3
        assert [row["event"]["event_id"] for row in await rows(ledger, outbox)] == [id_of(2)]

    _on(database, scenario)


async def _filled(ledger: OpenLedger) -> None:
    for item in (
        moved(1, seconds=1),
        moved(2, HDFC, seconds=3),
        moved(3, seconds=5, epoch=3),
        moved(4, seconds=5, epoch=4, scope="process"),
    ):
        assert await ledger.commit(TRANSITION, item)
    for item in (
        ordered(1, RAZORPAY, State.FORCED_OPEN, 2),
        ordered(2, HDFC, State.FORCED_CLOSED, 4),
        ordered(3, RAZORPAY, State.FORCED_OPEN, 5, expires_at=NOON + timedelta(seconds=5)),
        ordered(4, HDFC, State.FORCED_CLOSED, 6, expires_at=NOON + timedelta(seconds=6)),
        ordered(5, ("razorpay_2", "UPI"), State.FORCED_OPEN, 7),
    ):
        assert await ledger.commit(CONFIGURE, item)


def _ids(entries: list[HistoryRow]) -> list[str]:
    """Name each entry: `t` and the number of a transition, `o` and the number of an override."""
    numbers = {id_of(number): f"t{number}" for number in range(1, 5)}
    return [numbers.get(each.place.entry_id) or f"o{int(each.place.entry_id) - len(SEED)}" for each in entries]


def test_history_unites_what_moved_and_what_was_ordered_newest_first(database: str) -> None:
    async def scenario(ledger: OpenLedger) -> None:
        await _filled(ledger)
        for gateway, method, expected in (
            ("razorpay", "UPI", ["o3", "t4", "t3", "o1", "t1"]),
            ("hdfc", "CARD", ["o4", "o2", "t2"]),
            ("razorpay", None, ["o3", "t4", "t3", "o1", "t1"]),
            (None, "UPI", ["o5", "o3", "t4", "t3", "o1", "t1"]),
            (None, "CARD", ["o4", "o2", "t2"]),
            (None, None, ["o5", "o4", "o3", "t4", "t3", "o2", "t2", "o1", "t1"]),
            ("razorpay", "CARD", []),
            ("%", None, []),
            ("razor_ay", "UPI", []),
        ):
            entries = await ledger.read(history, gateway, method, None, 50)
            assert _ids(list(entries)) == expected, (gateway, method)
        cleared, own, *_ = await ledger.read(history, "razorpay", "UPI", None, 50)
        assert own == HistoryRow(
            place=HistoryCursor(NOON + timedelta(seconds=5), "transition", id_of(4)),
            gateway_id="razorpay",
            payment_method="UPI",
            scope="process",
            actor="w1",
            was=State.CLOSED,
            state="OPEN",
            cause="failure_rate",
            expires_at=None,
            epoch=4,
        )
        assert (cleared.kind, cleared.actor, cleared.cause) == ("override", "asha", "INC-4412")
        assert (cleared.was, cleared.state) == (State.FORCED_OPEN, State.HALF_OPEN)
        assert cleared.expires_at == cleared.occurred_at == NOON + timedelta(seconds=5)
        cleared, forced, _ = await ledger.read(history, "hdfc", "CARD", None, 50)
        assert (cleared.was, cleared.state) == (State.FORCED_CLOSED, AUTOMATIC)
        assert (forced.was, forced.state, forced.scope, forced.epoch) == (None, State.FORCED_CLOSED, None, None)
        assert forced.expires_at == NOON + timedelta(hours=1, seconds=4)

    _on(database, scenario)


def test_pages_of_any_size_are_the_whole_history(database: str) -> None:
    async def scenario(ledger: OpenLedger) -> None:
        await _filled(ledger)
        whole = list(await ledger.read(history, None, None, None, 50))
        for size in range(1, 10):
            seen: list[HistoryRow] = []
            while page := await ledger.read(history, None, None, seen[-1].place if seen else None, size):
                assert len(page) <= size
                seen += page
            assert seen == whole

    _on(database, scenario)


def test_the_last_shared_value_of_each_breaker_comes_back_whole(database: str) -> None:
    async def scenario(ledger: OpenLedger) -> None:
        assert await ledger.read(last_shared) == {}
        await _filled(ledger)
        # A process whose clock is behind wrote the newest epoch.
        assert await ledger.commit(TRANSITION, moved(9, seconds=-60, epoch=7))
        half_open = Breaker(
            state=State.HALF_OPEN,
            epoch=2,
            since=1.0,
            cause=TransitionCause.OPEN_TIME_OVER,
            incident_from=0.5,
            leases=(Lease("w1:ff", 12.25),),
            probes_given=1,
            callers={"w1": Caller(3.5, trips=True)},
            released=12,
        )
        item = transition_write(
            Transition(
                event_id=uuid7(NOON, Random(1)),
                key=HDFC,
                scope="shared",
                process="w2",
                was=State.OPEN,
                breaker=half_open,
                occurred_at=NOON,
            )
        )
        assert await ledger.commit(TRANSITION, item)
        found = await ledger.read(last_shared)
        assert found == {RAZORPAY: msgspec.structs.replace(OPEN, epoch=7), HDFC: half_open}

    _on(database, scenario)
