"""`pgw worker` -> one loop of the workers in a process of its own, until it is stopped."""

import typer

from pgw.cli.exits import CommandError, Exit
from pgw.cli.lazy import examples, group
from pgw.cli.transport.stores import current_store
from pgw.cli.views.screen import FIELD_COLUMNS, Row, Screen, fields_of
from pgw.settings import Settings, load

app = group("Run one worker: count outcomes, or verify attempts.")

ONCE = typer.Option(False, "--once", help="Do what is there to do, show what it was, and end.")


@app.command(epilog=examples("pgw worker metrics", "pgw worker metrics --once -o json"))
def metrics(once: bool = ONCE) -> Screen | None:
    """Relay the outbox to the stream, and count it.

    Any number may run: one of them relays, all of them count. Needs REDIS_URL and a PostgreSQL ledger; without Redis
    'pgw serve' does this itself. SIGTERM ends it, nothing is lost.
    """
    settings = load()
    _shared(settings)
    current_store(settings)
    from pgw.core.ports import HotUnavailable  # noqa: PLC0415  # msgspec
    from pgw.workers.run import count_metrics  # noqa: PLC0415  # sqlalchemy, uvloop

    try:
        drained = count_metrics(settings, once=once)
    except HotUnavailable as fault:
        raise CommandError(Exit.ABSENT, f"{settings.redis_place} does not answer ({fault}): is it running?") from None
    if drained is None:
        return None
    below = () if drained.leads else ("another process relays: published and minutes are its work",)
    return _screen(
        {
            "published": drained.published,
            "counted": drained.counted,
            "minutes_written": drained.minutes,
            "trimmed": drained.trimmed,
            "relays": drained.leads,
        },
        below,
    )


def _shared(settings: Settings) -> None:
    if settings.redis_url is None:
        raise CommandError(
            Exit.ABSENT, "'pgw worker metrics' needs REDIS_URL: set it, or let 'pgw serve' count its own payments"
        )
    if settings.on_sqlite:
        raise CommandError(
            Exit.ABSENT, "'pgw worker metrics' needs a PostgreSQL ledger: set DATABASE_URL, or let 'pgw serve' count"
        )


@app.command(epilog=examples("pgw worker verify", "pgw worker verify --once"))
def verify(once: bool = ONCE) -> Screen | None:
    """Ask gateways what became of attempts whose end is unknown.

    Any number may run: each attempt is checked by one of them. Nothing is ever charged.
    """
    settings = load()
    current_store(settings)
    from pgw.workers.run import verify as run  # noqa: PLC0415  # sqlalchemy, uvloop

    checked = run(settings, once=once)
    return None if checked is None else _screen({"checked": checked})


def _screen(document: Row, below: tuple[str, ...] = ()) -> Screen:
    return Screen(document=document, columns=FIELD_COLUMNS, rows=fields_of(document), names=(), below=below)
