"""Phase -> one PostgreSQL statement: the guard and its effects as CTEs over one JSON parameter."""

from collections.abc import Sequence
from typing import Any

import msgspec
import psycopg
from psycopg.pq import TransactionStatus
from sqlalchemy import ARRAY, Engine, any_, cast, column, func, select
from sqlalchemy.dialects import postgresql
from sqlalchemy.dialects.postgresql import JSON

from pgw.core.ledger.phase import BATCH, Item, Phase

Group = tuple[Phase, Sequence[Item]]

RETRYABLE = (psycopg.OperationalError, psycopg.InterfaceError)
"""Everybody's fault: the connection, the server, a deadlock, a serialization failure. The whole batch runs again."""


PLANNING = "; ".join(
    f"SET {setting}"
    for setting in (
        "plan_cache_mode = force_generic_plan",
        "enable_seqscan = off",
        "enable_hashjoin = off",
        "enable_mergejoin = off",
        "jit = off",
    )
)
"""The writer only looks rows up by key. Plans are made once, possibly on an empty table, and must still be right on ten
million rows: a nested loop over an index always is, a scan that was cheap on the first day is not."""


class Statements:
    """A phase, compiled once."""

    def __init__(self, phase: Phase) -> None:
        rows = func.json_to_recordset(cast(BATCH, JSON)).table_valued(
            *[column(name, kind) for name, kind in phase.columns.items()], name="r"
        )
        item = select(rows.render_derived(with_types=True)).cte("item")
        guard = phase.guard(item).cte("guarded")
        keys = func.array(select(guard.c[phase.key]).scalar_subquery(), type_=ARRAY(phase.columns[phase.key]))
        won = select(item).where(item.c[phase.key] == any_(keys)).cte("won")
        effects = [effect.cte(f"effect_{number}") for number, effect in enumerate(phase.effects(won))]
        statement = select(guard.c[phase.key]).add_cte(*effects)
        compiled = statement.compile(dialect=postgresql.psycopg.dialect(), compile_kwargs={"render_postcompile": True})  # type: ignore[no-untyped-call]
        self.text = str(compiled)
        self.constants = {name: value for name, value in compiled.params.items() if name != BATCH.key}


class OnPostgres:
    """Runs batches on one held connection: one round trip, one commit."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._statements: dict[Phase, Statements] = {}
        self._connection: psycopg.Connection[Any] | None = None

    def run(self, groups: Sequence[Group]) -> list[set[str]]:
        """Write all groups in one transaction; return the winners' keys, group by group."""
        connection = self._held()
        with connection.pipeline():
            cursors = [self._send(connection, phase, items) for phase, items in groups]
            connection.commit()
        return [{str(row[0]) for row in cursor.fetchall()} for cursor in cursors]

    def recover(self) -> None:
        """Make the connection usable after a failure, or drop it."""
        connection = self._connection
        if connection is None:
            return
        try:
            if connection.info.transaction_status is not TransactionStatus.IDLE:
                connection.rollback()
        except psycopg.Error:
            self.close()
        if connection.closed:
            self._connection = None

    def close(self) -> None:
        """Give the connection up."""
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    def _send(self, connection: psycopg.Connection[Any], phase: Phase, items: Sequence[Item]) -> psycopg.Cursor[Any]:
        statements = self._statements.get(phase)
        if statements is None:
            statements = self._statements[phase] = Statements(phase)
        batch = msgspec.json.encode(items).decode()
        cursor = connection.cursor()
        cursor.execute(statements.text, {**statements.constants, BATCH.key: batch}, prepare=True)
        return cursor

    def _held(self) -> psycopg.Connection[Any]:
        if self._connection is None:
            pooled = self._engine.raw_connection()
            driver: psycopg.Connection[Any] = pooled.driver_connection  # type: ignore[assignment]
            pooled.detach()
            driver.execute(PLANNING)
            driver.commit()
            self._connection = driver
        return self._connection
