"""Whom a payment may be sent to next: breakers pass gateways over, and ledger and decision say so."""

import pytest
from msgspec.structs import replace

from pgw.core.breakers.admission import Admission, Panic
from pgw.core.breakers.breaker import CallOutcome, State
from pgw.core.breakers.override import Override
from pgw.core.errors import Code, PgwError
from pgw.core.flow.payments.next_gateway import OUTSIDE_EPOCHS
from pgw.core.flow.payments.take import take
from pgw.core.ledger.payment_reads import decision_of
from pgw.core.ledger.tables import attempts, outbox, payments, routing_decisions
from pgw.core.payment.outcome import Blame, FinalDecline, NotSent, Unknown, Verdict
from pgw.core.payment.payment import Status
from pgw.core.ports import ChargeOrder
from pgw.core.routing.candidates import RETRY_AFTER_S, Excluded, Reason
from pgw.core.routing.policy import RetryPolicy
from pgw.core.routing.score import SEED_SCORING
from tests.doors import METHOD, Play, Scripts, let_know, order_of, ranked, seen
from tests.doubles import (
    ACTION,
    CAPTURED,
    CUSTOMER_DECLINE,
    GATEWAY_DECLINE,
    NOT_SENT,
    UNKNOWN,
    Act,
    request_of,
)
from tests.ledgers import Stage, rows


def test_a_first_gateway_without_a_probe_left_is_planned_without(stage: Stage) -> None:
    """It leaves no attempt: no call was intended. The decision says its breaker was open to this payment."""
    play = Play(stage.ledger, {"g1": [], "g2": [CAPTURED]}, {"g1": State.HALF_OPEN}, denied=["g1"])

    async def scenario() -> None:
        taken = await play.pay()
        assert (taken.payment.status, taken.payment.gateway_used) == (Status.SUCCESS, "g2")
        assert (play.scene.charges, taken.payment.attempts_made) == ([("g2", 1)], 1)
        assert seen(await play.attempts(taken)) == [(1, "g2", "SUCCESS", None)]
        plan = await play.plan(taken)
        assert (ranked(plan), plan.excluded) == (["g2"], (Excluded("g1", Reason.BREAKER_OPEN),))
        assert plan.admissions == {"g1": Admission(State.OPEN)}
        assert await play.is_as_answered(taken)

    stage.run(scenario())


def test_when_every_breaker_denies_nothing_is_written_and_the_key_stays_free(stage: Stage) -> None:
    play = Play(stage.ledger, {"g1": [], "g2": []}, dict.fromkeys(("g1", "g2"), State.HALF_OPEN), denied=["g1", "g2"])

    async def scenario() -> None:
        with pytest.raises(PgwError) as refusal:
            await play.pay()
        assert (refusal.value.code, refusal.value.retry_after_s) == (Code.NO_GATEWAY_AVAILABLE, RETRY_AFTER_S)
        for table in (payments, attempts, routing_decisions, outbox):
            assert await rows(stage.ledger, table) == []
        assert (play.scene.charges, play.doors.given, play.doors.deposited) == ([], [], [])
        play.doors.denied.clear()
        assert not (await play.pay()).replayed

    stage.run(scenario())


@pytest.mark.parametrize("state", [State.OPEN, State.HALF_OPEN])
def test_when_every_breaker_denies_a_known_key_is_still_answered(stage: Stage, state: State) -> None:
    play = Play(stage.ledger, {"g1": [CAPTURED]})

    async def scenario() -> None:
        first = await play.pay()
        let_know(play.scene, {"g1": state})
        play.doors.denied = {"g1"}
        again = await play.pay()
        assert (again.payment, again.replayed) == (first.payment, True)
        with pytest.raises(PgwError) as refusal:
            await take(play.scene.deps, request_of(amount_minor=5), "key")
        assert refusal.value.code is Code.IDEMPOTENCY_KEY_REUSED
        with pytest.raises(PgwError) as refusal:
            await play.pay("another key")
        assert refusal.value.code is Code.NO_GATEWAY_AVAILABLE

    stage.run(scenario())


@pytest.mark.parametrize("opened", [State.OPEN, order_of("g2", State.FORCED_OPEN)], ids=["by itself", "forced"])
def test_a_breaker_that_opens_after_the_plan_leaves_a_skipped_attempt(stage: Stage, opened: State | Override) -> None:
    """It was planned, so its row says why it was not called; it is not counted among the attempts made."""
    play = Play(stage.ledger, {"g1": [GATEWAY_DECLINE], "g2": [], "g3": [CAPTURED]})
    play.when_called("g1", {"g2": opened})

    async def scenario() -> None:
        taken = await play.pay()
        assert (taken.payment.status, taken.payment.gateway_used, taken.payment.attempts_made) == ("SUCCESS", "g3", 2)
        assert play.scene.charges == [("g1", 1), ("g3", 3)]
        shown = await play.attempts(taken)
        assert seen(shown) == [
            (1, "g1", "FAILURE", "GATEWAY_TECHNICAL_ERROR"),
            (2, "g2", "SKIPPED", "SKIPPED_BREAKER_OPEN"),
            (3, "g3", "SUCCESS", None),
        ]
        assert shown[1].circuit_breaker_state == (State.FORCED_OPEN if isinstance(opened, Override) else State.OPEN)
        assert (shown[1].blame, shown[1].latency_ms, shown[1].transaction_ref) == (None, None, None)
        assert shown[1].ended_at == shown[1].started_at == play.scene.clock.now()
        assert shown[2].fallback_reason == "GATEWAY_TECHNICAL_ERROR"
        assert ranked(await play.plan(taken)) == ["g1", "g2", "g3"]
        assert await play.is_as_answered(taken)
        kinds = [row["event"]["type"] for row in await rows(stage.ledger, outbox)]
        assert kinds == ["payment.attempted", "payment.attempted", "payment.completed"]

    stage.run(scenario())


