"""A scorecard counts what was seen: leaving, coming back, money kept twice, money and record that disagree."""

from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pgw.core.breakers.breaker import Rules
from pgw.core.errors import Code, PgwError
from pgw.core.gateways.book import BookStatus, Charge
from pgw.core.payment.payment import Method
from pgw.core.routing.context import SEED_BANKS
from pgw.drill.private import copy_of, seed, target
from pgw.drill.scenario import FAST, FULL, DrillKind, scaled_rules, scaled_timeout_ms, timing_of
from pgw.drill.scorecard import REFUSED, Call, Observations, PaymentAnswer, Span, Storm, latency, score

NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)
SPAN = Span(calm=0.0, fault=10.0, heal=20.0, end=30.0)


def _call(at: float, gateway_id: str = "hdfc", breaker: str = "CLOSED") -> Call:
    return Call(payment_id=f"p{at}", number=1, gateway_id=gateway_id, breaker=breaker, at=at)


def _answer(
    at: float, status: str = "SUCCESS", payment_id: str | None = "p1", *, degraded: bool = False
) -> PaymentAnswer:
    return PaymentAnswer(payment_id=payment_id, status=status, at=at, took_ms=at, degraded=degraded)


def _charge(payment_id: str, gateway_id: str = "hdfc", status: BookStatus = BookStatus.CAPTURED) -> Charge:
    return Charge(
        payment_id=payment_id,
        attempt_number=1,
        gateway_id=gateway_id,
        amount_minor=100,
        currency="INR",
        status=status,
    )


def _seen(**parts: object) -> Observations:
    plain = {
        "kind": DrillKind.OUTAGE,
        "gateway_id": "hdfc",
        "span": SPAN,
        "bucket_s": 2.0,
        "answers": (),
        "calls": (_call(5.0),),
        "ends": {},
        "charges": (),
    }
    return Observations(**{**plain, **parts})  # type: ignore[arg-type]  # the parts are named right


def test_a_gateway_is_left_with_its_last_ordinary_call_and_back_with_its_share() -> None:
    calls = [*map(_call, (5.0, 10.1, 10.4)), _call(15.0, breaker="HALF_OPEN"), _call(12.0, "axis")]
    calls += [_call(20.2, "axis"), _call(22.0, "axis"), *map(_call, (24.6, 25.0, 26.0))]
    card = score(_seen(calls=calls))
    assert card.left_after_s == pytest.approx(0.4)
    assert (card.met, card.share_before) == (2, 1.0)
    assert card.back_after_s == 3.0
    assert card.passed
    assert card.conclusive


def test_a_gateway_that_is_called_to_the_end_was_not_left() -> None:
    assert score(_seen(calls=[_call(5.0), _call(19.9)])).left_after_s is None


def test_it_says_whether_the_breaker_or_the_score_left_a_gateway() -> None:
    """Nothing has left one that is called to the end."""
    calls = [*map(_call, (5.0, 10.1))]
    assert [score(_seen(calls=calls, opened=each)).left_by for each in (True, False)] == ["breaker", "score"]
    assert score(_seen(calls=[_call(5.0), _call(19.9)])).left_by is None


def test_a_gateway_that_took_nothing_before_says_nothing() -> None:
    card = score(_seen(calls=[_call(5.0, "axis")]))
    assert (card.passed, card.conclusive) == (True, False)
    assert "hdfc took no payment" in card.verdict


