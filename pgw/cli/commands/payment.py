"""`pgw payment` -> payments found, one followed through, one explained."""

import re
from datetime import UTC, datetime, timedelta
from typing import Any

import typer

from pgw.cli.client import Client, connect
from pgw.cli.exits import CommandError, Exit, RefusedError
from pgw.cli.lazy import examples, group
from pgw.cli.screen import Column, Row, Screen, plain
from pgw.cli.timeline import moment, story
from pgw.cli.words import say
from pgw.core.money import in_words

app = group("Find payments, follow one, ask why it was routed so.")

PAYMENT = typer.Argument(
    metavar="ID", help="Payment id, or a reference that names one payment: the gateway's, the merchant's, a customer."
)

PAGE = 200
MAX_LISTED = 100_000
"""Most payments one --all collects; beyond it an export is the right tool, and the list says that it is not whole."""

SHOWN_MATCHES = 5


def _amount(payment: Row) -> str:
    return in_words(payment["amount_minor"], payment["currency"]).partition(" ")[2]


COLUMNS = (
    plain("payment_id"),
    plain("status"),
    Column("amount", _amount, right=True),
    plain("currency"),
    plain("gateway", "gateway_used"),
    plain("method", "payment_method"),
    Column("created_at", lambda payment: moment(payment["created_at"], 0)),
    plain("merchant", "merchant_id"),
    plain("reference", "merchant_reference"),
    plain("failure", "failure_code"),
)


@app.command(
    "list",
    epilog=examples(
        "pgw payment list --status PENDING_VERIFICATION",
        "pgw payment list --merchant m_001 --since 2h -o csv",
        "pgw payment list --ref ord-17 -q",
    ),
)
def list_some(
    *,
    merchant: str | None = typer.Option(None, "--merchant", help="Only this merchant's."),
    status: str | None = typer.Option(None, "--status", help="Only with this status."),
    ref: str | None = typer.Option(
        None, "--ref", help="Payment id, transaction ref, merchant reference or customer id."
    ),
    since: str | None = typer.Option(
        None, "--since", metavar="TIME", help="Only since then: 30m, 2h, 7d, or 2026-01-31T10:00:00Z."
    ),
    limit: int | None = typer.Option(None, "--limit", help="At most so many, 1 to 200; 50 if unset."),
    everything: bool = typer.Option(False, "--all", help="All of them, page after page."),
) -> Screen:
    """List payments, newest first."""
    query: dict[str, object] = {
        "merchant_id": merchant,
        "status": status.upper() if status else None,
        "ref": ref,
        "since": _since(since),
        "limit": limit or (PAGE if everything else None),
    }
    with connect() as api:
        document = api.get("/payments", **query)
        while everything and document["next"] and len(document["items"]) < MAX_LISTED:
            page = api.get("/payments", **query, cursor=document["next"])
            document = {"items": document["items"] + page["items"], "next": page["next"]}
    items = document["items"]
    if document["next"]:
        say(f"note: there are more than these {len(items)}" + ("" if everything else ": --all lists every one"))
    return Screen(
        document=document,
        columns=COLUMNS,
        rows=items,
        names=[each["payment_id"] for each in items],
        below=() if items else ("no payment matches",),
        exit_code=Exit.PARTIAL if everything and document["next"] else Exit.DONE,
    )


@app.command(
    epilog=examples("pgw payment show 01980c5e-7f4a-7cc2-9a5c-6b3f7d2e1a90", "pgw payment show ord-17 -o json")
)
def show(payment: str = PAYMENT) -> Screen:
    """Follow one payment.

    Its arrival, the decision, each attempt, each check, and where it stands.
    """
    with connect() as api:
        path = f"/payments/{_payment_id(api, payment)}"
        return story(
            api.get(path), api.get(f"{path}/routing-decision"), api.get(f"{path}/attempts"), _verification(api, path)
        )


@app.command(epilog=examples("pgw payment why 01980c5e-7f4a-7cc2-9a5c-6b3f7d2e1a90", "pgw payment why ord-17 -o md"))
def why(payment: str = PAYMENT) -> Screen:
    """Explain why a payment was routed as it was.

    Decides it again from the stored inputs; exit 10 when that does not come out the same.
    """
    from pgw.cli.explanation import explanation  # noqa: PLC0415  # list and show do without

    with connect() as api:
        path = f"/payments/{_payment_id(api, payment)}"
        decision = api.get(f"{path}/routing-decision", recompute="true")
        return explanation(decision, api.get(path)["gateway_used"])


def _verification(api: Client, path: str) -> Any:
    try:
        return api.get(f"{path}/status-verification")
    except RefusedError as refusal:
        if refusal.code == "NO_VERIFICATION":
            return None
        raise


_UUID = re.compile(r"[0-9a-fA-F]{8}(-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}")


def _payment_id(api: Client, name: str) -> str:
    """Return the id a name means: itself, or that of the one payment with this reference."""
    if _UUID.fullmatch(name):
        return name.lower()
    items = api.get("/payments", ref=name)["items"]
    if len(items) == 1:
        return str(items[0]["payment_id"])
    if not items:
        raise CommandError(
            Exit.NOT_FOUND,
            f"payment '{name}' does not exist, by id or by reference (pgw payment list shows the newest)",
        )
    ids = [each["payment_id"] for each in items[:SHOWN_MATCHES]]
    rest = "" if len(items) <= SHOWN_MATCHES else f" and more (pgw payment list --ref {name})"
    raise CommandError(
        Exit.NOT_FOUND, f"'{name}' names {len(items)} payments, give the id of one: {', '.join(ids)}{rest}"
    )


_AGO = re.compile(r"(\d{1,6})([smhd])")
_UNITS = {"s": "seconds", "m": "minutes", "h": "hours", "d": "days"}


def _since(text: str | None) -> str | None:
    """Turn `2h` into the moment two hours ago; anything else is left for the server to read."""
    ago = _AGO.fullmatch(text or "")
    if ago is None:
        return text
    moment_ago = datetime.now(UTC) - timedelta(**{_UNITS[ago[2]]: int(ago[1])})
    return moment_ago.isoformat(timespec="seconds").replace("+00:00", "Z")
