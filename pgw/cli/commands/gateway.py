"""`pgw gateway` -> what each gateway takes and costs, and changes to it."""

from collections.abc import Mapping
from typing import Any

import typer

from pgw.cli.exits import CommandError, Exit
from pgw.cli.lazy import examples, group
from pgw.cli.names import gateway_named, reason_text
from pgw.cli.transport.client import ApiClient, connect, member
from pgw.cli.views.messages import say
from pgw.cli.views.screen import FIELD_COLUMNS, Column, Row, Screen, change, fields_of, plain

app = group("See and change what each gateway takes.")

GATEWAY = typer.Argument(metavar="GATEWAY", help="Gateway id, as 'pgw gateway list -q' prints it.")


def _enabled(gateway: Row) -> str:
    reason = gateway.get("disabled_reason")
    if reason:
        return f"no: {reason}"
    return "yes" if gateway["is_enabled"] else "no"


def _timeout(gateway: Row) -> object:
    return gateway["timeout_ms"] or "default"


def _fees(gateway: Row) -> str:
    parts = [f"{gateway['fee_bps']} bps"] if gateway["fee_bps"] else []
    parts += [f"{gateway['fee_fixed_minor']} minor"] if gateway["fee_fixed_minor"] else []
    return " + ".join(parts) or "none"


COLUMNS = (
    plain("gateway", "gateway_id"),
    plain("name", "display_name"),
    Column("enabled", _enabled, folds=True),
    plain("priority", right=True),
    plain("methods", "supported_methods"),
    plain("currencies", "supported_currencies"),
    Column("timeout_ms", _timeout, right=True),
    Column("fees", _fees),
)


@app.command("list", epilog=examples("pgw gateway list", "pgw gateway list -o json | jq '.items[].gateway_id'"))
def list_all() -> Screen:
    """List the gateways.

    Enabled or why not, priority, methods, currencies, timeout (default: the server's GATEWAY_TIMEOUT_MS), fees.
    """
    with connect() as api:
        document = api.get("/gateways")
    items = document["items"]
    names = [each["gateway_id"] for each in items]
    below = () if items else ("there are no gateways",)
    return Screen(document=document, columns=COLUMNS, rows=items, names=names, below=below)


@app.command(epilog=examples("pgw gateway show hdfc"))
def show(gateway: str = GATEWAY) -> Screen:
    """Show all that is configured of one gateway."""
    with connect() as api:
        document = gateway_named(gateway, api)
    return Screen(document=document, columns=FIELD_COLUMNS, rows=fields_of(document), names=(gateway,))


@app.command(epilog=examples("pgw gateway enable hdfc"))
def enable(gateway: str = GATEWAY) -> Screen:
    """Let a gateway take new payments.

    A sandbox gateway is refused in production.
    """
    with connect() as api:
        screen = _changed(api, gateway, {"is_enabled": True})
    if screen.document.get("disabled_reason"):
        say(f"note: {gateway} takes no payments yet: {screen.document['disabled_reason']}")
    return screen


@app.command(epilog=examples("pgw gateway disable hdfc"))
def disable(gateway: str = GATEWAY) -> Screen:
    """Send a gateway no new payments.

    Those under way finish where they are.
    """
    with connect() as api:
        return _changed(api, gateway, {"is_enabled": False})


@app.command(
    "set",
    epilog=examples(
        "pgw gateway set hdfc --priority 10 --methods UPI,CARD",
        "pgw gateway set icici --fee-bps 180",
        "pgw gateway set hdfc --method UPI --sandbox success_rate=0.9,latency_ms=120",
    ),
)
def set_members(
    gateway: str = GATEWAY,
    *,
    priority: int | None = typer.Option(None, "--priority", help="Place in a tie; the lower goes first."),
    methods: str | None = typer.Option(None, "--methods", metavar="UPI,CARD", help="Methods it takes, all of them."),
    timeout_ms: int | None = typer.Option(
        None, "--timeout-ms", help="Total time of one attempt; beats GATEWAY_TIMEOUT_MS."
    ),
    min_amount_minor: int | None = typer.Option(None, "--min-amount-minor", help="Smallest amount, in minor units."),
    max_amount_minor: int | None = typer.Option(None, "--max-amount-minor", help="Largest amount, in minor units."),
    fee_bps: int | None = typer.Option(None, "--fee-bps", help="Fee in basis points of the amount."),
    fee_fixed_minor: int | None = typer.Option(None, "--fee-fixed-minor", help="Fee per payment, in minor units."),
    method: str | None = typer.Option(None, "--method", help="The method that --sandbox is about."),
    sandbox: str | None = typer.Option(
        None,
        "--sandbox",
        metavar="NAME=VALUE,...",
        help="How a sandbox gateway behaves: success_rate, latency_ms, timeout_rate, outage=START/DURATION.",
    ),
) -> Screen:
    """Change what a gateway takes and costs.

    What is not named stays.
    """
    given = {
        "priority": priority,
        "supported_methods": None if methods is None else reason_text(methods),
        "timeout_ms": timeout_ms,
        "min_amount_minor": min_amount_minor,
        "max_amount_minor": max_amount_minor,
        "fee_bps": fee_bps,
        "fee_fixed_minor": fee_fixed_minor,
    }
    wanted: dict[str, Any] = {name: value for name, value in given.items() if value is not None}
    if (method is None) != (sandbox is None):
        raise CommandError(Exit.USAGE, "--sandbox and --method go together: --method UPI --sandbox success_rate=0.9")
    if method is not None and sandbox is not None:
        wanted["sandbox"] = {method.upper(): behaviour(sandbox)}
    if not wanted:
        raise CommandError(Exit.USAGE, "nothing to set: name a member, such as --priority 10 (pgw gateway set --help)")
    with connect() as api:
        return _changed(api, gateway, wanted)


def behaviour(text: str) -> dict[str, Any]:
    """Read `success_rate=0.9,latency_ms=120`; the server judges the values. An outage may be named more than once."""
    given: dict[str, Any] = {}
    for part in text.split(","):
        name, equals, value = part.strip().partition("=")
        if not equals or name not in _BEHAVIOUR:
            known = ", ".join(_BEHAVIOUR)
            raise CommandError(Exit.USAGE, f"--sandbox takes NAME=VALUE,... with the names {known}")
        if name == "outage":
            given.setdefault(name, []).append(value)
            continue
        try:
            given[name] = _BEHAVIOUR[name](value)
        except ValueError:
            raise CommandError(Exit.USAGE, f"--sandbox {name} takes a number") from None
    return given


_BEHAVIOUR: dict[str, Any] = {"success_rate": float, "latency_ms": int, "timeout_rate": float, "outage": str}


def _changed(api: ApiClient, name: str, wanted: Mapping[str, Any]) -> Screen:
    was = gateway_named(name, api)
    now = was
    if any(was.get(each) != value for each, value in wanted.items()):
        now = api.call("PATCH", f"/gateways/{member(name)}", body=wanted).document
    return change(name, f"gateway {name}", was, now, wanted)
