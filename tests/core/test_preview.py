"""A preview says what an order will move, from the same plans that will move it; it never promises on too little."""

from collections.abc import Mapping
from datetime import UTC, datetime, timedelta

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pgw.core.breakers.admission import Panic
from pgw.core.breakers.breaker import Key, State, View
from pgw.core.breakers.override import Override
from pgw.core.payment.payment import Method
from pgw.core.routing.gateway import GatewayConfig
from pgw.core.routing.plan import Snapshot
from pgw.core.routing.preview import InFlight, Preview, preview
from pgw.core.routing.score import SEED_SCORING, Health, Scoring
from pgw.core.routing.traffic_shift import Action, Expected, GatewayGain, OverrideCommand, Traffic, wilson

NOON = datetime(2026, 1, 5, 12, tzinfo=UTC)
HOUR = timedelta(hours=1)
LEAST_BAD = msgspec.structs.replace(SEED_SCORING, panic=Panic.LEAST_BAD)


def _gateway(gateway_id: str, priority: int, bank: str | None = None) -> GatewayConfig:
    return GatewayConfig(
        gateway_id=gateway_id,
        display_name=gateway_id,
        is_sandbox=True,
        is_enabled=True,
        priority=priority,
        supported_methods=tuple(Method),
        supported_currencies=("INR",),
        bank=bank,
    )


RAZORPAY, HDFC, ICICI = _gateway("razorpay", 10), _gateway("hdfc", 20, "HDFC"), _gateway("icici", 30, "ICICI")
ALL = (RAZORPAY, HDFC, ICICI)

# razorpay is so good that it stands first for every bank; without it each home bank has its own gateway.
HEALTH = {
    ("razorpay", "UPI", "*"): Health(0.98, 100.0, 4000.0),
    ("hdfc", "UPI", "*"): Health(0.90, 500.0, 2000.0),
    ("icici", "UPI", "*"): Health(0.80, 500.0, 1000.0),
}
TRAFFIC = {("razorpay", "HDFC"): 60, ("razorpay", "ICICI"): 15, ("hdfc", "HDFC"): 20, ("icici", "ICICI"): 5}


def _snapshot(
    gateways: tuple[GatewayConfig, ...] = ALL,
    views: Mapping[Key, View] | None = None,
    overrides: Mapping[Key, Override] | None = None,
    scoring: Scoring = SEED_SCORING,
    health: Mapping[tuple[str, str, str], Health] = HEALTH,
) -> Snapshot:
    return Snapshot(
        config_version=7,
        as_of=NOON,
        gateways=gateways,
        health=health,
        views=views or {},
        overrides=overrides or {},
        scoring=scoring,
    )


def _forced(gateway_id: str, state: State, until: datetime = NOON + HOUR) -> dict[Key, Override]:
    override = Override(
        gateway_id=gateway_id,
        payment_method="UPI",
        state=state,
        reason="bank says fixed",
        actor="ravi",
        forced_at=NOON - HOUR,
        expires_at=until,
        version=5,
    )
    return {(gateway_id, "UPI"): override}


def _opened(gateway_id: str, until: datetime = NOON + HOUR) -> dict[Key, View]:
    view = View(state=State.OPEN, epoch=3, since=NOON - HOUR, until=until, cause="failure rate")
    return {(gateway_id, "UPI"): view}


def _ask(
    action: Action, snapshot: Snapshot, traffic: Traffic | None = TRAFFIC, gateway: GatewayConfig = RAZORPAY
) -> Preview:
    key = (gateway.gateway_id, "UPI")
    if action is Action.CLEAR:
        running = snapshot.overrides.get(key)
        override = None if running is None else msgspec.structs.replace(running, expires_at=NOON)
    else:
        state = State.FORCED_OPEN if action is Action.FORCE_OPEN else State.FORCED_CLOSED
        override = _forced(gateway.gateway_id, state)[key]
    order = OverrideCommand(action=action, gateway=gateway, payment_method=Method.UPI, override=override)
    return preview(order, snapshot, traffic, InFlight(11, 3), NOON, production=False)


def _shares(seen: Preview) -> dict[str, float]:
    return {each.gateway_id: round(each.share, 9) for each in seen.moves_to}


