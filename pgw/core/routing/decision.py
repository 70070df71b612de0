"""Plan -> RoutingDecision: the plan as it is shown, first and second by name."""

from datetime import datetime

from msgspec import Struct

from pgw.core.breakers.admission import Admission
from pgw.core.payment.payment import ExperimentArm
from pgw.core.routing.candidates import Excluded
from pgw.core.routing.context import Context
from pgw.core.routing.plan import Plan
from pgw.core.routing.policy import RetryPolicy
from pgw.core.routing.score import Breakdown, Ranked


class RoutingDecision(Struct, frozen=True, kw_only=True):
    """A plan as it is shown: enough to explain the choice, and to make it again."""

    payment_id: str
    selected_gateway: str
    selected_score: float
    runner_up_gateway: str | None
    runner_up_score: float | None
    strategy: str
    reason_summary: str
    score_breakdown: Breakdown
    ranked: tuple[Ranked, ...]
    excluded: tuple[Excluded, ...]
    admissions: dict[str, Admission]
    skipped_candidates: tuple[Ranked, ...]
    experiment: ExperimentArm | None
    bandit: None
    seed: int
    config_version: int
    degraded: bool
    decided_at: datetime
    context: Context
    policy: RetryPolicy


def explain(plan: Plan, payment_id: str, decided_at: datetime) -> RoutingDecision:
    """Turn a stored plan into the decision document; a stored plan always has a first gateway."""
    first = plan.ranked[0]
    second = plan.ranked[1] if len(plan.ranked) > 1 else None
    return RoutingDecision(
        payment_id=payment_id,
        selected_gateway=first.gateway_id,
        selected_score=first.score,
        runner_up_gateway=second.gateway_id if second else None,
        runner_up_score=second.score if second else None,
        strategy=plan.strategy,
        reason_summary=plan.reason_summary,
        score_breakdown=first.breakdown,
        ranked=plan.ranked,
        excluded=plan.excluded,
        admissions=plan.admissions,
        skipped_candidates=plan.skipped_candidates,
        experiment=plan.experiment,
        bandit=plan.bandit,
        seed=plan.seed,
        config_version=plan.config_version,
        degraded=plan.degraded,
        decided_at=decided_at,
        context=plan.context,
        policy=plan.policy,
    )
