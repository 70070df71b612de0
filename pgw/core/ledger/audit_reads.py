"""Tables -> Cases for the invariants, in bounded pages; nothing is written."""

import re
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

import msgspec
from msgspec import Struct
from sqlalchemy import Connection, Table, Text, cast, func, or_, select

from pgw.core.events import Event
from pgw.core.ledger.outbox import PROBED, REQUEUED, occurred_at
from pgw.core.ledger.tables import attempts, gateway_metrics, outbox, payments, transfers, watches
from pgw.core.metrics.counters import SLICE_S, STATUSES, fold, parse_field
from pgw.core.money.audit_rows import (
    AttemptRow,
    EventRow,
    MonitorRow,
    PaymentRow,
    PaymentRows,
    SettlementList,
    TransferRow,
)
from pgw.core.money.invariants import Violation, check, same_key
from pgw.core.payment.payment import AttemptStatus, Status
from pgw.malformed import MALFORMED

PAGE = 500
"""Payments, or ten times as many events, that one statement reads."""

EVENTS_PAGE = 10 * PAGE

MOST_PAYMENTS = 200_000
"""Payments of one audit: their events are held in memory, some hundred bytes each."""

MOST_MINUTES = 100_000

COUNTED_WITHIN = timedelta(minutes=10)
"""How long counting an event, and writing its minute down, may take."""

NO_ID = "00000000-0000-0000-0000-000000000000"
"""The id before all others."""

NEVER = datetime(1, 1, 1, tzinfo=UTC)


def first_id(instant: datetime) -> str:
    """Return the lowest id that a payment made at `instant` may have; ids sort by time."""
    text = f"{int(instant.timestamp() * 1000):012x}"
    return f"{text[:8]}-{text[8:]}-7000-8000-000000000000"


def payments_after(connection: Connection, payment_id: str, limit: int = PAGE) -> Sequence[str]:
    """Name the payments that follow an id, in order."""
    query = select(payments.c.payment_id).where(payments.c.payment_id > payment_id)
    return connection.execute(query.order_by(payments.c.payment_id).limit(limit)).scalars().all()


def payment_rows(
    connection: Connection, payment_ids: Sequence[str], events: Mapping[str, Sequence[EventRow]] | None = None
) -> Sequence[PaymentRows]:
    """Read payments with all their rows. They are read one table after another: what moves meanwhile may look torn."""
    known = _rows(connection, payments, payment_ids)
    tried = _grouped(_rows(connection, attempts, payment_ids, "attempt_number"))
    moved = _grouped(_rows(connection, transfers, payment_ids, "attempt_number"))
    watched = _grouped(_rows(connection, watches, payment_ids, "attempt_number"))
    return [
        PaymentRows(
            payment=_taken(PaymentRow, row, status=Status(row["status"])),
            attempts=[
                _taken(AttemptRow, each, status=AttemptStatus(each["status"])) for each in tried[row["payment_id"]]
            ],
            transfers=[_taken(TransferRow, each) for each in moved[row["payment_id"]]],
            watches=[_taken(MonitorRow, each) for each in watched[row["payment_id"]]],
            events=None if events is None else events.get(row["payment_id"], ()),
        )
        for row in known
    ]


Row = Mapping[str, Any]


def _rows(connection: Connection, table: Table, payment_ids: Sequence[str], *order: str) -> Sequence[Row]:
    query = select(table).where(table.c.payment_id.in_(payment_ids))
    found = connection.execute(query.order_by(*(table.c[name] for name in ("payment_id", *order))))
    return [dict(row) for row in found.mappings()]


def _grouped(rows: Iterable[Row]) -> Mapping[str, list[Row]]:
    found: dict[str, list[Row]] = defaultdict(list)
    for row in rows:
        found[row["payment_id"]].append(row)
    return found


def _taken(kind: Any, row: Row, **given: Any) -> Any:
    return kind(**{name: given.get(name, row[name]) for name in kind.__struct_fields__})


