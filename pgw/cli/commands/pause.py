"""`pgw pause` -> no new payments until a set time; those under way finish, and known keys are still answered."""

import typer

from pgw.cli.consent import OperatorCommand, environment_of, reason_of
from pgw.cli.lazy import examples, group
from pgw.cli.transport.client import connect
from pgw.cli.views.durations import ttl_of
from pgw.cli.views.pause import pause_screen
from pgw.cli.views.screen import Screen

app = group("Take no new payments until a set time.")


@app.command(epilog=examples("pgw pause", "pgw pause --reason 'INC-4412 double debits at the switch' --ttl 15m"))
def pause(
    reason: str | None = typer.Option(None, "--reason", metavar="TEXT", help="Why; wanted in production."),
    ttl: str | None = typer.Option(None, "--ttl", metavar="30m", help="How long, 60s to 24h; 1h if unset."),
    yes: bool = typer.Option(False, "--yes", help="Do not ask; for scripts in production, with --reason."),
) -> Screen:
    """Take no new payments until a set time.

    Merchants get 503 with Retry-After. Payments under way finish, and the answer to a known key is still given.
    In production it asks for the reason and for a yes; exit 8 when it is not confirmed.
    """
    seconds = ttl_of(ttl)
    order = OperatorCommand(
        command=("pgw", "pause"), question="Refuse all new payments?", reason=reason, ttl=ttl, yes=yes
    )
    with connect() as api:
        given = reason if order.is_complete else reason_of(order, environment_of(api))
        asked = {"reason": given, "ttl_seconds": seconds}
        body = {name: value for name, value in asked.items() if value is not None}
        return pause_screen(api.call("POST", "/ops/pause", body=body).document, "undo: pgw resume")
