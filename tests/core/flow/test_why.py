"""A decision in the ledger can be made again from what was kept, whatever was configured since."""

from collections.abc import Callable
from functools import partial

import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pgw.core.flow.payments.recompute import recomputed
from pgw.core.flow.payments.take import take
from pgw.core.flow.runtime.snapshot import Snapshots
from pgw.core.ledger.configuration import BANKS, GATEWAY, RETRY_POLICY, SCORING
from pgw.core.ledger.payment_reads import decision_of
from pgw.core.payment.payment import Card, Method, Upi
from pgw.core.routing.gateway import GatewayConfig
from pgw.core.routing.plan import Plan, Snapshot
from pgw.core.routing.policy import RetryPolicy
from pgw.core.routing.score import Scoring, Weights
from tests.doubles import Scene, request_of, scene_of
from tests.ledgers import Stage

EVEN = Scoring(
    weights=Weights(success=0.1, latency=0.1, method_affinity=0.2, bank_affinity=0.2, amount_fit=0.3, time=0.1)
)


def _change(name: str, **changes: object) -> Callable[[Snapshot], GatewayConfig]:
    def changed(snapshot: Snapshot) -> GatewayConfig:
        gateway = snapshot.gateway(name)
        assert gateway is not None
        return msgspec.structs.replace(gateway, **changes)

    return changed


async def _begin(stage: Stage) -> tuple[Scene, Snapshots]:
    """Build a scene whose gateways and configuration are the ledger's own."""
    scene = scene_of(stage.ledger, {"hdfc": [], "icici": [], "axis": []}, seed=stage.number())
    snapshots = Snapshots(stage.ledger, scene.clock, lambda _: None)
    for name in ("hdfc", "icici", "axis"):
        await snapshots.configure(GATEWAY + name, _change(name, is_enabled=True), "test", "on")
    scene.snapshots = lambda: snapshots.current
    return scene, snapshots


async def _change_everything(snapshots: Snapshots) -> None:
    await snapshots.configure(SCORING, lambda _: EVEN, "test", "other weights")
    await snapshots.configure(
        BANKS, lambda each: msgspec.structs.replace(each.banks, upi_handles={}, card_bins={}), "test", "no banks"
    )
    await snapshots.configure(
        RETRY_POLICY + "m_001", lambda _: RetryPolicy(merchant_id="m_001", max_attempts=1), "test", "one attempt"
    )
    await snapshots.configure(GATEWAY + "hdfc", _change("hdfc", is_enabled=False, priority=999), "test", "off")
    await snapshots.configure(GATEWAY + "axis", _change("axis", bank="HDFC", max_amount_minor=1), "test", "moved")


async def _decision(stage: Stage, payment_id: str) -> Plan:
    stored = await stage.ledger.read(decision_of, payment_id)
    assert stored is not None
    return stored[0]


def test_a_decision_is_made_again_after_everything_was_reconfigured(stage: Stage) -> None:
    async def scenario() -> None:
        scene, snapshots = await _begin(stage)
        first = await take(scene.deps, request_of(), "before")
        await _change_everything(snapshots)
        second = await take(scene.deps, request_of(), "after")
        for taken in (first, second):
            plan = await _decision(stage, taken.payment.payment_id)
            assert (await recomputed(scene.deps, plan)).identical
        before, after = [await _decision(stage, each.payment.payment_id) for each in (first, second)]
        assert [each.gateway_id for each in before.ranked] == ["hdfc", "icici", "axis"]
        assert [each.gateway_id for each in after.ranked] == ["icici"]

    stage.run(scenario())


def test_a_decision_somebody_changed_is_found_out(stage: Stage) -> None:
    async def scenario() -> None:
        scene, _ = await _begin(stage)
        taken = await take(scene.deps, request_of(), "key")
        plan = await _decision(stage, taken.payment.payment_id)
        forged = msgspec.structs.replace(plan.ranked[0], score=plan.ranked[0].score + 0.1)
        lied = msgspec.structs.replace(plan, ranked=(forged, *plan.ranked[1:]))
        found = await recomputed(scene.deps, lied)
        assert not found.identical
        assert [each.split("/")[1] for each in found.differences] == ["ranked"]

    stage.run(scenario())


@pytest.mark.parametrize("member", ["seed", "degraded", "strategy", "reason_summary"])
def test_a_difference_is_named_by_its_pointer(stage: Stage, member: str) -> None:
    """The seed is the payment's own and no input of this decision yet: it comes out as it went in."""

    async def scenario() -> None:
        scene, _ = await _begin(stage)
        taken = await take(scene.deps, request_of(), "key")
        plan = await _decision(stage, taken.payment.payment_id)
        lies = {"seed": 1, "degraded": not plan.degraded, "strategy": "bandit", "reason_summary": "because"}
        found = await recomputed(scene.deps, msgspec.structs.replace(plan, **{member: lies[member]}))
        assert found.differences == (() if member in {"seed", "degraded"} else (f"/{member}",))

    stage.run(scenario())


def _reweighed(weights: Weights, _: Snapshot) -> Scoring:
    return msgspec.structs.replace(EVEN, weights=weights)


instruments = st.sampled_from(
    [
        (Method.UPI, Upi(vpa="a@okicici")),
        (Method.UPI, Upi(vpa="a@nobody")),
        (Method.UPI, Upi()),
        (Method.CARD, Card(token="t", bin="411111")),
        (Method.CARD, Card(token="t")),
    ]
)


@settings(max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    payments=st.lists(st.tuples(instruments, st.integers(1, 2_000_000), st.floats(0, 90_000)), min_size=1, max_size=3),
    changes=st.integers(0, 3),
)
def test_any_decision_is_made_again_to_the_last_bit(
    stage: Stage, payments: list[tuple[tuple[Method, Upi | Card], int, float]], changes: int
) -> None:
    async def scenario() -> None:
        scene, snapshots = await _begin(stage)
        number, taken = stage.number(), []
        for place, ((method, instrument), amount, wait_s) in enumerate(payments):
            scene.clock.advance(wait_s)
            await snapshots.refresh()
            request = request_of(amount_minor=amount, instrument=instrument)
            request = msgspec.structs.replace(request, payment_method=method)
            taken.append(await take(scene.deps, request, f"key-{number}-{place}"))
        for turn in range(changes):
            weights = msgspec.structs.replace(EVEN.weights, success=0.1 * turn, time=0.2 - 0.1 * turn)
            await snapshots.configure(SCORING, partial(_reweighed, weights), "test", "weights")
        for each in taken:
            found = await recomputed(scene.deps, await _decision(stage, each.payment.payment_id))
            assert found.differences == ()

    stage.run(scenario())


def test_a_difference_inside_a_list_is_named_by_its_place(stage: Stage) -> None:
    async def scenario() -> None:
        scene, _ = await _begin(stage)
        taken = await take(scene.deps, request_of(), "key")
        plan = await _decision(stage, taken.payment.payment_id)
        forged = msgspec.structs.replace(plan.ranked[0], score=plan.ranked[0].score + 0.1)
        found = await recomputed(scene.deps, msgspec.structs.replace(plan, ranked=(forged, *plan.ranked[1:])))
        assert found.differences == ("/ranked/0/score",)

    stage.run(scenario())
