"""Context, Snapshot, seed -> Plan: the whole routing decision, recomputable to the last bit."""

from collections.abc import Mapping
from datetime import datetime, timedelta
from random import Random

from msgspec import Struct, field, structs

from pgw.core.breakers.admission import ADMITTED, Admission, Panic, admission_of
from pgw.core.breakers.breaker import Key, State, View
from pgw.core.breakers.override import Override, Pause
from pgw.core.payment.payment import ExperimentArm
from pgw.core.routing.candidates import Excluded, Reason, choose
from pgw.core.routing.context import SEED_BANKS, Banks, Context
from pgw.core.routing.gateway import GatewayConfig
from pgw.core.routing.policy import RetryPolicy
from pgw.core.routing.score import SEED_SCORING, Breakdown, Health, Ranked, Scoring, rank

SNAPSHOT_LIMIT = timedelta(seconds=5)
"""Age from which a decision is tagged degraded: twenty missed refreshes, so something is wrong, not merely slow."""

HOT_LIMIT = timedelta(seconds=2)
"""Age of health and breakers from which a decision is tagged degraded: eight missed refreshes."""


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
        """Return the merchant's policy; one that was never configured has the default."""
        return self.policies.get(merchant_id) or RetryPolicy(merchant_id=merchant_id)

    def admission(self, key: Key, now: datetime) -> Admission:
        """Whether a gateway may be chosen for a method now, and for what share of payments."""
        return admission_of(self.views.get(key), self.overrides.get(key), now, self.scoring.breaker)

    def automatic_admission(self, key: Key, now: datetime) -> Admission:
        """The same as if no operator had forced it."""
        return admission_of(self.views.get(key), None, now, self.scoring.breaker)

    def gateway(self, gateway_id: str) -> GatewayConfig | None:
        """Return one gateway's configuration."""
        return next((each for each in self.gateways if each.gateway_id == gateway_id), None)


class Plan(Struct, frozen=True, kw_only=True):
    """One decision with every input it used; this value is what the ledger stores and what is recomputed.

    `admissions` are the breakers, by gateway, that were not simply closed. `skipped` stands only where a gateway was
    chosen in spite of its open breaker: the others it was chosen among.
    """

    context: Context
    policy: RetryPolicy
    ranked: tuple[Ranked, ...]
    excluded: tuple[Excluded, ...]
    unavailable: tuple[str, ...]
    admissions: dict[str, Admission] = field(default_factory=dict, name="standings")
    skipped_candidates: tuple[Ranked, ...] = field(default=(), name="passed_over")
    strategy: str
    reason_summary: str
    experiment: ExperimentArm | None
    bandit: None
    seed: int
    config_version: int
    degraded: bool


NONE_DENIED: frozenset[str] = frozenset()


def make_plan(
    context: Context, snapshot: Snapshot, seed: int, now: datetime, denied: frozenset[str] = NONE_DENIED
) -> Plan:
    """Decide. Every random draw a station makes comes from a generator seeded by `seed`, which is the payment's own.

    `denied` are gateways whose half-open breaker had no probe left for this payment: to it they are open.
    """
    admissions = _admissions(context.payment_method, snapshot, now)
    if denied:
        admissions |= dict.fromkeys(denied, Admission(State.OPEN))
    return _decide(context, snapshot, admissions, seed, degraded=is_degraded(snapshot, now))


def is_degraded(snapshot: Snapshot, now: datetime) -> bool:
    """Whether what is known is too old to be called current."""
    hot_age = timedelta(0) if snapshot.hot_as_of is None else now - snapshot.hot_as_of
    return now - snapshot.as_of > SNAPSHOT_LIMIT or hot_age > HOT_LIMIT


def _admissions(method: str, snapshot: Snapshot, now: datetime) -> dict[str, Admission]:
    if not snapshot.views and not snapshot.overrides:
        return {}
    found = ((each.gateway_id, snapshot.admission((each.gateway_id, method), now)) for each in snapshot.gateways)
    return {gateway_id: admission for gateway_id, admission in found if admission != ADMITTED}


def _decide(
    context: Context, snapshot: Snapshot, admissions: dict[str, Admission], seed: int, *, degraded: bool
) -> Plan:
    candidates, excluded = choose(context, snapshot.gateways, snapshot.unavailable, admissions)
    ranked = rank(context, candidates, snapshot.health, snapshot.scoring)
    skipped: tuple[Ranked, ...] = ()
    panicked = False
    if not ranked and snapshot.scoring.panic is Panic.LEAST_BAD:
        ranked, skipped = _least_bad(context, snapshot, excluded)
        panicked = bool(ranked)
        excluded = tuple(each for each in excluded if not panicked or each.gateway_id != ranked[0].gateway_id)
    ranked = _slow_start(ranked, admissions, seed)
    return Plan(
        context=context,
        policy=snapshot.policy_of(context.merchant_id),
        ranked=ranked,
        excluded=excluded,
        unavailable=tuple(sorted(snapshot.unavailable)),
        admissions=admissions,
        skipped_candidates=skipped,
        strategy="scoring",
        reason_summary=_panic_reason(ranked) if panicked else _reason(ranked, admissions),
        experiment=None,
        bandit=None,
        seed=seed,
        config_version=snapshot.config_version,
        degraded=degraded,
    )