def last_position(connection: Connection) -> int:
    """Return the newest event's position; 0 where there is none."""
    return connection.execute(select(func.max(outbox.c.position))).scalar_one() or 0


def position_since(connection: Connection, instant: datetime, margin: int = EVENTS_PAGE) -> int:
    """Return a position behind which stands every event that occurred at `instant` or later, and hardly any other.

    What is committed together stands together, but for writes that took a while: that is what `margin` is for. Not by
    published numbers, of which there are none while no relay runs.
    """
    low, high = 1, last_position(connection) + 1
    while low < high:
        middle = (low + high) // 2
        if _newest_until(connection, middle) < instant:
            low = middle + 1
        else:
            high = middle
    return max(0, low - 1 - margin)


def _newest_until(connection: Connection, position: int) -> datetime:
    """Return the latest time among some events up to a position: one put there again is older than its place."""
    query = select(cast(outbox.c.event, Text)).where(outbox.c.position <= position)
    some = connection.execute(query.order_by(outbox.c.position.desc()).limit(PROBED)).scalars()
    return max((instant for event in some if (instant := occurred_at(event)) is not None), default=NEVER)


Minutes = dict[tuple[datetime, str, str], int]
"""Attempts that ended in a minute, by gateway and method."""


@dataclass
class EventScan:
    """What a walk through the events has found.

    `unpublished_at`: when the oldest event occurred that cannot be counted yet. `newest_at`: when the newest did.
    `only_counts`: payments are not what is walked for.
    """

    told: dict[str, list[EventRow]] = field(default_factory=lambda: defaultdict(list))
    minutes: Minutes = field(default_factory=dict)
    unpublished_at: datetime | None = None
    newest_at: datetime = NEVER
    events: int = 0
    only_counts: bool = False

    def add(self, place: int, published: int | None, event: Event, *, is_dead: bool) -> None:
        """Take one event."""
        self.events += 1
        self.newest_at = max(self.newest_at, event.occurred_at)
        if published is None:
            self.unpublished_at = min(self.unpublished_at or event.occurred_at, event.occurred_at)
        elif not is_dead:
            self._count(event)
        if event.payment_id is not None and not self.only_counts:
            self.told[event.payment_id].append(event_row(place, published, event))

    def _count(self, event: Event) -> None:
        for number, fields in fold((event,)).items():
            minute = datetime.fromtimestamp(number * SLICE_S, UTC).replace(second=0)
            moved = sum(amount for name, amount in fields.items() if parse_field(name)[1] in STATUSES)
            key = (minute, event.gateway_id, event.payment_method)
            self.minutes[key] = self.minutes.get(key, 0) + moved


def event_row(place: int, published: int | None, event: Event) -> EventRow:
    """Take of an event what the invariants speak of."""
    return EventRow(
        position=place,
        published=published,
        event_id=event.event_id,
        type=event.type,
        attempt_number=event.attempt_number,
        status=event.status,
    )


def scan(connection: Connection, heard: EventScan, position: int, limit: int = EVENTS_PAGE) -> int:
    """Take in a page of events; return the position up to which was read.

    A dead event that was put into the outbox once more is read where it stands now; what is no event is left out.
    """
    query = (
        select(outbox.c.position, outbox.c.published, cast(outbox.c.event, Text), outbox.c.dead_reason)
        .where(
            outbox.c.position > position,
            outbox.c.position <= position + limit,
            or_(outbox.c.dead_reason.is_(None), outbox.c.dead_reason != REQUEUED),
        )
        .order_by(outbox.c.position)
    )
    for place, published, text, dead_reason in connection.execute(query):
        with suppress(ValueError, *MALFORMED):
            heard.add(place, published, msgspec.json.decode(text, type=Event), is_dead=dead_reason is not None)
    return position + limit


