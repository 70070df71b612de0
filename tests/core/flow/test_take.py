"""One payment through its line: the right gateways, in order, each at most once, and never another after an unknown."""

import asyncio
from collections.abc import Sequence
from datetime import timedelta

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pgw.core.errors import Code, PgwError
from pgw.core.flow.payments.take import take
from pgw.core.ledger.payment_reads import attempts_of, by_id
from pgw.core.payment.outcome import Captured, FinalDecline, GatewayDecline, NotSent, Unknown
from pgw.core.payment.payment import AttemptStatus, Payment, Status
from pgw.core.ports import ChargeOrder
from pgw.core.routing.policy import RetryPolicy
from tests.doubles import (
    ACTION,
    CAPTURED,
    CUSTOMER_DECLINE,
    GATEWAY_DECLINE,
    NOT_SENT,
    UNKNOWN,
    Act,
    Scene,
    request_of,
    scene_of,
)
from tests.ledgers import Stage

WRONG_AMOUNT = Captured("ref-1", 1001, "INR")
WRONG_CURRENCY = Captured("ref-1", 1000, "USD")

falling_back = st.sampled_from([NOT_SENT, GATEWAY_DECLINE])
anything = st.sampled_from(
    [NOT_SENT, GATEWAY_DECLINE, CUSTOMER_DECLINE, CAPTURED, ACTION, UNKNOWN, WRONG_AMOUNT, WRONG_CURRENCY]
)
faults = st.sampled_from([None, None, None, RuntimeError, TimeoutError, OSError, KeyError])
acts = st.builds(Act, falling_back | anything, takes_s=st.sampled_from([0.0, 0.02, 0.9, 2.4]), fault=faults)
scripts = st.lists(acts, min_size=1, max_size=5)
policies = st.builds(
    RetryPolicy,
    merchant_id=st.just("m_001"),
    max_attempts=st.integers(1, 6),
    latency_budget_ms=st.sampled_from([100, 1000, 2500, 10_000]),
    retry_on_timeout=st.booleans(),
    enabled=st.sampled_from([True, True, True, False]),
)
End = tuple[Status, str | None]


def _end(act: Act, only_not_sent: bool) -> End | None:
    """Say how the contract ends a payment after this answer; None where another gateway may be asked."""
    if act.fault is not None:
        return Status.PENDING_VERIFICATION, None
    match act.verdict:
        case Captured(amount_minor=1000, currency="INR"):
            return Status.SUCCESS, None
        case Captured() | Unknown():
            return Status.PENDING_VERIFICATION, None
        case NotSent() | GatewayDecline():
            return None
        case FinalDecline(error_code=code):
            return Status.FAILURE, code
        case _:
            return Status.REQUIRES_ACTION, None


def _by_the_contract(script: Sequence[Act], policy: RetryPolicy) -> tuple[int, End]:
    """Walk the script as the contract says; return how many gateways are called, and the payment's end."""
    most = min(policy.max_attempts if policy.enabled else 1, len(script))
    spent_s, only_not_sent = 0.0, True
    for place, act in enumerate(script, start=1):
        spent_s += act.takes_s
        only_not_sent = only_not_sent and act.verdict is NOT_SENT
        end = _end(act, only_not_sent)
        if end is not None:
            return place, end
        if place == most or round(spent_s * 1000) > policy.latency_budget_ms - 50:
            assert isinstance(act.verdict, NotSent | GatewayDecline)
            return place, (Status.FAILURE, "GATEWAYS_UNAVAILABLE" if only_not_sent else act.verdict.error_code)
    raise AssertionError("a script ends")


def _watch(scene: Scene) -> None:
    """Let every gateway look into the ledger when it is called: its attempt must be there, and no other be open."""

    async def look(order: ChargeOrder) -> None:
        deps = scene.deps
        rows = await deps.ledger.read(attempts_of, order.reference.payment_id)
        stored = await deps.ledger.read(by_id, order.reference.payment_id)
        assert [row.attempt_number for row in rows if row.status is AttemptStatus.SENDING] == [
            order.reference.attempt_number
        ]
        assert stored is not None
        assert stored.lease_until is not None
        assert (len(rows), stored.payment.status) == (order.reference.attempt_number, Status.PROCESSING)
        assert timedelta(seconds=2) < stored.lease_until - rows[-1].started_at <= timedelta(seconds=4.5)
        assert order.may_send()

    for gateway in scene.gateways.values():
        gateway.when_called = look


