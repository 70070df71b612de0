"""Money that moves after all goes back once, whatever its payment became, and whoever else is at work on it."""

import asyncio
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from pgw.core.flow.payments.take import take
from pgw.core.flow.verification.late_capture import monitor_due
from pgw.core.flow.verification.verify import verify_due
from pgw.core.gateways.book import BookStatus, SandboxBook
from pgw.core.gateways.sandbox import SandboxGateway
from pgw.core.ledger.payment_reads import by_id
from pgw.core.ledger.tables import outbox, payments, transfers, watches
from pgw.core.payment.payment import Payment, Status, Upi
from pgw.core.ports import Reference
from pgw.core.verification.enquiry import Authorized, Finding, Pending, ReversalRefused, Undecided
from tests.doubles import CAPTURED, CUSTOMER_DECLINE, GATEWAY_DECLINE, UNKNOWN, Act, Scene, request_of, scene_of
from tests.ledgers import Stage, opened, rows
from tests.troubled import Trouble, Troubled

FIRST_LOOK_S = 600 * 1.2
DAY_S = 24 * 3600
LONGEST_LOOK_S = DAY_S * 1.2


async def _failed(stage: Stage) -> tuple[Scene, Payment]:
    """Take a payment that is refused for a reason of the customer's, at a gateway that may capture it yet."""
    scene = scene_of(stage.ledger, {"g1": [CUSTOMER_DECLINE]})
    taken = await take(scene.deps, request_of(), "key")
    assert taken.payment.status is Status.FAILURE
    return scene, taken.payment


def _captures_late(scene: Scene, payment: Payment, gateway_id: str = "g1", amount_minor: int = 1000) -> None:
    scene.gateways[gateway_id].book[Reference(payment.payment_id, 1)].moved = (amount_minor, "INR")


async def _seen(scene: Scene, payment: Payment) -> Payment:
    stored = await scene.deps.ledger.read(by_id, payment.payment_id)
    assert stored is not None
    return stored.payment


async def _watch(stage: Stage) -> dict[str, Any]:
    (watch,) = await rows(stage.ledger, watches)
    return watch


async def _balances(stage: Stage) -> dict[str, int]:
    balances: dict[str, int] = {}
    for row in await rows(stage.ledger, transfers):
        for account, sign in ((row["debit_account"], 1), (row["credit_account"], -1)):
            balances[account] = balances.get(account, 0) + sign * row["amount_minor"]
    return {account: balance for account, balance in balances.items() if balance}


async def _told(stage: Stage) -> list[str]:
    return [row["event"]["type"] for row in await rows(stage.ledger, outbox)]


def test_money_that_comes_after_an_acknowledged_failure_goes_back_and_the_failure_stays(stage: Stage) -> None:
    async def scenario() -> None:
        scene, payment = await _failed(stage)
        _captures_late(scene, payment)
        assert await monitor_due(scene.deps) == 0
        scene.clock.advance(FIRST_LOOK_S)
        assert await monitor_due(scene.deps) == 1
        assert (await _seen(scene, payment)) == payment
        gateway = scene.gateways["g1"]
        assert list(gateway.reversed.values()) == [("g1-ref", 1000)]
        watch = await _watch(stage)
        assert (watch["state"], watch["reversal_ref"], watch["next_check_at"]) == ("REVERSED", "g1-back", None)
        assert watch["evidence"]["found"]["transaction_ref"] == "g1-ref"
        assert await _balances(stage) == {}
        assert await _told(stage) == ["payment.attempted", "payment.completed", "payment.duplicate_reversed"]
        scene.clock.advance(9 * DAY_S)
        assert (await monitor_due(scene.deps), len(gateway.reversal_keys)) == (0, 1)

    stage.run(scenario())


def test_money_that_comes_after_another_gateway_won_goes_back_and_the_winner_keeps_its_own(stage: Stage) -> None:
    async def scenario() -> None:
        scene = scene_of(stage.ledger, {"g1": [GATEWAY_DECLINE], "g2": [CAPTURED]})
        payment = (await take(scene.deps, request_of(), "key")).payment
        assert (payment.status, payment.gateway_used) == (Status.SUCCESS, "g2")
        _captures_late(scene, payment)
        scene.clock.advance(FIRST_LOOK_S)
        assert await monitor_due(scene.deps) == 1
        assert await _seen(scene, payment) == payment
        assert (len(scene.gateways["g1"].reversed), len(scene.gateways["g2"].reversed)) == (1, 0)
        assert await _balances(stage) == {"gateway:g2": 1000, "merchant:m_001": -1000}
        (key,) = scene.gateways["g1"].reversal_keys
        assert len(key) >= 10
        assert set(key) <= set("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_-")

    stage.run(scenario())