def minutes_written(connection: Connection, since: datetime, until: datetime) -> Minutes:
    """Read what the history of metrics says of each minute."""
    query = (
        select(
            gateway_metrics.c.minute,
            gateway_metrics.c.gateway_id,
            gateway_metrics.c.payment_method,
            func.sum(gateway_metrics.c.attempts),
        )
        .where(gateway_metrics.c.minute >= since, gateway_metrics.c.minute < until)
        .group_by(gateway_metrics.c.minute, gateway_metrics.c.gateway_id, gateway_metrics.c.payment_method)
        .order_by(gateway_metrics.c.minute)
        .limit(MOST_MINUTES)
    )
    return {(minute, gateway, method): int(attempts) for minute, gateway, method, attempts in connection.execute(query)}


@contextmanager
def one_snapshot(connection: Connection) -> Iterator[Connection]:
    """Read several tables as of one time: what moves meanwhile must not look torn."""
    reading = connection.execution_options(isolation_level="AUTOCOMMIT")
    on_postgres = reading.dialect.name == "postgresql"
    reading.exec_driver_sql("BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY" if on_postgres else "BEGIN")
    try:
        yield reading
    finally:
        reading.exec_driver_sql("ROLLBACK")


class Audited(Struct, frozen=True, kw_only=True):
    """What an audit looked at, and what it found. `reached`: False where more payments follow than one audit takes."""

    payments: int
    events: int
    violations: tuple[Violation, ...]
    reached: bool = True


def audit(
    connection: Connection, since: datetime | None, now: datetime, settlement: SettlementList | None = None
) -> Audited:
    """Check every payment made since a time, its events, and the metrics they were counted into."""
    with one_snapshot(connection) as reading:
        first = first_id(since) if since is not None else NO_ID
        position = position_since(reading, since) if since is not None else 0
        heard, last = EventScan(), last_position(reading)
        while position < last:
            position = scan(reading, heard, position)
        violations: list[Violation] = []
        checked, after = 0, first
        while checked < MOST_PAYMENTS and (page := payments_after(reading, after)):
            found = payment_rows(reading, page, heard.told)
            violations += [*same_key(found), *(each for case in found for each in check(case, settlement))]
            checked, after = checked + len(page), page[-1]
        violations += _unknown(reading, settlement)
        violations += _minutes(reading, heard, since, now)
        reached = not payments_after(reading, after, 1)
    return Audited(payments=checked, events=heard.events, violations=tuple(violations), reached=reached)


_ID = re.compile("[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")


def _unknown(connection: Connection, settlement: SettlementList | None) -> Iterator[Violation]:
    """I4: money for a payment that there is not."""
    named = () if settlement is None else settlement.payment_ids
    for start in range(0, len(named), PAGE):
        page = named[start : start + PAGE]
        asked = [each for each in page if _ID.fullmatch(each)]
        known = set(connection.execute(select(payments.c.payment_id).where(payments.c.payment_id.in_(asked))).scalars())
        for payment_id in page:
            if payment_id not in known:
                yield Violation("I4", payment_id, "a gateway moved money for it, and there is no such payment")


def _minutes(connection: Connection, heard: EventScan, since: datetime | None, now: datetime) -> Iterator[Violation]:
    """I9, for every minute that is counted by now."""
    start = NEVER if since is None else since.replace(second=0, microsecond=0) + timedelta(minutes=1)
    until = min(heard.unpublished_at or now, now - COUNTED_WITHIN)
    yield from recounted(minutes_written(connection, start, until), heard.minutes)


def recounted(written: Minutes, told: Minutes) -> Iterator[Violation]:
    """I9: what the history says of a minute is what the events say; a minute that was never counted has no history."""
    for (minute, gateway_id, method), attempts_made in written.items():
        by_events = told.get((minute, gateway_id, method), 0)
        if by_events != attempts_made:
            place = f"{gateway_id} {method} {minute:%Y-%m-%dT%H:%MZ}"
            yield Violation("I9", None, f"{place}: {attempts_made} in the metrics, {by_events} by the events")
