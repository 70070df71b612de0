"""Transitions of breakers -> their rows and events; what became of a breaker, and who ordered it -> its history."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Literal

import msgspec
from msgspec import Struct
from sqlalchemy import ColumnElement, Connection, Row, Text, and_, func, or_, select

from pgw.core.breakers.breaker import Breaker, Key, State
from pgw.core.breakers.override import Override
from pgw.core.events import Event
from pgw.core.ledger.configuration import BREAKER, breaker_subject
from pgw.core.ledger.engine.columns import Id, Json, When, Whole
from pgw.core.ledger.engine.phase import Phase, put
from pgw.core.ledger.tables import breaker_events, configurations, outbox
from pgw.core.writes.attempts import Item

Scope = Literal["shared", "process"]
HistoryKind = Literal["transition", "override"]


class Transition(Struct, frozen=True, kw_only=True):
    """One breaker moved from `was` to `breaker`, whose times are epoch seconds; `process` saw or brought it about.

    `scope`: of all processes, or of this one alone.
    """

    event_id: str
    key: Key
    scope: Scope
    process: str
    was: State
    breaker: Breaker
    occurred_at: datetime


TRANSITION = Phase(
    name="transition",
    columns={
        "event_id": Id,
        "gateway_id": Text(),
        "payment_method": Text(),
        "scope": Text(),
        "process": Text(),
        "was": Text(),
        "state": Text(),
        "epoch": Whole,
        "cause": Text(),
        "breaker": Json(),
        "occurred_at": When(),
        "event": Json(),
    },
    key="event_id",
    order=("event_id",),
    guard=lambda item: (
        put(breaker_events, item)
        .on_conflict_do_nothing(index_elements=["event_id"])
        .returning(breaker_events.c.event_id)
    ),
    effects=lambda won: (put(outbox, select(won.c.event).where(won.c.event.is_not(None)).subquery("published")),),
)
"""Writes one transition, once however often it is published, and the event of those that hold for all processes."""


def transition_write(transition: Transition) -> Item:
    """Lay a transition out for its phase.

    What one process alone does is in the history, but is no event: outside it would pass for the shared state,
    and its end, when the shared breaker takes over, is no transition.
    """
    gateway_id, payment_method = transition.key
    breaker = transition.breaker
    event = Event(
        event_id=transition.event_id,
        type="breaker.changed",
        gateway_id=gateway_id,
        payment_method=payment_method,
        status=breaker.state,
        error_code=breaker.cause,
        occurred_at=transition.occurred_at,
    )
    return {
        "event_id": transition.event_id,
        "gateway_id": gateway_id,
        "payment_method": payment_method,
        "scope": transition.scope,
        "process": transition.process,
        "was": transition.was,
        "state": breaker.state,
        "epoch": breaker.epoch,
        "cause": breaker.cause,
        "breaker": breaker,
        "occurred_at": transition.occurred_at,
        "event": event if transition.scope == "shared" else None,
    }


class HistoryCursor(Struct, frozen=True):
    """Where an entry stands: `entry_id` is the event's id or the configuration's version."""

    occurred_at: datetime
    kind: HistoryKind
    entry_id: str


@dataclass(frozen=True, slots=True)
class HistoryRow:
    """One line of a breaker's history. `actor` is a process or an operator, `cause` a rule or a reason.

    `state` is where the breaker stood afterwards; that of an override which was cleared is what followed it.
    """

    place: HistoryCursor
    gateway_id: str
    payment_method: str
    scope: Scope | None
    actor: str
    was: State | None
    state: str
    cause: str
    expires_at: datetime | None
    epoch: int | None

    @property
    def kind(self) -> HistoryKind:
        """Whether the breaker moved by itself or by an operator command."""
        return self.place.kind

    @property
    def occurred_at(self) -> datetime:
        """When it happened."""
        return self.place.occurred_at


AUTOMATIC = "AUTOMATIC"
"""What follows a forced-closed override: whatever the breaker itself says."""


def history(
    connection: Connection, gateway_id: str | None, payment_method: str | None, before: HistoryCursor | None, limit: int
) -> Sequence[HistoryRow]:
    """List transitions and overrides, newest first; of all breakers where None is given. `before`: the last one seen.

    At equal times, overrides stand before transitions, later ids before earlier ones.
    """
    moved = select(breaker_events).order_by(breaker_events.c.occurred_at.desc(), breaker_events.c.event_id.desc())
    ordered = select(configurations).order_by(configurations.c.changed_at.desc(), configurations.c.version.desc())
    ordered = ordered.where(_subject(gateway_id, payment_method))
    if gateway_id is not None:
        moved = moved.where(breaker_events.c.gateway_id == gateway_id)
    if payment_method is not None:
        moved = moved.where(breaker_events.c.payment_method == payment_method)
    if before is not None:
        moved = moved.where(_moved_before(before))
        ordered = ordered.where(_override_before(before))
    entries = [_override(row) for row in connection.execute(ordered.limit(limit))]
    entries += [_transition(row) for row in connection.execute(moved.limit(limit))]
    entries.sort(key=lambda each: each.occurred_at, reverse=True)
    return entries[:limit]


def last_shared(connection: Connection) -> Mapping[Key, Breaker]:
    """Return the newest value of each shared breaker: what a lost hot state is rebuilt from."""
    of_breaker = (breaker_events.c.gateway_id, breaker_events.c.payment_method)
    # By epoch, not by time: the processes that wrote them do not share a clock.
    place = (
        func.row_number()
        .over(partition_by=of_breaker, order_by=(breaker_events.c.epoch.desc(), breaker_events.c.occurred_at.desc()))
        .label("place")
    )
    shared = select(*of_breaker, breaker_events.c.breaker, place).where(breaker_events.c.scope == "shared").subquery()
    newest = select(shared.c.gateway_id, shared.c.payment_method, shared.c.breaker).where(shared.c.place == 1)
    return {(row[0], row[1]): msgspec.convert(row[2], Breaker) for row in connection.execute(newest)}


def _subject(gateway_id: str | None, payment_method: str | None) -> ColumnElement[bool]:
    subject = configurations.c.subject
    if gateway_id is not None and payment_method is not None:
        return subject == breaker_subject(gateway_id, payment_method)
    if gateway_id is not None:
        return subject.startswith(breaker_subject(gateway_id, ""), autoescape=True)
    if payment_method is not None:
        return and_(
            subject.startswith(BREAKER, autoescape=True), subject.endswith(f":{payment_method}", autoescape=True)
        )
    return subject.startswith(BREAKER, autoescape=True)


def _moved_before(place: HistoryCursor) -> ColumnElement[bool]:
    earlier = breaker_events.c.occurred_at < place.occurred_at
    same = breaker_events.c.occurred_at == place.occurred_at
    if place.kind == "override":
        return or_(earlier, same)
    return or_(earlier, and_(same, breaker_events.c.event_id < place.entry_id))


def _override_before(place: HistoryCursor) -> ColumnElement[bool]:
    earlier = configurations.c.changed_at < place.occurred_at
    if place.kind == "transition":
        return earlier
    same = configurations.c.changed_at == place.occurred_at
    return or_(earlier, and_(same, configurations.c.version < int(place.entry_id)))


def _transition(row: Row[Any]) -> HistoryRow:
    return HistoryRow(
        place=HistoryCursor(row.occurred_at, "transition", row.event_id),
        gateway_id=row.gateway_id,
        payment_method=row.payment_method,
        scope=row.scope,
        actor=row.process,
        was=State(row.was),
        state=row.state,
        cause=row.cause,
        expires_at=None,
        epoch=row.epoch,
    )


def _override(row: Row[Any]) -> HistoryRow:
    override = msgspec.convert(row.document, Override)
    is_cleared = override.expires_at <= row.changed_at
    followed_by = State.HALF_OPEN if override.state is State.FORCED_OPEN else AUTOMATIC
    return HistoryRow(
        place=HistoryCursor(row.changed_at, "override", str(row.version)),
        gateway_id=override.gateway_id,
        payment_method=override.payment_method,
        scope=None,
        actor=row.actor,
        was=override.state if is_cleared else None,
        state=followed_by if is_cleared else override.state,
        cause=row.reason,
        expires_at=override.expires_at,
        epoch=None,
    )
