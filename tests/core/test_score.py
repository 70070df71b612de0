"""Six weighted terms add up to the score, and the score, the priority and the id give one order."""

import math

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pgw.core.payment.payment import Method
from pgw.core.routing.context import Context, SizeBand
from pgw.core.routing.gateway import GatewayConfig
from pgw.core.routing.score import (
    SEED_SCORING,
    Breakdown,
    Health,
    Ranked,
    Scoring,
    TimeRule,
    Weights,
    inputs_for,
    rank,
    total,
)
from tests.core.drawn import CONTEXT, TAKES_IT, contexts, gateway_lists, situations


@st.composite
def rankings(draw: st.DrawFn, *, seed_weights: bool = False) -> tuple[Ranked, ...]:
    context, snapshot = draw(situations())
    scoring = snapshot.scoring
    if seed_weights:
        scoring = msgspec.structs.replace(scoring, weights=SEED_SCORING.weights)
    return rank(context, snapshot.gateways, snapshot.health, scoring)


def test_the_seeds_weights_are_those_of_the_contract_and_add_up_to_one() -> None:
    weights = msgspec.to_builtins(SEED_SCORING.weights)
    assert weights == {
        "success": 0.35,
        "latency": 0.25,
        "method_affinity": 0.15,
        "bank_affinity": 0.12,
        "amount_fit": 0.08,
        "time": 0.05,
    }
    assert math.isclose(sum(weights.values()), 1.0, abs_tol=1e-9)


@given(rankings(seed_weights=True))
def test_a_score_lies_between_nothing_and_one(ranked: tuple[Ranked, ...]) -> None:
    assert [each.score for each in ranked if not 0.0 <= each.score <= 1.0] == []


@given(rankings())
def test_the_breakdown_adds_up_to_the_score(ranked: tuple[Ranked, ...]) -> None:
    for each in ranked:
        assert total(each.breakdown) == each.score
        assert math.isclose(math.fsum(msgspec.structs.astuple(each.breakdown)), each.score, abs_tol=1e-12)


@given(rankings())
def test_every_term_lies_between_nothing_and_one(ranked: tuple[Ranked, ...]) -> None:
    terms = ("success_rate", "latency", "method_affinity", "bank_affinity", "amount_fit", "time")
    assert [each for each in ranked for term in terms if not 0.0 <= getattr(each.inputs, term) <= 1.0] == []


@given(rankings())
def test_the_order_is_by_score_then_priority_then_id(ranked: tuple[Ranked, ...]) -> None:
    keys = [(-each.score, each.inputs.priority, each.gateway_id) for each in ranked]
    assert keys == sorted(keys)


@given(rankings())
def test_the_propensities_of_plain_scoring_are_one_for_the_first_and_nothing_for_the_others(
    ranked: tuple[Ranked, ...],
) -> None:
    assert [each.propensity for each in ranked] == [1.0, *[0.0] * (len(ranked) - 1)][: len(ranked)]


@given(st.permutations(range(6)))
def test_equal_scores_are_ordered_by_priority_then_id_however_the_gateways_are_listed(order: list[int]) -> None:
    names = [("b", 0), ("c", 0), ("a", 1), ("d", 1), ("a0", 2), ("a1", 2)]
    gateways = [msgspec.structs.replace(TAKES_IT, gateway_id=name, priority=priority) for name, priority in names]
    ranked = rank(CONTEXT, tuple(gateways[place] for place in order), {}, SEED_SCORING)
    assert [each.gateway_id for each in ranked] == [name for name, _ in names]


@given(contexts(), gateway_lists.filter(bool))
def test_a_gateway_nobody_has_called_is_undecided_and_slow_never_perfect(
    context: Context, gateways: tuple[GatewayConfig, ...]
) -> None:
    ranked = rank(context, gateways, {}, SEED_SCORING)
    assert {(each.inputs.success_rate, each.inputs.latency_p95_ms) for each in ranked} == {(0.5, 1500.0)}


def _terms(context: Context = CONTEXT, scoring: Scoring = SEED_SCORING, p95_ms: float = 1500.0) -> dict[str, float]:
    health = Health(0.5, p95_ms, 0.0)
    gateway = msgspec.structs.replace(TAKES_IT, bank="HDFC")
    return msgspec.structs.asdict(inputs_for(context, gateway, health, scoring))


@pytest.mark.parametrize(("p95_ms", "term"), [(0.0, 1.0), (250.0, 0.8), (1000.0, 0.5), (3000.0, 0.25)])
def test_the_latency_term_is_one_over_one_plus_the_seconds(p95_ms: float, term: float) -> None:
    assert _terms(p95_ms=p95_ms)["latency"] == term


@pytest.mark.parametrize(("issuing_bank", "term"), [("HDFC", 1.0), ("UNKNOWN", 0.6), ("ICICI", 0.5)])
def test_the_bank_affinity_is_one_at_home_and_half_abroad(issuing_bank: str, term: float) -> None:
    assert _terms(msgspec.structs.replace(CONTEXT, issuing_bank=issuing_bank))["bank_affinity"] == term


def test_what_no_table_names_has_its_default() -> None:
    terms = _terms()
    assert (terms["method_affinity"], terms["amount_fit"], terms["time"]) == (0.7, 0.7, 1.0)


def test_the_tables_are_read_by_gateway_and_by_method_or_band() -> None:
    tables = msgspec.structs.replace(
        SEED_SCORING,
        method_affinity={"hdfc": {Method.UPI: 0.9, Method.CARD: 0.1}, "icici": {Method.UPI: 0.2}},
        amount_fit={"hdfc": {SizeBand.LT_500: 0.4}},
    )
    terms = _terms(scoring=tables)
    assert (terms["method_affinity"], terms["amount_fit"]) == (0.9, 0.4)


@pytest.mark.parametrize(("hour", "day", "term"), [(2, 5, 0.3), (2, 1, 0.3), (9, 1, 0.6), (9, 2, 1.0), (12, 1, 1.0)])
def test_the_time_term_follows_the_hour_and_where_named_the_day(hour: int, day: int, term: float) -> None:
    rules = (TimeRule(hours=(2, 3), value=0.3), TimeRule(hours=(9,), value=0.6, days=(1, 31)))
    timed = msgspec.structs.replace(SEED_SCORING, time={"hdfc": rules})
    assert _terms(msgspec.structs.replace(CONTEXT, hour=hour, day_of_month=day), timed)["time"] == term


def test_a_known_score() -> None:
    """Worked by hand: .35 x .98 + .25 x 1/1.25 + .15 x .7 + .12 x 1 + .08 x .7 + .05 x 1 = .874."""
    gateway = msgspec.structs.replace(TAKES_IT, bank="HDFC")
    cell = {("hdfc", "UPI", "HDFC"): Health(0.98, 250.0, 100.0)}
    (only,) = rank(CONTEXT, (gateway,), cell, SEED_SCORING)
    assert math.isclose(only.score, 0.874, abs_tol=1e-12)


@given(contexts(), gateway_lists, st.sampled_from(Weights.__struct_fields__))
def test_with_one_weight_alone_the_score_is_that_term(
    context: Context, gateways: tuple[GatewayConfig, ...], term: str
) -> None:
    alone = Weights(**{name: float(name == term) for name in Weights.__struct_fields__})
    for each in rank(context, gateways, {}, msgspec.structs.replace(SEED_SCORING, weights=alone)):
        inputs = msgspec.structs.asdict(each.inputs)
        assert each.score == inputs["success_rate" if term == "success" else term]
        assert each.breakdown == Breakdown(**{name: each.score * (name == term) for name in Weights.__struct_fields__})
