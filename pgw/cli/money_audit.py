"""`pgw audit money` -> whether the money of the ledger, and of a gateway's settlement list, obeys its invariants."""

import csv
from typing import TYPE_CHECKING, Any

from pgw.cli.exits import CommandError, Exit
from pgw.cli.transport.stores import on_store, read
from pgw.cli.views.durations import now
from pgw.cli.views.screen import Screen, plain

if TYPE_CHECKING:
    from collections.abc import Iterable
    from datetime import datetime
    from pathlib import Path

    from pgw.core.money.audit_rows import SettlementList

COLUMNS = (plain("invariant"), plain("payment", "payment_id"), plain("what", folds=True))


def audit_money(settlement: "Path | None", since: "datetime | None") -> Screen:
    """Check, and show what is wrong."""
    settings = on_store()
    from msgspec import to_builtins  # noqa: PLC0415

    from pgw.core.ledger.audit_reads import MOST_PAYMENTS, audit  # noqa: PLC0415  # sqlalchemy
    from pgw.core.money.invariants import MEANINGS  # noqa: PLC0415

    lines = None if settlement is None else _settlement(settlement)
    found = read(settings, lambda connection: audit(connection, since, now(), lines))
    rows = [{**to_builtins(each), "meaning": MEANINGS.get(each.invariant)} for each in found.violations]
    document = {
        "payments": found.payments,
        "events": found.events,
        "settled_gateways": None if lines is None else sorted(lines.gateways),
        "complete": found.reached,
        "violations": rows,
    }
    below = [f"{found.payments} payments, {found.events} events checked"]
    if not found.reached:
        below.append(f"these are the first {MOST_PAYMENTS}: more follow, --since looks at them")
    broken = sorted({each.invariant for each in found.violations})
    below += [f"{name}: {MEANINGS[name]}" for name in broken] or ["no invariant is violated"]
    return Screen(
        document=document,
        columns=COLUMNS,
        rows=rows,
        names=sorted({str(each.payment_id) for each in found.violations if each.payment_id is not None}),
        below=tuple(below),
        exit_code=Exit.GATE if found.violations else Exit.DONE,
    )


def _settlement(path: "Path") -> "SettlementList":
    """Read a list: JSON, an array of objects, or CSV with the same names in its first line."""
    from msgspec import convert, json  # noqa: PLC0415

    from pgw.core.money.audit_rows import CAPTURED, REVERSED, SettlementLine, SettlementList  # noqa: PLC0415
    from pgw.malformed import MALFORMED  # noqa: PLC0415

    try:
        if path.suffix == ".json":
            rows: Iterable[Any] = json.decode(path.read_bytes(), type=list[Any])
        else:
            with path.open(newline="", encoding="utf-8-sig") as file:
                rows = list(csv.DictReader(file))
        # A CSV's numbers are text.
        lines = [convert(row, SettlementLine, strict=False) for row in rows]
    except FileNotFoundError:
        raise CommandError(Exit.NOT_FOUND, f"there is no file {path}") from None
    except (OSError, csv.Error, *MALFORMED) as fault:
        members = ", ".join(SettlementLine.__struct_fields__)
        raise CommandError(Exit.USAGE, f"{path} is no settlement list ({fault}): a line has {members}") from None
    wrong = next((number for number, line in enumerate(lines, 1) if line.kind not in {CAPTURED, REVERSED}), None)
    if wrong is not None:
        raise CommandError(Exit.USAGE, f"{path}: line {wrong} must be of kind {CAPTURED} or {REVERSED}")
    return SettlementList(lines)
