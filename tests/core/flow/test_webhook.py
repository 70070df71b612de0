"""A webhook makes a check due at once; what came of the payment is only ever what the gateway answers then."""

from typing import Any

import pytest

from pgw.core.flow.payments.take import take
from pgw.core.flow.verification.verify import verify_due
from pgw.core.flow.verification.webhooks import MAX_WAITING, handle_waiting
from pgw.core.ledger.payment_reads import by_id
from pgw.core.ledger.webhooks import RECEIVE, WAITS, receiving
from pgw.core.payment.outcome import Verdict
from pgw.core.payment.payment import Payment, Status
from pgw.core.ports import ChargeOrder, Reference
from pgw.core.verification.enquiry import Authorized, Finding, Pending, Undecided
from pgw.core.verification.webhook import WebhookNotice
from tests.doubles import ACTION, CAPTURED, CUSTOMER_DECLINE, UNKNOWN, Scene, request_of, scene_of
from tests.ledgers import Stage

STILL_PENDING = Undecided(Pending.STILL_PENDING, "CREATED")
AUTHORIZED = Authorized("ref-1", 1000, "INR")


async def _taken(stage: Stage, verdict: Verdict = ACTION) -> tuple[Scene, Payment]:
    """Take a payment that stays open."""
    scene = scene_of(stage.ledger, {"g1": [verdict]})
    taken = await take(scene.deps, request_of(), f"key-{stage.number()}")
    assert not taken.payment.status.is_final
    return scene, taken.payment


async def _told(
    scene: Scene, payment_id: str, number: int = 1, event: str = "payment.captured", body: str = ""
) -> bool:
    """Receive a webhook about an attempt."""
    now = scene.clock.now()
    notice = WebhookNotice(event=event, occurred_at=now, payment_id=payment_id, attempt_number=number)
    digest = f"{payment_id}-{event}-{body}"
    return await scene.deps.ledger.commit(RECEIVE, receiving("g1", digest, notice, now))


async def _payment(scene: Scene, payment_id: str) -> Payment:
    stored = await scene.deps.ledger.read(by_id, payment_id)
    assert stored is not None
    return stored.payment


@pytest.mark.parametrize("verdict", [ACTION, UNKNOWN], ids=["customer acts", "unknown"])
def test_the_payment_ends_at_once_and_not_by_the_schedule(stage: Stage, verdict: Verdict) -> None:
    """No time passes between the webhook and the end: without the webhook nothing would be due."""

    async def scenario() -> None:
        scene, payment = await _taken(stage, verdict)
        scene.gateways["g1"].answers.append(CAPTURED)
        assert await verify_due(scene.deps) == 0
        assert await _told(scene, payment.payment_id)
        assert await handle_waiting(scene.deps) == 1
        assert await _payment(scene, payment.payment_id) == payment
        assert await verify_due(scene.deps) == 1
        assert (await _payment(scene, payment.payment_id)).status is Status.SUCCESS
        assert scene.charges == [("g1", 1)]

    stage.run(scenario())


@pytest.mark.parametrize(
    ("event", "found", "status"),
    [
        ("payment.captured", STILL_PENDING, Status.REQUIRES_ACTION),
        ("payment.captured", Undecided(Pending.UNREACHABLE), Status.REQUIRES_ACTION),
        ("payment.captured", Undecided(Pending.ABSENT), Status.REQUIRES_ACTION),
        ("payment.failed", CAPTURED, Status.SUCCESS),
        ("refund.processed", CAPTURED, Status.SUCCESS),
    ],
    ids=str,
)
def test_a_webhook_that_says_one_thing_while_the_gateway_says_another_is_not_believed(
    stage: Stage, event: str, found: Finding, status: Status
) -> None:
    async def scenario() -> None:
        scene, payment = await _taken(stage)
        scene.gateways["g1"].answers.append(found)
        await _told(scene, payment.payment_id, event=event)
        await handle_waiting(scene.deps)
        assert await verify_due(scene.deps) == 1
        assert (await _payment(scene, payment.payment_id)).status is status

    stage.run(scenario())


