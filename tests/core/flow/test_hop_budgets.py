"""How long a chain may go on: what is left of its time, of the gateways' retry budgets, and of the probes' leases."""

from typing import Any

import pytest

from pgw.core.breakers.breaker import CallOutcome, State
from pgw.core.payment.outcome import Verdict
from pgw.core.payment.payment import Status
from pgw.core.routing.policy import RetryPolicy
from pgw.core.routing.score import Health
from tests.doors import METHOD, Play, Scripts, ranked, seen
from tests.doubles import CAPTURED, GATEWAY_DECLINE, NOT_SENT, Act
from tests.ledgers import Stage
from tests.troubled import Troubled


def _health(gateway_id: str, success_rate: float, p95_ms: float, observations: float) -> dict[Any, Health]:
    return {(gateway_id, METHOD, "HDFC"): Health(success_rate, p95_ms, observations)}


@pytest.mark.parametrize(
    ("p95_ms", "observations", "skipped"),
    [(2000.1, 20.0, True), (2000.0, 20.0, False), (60_000.0, 19.9, False), (60_000.0, 1e6, True)],
)
def test_a_gateway_too_slow_for_what_is_left_is_passed_over(
    stage: Stage, p95_ms: float, observations: float, skipped: bool
) -> None:
    """Two of three seconds are left. A p95 of too few calls is mostly the prior, and skips no gateway."""
    policy = RetryPolicy(merchant_id="m_001", latency_budget_ms=3000)
    health = _health("g1", 1.0, 10.0, 100.0) | _health("g2", 1.0, p95_ms, observations) | _health("g3", 0.0, 1e5, 1.0)
    play = Play(
        stage.ledger, {"g1": [Act(GATEWAY_DECLINE, takes_s=1.0)], "g2": [], "g3": []}, policy=policy, health=health
    )

    async def scenario() -> None:
        taken = await play.pay()
        assert ranked(await play.plan(taken)) == ["g1", "g2", "g3"]
        assert play.scene.charges == [("g1", 1), ("g3", 3) if skipped else ("g2", 2)]
        second = seen(await play.attempts(taken))[1]
        assert second == ((2, "g2", "SKIPPED", "SKIPPED_BUDGET") if skipped else (2, "g2", "SUCCESS", None))
        assert taken.payment.attempts_made == 2

    stage.run(scenario())


@pytest.mark.parametrize(
    ("verdict", "code"), [(GATEWAY_DECLINE, "GATEWAY_TECHNICAL_ERROR"), (NOT_SENT, "GATEWAYS_UNAVAILABLE")]
)
def test_a_retry_budget_that_is_used_up_ends_the_chain_with_its_cause(
    stage: Stage, verdict: Verdict, code: str
) -> None:
    play = Play(stage.ledger, {"g1": [verdict], "g2": [CAPTURED]}, tokens={"g1": 0})

    async def scenario() -> None:
        taken = await play.pay()
        assert (taken.payment.status, taken.payment.failure_code) == (Status.FAILURE, code)
        assert (play.scene.charges, taken.payment.attempts_made) == ([("g1", 1)], 1)
        assert await play.is_as_answered(taken)

    stage.run(scenario())


def test_only_first_attempts_fill_a_retry_budget_and_each_fallback_spends_from_the_gateway_it_leaves(
    stage: Stage,
) -> None:
    """A gateway that is the plan's last cannot be left, and a replay is no attempt."""
    play = Play(stage.ledger, {"g1": [NOT_SENT], "g2": [GATEWAY_DECLINE], "g3": [NOT_SENT]})

    async def scenario() -> None:
        await play.pay()
        assert (await play.pay()).replayed
        assert (play.doors.deposited, play.doors.withdrawn) == (["g1"], ["g1", "g2"])

    stage.run(scenario())


def _second(budget_ms: int) -> RetryPolicy:
    return RetryPolicy(merchant_id="m_001", latency_budget_ms=budget_ms)


@pytest.mark.parametrize(("waited_s", "called"), [(0.45, True), (0.451, False), (30.0, False)])
def test_a_probe_granted_too_late_is_given_back_and_nobody_is_called(
    stage: Stage, waited_s: float, called: bool
) -> None:
    """An attempt of no time could only end unknown; the chain ends with what is certain."""
    scripts: Scripts = {"g1": [Act(GATEWAY_DECLINE, takes_s=0.5)], "g2": [CAPTURED]}
    play = Play(stage.ledger, scripts, {"g2": State.HALF_OPEN}, policy=_second(1000))

    async def scenario() -> None:
        play.doors.when_asked = lambda name: play.scene.clock.advance(waited_s if name == "g2" else 0.0)
        taken = await play.pay()
        assert taken.payment.status is (Status.SUCCESS if called else Status.FAILURE)
        assert play.scene.charges == [("g1", 1), ("g2", 2)][: 1 + called]
        assert play.doors.signs == [
            ("g1", CallOutcome.FAILED),
            ("g2", CallOutcome.GOOD if called else CallOutcome.NOTHING),
        ]
        assert await play.is_as_answered(taken)

    stage.run(scenario())


@pytest.mark.parametrize(("waited_s", "called"), [(0.45, True), (0.451, False)])
def test_a_ledger_that_takes_its_time_over_a_skipped_gateway_uses_up_the_budget_too(
    stage: Stage, waited_s: float, called: bool
) -> None:
    ledger = Troubled(stage.ledger)
    scripts: Scripts = {"g1": [Act(GATEWAY_DECLINE, takes_s=0.5)], "g2": [], "g3": [CAPTURED]}
    play = Play(ledger, scripts, policy=_second(1000))
    play.when_called("g1", {"g2": State.OPEN})
    ledger.after = {"skip": lambda: play.scene.clock.advance(waited_s)}

    async def scenario() -> None:
        taken = await play.pay()
        assert taken.payment.status is (Status.SUCCESS if called else Status.FAILURE)
        assert play.doors.signs == [
            ("g1", CallOutcome.FAILED),
            ("g3", CallOutcome.GOOD if called else CallOutcome.NOTHING),
        ]
        assert taken.payment.attempts_made == 1 + called
        assert await play.is_as_answered(taken)

    stage.run(scenario())


def test_a_probe_is_leased_for_as_long_as_its_attempt_may_last(stage: Stage) -> None:
    """Its time is the gateway's, or what the budget leaves of it, and two seconds more."""
    scripts: Scripts = {"g1": [Act(NOT_SENT, takes_s=1.0)], "g2": [Act(NOT_SENT, takes_s=1.9)], "g3": [CAPTURED]}
    play = Play(stage.ledger, scripts, policy=_second(3000))

    async def scenario() -> None:
        await play.pay()
        assert play.doors.leases == pytest.approx([4.5, 4.0, 2.1])

    stage.run(scenario())
