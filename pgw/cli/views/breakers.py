"""Breakers as the server reports them -> screens: the state with its sign, the rates, who forced it and until when."""

from collections.abc import Sequence
from datetime import datetime

from pgw.cli.views.durations import hour, left, since
from pgw.cli.views.screen import Column, Row, Screen, percent, plain
from pgw.cli.views.timeline import timestamp

STATES = {
    "CLOSED": "✓ closed",
    "OPEN": "✕ open",
    "HALF_OPEN": "◐ half-open",
    "FORCED_OPEN": "✕ FORCED OPEN",
    "FORCED_CLOSED": "✓ FORCED CLOSED",
}
"""A state as people see it: the sign repeats the word, and a colour repeats the sign; an operator's is in capitals."""

AFTERWARDS = {"FORCED_OPEN": "half-open", "FORCED_CLOSED": "automatic", "HALF_OPEN": "half-open"}
"""What follows the end of an override."""


def named(state: str) -> str:
    """Write a state; what is none, such as what follows an override, as it is."""
    return STATES.get(state) or state.lower().replace("_", "-")


def state_of(row: Row) -> str:
    """Write the state, how far its probes are, and how much of its share a slow start lets in."""
    text = named(row["state"])
    if row["state"] == "HALF_OPEN" and row.get("probes"):
        text += f" {row['probes']}"
    if row["state"] == "CLOSED" and row["admission"] < 1:
        text += f", {percent(row['admission'])} let in"
    return text


def breaker_of(row: Row) -> str:
    """Name a breaker."""
    return f"{row['gateway_id']}/{row['payment_method']}"


def _rate(key: str, *, spare: bool = False) -> Column:
    # `failure_rate_2m` -> `fail_2m`: the window stays in the name.
    title = key.replace("failure_rate", "fail").replace("timeout_rate", "timeout")
    return Column(title, lambda row: "" if row[key] is None else percent(row[key]), right=True, spare=spare)


def _why(row: Row, at: datetime) -> str | None:
    """Say who forced a breaker and until when, else the rule that moved one that is not closed."""
    order = row["override"]
    if order is None:
        return None if row["state"] == "CLOSED" else row["cause"]
    end, then = order["expires_at"], AFTERWARDS.get(order["state"], "automatic")
    text = f'{order["actor"]} "{order["reason"]}" → expires in {left(end, at)} ({hour(end)}), then {then}'
    seen = row["seen_by"]
    return text if seen["processes"] >= seen["of"] else f"{text}; seen by {seen['processes']}/{seen['of']} processes"


def columns(at: datetime) -> tuple[Column, ...]:
    """Return the columns of a status; ages are as of `at`. Whatever the window: who, why and until when."""
    return (
        plain("gateway", "gateway_id"),
        plain("method", "payment_method"),
        Column("state", state_of),
        _rate("failure_rate_2m"),
        _rate("timeout_rate_5m", spare=True),
        plain("in_a_row", "consecutive_failures", right=True, spare=True),
        Column("since", lambda row: since(row["since"], at), right=True),
        Column("why", lambda row: _why(row, at), folds=True),
        plain("calls_2m", right=True, spare=True),
        plain("in_flight", right=True, spare=True),
    )


def contradicted(row: Row) -> str | None:
    """Say that an operator sends payments where the automatic rule would not, and how to end it."""
    if row["state"] != "FORCED_CLOSED" or row["automatic_state"] == "CLOSED":
        return None
    clear = f"pgw breaker clear {row['gateway_id']} {row['payment_method']}"
    return f"forced closed, but the automatic rule holds it {named(row['automatic_state'])[2:]} → {clear}"


def _notes(items: Sequence[Row]) -> list[str]:
    """Write what the server notes, once where it is the same for all methods of a gateway."""
    found: dict[tuple[str, str], list[str]] = {}
    for row in items:
        if row["note"]:
            found.setdefault((row["gateway_id"], row["note"]), []).append(row["payment_method"])
    return [f"  {gateway}/{','.join(methods)} {note}" for (gateway, note), methods in found.items()]


def status(items: Sequence[Row], at: datetime, above: tuple[str, ...] = ()) -> Screen:
    """Show where breakers stand."""
    warnings = [f"! {breaker_of(row)} is {warning}" for row in items if (warning := contradicted(row))]
    return Screen(
        document={"items": list(items), "next": None},
        columns=columns(at),
        rows=items,
        names=[breaker_of(row) for row in items],
        above=above,
        below=(*warnings, *_notes(items)) if items else ("there are no breakers",),
    )


def _change(row: Row) -> str:
    fresh = named(row["state"])
    return f"{named(row['was'])[2:]} → {fresh}" if row["was"] else fresh


def _reason(row: Row) -> str:
    """Write the rule that moved a breaker, or who forced it and why."""
    return f'{row["actor"]} "{row["cause"]}"' if row["kind"] == "override" else row["cause"]


HISTORY_COLUMNS = (
    Column("at", lambda row: timestamp(row["occurred_at"], 0)),
    plain("gateway", "gateway_id"),
    plain("method", "payment_method"),
    Column("what", _change, folds=True),
    Column("why", _reason, folds=True),
    Column("until", lambda row: timestamp(row["expires_at"], 0)),
    plain("scope"),
    plain("epoch", right=True),
    plain("actor"),
)


def history(document: Row) -> Screen:
    """Show what became of breakers, and by whom."""
    items = document["items"]
    return Screen(
        document=document,
        columns=HISTORY_COLUMNS,
        rows=items,
        names=[breaker_of(row) for row in items],
        below=() if items else ("nothing has happened to any breaker here",),
    )
