"""A plan around breakers: who may stand in it, who first and how often, and that it can still be made again."""

from collections.abc import Mapping
from datetime import timedelta
from math import sqrt
from random import Random

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pgw.core.breakers.admission import Admission, Panic, admission_of
from pgw.core.breakers.breaker import Rules, State, View
from pgw.core.routing.candidates import Excluded, Reason, choose
from pgw.core.routing.context import Context
from pgw.core.routing.gateway import GatewayConfig
from pgw.core.routing.plan import Plan, Snapshot, make_plan, recompute
from pgw.core.routing.score import Health, Ranked
from tests.core.drawn import CONTEXT, TAKES_IT, situations
from tests.doors import METHOD, Known, knowing, order_of, returning, view_of, without_hot_state
from tests.doubles import NOON

FORCED_OPEN = order_of("", State.FORCED_OPEN)
OPEN_STATES = frozenset({State.OPEN, State.FORCED_OPEN})

seeds = st.integers(0, 2**53 - 1)
ages = st.timedeltas(timedelta(0), timedelta(seconds=20))


def _gateway(name: str) -> GatewayConfig:
    return msgspec.structs.replace(TAKES_IT, gateway_id=name)


def _snapshot(known: Known, names: tuple[str, ...] = ("a", "b", "c"), panic: Panic = Panic.FAIL_CLOSED) -> Snapshot:
    """Know gateways of which the first is the best, and these breakers."""
    snapshot = Snapshot(config_version=1, as_of=NOON)
    return knowing(
        snapshot,
        known,
        gateways=tuple(_gateway(name) for name in names),
        scoring=msgspec.structs.replace(snapshot.scoring, panic=panic),
        health={
            (name, METHOD, CONTEXT.issuing_bank): Health(0.9 - 0.1 * place, 500.0, 100.0)
            for place, name in enumerate(names)
        },
    )


def _returning(closed_s_ago: float) -> View:
    return returning(NOON - timedelta(seconds=closed_s_ago))


def _names(ranked: tuple[Ranked, ...]) -> list[str]:
    return [each.gateway_id for each in ranked]


@given(situations(), seeds, ages)
def test_an_open_breaker_never_stands_in_a_plan_but_in_panic_and_then_alone(
    situation: tuple[Context, Snapshot], seed: int, age: timedelta
) -> None:
    """One an operator forced open never does. Judged by the views and orders themselves, not by the plan's word."""
    context, snapshot = situation
    now = snapshot.as_of + age
    plan = make_plan(context, snapshot, seed, now)
    method, rules = str(context.payment_method), snapshot.scoring.breaker
    states = {
        key[0]: admission_of(snapshot.views.get(key), snapshot.overrides.get(key), now, rules).state
        for key in ((each.gateway_id, method) for each in snapshot.gateways)
    }
    ranked = {states[each.gateway_id] for each in plan.ranked}
    assert State.FORCED_OPEN not in ranked
    fit, _ = choose(context, snapshot.gateways, snapshot.unavailable, {})
    closed = {each.gateway_id for each in fit if states[each.gateway_id] not in OPEN_STATES}
    least_bad = {each.gateway_id for each in fit if states[each.gateway_id] is State.OPEN}
    if closed or snapshot.scoring.panic is Panic.FAIL_CLOSED:
        assert set(_names(plan.ranked)) == closed
        assert plan.skipped_candidates == ()
    else:
        assert len(plan.ranked) == min(len(least_bad), 1)
        assert {*_names(plan.ranked), *_names(plan.skipped_candidates)} == least_bad
    left_out = {each.gateway_id: each.reason for each in plan.excluded}
    for each in fit:
        if each.gateway_id in left_out:
            forced = states[each.gateway_id] is State.FORCED_OPEN
            assert left_out[each.gateway_id] is (Reason.FORCED_OPEN if forced else Reason.BREAKER_OPEN)


@given(situations(), seeds, ages, st.data())
def test_a_plan_made_again_without_a_denied_gateway_keeps_the_order_of_the_others_and_recomputes(
    situation: tuple[Context, Snapshot], seed: int, age: timedelta, data: st.DataObject
) -> None:
    """Any but the first, which is being called: the order of the rest does not change under the payment."""
    context, snapshot = situation
    now = snapshot.as_of + age
    plan = make_plan(context, snapshot, seed, now)
    denied: set[str] = set()
    if len(plan.ranked) > 1:
        denied = data.draw(st.sets(st.sampled_from(_names(plan.ranked)[1:])))
    left = make_plan(context, snapshot, seed, now, frozenset(denied))
    assert _names(left.ranked) == [name for name in _names(plan.ranked) if name not in denied]
    assert {Excluded(name, Reason.BREAKER_OPEN) for name in denied} <= set(left.excluded)
    kept = msgspec.json.encode(left)
    read_back = msgspec.json.decode(kept, type=Plan)
    assert read_back == left
    assert msgspec.json.encode(recompute(read_back, without_hot_state(snapshot))) == kept


