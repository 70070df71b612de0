"""`pgw policy` -> how many gateways a merchant's payments may try, and in what time."""

import typer

from pgw.cli.exits import CommandError, Exit
from pgw.cli.lazy import examples, group
from pgw.cli.transport.client import connect, member
from pgw.cli.views.screen import FIELD_COLUMNS, Screen, change, fields_of

app = group("See and change how often a merchant's payments may be tried.")

MERCHANT = typer.Argument(metavar="MERCHANT", help="Merchant id; one never configured has the default policy.")

MEMBERS = ("merchant_id", "max_attempts", "latency_budget_ms", "retry_on_timeout", "enabled")
"""Members a policy is written with; what else an answer has is the server's comment on it."""


@app.command(epilog=examples("pgw policy get m_001"))
def get(merchant: str = MERCHANT) -> Screen:
    """Show a merchant's policy."""
    with connect() as api:
        document = api.get(f"/retry-policy/{member(merchant)}")
    return Screen(document=document, columns=FIELD_COLUMNS, rows=fields_of(document), names=(merchant,))


@app.command("set", epilog=examples("pgw policy set m_001 --max-attempts 2 --latency-budget-ms 8000"))
def set_members(
    merchant: str = MERCHANT,
    max_attempts: int | None = typer.Option(None, "--max-attempts", help="Gateways one payment may try, 1 to 10."),
    latency_budget_ms: int | None = typer.Option(
        None, "--latency-budget-ms", help="Time for all attempts together, 100 to 60000 ms."
    ),
    retry_on_timeout: bool | None = typer.Option(
        None,
        "--retry-on-timeout/--no-retry-on-timeout",
        help="Kept as asked, never honoured: money may have moved, so an unknown outcome is not retried.",
    ),
    enabled: bool | None = typer.Option(None, "--enabled/--disabled", help="Disabled: one attempt, no fallback."),
) -> Screen:
    """Change a merchant's policy.

    What is not named stays.
    """
    given = {
        "max_attempts": max_attempts,
        "latency_budget_ms": latency_budget_ms,
        "retry_on_timeout": retry_on_timeout,
        "enabled": enabled,
    }
    wanted = {name: value for name, value in given.items() if value is not None}
    if not wanted:
        raise CommandError(
            Exit.USAGE, "nothing to set: name a member, such as --max-attempts 2 (pgw policy set --help)"
        )
    path = f"/retry-policy/{member(merchant)}"
    with connect() as api:
        was = api.get(path)
        now = was
        if any(was[name] != value for name, value in wanted.items()):
            whole = {name: wanted.get(name, was[name]) for name in MEMBERS}
            now = api.call("PUT", path, body=whole).document
    return change(merchant, f"policy of {merchant}", was, now, wanted)
