"""A kind of write -> Phase: who may write (guard) and what follows (effects), once for both databases."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Insert, Table, Update, bindparam, literal, select, true
from sqlalchemy.dialects import postgresql
from sqlalchemy.sql.selectable import FromClause
from sqlalchemy.types import Text, TypeEngine

Item = Mapping[str, Any]
Statement = Insert | Update
Columns = Mapping[str, TypeEngine[Any]]

BATCH = bindparam("batch", type_=Text(), required=False)
"""The items of one batch as one JSON array: one parameter, however many items."""


@dataclass(frozen=True, slots=True, eq=False)
class Phase:
    """One kind of write.

    `columns`: the members of an item and their types. `key`: the member that names an item among the winners.
    `order`: the members that no two items of a batch may share; batches are sorted by them, so that two writers take
    row locks in one order. `guard`: the statement that decides who wins, returning `key`. `effects`: what is written
    for those who won, in the same commit. `locks`: whether each item's payment is locked before anything is read: so
    it is where guard or effects go by what other writers may just be changing beside the guarded row, and where the
    payment's row is written.
    """

    name: str
    columns: Columns
    key: str
    order: tuple[str, ...]
    guard: Callable[[FromClause], Any]
    effects: Callable[[FromClause], tuple[Statement, ...]]
    locks: bool = False

    def place(self, item: Item) -> tuple[str, ...]:
        """Return what orders an item within its batch."""
        return tuple(str(item[member]) for member in self.order)


def put(table: Table, rows: FromClause, **given: Any) -> Any:
    """INSERT the columns that `rows` has under the same name, and those given by value or expression."""
    values = {
        name: value if hasattr(value, "comparator") else literal(value, table.c[name].type)
        for name, value in given.items()
    }
    written = {
        column.name: values[column.name] if column.name in values else rows.c[column.name]
        for column in table.c
        if column.name in values or column.name in rows.c
    }
    # `WHERE true` keeps SQLite from reading a following ON CONFLICT as a join condition.
    source = select(*written.values()).select_from(rows).where(true())
    return postgresql.insert(table).from_select(list(written), source)
