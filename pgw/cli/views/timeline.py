"""A payment, its decision, attempts and checks -> one timeline in order, each line with its time."""

import re
from typing import Any

from pgw.cli.views.screen import Row, Screen, plain
from pgw.core.payment.currency import amount_text

COLUMNS = (
    plain("at"),
    plain("event"),
    plain("gateway"),
    plain("result"),
    plain("ms", right=True),
    plain("detail", folds=True),
)

_FRACTION = re.compile(r"\.(\d+)")
FINAL = frozenset({"SUCCESS", "FAILURE"})


def timestamp(timestamp: str | None, digits: int = 3) -> str | None:
    """Cut the fraction of a second to what people read."""
    if timestamp is None:
        return None
    return _FRACTION.sub(lambda found: f".{found[1][:digits]}" if digits else "", timestamp)


def story(payment: Row, decision: Row, attempts: Row, verification: Row | None) -> Screen:
    """Show one payment from its arrival to where it stands."""
    document = {
        "payment": payment,
        "routing_decision": decision,
        "attempts": attempts,
        "status_verification": verification,
    }
    rows = [
        _line(payment["created_at"], "received", result=payment["payment_method"], detail=_override(payment)),
        _line(
            decision["decided_at"],
            "decided",
            gateway=decision["selected_gateway"],
            result=f"{decision['selected_score']:.4f}",
            detail=f"{decision['strategy']}: {decision['reason_summary']}",
        ),
        *map(_attempt, attempts["attempts"]),
        *_checks(verification),
        _state(payment),
    ]
    return Screen(
        document=document,
        columns=COLUMNS,
        rows=rows,
        names=(payment["payment_id"],),
        above=(f"payment {payment['payment_id']} is {payment['status']}",),
        below=_prospects(payment, verification),
    )


def _line(at: str | None, event: str, **members: object) -> dict[str, Any]:
    return {"at": timestamp(at), "event": event, **members}


def _override(payment: Row) -> str:
    text = [
        amount_text(payment["amount_minor"], payment["currency"]),
        f"merchant {payment['merchant_id']}",
        f"customer {payment['customer_id']}",
    ]
    if payment.get("merchant_reference"):
        text.append(f"reference {payment['merchant_reference']}")
    return ", ".join(text)


def _attempt(attempt: Row) -> dict[str, Any]:
    blame = attempt["blame"]
    text = (
        attempt["error_code"],
        f"blame {blame}" if blame and blame != "none" else None,
        f"after {attempt['fallback_reason']}" if attempt["fallback_reason"] else None,
        f"ref {attempt['transaction_ref']}" if attempt["transaction_ref"] else None,
    )
    return _line(
        attempt["started_at"],
        f"attempt {attempt['attempt_number']}",
        gateway=attempt["gateway_id"],
        result=attempt["status"],
        ms=attempt["latency_ms"],
        detail=", ".join(filter(None, text)),
    )


def _checks(verification: Row | None) -> list[dict[str, Any]]:
    checks = verification["checks"] if verification else []
    return [
        _line(check["checked_at"], f"check {number}", result=check["result"], detail=check["error_code"])
        for number, check in enumerate(checks, start=1)
    ]


def _state(payment: Row) -> dict[str, Any]:
    return _line(
        payment["updated_at"],
        "ended" if payment["status"] in FINAL else "so far",
        gateway=payment["gateway_used"],
        result=payment["status"],
        ms=payment["latency_ms"],
        detail=payment["failure_code"],
    )


def _prospects(payment: Row, verification: Row | None) -> tuple[str, ...]:
    """Say what is still to come."""
    lines = []
    if payment.get("next_action"):
        lines.append(f"the customer must act: {payment['next_action']['url']}")
    if verification and payment["status"] not in FINAL and verification.get("next_check_at"):
        last = timestamp(verification.get("gives_up_at"), 0)
        lines.append(f"next check at {timestamp(verification['next_check_at'], 0)}, the last at {last}")
    return tuple(lines)
