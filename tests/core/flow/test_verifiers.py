"""Many verifiers, some of which die or lose the ledger: each attempt is asked about by one of them at a time."""

import asyncio
from datetime import datetime
from typing import Any

import pytest

from pgw.core.flow.payments.take import take
from pgw.core.flow.verification.enquiries import MAX_DUE, MAX_ENQUIRIES
from pgw.core.flow.verification.verify import verify_due
from pgw.core.ledger.payment_reads import by_id
from pgw.core.ledger.payments import OPEN
from pgw.core.ledger.tables import attempts, outbox, verification_checks
from pgw.core.payment.payment import Payment, Status
from pgw.core.verification.enquiry import Finding, Pending, Undecided
from pgw.core.verification.rate_limit import BURST, OUTAGE_AFTER, PER_S, SHORTEST_BACK_OFF_S
from tests.doubles import CAPTURED, UNKNOWN, Act, Scene, request_of, scene_of
from tests.ledgers import Stage, all_of, opened, opens, rows
from tests.troubled import Trouble, Troubled

SCHEDULE_S = [2, 5, 15, 30, 60, 120, 300, 600, 1800, 3600, 3600, 3600]
FAR_OFF_S = 3600 * 1.2


async def _unknown(stage: Stage, *acts: Act, seed: int = 0) -> tuple[Scene, Payment]:
    """Take a payment whose outcome stays open, at a gateway that plays these acts."""
    scene = scene_of(stage.ledger, {"g1": acts or [Act(UNKNOWN)], "g2": [CAPTURED]}, seed=seed)
    taken = await take(scene.deps, request_of(), f"key-{seed}")
    assert taken.payment.status is Status.PENDING_VERIFICATION
    return scene, taken.payment


async def _seen(scene: Scene, payment_id: str) -> Payment:
    stored = await scene.deps.ledger.read(by_id, payment_id)
    assert stored is not None
    return stored.as_of(scene.clock.now())


async def _next_check(stage: Stage) -> datetime | None:
    moment: datetime | None = (await rows(stage.ledger, attempts))[0]["next_check_at"]
    return moment


def test_a_verifier_that_dies_gives_the_attempt_back(stage: Stage) -> None:
    """Its claim is a lease of thirty seconds; then another asks."""

    async def scenario() -> None:
        scene, payment = await _unknown(stage, Act(UNKNOWN, moves_money=True))
        scene.clock.advance(2.4)
        ledger = Troubled(stage.ledger)
        ledger.trouble = {"settle": Trouble.AWAY}
        troubled = scene_of(ledger, {"g1": []}, clock=scene.clock)
        troubled.gateways["g1"].book = scene.gateways["g1"].book
        assert await verify_due(troubled.deps) == 1
        assert await verify_due(scene.deps) == 0
        assert (await _seen(scene, payment.payment_id)).status is Status.PENDING_VERIFICATION
        scene.clock.advance(30)
        assert await verify_due(scene.deps) == 1
        assert (await _seen(scene, payment.payment_id)).status is Status.SUCCESS

    stage.run(scenario())


@pytest.mark.parametrize("phase", ["claim", "record", "settle"])
@pytest.mark.parametrize("trouble", list(Trouble))
def test_a_check_that_cannot_be_written_is_made_again(stage: Stage, phase: str, trouble: Trouble) -> None:
    async def scenario() -> None:
        scene, payment = await _unknown(stage, Act(UNKNOWN, moves_money=True))
        ledger = Troubled(stage.ledger)
        troubled = scene_of(ledger, {"g1": []}, clock=scene.clock)
        troubled.gateways["g1"].book = scene.gateways["g1"].book
        if phase == "record":
            troubled.gateways["g1"].answers.append(Undecided(Pending.STILL_PENDING))
        ledger.trouble = {phase: trouble}
        for _ in range(3):
            scene.clock.advance(FAR_OFF_S)
            await verify_due(troubled.deps)
            await ledger.arrive()
        assert (await _seen(scene, payment.payment_id)).status is Status.SUCCESS
        assert await _next_check(stage) is None
        kinds = sorted(row["event"]["type"] for row in await rows(stage.ledger, outbox))
        assert kinds == ["payment.attempted", "payment.completed", "payment.verified"]

    stage.run(scenario())


