"""`pgw payment` -> payments found, one followed through, one explained."""

import re
from datetime import UTC, datetime, timedelta
from typing import Any

import typer

from pgw.cli.exits import CommandError, Exit, RefusedError
from pgw.cli.lazy import examples, group
from pgw.cli.resolving import manual_decision, resolved
from pgw.cli.transport.client import ApiClient, connect
from pgw.cli.views.durations import now, read
from pgw.cli.views.durations import since as age
from pgw.cli.views.messages import say
from pgw.cli.views.screen import Column, Row, Screen, plain
from pgw.cli.views.timeline import story, timestamp
from pgw.core.money.exposure import exposure_of
from pgw.core.payment.currency import amount_text

app = group("Find payments, follow one, ask why it was routed so.")

PAYMENT = typer.Argument(
    metavar="ID", help="Payment id, or a reference that names one payment: the gateway's, the merchant's, a customer."
)

PAGE = 200
MAX_LISTED = 100_000
"""Most payments one --all collects; beyond it an export is the right tool, and the list says that it is not whole."""

SHOWN_MATCHES = 5


def _amount(payment: Row) -> str:
    return amount_text(payment["amount_minor"], payment["currency"]).partition(" ")[2]


COLUMNS = (
    plain("payment_id"),
    plain("status"),
    Column("amount", _amount, right=True),
    plain("currency"),
    plain("gateway", "gateway_used"),
    plain("method", "payment_method"),
    Column("created_at", lambda payment: timestamp(payment["created_at"], 0)),
    plain("merchant", "merchant_id"),
    plain("reference", "merchant_reference"),
    plain("failure", "failure_code"),
)

AGE = Column("age", lambda payment: age(payment["created_at"], now()), right=True)

