"""Context, gateway, health -> Ranked: six weighted terms that add up to a score in [0, 1]."""

from collections.abc import Mapping
from typing import Annotated

from msgspec import Meta, Struct

from pgw.core.breakers.admission import Panic
from pgw.core.breakers.breaker import Rules
from pgw.core.routing.context import UNKNOWN_BANK, Context
from pgw.core.routing.gateway import GatewayConfig

Share = Annotated[float, Meta(ge=0.0, le=1.0)]


class Health(Struct, frozen=True):
    """What is known of one (gateway, method, bank): success rate in [0, 1], p95 latency in ms, calls seen."""

    success_rate: float
    latency_p95_ms: float
    observations: float


PRIOR_HEALTH = Health(success_rate=0.5, latency_p95_ms=1500.0, observations=0.0)
"""What is assumed of a gateway never called: undecided and slow, never perfect."""


ALL = "*"
"""Stands for every bank, or every method, where health is known only of the whole."""


def health_of(health: Mapping[tuple[str, str, str], Health], gateway_id: str, method: str, bank: str) -> Health:
    """Find the health of one cell: its own, else the method's at this gateway, else the gateway's, else the prior."""
    return (
        health.get((gateway_id, method, bank))
        or health.get((gateway_id, method, ALL))
        or health.get((gateway_id, ALL, ALL))
        or PRIOR_HEALTH
    )


class Weights(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Share of each term; they add up to 1."""

    success: Share
    latency: Share
    method_affinity: Share
    bank_affinity: Share
    amount_fit: Share
    time: Share


class TimeRule(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A gateway's time term in the given UTC hours, on the given days of the month (every day when none are named)."""

    hours: tuple[Annotated[int, Meta(ge=0, le=23)], ...]
    value: Share
    days: tuple[Annotated[int, Meta(ge=1, le=31)], ...] = ()


class Scoring(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The routing configuration: weights, tables by gateway (what they do not name has its default), breaker rules.

    `panic`: what to do when every breaker that could take a payment is open.
    """

    weights: Weights
    method_affinity: dict[str, dict[str, Share]] = {}
    amount_fit: dict[str, dict[str, Share]] = {}
    time: dict[str, tuple[TimeRule, ...]] = {}
    breaker: Rules = Rules()
    panic: Panic = Panic.FAIL_CLOSED


SEED_SCORING = Scoring(
    weights=Weights(success=0.35, latency=0.25, method_affinity=0.15, bank_affinity=0.12, amount_fit=0.08, time=0.05)
)

UNSET_AFFINITY = 0.7
"""Method affinity and amount fit where no table says otherwise."""


class Inputs(Struct, frozen=True):
    """The six terms before weighting, each in [0, 1], and the health two of them come from."""

    success_rate: float
    latency_p95_ms: float
    observations: float
    latency: float
    method_affinity: float
    bank_affinity: float
    amount_fit: float
    time: float
    priority: int


class Breakdown(Struct, frozen=True):
    """How the score divides among the terms: each is weight times term, and they add up to the score."""

    success: float
    latency: float
    method_affinity: float
    bank_affinity: float
    amount_fit: float
    time: float


class Ranked(Struct, frozen=True):
    """A candidate in its place. `propensity` is the probability, before any draw, that it stands first."""

    gateway_id: str
    score: float
    breakdown: Breakdown
    inputs: Inputs
    propensity: float


def inputs_for(context: Context, gateway: GatewayConfig, health: Health, scoring: Scoring) -> Inputs:
    """Look up the terms of one gateway; latency is 1 / (1 + p95 / 1 s)."""
    name = gateway.gateway_id
    return Inputs(
        health.success_rate,
        health.latency_p95_ms,
        health.observations,
        1.0 / (1.0 + health.latency_p95_ms / 1000.0),
        _table(scoring.method_affinity, name, context.payment_method),
        _bank_affinity(context.issuing_bank, gateway.bank),
        _table(scoring.amount_fit, name, context.size_band),
        _time(scoring.time.get(name, ()), context),
        gateway.priority,
    )


def _table(table: Mapping[str, Mapping[str, float]], gateway_id: str, key: str) -> float:
    row = table.get(gateway_id)
    return UNSET_AFFINITY if row is None else row.get(key, UNSET_AFFINITY)


def _bank_affinity(issuing_bank: str, home_bank: str | None) -> float:
    if issuing_bank == UNKNOWN_BANK:
        return 0.6
    return 1.0 if issuing_bank == home_bank else 0.5


def _time(rules: tuple[TimeRule, ...], context: Context) -> float:
    for rule in rules:
        if context.hour in rule.hours and (not rule.days or context.day_of_month in rule.days):
            return rule.value
    return 1.0


def weigh(terms: Inputs, weights: Weights) -> Breakdown:
    """Multiply each term with its weight."""
    return Breakdown(
        weights.success * terms.success_rate,
        weights.latency * terms.latency,
        weights.method_affinity * terms.method_affinity,
        weights.bank_affinity * terms.bank_affinity,
        weights.amount_fit * terms.amount_fit,
        weights.time * terms.time,
    )


def total(parts: Breakdown) -> float:
    """Add the parts in one fixed order, for a recomputation to agree to the last bit; rounding may pass 1 by a hair."""
    return parts.success + parts.latency + parts.method_affinity + parts.bank_affinity + parts.amount_fit + parts.time


def rank(
    context: Context,
    candidates: tuple[GatewayConfig, ...],
    health: Mapping[tuple[str, str, str], Health],
    scoring: Scoring,
) -> tuple[Ranked, ...]:
    """Order the candidates by score; ties go to the lower priority, then to the gateway id."""
    scored: list[tuple[float, int, str, Breakdown, Inputs]] = []
    for gateway in candidates:
        known = health_of(health, gateway.gateway_id, context.payment_method, context.issuing_bank)
        terms = inputs_for(context, gateway, known, scoring)
        parts = weigh(terms, scoring.weights)
        scored.append((-min(total(parts), 1.0), gateway.priority, gateway.gateway_id, parts, terms))
    scored.sort(key=lambda row: row[:3])
    return tuple(
        Ranked(name, -score, parts, terms, 0.0 if place else 1.0)
        for place, (score, _, name, parts, terms) in enumerate(scored)
    )
