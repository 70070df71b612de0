"""Some payments, or one minute, with their events -> what is wrong there, by small statements."""

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime, timedelta

import msgspec
from sqlalchemy import Connection, Text, cast, func, select

from pgw.core.events import Event
from pgw.core.ledger.audit_reads import (
    COUNTED_WITHIN,
    EVENTS_PAGE,
    EventScan,
    event_row,
    first_id,
    last_position,
    minutes_written,
    one_snapshot,
    payment_rows,
    payments_after,
    position_since,
    recounted,
)
from pgw.core.ledger.outbox import MAX_DEAD, REQUEUED, occurred_at
from pgw.core.ledger.tables import gateway_metrics, outbox, payments
from pgw.core.ledger.violations import DetectedBy, DetectedViolation
from pgw.core.money.audit_rows import EventRow, PaymentRows
from pgw.core.money.invariants import check
from pgw.malformed import MALFORMED

SAMPLE = 100
"""Payments of one sample."""

NEAR_EVENTS, MARGIN = 2_000, 500
"""Events read for one sample, and how many of them stand before what is looked for."""

MAX_SEARCHED = 50_000
"""Events among which those of one payment are searched, by the database; a payment that took longer is not judged by
its events here: the whole audit does."""

CONFIRMED = 5
"""Payments of one sample that are looked at again when their events look wrong among those near them."""

MINUTE = timedelta(minutes=1)
COUNTED_ON = 2 * MINUTE
"""History goes on so long after a minute that is done: who counts has counted all of it."""

_EVENT = cast(outbox.c.event, Text)


@dataclass(frozen=True, slots=True)
class SampledPayment:
    """A payment that was looked at, and what is wrong; without `by_events` only its rows were."""

    payment_id: str
    found: tuple[DetectedViolation, ...]
    by_events: bool


def sampled(connection: Connection, since: datetime) -> Sequence[SampledPayment]:
    """Check payments made from a time on, by their rows and, where these stand together, by their events."""
    with one_snapshot(connection) as reading:
        found = payment_rows(reading, payments_after(reading, first_id(since), SAMPLE))
        told = _nearby(reading, found)
        looked = [_checked(case, told.get(case.payment.payment_id)) for case in found]
        # Not all events of a payment need to stand near: what looks wrong is looked for everywhere they may.
        suspects = [
            place for place, each in enumerate(looked) if any(it.seen_in is DetectedBy.EVENTS for it in each.found)
        ]
        for number, place in enumerate(suspects):
            events = _everywhere(reading, found[place]) if number < CONFIRMED else None
            looked[place] = _checked(found[place], events)
        return looked


def sampled_again(connection: Connection, payment_ids: Sequence[str]) -> Sequence[SampledPayment]:
    """Check payments that were found wrong before."""
    with one_snapshot(connection) as reading:
        return [_checked(case, _everywhere(reading, case)) for case in payment_rows(reading, payment_ids)]


def _checked(case: PaymentRows, events: Sequence[EventRow] | None) -> SampledPayment:
    by_rows = check(case)
    found = [DetectedViolation(each, DetectedBy.ROWS) for each in by_rows]
    if events is not None:
        both = check(msgspec.structs.replace(case, events=events))
        found += [DetectedViolation(each, DetectedBy.EVENTS) for each in both if each not in by_rows]
    return SampledPayment(case.payment.payment_id, tuple(found), by_events=events is not None)


def _nearby(connection: Connection, found: Sequence[PaymentRows]) -> Mapping[str, Sequence[EventRow]]:
    """Return the events of the payments that changed last among the events near them."""
    if not found:
        return {}
    start = position_since(connection, min(each.payment.created_at for each in found), MARGIN)
    told, newest_at = _events(connection, start, start + NEAR_EVENTS)
    is_all = start + NEAR_EVENTS >= last_position(connection)
    changed = _changed_at(connection, [each.payment.payment_id for each in found])
    return {name: told.get(name, ()) for name, at in changed.items() if is_all or (newest_at and at < newest_at)}


