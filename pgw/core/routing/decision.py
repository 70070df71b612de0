"""Plan -> RoutingDecision: the plan as it is shown, first and second by name."""

from datetime import datetime

from msgspec import structs

from pgw.core.routing.plan import Plan
from pgw.core.routing.score import Breakdown


class RoutingDecision(Plan, frozen=True, kw_only=True):
    """A stored plan with what explains it: enough to understand the choice, and to make it again."""

    payment_id: str
    selected_gateway: str
    selected_score: float
    runner_up_gateway: str | None
    runner_up_score: float | None
    score_breakdown: Breakdown
    decided_at: datetime


def explain(plan: Plan, payment_id: str, decided_at: datetime) -> RoutingDecision:
    """Turn a stored plan into the decision document; a stored plan always has a first gateway."""
    first = plan.ranked[0]
    second = plan.ranked[1] if len(plan.ranked) > 1 else None
    return RoutingDecision(
        **structs.asdict(plan),
        payment_id=payment_id,
        selected_gateway=first.gateway_id,
        selected_score=first.score,
        runner_up_gateway=second.gateway_id if second else None,
        runner_up_score=second.score if second else None,
        score_breakdown=first.breakdown,
        decided_at=decided_at,
    )
