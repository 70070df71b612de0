"""The ledger does not confirm a failover, or its process dies there: no gateway is called unannounced."""

import asyncio
from collections.abc import Callable, Mapping
from typing import Any

import pytest

from pgw.core.breakers.breaker import CallOutcome, State
from pgw.core.flow.verification.verify import verify_due
from pgw.core.ledger.engine.phase import Phase
from pgw.core.ledger.engine.writer import LedgerUnavailable
from pgw.core.ledger.payment_reads import attempts_of, by_key
from pgw.core.ledger.tables import verification_checks
from pgw.core.ledger.verifications import verification_of
from pgw.core.payment.payment import Status
from tests.doors import Play, seen, verified
from tests.doubles import CAPTURED, GATEWAY_DECLINE
from tests.ledgers import Stage, rows
from tests.troubled import Trouble, Troubled


@pytest.mark.parametrize("trouble", [Trouble.AWAY, Trouble.UNSEEN, Trouble.LATE, Trouble.REFUSED])
def test_a_skipped_gateway_that_is_not_confirmed_ends_the_calling(stage: Stage, trouble: Trouble) -> None:
    """The ledger must show how the payment got where it is; verification finds its outcome."""
    ledger = Troubled(stage.ledger)
    play = Play(ledger, {"g1": [GATEWAY_DECLINE], "g2": [], "g3": [CAPTURED]})
    play.when_called("g1", {"g2": State.OPEN})

    async def scenario() -> None:
        ledger.trouble = {"skip": trouble}
        taken = await play.pay()
        assert (taken.payment.status, taken.payment.attempts_made) == (Status.PENDING_VERIFICATION, 1)
        assert play.doors.signs == [("g1", CallOutcome.FAILED), ("g3", CallOutcome.NOTHING)]
        await ledger.arrive()
        payment = await verified(play)
        assert payment is not None
        assert (payment.status, payment.failure_code) == (Status.FAILURE, "GATEWAY_TECHNICAL_ERROR")
        assert (payment.attempts_made, play.scene.charges) == (1, [("g1", 1)])

    stage.run(scenario())


def test_a_skipped_gateway_that_lost_to_itself_is_written(stage: Stage) -> None:
    ledger = Troubled(stage.ledger)
    play = Play(ledger, {"g1": [GATEWAY_DECLINE], "g2": [], "g3": [CAPTURED]})
    play.when_called("g1", {"g2": State.OPEN})

    async def scenario() -> None:
        ledger.trouble = {"skip": Trouble.TWICE}
        taken = await play.pay()
        assert (taken.payment.status, play.scene.charges) == (Status.SUCCESS, [("g1", 1), ("g3", 3)])
        assert [each[2] for each in seen(await play.attempts(taken))] == ["FAILURE", "SKIPPED", "SUCCESS"]

    stage.run(scenario())


async def _die(play: Play, when: Callable[[Callable[[], Any]], None]) -> None:
    """Take a payment whose process dies where `when` puts its end."""
    reached = asyncio.Event()

    async def stop(*_: object) -> None:
        reached.set()
        await asyncio.Event().wait()

    when(stop)
    dying = asyncio.create_task(play.pay())
    await reached.wait()
    dying.cancel()
    await asyncio.gather(dying, return_exceptions=True)


@pytest.mark.parametrize("phase", ["turn", "close"])
def test_after_a_crash_behind_a_skipped_gateway_the_attempt_before_it_is_verified(stage: Stage, phase: str) -> None:
    """The skipped row is the newest, but not the one that may have moved money; nor does it count as an attempt."""
    ledger = Troubled(stage.ledger)
    play = Play(ledger, {"g1": [GATEWAY_DECLINE], "g2": [], **({"g3": []} if phase == "turn" else {})})
    play.when_called("g1", {"g2": State.OPEN})

    async def scenario() -> None:
        await _die(play, lambda stop: ledger.before.update({phase: stop}))
        payment_id = play.scene.gateways["g1"].orders[0].reference.payment_id
        shown = await stage.ledger.read(attempts_of, payment_id)
        assert [each.status for each in shown] == ["SENDING", "SKIPPED"]
        lease_until = shown[0].started_at + (play.scene.clock.now() - shown[0].started_at)
        verification = await stage.ledger.read(verification_of, payment_id, Status.PENDING_VERIFICATION)
        assert verification is not None
        assert verification.next_check_at is not None
        assert verification.next_check_at > lease_until
        play.scene.clock.advance(4.5)
        assert await verify_due(play.scene.deps) == 1
        payment = await verified(play)
        assert payment is not None
        assert (payment.status, payment.gateway_used, payment.attempts_made) == (Status.FAILURE, "g1", 1)
        assert play.scene.gateways["g1"].asked == [play.scene.gateways["g1"].orders[0].reference]
        (check,) = await rows(stage.ledger, verification_checks)
        assert check["attempt_number"] == 1

    stage.run(scenario())


@pytest.mark.parametrize("settled", [True, False])
def test_after_a_crash_in_a_call_behind_a_skipped_gateway_only_the_calls_are_counted(
    stage: Stage, settled: bool
) -> None:
    play = Play(stage.ledger, {"g1": [GATEWAY_DECLINE], "g2": [], "g3": []})
    play.when_called("g1", {"g2": State.OPEN})

    async def scenario() -> None:
        await _die(play, lambda stop: setattr(play.scene.gateways["g3"], "when_called", stop))
        if settled:
            play.scene.gateways["g3"].answers.append(CAPTURED)
        payment = await verified(play)
        assert payment is not None
        assert payment.status is (Status.SUCCESS if settled else Status.FAILURE)
        assert (payment.gateway_used, payment.attempts_made) == ("g3", 2)
        assert play.scene.charges == [("g1", 1), ("g3", 3)]

    stage.run(scenario())


def test_an_open_whose_row_in_the_way_has_gone_gives_its_leave_back_once(stage: Stage) -> None:
    """A ledger restored from its past may refuse a key and not know it: nothing was charged, and no probe is lost."""

    class Forgetful(Troubled):
        async def commit(self, phase: Phase, item: Mapping[str, Any]) -> bool:
            return phase.name != "open" and await super().commit(phase, item)

    play = Play(Forgetful(stage.ledger), {"g1": [CAPTURED]}, {"g1": State.HALF_OPEN})

    async def scenario() -> None:
        with pytest.raises(LedgerUnavailable) as refusal:
            await play.pay()
        assert refusal.value.written is False
        assert play.doors.recorded == [(play.doors.given[0], CallOutcome.NOTHING)]
        assert (play.scene.charges, play.doors.deposited) == ([], [])

    stage.run(scenario())


def test_an_attempt_that_was_announced_but_never_called_counts_as_made(stage: Stage) -> None:
    """It has a row that is not SKIPPED, and that is what the number counts, by whichever way the payment ends."""
    ledger = Troubled(stage.ledger)
    play = Play(ledger, {"g1": [GATEWAY_DECLINE], "g2": [], "g3": [CAPTURED]})
    play.when_called("g1", {"g2": State.OPEN})

    async def scenario() -> None:
        ledger.trouble = {"turn": Trouble.LATE}
        assert (await play.pay()).payment.status is Status.PENDING_VERIFICATION
        await ledger.arrive()
        await play.scene.tasks.drain(10)
        stored = await ledger.read(by_key, "m_001", "key")
        assert stored is not None
        assert (stored.payment.status, stored.payment.attempts_made) == (Status.FAILURE, 2)
        assert play.doors.signs == [("g1", CallOutcome.FAILED), ("g3", CallOutcome.NOTHING)]

    stage.run(scenario())
