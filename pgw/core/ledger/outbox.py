"""Events in the outbox -> one order without a gap: numbered by the relay, read by number; the unappliable set aside."""

from collections.abc import Sequence
from datetime import datetime
from typing import Annotated, NamedTuple

import msgspec
from msgspec import Meta, Struct
from sqlalchemy import Connection, Text, bindparam, cast, func, select, update
from sqlalchemy.sql.selectable import FromClause

from pgw.core.ledger.engine.columns import Whole
from pgw.core.ledger.engine.phase import Phase, Statement
from pgw.core.ledger.tables import outbox
from pgw.malformed import MALFORMED

MAX_PUBLISHED = 1000
"""Positions that one commit numbers: about ten milliseconds of the writer, which payments may share."""

REQUEUED = "REQUEUED"
"""The dead reason of an event that stands in the outbox once more: it is neither delivered nor counted again."""

MAX_COUNTED = 100_000
"""How far what waits is counted; beyond it an exact count helps no operator."""

MAX_DEAD = 200
"""Dead events listed, or requeued, at once."""

PROBED = MAX_DEAD + 56
"""Events read to find the time of one number: more than are requeued at once, which occurred long before."""


_IS_DEAD = (outbox.c.dead_reason.is_not(None), outbox.c.dead_reason != REQUEUED)


def _number(item: FromClause) -> Statement:
    """Give the events that wait, from the lowest position on, the numbers that follow the last one given.

    Where to begin is looked up by the statement itself: a position read before would pass over an event that was
    committed since, below others of the same payment. Positions bound the work, not a limit: a limit's plan, made on an
    empty table, sorts all that ever waits.
    """
    some, lowest = outbox.alias("some"), outbox.alias("lowest")
    from_ = select(func.min(lowest.c.position)).where(lowest.c.published.is_(None)).scalar_subquery()
    place = func.row_number().over(order_by=some.c.position)
    numbered = (
        select(some.c.position, place.label("place"))
        .where(some.c.published.is_(None), some.c.position >= from_, some.c.position < from_ + MAX_PUBLISHED)
        .subquery("numbered")
    )
    given = outbox.alias("given")
    last = select(func.coalesce(func.max(given.c.published), 0)).scalar_subquery()
    return (
        update(outbox)
        .values(published=item.c.first + numbered.c.place - 1)
        .where(
            outbox.c.position == numbered.c.position,
            # Written so that the rows are looked up by position, and not found by walking all that waits.
            func.coalesce(outbox.c.published, 0) == 0,
            item.c.first == last + 1,
        )
        .returning(outbox.c.published.label("first"))
    )


PUBLISH = Phase(
    name="publish",
    columns={"first": Whole},
    key="first",
    order=("first",),
    guard=_number,
    effects=lambda _: (),
)
"""Numbers a part of what waits, from `first` on; lost when nothing waits, or `first` is not the next number.

Two relays that number at once get in each other's way on the unique index of numbers: one of them writes nothing. A
payment's later event waits behind its earlier one, which was committed before it was written.
"""


def _die(item: FromClause) -> Statement:
    return (
        update(outbox)
        .values(dead_reason=item.c.dead_reason)
        .where(outbox.c.published == item.c.published, outbox.c.dead_reason.is_(None))
        .returning(outbox.c.published)
    )


DIE = Phase(
    name="die",
    columns={"published": Whole, "dead_reason": Text()},
    key="published",
    order=("published",),
    guard=_die,
    effects=lambda _: (),
)
"""Notes why no consumer could apply an event; the first reason stays."""


def _lift(item: FromClause) -> Statement:
    return (
        update(outbox)
        .values(dead_reason=REQUEUED)
        .where(outbox.c.published == item.c.published, *_IS_DEAD)
        .returning(outbox.c.published)
    )


def _publish_again(won: FromClause) -> Statement:
    again = outbox.alias("again")
    source = select(again.c.event).select_from(won.join(again, again.c.published == won.c.published))
    return outbox.insert().from_select(["event"], source)


REQUEUE = Phase(
    name="requeue",
    columns={"published": Whole},
    key="published",
    order=("published",),
    guard=_lift,
    effects=lambda won: (_publish_again(won),),
)
"""Puts a dead event into the outbox once more, to be published under a new number.

A copy: were the row to give its number back, the numbers would have a gap, or the last one would be given twice.
"""


# As text: what is only handed on need not be parsed on its way.
_EVENT = cast(outbox.c.event, Text)