def test_forcing_open_moves_the_calls_the_gateway_was_seen_with_to_the_next_of_each_bank() -> None:
    seen = _ask(Action.FORCE_OPEN, _snapshot())
    assert _shares(seen) == {"hdfc": 0.60, "icici": 0.15}
    assert seen.share == pytest.approx(0.75)
    assert seen.payments_per_s == pytest.approx(75 / 300)
    assert [each.gateway_id for each in seen.moves_to] == ["hdfc", "icici"]
    assert (seen.remaining, seen.in_flight, seen.pending_verification) == (("hdfc", "icici"), 11, 3)
    assert (seen.expires_at, seen.then, seen.warnings) == (NOON + HOUR, "HALF_OPEN", ())
    assert (
        seen.environment,
        seen.action,
        seen.gateway_id,
        seen.payment_method,
        seen.window_s,
    ) == ("development", Action.FORCE_OPEN, "razorpay", Method.UPI, 300)


def test_the_expectation_weighs_each_gateways_rate_by_its_calls() -> None:
    expected = _ask(Action.FORCE_OPEN, _snapshot()).expected
    assert expected is not None
    assert expected.before == pytest.approx(0.75 * 0.98 + 0.20 * 0.90 + 0.05 * 0.80)
    assert expected.after == pytest.approx(0.80 * 0.90 + 0.20 * 0.80)
    # Each gateway's calls rest on one estimate.
    low, high = wilson(expected.after, 1 / (0.80**2 / 2000 + 0.20**2 / 1000))
    assert [expected.low, expected.high] == pytest.approx([low, high])


def test_banks_that_share_an_estimate_share_its_error() -> None:
    """Spreading the same calls over more banks makes nobody surer; estimates of their own do."""
    few = {("razorpay", "HDFC"): 90, ("razorpay", "ICICI"): 90}
    only = _snapshot((RAZORPAY, HDFC))
    one = _ask(Action.FORCE_OPEN, only, {("razorpay", "HDFC"): 180}).expected
    assert one is not None
    assert _ask(Action.FORCE_OPEN, only, few).expected == one
    own = {**HEALTH, ("hdfc", "UPI", "ICICI"): Health(0.9, 500.0, 1999.0)}
    surer = _ask(Action.FORCE_OPEN, _snapshot((RAZORPAY, HDFC), health=own), few).expected
    assert surer is not None
    assert surer.high - surer.low < one.high - one.low


def test_an_expectation_on_too_few_calls_is_not_given() -> None:
    thin = {cell: msgspec.structs.replace(health, observations=10.0) for cell, health in HEALTH.items()}
    assert _ask(Action.FORCE_OPEN, _snapshot(health=thin)).expected is None
    assert _ask(Action.FORCE_OPEN, _snapshot(health={})).expected is None


@pytest.mark.parametrize(("traffic", "rate"), [(None, None), ({}, 0.0), ({("razorpay", "HDFC"): 0}, 0.0)])
def test_without_traffic_nothing_is_said_of_shares(traffic: Traffic | None, rate: float | None) -> None:
    seen = _ask(Action.FORCE_OPEN, _snapshot(), traffic)
    assert (None, rate, (), None) == (seen.share, seen.payments_per_s, seen.moves_to, seen.expected)
    assert seen.remaining == ("hdfc", "icici")


def test_the_last_gateway_that_is_well_is_named_as_such() -> None:
    """Its payments go nowhere, and count as lost."""
    seen = _ask(Action.FORCE_OPEN, _snapshot((RAZORPAY,)), {("razorpay", "HDFC"): 30})
    assert seen.warnings == ("no gateway remains for UPI: payments will be refused (fail_closed)",)
    assert ((), (), 1.0, Expected(0.98, 0.0, 0.0, 0.0)) == (seen.remaining, seen.moves_to, seen.share, seen.expected)


def test_under_the_least_bad_policy_an_open_gateway_takes_what_no_other_can() -> None:
    seen = _ask(Action.FORCE_OPEN, _snapshot((RAZORPAY, HDFC), _opened("hdfc"), scoring=LEAST_BAD))
    assert _shares(seen) == {"hdfc": 1.0}
    assert seen.warnings == ("no gateway remains well for UPI: payments go to the best of the open ones (least_bad)",)
    forced = _snapshot((RAZORPAY, HDFC), overrides=_forced("hdfc", State.FORCED_OPEN), scoring=LEAST_BAD)
    assert (_ask(Action.FORCE_OPEN, forced).warnings) == (
        "no gateway remains for UPI: payments will be refused (least_bad)",
    )


def test_probes_take_nothing_worth_counting() -> None:
    """A half-open gateway gets no share of what moves, and does not count as well."""
    probing = _snapshot((RAZORPAY, HDFC), _opened("hdfc", until=NOON))
    seen = _ask(Action.FORCE_OPEN, probing, {("razorpay", "HDFC"): 30})
    assert (seen.share, seen.moves_to, seen.remaining) == (1.0, (), ())
    assert seen.warnings == ("no gateway remains for UPI but those being probed: nearly all payments will be refused",)


