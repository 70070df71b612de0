"""Phase -> SQLite statements: the guard, then each effect on the keys that won, over the same JSON parameter."""

import sqlite3
from collections.abc import Sequence
from typing import Any

import msgspec
from sqlalchemy import ColumnElement, Engine, Label, bindparam, case, func, select, type_coerce
from sqlalchemy.dialects import sqlite
from sqlalchemy.types import Text, TypeEngine

from pgw.core.ledger.phase import BATCH, Item, Phase
from pgw.core.ledger.tables import When

WON = bindparam("won", type_=Text(), required=False)

RETRYABLE = (sqlite3.OperationalError, sqlite3.InterfaceError)
"""Everybody's fault: a busy file, a full disk. The whole batch runs again."""

ITEM_FAULT = (sqlite3.DatabaseError,)
"""Asked after RETRYABLE: what the database refuses of one item."""


class Statements:
    """A phase, compiled once."""

    def __init__(self, phase: Phase) -> None:
        each = func.json_each(BATCH).table_valued("value")
        item = select(*[_member(each.c.value, name, kind) for name, kind in phase.columns.items()]).cte("item")
        keys = func.json_each(WON).table_valued("value")
        won = select(item).where(item.c[phase.key].in_(select(keys.c.value))).cte("won")
        self.guard = _compiled(phase.guard(item))
        self.effects = [_compiled(effect) for effect in phase.effects(won)]


def _member(document: ColumnElement[Any], name: str, kind: TypeEngine[Any]) -> Label[Any]:
    value: ColumnElement[Any] = func.json_extract(document, f"$.{name}")
    if isinstance(kind, When):
        # JSON leaves out microseconds that are zero; the ledger's text must not, or its order is not the order in time.
        value = case(
            (func.length(value) == len("2026-01-01T00:00:00Z"), func.replace(value, "Z", ".000000Z")), else_=value
        )
    return type_coerce(value, kind).label(name)


def _compiled(statement: Any) -> tuple[str, dict[str, Any]]:
    compiled = statement.compile(
        dialect=sqlite.dialect(paramstyle="named"), compile_kwargs={"render_postcompile": True}
    )
    return str(compiled), {k: v for k, v in compiled.params.items() if k not in (BATCH.key, WON.key)}


class OnSqlite:
    """Runs batches on one held connection; the file's only writer in this process."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._statements: dict[Phase, Statements] = {}
        self._connection: sqlite3.Connection | None = None

    def run(self, groups: Sequence[tuple[Phase, Sequence[Item]]]) -> list[set[str]]:
        """Write all groups in one transaction; return the winners' keys, group by group."""
        connection = self._held()
        connection.execute("BEGIN IMMEDIATE")
        winners = [self._write(connection, phase, items) for phase, items in groups]
        connection.execute("COMMIT")
        return winners

    def recover(self) -> None:
        """Make the connection usable after a failure."""
        if self._connection is not None and self._connection.in_transaction:
            self._connection.execute("ROLLBACK")

    def close(self) -> None:
        """Give the connection up."""
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    def _write(self, connection: sqlite3.Connection, phase: Phase, items: Sequence[Item]) -> set[str]:
        statements = self._statements.get(phase)
        if statements is None:
            statements = self._statements[phase] = Statements(phase)
        given = {BATCH.key: msgspec.json.encode(items).decode()}
        text, constants = statements.guard
        keys = [row[0] for row in connection.execute(text, {**constants, **given}).fetchall()]
        if keys:
            given[WON.key] = msgspec.json.encode(keys).decode()
            for text, constants in statements.effects:
                connection.execute(text, {**constants, **given})
        return {str(key) for key in keys}

    def _held(self) -> sqlite3.Connection:
        if self._connection is None:
            pooled = self._engine.raw_connection()
            driver: sqlite3.Connection = pooled.driver_connection  # type: ignore[assignment]
            pooled.detach()
            driver.isolation_level = None
            # Checkpoints copy pages while writers wait; they run beside the writer, on a connection of their own.
            driver.execute("PRAGMA wal_autocheckpoint = 0")
            self._connection = driver
        return self._connection
