"""Phase -> SQLite statements: the guard, then each effect on the keys that won, over the same JSON parameter."""

import sqlite3
from collections.abc import Sequence
from typing import Any

import msgspec
from sqlalchemy import Engine, bindparam, func, select, type_coerce
from sqlalchemy.dialects import sqlite
from sqlalchemy.types import Text

from pgw.core.ledger.engine.columns import Json, When, stamp
from pgw.core.ledger.engine.phase import BATCH, Item, Phase

WON = bindparam("won", type_=Text(), required=False)

RETRYABLE = (sqlite3.OperationalError, sqlite3.InterfaceError)
"""Everybody's fault: a busy file, a full disk. The whole batch runs again."""


class SqliteStatements:
    """A phase, compiled once."""

    def __init__(self, phase: Phase) -> None:
        each = func.json_each(BATCH).table_valued("value")
        members = [
            type_coerce(func.json_extract(each.c.value, f"$.{name}"), kind).label(name)
            for name, kind in phase.columns.items()
        ]
        item = select(*members).cte("item")
        keys = func.json_each(WON).table_valued("value")
        won = select(item).where(item.c[phase.key].in_(select(keys.c.value))).cte("won")
        self.guard = _compiled(phase.guard(item))
        self.effects = [_compiled(effect) for effect in phase.effects(won)]
        self._documents = [name for name, kind in phase.columns.items() if isinstance(kind, Json)]
        self._moments = [name for name, kind in phase.columns.items() if isinstance(kind, When)]

    def encode(self, items: Sequence[Item]) -> str:
        """Write a batch.

        Documents travel as text, which SQLite would otherwise parse and write anew for each column it takes; times
        with a fixed width, for their order as text is their order in time.
        """
        return msgspec.json.encode([self._flat(item) for item in items]).decode()

    def _flat(self, item: Item) -> Item:
        flat = dict(item)
        for name in self._documents:
            if flat.get(name) is not None:
                flat[name] = msgspec.json.encode(flat[name]).decode()
        for name in self._moments:
            if flat.get(name) is not None:
                flat[name] = stamp(flat[name])
        return flat


def _compiled(statement: Any) -> tuple[str, dict[str, Any]]:
    compiled = statement.compile(
        dialect=sqlite.dialect(paramstyle="named"),
        compile_kwargs={"render_postcompile": True},
    )
    return str(compiled), {k: v for k, v in compiled.params.items() if k not in {BATCH.key, WON.key}}


class OnSqlite:
    """Runs batches on one held connection; the file's only writer in this process."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._statements: dict[Phase, SqliteStatements] = {}
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
            statements = self._statements[phase] = SqliteStatements(phase)
        given = {BATCH.key: statements.encode(items)}
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
