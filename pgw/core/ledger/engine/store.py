"""Database address -> an open, migrated ledger: engines, schema versions, the ledger's own name."""

import sqlite3
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from sqlalchemy import Connection, Engine, create_engine, event, inspect, select, text
from sqlalchemy.engine import make_url
from sqlalchemy.exc import DBAPIError

import pgw
from pgw.core.errors import Code, PgwError
from pgw.core.ledger.configuration import SEED
from pgw.core.ledger.tables import configurations, ledger_identity

HEAD = "0005"
"""The schema this code is written for; a test keeps it equal to the newest migration."""

READERS = 4
"""Connections for reading, beside the writer's own."""

LIBPQ = {"connect_timeout": 5, "tcp_user_timeout": 5_000, "options": "-c statement_timeout=5000"}
"""Bounds of every connection: seconds to connect, then milliseconds without an acknowledgement and of a statement."""

WAL_TRIES, WAL_PAUSE_S = 50, 0.02
"""Switching a new file to WAL is refused while another process writes to it, and no busy timeout helps: try anew."""

MIGRATION_LOCK = 7_263_001
"""Key of the PostgreSQL advisory lock that lets one of many starting processes migrate."""


@dataclass(frozen=True, slots=True)
class SchemaStatus:
    """Where a database's schema stands. `database` is safe to show; `current` is None where there is no schema."""

    database: str
    current: str | None
    head: str = HEAD

    @property
    def is_current(self) -> bool:
        """Whether this code can work with it."""
        return self.current == self.head


def open_engine(database: str) -> Engine:
    """Make an engine for reading; SQLite gets WAL with full synchronisation, so that power loss forgets nothing."""
    url = make_url(database)
    if url.get_backend_name() == "sqlite":
        engine = create_engine(url, pool_size=READERS, max_overflow=2, connect_args={"check_same_thread": False})
        event.listen(engine, "connect", _set_up_sqlite)
        return engine
    return create_engine(url, pool_size=READERS, max_overflow=2, pool_timeout=2, pool_pre_ping=True, connect_args=LIBPQ)


def _set_up_sqlite(connection: Any, _: object) -> None:
    connection.execute("PRAGMA busy_timeout = 5000")
    for _ in range(WAL_TRIES):
        try:
            connection.execute("PRAGMA journal_mode = WAL")
            break
        except sqlite3.OperationalError:
            time.sleep(WAL_PAUSE_S)
    connection.execute("PRAGMA synchronous = FULL")


def schema_status(database: str) -> SchemaStatus:
    """Look where the schema stands; creates nothing. Raises PgwError STORE_ABSENT when there is no database."""
    url = make_url(database)
    shown = url.render_as_string(hide_password=True)
    if url.get_backend_name() == "sqlite" and not Path(str(url.database)).is_file():
        raise PgwError(Code.STORE_ABSENT, f"there is no ledger at {url.database}: set PGW_HOME or DATABASE_URL")
    with _connected(database) as connection:
        return SchemaStatus(shown, current_schema(connection))


def upgrade(database: str) -> SchemaStatus:
    """Bring the schema to HEAD, creating and seeding a new ledger; safe to run from many processes at once."""
    url = make_url(database)
    if url.get_backend_name() == "sqlite":
        Path(str(url.database)).parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    with _connected(database) as connection:
        _lock(connection)
        current = current_schema(connection)
        if current is not None and current > HEAD:
            raise PgwError(Code.OLD_SCHEMA, f"the schema is {current}, newer than this pgw knows ({HEAD}): upgrade pgw")
        if current != HEAD:
            # A migration may take longer than a statement is otherwise allowed to.
            if connection.dialect.name == "postgresql":
                connection.execute(text("SET LOCAL statement_timeout = 0"))
            _migrate(connection)
        if connection.execute(select(ledger_identity.c.ledger_id)).first() is None:
            _seed(connection)
        connection.commit()
        return SchemaStatus(url.render_as_string(hide_password=True), current_schema(connection))


def identity(connection: Connection) -> str:
    """Return the ledger's own name, random and never changed."""
    return str(connection.execute(select(ledger_identity.c.ledger_id)).scalar_one())


@contextmanager
def _connected(database: str) -> Iterator[Connection]:
    engine = open_engine(database)
    try:
        with engine.connect() as connection:
            yield connection
    except DBAPIError as fault:
        shown = make_url(database).render_as_string(hide_password=True)
        kind = type(fault.orig).__name__
        raise PgwError(Code.STORE_ABSENT, f"the database {shown} cannot be used ({kind}): is it running?") from None
    finally:
        engine.dispose()


def _lock(connection: Connection) -> None:
    """Let one process at a time migrate: an advisory lock, or the write lock of the file."""
    if connection.dialect.name == "postgresql":
        connection.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": MIGRATION_LOCK})
    else:
        connection.exec_driver_sql("BEGIN IMMEDIATE")


def current_schema(connection: Connection) -> str | None:
    """Return the schema's version; None where there is no schema."""
    if not inspect(connection).has_table("alembic_version"):
        return None
    return connection.execute(text("SELECT version_num FROM alembic_version")).scalar_one_or_none()


def _migrate(connection: Connection) -> None:
    # Imported here: a start that has nothing to migrate does not pay for it.
    from alembic import command  # noqa: PLC0415
    from alembic.config import Config  # noqa: PLC0415

    config = Config()
    config.set_main_option("script_location", str(migrations_home()))
    config.attributes["connection"] = connection
    command.upgrade(config, "head")


def migrations_home() -> Path:
    """Find the migrations: inside an installed wheel, or beside the package in a checkout."""
    package = Path(pgw.__file__).parent
    return next(place for place in (package / "_sql", package.parent / "sql") if place.is_dir())


def _seed(connection: Connection) -> None:
    now = datetime.now(UTC)
    connection.execute(ledger_identity.insert().values(ledger_id=str(uuid.uuid4()), created_at=now))
    for version, (subject, document) in enumerate(SEED, start=1):
        connection.execute(
            configurations.insert().values(
                version=version, subject=subject, document=document, actor="pgw", reason="seed", changed_at=now
            )
        )
