"""A merchant's keys -> rows: made, revoked, each with its entry in the audit log; what is live, and who made it."""

from collections.abc import Sequence
from datetime import datetime
from typing import Any, NamedTuple

from msgspec import Struct
from sqlalchemy import Connection, Integer, Text, case, exists, func, literal, select, update
from sqlalchemy.sql.selectable import FromClause

from pgw.core.ledger.audit import ENTRY, note
from pgw.core.ledger.engine.columns import When
from pgw.core.ledger.engine.phase import Phase, Statement, put
from pgw.core.ledger.tables import merchant_keys
from pgw.core.payment.merchant_key import Kept

MAX_LISTED = 1000
"""Keys of one list, which says when there are more."""


def _take_a_place(item: FromClause) -> Any:
    """Insert a key at the first free place of its merchant's two; both taken, or taken meanwhile: nothing."""
    first = merchant_keys.alias("first")
    is_taken = exists().where(
        first.c.merchant_id == item.c.merchant_id, first.c.place == 1, first.c.revoked_at.is_(None)
    )
    place = case((is_taken, literal(2, Integer())), else_=literal(1, Integer()))
    return put(merchant_keys, item, place=place).on_conflict_do_nothing().returning(merchant_keys.c.key_id)


MAKE = Phase(
    name="make_key",
    columns={
        "key_id": Text(),
        "merchant_id": Text(),
        "secret_digest": Text(),
        "created_at": When(),
        "created_by": Text(),
        **ENTRY,
    },
    key="key_id",
    order=("merchant_id",),
    guard=_take_a_place,
    effects=lambda won: (note(won),),
)
"""Makes a key; lost when its merchant has two live ones, when another one is just being made, or its id is taken.

At most two by an index, not by counting: two operators at once would each count one.
"""


def _revoke(item: FromClause) -> Statement:
    return (
        update(merchant_keys)
        .values(revoked_at=item.c.revoked_at, revoked_by=item.c.revoked_by)
        .where(merchant_keys.c.key_id == item.c.key_id, merchant_keys.c.revoked_at.is_(None))
        .returning(merchant_keys.c.key_id)
    )


REVOKE = Phase(
    name="revoke_key",
    columns={"key_id": Text(), "revoked_at": When(), "revoked_by": Text(), **ENTRY},
    key="key_id",
    order=("key_id",),
    guard=_revoke,
    effects=lambda won: (note(won),),
)
"""Revokes a key for good; lost when there is no such key, or it is revoked already."""


class MerchantKey(Struct, frozen=True, kw_only=True):
    """What may be shown of a key."""

    key_id: str
    merchant_id: str
    created_at: datetime
    created_by: str
    revoked_at: datetime | None = None
    revoked_by: str | None = None


_TOLD = tuple(merchant_keys.c[name] for name in MerchantKey.__struct_fields__)


class KeySetVersion(NamedTuple):
    """Number of keys ever made, and of those revoked. Both only grow: the same again means that nothing changed."""

    made: int
    revoked: int


def key_set_version(connection: Connection) -> KeySetVersion:
    """Count the keys; cheap enough to ask every second whether the live ones must be read again."""
    counted = select(func.count(), func.count(merchant_keys.c.revoked_at)).select_from(merchant_keys)
    return KeySetVersion(*connection.execute(counted).one())


def live(connection: Connection) -> dict[str, Kept]:
    """Return every key that is valid, by id."""
    columns = (merchant_keys.c.key_id, merchant_keys.c.merchant_id, merchant_keys.c.secret_digest)
    query = select(*columns).where(merchant_keys.c.revoked_at.is_(None))
    return {row[0]: Kept(*row) for row in connection.execute(query)}


def by_id(connection: Connection, key_id: str) -> MerchantKey | None:
    """Find one key."""
    row = connection.execute(select(*_TOLD).where(merchant_keys.c.key_id == key_id)).one_or_none()
    return None if row is None else MerchantKey(**row._mapping)  # noqa: SLF001  # the public accessor


def listed(
    connection: Connection, merchant_id: str | None = None, *, with_revoked: bool = True, limit: int = MAX_LISTED
) -> Sequence[MerchantKey]:
    """List keys, newest first."""
    query = select(*_TOLD).order_by(merchant_keys.c.created_at.desc(), merchant_keys.c.key_id).limit(limit)
    if merchant_id is not None:
        query = query.where(merchant_keys.c.merchant_id == merchant_id)
    if not with_revoked:
        query = query.where(merchant_keys.c.revoked_at.is_(None))
    return [MerchantKey(**row._mapping) for row in connection.execute(query)]  # noqa: SLF001
