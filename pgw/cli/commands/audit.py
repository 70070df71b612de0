"""`pgw audit` -> who did what and why, in configuration and beside it; and whether the money is right."""

import re
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from pgw.cli.exits import CommandError, Exit
from pgw.cli.lazy import examples, group
from pgw.cli.money_audit import audit_money
from pgw.cli.transport.stores import on_store, read
from pgw.cli.views.durations import now
from pgw.cli.views.messages import say
from pgw.cli.views.screen import Column, Screen, plain
from pgw.cli.views.timeline import timestamp

if TYPE_CHECKING:
    from pgw.core.ledger.audit import AuditCursor, AuditEntry

app = group("See who did what, and why; check that the money is right.")


@app.callback()
def _frame() -> None:
    """See who did what, and why; check that the money is right."""


COLUMNS = (
    Column("at", lambda entry: timestamp(entry["at"], 0)),
    plain("actor"),
    plain("action"),
    plain("subject"),
    plain("reason", folds=True),
)

MOST = 200

_AGO = re.compile(r"(\d{1,6})([smhd])")
_UNITS = {"s": "seconds", "m": "minutes", "h": "hours", "d": "days"}
_CURSOR = re.compile(r"(audit|configuration):([0-9]{1,18})@(\S+)")


@app.command(
    epilog=examples(
        "pgw audit log",
        "pgw audit log --subject breaker: --since 7d",
        "pgw audit log --action key.revoke -o csv",
    )
)
def log(
    *,
    actor: str | None = typer.Option(None, "--actor", help="Only what this person did."),
    action: str | None = typer.Option(None, "--action", help="Only this: configure, key.create, key.revoke, ..."),
    subject: str | None = typer.Option(
        None, "--subject", help="Only what begins so: gateway:hdfc, breaker:, key:m_001, ..."
    ),
    since: str | None = typer.Option(
        None, "--since", metavar="TIME", help="Only since then: 30m, 2h, 7d, or 2026-01-31T10:00:00Z."
    ),
    limit: int = typer.Option(50, "--limit", min=1, max=MOST, help=f"At most so many, 1 to {MOST}."),
    cursor: str | None = typer.Option(None, "--cursor", help="Go on after a page: its 'next' in -o json."),
) -> Screen:
    """Show what people did, newest first.

    Each change of configuration with its version, and whatever else was done by hand. -o json has what changed.
    """
    settings = on_store()
    from pgw.core.ledger.audit import AuditFilter  # noqa: PLC0415  # sqlalchemy
    from pgw.core.ledger.audit import read as look  # noqa: PLC0415

    before = None if cursor is None else _place(cursor)
    wanted = AuditFilter(actor, action, subject, None if since is None else _timestamp(since), before, limit + 1)
    # One entry more than asked for shows whether there is a next page.
    found = read(settings, lambda connection: look(connection, wanted))
    page = found[:limit]
    following = _cursor(page[-1].place) if len(found) > limit else None
    if following is not None:
        say(f"note: there is more than these {limit}: --limit shows up to {MOST}, --cursor {following} goes on")
    rows = [_row(each) for each in page]
    return Screen(
        document={"items": rows, "next": following},
        columns=COLUMNS,
        rows=rows,
        names=[row["entry"] for row in rows],
        below=() if rows else ("nothing was done that matches",),
    )


@app.command(epilog=examples("pgw audit money", "pgw audit money --since 7d -o json | jq .violations"))
def money(
    *,
    settlement: Path | None = typer.Option(
        None, "--settlement", metavar="FILE", help="What gateways say they moved since then: .csv or .json."
    ),
    since: str | None = typer.Option(
        None, "--since", metavar="TIME", help="Only payments made since then: 2h, 7d, or 2026-01-31T10:00:00Z."
    ),
) -> Screen:
    """Check that no customer paid twice, or for nothing.

    Looks at the ledger, and at a gateway's own list of what it moved. Changes nothing; exit code 10 when a thing is
    wrong.
    """
    return audit_money(settlement, None if since is None else _timestamp(since))


def _row(entry: "AuditEntry") -> dict[str, Any]:
    from msgspec import to_builtins  # noqa: PLC0415

    return {
        "entry": f"{entry.place.kind}:{entry.place.number}",
        "at": to_builtins(entry.place.at),
        "actor": entry.actor,
        "action": entry.action,
        "subject": entry.subject,
        "reason": entry.reason,
        "details": entry.details,
    }


def _cursor(place: "AuditCursor") -> str:
    from pgw.core.ledger.engine.columns import stamp  # noqa: PLC0415  # sqlalchemy

    return f"{place.kind}:{place.number}@{stamp(place.at)}"


def _place(cursor: str) -> "AuditCursor":
    from pgw.core.ledger.audit import AuditCursor  # noqa: PLC0415  # sqlalchemy

    found = _CURSOR.fullmatch(cursor)
    if found is None:
        raise CommandError(Exit.USAGE, "--cursor must be the 'next' of the page before (-o json)")
    return AuditCursor(
        _timestamp(found[3], "--cursor"), "audit" if found[1] == "audit" else "configuration", int(found[2])
    )


def _timestamp(text: str, option: str = "--since") -> datetime:
    """Read `2h` as the time two hours ago, or a time with its offset."""
    try:
        if ago := _AGO.fullmatch(text):
            return now() - timedelta(**{_UNITS[ago[2]]: int(ago[1])})
        at = datetime.fromisoformat(text)
        if at.tzinfo is not None:
            return at.astimezone(UTC)
    except (ValueError, OverflowError):
        pass
    raise CommandError(
        Exit.USAGE, f"{option} must be a time such as 2h or 7d, or a timestamp such as 2026-01-31T10:00:00Z"
    )