def test_what_is_open_already_has_nothing_left_to_move() -> None:
    """Its calls are of the past: the window still holds them, payments go elsewhere by now."""
    seen = _ask(Action.FORCE_OPEN, _snapshot(views=_opened("razorpay")))
    assert (seen.share, seen.payments_per_s, seen.moves_to) == (0.0, 0.0, ())
    assert seen.warnings == ("the automatic rule holds razorpay/UPI OPEN already: this keeps it from coming back",)


def test_forcing_closed_what_the_rule_holds_open_takes_its_payments_back_and_is_warned_of() -> None:
    away = {("hdfc", "HDFC"): 80, ("icici", "ICICI"): 20}
    seen = _ask(Action.FORCE_CLOSE, _snapshot(views=_opened("razorpay")), away)
    assert _shares(seen) == {"razorpay": 1.0}
    assert seen.share == pytest.approx(1.0)
    assert seen.remaining == ("razorpay", "hdfc", "icici")
    assert (seen.expires_at, seen.then) == (NOON + HOUR, "AUTOMATIC")
    assert seen.warnings == ("the automatic rule holds razorpay/UPI OPEN: it will be sent payments all the same",)


def test_a_gateway_that_is_not_the_best_gets_nothing_by_being_closed() -> None:
    seen = _ask(Action.FORCE_CLOSE, _snapshot(views=_opened("icici")), gateway=ICICI)
    assert (seen.share, seen.moves_to) == (0.0, ())


def test_clearing_a_forced_open_breaker_tells_its_share_once_the_probes_succeed() -> None:
    away = {("hdfc", "HDFC"): 80, ("icici", "ICICI"): 20}
    seen = _ask(Action.CLEAR, _snapshot(overrides=_forced("razorpay", State.FORCED_OPEN)), away)
    assert (_shares(seen), seen.remaining) == ({"razorpay": 1.0}, ("hdfc", "icici"))
    assert (seen.expires_at, seen.then) == (None, None)
    assert seen.warnings == ("razorpay/UPI is probed first; its share comes back when the probes succeed",)


def test_clearing_a_forced_closed_breaker_that_the_rule_holds_open_moves_its_payments_away() -> None:
    seen = _ask(Action.CLEAR, _snapshot(views=_opened("razorpay"), overrides=_forced("razorpay", State.FORCED_CLOSED)))
    assert _shares(seen) == {"hdfc": 0.60, "icici": 0.15}
    assert seen.warnings == ("the automatic rule holds razorpay/UPI OPEN: payments leave it at once",)


def test_clearing_what_is_not_forced_moves_nothing() -> None:
    seen = _ask(Action.CLEAR, _snapshot())
    assert (seen.share, seen.moves_to, seen.remaining, seen.warnings) == (0.0, (), ("razorpay", "hdfc", "icici"), ())


def test_an_override_in_force_is_named_with_its_author_and_an_ended_one_is_not() -> None:
    seen = _ask(Action.FORCE_OPEN, _snapshot(overrides=_forced("razorpay", State.FORCED_CLOSED)))
    assert (seen.warnings) == (
        "this replaces FORCED_CLOSED by ravi (bank says fixed), in force until 2026-01-05T13:00:00Z",
    )
    ended = _snapshot(overrides=_forced("razorpay", State.FORCED_CLOSED, until=NOON))
    assert _ask(Action.FORCE_OPEN, ended).warnings == ()


def test_a_gateway_that_takes_no_payments_may_be_forced_and_one_is_told_so() -> None:
    off = msgspec.structs.replace(RAZORPAY, is_enabled=False)
    seen = _ask(Action.FORCE_CLOSE, _snapshot((off, HDFC, ICICI)), {("hdfc", "HDFC"): 30}, off)
    assert (seen.remaining, seen.share) == (("hdfc", "icici"), 0.0)
    assert seen.warnings == ("razorpay takes no UPI payments now, whatever its breaker says",)


def test_old_knowledge_is_called_old() -> None:
    old = msgspec.structs.replace(_snapshot(), hot_as_of=NOON - timedelta(seconds=3))
    assert (_ask(Action.FORCE_OPEN, old).warnings) == (
        "what is known of health and traffic is old: a store does not answer, or no process counts outcomes",
    )


def test_slow_start_is_ended_by_forcing_closed() -> None:
    """Of the calls for which the gateway now stands first, it had the admitted share."""
    view = View(state=State.CLOSED, epoch=4, since=NOON, closed_at=NOON - timedelta(seconds=10))
    traffic = {("razorpay", "HDFC"): 55, ("hdfc", "HDFC"): 45}
    seen = _ask(Action.FORCE_CLOSE, _snapshot(views={("razorpay", "UPI"): view}), traffic)
    assert _shares(seen) == {"razorpay": 0.45}