def _everywhere(connection: Connection, case: PaymentRows) -> Sequence[EventRow] | None:
    """Return all events of a payment; None where they may be among too many."""
    payment_id = case.payment.payment_id
    start = position_since(connection, case.payment.created_at)
    end = position_since(connection, _changed_at(connection, [payment_id])[payment_id], 0) + EVENTS_PAGE
    if end - start > MAX_SEARCHED:
        return None
    return _events(connection, start, end, payment_id)[0].get(payment_id, ())


def _changed_at(connection: Connection, payment_ids: Sequence[str]) -> Mapping[str, datetime]:
    query = select(payments.c.payment_id, payments.c.updated_at).where(payments.c.payment_id.in_(payment_ids))
    return dict(iter(connection.execute(query)))


def _events(
    connection: Connection, position: int, end: int, payment_id: str | None = None
) -> tuple[Mapping[str, Sequence[EventRow]], datetime | None]:
    """Read the events behind a position, all or one payment's; return them, and when the newest of them occurred."""
    query = (
        select(outbox.c.position, outbox.c.published, _EVENT, outbox.c.dead_reason)
        .where(outbox.c.position > position, outbox.c.position <= end)
        .order_by(outbox.c.position)
    )
    if payment_id is not None:
        query = query.where(_EVENT.contains(payment_id))
    newest_at: datetime | None = None
    told: dict[str, list[EventRow]] = defaultdict(list)
    lifted: list[tuple[str, EventRow]] = []
    for place, published, text, dead_reason in connection.execute(query):
        with suppress(ValueError, *MALFORMED):
            event = msgspec.json.decode(text, type=Event)
            newest_at = max(newest_at or event.occurred_at, event.occurred_at)
            if event.payment_id is None:
                continue
            if dead_reason == REQUEUED:
                lifted.append((event.payment_id, event_row(place, published, event)))
            else:
                told[event.payment_id].append(event_row(place, published, event))
    for name, each in _without_copies(lifted, told):
        told[name] = sorted([*told[name], each], key=lambda one: one.position)
    return told, newest_at


def _without_copies(
    lifted: Iterable[tuple[str, EventRow]], told: Mapping[str, Sequence[EventRow]]
) -> Iterable[tuple[str, EventRow]]:
    """Leave out those that stand in the outbox once more, where that place was read too."""
    known = {each.event_id for events in told.values() for each in events}
    return [(name, each) for name, each in lifted if each.event_id not in known]


def countable(connection: Connection, now: datetime, since: datetime | None = None) -> datetime | None:
    """Name a minute of the history that is done: the newest, or the first one since a time."""
    minute = gateway_metrics.c.minute
    newest = connection.execute(select(func.max(minute))).scalar_one_or_none()
    if newest is None:
        return None
    until = min(now - COUNTED_WITHIN - MINUTE, newest - COUNTED_ON)
    if since is None:
        return connection.execute(select(func.max(minute)).where(minute <= until)).scalar_one_or_none()
    query = select(minute).where(minute >= since, minute <= until).order_by(minute).limit(1)
    return connection.execute(query).scalar_one_or_none()


def compared(
    connection: Connection, minute: datetime, heard: EventScan, first: int, last: int
) -> Sequence[DetectedViolation] | None:
    """Compare what is written of a minute with its events, which stand between two positions.

    None where these cannot decide it: one of them is not published yet, or was put into the outbox once more, so that
    it was counted who knows when.
    """
    is_late = heard.unpublished_at is not None and heard.unpublished_at < minute + MINUTE
    lifted = select(_EVENT).where(
        outbox.c.dead_reason.is_not(None),
        outbox.c.dead_reason == REQUEUED,
        outbox.c.position > first,
        outbox.c.position <= last,
    )
    instants = [occurred_at(event) for event in connection.execute(lifted.limit(MAX_DEAD)).scalars()]
    if is_late or any(minute <= each < minute + MINUTE for each in instants if each is not None):
        return None
    written = minutes_written(connection, minute, minute + MINUTE)
    return [DetectedViolation(each, DetectedBy.METRICS, minute) for each in recounted(written, heard.minutes)]
