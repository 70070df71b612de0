"""Context, Snapshot, seed -> Plan: the whole routing decision, recomputable to the last bit."""

from collections.abc import Mapping
from datetime import datetime, timedelta

from msgspec import Struct

from pgw.core.breaker import Key, View
from pgw.core.candidates import Excluded, choose
from pgw.core.context import SEED_BANKS, Banks, Context
from pgw.core.gateway import GatewayConfig
from pgw.core.override import Override, Pause
from pgw.core.payment import ExperimentArm
from pgw.core.policy import RetryPolicy
from pgw.core.score import SEED_SCORING, Breakdown, Health, Ranked, Scoring, rank

SNAPSHOT_LIMIT = timedelta(seconds=5)
"""Age from which a decision is tagged degraded: twenty missed refreshes, so something is wrong, not merely slow."""


class Snapshot(Struct, frozen=True, kw_only=True):
    """All a decision may know, replaced as a whole.

    `unavailable` maps a gateway id to why this process cannot use it, `versions` a subject to its version. `as_of` is
    when the configuration was last read, `hot_as_of` health and breakers (None: they are this process's own).
    """

    config_version: int
    as_of: datetime
    hot_as_of: datetime | None = None
    gateways: tuple[GatewayConfig, ...] = ()
    unavailable: Mapping[str, str] = {}
    scoring: Scoring = SEED_SCORING
    banks: Banks = SEED_BANKS
    policies: Mapping[str, RetryPolicy] = {}
    health: Mapping[tuple[str, str, str], Health] = {}
    views: Mapping[Key, View] = {}
    overrides: Mapping[Key, Override] = {}
    paused: Pause | None = None
    versions: Mapping[str, int] = {}

    def policy_of(self, merchant_id: str) -> RetryPolicy:
        """Return the merchant's policy; a merchant nobody configured has the default one."""
        return self.policies.get(merchant_id) or RetryPolicy(merchant_id=merchant_id)

    def gateway(self, gateway_id: str) -> GatewayConfig | None:
        """Return one gateway's configuration."""
        return next((each for each in self.gateways if each.gateway_id == gateway_id), None)


class Plan(Struct, frozen=True, kw_only=True):
    """One decision with every input it used; this value is what the ledger stores and what is recomputed."""

    context: Context
    policy: RetryPolicy
    ranked: tuple[Ranked, ...]
    excluded: tuple[Excluded, ...]
    unavailable: tuple[str, ...]
    strategy: str
    reason_summary: str
    experiment: ExperimentArm | None
    bandit: None
    seed: int
    config_version: int
    degraded: bool


def make_plan(context: Context, snapshot: Snapshot, seed: int, now: datetime) -> Plan:
    """Decide. Every random draw a station makes comes from a generator seeded by `seed`, which is the payment's own."""
    candidates, excluded = choose(context, snapshot.gateways, snapshot.unavailable)
    ranked = rank(context, candidates, snapshot.health, snapshot.scoring)
    return Plan(
        context=context,
        policy=snapshot.policy_of(context.merchant_id),
        ranked=ranked,
        excluded=excluded,
        unavailable=tuple(sorted(snapshot.unavailable)),
        strategy="scoring",
        reason_summary=_reason(ranked),
        experiment=None,
        bandit=None,
        seed=seed,
        config_version=snapshot.config_version,
        degraded=now - snapshot.as_of > SNAPSHOT_LIMIT,
    )


def recompute(plan: Plan, configuration: Snapshot) -> Plan:
    """Decide again from a plan's own inputs and the configuration of its version; equal unless something lied."""
    context = plan.context
    health = {
        (each.gateway_id, str(context.payment_method), context.issuing_bank): Health(
            each.inputs.success_rate, each.inputs.latency_p95_ms, each.inputs.observations
        )
        for each in plan.ranked
    }
    as_of = configuration.as_of
    snapshot = Snapshot(
        config_version=plan.config_version,
        as_of=as_of,
        gateways=configuration.gateways,
        unavailable=dict.fromkeys(plan.unavailable, ""),
        scoring=configuration.scoring,
        banks=configuration.banks,
        policies=configuration.policies,
        health=health,
    )
    return make_plan(context, snapshot, plan.seed, as_of + SNAPSHOT_LIMIT * 2 if plan.degraded else as_of)


def seed_of(payment_id: str) -> int:
    """Return the 53 low bits of a payment's UUIDv7, all random (RFC 9562, 5.7) and exact in a JSON number."""
    return int(payment_id.replace("-", "")[-14:], 16) & (2**53 - 1)


_TERM_WORDS = {
    "success": "success rate",
    "latency": "latency",
    "method_affinity": "method affinity",
    "bank_affinity": "bank affinity",
    "amount_fit": "amount fit",
    "time": "time of day",
}


def _reason(ranked: tuple[Ranked, ...]) -> str:
    """Say in one line why the first stands first: the terms in which it beats the second, largest lead first."""
    if not ranked:
        return "no gateway can take this payment"
    first = ranked[0]
    if len(ranked) == 1:
        return f"{first.gateway_id} is the only candidate (score {first.score:.4f})"
    second = ranked[1]
    leads = _leads(first.breakdown, second.breakdown)
    if not leads:
        return (
            f"{first.gateway_id} and {second.gateway_id} score {first.score:.4f}; {first.gateway_id} has the tie-break"
        )
    return f"{first.gateway_id} {first.score:.4f} ahead of {second.gateway_id} {second.score:.4f} by {', '.join(leads)}"


def _leads(first: Breakdown, second: Breakdown) -> list[str]:
    gaps = [(getattr(first, term) - getattr(second, term), words) for term, words in _TERM_WORDS.items()]
    return [f"{words} +{gap:.4f}" for gap, words in sorted(gaps, key=lambda each: -each[0]) if gap > 0.0]


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
        experiment=plan.experiment,
        bandit=plan.bandit,
        seed=plan.seed,
        config_version=plan.config_version,
        degraded=plan.degraded,
        decided_at=decided_at,
        context=plan.context,
        policy=plan.policy,
    )