def test_two_verifiers_ask_about_an_attempt_once(stage: Stage, database: str) -> None:
    async def scenario() -> None:
        numbers = range(60)
        await all_of(stage.ledger, [(OPEN, opens(n)) for n in numbers])
        async with opened(database) as other:
            scenes = [scene_of(each, {"g1": []}) for each in (stage.ledger, other, stage.ledger, other)]
            for scene in scenes:
                scene.clock.advance(10)
            claimed = await asyncio.gather(*(verify_due(scene.deps) for scene in scenes))
        assert sum(claimed) == len(numbers)
        asked = [reference for scene in scenes for reference in scene.gateways["g1"].asked]
        assert len(set(asked)) == len(asked) == len(numbers)
        checks = await rows(stage.ledger, verification_checks)
        assert {row["check_number"] for row in checks} == {1}

    stage.run(scenario())


def test_a_round_is_bounded_and_so_are_the_enquiries_under_way(stage: Stage) -> None:
    """A gateway that just recovered must not be met by all the checks its outage caused."""

    async def scenario() -> None:
        await all_of(stage.ledger, [(OPEN, opens(n)) for n in range(MAX_DUE + 10)])
        scene = scene_of(stage.ledger, {"g1": []})
        scene.clock.advance(10)
        under_way, most = 0, 0
        ask = scene.gateways["g1"].enquire

        async def counted(reference: Any) -> Finding:
            nonlocal under_way, most
            under_way += 1
            most = max(most, under_way)
            await asyncio.sleep(0)
            under_way -= 1
            return await ask(reference)

        scene.gateways["g1"].enquire = counted  # type: ignore[method-assign]
        assert await verify_due(scene.deps) == BURST
        assert await verify_due(scene.deps) == 0
        assert most <= MAX_ENQUIRIES
        for _ in range(3):
            scene.clock.advance(1)
            assert await verify_due(scene.deps) == PER_S

    stage.run(scenario())


def test_a_gateway_that_is_gone_is_unreachable_and_stops_no_other_check(stage: Stage) -> None:
    async def scenario() -> None:
        await stage.ledger.commit(OPEN, opens(1, gateway_id="gone"))
        scene, payment = await _unknown(stage, Act(UNKNOWN, moves_money=True), seed=7)
        scene.clock.advance(10)
        assert await verify_due(scene.deps) == 2
        assert (await _seen(scene, payment.payment_id)).status is Status.SUCCESS
        results = [(row["result"], row["error_code"]) for row in await rows(stage.ledger, verification_checks)]
        assert sorted(results, key=str) == [("SUCCESS", None), ("UNREACHABLE", "NO_ADAPTER")]

    stage.run(scenario())


def test_a_gateway_that_does_not_answer_is_left_alone_and_holds_nobody_else_up(stage: Stage) -> None:
    """More checks than one read lists wait for it; those of another gateway are made at once behind them."""

    async def scenario() -> None:
        await all_of(stage.ledger, [(OPEN, opens(n, gateway_id="g1")) for n in range(MAX_DUE + 10)])
        await all_of(stage.ledger, [(OPEN, opens(1000 + n, gateway_id="g2")) for n in range(3)])
        scene = scene_of(stage.ledger, {"g1": [], "g2": []})
        silent, well = scene.gateways["g1"], scene.gateways["g2"]
        silent.answers.extend([Undecided(Pending.UNREACHABLE)] * (MAX_ENQUIRIES + 2))
        scene.clock.advance(10)
        claimed = await verify_due(scene.deps)
        assert OUTAGE_AFTER <= len(silent.asked) <= MAX_ENQUIRIES + OUTAGE_AFTER
        assert (claimed - len(silent.asked), len(well.asked)) == (3, 3)
        asked = len(silent.asked)
        assert await verify_due(scene.deps) == 0
        scene.clock.advance(SHORTEST_BACK_OFF_S)
        await verify_due(scene.deps)
        assert len(silent.asked) == asked + 1

    stage.run(scenario())
