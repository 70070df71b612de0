"""Preview -> sentences: what an order will move and where to, what remains, what stays where it is, when it ends."""

import textwrap
from datetime import datetime

from pgw.cli.views.breakers import breaker_of, named
from pgw.cli.views.durations import hour, left
from pgw.cli.views.screen import Column, Row, Screen, percent, plain
from pgw.cli.views.timeline import timestamp

PREVIEW_COLUMNS = (
    plain("gateway", "gateway_id"),
    plain("method", "payment_method"),
    plain("action"),
    plain("environment"),
    Column("moves", lambda row: "" if row["share"] is None else percent(row["share"]), right=True),
    plain("in_flight", right=True),
    plain("remaining"),
    Column("until", lambda row: timestamp(row["expires_at"], 0)),
)
DONE_COLUMNS = (
    plain("gateway", "gateway_id"),
    plain("method", "payment_method"),
    Column("state", lambda row: named(row["state"])),
    Column("until", lambda row: timestamp(row["expires_at"], 0)),
    plain("by", "actor"),
    plain("reason", folds=True),
)

NARROWEST = 20
"""Columns that a sentence is wrapped to at least; a narrower terminal breaks it itself."""

FOLLOWS = {"HALF_OPEN": "half-open", "AUTOMATIC": "automatic"}


def impact(preview: Row, at: datetime, columns: int | None = None) -> list[str]:
    """Write a preview in a few lines, with the answering server's environment before the first.

    `columns` is the width of the terminal they are for.
    """
    text = [_moves(preview), _expected(preview), _remaining(preview), _under_way(preview), _end(preview, at)]
    environment = preview["environment"]
    room = None if columns is None else max(columns - len(f"  {environment} │ "), NARROWEST)
    lines = [part for line in text for part in (textwrap.wrap(line, room) if room else [line]) if part]
    margins = (environment, *(" " * len(environment) for _ in lines[1:]))
    shown = [f"  {margin} │ {line}" for margin, line in zip(margins, lines, strict=True)]
    return [*shown, *(f"! {warning}" for warning in preview["warnings"])]


def preview_screen(preview: Row) -> Screen:
    """Show a preview as the one result of an order that was not given."""
    return Screen(document=preview, columns=PREVIEW_COLUMNS, rows=[preview], names=[breaker_of(preview)])


def done(document: Row, undo: str | None) -> Screen:
    """Show an order that was given, who has heard of it, and how to take it back."""
    name = breaker_of(document)
    if document["actor"] is None:
        text = f"{name}: already so, it is not forced"
        return Screen(document=document, columns=DONE_COLUMNS, rows=[document], names=[name], above=(text,))
    return Screen(
        document=document,
        columns=DONE_COLUMNS,
        rows=[document],
        names=[name],
        below=(reached(document["seen_by"]), *((f"undo: {undo}",) if undo else ())),
    )


def reached(seen: Row | None) -> str:
    """Say how many processes act on a change by now."""
    if not seen or not seen["of"]:
        return "no server is known here: each takes it from the ledger"
    text = f"seen by {seen['processes']}/{seen['of']} processes in {seen['waited_ms'] / 1000:.1f} s"
    return text if seen["processes"] >= seen["of"] else f"{text}; the others follow with their next look at the ledger"


def _moves(preview: Row) -> str:
    method, minutes = preview["payment_method"], preview["window_s"] // 60
    if preview["share"] is None:
        return f"no {method} payment was seen in the last {minutes} min: what will move is not known"
    if not preview["share"]:
        return f"moves none of the {method} payments of the last {minutes} min"
    pace = preview["payments_per_s"]
    text = f"moves {percent(preview['share'])} of {method}" + (f" ({_per_second(pace)}/s)" if pace else "")
    where = ", ".join(f"{each['gateway_id']} +{percent(each['share'])}" for each in preview["moves_to"])
    return f"{text} → {where or 'nowhere: they will be refused'}"


def _per_second(per_s: float) -> str:
    return f"{per_s:.0f}" if per_s >= 10 else f"{per_s:.2g}"  # noqa: PLR2004  # two digits are all it is good for


def _expected(preview: Row) -> str:
    rates = preview["expected"]
    if rates is None:
        return ""
    before, after, low, high = (percent(rates[each]) for each in ("before", "after", "low", "high"))
    return f"expected success rate {before} → {after} (95 % interval {low} to {high})"


def _remaining(preview: Row) -> str:
    names = preview["remaining"]
    method = preview["payment_method"]
    if not names:
        return f"no gateway remains well for {method}"
    return f"{len(names)} well gateway{' remains' if len(names) == 1 else 's remain'} for {method}: {', '.join(names)}"


def _under_way(preview: Row) -> str:
    text = f"in flight: {preview['in_flight']} finish where they are"
    pending = preview["pending_verification"]
    return f"{text}; {pending} pending stay in verification" if pending else text


def _end(preview: Row, at: datetime) -> str:
    end = preview["expires_at"]
    if end is None:
        return ""
    follows = FOLLOWS.get(preview["then"])
    return f"expires {hour(end)} (in {left(end, at)})" + (f", then {follows}" if follows else "")
