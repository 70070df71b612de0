"""`pgw outbox` -> the events of the ledger: what waits to be published, what could not be counted, and once more."""

from collections.abc import Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

import typer

from pgw.cli.exits import CommandError, Exit
from pgw.cli.lazy import examples, group
from pgw.cli.transport.stores import on_store, read, write
from pgw.cli.views.screen import FIELD_COLUMNS, Row, Screen, fields_of, plain

if TYPE_CHECKING:
    from pgw.core.ledger.engine.ledger import OpenLedger

app = group("See the ledger's events on their way, and send dead ones again.")

DEAD_COLUMNS = (
    plain("number", "published", right=True),
    plain("type"),
    plain("payment", "payment_id"),
    plain("occurred_at"),
    plain("reason", folds=True),
)


@app.command(epilog=examples("pgw outbox status", "pgw outbox status -o json | jq .dead"))
def status() -> Screen:
    """Show how many events wait to be published, and how many are dead."""
    from pgw.core.ledger.outbox import status as look  # noqa: PLC0415  # sqlalchemy

    found = read(on_store(), look)
    document = {
        "waiting": found.waiting,
        "oldest_at": None if found.oldest_at is None else _timestamp(found.oldest_at),
        "last_published": found.last_published,
        "dead": found.dead,
    }
    below = ("'pgw outbox dead' lists the dead ones",) if found.dead else ()
    return Screen(document=document, columns=FIELD_COLUMNS, rows=fields_of(document), names=(), below=below)


@app.command(epilog=examples("pgw outbox dead", "pgw outbox dead -o json"))
def dead() -> Screen:
    """List the events that could not be counted, and why.

    Payments are not touched by it: only metrics miss them.
    """
    from pgw.core.ledger.outbox import MAX_DEAD  # noqa: PLC0415  # sqlalchemy
    from pgw.core.ledger.outbox import dead as look  # noqa: PLC0415

    rows = [_dead_row(each.published, each.reason, each.event) for each in read(on_store(), look)]
    below = ["'pgw outbox requeue' sends them again, once the reason is gone" if rows else "no event is dead"]
    if len(rows) == MAX_DEAD:
        below.insert(0, f"the first {MAX_DEAD}; more may follow")
    return Screen(
        document={"items": rows, "next": None},
        columns=DEAD_COLUMNS,
        rows=rows,
        names=[str(row["published"]) for row in rows],
        below=tuple(below),
    )


@app.command(epilog=examples("pgw outbox requeue --all"))
def requeue(
    numbers: list[int] | None = typer.Argument(
        None, metavar="[NUMBER]...", help="Numbers of dead events, as 'pgw outbox dead -q' prints them."
    ),
    every: bool = typer.Option(False, "--all", help="Every dead event, at most 200 at once."),
) -> Screen:
    """Publish dead events once more, each under a new number."""
    if bool(numbers) == every:
        raise CommandError(Exit.USAGE, "name dead events by their numbers, or all of them by --all")
    settings = on_store()
    from pgw.core.ledger.outbox import dead as look  # noqa: PLC0415  # sqlalchemy

    chosen = [each.published for each in read(settings, look)] if every else list(dict.fromkeys(numbers or ()))
    fates = write(settings, partial(_requeue, numbers=chosen))
    if unknown := [str(number) for number, is_queued in fates.items() if not is_queued]:
        raise CommandError(
            Exit.NOT_FOUND,
            f"no dead event has the number {', '.join(unknown)} ('pgw outbox dead' lists them); "
            f"{sum(fates.values())} of {len(fates)} were requeued",
        )
    document = {"requeued": chosen}
    text = f"{len(chosen)} requeued" if chosen else "no event is dead"
    rows = [{"number": number} for number in chosen]
    return Screen(
        document=document,
        columns=(plain("number", right=True),),
        rows=rows,
        names=[str(number) for number in chosen],
        below=(text,),
    )


async def _requeue(ledger: "OpenLedger", numbers: Sequence[int]) -> dict[int, bool]:
    """Requeue one after another, so that they are published again in their order."""
    from pgw.core.ledger.outbox import REQUEUE  # noqa: PLC0415  # sqlalchemy

    return {number: await ledger.commit(REQUEUE, {"published": number}) for number in numbers}


def _dead_row(published: int, reason: str, event: str) -> Row:
    """Show one; what is no event still has its text."""
    import json  # noqa: PLC0415

    try:
        document: Any = json.loads(event)
    except ValueError:
        document = event
    members = document if isinstance(document, dict) else {}
    return {
        "published": published,
        "type": members.get("type"),
        "payment_id": members.get("payment_id"),
        "occurred_at": members.get("occurred_at"),
        "reason": reason,
        "event": document,
    }


def _timestamp(at: Any) -> str:
    return str(at.isoformat()).replace("+00:00", "Z")
