"""A ledger, what its gateways say they moved -> the invariants violated there: the end of every case in the matrix."""

import contextlib
import json
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from pgw.core.ledger.audit_reads import audit
from pgw.core.ledger.engine.store import open_engine
from pgw.core.money.audit_rows import CAPTURED, REVERSED, SettlementLine, SettlementList
from pgw.core.money.invariants import Violation
from pgw.settings import load

KINDS = {"CAPTURED": CAPTURED, "REVERSED": REVERSED}
"""The sandbox's words for what moved; a charge that it declined moved nothing."""


def ledger_of(home: Path, database_url: str | None = None) -> str:
    """Name the ledger that `pgw serve` uses with this home, or this `DATABASE_URL`."""
    return load({"PGW_HOME": str(home), **({"DATABASE_URL": database_url} if database_url else {})}).database


def violations(
    database: str, lines: Sequence[SettlementLine] = (), gateways: Iterable[str] = ()
) -> tuple[Violation, ...]:
    """Check all that a ledger holds, and against the lines; `gateways`: whose lines these are, though there be none."""
    named = set(gateways)
    settlement = SettlementList(lines, named) if lines or named else None
    engine = open_engine(database)
    try:
        with engine.connect() as connection:
            audited = audit(connection, None, datetime.now(UTC), settlement)
    finally:
        engine.dispose()
    assert audited.reached
    return audited.violations


def settled(book: Iterable[Mapping[str, Any]], now: datetime | None = None) -> tuple[SettlementLine, ...]:
    """Read what moved out of the sandbox's book: `charges` of `GET /sandbox/book`, or the lines of its file.

    The file knows of money that moves later than `now`; that has not moved yet.
    """
    moment = now or datetime.now(UTC)
    return tuple(
        SettlementLine(
            gateway_id=each["gateway_id"],
            payment_id=each["payment_id"],
            attempt_number=each["attempt_number"],
            amount_minor=each["amount_minor"],
            currency=each["currency"],
            kind=KINDS[each["status"]],
        )
        for each in book
        if each["status"] in KINDS and _has_moved(each, moment)
    )


def settled_in(home: Path) -> tuple[SettlementLine, ...]:
    """Read what moved out of the book in a home; a line torn by a kill says nothing."""
    path = home / "sandbox.book"
    lines = []
    for text in path.read_bytes().splitlines() if path.exists() else ():
        with contextlib.suppress(ValueError):
            lines.append(json.loads(text))
    return settled(lines)


def _has_moved(line: Mapping[str, Any], now: datetime) -> bool:
    return "effective_at" not in line or datetime.fromisoformat(line["effective_at"]) <= now
