"""While an operator keeps payments out, none is begun, none is lost, and what is there can be asked for."""

import asyncio
from collections.abc import Iterable
from datetime import timedelta

import pytest

from pgw.core.errors import Code, PgwError
from pgw.core.flow.payments.take import take
from pgw.core.ledger.tables import attempts, outbox, payments, routing_decisions
from pgw.core.payment.outcome import Verdict
from pgw.core.payment.payment import Status
from tests.doors import Play, let_know, pause_of
from tests.doubles import CAPTURED, GATEWAY_DECLINE, NOON, Act, request_of
from tests.ledgers import Stage, rows


def _paused(stage: Stage, lasts_s: float, *acts: Act | Verdict, others: Iterable[str] = ()) -> Play:
    """Pause from the beginning, for so long."""
    scripts = {"g1": acts, **{name: [CAPTURED] for name in others}}
    return Play(stage.ledger, scripts, paused=pause_of(NOON + timedelta(seconds=lasts_s)))


async def _refused(play: Play, key: str = "key") -> PgwError:
    with pytest.raises(PgwError) as refusal:
        await play.pay(key)
    return refusal.value


def test_a_new_payment_is_refused_and_its_key_stays_free(stage: Stage) -> None:
    """No permit is taken, nothing is written; the refusal says until when, but not to merchants who and why."""
    play = _paused(stage, 3600)

    async def scenario() -> None:
        refusal = await _refused(play)
        assert refusal.code is Code.PAUSED
        for told in ("2026-01-05T13:00:00Z", "nothing was charged"):
            assert told in refusal.detail
        assert "ann" not in refusal.detail
        assert "maintenance" not in refusal.detail
        for table in (payments, attempts, routing_decisions, outbox):
            assert await rows(stage.ledger, table) == []
        assert (play.doors.given, play.doors.recorded, play.scene.charges) == ([], [], [])
        play.scene.clock.advance(3600)
        assert not (await play.pay()).replayed

    stage.run(scenario())


@pytest.mark.parametrize(
    ("lasts_s", "retry_after_s"), [(86_400, 60), (61, 60), (60, 60), (30.4, 30), (1.0, 1), (0.4, 1), (0.000001, 1)]
)
def test_a_client_is_told_to_wait_no_longer_than_a_minute(stage: Stage, lasts_s: float, retry_after_s: int) -> None:
    """A pause may be ended sooner than planned, and a wait of zero would be no wait."""
    play = _paused(stage, lasts_s)

    async def scenario() -> None:
        assert (await _refused(play)).retry_after_s == retry_after_s

    stage.run(scenario())


@pytest.mark.parametrize("lasts_s", [0.0, -0.000001, -3600])
def test_a_pause_that_has_ended_lets_payments_pass(stage: Stage, lasts_s: float) -> None:
    """Resuming moves the end to now."""
    play = _paused(stage, lasts_s)

    async def scenario() -> None:
        assert (await play.pay()).payment.status is Status.SUCCESS

    stage.run(scenario())


def test_a_known_key_is_answered_as_ever(stage: Stage) -> None:
    play = _paused(stage, -1)

    async def scenario() -> None:
        first = await play.pay()
        let_know(play.scene, {}, paused=pause_of(NOON + timedelta(hours=1)))
        again = await play.pay()
        assert (again.payment, again.replayed) == (first.payment, True)
        with pytest.raises(PgwError) as refusal:
            await take(play.scene.deps, request_of(amount_minor=5), "key")
        assert refusal.value.code is Code.IDEMPOTENCY_KEY_REUSED
        assert (await _refused(play, "another")).code is Code.PAUSED

    stage.run(scenario())


def test_a_payment_under_way_goes_on_to_its_end(stage: Stage) -> None:
    """A pause keeps payments from beginning; one that has begun may still turn to another gateway."""
    play = _paused(stage, -1, GATEWAY_DECLINE, others=["g2"])

    async def scenario() -> None:
        called, gate = asyncio.Event(), asyncio.Event()

        async def hold(_: object) -> None:
            called.set()
            await gate.wait()

        play.scene.gateways["g1"].when_called = hold
        paying = asyncio.create_task(play.pay())
        await called.wait()
        let_know(play.scene, {}, paused=pause_of(NOON + timedelta(hours=1)))
        assert (await _refused(play)).code is Code.IDEMPOTENCY_KEY_IN_USE
        gate.set()
        assert (await paying).payment.status is Status.SUCCESS
        assert play.scene.charges == [("g1", 1), ("g2", 2)]

    stage.run(scenario())
