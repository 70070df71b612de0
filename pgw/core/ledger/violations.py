"""Violations -> facts of the ledger: opened by whoever finds them first, cleared when they no longer hold, counted."""

import hashlib
from collections.abc import Mapping, Sequence
from datetime import datetime
from enum import StrEnum
from typing import Any

import msgspec
from msgspec import Struct
from sqlalchemy import Connection, Text, func, select, text, update
from sqlalchemy.sql.selectable import FromClause

from pgw.core.ledger.engine.columns import Id, When, Whole
from pgw.core.ledger.engine.phase import Phase, Statement, put
from pgw.core.ledger.tables import violations
from pgw.core.money.invariants import Violation
from pgw.core.writes.attempts import Item

MAX_OPEN = 1000
"""Violations that are open at one time; who has more has other sorrows, and the table must not grow with them."""

SEPARATOR = "\x1f"


def _open(item: FromClause) -> Any:
    """Insert a violation, or open one again; not one that was cleared since this look at it began."""
    insert = put(violations, item)
    new, old = insert.excluded, violations.c
    return insert.on_conflict_do_update(
        index_elements=["digest"],
        set_={"found_at": new.found_at, "times_found": old.times_found + 1, "cleared_at": None},
        where=old.cleared_at < new.found_at,
    ).returning(old.digest)


OPEN = Phase(
    name="open_violation",
    columns={
        "digest": Text(),
        "invariant": Text(),
        "payment_id": Id,
        "minute": When(),
        "what": Text(),
        "seen_in": Text(),
        "found_at": When(),
        "times_found": Whole,
    },
    key="digest",
    order=("digest",),
    guard=_open,
    effects=lambda _: (),
)
"""Writes a violation; lost when it is open already: another process found, and logged, it."""


def _clear(item: FromClause) -> Statement:
    return (
        update(violations)
        .values(cleared_at=item.c.cleared_at)
        .where(
            violations.c.digest == item.c.digest,
            violations.c.cleared_at.is_(None),
            violations.c.found_at <= item.c.cleared_at,
        )
        .returning(violations.c.digest)
    )


CLEAR = Phase(
    name="clear_violation",
    columns={"digest": Text(), "cleared_at": When()},
    key="digest",
    order=("digest",),
    guard=_clear,
    effects=lambda _: (),
)
"""Notes that a violation no longer holds; lost when it is cleared already, or was found again since that look."""


class DetectedBy(StrEnum):
    """What has to be read to see whether a violation still holds."""

    ROWS = "rows"
    EVENTS = "events"
    METRICS = "metrics"


class DetectedViolation(Struct, frozen=True):
    """A violation as a look found it; `minute` where it is one of the metrics."""

    violation: Violation
    seen_in: DetectedBy
    minute: datetime | None = None

    @property
    def digest(self) -> str:
        """Name it by what it is: whoever finds the same names it alike."""
        members = (self.violation.invariant, self.violation.payment_id or "", self.violation.what)
        return hashlib.sha256(SEPARATOR.join(members).encode()).hexdigest()


class Open(Struct, frozen=True, kw_only=True):
    """A violation that holds, as far as anybody has looked."""

    digest: str
    invariant: str
    payment_id: str | None
    minute: datetime | None
    what: str
    seen_in: str
    found_at: datetime


class ViolationCount(Struct, frozen=True):
    """How often an invariant was found violated, ever, and how many of its violations are open."""

    found: int = 0
    open: int = 0


def open_of(found: DetectedViolation, found_at: datetime) -> Open:
    """Return a violation as it is kept; `found_at` is when the look began that found it."""
    return Open(
        digest=found.digest,
        invariant=found.violation.invariant,
        payment_id=found.violation.payment_id,
        minute=found.minute,
        what=found.violation.what,
        seen_in=found.seen_in,
        found_at=found_at,
    )


def opening(found: DetectedViolation, found_at: datetime) -> Item:
    """Lay the item of OPEN out."""
    return {**msgspec.structs.asdict(open_of(found, found_at)), "times_found": 1}


def clearing(each: Open, at: datetime) -> Item:
    """Lay the item of CLEAR out; `at` is when the look began that no longer found it."""
    return {"digest": each.digest, "cleared_at": at}


_MEMBERS = tuple(violations.c[name] for name in Open.__struct_fields__)
_IS_OPEN = text("violations.cleared_at IS NULL")
"""As the partial index says it."""


def opened(connection: Connection, limit: int = MAX_OPEN) -> Sequence[Open]:
    """List what is open, in an order that stays."""
    query = select(*_MEMBERS).where(_IS_OPEN).order_by(violations.c.digest).limit(limit)
    return [Open(**row._mapping) for row in connection.execute(query)]  # noqa: SLF001  # the public accessor


def still_open(connection: Connection) -> int:
    """Count what is open."""
    return connection.execute(select(func.count()).select_from(violations).where(_IS_OPEN)).scalar_one()


def tallies(connection: Connection) -> Mapping[str, ViolationCount]:
    """Count the violations of each invariant; those never violated are left out."""
    is_open = func.count().filter(violations.c.cleared_at.is_(None))
    query = select(violations.c.invariant, func.sum(violations.c.times_found), is_open).group_by(violations.c.invariant)
    # PostgreSQL adds integers up to a decimal.
    return {name: ViolationCount(int(found), still) for name, found, still in connection.execute(query)}