def test_another_amount_than_was_asked_for_goes_back_as_it_came(stage: Stage) -> None:
    async def scenario() -> None:
        scene, payment = await _failed(stage)
        _captures_late(scene, payment, amount_minor=777)
        scene.clock.advance(FIRST_LOOK_S)
        await monitor_due(scene.deps)
        assert list(scene.gateways["g1"].reversed.values()) == [("g1-ref", 777)]
        assert await _balances(stage) == {}
        event = (await rows(stage.ledger, outbox))[-1]["event"]
        assert (event["amount_minor"], event["status"]) == (777, "REVERSED")

    stage.run(scenario())


@pytest.mark.parametrize(
    "answer", [TimeoutError(), RuntimeError("a bug"), Undecided(Pending.UNREACHABLE, "HTTP_502")], ids=str
)
def test_a_reversal_whose_answer_was_lost_is_asked_for_again_under_the_same_key(
    stage: Stage, answer: Undecided | BaseException
) -> None:
    async def scenario() -> None:
        scene, payment = await _failed(stage)
        _captures_late(scene, payment)
        gateway = scene.gateways["g1"]
        gateway.reversal_answers.extend([answer, answer])
        scene.clock.advance(FIRST_LOOK_S)
        for wait_s in (5 * 1.2, 15 * 1.2, 0):
            assert await monitor_due(scene.deps) == 1
            state = (await _watch(stage))["state"]
            scene.clock.advance(wait_s)
        assert state == "REVERSED"
        assert (len(gateway.reversal_keys), len(set(gateway.reversal_keys)), len(gateway.reversed)) == (3, 1, 1)
        assert await _balances(stage) == {}
        assert (await _told(stage)).count("payment.duplicate_reversed") == 1

    stage.run(scenario())


def test_a_reversal_that_is_refused_waits_for_a_person_and_says_so(
    stage: Stage, caplog: pytest.LogCaptureFixture
) -> None:
    async def scenario() -> None:
        scene, payment = await _failed(stage)
        _captures_late(scene, payment)
        scene.gateways["g1"].reversal_answers.append(ReversalRefused("REFUND_REFUSED"))
        scene.clock.advance(FIRST_LOOK_S)
        await monitor_due(scene.deps)
        watch = await _watch(stage)
        assert (watch["state"], watch["next_check_at"]) == ("MANUAL_REVIEW", None)
        assert watch["evidence"]["answer"] == "REFUND_REFUSED"
        assert [each.levelname for each in caplog.records if "waits for manual review" in each.getMessage()] == [
            "CRITICAL"
        ]
        assert await _balances(stage) == {"gateway:g1": 1000, "suspense": -1000}
        assert (await _seen(scene, payment)).status is Status.FAILURE

    stage.run(scenario())


def test_a_reversal_nobody_takes_on_is_a_persons_after_fourteen_days(stage: Stage) -> None:
    async def scenario() -> None:
        scene, payment = await _failed(stage)
        _captures_late(scene, payment)
        scene.gateways["g1"].reversal_answers.extend([Undecided(Pending.UNREACHABLE)] * 3)
        scene.clock.advance(FIRST_LOOK_S)
        await monitor_due(scene.deps)
        scene.clock.advance(13 * DAY_S)
        await monitor_due(scene.deps)
        assert (await _watch(stage))["state"] == "REVERSING"
        scene.clock.advance(DAY_S)
        await monitor_due(scene.deps)
        assert (await _watch(stage))["state"] == "MANUAL_REVIEW"

    stage.run(scenario())


@pytest.mark.parametrize("days", [1, 9, 13])
@pytest.mark.parametrize("fails", [False, True], ids=["it is made", "it fails"])
def test_a_reversal_that_is_pending_for_days_is_asked_about_until_it_is_made_or_fails(
    stage: Stage, days: int, fails: bool
) -> None:
    """Nothing is booked or told as given back before it is; found on the last day of a watch, it has as long."""

    async def scenario() -> None:
        scene, payment = await _failed(stage)
        gateway = scene.gateways["g1"]
        scene.clock.advance(4.9 * DAY_S)
        _captures_late(scene, payment)
        pending = Undecided(Pending.STILL_PENDING, "REFUND_PENDING")
        gateway.reversal_answers.extend([pending] * (days + 1))
        for _ in range(days + 1):
            await monitor_due(scene.deps)
            watch = await _watch(stage)
            assert (watch["state"], watch["evidence"]["answer"]) == ("REVERSING", "REFUND_PENDING")
            assert (await _balances(stage), len(await _told(stage))) == ({"gateway:g1": 1000, "suspense": -1000}, 2)
            scene.clock.advance(DAY_S)
        if fails:
            gateway.reversal_answers.append(ReversalRefused("REFUND_FAILED"))
        await monitor_due(scene.deps)
        kept = {"gateway:g1": 1000, "suspense": -1000} if fails else {}
        assert (await _watch(stage))["state"] == ("MANUAL_REVIEW" if fails else "REVERSED")
        assert (await _balances(stage), len(set(gateway.reversal_keys))) == (kept, 1)
        assert (await _told(stage)).count("payment.duplicate_reversed") == (not fails)

    stage.run(scenario())


