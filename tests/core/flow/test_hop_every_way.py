"""Whatever breakers, gateways and ledger do on a payment's way: leave to call is never lost, and the books agree."""

import asyncio
from collections import Counter

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

from pgw.core.breakers.admission import Panic
from pgw.core.breakers.breaker import CallOutcome, State, View
from pgw.core.errors import PgwError
from pgw.core.flow.payments.next_gateway import OUTSIDE_EPOCHS
from pgw.core.flow.payments.replay import Taken
from pgw.core.flow.payments.take import take
from pgw.core.flow.verification.verify import verify_due
from pgw.core.ledger.payment_reads import attempts_of, by_key, decision_of
from pgw.core.payment.payment import AttemptStatus, Payment, Status
from pgw.core.ports import ChargeOrder
from pgw.core.routing.plan import recompute
from pgw.core.routing.score import SEED_SCORING
from tests.doors import Known, Play, let_know, order_of, returning, verified, without_hot_state
from tests.doubles import (
    ACTION,
    CAPTURED,
    CUSTOMER_DECLINE,
    GATEWAY_DECLINE,
    NOT_SENT,
    UNKNOWN,
    Act,
    request_of,
    scene_of,
)
from tests.ledgers import Stage
from tests.troubled import Trouble, Troubled

NAMES = ("g1", "g2", "g3", "g4")
breakers: st.SearchStrategy[State | View] = st.sampled_from(
    [State.CLOSED, State.HALF_OPEN, State.HALF_OPEN, State.OPEN, returning()]
)
forced = st.sampled_from([State.FORCED_OPEN, State.FORCED_CLOSED])


@st.composite
def knowledge(draw: st.DrawFn) -> Known:
    """Draw what is known of some of the breakers; most are simply closed."""
    names = draw(st.sets(st.sampled_from(NAMES)))
    return {
        name: order_of(name, draw(forced)) if draw(st.integers(0, 3)) == 3 else draw(breakers) for name in sorted(names)
    }


acts = st.builds(
    Act,
    st.sampled_from(
        [NOT_SENT, NOT_SENT, GATEWAY_DECLINE, GATEWAY_DECLINE, CUSTOMER_DECLINE, CAPTURED, UNKNOWN, ACTION]
    ),
    takes_s=st.sampled_from([0.0, 0.0, 0.3, 2.4]),
)
troubles = st.dictionaries(st.sampled_from(["open", "skip", "turn", "close"]), st.sampled_from(Trouble), max_size=2)


@settings(max_examples=250, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    scripts=st.lists(acts, min_size=1, max_size=len(NAMES)),
    planned=knowledge(),
    later=knowledge(),
    denied=st.sets(st.sampled_from(NAMES)),
    tokens=st.dictionaries(st.sampled_from(NAMES), st.integers(0, 1), max_size=2),
    befalls=troubles,
    overtaken=st.booleans(),
    is_known=st.sampled_from([False, False, False, True]),
    panic=st.sampled_from(Panic),
    slow=st.sampled_from(["", "", "g2", "g3"]),
)
def test_every_leave_to_call_is_told_of_exactly_once_whatever_happens(
    stage: Stage,
    scripts: list[Act],
    planned: Known,
    later: Known,
    denied: set[str],
    tokens: dict[str, int],
    befalls: dict[str, Trouble],
    overtaken: bool,
    is_known: bool,
    panic: Panic,
    slow: str,
) -> None:
    """And no gateway is called twice, or without a row, or after an unknown; and the stored plan can be made again."""

    number = stage.number()

    async def scenario(key: str) -> None:
        ledger = Troubled(stage.ledger)
        acts = dict(zip(NAMES, ([each] for each in scripts), strict=False))
        scoring = replace(SEED_SCORING, panic=panic)
        play = Play(ledger, acts, planned, denied=denied, tokens=tokens, seed=2 * number, scoring=scoring)
        play.doors.when_asked = lambda name: play.scene.clock.advance(9.0 if name == slow else 0.0)
        if is_known:
            await take(scene_of(stage.ledger, {"g9": []}, seed=2 * number + 1).deps, request_of(), key)

        async def learn(_: ChargeOrder) -> None:
            let_know(play.scene, later)

        async def overtake() -> None:
            play.scene.clock.advance(10)
            await verify_due(play.scene.deps)

        for gateway in play.scene.gateways.values():
            gateway.when_called = learn
        ledger.trouble, ledger.before = dict(befalls), {"turn": overtake} if overtaken else {}
        (answer,) = await asyncio.gather(play.pay(key), return_exceptions=True)
        assert isinstance(answer, Taken | PgwError)
        await ledger.arrive()
        await play.scene.tasks.drain(10)
        _all_is_told(play)
        await _ledger_agrees(play, key, answer.payment if isinstance(answer, Taken) else None)

    stage.run(scenario(f"key-{number}"))


def _all_is_told(play: Play) -> None:
    told = [admission for admission, _ in play.doors.recorded]
    inside = Counter(each for each in told if each.epoch != OUTSIDE_EPOCHS)
    assert inside == Counter(play.doors.given)
    assert set(inside.values()) <= {1}
    assert len(told) - sum(inside.values()) <= 1
    called = Counter(name for name, _ in play.scene.charges)
    assert set(called.values()) <= {1}
    assert {name for name, sign in play.doors.signs if sign is not CallOutcome.NOTHING} <= set(called)
    assert set(called) <= {admission.key[0] for admission in told}


async def _ledger_agrees(play: Play, key: str, answered: Payment | None) -> None:
    before = await play.ledger.read(by_key, "m_001", key)
    if before is None:
        assert (answered, play.scene.charges) == (None, [])
        return
    payment_id = before.payment.payment_id
    if answered is not None and answered.status.is_final:
        # A verifier that had claimed the payment meanwhile has made one version more of it.
        assert replace(answered, version=before.payment.version) == before.payment
    stored = await play.ledger.read(decision_of, payment_id)
    assert stored is not None
    if stored[0].ranked[0].gateway_id != "g9":
        assert recompute(stored[0], without_hot_state(play.snapshot)) == stored[0]
    await verified(play, key)
    after = await play.ledger.read(by_key, "m_001", key)
    assert after is not None
    shown = await play.ledger.read(attempts_of, payment_id)
    assert [each.attempt_number for each in shown] == list(range(1, len(shown) + 1))
    made = [each for each in shown if each.status is not AttemptStatus.SKIPPED]
    assert set(play.scene.charges) <= {(each.gateway_id, each.attempt_number) for each in made}
    assert after.payment.attempts_made == len(made)
    assert after.payment.status is not Status.PROCESSING
