"""What the server says of a pause -> a screen: whether payments are taken, since when, by whom and until when."""

from pgw.cli.views.impact import reached
from pgw.cli.views.screen import Column, Row, Screen
from pgw.cli.views.timeline import timestamp

COLUMNS = (
    Column("payments", lambda row: "✕ paused" if row["paused"] else "✓ taken"),
    Column("since", lambda row: timestamp(row["paused_at"], 0) if row["paused"] else None),
    Column("until", lambda row: timestamp(row["expires_at"], 0) if row["paused"] else None),
    Column("by", lambda row: row["actor"] if row["paused"] else None),
    Column("reason", lambda row: row["reason"] if row["paused"] else None, folds=True),
)


def pause_screen(document: Row, *hints: str) -> Screen:
    """Show whether new payments are taken."""
    return Screen(
        document=document,
        columns=COLUMNS,
        rows=[document],
        names=["paused" if document["paused"] else "taken"],
        below=(reached(document["seen_by"]), *hints),
    )