one_stage = settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
"""A ledger may keep what the examples before have written."""


@settings(one_stage, max_examples=150)
@given(script=scripts, policy=policies)
def test_every_sequence_of_verdicts_ends_as_the_contract_says(
    stage: Stage, script: list[Act], policy: RetryPolicy
) -> None:
    """Whatever the gateways do, what is answered is what the ledger holds, and a second request changes nothing."""
    called, end = _by_the_contract(script, policy)

    async def scenario(key: str, seed: int) -> None:
        scene = scene_of(stage.ledger, {f"g{n}": [act] for n, act in enumerate(script, start=1)}, policy, seed)
        _watch(scene)
        taken = await take(scene.deps, request_of(), key)
        assert scene.charges == [(f"g{n}", n) for n in range(1, called + 1)]
        assert not taken.replayed
        assert (taken.payment.status, taken.payment.failure_code) == end
        assert taken.payment.attempts_made == called
        assert await _shown(scene, taken.payment.payment_id) == taken.payment
        again = await take(scene.deps, request_of(), key)
        assert (again.payment, again.replayed) == (taken.payment, True)
        assert len(scene.charges) == called
        with pytest.raises(PgwError) as refusal:
            await take(scene.deps, request_of(amount_minor=1001), key)
        assert refusal.value.code is Code.IDEMPOTENCY_KEY_REUSED

    number = stage.number()
    stage.run(scenario(f"key-{number}", number))


async def _shown(scene: Scene, payment_id: str) -> Payment:
    stored = await scene.deps.ledger.read(by_id, payment_id)
    assert stored is not None
    return stored.as_of(scene.clock.now())


@settings(one_stage, max_examples=60)
@given(before=st.lists(falling_back, max_size=3), moves_money=st.booleans(), fault=faults)
def test_after_an_unknown_no_other_gateway_is_called(
    stage: Stage, before: list[NotSent | GatewayDecline], moves_money: bool, fault: type[Exception] | None
) -> None:
    """Not by policy, not by a retry of the request, not later: only the gateway that has it is ever asked."""
    unknown = Act(UNKNOWN, moves_money=moves_money, fault=fault)
    chain = [*map(Act, before), unknown]
    policy = RetryPolicy(merchant_id="m_001", max_attempts=10, retry_on_timeout=True)

    async def scenario(key: str, seed: int) -> None:
        scripts = {f"g{n}": [act] for n, act in enumerate(chain, start=1)}
        scene = scene_of(stage.ledger, {**scripts, "next": [CAPTURED]}, policy, seed)
        taken = await take(scene.deps, request_of(), key)
        again = await take(scene.deps, request_of(), key)
        assert taken.payment.status is again.payment.status is Status.PENDING_VERIFICATION
        assert scene.charges == [(f"g{n}", n) for n in range(1, len(chain) + 1)]
        assert scene.gateways["next"].orders == []

    number = stage.number()
    stage.run(scenario(f"key-{number}", number))


def test_a_call_past_its_deadline_is_unknown(stage: Stage) -> None:
    """The one test that really waits, for as long as the shortest attempt may take."""

    async def scenario() -> None:
        policy = RetryPolicy(merchant_id="m_001", latency_budget_ms=100)
        scene = scene_of(stage.ledger, {"g1": [CAPTURED], "g2": [CAPTURED]}, policy)

        async def never(_: ChargeOrder) -> None:
            await asyncio.Event().wait()

        scene.gateways["g1"].when_called = never
        taken = await take(scene.deps, request_of(), "key")
        assert taken.payment.status is Status.PENDING_VERIFICATION
        (row,) = await stage.ledger.read(attempts_of, taken.payment.payment_id)
        assert (row.status, row.error_code, row.blame) == (AttemptStatus.TIMEOUT, "TIMEOUT", "gateway")
        assert scene.charges == [("g1", 1)]

    stage.run(scenario())


