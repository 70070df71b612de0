"""What nobody knows the end of is asked about on schedule, and ended only by an answer, never by another charge."""

import asyncio
from collections import Counter
from collections.abc import Sequence
from datetime import datetime

import msgspec
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from sqlalchemy import create_engine, update

from pgw.core.flow.payments.take import take
from pgw.core.flow.verification.verify import verify_due
from pgw.core.ledger.payment_reads import by_id
from pgw.core.ledger.tables import attempts, outbox, transfers, verification_checks, watches
from pgw.core.ledger.verifications import WIN, verification_of
from pgw.core.payment.outcome import Captured, FinalDecline, GatewayDecline
from pgw.core.payment.payment import Payment, Status
from pgw.core.ports import ChargeOrder, Reference
from pgw.core.verification.enquiry import Authorized, Finding, Pending, Undecided
from tests.doubles import (
    ACTION,
    CAPTURED,
    CUSTOMER_DECLINE,
    GATEWAY_DECLINE,
    UNKNOWN,
    Act,
    OpenDoors,
    Scene,
    request_of,
    scene_of,
)
from tests.ledgers import Stage, Stages, rows

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


@pytest.mark.parametrize(
    ("found", "status", "failure_code"),
    [
        (CAPTURED, Status.SUCCESS, None),
        (CUSTOMER_DECLINE, Status.FAILURE, "INSUFFICIENT_FUNDS"),
        (GATEWAY_DECLINE, Status.FAILURE, "GATEWAY_TECHNICAL_ERROR"),
        (Captured("ref-1", 999, "INR"), Status.MANUAL_REVIEW, "AMOUNT_MISMATCH"),
        (Captured("ref-1", 1000, "USD"), Status.MANUAL_REVIEW, "AMOUNT_MISMATCH"),
    ],
    ids=["captured", "customer", "gateway", "other amount", "other currency"],
)
def test_a_definitive_answer_ends_the_payment(
    stage: Stage, found: Captured | FinalDecline | GatewayDecline, status: Status, failure_code: str | None
) -> None:
    async def scenario() -> None:
        scene, payment = await _unknown(stage)
        scene.gateways["g1"].answers.append(found)
        scene.clock.advance(2.4)
        assert await verify_due(scene.deps) == 1
        ended = await _seen(scene, payment.payment_id)
        assert (ended.status, ended.failure_code, ended.gateway_used) == (status, failure_code, "g1")
        assert (ended.attempts_made, ended.latency_ms) == (1, 2400)
        assert ended.transaction_ref == (found.transaction_ref if isinstance(found, Captured) else None)
        assert await _next_check(stage) is None
        scene.clock.advance(FAR_OFF_S)
        assert await verify_due(scene.deps) == 0
        assert (len(scene.gateways["g1"].asked), scene.charges) == (1, [("g1", 1)])

    stage.run(scenario())


