"""A server, what its gateways' books say -> how many invariants are violated once money has come to rest."""

from collections.abc import Callable, Sequence
from typing import Any

from pgw.core.gateways.razorpay_events import reference_in
from pgw.core.money.audit_rows import CAPTURED, REVERSED, SettlementLine
from tests.faults.proof import ledger_of, settled, violations
from tests.server.serving import Served
from tests.server.wire import eventually


def violated(database: str, lines: Callable[[], Sequence[SettlementLine]]) -> int:
    """Count what is violated; it is looked at again while something is, for a book that was read first is behind."""

    def look() -> int | None:
        found = violations(database, lines())
        print(*found, sep="\n")
        return None if found else 0

    return eventually(look)


def violated_by(running: Served) -> int:
    """Count what a server's ledger violates, by itself and by the book of its sandbox gateways."""
    return violated(ledger_of(running.folder / "home", running.database_url), lambda: settled(running.api.charges()))


def lines_of(book: dict[str, Any]) -> tuple[SettlementLine, ...]:
    """Read what moved out of the book of `pgw sandbox`, which knows our attempts by their receipts."""
    lines = []
    for each in book["payments"]:
        named = reference_in(each["receipt"])
        assert named is not None
        for kind, amount in ((CAPTURED, each["captured_amount"]), (REVERSED, each["refunded_amount"])):
            if amount:
                line = SettlementLine(
                    gateway_id="razorpay",
                    payment_id=named.payment_id,
                    attempt_number=named.attempt_number,
                    amount_minor=amount,
                    currency=each["currency"],
                    kind=kind,
                )
                lines.append(line)
    return tuple(lines)
