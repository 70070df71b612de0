"""A plan is one function of what it was given, and can be made again from what was kept of it."""

from datetime import UTC, datetime, timedelta
from random import Random

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pgw.core.routing.context import Context
from pgw.core.routing.decision import explain
from pgw.core.routing.plan import HOT_LIMIT, SNAPSHOT_LIMIT, Plan, Snapshot, make_plan, recompute, seed_of
from tests.core.drawn import CONTEXT, TAKES_IT, moments, situations

NOON = datetime(2026, 1, 1, 12, tzinfo=UTC)
SNAPSHOT = Snapshot(config_version=1, as_of=NOON, gateways=(TAKES_IT,))

seeds = st.integers(0, 2**53 - 1)
ages = st.timedeltas(timedelta(0), timedelta(seconds=20))


def _configuration(snapshot: Snapshot, as_of: datetime) -> Snapshot:
    """What is left of a snapshot once its hot state is gone: only what the ledger keeps by version."""
    return msgspec.structs.replace(
        snapshot, as_of=as_of, hot_as_of=None, unavailable={}, health={}, views={}, overrides={}
    )


@given(situations(), seeds, ages, moments)
def test_a_plan_is_made_again_from_itself_and_its_configuration_alone(
    situation: tuple[Context, Snapshot], seed: int, age: timedelta, later: datetime
) -> None:
    context, snapshot = situation
    plan = make_plan(context, snapshot, seed, snapshot.as_of + age)
    assert recompute(plan, _configuration(snapshot, later)) == plan


@given(situations(), seeds, ages)
def test_a_plan_read_back_from_the_ledger_is_the_same_and_is_made_again_to_the_last_bit(
    situation: tuple[Context, Snapshot], seed: int, age: timedelta
) -> None:
    context, snapshot = situation
    plan = make_plan(context, snapshot, seed, snapshot.as_of + age)
    kept = msgspec.json.encode(plan)
    read_back = msgspec.json.decode(kept, type=Plan)
    assert read_back == plan
    assert msgspec.json.encode(recompute(read_back, _configuration(snapshot, snapshot.as_of))) == kept


@given(situations(), seeds, st.randoms(use_true_random=False))
def test_the_order_in_which_the_gateways_are_listed_changes_no_choice(
    situation: tuple[Context, Snapshot], seed: int, rng: Random
) -> None:
    context, snapshot = situation
    shuffled = list(snapshot.gateways)
    rng.shuffle(shuffled)
    other = msgspec.structs.replace(snapshot, gateways=tuple(shuffled))
    assert make_plan(context, other, seed, snapshot.as_of) == make_plan(context, snapshot, seed, snapshot.as_of)


@given(situations(), seeds)
def test_every_gateway_is_ranked_or_excluded_and_the_propensities_add_up_to_one(
    situation: tuple[Context, Snapshot], seed: int
) -> None:
    context, snapshot = situation
    plan = make_plan(context, snapshot, seed, snapshot.as_of)
    named = [each.gateway_id for each in plan.ranked] + [each.gateway_id for each in plan.excluded]
    assert sorted(named) == sorted(each.gateway_id for each in snapshot.gateways)
    assert abs(sum(each.propensity for each in plan.ranked) - bool(plan.ranked)) <= 1e-12
    assert all(each.propensity >= 0.0 for each in plan.ranked)


@given(situations(), seeds)
def test_a_decision_shows_the_first_two_of_its_plan(situation: tuple[Context, Snapshot], seed: int) -> None:
    _, snapshot = situation
    gateways = (TAKES_IT, *(each for each in snapshot.gateways if each.gateway_id != TAKES_IT.gateway_id))
    full = msgspec.structs.replace(snapshot, gateways=gateways, unavailable={}, views={}, overrides={})
    plan = make_plan(CONTEXT, full, seed, snapshot.as_of)
    shown = explain(plan, "payment", NOON)
    second = plan.ranked[1] if len(plan.ranked) > 1 else None
    assert (shown.selected_gateway, shown.selected_score) == (plan.ranked[0].gateway_id, plan.ranked[0].score)
    assert shown.runner_up_gateway == (second.gateway_id if second else None)
    assert shown.runner_up_score == (second.score if second else None)
    assert shown.score_breakdown == plan.ranked[0].breakdown
    assert shown.reason_summary.startswith(f"{shown.selected_gateway} ")


JUST = timedelta(microseconds=1)


@pytest.mark.parametrize(
    ("age", "hot_age", "degraded"),
    [
        (timedelta(0), None, False),
        (SNAPSHOT_LIMIT, None, False),
        (SNAPSHOT_LIMIT + JUST, None, True),
        (SNAPSHOT_LIMIT, HOT_LIMIT, False),
        (timedelta(0), HOT_LIMIT + JUST, True),
        (SNAPSHOT_LIMIT + JUST, timedelta(0), True),
    ],
)
def test_a_decision_on_what_is_past_its_limit_is_tagged_degraded(
    age: timedelta, hot_age: timedelta | None, degraded: bool
) -> None:
    """The configuration may be older than health and breakers, which a process may also have to itself."""
    hot_as_of = None if hot_age is None else NOON - hot_age
    snapshot = msgspec.structs.replace(SNAPSHOT, as_of=NOON - age, hot_as_of=hot_as_of)
    assert make_plan(CONTEXT, snapshot, 0, NOON).degraded == degraded


def test_a_plan_without_a_candidate_says_so() -> None:
    nothing = msgspec.structs.replace(SNAPSHOT, unavailable={"hdfc": "no key"})
    plan = make_plan(CONTEXT, nothing, 0, NOON)
    assert (plan.ranked, plan.unavailable) == ((), ("hdfc",))
    assert plan.reason_summary == "no gateway can take this payment"


def test_a_changed_weight_is_noticed_when_a_plan_is_made_again() -> None:
    plan = make_plan(CONTEXT, SNAPSHOT, 0, NOON)
    weights = msgspec.structs.replace(SNAPSHOT.scoring.weights, success=0.30, latency=0.30)
    other = msgspec.structs.replace(SNAPSHOT, scoring=msgspec.structs.replace(SNAPSHOT.scoring, weights=weights))
    assert recompute(plan, other) != plan


def test_a_merchant_nobody_configured_has_the_default_policy() -> None:
    policy = SNAPSHOT.policy_of("m_404")
    assert (policy.merchant_id, policy.attempts_allowed) == ("m_404", 3)


def test_a_seed_is_the_low_bits_of_the_payments_id() -> None:
    assert seed_of("01890a5d-ac96-774b-bcce-b302099a8057") == 0xB302099A8057 | (0xCE & 0x1F) << 48


@given(st.uuids())
def test_a_seed_fits_a_json_number_exactly(payment_id: object) -> None:
    seed = seed_of(str(payment_id))
    assert 0 <= seed < 2**53
    assert int(float(seed)) == seed