@pytest.mark.parametrize(
    ("answer", "result", "error_code"),
    [
        (Undecided(Pending.STILL_PENDING, "PAYMENT_PENDING"), "PENDING", "PAYMENT_PENDING"),
        (Undecided(Pending.FAILED, "PAYMENT_TIMED_OUT"), "FAILED", "PAYMENT_TIMED_OUT"),
        (Undecided(Pending.UNREACHABLE, "HTTP_502"), "UNREACHABLE", "HTTP_502"),
        (TimeoutError(), "UNREACHABLE", "TIMEOUT"),
        (RuntimeError("a bug"), "UNREACHABLE", "ADAPTER_FAULT"),
    ],
    ids=["pending", "failed for an open reason", "unreachable", "timeout", "fault"],
)
def test_what_is_not_definitive_is_recorded_and_asked_again_on_schedule(
    stage: Stage, answer: Finding | Exception, result: str, error_code: str | None
) -> None:
    """For days: nothing but an answer ends it. Each wait grows as the schedule says, give or take a fifth."""

    async def scenario() -> None:
        scene, payment = await _unknown(stage)
        waits = []
        for expected_s in SCHEDULE_S:
            moment = await _next_check(stage)
            assert moment is not None
            waits.append((moment - scene.clock.now()).total_seconds() / expected_s)
            scene.clock.advance((moment - scene.clock.now()).total_seconds() - 0.000001)
            assert await verify_due(scene.deps) == 0
            scene.clock.advance(0.000001)
            scene.gateways["g1"].answers.append(answer)
            assert await verify_due(scene.deps) == 1
        assert 0.8 <= min(waits) < max(waits) <= 1.2
        assert (await _seen(scene, payment.payment_id)).status is Status.PENDING_VERIFICATION
        verification = await stage.ledger.read(verification_of, payment.payment_id, Status.PENDING_VERIFICATION)
        assert verification is not None
        assert [(each.result, each.error_code) for each in verification.checks] == [(result, error_code)] * 12
        assert (verification.state, verification.last_result) == ("scheduled", result)
        assert verification.next_check_at == await _next_check(stage)
        assert len(scene.gateways["g1"].asked) == 12
        assert scene.charges == [("g1", 1)]

    stage.run(scenario())


def test_what_the_gateway_never_heard_of_fails_after_two_answers_that_lie_apart(stage: Stage) -> None:
    """Early absences count for nothing; the attempt is watched from then on, and no other gateway was asked."""

    async def scenario() -> None:
        scene, payment = await _unknown(stage)
        for at_s in (2.4, 60, 900, 947, 1546):
            scene.clock.advance(at_s - scene.clock.elapsed())
            await verify_due(scene.deps)
            assert (await _seen(scene, payment.payment_id)).status is Status.PENDING_VERIFICATION
            await _due_now(stage, scene)
        scene.clock.advance(1547 - scene.clock.elapsed())
        await verify_due(scene.deps)
        ended = await _seen(scene, payment.payment_id)
        assert (ended.status, ended.failure_code) == (Status.FAILURE, "ABSENT")
        (watch,) = await rows(stage.ledger, watches)
        assert (watch["state"], watch["cause"]) == ("WATCHING", "ABSENT")
        assert await _next_check(stage) is None
        assert scene.charges == [("g1", 1)]
        assert scene.gateways["g2"].asked == []

    stage.run(scenario())


async def _due_now(stage: Stage, scene: Scene) -> None:
    """Bring the next check forward to now, as a hint would."""
    path = stage.ledger._engine.url
    engine = create_engine(path)
    with engine.begin() as connection:
        connection.execute(update(attempts).values(next_check_at=scene.clock.now()))
    engine.dispose()


def test_a_gateway_that_once_knew_an_attempt_is_not_believed_to_have_never_heard_of_it(stage: Stage) -> None:
    async def scenario() -> None:
        scene, payment = await _unknown(stage)
        scene.gateways["g1"].answers.append(Undecided(Pending.STILL_PENDING, "CREATED"))
        for _ in range(20):
            scene.clock.advance(FAR_OFF_S)
            assert await verify_due(scene.deps) == 1
        assert (await _seen(scene, payment.payment_id)).status is Status.PENDING_VERIFICATION

    stage.run(scenario())


