"""Settings -> the configured ledger, or a refusal that names the way out: no command makes a store by accident."""

from typing import TYPE_CHECKING, Any, TypeVar

from pgw.cli.exits import CommandError, Exit
from pgw.settings import Settings, load

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine

    from sqlalchemy import Connection

    from pgw.core.ledger.engine.ledger import OpenLedger
    from pgw.core.ledger.engine.store import SchemaStatus

T = TypeVar("T")

WAYS_OUT = "name one by PGW_HOME, DATABASE_URL or PGW_SERVER, or make it with 'pgw serve' or 'pgw db upgrade'"


def existing_store(settings: Settings) -> "SchemaStatus":
    """Return the state of the ledger's schema; nothing is created, and an absent ledger costs no heavy import."""
    if settings.on_sqlite and not (settings.home / "pgw.db").is_file():
        raise CommandError(Exit.ABSENT, f"there is no ledger at {settings.home.absolute() / 'pgw.db'}: {WAYS_OUT}")
    from pgw.core.ledger.engine.store import schema_status  # noqa: PLC0415  # sqlalchemy

    status = schema_status(settings.database)
    if status.current is None:
        raise CommandError(Exit.ABSENT, f"{status.database} holds no pgw ledger: {WAYS_OUT}")
    return status


def behind(status: "SchemaStatus") -> str:
    """Say that the schema is old, and what to run."""
    return f"the schema of {status.database} is at {status.current}, this pgw needs {status.head}: run 'pgw db upgrade'"


def current_store(settings: Settings) -> None:
    """Refuse a ledger that is absent, or whose schema is not this version's."""
    status = existing_store(settings)
    if not status.is_current:
        raise CommandError(Exit.REFUSED, behind(status))


def on_store() -> Settings:
    """Return the settings of a command that works on the ledger itself; refuses one that is absent or old."""
    settings = load()
    current_store(settings)
    return settings


def read(settings: Settings, query: "Callable[[Connection], T]") -> T:
    """Run one query on the ledger."""
    from sqlalchemy.exc import DBAPIError  # noqa: PLC0415

    from pgw.core.ledger.engine.store import open_engine  # noqa: PLC0415  # sqlalchemy

    engine = open_engine(settings.database)
    try:
        with engine.connect() as connection:
            return query(connection)
    except DBAPIError as fault:
        kind = type(fault.orig).__name__
        raise CommandError(Exit.ABSENT, f"the ledger could not be read ({kind}): is the database running?") from None
    finally:
        engine.dispose()


def write(settings: Settings, work: "Callable[[OpenLedger], Coroutine[Any, Any, T]]") -> T:
    """Run something that writes to the ledger."""
    import asyncio  # noqa: PLC0415

    from pgw.assembly import open_ledger  # noqa: PLC0415  # sqlalchemy

    async def run() -> T:
        ledger = open_ledger(settings)
        try:
            return await work(ledger)
        finally:
            await ledger.close()

    return asyncio.run(run())