def test_of_two_that_are_coming_back_the_one_that_is_closed_takes_no_more_than_the_other_leaves() -> None:
    """razorpay has its 55 %; of the 45 % it leaves, hdfc had 55 %, and has all of them then."""
    view = View(state=State.CLOSED, epoch=4, since=NOON, closed_at=NOON - timedelta(seconds=10))
    views = {("razorpay", "UPI"): view, ("hdfc", "UPI"): view}
    traffic = {("razorpay", "HDFC"): 5500, ("hdfc", "HDFC"): 2475, ("icici", "HDFC"): 2025}
    seen = _ask(Action.FORCE_CLOSE, _snapshot(views=views), traffic, HDFC)
    assert _shares(seen) == {"hdfc": 0.2025}


def test_the_representative_payment_is_one_that_every_gateway_could_take() -> None:
    """With every field asked for, and an amount within the ordered gateway's bounds."""
    fussy = msgspec.structs.replace(HDFC, required_fields=("customer.email",), max_amount_minor=99_999)
    cheap = msgspec.structs.replace(RAZORPAY, required_fields=("client.ip",), max_amount_minor=50_000)
    seen = _ask(Action.FORCE_OPEN, _snapshot((cheap, fussy)), {("razorpay", "HDFC"): 30}, cheap)
    assert _shares(seen) == {"hdfc": 1.0}


def test_a_gateway_this_server_cannot_use_does_not_remain() -> None:
    away = msgspec.structs.replace(_snapshot(), unavailable={"icici": "no key"})
    assert _ask(Action.FORCE_OPEN, away).remaining == ("hdfc",)


@st.composite
def _worlds(draw: st.DrawFn) -> tuple[Action, Snapshot, Traffic]:
    state = st.sampled_from([State.OPEN, State.HALF_OPEN, State.CLOSED])
    names = [each.gateway_id for each in ALL]
    views = {
        (name, "UPI"): View(state=draw(state), epoch=1, since=NOON, until=draw(st.sampled_from([NOON, NOON + HOUR])))
        for name in draw(st.sets(st.sampled_from(names)))
    }
    forced: dict[Key, Override] = {}
    for name in draw(st.sets(st.sampled_from(names))):
        order = draw(st.sampled_from([State.FORCED_OPEN, State.FORCED_CLOSED]))
        forced |= _forced(name, order, draw(st.sampled_from([NOON, NOON + HOUR])))
    gateways = tuple(msgspec.structs.replace(each, is_enabled=draw(st.booleans())) for each in ALL)
    cells = st.tuples(st.sampled_from(names), st.sampled_from(["HDFC", "ICICI", "UNKNOWN"]))
    traffic = draw(st.dictionaries(cells, st.integers(0, 1000)))
    scoring = draw(st.sampled_from([SEED_SCORING, LEAST_BAD]))
    return draw(st.sampled_from(Action)), _snapshot(gateways, views, forced, scoring), traffic


@given(_worlds())
def test_no_more_moves_than_there_is_and_each_share_arrives_where_a_payment_could_go(
    deps: tuple[Action, Snapshot, Traffic],
) -> None:
    action, snapshot, traffic = deps
    seen = _ask(action, snapshot, traffic, snapshot.gateways[0])
    enabled = {each.gateway_id for each in snapshot.gateways if each.is_enabled}
    assert (seen.share is None) == (sum(traffic.values()) == 0)
    assert sum(each.share for each in seen.moves_to) <= (seen.share or 0.0) + 1e-9
    assert 0.0 <= (seen.share or 0.0) <= 1.0
    assert {each.gateway_id for each in seen.moves_to} <= enabled
    assert set(seen.remaining) <= enabled
    if seen.expected is not None:
        assert 0.0 <= seen.expected.low <= seen.expected.after + 1e-9
        assert seen.expected.after <= seen.expected.high + 1e-9
        assert seen.expected.high <= 1.0 + 1e-9
    if action is Action.FORCE_OPEN:
        assert all(move.gateway_id != "razorpay" for move in seen.moves_to)


def test_the_interval_is_wilsons() -> None:
    """Known answers: no success in ten calls, and nine in ten."""
    assert list(wilson(0.0, 10)) == pytest.approx([0.0, 0.2775], abs=1e-4)
    assert list(wilson(0.9, 10)) == pytest.approx([0.5958, 0.9821], abs=1e-4)


def test_a_move_is_written_as_the_contract_has_it() -> None:
    assert msgspec.json.encode(GatewayGain("hdfc", 0.5)) == b'{"gateway_id":"hdfc","share":0.5}'