@pytest.mark.parametrize(
    "answer",
    [
        Undecided(Pending.STILL_PENDING),
        Undecided(Pending.FAILED, "PAYMENT_TIMED_OUT"),
        Undecided(Pending.UNREACHABLE, "HTTP_502"),
    ],
    ids=lambda each: each.result,
)
def test_time_alone_ends_no_payment_but_hands_it_to_a_person_after_five_days(
    stage: Stage, answer: Undecided, caplog: pytest.LogCaptureFixture
) -> None:
    async def scenario() -> None:
        scene, payment = await _unknown(stage)
        for day in range(5):
            scene.clock.advance(24 * 3600 - (10 if day == 4 else 0))
            scene.gateways["g1"].answers.append(answer)
            assert await verify_due(scene.deps) == 1
            assert (await _seen(scene, payment.payment_id)).status is Status.PENDING_VERIFICATION
        scene.clock.advance(FAR_OFF_S)
        scene.gateways["g1"].answers.append(answer)
        assert await verify_due(scene.deps) == 1
        ended = await _seen(scene, payment.payment_id)
        assert (ended.status, ended.failure_code) == (Status.MANUAL_REVIEW, "GAVE_UP")
        assert [each.levelname for each in caplog.records if payment.payment_id in each.getMessage()] == ["CRITICAL"]
        assert await _next_check(stage) is None
        assert (await rows(stage.ledger, transfers), await rows(stage.ledger, watches)) == ([], [])

    stage.run(scenario())


@pytest.mark.parametrize(("minutes", "status"), [(14, Status.REQUIRES_ACTION), (15, Status.FAILURE)])
def test_once_the_time_to_act_is_over_failed_is_failed_and_is_watched(
    stage: Stage, minutes: int, status: Status
) -> None:
    """For a reason the customer may retry it stays open before; afterwards nothing follows, least of all a gateway."""

    async def scenario() -> None:
        scene = scene_of(stage.ledger, {"g1": [Act(ACTION)], "g2": [CAPTURED]})
        taken = await take(scene.deps, request_of(), "key")
        assert taken.payment.status is Status.REQUIRES_ACTION
        scene.clock.advance(minutes * 60)
        scene.gateways["g1"].answers.append(Undecided(Pending.FAILED, "SERVER_ERROR"))
        assert await verify_due(scene.deps) == 1
        ended = await _seen(scene, taken.payment.payment_id)
        assert ended.status is status
        is_over = status is Status.FAILURE
        assert ended.failure_code == ("SERVER_ERROR" if is_over else None)
        assert [each["state"] for each in await rows(stage.ledger, watches)] == (["WATCHING"] if is_over else [])
        assert scene.charges == [("g1", 1)]

    stage.run(scenario())


def test_a_disabled_gateway_is_asked_all_the_same_and_no_breaker_moves(stage: Stage) -> None:
    async def scenario() -> None:
        doors = OpenDoors()
        scene = scene_of(stage.ledger, {"g1": [Act(UNKNOWN, moves_money=True)]}, circuit=doors)
        taken = await take(scene.deps, request_of(), "key")
        told = list(doors.recorded)
        known = scene.snapshots()
        disabled = tuple(msgspec.structs.replace(each, is_enabled=False) for each in known.gateways)
        scene.snapshots = lambda: msgspec.structs.replace(known, gateways=disabled)
        scene.gateways["g1"].answers.append(Undecided(Pending.UNREACHABLE))
        for _ in range(2):
            scene.clock.advance(FAR_OFF_S)
            assert await verify_due(scene.deps) == 1
        assert (await _seen(scene, taken.payment.payment_id)).status is Status.SUCCESS
        assert doors.recorded == told

    stage.run(scenario())


def test_money_that_moved_unseen_is_found(stage: Stage) -> None:
    async def scenario() -> None:
        scene, payment = await _unknown(stage, Act(UNKNOWN, moves_money=True))
        scene.clock.advance(2.4)
        await verify_due(scene.deps)
        ended = await _seen(scene, payment.payment_id)
        assert (ended.status, ended.transaction_ref) == (Status.SUCCESS, "g1-ref")
        kinds = sorted(row["event"]["type"] for row in await rows(stage.ledger, outbox))
        assert kinds == ["payment.attempted", "payment.completed", "payment.verified"]

    stage.run(scenario())


