"""The ledger -> how much money is unsettled, as readiness reports it: unknown for long, or under manual review."""

from sanic import Request

from pgw.core.ledger.at_risk import MoneyAtRisk, at_risk
from pgw.core.ledger.engine.writer import LedgerUnavailable
from pgw.core.money.exposure import LONG_UNKNOWN, NONE, REVERSALS, Exposure
from pgw.server.http.guards import runtime_of
from pgw.server.readiness_check import ReadinessCheck


async def money_checks(request: Request) -> tuple[ReadinessCheck, ...]:
    """Look at unsettled money; without a ledger nothing is known of it, which is said where the ledger is."""
    runtime = runtime_of(request)
    now = runtime.clock.now()
    try:
        found: MoneyAtRisk = await runtime.ledger.read(at_risk, now)
    except LedgerUnavailable:
        return ()

    def text(payments: Exposure, reversals: Exposure) -> str:
        parts = [payments.text(now), reversals.text(now, REVERSALS)]
        return "; ".join(part for part in parts if part != NONE) or NONE

    is_long = max(found.unknown.age(now), found.reversing.age(now)) > LONG_UNKNOWN
    is_asked = found.review.count or found.stuck.count
    return (
        ReadinessCheck("unknown", "degraded" if is_long else "ok", text(found.unknown, found.reversing)),
        ReadinessCheck("manual-review", "degraded" if is_asked else "ok", text(found.review, found.stuck)),
    )