AT_RISK = frozenset({"PENDING_VERIFICATION", "MANUAL_REVIEW"})
"""Statuses in which it is unknown whether the money is there: a list of them says since when, and how much."""


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
    """List payments, newest first.

    Of those under verification or in review it shows the age, and how much money is at risk.
    """
    wanted = status.upper() if status else None
    query: dict[str, object] = {
        "merchant_id": merchant,
        "status": wanted,
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
        say(f"note: there may be more than these {len(items)}" + ("" if everything else ": --all lists every one"))
    return Screen(
        document=document,
        columns=(*COLUMNS[:3], AGE, *COLUMNS[3:]) if wanted in AT_RISK else COLUMNS,
        rows=items,
        names=[each["payment_id"] for each in items],
        below=_below(items, at_risk=wanted in AT_RISK, is_whole=not document["next"]),
        exit_code=Exit.PARTIAL if everything and document["next"] else Exit.DONE,
    )


def _below(items: list[Row], *, at_risk: bool, is_whole: bool) -> tuple[str, ...]:
    if not items:
        return ("no payment matches",)
    if not at_risk:
        return ()
    parts = ((1, read(each["created_at"]), each["currency"], each["amount_minor"]) for each in items)
    text = exposure_of(parts).text(now())
    return (text if is_whole else f"of those listed: {text}",)


@app.command(
    epilog=examples("pgw payment show 01980c5e-7f4a-7cc2-9a5c-6b3f7d2e1a90", "pgw payment show ord-17 -o json")
)
def show(payment: str = PAYMENT) -> Screen:
    """Follow one payment.

    Its arrival, the decision, each attempt, each check, and where it stands.
    """
    with connect() as api:
        found = _named(api, payment)
        path = f"/payments/{found['payment_id']}"
        return story(found, api.get(f"{path}/routing-decision"), api.get(f"{path}/attempts"), _verification(api, path))


@app.command(epilog=examples("pgw payment why 01980c5e-7f4a-7cc2-9a5c-6b3f7d2e1a90", "pgw payment why ord-17 -o md"))
def why(payment: str = PAYMENT) -> Screen:
    """Explain why a payment was routed as it was.

    Decides it again from the stored inputs; exit 10 when that does not come out the same.
    """
    from pgw.cli.views.explanation import explanation  # noqa: PLC0415  # list and show do without

    with connect() as api:
        found = _named(api, payment)
        decision = api.get(f"/payments/{found['payment_id']}/routing-decision", recompute="true")
    return explanation(decision, found["gateway_used"])


@app.command(
    epilog=examples(
        "pgw payment resolve ord-17 --as success --reason 'INC-4412' --evidence 'settlement file 2026-01-31, line 17'",
        "pgw payment resolve ord-17 --as failure --reason 'INC-4412' --evidence '{\"utr\": \"4412\"}'",
        "pgw payment resolve ord-17 --attempt 1 --as failure --reason 'refunded by the bank'",
    )
)
def resolve(
    payment: str = PAYMENT,
    *,
    outcome: str = typer.Option(..., "--as", metavar="success|failure", help="What became of it."),
    reason: str = typer.Option(..., "--reason", metavar="TEXT", help="Why; kept in the audit log."),
    evidence: str | None = typer.Option(
        None, "--evidence", metavar="TEXT", help="What it rests on: a short text, or a JSON object of texts."
    ),
    attempt: int | None = typer.Option(
        None,
        "--attempt",
        min=1,
        help="Only the late money of this attempt, which waits for manual review: it was refunded.",
    ),
    yes: bool = typer.Option(False, "--yes", help="Do not ask; for scripts in production."),
) -> Screen:
    """End a payment in MANUAL_REVIEW, with its money.

    As success its money becomes the merchant's; as failure whatever came in is refunded to the customer.
    In production it shows what is at stake and asks; exit 8 when it is not confirmed.
    """
    said = manual_decision(payment, outcome, reason, evidence, attempt, yes=yes)
    with connect() as api:
        return resolved(api, _named(api, payment), said, COLUMNS)


def _verification(api: ApiClient, path: str) -> Any:
    return _unless("NO_VERIFICATION", api, f"{path}/status-verification")


def _unless(code: str, api: ApiClient, path: str) -> Any:
    """Return the document at a path, or None where the server refuses with this code."""
    try:
        return api.get(path)
    except RefusedError as refusal:
        if refusal.code == code:
            return None
        raise


_UUID = re.compile(r"[0-9a-fA-F]{8}(-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}")


def _named(api: ApiClient, name: str) -> Row:
    """Return the payment a name means: that of this id, or the one payment with this reference."""
    if _UUID.fullmatch(name):
        found = _unless("NOT_FOUND", api, f"/payments/{name.lower()}")
        items = [found] if found else []
    else:
        items = api.get("/payments", ref=name)["items"]
    if not items:
        hint = "by id or by reference; pgw payment list shows the newest"
        raise CommandError(Exit.NOT_FOUND, f"payment '{name}' does not exist ({hint})")
    if len(items) > 1:
        ids = ", ".join(each["payment_id"] for each in items[:SHOWN_MATCHES])
        rest = f" and more, see pgw payment list --ref {name}" if len(items) > SHOWN_MATCHES else ""
        message = f"'{name}' names {len(items)} payments: give the id of one ({ids}{rest})"
        raise CommandError(Exit.NOT_FOUND, message)
    return items[0]  # type: ignore[no-any-return]


_AGO = re.compile(r"(\d{1,6})([smhd])")
_UNITS = {"s": "seconds", "m": "minutes", "h": "hours", "d": "days"}


def _since(text: str | None) -> str | None:
    """Turn `2h` into the time two hours ago; anything else is left for the server to read."""
    ago = _AGO.fullmatch(text or "")
    if ago is None:
        return text
    moment_ago = datetime.now(UTC) - timedelta(**{_UNITS[ago[2]]: int(ago[1])})
    return moment_ago.isoformat(timespec="seconds").replace("+00:00", "Z")
