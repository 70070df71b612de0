"""A ledger -> the same ledger some time later: its timestamps are moved back by that much."""

from datetime import timedelta
from typing import Any

from sqlalchemy import ColumnElement, Table, func, update

from pgw.core.ledger.engine.columns import When
from pgw.core.ledger.engine.store import open_engine
from pgw.core.ledger.tables import attempts, payments, verification_checks, watches

OF_A_PAYMENT: tuple[Table, ...] = (payments, attempts, verification_checks, watches)
"""The timestamps that decide what is due next; append-only tables keep theirs."""


def pass_time(database: str, by: timedelta, payment_id: str | None = None) -> None:
    """Let time pass for one payment, or for all: whoever works on the ledger finds it so at his next look."""
    engine = open_engine(database)
    try:
        with engine.begin() as connection:
            for table in OF_A_PAYMENT:
                moments = [each for each in table.c if isinstance(each.type, When)]
                earlier = {each: _earlier(each, by, connection.dialect.name) for each in moments}
                connection.execute(
                    update(table).values(earlier).where(payment_id is None or table.c.payment_id == payment_id)  # type: ignore[arg-type]
                )
    finally:
        engine.dispose()


def _earlier(moment: ColumnElement[Any], by: timedelta, dialect: str) -> ColumnElement[Any]:
    seconds = int(by.total_seconds())
    if dialect == "postgresql":
        return moment.op("-")(func.make_interval(0, 0, 0, 0, 0, 0, seconds))
    # As wide as a timestamp is written there, for its order as text is its order in time.
    return func.strftime("%Y-%m-%dT%H:%M:%f", moment, f"-{seconds} seconds").op("||")("000Z")