def test_a_gateway_denied_at_a_turn_leaves_no_attempt_and_the_stored_plan_without_it(stage: Stage) -> None:
    play = Play(
        stage.ledger, {"g1": [GATEWAY_DECLINE], "g2": [], "g3": [CAPTURED]}, {"g2": State.HALF_OPEN}, denied=["g2"]
    )

    async def scenario() -> None:
        stored = []

        async def look(order: ChargeOrder) -> None:
            found = await stage.ledger.read(decision_of, order.reference.payment_id)
            assert found is not None
            stored.append(found[0])

        for gateway in play.scene.gateways.values():
            gateway.when_called = look
        taken = await play.pay()
        assert (taken.payment.gateway_used, taken.payment.attempts_made) == ("g3", 2)
        assert seen(await play.attempts(taken)) == [
            (1, "g1", "FAILURE", "GATEWAY_TECHNICAL_ERROR"),
            (2, "g3", "SUCCESS", None),
        ]
        before, after = stored
        assert (ranked(before), before.admissions) == (["g1", "g2", "g3"], {"g2": Admission(State.HALF_OPEN)})
        assert (ranked(after), after.admissions) == (["g1", "g3"], {"g2": Admission(State.OPEN)})
        assert after.excluded == (Excluded("g2", Reason.BREAKER_OPEN),)
        assert await play.plan(taken) == after
        assert await play.is_as_answered(taken)

    stage.run(scenario())


def test_gateways_skipped_and_denied_on_the_same_way_keep_their_places(stage: Stage) -> None:
    """The numbers of the rows have no gap, and whoever was announced is whom the plan names at its place."""
    play = Play(
        stage.ledger,
        {"g1": [GATEWAY_DECLINE], "g2": [], "g3": [], "g4": [NOT_SENT], "g5": [], "g6": [CAPTURED]},
        {"g3": State.HALF_OPEN, "g5": State.HALF_OPEN},
        denied=["g3", "g5"],
    )
    play.when_called("g1", {"g2": State.OPEN, "g3": State.HALF_OPEN, "g5": State.HALF_OPEN})

    async def scenario() -> None:
        taken = await play.pay()
        assert seen(await play.attempts(taken)) == [
            (1, "g1", "FAILURE", "GATEWAY_TECHNICAL_ERROR"),
            (2, "g2", "SKIPPED", "SKIPPED_BREAKER_OPEN"),
            (3, "g4", "FAILURE", "NOT_SENT_REFUSED"),
            (4, "g6", "SUCCESS", None),
        ]
        assert (play.scene.charges, taken.payment.attempts_made) == ([("g1", 1), ("g4", 3), ("g6", 4)], 3)
        assert ranked(await play.plan(taken)) == ["g1", "g2", "g4", "g6"]
        assert play.doors.withdrawn == ["g1", "g4"]
        assert await play.is_as_answered(taken)

    stage.run(scenario())


@pytest.mark.parametrize(("allowed", "charges"), [(2, [("g1", 1), ("g3", 3)]), (3, [("g1", 1), ("g3", 3), ("g4", 4)])])
def test_a_skipped_gateway_uses_up_no_attempt_of_the_policy(
    stage: Stage, allowed: int, charges: list[tuple[str, int]]
) -> None:
    policy = RetryPolicy(merchant_id="m_001", max_attempts=allowed)
    scripts: Scripts = {"g1": [NOT_SENT], "g2": [], "g3": [GATEWAY_DECLINE], "g4": [GATEWAY_DECLINE], "g5": [CAPTURED]}
    play = Play(stage.ledger, scripts, policy=policy)
    play.when_called("g1", {"g2": State.OPEN})

    async def scenario() -> None:
        taken = await play.pay()
        assert (taken.payment.status, taken.payment.failure_code) == (Status.FAILURE, "GATEWAY_TECHNICAL_ERROR")
        assert (play.scene.charges, taken.payment.attempts_made) == (charges, allowed)

    stage.run(scenario())


