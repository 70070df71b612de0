"""A worker's calls end within its claim, however long a charge may take; one attempt's bug is not another's."""

import asyncio
from dataclasses import replace

import pytest

from pgw.core.flow.payments.take import take
from pgw.core.flow.verification.enquiries import ANSWER_WITHIN_S, round_of, within_s
from pgw.core.flow.verification.late_capture import monitor_due
from pgw.core.flow.verification.verify import verify_due
from pgw.core.ledger.due import Due, due
from pgw.core.ledger.engine.writer import COMMIT_WITHIN_S
from pgw.core.ledger.payment_reads import by_id
from pgw.core.ledger.payments import OPEN
from pgw.core.ledger.tables import watches
from pgw.core.payment.payment import Status
from pgw.core.ports import Reference
from pgw.core.verification.enquiry import CHECK_LEASE, Authorized, Finding, Pending, Undecided
from tests.doubles import CUSTOMER_DECLINE, UNKNOWN, Act, Scene, request_of, scene_of
from tests.ledgers import Stage, all_of, opens, rows
from tests.troubled import Troubled

FIRST_LOOK_S = 600 * 1.2
DAY_S = 24 * 3600
LONGEST_TIMEOUT_MS = 30_000
PAST_A_CLAIM_S = CHECK_LEASE.total_seconds() - ANSWER_WITHIN_S + 1
"""After that much of its claim a worker begins no call."""


def _asked_slowly(scene: Scene) -> None:
    """Let each enquiry take as long as a worker waits."""
    gateway = scene.gateways["g1"]
    ask = gateway.enquire

    async def slowly(reference: Reference) -> Finding:
        scene.clock.advance(ANSWER_WITHIN_S)
        return await ask(reference)

    gateway.enquire = slowly  # type: ignore[method-assign]


def test_the_three_calls_of_a_check_and_its_three_commits_end_within_its_claim() -> None:
    """It claims, enquires, names the winner, captures, enquires again, and writes what it found."""
    assert CHECK_LEASE.total_seconds() >= 3 * ANSWER_WITHIN_S + 3 * COMMIT_WITHIN_S


@pytest.mark.parametrize(("timeout_ms", "expected_s"), [(50, 0.05), (2500, 2.5), (LONGEST_TIMEOUT_MS, ANSWER_WITHIN_S)])
def test_a_worker_waits_as_long_as_a_charge_may_take_up_to_a_bound(
    stage: Stage, timeout_ms: int, expected_s: float
) -> None:
    assert within_s(replace(scene_of(stage.ledger, {}).deps, timeout_ms=timeout_ms)) == expected_s


@pytest.mark.parametrize("timeout_ms", [2500, LONGEST_TIMEOUT_MS])
def test_authorised_money_is_captured_after_the_slowest_enquiry(stage: Stage, timeout_ms: int) -> None:
    async def scenario() -> None:
        scene = scene_of(stage.ledger, {"g1": [Act(UNKNOWN, moves_money=True)]})
        deps = replace(scene.deps, timeout_ms=timeout_ms)
        payment = (await take(deps, request_of(), "key")).payment
        gateway = scene.gateways["g1"]
        gateway.answers.append(Authorized("g1-ref", 1000, "INR"))
        _asked_slowly(scene)
        scene.clock.advance(60)
        assert await verify_due(deps) == 1
        stored = await stage.ledger.read(by_id, payment.payment_id)
        assert stored is not None
        assert (stored.payment.status, gateway.captured) == (Status.SUCCESS, ["g1-ref"])

    stage.run(scenario())


