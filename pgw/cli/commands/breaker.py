"""`pgw breaker` -> which gateways are left alone and why, and an operator's word on it, shown before it holds."""

from collections.abc import Mapping
from functools import partial
from typing import Any

import typer

from pgw.cli.consent import OperatorCommand, reason_of
from pgw.cli.exits import RefusedError
from pgw.cli.lazy import examples, group
from pgw.cli.names import breaker_named
from pgw.cli.transport.client import ApiClient, connect, member
from pgw.cli.views.breakers import history as history_screen
from pgw.cli.views.breakers import status as shown
from pgw.cli.views.durations import now, ttl_of
from pgw.cli.views.impact import done, impact, preview_screen
from pgw.cli.views.messages import say, width
from pgw.cli.views.screen import Live, Row, Screen

app = group("See the breakers, and force one open or closed until a set time.")

GATEWAY = typer.Argument(metavar="GATEWAY", help="Gateway id, as 'pgw gateway list -q' prints it.")
METHOD = typer.Argument(metavar="METHOD", help="UPI, CARD or NETBANKING.")
ONE_GATEWAY = typer.Argument(None, metavar="GATEWAY", help="Only this gateway.")
ONE_METHOD = typer.Argument(None, metavar="METHOD", help="Only this method.")
REASON = typer.Option(None, "--reason", metavar="TEXT", help="Why; kept with the order, wanted in production.")
TTL = typer.Option(None, "--ttl", metavar="30m", help="How long it holds, 60s to 24h; 1h if unset.")
DRY_RUN = typer.Option(False, "--dry-run", help="Only show what it would do.")
YES = typer.Option(False, "--yes", help="Do not ask; for scripts in production, with --reason.")


@app.command(
    epilog=examples("pgw breaker status", "pgw breaker status razorpay UPI -o json", "pgw breaker status --watch")
)
def status(
    gateway: str | None = ONE_GATEWAY,
    method: str | None = ONE_METHOD,
    *,
    watch: bool = typer.Option(False, "--watch", "-w", help="Look every second; in a pipe write only what changes."),
    frames: int | None = typer.Option(None, "--count", metavar="N", hidden=True, help="End after N looks."),
) -> Screen | Live:
    """Show where breakers stand, and who forced one until when.

    Rates are those of the last 2 and 5 minutes; -o json has exact times.
    """
    look = partial(_fetch, gateway, method.upper() if method else None)
    if watch:
        return Live(look=partial(look, hourly=True), changed_by=_state, frames=frames)
    with connect() as api:
        return look(api)


def _fetch(gateway: str | None, method: str | None, api: ApiClient, *, hourly: bool = False) -> Screen:
    items = [
        row
        for row in api.get("/circuit-breaker/status")["items"]
        if gateway in {None, row["gateway_id"]} and method in {None, row["payment_method"]}
    ]
    if gateway is not None and not items:
        breaker_named(gateway, method, api)
    at = now()
    return shown(items, at, (f"{at:%Y-%m-%d %H:%M:%S} UTC",) if hourly else ())


def _state(row: Row) -> object:
    """Pick what of a breaker counts as a change; rates move all the time."""
    return (
        row["gateway_id"],
        row["payment_method"],
        row["state"],
        row["automatic_state"],
        row["probes"],
        str(row["override"]),
        row["note"],
    )


@app.command(epilog=examples("pgw breaker history", "pgw breaker history razorpay UPI --limit 20 -o md"))
def history(
    gateway: str | None = ONE_GATEWAY,
    method: str | None = ONE_METHOD,
    *,
    limit: int | None = typer.Option(None, "--limit", help="At most so many, 1 to 200; 50 if unset."),
) -> Screen:
    """Show what became of breakers, newest first.

    Every trip and recovery with the rule behind it, every order with its author, reason and end.
    """
    method = method.upper() if method else None
    with connect() as api:
        document = api.get("/circuit-breaker/history", gateway_id=gateway, payment_method=method, limit=limit)
        if gateway is not None and not document["items"]:
            breaker_named(gateway, method, api)
    if document["next"]:
        say(f"note: there is more than these {len(document['items'])}: --limit shows up to 200")
    return history_screen(document)


