"""The ledger does not confirm: no unwritten success is answered, and no unannounced charge is made."""

from collections.abc import Iterable, Mapping

import pytest

from pgw.core.errors import Code, PgwError
from pgw.core.flow.payments.replay import Taken
from pgw.core.flow.payments.take import take
from pgw.core.flow.verification.verify import verify_due
from pgw.core.ledger.engine.writer import LedgerUnavailable, WriteRefused
from pgw.core.ledger.payment_reads import attempts_of, by_key
from pgw.core.payment.outcome import Captured, Verdict
from pgw.core.payment.payment import AttemptStatus, Payment, Status
from tests.doubles import CAPTURED, CUSTOMER_DECLINE, GATEWAY_DECLINE, NOT_SENT, Act, Scene, request_of, scene_of
from tests.ledgers import Stage
from tests.troubled import Trouble, Troubled

HOUR_S = 3600.0


class Play:
    """A scene on a ledger in trouble."""

    def __init__(self, stage: Stage, **scripts: Iterable[Act | Verdict]) -> None:
        self.ledger = Troubled(stage.ledger)
        self.scene: Scene = scene_of(self.ledger, scripts)
        self.deps = self.scene.deps

    async def pay(self) -> Taken:
        return await take(self.deps, request_of(), "key")

    async def refused(self) -> PgwError:
        with pytest.raises(PgwError) as refusal:
            await self.pay()
        return refusal.value

    async def payment(self) -> Payment | None:
        stored = await self.ledger.read(by_key, "m_001", "key")
        return None if stored is None else stored.as_of(self.scene.clock.now())

    async def attempts(self) -> Mapping[int, tuple[str, str | None]]:
        payment = await self.payment()
        assert payment is not None
        rows = await self.ledger.read(attempts_of, payment.payment_id)
        return {row.attempt_number: (row.status, row.error_code) for row in rows}

    async def arrive(self) -> None:
        await self.ledger.arrive()
        await self.scene.tasks.drain(10)

    async def verified(self, rounds: int = 1) -> Payment:
        """Let an hour pass before each look, so that every lease is over and every check is due."""
        for _ in range(rounds):
            self.scene.clock.advance(HOUR_S + 720)
            await verify_due(self.deps)
        payment = await self.payment()
        assert payment is not None
        return payment


def test_an_open_that_was_not_written_leaves_the_key_free(stage: Stage) -> None:
    play = Play(stage, g1=[CAPTURED])

    async def scenario() -> None:
        play.ledger.trouble = {"open": Trouble.AWAY}
        refusal = await play.refused()
        assert (refusal.code, refusal.retry_after_s) == (Code.LEDGER_UNAVAILABLE, 1)
        assert (play.scene.charges, await play.payment()) == ([], None)
        taken = await play.pay()
        assert (taken.payment.status, taken.replayed, play.scene.charges) == (Status.SUCCESS, False, [("g1", 1)])

    stage.run(scenario())


def test_an_open_confirmed_too_late_ends_as_not_sent(stage: Stage) -> None:
    """No gateway was called, so nothing was charged, and the ledger says so by itself."""
    play = Play(stage, g1=[CAPTURED])

    async def scenario() -> None:
        play.ledger.trouble = {"open": Trouble.LATE}
        assert (await play.refused()).code is Code.LEDGER_UNAVAILABLE
        await play.arrive()
        payment = await play.payment()
        assert payment is not None
        assert (payment.status, payment.failure_code) == (Status.FAILURE, "GATEWAYS_UNAVAILABLE")
        assert payment.gateway_used is None
        assert await play.attempts() == {1: (AttemptStatus.FAILURE, "NOT_SENT_LEDGER")}
        replay = await play.pay()
        assert (replay.payment, replay.replayed, play.scene.charges) == (payment, True, [])

    stage.run(scenario())


def test_a_late_open_that_another_request_overtook_changes_nothing(stage: Stage) -> None:
    play = Play(stage, g1=[CAPTURED])

    async def scenario() -> None:
        play.ledger.trouble = {"open": Trouble.LATE}
        await play.refused()
        winner = await play.pay()
        await play.arrive()
        assert await play.payment() == winner.payment
        assert play.scene.charges == [("g1", 1)]

    stage.run(scenario())