@pytest.mark.parametrize(
    ("charges", "ends", "expected"),
    [
        ([_charge("p1"), _charge("p1", "axis")], {"p1": "SUCCESS"}, (1, 0)),
        ([_charge("p1"), _charge("p1", "axis"), _charge("p1", "axis", BookStatus.REVERSED)], {"p1": "SUCCESS"}, (0, 0)),
        ([], {"p1": "SUCCESS"}, (0, 1)),
        ([_charge("p1")], {"p1": "FAILURE"}, (0, 1)),
        ([_charge("p1"), _charge("p1", status=BookStatus.REVERSED)], {"p1": "FAILURE"}, (0, 0)),
        ([_charge("p1")], {"p1": "PENDING_VERIFICATION"}, (0, 0)),
        ([_charge("p1")], {}, (0, 1)),
        ([_charge("p2")], {"p1": "FAILURE"}, (0, 1)),
    ],
)
def test_money_and_record_must_agree(charges: list[Charge], ends: dict[str, str], expected: tuple[int, int]) -> None:
    card = score(_seen(answers=[_answer(5.0)], charges=charges, ends=ends))
    assert expected == (card.double_charges, card.lost)
    assert card.passed == (expected == (0, 0))


def test_answers_are_counted_by_what_they_said_since_the_fault() -> None:
    answers = [
        _answer(9.0, "FAILURE"),
        _answer(11.0, "FAILURE", "p2"),
        _answer(12.0, REFUSED, None),
        _answer(13.0, "PENDING_VERIFICATION", "p3"),
    ]
    ends = {"p1": "FAILURE", "p2": "FAILURE", "p3": "FAILURE"}
    card = score(_seen(answers=answers, ends=ends))
    assert (card.failed, card.refused, card.pending, card.pending_ended) == (1, 1, 1, {"FAILURE": 1})


def test_a_lost_redis_is_noticed_by_decisions_that_know_they_are_old() -> None:
    answers = [_answer(11.0), _answer(12.5, degraded=True), _answer(21.0, degraded=True), _answer(25.0)]
    card = score(_seen(kind=DrillKind.REDIS_LOSS, gateway_id=None, answers=answers, ends={"p1": "FAILURE"}))
    assert (card.left_after_s, card.met, card.back_after_s) == (2.5, 1, 1.0)


def test_a_webhook_that_is_answered_wrongly_fails_the_drill() -> None:
    card = score(_seen(kind=DrillKind.WEBHOOK_STORM, gateway_id=None, storm=Storm(sent=9, kept=8, wrong=1)))
    assert not card.passed


@given(st.lists(st.floats(0, 1e4), min_size=1))
def test_percentiles_are_answers_that_were_seen(took: list[float]) -> None:
    answers = [PaymentAnswer(payment_id="p", status="SUCCESS", at=1.0, took_ms=each) for each in took]
    found = latency(answers, 0.0, 2.0)
    assert found.p50_ms is not None
    assert found.p99_ms is not None
    assert found.p50_ms <= found.p99_ms <= round(max(took), 1)
    assert found.p99_ms in {round(each, 1) for each in took}


def test_fast_scales_times_and_no_threshold() -> None:
    rules = scaled_rules(Rules(), FAST.breakers_by)
    assert (rules.open_s, rules.slow_start_s, rules.open_growth_after_s, rules.max_open_s) == (3, 2, 12, 30)
    assert (Rules().min_calls, Rules().failure_window_s) == (rules.min_calls, rules.failure_window_s)
    assert tuple(scaled_timeout_ms(each, 5) for each in (2500, 1000, 100)) == (500, 300, 100)
    assert scaled_rules(Rules(), FULL.breakers_by) == Rules()
    assert timing_of(DrillKind.REDIS_LOSS, fast=True).attempts_by == 1


def test_the_copy_has_the_configuration_and_no_order_of_the_day() -> None:
    real = seed(NOW)
    copy = copy_of(real, FULL, 2500)
    assert [each.gateway_id for each in real.gateways] == [each.gateway_id for each in copy.gateways]
    assert all(each.is_sandbox for each in copy.gateways)
    assert (real.scoring, SEED_BANKS, {}, None) == (copy.scoring, copy.banks, copy.overrides, copy.paused)
    gateway_id, request, others = target(copy, None, NOW)
    assert (gateway_id, request.payment_method, others) == ("razorpay", Method.UPI, 3)
    assert target(copy, "axis", NOW)[0] == "axis"
    with pytest.raises(PgwError) as refused:
        target(copy, "razorpy", NOW)
    assert refused.value.code is Code.NOT_FOUND
