"""`pgw db` -> the ledger's schema: create it, bring it up to date, see where it stands."""

from typing import TYPE_CHECKING

from pgw.cli.exits import Exit
from pgw.cli.lazy import examples, group
from pgw.cli.transport.stores import behind, existing_store
from pgw.cli.views.screen import Screen, plain
from pgw.settings import load

if TYPE_CHECKING:
    from pgw.core.ledger.engine.store import SchemaStatus

app = group("Create, upgrade and look at the ledger's schema.")

COLUMNS = (plain("database"), plain("schema", "current"), plain("needed", "head"))


@app.command(epilog=examples("pgw db upgrade", "DATABASE_URL=postgres://pgw@db/pgw pgw db upgrade"))
def upgrade() -> Screen:
    """Bring the schema up to date, or make the ledger.

    The ledger is DATABASE_URL, else the SQLite file in PGW_HOME. Safe to repeat, and from several machines at once.
    """
    from pgw.core.ledger.engine.store import upgrade as bring_up  # noqa: PLC0415  # sqlalchemy

    return _screen(bring_up(load().database))


@app.command(epilog=examples("pgw db status", "pgw db status || pgw db upgrade"))
def status() -> Screen:
    """Show where the ledger's schema stands.

    Exit 6: there is no ledger. Exit 8: its schema is old.
    """
    return _screen(existing_store(load()))


def _screen(found: "SchemaStatus") -> Screen:
    document = {
        "database": found.database,
        "current": found.current,
        "head": found.head,
        "is_current": found.is_current,
    }
    return Screen(
        document=document,
        columns=COLUMNS,
        rows=[document],
        names=(found.current or "",),
        below=("up to date",) if found.is_current else (behind(found),),
        exit_code=Exit.DONE if found.is_current else Exit.REFUSED,
    )