@pytest.mark.parametrize("moved", [True, False])
def test_an_attempt_whose_process_died_is_asked_about_once_its_lease_is_over(stage: Stage, moved: bool) -> None:
    async def scenario() -> None:
        scene = scene_of(stage.ledger, {"g1": [Act(CAPTURED, moves_money=moved)]})
        called = asyncio.Event()

        async def die(_: ChargeOrder) -> None:
            called.set()
            await asyncio.Event().wait()

        scene.gateways["g1"].when_called = die
        dying = asyncio.create_task(take(scene.deps, request_of(), "key"))
        await called.wait()
        dying.cancel()
        await asyncio.gather(dying, return_exceptions=True)
        (order,) = scene.gateways["g1"].orders
        if moved:
            scene.gateways["g1"].answers.append(CAPTURED)
        scene.clock.advance(4.499)
        assert await verify_due(scene.deps) == 0
        assert (await _seen(scene, order.reference.payment_id)).status is Status.PROCESSING
        scene.clock.advance(0.001)
        assert (await _seen(scene, order.reference.payment_id)).status is Status.PENDING_VERIFICATION
        assert await verify_due(scene.deps) == 1
        ended = await _seen(scene, order.reference.payment_id)
        assert ended.status is (Status.SUCCESS if moved else Status.PENDING_VERIFICATION)
        assert ended.gateway_used == "g1"
        assert await _next_check(stage) == (None if moved else await _next_check(stage))
        assert scene.gateways["g1"].asked == [order.reference]

    stage.run(scenario())


findings = st.sampled_from(
    [
        Undecided(Pending.ABSENT),
        Undecided(Pending.STILL_PENDING),
        Undecided(Pending.UNREACHABLE, "HTTP_502"),
        RuntimeError("a bug"),
        CAPTURED,
        CUSTOMER_DECLINE,
    ]
)


def _ends(answers: Sequence[Finding | Exception]) -> tuple[int, Status] | None:
    """Say by which of these answers, none of them early, the payment ends, and how; None when it stays under check."""
    known, absent = False, 0
    for number, answer in enumerate(answers, start=1):
        match answer:
            case Captured():
                return number, Status.SUCCESS
            case FinalDecline():
                return number, Status.FAILURE
            case Undecided(result=Pending.ABSENT):
                absent += 1
                if absent == 2 and not known:
                    return number, Status.FAILURE
            case Undecided(result=Pending.STILL_PENDING):
                known = True
            case _:
                pass
    return None


@settings(max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture])
@example(answers=[Undecided(Pending.STILL_PENDING), Undecided(Pending.ABSENT), CAPTURED], seed=0)
@example(answers=[Undecided(Pending.STILL_PENDING), *[Undecided(Pending.ABSENT)] * 3, CAPTURED], seed=0)
@given(answers=st.lists(findings, min_size=1, max_size=12), seed=st.integers(0, 2**32 - 1))
def test_whatever_a_gateway_answers_the_first_definitive_answer_ends_it(
    stages: Stages, answers: list[Finding | Exception], seed: int
) -> None:
    """Until then every check is recorded and the next one scheduled; afterwards the gateway is not asked again."""
    end = _ends(answers)

    async def scenario(stage: Stage) -> None:
        scene, payment = await _unknown(stage, seed=seed)
        reference = Reference(payment.payment_id, 1)
        for number, answer in enumerate(answers, start=1):
            scene.clock.advance(FAR_OFF_S)
            scene.gateways["g1"].answers.append(answer)
            is_open = end is None or number <= end[0]
            assert await verify_due(scene.deps) == is_open
            checks = number if end is None else min(number, end[0])
            assert scene.gateways["g1"].asked == [reference] * checks
            assert len(await rows(stage.ledger, verification_checks)) == checks
            is_ended = end is not None and number >= end[0]
            status = end[1] if end is not None and is_ended else Status.PENDING_VERIFICATION
            assert (await _seen(scene, payment.payment_id)).status is status
            assert (await _next_check(stage) is None) is is_ended
        assert scene.charges == [("g1", 1)]

    with stages() as stage:
        stage.run(scenario(stage))