def test_a_gateway_denied_on_the_way_leaves_the_chances_of_the_others_as_without_it() -> None:
    """Two are coming back and one is probed between them: the probe denied, only the two share the first place."""
    snapshot = _snapshot({"a": _returning(10), "b": State.HALF_OPEN, "c": _returning(0)})
    plan = next(
        plan for seed in range(100) if (plan := make_plan(CONTEXT, snapshot, seed, NOON)).ranked[0].gateway_id == "a"
    )
    assert {each.gateway_id: each.propensity for each in plan.ranked} == pytest.approx({"a": 0.55, "b": 0.45, "c": 0})
    left = make_plan(CONTEXT, snapshot, plan.seed, NOON, frozenset({"b"}))
    assert {each.gateway_id: each.propensity for each in left.ranked} == pytest.approx({"a": 0.955, "c": 0.045})
    assert recompute(left, without_hot_state(snapshot)) == left


def test_the_least_bad_of_all_that_are_open_is_made_again_from_the_plan_alone() -> None:
    """Its rivals' health is among what the decision used, so the plan keeps it."""
    snapshot = _snapshot({**dict.fromkeys("bc", State.OPEN), "a": FORCED_OPEN}, panic=Panic.LEAST_BAD)
    plan = make_plan(CONTEXT, snapshot, 0, NOON)
    assert (_names(plan.ranked), _names(plan.skipped_candidates)) == (["b"], ["c"])
    assert plan.excluded == (Excluded("a", Reason.FORCED_OPEN), Excluded("c", Reason.BREAKER_OPEN))
    assert (plan.ranked[0].propensity, plan.ranked[0].inputs.success_rate) == (1.0, 0.8)
    assert plan.reason_summary == f"every breaker is open; b is the least bad (score {plan.ranked[0].score:.4f})"
    assert recompute(plan, without_hot_state(snapshot)) == plan
    rival = msgspec.structs.replace(plan.skipped_candidates[0].inputs, success_rate=1.0)
    lied = msgspec.structs.replace(
        plan, skipped_candidates=(msgspec.structs.replace(plan.skipped_candidates[0], inputs=rival),)
    )
    assert recompute(lied, without_hot_state(snapshot)) != lied


@given(situations(), seeds)
def test_any_choice_in_panic_is_made_again_from_the_plan_alone(situation: tuple[Context, Snapshot], seed: int) -> None:
    context, drawn = situation
    names = [each.gateway_id for each in drawn.gateways]
    scoring = msgspec.structs.replace(drawn.scoring, panic=Panic.LEAST_BAD)
    method = str(context.payment_method)
    views = {(name, method): view_of(State.OPEN, drawn.as_of) for name in names}
    snapshot = msgspec.structs.replace(drawn, scoring=scoring, views=views, overrides={})
    plan = make_plan(context, snapshot, seed, drawn.as_of)
    assert len(plan.ranked) + len(plan.skipped_candidates) == len(
        choose(context, drawn.gateways, drawn.unavailable, {})[0]
    )
    kept = msgspec.json.encode(plan)
    assert msgspec.json.encode(recompute(msgspec.json.decode(kept, type=Plan), without_hot_state(snapshot))) == kept


def test_with_every_breaker_open_nobody_is_called() -> None:
    plan = make_plan(CONTEXT, _snapshot(dict.fromkeys("abc", State.OPEN)), 0, NOON)
    assert plan.ranked == ()
    assert plan.excluded == tuple(Excluded(name, Reason.BREAKER_OPEN) for name in "abc")
    assert plan.reason_summary == "no gateway can take this payment"


@pytest.mark.parametrize("panic", Panic)
def test_what_operators_forced_open_is_never_called(panic: Panic) -> None:
    plan = make_plan(CONTEXT, _snapshot(dict.fromkeys("abc", FORCED_OPEN), panic=panic), 0, NOON)
    assert plan.ranked == ()
    assert plan.excluded == tuple(Excluded(name, Reason.FORCED_OPEN) for name in "abc")


