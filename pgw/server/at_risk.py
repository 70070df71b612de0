"""The ledger -> how much money is unsettled, as readiness tells it: unknown for long, or waiting for a person."""

from sanic import Request

from pgw.core.ledger.at_risk import AtRisk, at_risk
from pgw.core.ledger.engine.writer import LedgerUnavailable
from pgw.core.money.exposure import LONG_UNKNOWN, NONE, REVERSALS, Risk
from pgw.server.http.guards import house_of
from pgw.server.look import Look


async def looks(request: Request) -> tuple[Look, ...]:
    """Look at unsettled money; without a ledger nothing is known of it, which is said where the ledger is."""
    house = house_of(request)
    now = house.world.clock.now()
    try:
        found: AtRisk = await house.ledger.read(at_risk, now)
    except LedgerUnavailable:
        return ()

    def told(payments: Risk, reversals: Risk) -> str:
        parts = [payments.told(now), reversals.told(now, REVERSALS)]
        return "; ".join(part for part in parts if part != NONE) or NONE

    is_long = max(found.unknown.age(now), found.reversing.age(now)) > LONG_UNKNOWN
    is_asked = found.review.count or found.stuck.count
    return (
        Look("unknown", "degraded" if is_long else "ok", told(found.unknown, found.reversing)),
        Look("manual-review", "degraded" if is_asked else "ok", told(found.review, found.stuck)),
    )