@settings(max_examples=15, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    acts=st.lists(st.sampled_from([Act(UNKNOWN, moves_money=True), Act(UNKNOWN)]), min_size=2, max_size=8),
    seed=st.integers(0, 2**32 - 1),
)
def test_payments_that_are_due_together_end_each_by_the_answer_to_its_own_enquiry(
    stages: Stages, acts: list[Act], seed: int
) -> None:
    """In whatever order their jitter makes them due."""

    async def scenario(stage: Stage) -> None:
        scene = scene_of(stage.ledger, {"g1": acts}, seed=seed)
        ids = [(await take(scene.deps, request_of(), f"key-{n}")).payment.payment_id for n in range(len(acts))]
        for _ in range(2):
            scene.clock.advance(FAR_OFF_S)
            await verify_due(scene.deps)
        ended = [(await _seen(scene, payment_id)).status for payment_id in ids]
        assert ended == [Status.SUCCESS if each.moves_money else Status.FAILURE for each in acts]
        asked = Counter(each.payment_id for each in scene.gateways["g1"].asked)
        assert asked == {name: 1 if act.moves_money else 2 for name, act in zip(ids, acts, strict=True)}

    with stages() as stage:
        stage.run(scenario(stage))


AUTHORIZED = Authorized("ref-1", 1000, "INR")


async def _authorized(stage: Stage, *answers: Finding | Exception) -> tuple[Scene, Payment]:
    """Let the gateway answer one check with these, one for each time it is asked."""
    scene, payment = await _unknown(stage)
    scene.gateways["g1"].answers.extend(answers)
    scene.clock.advance(2.4)
    assert await verify_due(scene.deps) == 1
    return scene, await _seen(scene, payment.payment_id)


def test_authorised_money_is_taken_once_and_its_capture_is_asked_about(stage: Stage) -> None:
    async def scenario() -> None:
        scene, payment = await _authorized(stage, AUTHORIZED, CAPTURED)
        assert (payment.status, payment.transaction_ref) == (Status.SUCCESS, "ref-1")
        assert scene.gateways["g1"].captured == ["ref-1"]
        scene.clock.advance(FAR_OFF_S)
        assert await verify_due(scene.deps) == 0

    stage.run(scenario())


def test_authorised_money_of_another_amount_is_never_taken(stage: Stage) -> None:
    async def scenario() -> None:
        scene, payment = await _authorized(stage, Authorized("ref-1", 999, "INR"))
        assert (payment.status, scene.gateways["g1"].captured) == (Status.MANUAL_REVIEW, [])

    stage.run(scenario())


def test_money_that_stays_authorised_after_its_capture_stays_under_check(stage: Stage) -> None:
    """Whether a capture came through is what the next enquiry tells, and nothing else."""

    async def scenario() -> None:
        scene, payment = await _authorized(stage, AUTHORIZED, AUTHORIZED)
        assert payment.status is Status.PENDING_VERIFICATION
        assert await _next_check(stage) is not None
        scene.gateways["g1"].answers.append(CAPTURED)
        scene.clock.advance(FAR_OFF_S)
        await verify_due(scene.deps)
        assert (await _seen(scene, payment.payment_id)).status is Status.SUCCESS
        assert scene.gateways["g1"].captured == ["ref-1"]

    stage.run(scenario())


def test_a_loser_of_its_payment_is_not_captured(stage: Stage) -> None:
    async def scenario() -> None:
        scene, payment = await _unknown(stage)
        await stage.ledger.commit(WIN, {"payment_id": payment.payment_id, "attempt_number": 2})
        scene.gateways["g1"].answers.append(AUTHORIZED)
        scene.clock.advance(2.4)
        assert await verify_due(scene.deps) == 1
        assert scene.gateways["g1"].captured == []
        assert (await _seen(scene, payment.payment_id)).status is Status.PENDING_VERIFICATION

    stage.run(scenario())