def test_a_plan_keeps_only_the_breakers_that_are_not_simply_closed() -> None:
    """One that came back long ago, one whose order has ended and one of another method say nothing any more."""
    ended = order_of("c", State.FORCED_CLOSED, NOON)
    snapshot = _snapshot({"a": _returning(20), "b": State.CLOSED, "c": ended, "gone": State.OPEN})
    other = msgspec.structs.replace(snapshot, views={**snapshot.views, ("a", "CARD"): view_of(State.OPEN)})
    assert make_plan(CONTEXT, other, 0, NOON).admissions == {}
    forced = order_of("c", State.FORCED_CLOSED)
    kept = make_plan(CONTEXT, _snapshot({"a": State.HALF_OPEN, "c": forced}), 0, NOON).admissions
    assert kept == {"a": Admission(State.HALF_OPEN), "c": Admission(State.FORCED_CLOSED)}


@pytest.mark.parametrize("health", [{}, None], ids=["tied", "better"])
def test_a_gateway_held_back_is_named_with_its_share(health: dict[tuple[str, str, str], Health] | None) -> None:
    """Also where its score is no better than that of the one before it: it is not by the tie-break that it lost."""
    snapshot = _snapshot({"a": _returning(5)})
    snapshot = snapshot if health is None else msgspec.structs.replace(snapshot, health=health)
    plans = [make_plan(CONTEXT, snapshot, seed, NOON) for seed in range(100)]
    behind = next(plan for plan in plans if plan.ranked[-1].gateway_id == "a")
    before, held_back = behind.ranked[0], behind.ranked[-1]
    assert behind.reason_summary == (
        f"b {before.score:.4f}; a {held_back.score:.4f} is coming back and takes 32% of its payments"
    )


@pytest.mark.parametrize(
    ("returning", "chances"),
    [
        ({"a": 0.0}, {"a": 0.1, "b": 0.9, "c": 0.0}),
        ({"a": 10.0}, {"a": 0.55, "b": 0.45, "c": 0.0}),
        ({"b": 10.0}, {"a": 1.0, "b": 0.0, "c": 0.0}),
        ({"a": 10.0, "b": 5.0}, {"a": 0.55, "b": 0.45 * 0.325, "c": 0.45 * 0.675}),
        ({"a": 10.0, "c": 5.0}, {"a": 0.55, "b": 0.45, "c": 0.0}),
        (
            {"a": 5.0, "b": 10.0, "c": 0.0},
            {"a": 0.325 + 0.675 * 0.45 * 0.9, "b": 0.675 * 0.55, "c": 0.675 * 0.45 * 0.1},
        ),
    ],
    ids=["one, at once", "one, half-way", "one behind", "the two best", "best and last", "all"],
)
def test_in_slow_start_the_first_place_falls_as_often_as_the_propensities_say(
    returning: Mapping[str, float], chances: Mapping[str, float]
) -> None:
    """Counted over payments' own seeds; five standard deviations is once in two million for a fair draw."""
    snapshot = _snapshot({name: _returning(seconds) for name, seconds in returning.items()})
    rng, draws = Random(20260101), 4000
    firsts = dict.fromkeys(chances, 0)
    for _ in range(draws):
        plan = make_plan(CONTEXT, snapshot, rng.getrandbits(53), NOON)
        firsts[plan.ranked[0].gateway_id] += 1
        assert {each.gateway_id: each.propensity for each in plan.ranked} == pytest.approx(chances)
    for name, chance in chances.items():
        assert abs(firsts[name] / draws - chance) <= 5 * sqrt(chance * (1 - chance) / draws)


def test_the_draws_of_two_gateways_that_come_back_are_independent() -> None:
    """Both may be let through, or neither: as often as their shares multiply to."""
    snapshot = _snapshot({"a": _returning(10), "b": _returning(10)})
    rng, draws = Random(7), 4000
    places = dict.fromkeys(("abc", "acb", "bca", "cab"), 0)
    for _ in range(draws):
        places["".join(_names(make_plan(CONTEXT, snapshot, rng.getrandbits(53), NOON).ranked))] += 1
    expected = {"abc": 0.55 * 0.55, "acb": 0.55 * 0.45, "bca": 0.45 * 0.55, "cab": 0.45 * 0.45}
    for order, chance in expected.items():
        assert abs(places[order] / draws - chance) <= 5 * sqrt(chance * (1 - chance) / draws)


def test_the_same_payment_is_drawn_for_alike_every_time() -> None:
    snapshot = _snapshot({"a": _returning(10)})
    for seed in range(50):
        plans = {tuple(_names(make_plan(CONTEXT, snapshot, seed, NOON).ranked)) for _ in range(3)}
        assert len(plans) == 1


def test_a_slow_start_of_other_rules_has_other_shares() -> None:
    snapshot = _snapshot({"a": _returning(10)})
    rules = Rules(slow_start_s=40, slow_start_from=0.2)
    other = msgspec.structs.replace(snapshot, scoring=msgspec.structs.replace(snapshot.scoring, breaker=rules))
    assert make_plan(CONTEXT, other, 0, NOON).admissions["a"].share == pytest.approx(0.4)
