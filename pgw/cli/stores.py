"""Settings -> the configured ledger, or a refusal that names the way out: no command makes a store by accident."""

from typing import TYPE_CHECKING

from pgw.cli.exits import CommandError, Exit
from pgw.settings import Settings

if TYPE_CHECKING:
    from pgw.core.ledger.store import SchemaStatus

WAYS_OUT = "name one by PGW_HOME, DATABASE_URL or PGW_SERVER, or make it with 'pgw serve' or 'pgw db upgrade'"


def existing_store(settings: Settings) -> "SchemaStatus":
    """Return the state of the ledger's schema; nothing is created, and an absent ledger costs no heavy import."""
    if settings.on_sqlite and not (settings.home / "pgw.db").is_file():
        raise CommandError(Exit.ABSENT, f"there is no ledger at {settings.home.absolute() / 'pgw.db'}: {WAYS_OUT}")
    from pgw.core.ledger.store import schema_status  # noqa: PLC0415  # sqlalchemy

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