NOTHING = b"null"
"""What stands in a dead event's place when it is read: its number, and nothing to count."""


class Row(NamedTuple):
    """One published event; `event` is the document as it was written, or NOTHING."""

    published: int
    event: bytes


class Numbering(NamedTuple):
    """Where the numbering stands: the last number given, and whether anything waits for one."""

    last: int
    is_waiting: bool


class DeadEvent(Struct, frozen=True, kw_only=True):
    """An event that no consumer could apply."""

    published: int
    reason: str
    event: str


class OutboxStatus(Struct, frozen=True, kw_only=True):
    """How the outbox stands. `waiting` is counted up to MAX_COUNTED; `oldest_at`: when the longest waiting occurred."""

    waiting: int
    oldest_at: datetime | None
    last_published: int
    dead: int


class _Dated(Struct, frozen=True):
    """The one member of an event that holds its time."""

    occurred_at: Annotated[datetime, Meta(tz=True)]


def last_published(connection: Connection) -> int:
    """Return the last number given; 0 when none was."""
    return connection.execute(select(func.max(outbox.c.published))).scalar_one() or 0


# Both are asked many times a second by every process that relays or counts: to put them together takes longer than to
# answer them.
_STANDING = select(
    select(func.max(outbox.c.published)).scalar_subquery(),
    select(func.min(outbox.c.position)).where(outbox.c.published.is_(None)).scalar_subquery(),
)
_FOLLOWING = (
    select(outbox.c.published, _EVENT, outbox.c.dead_reason)
    .where(outbox.c.published > bindparam("published"))
    .order_by(outbox.c.published)
    .limit(bindparam("limit"))
)


def numbering(connection: Connection) -> Numbering:
    """Look where the numbering stands."""
    last, waiting = connection.execute(_STANDING).one()
    return Numbering(last or 0, waiting is not None)


def rows_after(connection: Connection, published: int, limit: int) -> Sequence[Row]:
    """List the events that follow a number, in order and without a gap."""
    found = connection.execute(_FOLLOWING, {"published": published, "limit": limit}).all()
    return [Row(number, NOTHING if is_dead else event.encode()) for number, event, is_dead in found]


def first_since(connection: Connection, instant: datetime) -> int:
    """Return a number from which on every event occurred at `instant` or later is found; one past the last for none.

    Events are numbered nearly in the order in which they occurred: the caller allows for the difference.
    """
    low, high = 1, last_published(connection) + 1
    while low < high:
        middle = (low + high) // 2
        if _newest_until(connection, middle) < instant:
            low = middle + 1
        else:
            high = middle
    return low


def _newest_until(connection: Connection, number: int) -> datetime:
    """Return the latest time among some events up to `number`: one requeued has an older time than its place."""
    query = select(_EVENT).where(outbox.c.published <= number).order_by(outbox.c.published.desc()).limit(PROBED)
    instants = [instant for event in connection.execute(query).scalars() if (instant := occurred_at(event)) is not None]
    return max(instants, default=_NEVER)


_NEVER = datetime.fromisoformat("0001-01-01T00:00:00Z")


def occurred_at(event: str | bytes) -> datetime | None:
    """Read when an event occurred; None where it does not say."""
    try:
        return msgspec.json.decode(event, type=_Dated).occurred_at
    except MALFORMED:
        return None


def status(connection: Connection) -> OutboxStatus:
    """Return the outbox's counts and its oldest waiting event."""
    waits = outbox.c.published.is_(None)
    some = select(outbox.c.position).where(waits).limit(MAX_COUNTED).subquery()
    oldest = select(_EVENT).where(waits).order_by(outbox.c.position).limit(1)
    event = connection.execute(oldest).scalar_one_or_none()
    return OutboxStatus(
        waiting=connection.execute(select(func.count()).select_from(some)).scalar_one(),
        oldest_at=None if event is None else occurred_at(event),
        last_published=last_published(connection),
        dead=connection.execute(select(func.count()).select_from(outbox).where(*_IS_DEAD)).scalar_one(),
    )


def dead(connection: Connection, limit: int = MAX_DEAD) -> Sequence[DeadEvent]:
    """List dead events, the oldest first."""
    query = (
        select(outbox.c.published, outbox.c.dead_reason, _EVENT)
        .where(*_IS_DEAD)
        .order_by(outbox.c.position)
        .limit(limit)
    )
    return [DeadEvent(published=number, reason=why, event=event) for number, why, event in connection.execute(query)]