def test_an_attempt_has_no_more_time_than_the_budget_leaves(stage: Stage) -> None:
    async def scenario() -> None:
        policy = RetryPolicy(merchant_id="m_001", latency_budget_ms=3000)
        script = {"g1": [Act(NOT_SENT, takes_s=1.0)], "g2": [Act(NOT_SENT, takes_s=1.9)], "g3": [Act(CAPTURED)]}
        scene = scene_of(stage.ledger, script, policy)
        leases: list[timedelta] = []

        async def look(order: ChargeOrder) -> None:
            stored = await stage.ledger.read(by_id, order.reference.payment_id)
            assert stored is not None
            assert stored.lease_until is not None
            leases.append(stored.lease_until - scene.clock.now())

        for gateway in scene.gateways.values():
            gateway.when_called = look
        taken = await take(scene.deps, request_of(), "key")
        assert taken.payment.status is Status.SUCCESS
        assert leases == [timedelta(seconds=s + 2) for s in (2.5, 2.0, 0.1)]

    stage.run(scenario())


def test_two_hundred_requests_with_one_key_make_one_charge(stage: Stage) -> None:
    async def scenario() -> None:
        scene = scene_of(stage.ledger, {"g1": [CAPTURED]})
        ends = await asyncio.gather(
            *(take(scene.deps, request_of(), "key") for _ in range(200)), return_exceptions=True
        )
        refused = {end.code for end in ends if isinstance(end, PgwError)}
        paid = [end for end in ends if not isinstance(end, BaseException)]
        assert refused <= {Code.IDEMPOTENCY_KEY_IN_USE}
        assert len({each.payment.payment_id for each in paid}) == 1
        assert [each.replayed for each in paid].count(False) == 1
        assert scene.charges == [("g1", 1)]

    stage.run(scenario())


def test_a_key_is_in_use_until_its_attempts_lease_is_over_and_then_under_verification(stage: Stage) -> None:
    """A process that died mid-call holds the key no longer than its lease; the replay never calls a gateway."""

    async def scenario() -> None:
        scene = scene_of(stage.ledger, {"g1": [CAPTURED]})
        called = asyncio.Event()

        async def hang(_: ChargeOrder) -> None:
            called.set()
            await asyncio.Event().wait()

        scene.gateways["g1"].when_called = hang
        dying = asyncio.create_task(take(scene.deps, request_of(), "key"))
        await called.wait()
        dying.cancel()
        await asyncio.gather(dying, return_exceptions=True)
        scene.clock.advance(4.499)
        with pytest.raises(PgwError) as refusal:
            await take(scene.deps, request_of(), "key")
        assert (refusal.value.code, refusal.value.retry_after_s) == (Code.IDEMPOTENCY_KEY_IN_USE, 1)
        scene.clock.advance(0.001)
        replay = await take(scene.deps, request_of(), "key")
        assert (replay.payment.status, replay.replayed) == (Status.PENDING_VERIFICATION, True)
        assert scene.charges == [("g1", 1)]

    stage.run(scenario())


def test_an_empty_plan_leaves_the_key_free_but_answers_a_key_that_has_a_payment(stage: Stage) -> None:
    async def scenario() -> None:
        scene = scene_of(stage.ledger, {"g1": []})
        without_gateways = scene_of(stage.ledger, {})
        with pytest.raises(PgwError) as refusal:
            await take(without_gateways.deps, request_of(), "key")
        assert refusal.value.code is Code.NO_GATEWAY_AVAILABLE
        first = await take(scene.deps, request_of(), "key")
        assert not first.replayed
        again = await take(without_gateways.deps, request_of(), "key")
        assert (again.payment.payment_id, again.replayed) == (first.payment.payment_id, True)
        with pytest.raises(PgwError) as refusal:
            await take(without_gateways.deps, request_of(amount_minor=5), "key")
        assert refusal.value.code is Code.IDEMPOTENCY_KEY_REUSED

    stage.run(scenario())