@pytest.mark.parametrize(("verdict", "code"), [(NOT_SENT, "GATEWAYS_UNAVAILABLE"), (GATEWAY_DECLINE, None)])
def test_when_all_that_were_announced_are_not_sent_or_skipped_no_gateway_was_available(
    stage: Stage, verdict: Verdict, code: str | None
) -> None:
    """One real answer among them, and the payment ends with the last gateway's reason."""
    play = Play(stage.ledger, {"g1": [verdict], "g2": [], "g3": [NOT_SENT], "g4": []})
    play.when_called("g1", {"g2": State.OPEN, "g4": State.OPEN})

    async def scenario() -> None:
        taken = await play.pay()
        assert (taken.payment.status, taken.payment.failure_code) == (Status.FAILURE, code or "NOT_SENT_REFUSED")
        assert (taken.payment.gateway_used, taken.payment.attempts_made) == (None, 2)
        assert [each[2] for each in seen(await play.attempts(taken))] == ["FAILURE", "SKIPPED", "FAILURE", "SKIPPED"]
        assert await play.is_as_answered(taken)

    stage.run(scenario())


SIGNS: list[tuple[Verdict, CallOutcome]] = [
    (CAPTURED, CallOutcome.GOOD),
    (ACTION, CallOutcome.GOOD),
    (GATEWAY_DECLINE, CallOutcome.FAILED),
    (CUSTOMER_DECLINE, CallOutcome.NOTHING),
    (FinalDecline("PAYMENT_CANCELLED"), CallOutcome.NOTHING),
    (NOT_SENT, CallOutcome.NOTHING),
    (NotSent("NOT_SENT_REFUSED", Blame.GATEWAY), CallOutcome.NOT_SENT),
    (UNKNOWN, CallOutcome.TIMED_OUT),
    (Unknown("DEEMED", Blame.BANK), CallOutcome.NOTHING),
]


@pytest.mark.parametrize(("verdict", "sign"), SIGNS, ids=lambda each: getattr(each, "error_code", None))
def test_what_came_of_a_call_is_told_to_the_breaker_that_admitted_it(
    stage: Stage, verdict: Verdict, sign: CallOutcome
) -> None:
    play = Play(stage.ledger, {"g1": [Act(verdict, takes_s=0.25)]})

    async def scenario() -> None:
        await play.pay()
        assert play.doors.recorded == [(play.doors.given[0], sign)]
        assert play.doors.latencies == [250]

    stage.run(scenario())


@pytest.mark.parametrize(
    ("known", "state"),
    [
        (State.CLOSED, State.CLOSED),
        (State.HALF_OPEN, State.HALF_OPEN),
        (order_of("g1", State.FORCED_CLOSED), State.FORCED_CLOSED),
    ],
    ids=["closed", "half-open", "forced closed"],
)
def test_an_attempt_shows_the_state_it_was_admitted_in(stage: Stage, known: State | Override, state: State) -> None:
    """Whatever the breaker does while the call is under way. The second attempt is judged as it stands then."""
    play = Play(stage.ledger, {"g1": [NOT_SENT], "g2": [CAPTURED]}, {"g1": known})
    play.when_called("g1", {"g1": State.OPEN, "g2": State.HALF_OPEN})

    async def scenario() -> None:
        taken = await play.pay()
        shown = await play.attempts(taken)
        assert [each.circuit_breaker_state for each in shown] == [state, State.HALF_OPEN]
        assert [each.state for each in play.doors.given] == [state, State.HALF_OPEN]

    stage.run(scenario())


IN_PANIC = replace(SEED_SCORING, panic=Panic.LEAST_BAD)


def test_in_panic_the_least_bad_is_called_outside_its_breaker(stage: Stage) -> None:
    """No probe is asked for, the call moves no breaker, and the attempt shows that it was made in spite of one."""
    known = {"g1": State.OPEN, "g2": State.OPEN}
    play = Play(stage.ledger, {"g1": [GATEWAY_DECLINE], "g2": [CAPTURED]}, known, scoring=IN_PANIC)

    async def scenario() -> None:
        taken = await play.pay()
        assert (taken.payment.status, play.scene.charges) == (Status.FAILURE, [("g1", 1)])
        (shown,) = await play.attempts(taken)
        assert shown.circuit_breaker_state == State.OPEN
        assert play.doors.given == []
        ((admission, sign),) = play.doors.recorded
        assert (admission.key, admission.epoch, sign) == (("g1", METHOD), OUTSIDE_EPOCHS, CallOutcome.FAILED)
        assert ranked(await play.plan(taken)) == ["g1"]

    stage.run(scenario())


def test_in_panic_a_probe_is_not_asked_for_twice(stage: Stage) -> None:
    """Every probe is taken, so every breaker counts as open: then the best of them is called all the same."""
    known = {"g1": State.HALF_OPEN, "g2": State.HALF_OPEN}
    play = Play(stage.ledger, {"g1": [], "g2": []}, known, denied=["g1", "g2"], scoring=IN_PANIC)

    async def scenario() -> None:
        asked: list[str] = []
        play.doors.when_asked = asked.append
        taken = await play.pay()
        assert (asked, play.scene.charges) == (["g1", "g2"], [("g1", 1)])
        plan = await play.plan(taken)
        assert (ranked(plan), plan.admissions) == (["g1"], dict.fromkeys(known, Admission(State.OPEN)))

    stage.run(scenario())