def test_an_attempt_still_under_way_at_its_gateway_on_the_fifth_day_is_watched_on(stage: Stage) -> None:
    async def scenario() -> None:
        scene, payment = await _failed(stage)
        gateway = scene.gateways["g1"]
        for _ in range(6):
            gateway.answers.append(Undecided(Pending.STILL_PENDING, "CREATED"))
            scene.clock.advance(LONGEST_LOOK_S)
            assert await monitor_due(scene.deps) == 1
        assert scene.clock.elapsed() > 5 * DAY_S
        _captures_late(scene, payment)
        scene.clock.advance(LONGEST_LOOK_S)
        await monitor_due(scene.deps)
        assert ((await _watch(stage))["state"], len(gateway.reversed)) == ("REVERSED", 1)

    stage.run(scenario())


def test_a_watch_ends_by_the_answer_after_its_fifth_day(stage: Stage) -> None:
    """Few looks in five days, no record of each; what is silent at the end is watched on."""

    async def scenario() -> None:
        scene, _ = await _failed(stage)
        gateway = scene.gateways["g1"]
        while scene.clock.elapsed() < 5 * DAY_S:
            scene.clock.advance(60 * 60)
            await monitor_due(scene.deps)
        looks = len(gateway.asked)
        assert 6 <= looks <= 9
        assert (await _watch(stage))["state"] in {"WATCHING", "OVER"}
        gateway.answers.append(Undecided(Pending.UNREACHABLE))
        for _ in range(3):
            scene.clock.advance(LONGEST_LOOK_S)
            await monitor_due(scene.deps)
        watch = await _watch(stage)
        assert (watch["state"], watch["next_check_at"]) == ("OVER", None)
        assert gateway.reversal_keys == []
        assert len(await _told(stage)) == 2

    stage.run(scenario())


def test_money_that_is_only_reserved_is_left_to_expire_and_watched_on(stage: Stage) -> None:
    async def scenario() -> None:
        scene, payment = await _failed(stage)
        gateway = scene.gateways["g1"]
        gateway.answers.append(Authorized("g1-ref", 1000, "INR"))
        scene.clock.advance(FIRST_LOOK_S)
        await monitor_due(scene.deps)
        assert ((await _watch(stage))["state"], gateway.captured, gateway.reversal_keys) == ("WATCHING", [], [])
        _captures_late(scene, payment)
        scene.clock.advance(LONGEST_LOOK_S)
        await monitor_due(scene.deps)
        assert (await _watch(stage))["state"] == "REVERSED"

    stage.run(scenario())


def test_what_failed_by_absence_and_captures_after_all_goes_back(stage: Stage) -> None:
    async def scenario() -> None:
        scene = scene_of(stage.ledger, {"g1": [Act(UNKNOWN)]})
        payment = (await take(scene.deps, request_of(), "key")).payment
        for _ in range(2):
            scene.clock.advance(3600)
            await verify_due(scene.deps)
        assert (await _seen(scene, payment)).failure_code == "ABSENT"
        _captures_late(scene, payment)
        scene.clock.advance(FIRST_LOOK_S)
        assert await monitor_due(scene.deps) == 1
        assert (await _seen(scene, payment)).status is Status.FAILURE
        assert (await _watch(stage))["state"] == "REVERSED"

    stage.run(scenario())


@pytest.mark.parametrize("phase", ["claim_watch", "find_money", "give_back"])
@pytest.mark.parametrize("trouble", list(Trouble))
def test_a_step_that_cannot_be_written_is_made_again_and_the_money_goes_back_once(
    stage: Stage, phase: str, trouble: Trouble
) -> None:
    async def scenario() -> None:
        ledger = Troubled(stage.ledger)
        scene = scene_of(ledger, {"g1": [CUSTOMER_DECLINE]})
        payment = (await take(scene.deps, request_of(), "key")).payment
        _captures_late(scene, payment)
        ledger.trouble = {phase: trouble}
        scene.clock.advance(FIRST_LOOK_S)
        for _ in range(4):
            await monitor_due(scene.deps)
            await ledger.arrive()
            scene.clock.advance(31)
        gateway = scene.gateways["g1"]
        assert ((await _watch(stage))["state"], len(gateway.reversed)) == ("REVERSED", 1)
        assert len(set(gateway.reversal_keys)) == 1
        assert await _balances(stage) == {}
        assert (await _told(stage)).count("payment.duplicate_reversed") == 1

    stage.run(scenario())