@pytest.mark.parametrize("timeout_ms", [2500, LONGEST_TIMEOUT_MS])
def test_late_money_goes_back_after_the_slowest_enquiry(stage: Stage, timeout_ms: int) -> None:
    async def scenario() -> None:
        scene = scene_of(stage.ledger, {"g1": [CUSTOMER_DECLINE]})
        deps = replace(scene.deps, timeout_ms=timeout_ms)
        payment = (await take(deps, request_of(), "key")).payment
        gateway = scene.gateways["g1"]
        gateway.book[Reference(payment.payment_id, 1)].moved = (1000, "INR")
        _asked_slowly(scene)
        scene.clock.advance(FIRST_LOOK_S)
        assert await monitor_due(deps) == 1
        (watch,) = await rows(stage.ledger, watches)
        assert (watch["state"], len(gateway.reversal_keys)) == ("REVERSED", 1)

    stage.run(scenario())


@pytest.mark.parametrize(("after_days", "state"), [(1, "REVERSING"), (30, "MANUAL_REVIEW")])
def test_a_reversal_its_claim_leaves_no_time_for_is_moved_on_without_a_call(
    stage: Stage, after_days: int, state: str, caplog: pytest.LogCaptureFixture
) -> None:
    """By its schedule; once it has taken too long to a person, who is told."""

    async def scenario() -> None:
        ledger = Troubled(stage.ledger)
        scene = scene_of(ledger, {"g1": [CUSTOMER_DECLINE]})
        deps = replace(scene.deps, timeout_ms=LONGEST_TIMEOUT_MS)
        payment = (await take(deps, request_of(), "key")).payment
        gateway = scene.gateways["g1"]
        gateway.book[Reference(payment.payment_id, 1)].moved = (1000, "INR")
        gateway.reversal_answers.append(Undecided(Pending.UNREACHABLE))
        scene.clock.advance(FIRST_LOOK_S)
        await monitor_due(deps)
        scene.clock.advance(after_days * DAY_S)
        ledger.after = {"claim_watch": lambda: scene.clock.advance(PAST_A_CLAIM_S)}
        assert await monitor_due(deps) == 1
        (watch,) = await rows(stage.ledger, watches)
        assert (watch["state"], watch["checks_made"], len(gateway.reversal_keys)) == (state, 2, 1)
        assert watch["evidence"]["answer"] == "LEASE_EXPIRED"
        told = [each.levelname for each in caplog.records if "waits for manual review" in each.getMessage()]
        assert told == (["CRITICAL"] if state == "MANUAL_REVIEW" else [])

    stage.run(scenario())


def test_a_bug_that_one_attempt_brings_to_light_is_told_and_stops_no_other(
    stage: Stage, caplog: pytest.LogCaptureFixture
) -> None:
    async def scenario() -> None:
        await all_of(stage.ledger, [(OPEN, opens(number)) for number in range(3)])
        scene = scene_of(stage.ledger, {"g1": []})
        scene.clock.advance(10)
        first, *others = [each.payment_id for each in await stage.ledger.read(due, scene.clock.now(), 3)]
        handled: list[str] = []

        async def handle(each: Due) -> bool:
            if each.payment_id == first:
                raise AssertionError("a bug")
            await asyncio.sleep(0)
            handled.append(each.payment_id)
            return True

        assert await round_of(scene.deps, "verify", due, handle) == 3
        assert handled == others
        (record,) = caplog.records
        assert record.exc_info is not None
        assert (record.levelname, record.getMessage()) == ("ERROR", f"verify: payment {first} attempt 1")

    stage.run(scenario())


def test_a_round_that_is_cut_leaves_nothing_under_way(stage: Stage) -> None:
    async def scenario() -> None:
        await all_of(stage.ledger, [(OPEN, opens(number)) for number in range(3)])
        scene = scene_of(stage.ledger, {"g1": []})
        scene.clock.advance(10)
        begun, cut = asyncio.Event(), []

        async def hang(each: Due) -> bool:
            begun.set()
            try:
                return await asyncio.Event().wait()
            except asyncio.CancelledError:
                cut.append(each.payment_id)
                raise

        task = asyncio.create_task(round_of(scene.deps, "verify", due, hang))
        await begun.wait()
        await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert len(cut) == 3

    stage.run(scenario())
