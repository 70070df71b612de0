"""`pgw resume` -> new payments again, before the pause would have ended by itself."""

import typer

from pgw.cli.consent import OperatorCommand, environment_of, reason_of
from pgw.cli.lazy import examples, group
from pgw.cli.transport.client import connect
from pgw.cli.views.pause import pause_screen
from pgw.cli.views.screen import Screen

app = group("Take new payments again.")


@app.command(epilog=examples("pgw resume", "pgw resume --reason 'INC-4412 mended' --yes"))
def resume(
    reason: str | None = typer.Option(None, "--reason", metavar="TEXT", help="Why; kept with the order."),
    yes: bool = typer.Option(False, "--yes", help="Do not ask; for scripts in production."),
) -> Screen:
    """Take new payments again.

    Where nothing is paused, that is already so.
    """
    order = OperatorCommand(
        command=("pgw", "resume"), question="Take new payments again?", reason=reason, yes=yes, wants_reason=False
    )
    with connect() as api:
        given = reason if order.is_complete else reason_of(order, environment_of(api))
        return pause_screen(api.call("POST", "/ops/resume", body={"reason": given} if given else {}).document)
