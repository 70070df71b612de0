"""Values -> column types: what PostgreSQL and SQLite (STRICT) both hold exactly."""

from datetime import UTC, datetime
from typing import Any

import msgspec
from sqlalchemy import BigInteger, Dialect, Integer, MetaData, Text
from sqlalchemy.dialects.postgresql import JSON, TIMESTAMP, UUID
from sqlalchemy.types import TypeDecorator, TypeEngine


class When(TypeDecorator[datetime]):
    """A time in UTC. SQLite keeps text of one fixed width, so that order by text is order in time."""

    impl = Text
    cache_ok = True

    def load_dialect_impl(self, dialect: Dialect) -> TypeEngine[Any]:
        """TIMESTAMPTZ where it exists."""
        return TIMESTAMP(timezone=True) if dialect.name == "postgresql" else Text()

    def process_bind_param(self, value: datetime | None, dialect: Dialect) -> Any:
        """Write a time."""
        return value if value is None or dialect.name == "postgresql" else stamp(value)

    def process_result_value(self, value: Any, dialect: Dialect) -> datetime | None:
        """Read a time, always in UTC."""
        del dialect
        instant = datetime.fromisoformat(value) if isinstance(value, str) else value
        return None if instant is None else instant.astimezone(UTC)


class Json(TypeDecorator[Any]):
    """A JSON document, kept as the text it was written with: JSONB would parse and rebuild it at every write."""

    impl = Text
    cache_ok = True

    def load_dialect_impl(self, dialect: Dialect) -> TypeEngine[Any]:
        """JSON where it exists."""
        return JSON(none_as_null=True) if dialect.name == "postgresql" else Text()

    def process_bind_param(self, value: Any, dialect: Dialect) -> Any:
        """Write a document."""
        return value if value is None or dialect.name == "postgresql" else msgspec.json.encode(value).decode()

    def process_result_value(self, value: Any, dialect: Dialect) -> Any:
        """Read a document."""
        return msgspec.json.decode(value) if value is not None and dialect.name != "postgresql" else value


def stamp(instant: datetime) -> str:
    """Write a UTC time as writes carry it, but always with its microseconds: SQLite keeps text of one width."""
    return instant.astimezone(UTC).isoformat(timespec="microseconds").replace("+00:00", "Z")


Id = Text().with_variant(UUID(as_uuid=False), "postgresql")
Whole = Integer().with_variant(BigInteger(), "postgresql")

metadata = MetaData(
    naming_convention={
        "pk": "%(table_name)s_pk",
        "uq": "%(table_name)s_%(column_0_N_name)s_key",
        "ck": "%(table_name)s_%(constraint_name)s_check",
        "ix": "%(table_name)s_%(column_0_N_name)s_index",
    }
)