def test_two_workers_at_once_never_reverse_twice(stage: Stage, database: str) -> None:
    async def scenario() -> None:
        scene = scene_of(stage.ledger, {"g1": [CUSTOMER_DECLINE] * 12})
        taken = [(await take(scene.deps, request_of(), f"key-{number}")).payment for number in range(12)]
        for payment in taken:
            _captures_late(scene, payment)
        async with opened(database) as other:
            scenes = [scene_of(each, {"g1": []}, clock=scene.clock) for each in (stage.ledger, other, other)]
            for each in scenes:
                each.gateways["g1"].book = scene.gateways["g1"].book
            scene.clock.advance(FIRST_LOOK_S)
            claimed = await asyncio.gather(*(monitor_due(each.deps) for each in scenes))
        keys = [key for each in scenes for key in each.gateways["g1"].reversal_keys]
        assert (sum(claimed), len(keys), len(set(keys))) == (12, 12, 12)
        assert await _balances(stage) == {}

    stage.run(scenario())


def test_a_worker_that_was_away_past_its_claim_does_not_call(stage: Stage) -> None:
    async def scenario() -> None:
        scene, payment = await _failed(stage)
        _captures_late(scene, payment)
        gateway = scene.gateways["g1"]
        ask = gateway.enquire

        async def slowly(reference: Reference) -> Finding:
            scene.clock.advance(29)
            return await ask(reference)

        gateway.enquire = slowly  # type: ignore[method-assign]
        scene.clock.advance(FIRST_LOOK_S)
        await monitor_due(scene.deps)
        assert ((await _watch(stage))["state"], gateway.reversal_keys) == ("REVERSING", [])
        scene.clock.advance(5 * 1.2)
        await monitor_due(scene.deps)
        assert ((await _watch(stage))["state"], len(gateway.reversal_keys)) == ("REVERSED", 1)

    stage.run(scenario())


def test_a_verifier_that_finds_money_for_an_ended_payment_leaves_its_reversal_to_the_watch(stage: Stage) -> None:
    async def scenario() -> None:
        scene = scene_of(stage.ledger, {"g1": [Act(UNKNOWN, moves_money=True)]})
        payment = (await take(scene.deps, request_of(), "key")).payment
        await stage.ledger.read(_resolve, payment.payment_id)
        scene.clock.advance(2.4)
        assert await verify_due(scene.deps) == 1
        assert (await _watch(stage))["state"] == "REVERSING"
        assert await monitor_due(scene.deps) == 1
        assert ((await _watch(stage))["state"], await _balances(stage)) == ("REVERSED", {})
        assert (await _seen(scene, payment)).status is Status.FAILURE

    stage.run(scenario())


def _resolve(connection: Any, payment_id: str) -> None:
    """End a payment as a person would."""
    connection.execute(payments.update().where(payments.c.payment_id == payment_id).values(status="FAILURE"))


def test_the_sandboxs_late_money_is_seen_and_goes_back(stage: Stage, tmp_path: Path) -> None:
    """Declined, captured five seconds later, found, reversed: what anyone can try with `late@sandbox`."""

    async def scenario() -> None:
        scene = scene_of(stage.ledger, {"g1": []})
        book = SandboxBook(tmp_path / "sandbox.book")
        gateways = scene.deps.gateways
        assert isinstance(gateways, dict)
        gateways["g1"] = SandboxGateway("g1", book, scene.clock)
        payment = (await take(scene.deps, request_of(instrument=Upi(vpa="late@sandbox")), "key")).payment
        assert payment.status is Status.FAILURE
        scene.clock.advance(FIRST_LOOK_S)
        await monitor_due(scene.deps)
        found = [each.status for each in book.charges(scene.clock.now() + timedelta(seconds=1))]
        assert found == [BookStatus.CAPTURED, BookStatus.REVERSED]
        assert ((await _watch(stage))["state"], await _balances(stage)) == ("REVERSED", {})
        assert (await _seen(scene, payment)).status is Status.FAILURE
        book.close()

    stage.run(scenario())


def test_a_gateway_that_is_gone_keeps_its_watches(stage: Stage) -> None:
    async def scenario() -> None:
        scene, _ = await _failed(stage)
        gateways = scene.deps.gateways
        assert isinstance(gateways, dict)
        del gateways["g1"]
        scene.clock.advance(FIRST_LOOK_S)
        assert await monitor_due(scene.deps) == 1
        assert (await _watch(stage))["state"] == "WATCHING"

    stage.run(scenario())
