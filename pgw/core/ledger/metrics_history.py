"""Counts of a minute -> rows of its history: written again while they grow, never back to what they were before."""

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

from msgspec import Struct
from sqlalchemy import Connection, Text, and_, literal, or_, select
from sqlalchemy.sql.selectable import FromClause

from pgw.core.ledger.engine.phase import Phase, put
from pgw.core.ledger.tables import gateway_metrics

MAX_MINUTES = 10_000
"""Rows of one read."""

_CELL = ("gateway_id", "payment_method", "issuing_bank")


def _grow(item: FromClause) -> Any:
    """Insert a minute, or replace one that knew less.

    Attempts are only ever added, and an attempt's end is only ever found out: the later of two counts of one minute is
    the one with more attempts, or with fewer that are still open. Counts of a slice that expired, and came again with a
    late correction alone, are fewer.
    """
    insert = put(gateway_metrics, item)
    new, old = insert.excluded, gateway_metrics.c
    knows_more = or_(
        new.attempts > old.attempts,
        and_(new.attempts == old.attempts, new.unknown + new.pending < old.unknown + old.pending),
    )
    names = (old.gateway_id, old.payment_method, old.issuing_bank)
    cell = names[0] + literal(SEPARATOR, Text()) + names[1] + literal(SEPARATOR, Text()) + names[2]
    return insert.on_conflict_do_update(
        index_elements=[*_CELL, "minute"],
        set_={name: new[name] for name in old.keys() if name not in {*_CELL, "minute"}},  # noqa: SIM118  # no mapping
        where=knows_more,
    ).returning(cell.label("cell"))


SEPARATOR = "\x1f"
"""Parts the names of a cell, as it does in the fields of a slice."""

RECORD_MINUTE = Phase(
    name="record_minute",
    columns={**{column.name: column.type for column in gateway_metrics.c}, "cell": Text()},
    key="cell",
    order=("minute", "cell"),
    guard=_grow,
    effects=lambda _: (),
)
"""Writes one minute of one cell; lost when the history knows as much already.

What verification finds out after a minute's slices have expired is not in it: the payment has it, its minute does not.
"""


class Minute(Struct, frozen=True, kw_only=True):
    """One minute of one (gateway, method, bank), as it stood when it was last written."""

    gateway_id: str
    payment_method: str
    issuing_bank: str
    minute: datetime
    attempts: int
    successes: int
    failures: int
    unknown: int
    pending: int
    p50_ms: int | None
    p95_ms: int | None
    p99_ms: int | None
    counts: Mapping[str, int]


def minutes_of(
    connection: Connection,
    gateway_id: str,
    since: datetime,
    until: datetime,
    payment_method: str | None = None,
    limit: int = MAX_MINUTES,
) -> Sequence[Minute]:
    """List a gateway's minutes from `since` up to, but without, `until`, oldest first."""
    query = select(gateway_metrics).where(
        gateway_metrics.c.gateway_id == gateway_id,
        gateway_metrics.c.minute >= since,
        gateway_metrics.c.minute < until,
    )
    if payment_method is not None:
        query = query.where(gateway_metrics.c.payment_method == payment_method)
    query = query.order_by(*(gateway_metrics.c[name] for name in ("minute", "payment_method", "issuing_bank")))
    return [Minute(**row) for row in connection.execute(query.limit(limit)).mappings()]