@pytest.mark.parametrize("trouble", [Trouble.UNSEEN, Trouble.REFUSED])
def test_an_open_nobody_can_tell_of_calls_no_gateway(stage: Stage, trouble: Trouble) -> None:
    play = Play(stage, g1=[CAPTURED])

    async def scenario() -> None:
        play.ledger.trouble = {"open": trouble}
        with pytest.raises((LedgerUnavailable, WriteRefused)):
            await play.pay()
        if trouble is Trouble.UNSEEN:
            # It is there: once its lease is over it is under verification, and its gateway knows nothing of it.
            assert (await play.verified()).status is Status.PENDING_VERIFICATION
            assert play.scene.gateways["g1"].asked != []
        assert play.scene.charges == []

    stage.run(scenario())


@pytest.mark.parametrize("phase", ["open", "turn", "close"])
def test_a_commit_that_lost_to_itself_is_recognised(stage: Stage, phase: str) -> None:
    """Its outcome was not seen, it was run again: the row that stands in its way is its own."""
    play = Play(stage, g1=[GATEWAY_DECLINE], g2=[CAPTURED])

    async def scenario() -> None:
        play.ledger.trouble = {phase: Trouble.TWICE}
        taken = await play.pay()
        assert (taken.payment.status, taken.payment.gateway_used, taken.replayed) == (Status.SUCCESS, "g2", False)
        assert play.scene.charges == [("g1", 1), ("g2", 2)]
        assert await play.payment() == taken.payment

    stage.run(scenario())


def _is_unconfirmed(taken: Taken) -> bool:
    return taken.payment.status is Status.PENDING_VERIFICATION and taken.payment.transaction_ref is None


@pytest.mark.parametrize("trouble", [Trouble.AWAY, Trouble.UNSEEN, Trouble.LATE, Trouble.REFUSED])
def test_an_attempt_whose_announcement_is_unconfirmed_is_not_called(stage: Stage, trouble: Trouble) -> None:
    play = Play(stage, g1=[GATEWAY_DECLINE], g2=[CAPTURED])

    async def scenario() -> None:
        play.ledger.trouble = {"turn": trouble}
        assert _is_unconfirmed(await play.pay())
        await play.arrive()
        assert play.scene.charges == [("g1", 1)]
        payment = await play.verified()
        match trouble:
            case Trouble.AWAY | Trouble.REFUSED:
                # Attempt 1 was left without its end, and its gateway says what it was.
                assert (payment.status, payment.failure_code) == (Status.FAILURE, "GATEWAY_TECHNICAL_ERROR")
                assert await play.attempts() == {1: ("FAILURE", "GATEWAY_TECHNICAL_ERROR")}
            case Trouble.LATE:
                assert payment.status is Status.FAILURE
                assert await play.attempts() == {
                    1: ("FAILURE", "GATEWAY_TECHNICAL_ERROR"),
                    2: ("FAILURE", "NOT_SENT_LEDGER"),
                }
            case Trouble.UNSEEN:
                # Attempt 2 is announced; that its gateway does not know of it proves nothing by itself.
                assert payment.status is Status.PENDING_VERIFICATION
                assert (await play.attempts())[2] == ("TIMEOUT", "LEASE_EXPIRED")
            case _:
                raise AssertionError(trouble)
        assert play.scene.charges == [("g1", 1)]

    stage.run(scenario())


def test_a_turn_after_a_verifier_took_over_announces_nobody(stage: Stage) -> None:
    """The owner was away past its lease; its decline still ends the payment, but nothing may follow it."""
    play = Play(stage, g1=[GATEWAY_DECLINE], g2=[CAPTURED])

    async def scenario() -> None:
        async def overtaken() -> None:
            play.scene.clock.advance(10)
            play.scene.gateways["g1"].answers.append(TimeoutError())
            assert await verify_due(play.deps) == 1

        play.ledger.before = {"turn": overtaken}
        taken = await play.pay()
        assert (taken.payment.status, taken.payment.failure_code) == (Status.FAILURE, "GATEWAY_TECHNICAL_ERROR")
        assert play.scene.charges == [("g1", 1)]
        assert await play.attempts() == {1: ("FAILURE", "GATEWAY_TECHNICAL_ERROR")}
        payment = await play.payment()
        assert payment is not None
        assert payment.status is Status.FAILURE

    stage.run(scenario())