def _least_bad(
    context: Context, snapshot: Snapshot, excluded: tuple[Excluded, ...]
) -> tuple[tuple[Ranked, ...], tuple[Ranked, ...]]:
    """Part the best gateway that only its own breaker holds back from the rest; one forced open stays out."""
    open_ids = {each.gateway_id for each in excluded if each.reason is Reason.BREAKER_OPEN}
    candidates = tuple(each for each in snapshot.gateways if each.gateway_id in open_ids)
    ranked = rank(context, candidates, snapshot.health, snapshot.scoring)
    return ranked[:1], ranked[1:]


def _slow_start(ranked: tuple[Ranked, ...], admissions: Mapping[str, Admission], seed: int) -> tuple[Ranked, ...]:
    """Put a gateway that is coming back behind the others for the share of payments it is not yet admitted to.

    Each such gateway is drawn for by itself, so that leaving one out of the plan changes no other's draw. The
    propensity of standing first: of the i-th by score, its admitted share times the chance that none before it was
    admitted; if none is at all, the order by score stands.
    """
    shares = [admissions.get(each.gateway_id, ADMITTED).share for each in ranked]
    if all(share >= 1.0 for share in shares):
        return ranked
    drawn = (Random(f"{seed} {each.gateway_id}").random() for each in ranked)  # noqa: S311  # repeatable on purpose
    admitted = [draw < share for draw, share in zip(drawn, shares, strict=True)]
    none_before, chances = 1.0, []
    for share in shares:
        chances.append(none_before * share)
        none_before *= 1.0 - share
    chances[0] += none_before
    rows = [structs.replace(each, propensity=chance) for each, chance in zip(ranked, chances, strict=True)]
    places = sorted(range(len(rows)), key=lambda place: not admitted[place])
    return tuple(rows[place] for place in places)


def _place(each: Ranked) -> tuple[float, int, str]:
    """Order as `rank` does: what a slow start has moved returns to where its score puts it."""
    return -each.score, each.inputs.priority, each.gateway_id


def recompute(plan: Plan, configuration: Snapshot) -> Plan:
    """Decide again from a plan's own inputs and the configuration of its version; equal unless something lied."""
    context = plan.context
    health = {
        (each.gateway_id, str(context.payment_method), context.issuing_bank): Health(
            each.inputs.success_rate, each.inputs.latency_p95_ms, each.inputs.observations
        )
        for each in (*plan.ranked, *plan.skipped_candidates)
    }
    snapshot = structs.replace(
        configuration,
        config_version=plan.config_version,
        unavailable=dict.fromkeys(plan.unavailable, ""),
        health=health,
    )
    return _decide(context, snapshot, plan.admissions, plan.seed, degraded=plan.degraded)


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


def _reason(ranked: tuple[Ranked, ...], admissions: Mapping[str, Admission]) -> str:
    """Say in one line why the first stands first: the terms in which it beats the second, largest lead first."""
    if not ranked:
        return "no gateway can take this payment"
    first = ranked[0]
    if len(ranked) == 1:
        return f"{first.gateway_id} is the only candidate (score {first.score:.4f})"
    second = ranked[1]
    held_back = min(ranked, key=_place)
    if held_back is not first:
        share = admissions[held_back.gateway_id].share
        return (
            f"{first.gateway_id} {first.score:.4f}; {held_back.gateway_id} {held_back.score:.4f} is coming back and "
            f"takes {share:.0%} of its payments"
        )
    leads = _advantages(first.breakdown, second.breakdown)
    if not leads:
        return (
            f"{first.gateway_id} and {second.gateway_id} score {first.score:.4f}; {first.gateway_id} has the tie-break"
        )
    return f"{first.gateway_id} {first.score:.4f} ahead of {second.gateway_id} {second.score:.4f} by {', '.join(leads)}"


def _panic_reason(ranked: tuple[Ranked, ...]) -> str:
    return f"every breaker is open; {ranked[0].gateway_id} is the least bad (score {ranked[0].score:.4f})"


def _advantages(first: Breakdown, second: Breakdown) -> list[str]:
    gaps = [(getattr(first, term) - getattr(second, term), words) for term, words in _TERM_WORDS.items()]
    return [f"{words} +{gap:.4f}" for gap, words in sorted(gaps, key=lambda each: -each[0]) if gap > 0.0]