@pytest.mark.parametrize("order", [(0, 1, 2), (2, 1, 0), (1, 0, 2), (1, 1, 0), (2, 0, 0)])
def test_duplicates_and_any_order_have_one_effect(stage: Stage, order: tuple[int, ...]) -> None:
    """Authorised, captured, order paid: however they come, the money is captured once and the payment ends once."""
    events = ("payment.authorized", "payment.captured", "order.paid")

    async def scenario() -> None:
        scene, payment = await _taken(stage)
        scene.gateways["g1"].answers += [AUTHORIZED, CAPTURED]
        for place in order:
            await _told(scene, payment.payment_id, event=events[place])
            await handle_waiting(scene.deps)
            await verify_due(scene.deps)
        ended = await _payment(scene, payment.payment_id)
        assert ended.status is Status.SUCCESS
        assert scene.gateways["g1"].captured == ["ref-1"]
        assert (len(scene.gateways["g1"].asked), scene.charges) == (2, [("g1", 1)])
        assert await handle_waiting(scene.deps) == 0

    stage.run(scenario())


def test_a_webhook_before_the_answer_waits_for_it_and_has_one_effect(stage: Stage) -> None:
    """The gateway tells what happened before it has answered the charging call: the sender is not disturbed."""

    async def scenario() -> None:
        scene = scene_of(stage.ledger, {"g1": [ACTION]})
        early: list[Any] = []

        async def webhook_first(order: ChargeOrder) -> None:
            early.append(await _told(scene, order.reference.payment_id))
            early.append(await handle_waiting(scene.deps))
            early.append(await verify_due(scene.deps))

        scene.gateways["g1"].when_called = webhook_first
        taken = await take(scene.deps, request_of(), f"key-{stage.number()}")
        assert (taken.payment.status, early) == (Status.REQUIRES_ACTION, [True, 0, 0])
        scene.gateways["g1"].answers.append(CAPTURED)
        assert (await handle_waiting(scene.deps), await verify_due(scene.deps)) == (1, 1)
        assert (await _payment(scene, taken.payment.payment_id)).status is Status.SUCCESS

    stage.run(scenario())


def test_a_webhook_that_comes_while_a_worker_asks_leads_to_another_check(stage: Stage) -> None:
    """What that worker was told may be older than the webhook."""

    async def scenario() -> None:
        scene, payment = await _taken(stage)
        gateway = scene.gateways["g1"]
        gateway.answers += [STILL_PENDING, CAPTURED]
        ask = gateway.enquire

        async def asked_and_told(reference: Reference) -> Finding:
            found = await ask(reference)
            if len(gateway.asked) == 1:
                assert await _told(scene, payment.payment_id)
                assert await handle_waiting(scene.deps) == 0
                assert await verify_due(scene.deps) == 0
            return found

        gateway.enquire = asked_and_told  # type: ignore[method-assign]
        scene.clock.advance(4)
        assert await verify_due(scene.deps) == 1
        assert (await _payment(scene, payment.payment_id)).status is Status.REQUIRES_ACTION
        assert (await handle_waiting(scene.deps), await verify_due(scene.deps)) == (1, 1)
        assert (await _payment(scene, payment.payment_id)).status is Status.SUCCESS

    stage.run(scenario())


def test_an_end_stays_whatever_comes_afterwards(stage: Stage) -> None:
    async def scenario() -> None:
        scene, payment = await _taken(stage)
        scene.gateways["g1"].answers.append(CAPTURED)
        await _told(scene, payment.payment_id)
        await handle_waiting(scene.deps)
        await verify_due(scene.deps)
        ended = await _payment(scene, payment.payment_id)
        for event in ("payment.failed", "payment.authorized", "payment.captured"):
            scene.clock.advance(60)
            await _told(scene, payment.payment_id, event=event, body="later")
            assert await handle_waiting(scene.deps) == 1
            assert await verify_due(scene.deps) == 0
        assert await _payment(scene, payment.payment_id) == ended

    stage.run(scenario())


def test_a_storm_about_strangers_does_not_keep_a_payment_waiting(stage: Stage) -> None:
    """More of them than are handled in one round, all before ours."""

    async def scenario() -> None:
        scene, payment = await _taken(stage)
        strangers = scene_of(stage.ledger, {"g1": []})
        for number in range(MAX_WAITING + 1):
            await _told(strangers, f"00000000-0000-7000-8000-{number:012x}", body="stranger")
        scene.clock.advance(0.1)
        await _told(scene, payment.payment_id)
        scene.gateways["g1"].answers.append(CUSTOMER_DECLINE)
        assert (await handle_waiting(scene.deps), await verify_due(scene.deps)) == (1, 1)
        scene.clock.advance(WAITS.total_seconds())
        assert await handle_waiting(scene.deps) == MAX_WAITING
        assert await handle_waiting(scene.deps) == 1

    stage.run(scenario())