def test_a_turn_that_lost_and_cannot_be_looked_up_calls_nobody(stage: Stage) -> None:
    play = Play(stage, g1=[NOT_SENT], g2=[CAPTURED])

    async def scenario() -> None:
        async def blinded() -> None:
            play.ledger.unreadable = True

        play.ledger.before = {"turn": blinded}
        play.ledger.trouble = {"turn": Trouble.TWICE}
        assert _is_unconfirmed(await play.pay())
        assert play.scene.charges == [("g1", 1)]

    stage.run(scenario())


@pytest.mark.parametrize("trouble", [Trouble.AWAY, Trouble.UNSEEN, Trouble.LATE, Trouble.REFUSED])
@pytest.mark.parametrize("verdict", [CAPTURED, CUSTOMER_DECLINE], ids=["captured", "declined"])
def test_an_unconfirmed_end_is_no_end_and_is_found_out_later(stage: Stage, trouble: Trouble, verdict: Verdict) -> None:
    """202, never 201; the truth comes with the late commit, or by asking the gateway; never by charging again."""
    play = Play(stage, g1=[verdict], g2=[CAPTURED])

    async def scenario() -> None:
        play.ledger.trouble = {"close": trouble}
        taken = await play.pay()
        assert _is_unconfirmed(taken)
        await play.arrive()
        payment = await play.verified()
        assert payment.payment_id == taken.payment.payment_id
        assert payment.status is (Status.SUCCESS if verdict is CAPTURED else Status.FAILURE)
        assert play.scene.charges == [("g1", 1)]
        replay = await play.pay()
        assert (replay.payment, replay.replayed) == (payment, True)

    stage.run(scenario())


def test_an_end_that_lost_to_a_verifier_shows_what_the_ledger_holds(stage: Stage) -> None:
    play = Play(stage, g1=[CAPTURED])

    async def scenario() -> None:
        async def overtaken() -> None:
            play.scene.clock.advance(10)
            assert await verify_due(play.deps) == 1

        play.ledger.before = {"close": overtaken}
        taken = await play.pay()
        assert taken.payment.status is Status.SUCCESS
        assert await play.payment() == taken.payment
        assert taken.payment.version == 3

    stage.run(scenario())


@pytest.mark.parametrize("verdict", [CAPTURED, CUSTOMER_DECLINE], ids=["captured", "declined"])
def test_an_end_that_won_its_attempt_after_the_payments_shows_what_the_ledger_holds(
    stage: Stage, verdict: Verdict
) -> None:
    """A verifier found other money and left the payment to manual review: the late sender's answer does not end it."""
    play = Play(stage, g1=[verdict])

    async def scenario() -> None:
        async def overtaken() -> None:
            play.scene.clock.advance(10)
            play.scene.gateways["g1"].answers.append(Captured("ref-1", 999, "INR"))
            assert await verify_due(play.deps) == 1

        play.ledger.before = {"close": overtaken}
        taken = await play.pay()
        assert taken.payment.status is Status.MANUAL_REVIEW
        assert await play.payment() == taken.payment

    stage.run(scenario())


def test_an_end_within_the_lease_is_answered_without_reading_it_back(stage: Stage) -> None:
    play = Play(stage, g1=[GATEWAY_DECLINE], g2=[CAPTURED])

    async def scenario() -> None:
        play.ledger.unreadable = True
        taken = await play.pay()
        assert taken.payment.status is Status.SUCCESS
        play.ledger.unreadable = False
        assert await play.payment() == taken.payment

    stage.run(scenario())


@pytest.mark.parametrize("phase", ["open", "turn"])
def test_an_announcement_confirmed_too_late_that_lost_to_itself_ends_as_not_sent(stage: Stage, phase: str) -> None:
    """Its commit happened unseen, was run again, and all that took longer than its waiter's patience."""
    play = Play(stage, g1=[GATEWAY_DECLINE], g2=[CAPTURED])

    async def scenario() -> None:
        play.ledger.trouble = {phase: Trouble.LATE}
        if phase == "open":
            await play.refused()
        else:
            assert _is_unconfirmed(await play.pay())
        late_phase, item, _ = play.ledger.late[0]
        await stage.ledger.commit(late_phase, item)
        await play.arrive()
        payment = await play.payment()
        assert payment is not None
        assert payment.status is Status.FAILURE
        attempts = await play.attempts()
        assert attempts[max(attempts)] == (AttemptStatus.FAILURE, "NOT_SENT_LEDGER")

    stage.run(scenario())
