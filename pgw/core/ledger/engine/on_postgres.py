"""Phase -> one PostgreSQL statement: the guard and its effects as CTEs over one JSON parameter."""

from collections.abc import Sequence
from typing import Any

import msgspec
import psycopg
from psycopg import sql
from sqlalchemy import ARRAY, Engine, any_, cast, column, func, select
from sqlalchemy.dialects import postgresql
from sqlalchemy.dialects.postgresql import JSON

from pgw.core.ledger.engine.phase import BATCH, Item, Phase

Group = tuple[Phase, Sequence[Item]]

RETRYABLE = (
    psycopg.OperationalError,
    psycopg.InterfaceError,
    psycopg.errors.ReadOnlySqlTransaction,
    psycopg.errors.IdleInTransactionSessionTimeout,
)
"""Everybody's fault: connection, server, deadlock, a replica that takes no writes. The whole batch runs again."""


PLANNING = "; ".join(
    f"SET {setting}"
    for setting in (
        "plan_cache_mode = force_generic_plan",
        "enable_seqscan = off",
        "enable_hashjoin = off",
        "enable_mergejoin = off",
        "jit = off",
        # A batch that takes longer than its waiters wait is unconfirmed; it must not hold up the next, or a stop.
        "statement_timeout = '2s'",
    )
)
"""The writer only looks rows up by key. Plans are made once, possibly on an empty table, and must still be right on ten
million rows: a nested loop over an index always is, a scan that was cheap on the first day is not."""


LOCK = (
    "PREPARE pgw_lock (uuid[]) AS"
    " SELECT FROM payments WHERE payment_id = ANY ($1) ORDER BY payment_id FOR NO KEY UPDATE"
)
"""A statement sees what was committed before it began. Where it then waits for a row, it goes on with that row as it is
by then, but with all others as they were. So money and ends are written under their payment's lock, which is waited for
by a statement of its own: those that follow it in the transaction see what its last holder left. The locks of a batch
are taken at its head and in one order, so that writers of the same payments do not deadlock."""


class PostgresStatements:
    """A phase, compiled once to a statement with one parameter, `$1`."""

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
        compiled = statement.compile(
            dialect=postgresql.psycopg.dialect(),  # type: ignore[no-untyped-call]
            compile_kwargs={"render_postcompile": True},
        )
        self.text = str(compiled).replace(f"%({BATCH.key})s::VARCHAR", "$1")
        self.constants = {name: value for name, value in compiled.params.items() if name != BATCH.key}


class OnPostgres:
    """Runs batches on one held connection: one round trip, one commit."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._prepared: set[Phase] = set()
        self._can_lock = False
        self._connection: psycopg.Connection[Any] | None = None

    def run(self, groups: Sequence[Group]) -> list[set[str]]:
        """Write all groups in one transaction; return the winners' keys, group by group.

        Statements sent as one simple query are one transaction, one message there and one back: each further turn
        would cost the writer a wait for the interpreter that the event loop holds.
        """
        connection = self._held()
        for phase, _ in groups:
            if phase not in self._prepared:
                self._prepare(connection, phase)
        lock = _lock(connection, groups)
        batch = b";".join([*lock, *(_call(connection, phase, items) for phase, items in groups)])
        try:
            cursor = connection.execute(batch)
        except psycopg.errors.ReadOnlySqlTransaction:
            # The server became a replica: the next connection may reach the one that took its place.
            self.close()
            raise
        winners: list[set[str]] = []
        for _ in lock:
            cursor.nextset()
        for _ in groups:
            winners.append({str(row[0]) for row in cursor.fetchall()})
            cursor.nextset()
        return winners

    def recover(self) -> None:
        """Drop a connection that broke; an error inside a batch has already ended its transaction."""
        if self._connection is not None and self._connection.closed:
            self._connection = None

    def close(self) -> None:
        """Give the connection up."""
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    def _prepare(self, connection: psycopg.Connection[Any], phase: Phase) -> None:
        if phase.locks and not self._can_lock:
            connection.execute(LOCK)
            self._can_lock = True
        statements = PostgresStatements(phase)
        text = psycopg.ClientCursor(connection).mogrify(statements.text, statements.constants)
        connection.execute(f"PREPARE pgw_{phase.name} (text) AS {text}".encode())
        self._prepared.add(phase)

    def _held(self) -> psycopg.Connection[Any]:
        if self._connection is None:
            pooled = self._engine.raw_connection()
            driver: psycopg.Connection[Any] = pooled.driver_connection  # type: ignore[assignment]
            pooled.detach()
            driver.autocommit = True
            driver.execute(PLANNING)
            self._connection = driver
            self._prepared.clear()
            self._can_lock = False
        return self._connection


def _lock(connection: psycopg.Connection[Any], groups: Sequence[Group]) -> tuple[bytes, ...]:
    """Return the statement that locks the payments of a batch; none where no phase needs it."""
    locked = {str(item["payment_id"]) for phase, items in groups if phase.locks for item in items}
    names = sql.Literal("{" + ",".join(sorted(locked)) + "}").as_bytes(connection)
    return (b"EXECUTE pgw_lock (" + names + b")",) if locked else ()


def _call(connection: psycopg.Connection[Any], phase: Phase, items: Sequence[Item]) -> bytes:
    batch = sql.Literal(msgspec.json.encode(items).decode()).as_bytes(connection)
    return f"EXECUTE pgw_{phase.name} (".encode() + batch + b")"