OPEN_HELP = """Send a gateway nothing of one method until a set time.

What is in flight there finishes. Afterwards, or when cleared, it is probed before its share comes back.
In production it shows what will move and asks for the reason; exit 8 when it is not confirmed.
"""


@app.command("open", help="The same as force-open.", epilog=examples("pgw breaker open razorpay UPI --ttl 30m"))
@app.command(
    "force-open",
    help=OPEN_HELP,
    epilog=examples(
        "pgw breaker force-open razorpay UPI",
        "pgw breaker force-open razorpay UPI --reason 'INC-4412 bank switch down' --ttl 30m",
        "pgw breaker force-open razorpay UPI --dry-run",
    ),
)
def force_open(
    gateway: str = GATEWAY,
    method: str = METHOD,
    *,
    reason: str | None = REASON,
    ttl: str | None = TTL,
    dry_run: bool = DRY_RUN,
    yes: bool = YES,
) -> Screen:
    """Force a breaker open."""
    return _force("force-open", "Open", gateway, method, reason=reason, ttl=ttl, dry_run=dry_run, yes=yes)


CLOSE_HELP = """Send a gateway payments against the breaker's word.

Until a set time it overrules the automatic rule, which holds again afterwards: money goes to a gateway that may be
failing. In production it shows what will move and asks for the reason; exit 8 when it is not confirmed.
"""


@app.command("close", help="The same as force-close.", epilog=examples("pgw breaker close hdfc CARD --ttl 10m"))
@app.command(
    "force-close",
    help=CLOSE_HELP,
    epilog=examples("pgw breaker force-close hdfc CARD --reason 'bank says fixed' --ttl 10m"),
)
def force_close(
    gateway: str = GATEWAY,
    method: str = METHOD,
    *,
    reason: str | None = REASON,
    ttl: str | None = TTL,
    dry_run: bool = DRY_RUN,
    yes: bool = YES,
) -> Screen:
    """Force a breaker closed."""
    return _force("force-close", "Close", gateway, method, reason=reason, ttl=ttl, dry_run=dry_run, yes=yes)


@app.command(epilog=examples("pgw breaker clear razorpay UPI", "pgw breaker clear razorpay UPI --dry-run"))
def clear(
    gateway: str = GATEWAY,
    method: str = METHOD,
    *,
    reason: str | None = typer.Option(None, "--reason", metavar="TEXT", help="Why; kept with the order."),
    dry_run: bool = DRY_RUN,
    yes: bool = typer.Option(False, "--yes", help="Do not ask; for scripts in production."),
) -> Screen:
    """Take an order back before its time.

    A breaker that was forced open is probed first; one forced closed returns to the automatic rule.
    """
    return _force("clear", "Clear", gateway, method, reason=reason, ttl=None, dry_run=dry_run, yes=yes)


def _force(
    action: str, verb: str, gateway: str, method: str, *, reason: str | None, ttl: str | None, dry_run: bool, yes: bool
) -> Screen:
    """Show what an order would do, ask where production wants it, give it."""
    method = method.upper()
    asked = {"reason": reason, "ttl_seconds": ttl_of(ttl)}
    body = {name: value for name, value in asked.items() if value is not None}
    path = f"/circuit-breaker/{action}/{member(gateway)}/{member(method)}"
    order = OperatorCommand(
        command=("pgw", "breaker", action, gateway, method),
        question=f"{verb} {gateway}/{method}?",
        reason=reason,
        ttl=ttl,
        yes=yes,
        wants_reason=action != "clear",
    )
    with connect() as api:
        preview = _preview(api, path, body, gateway, method)
        say("\n".join(impact(preview, now(), width())))
        if dry_run:
            return preview_screen(preview)
        given = reason_of(order, preview["environment"])
        document = api.call("POST", path, body={**body, **({"reason": given} if given else {})}).document
    return done(document, None if action == "clear" else f"pgw breaker clear {gateway} {method}")


def _preview(api: ApiClient, path: str, body: Mapping[str, Any], gateway: str, method: str) -> Row:
    """Ask what an order would do; a name the server does not know is met with the nearest it does."""
    try:
        found: Row = api.call("POST", path, query={"dry_run": "true"}, body=body).document["preview"]
    except RefusedError as refusal:
        if refusal.code in {"NOT_FOUND", "METHOD_NOT_SUPPORTED"}:
            breaker_named(gateway, method, api)
        raise
    return found
