"""A sender that was held up does not send what a verifier may be asking about already."""

from datetime import timedelta

import pytest

from pgw.core.flow.payments.take import take
from pgw.core.ledger.payment_reads import attempts_of, by_id
from pgw.core.payment.payment import AttemptStatus, Status
from tests.doubles import CAPTURED, request_of, scene_of
from tests.ledgers import Stage
from tests.troubled import Troubled

HOUR_S = 3600.0


def test_a_sender_held_up_within_its_margin_sends(stage: Stage) -> None:
    """A commit may take its two seconds: the lease still covers the whole call."""
    ledger = Troubled(stage.ledger)
    scene = scene_of(ledger, {"g1": [CAPTURED], "g2": [CAPTURED]})

    async def scenario() -> None:
        ledger.after = {"open": lambda: scene.clock.advance(2.0)}
        taken = await take(scene.deps, request_of(), "key")
        assert (scene.charges, taken.payment.status) == ([("g1", 1)], Status.SUCCESS)

    stage.run(scenario())


@pytest.mark.parametrize("held_up_s", [2.1, 4.5, 9.0])
def test_a_sender_whose_lease_no_longer_covers_the_call_does_not_send(stage: Stage, held_up_s: float) -> None:
    """The lease is the attempt's time and two seconds; a call that could outlive it is not begun, the next may be."""
    ledger = Troubled(stage.ledger)
    scene = scene_of(ledger, {"g1": [CAPTURED], "g2": [CAPTURED]})

    async def scenario() -> None:
        ledger.after = {"open": lambda: scene.clock.advance(held_up_s)}
        taken = await take(scene.deps, request_of(), "key")
        assert scene.charges == [("g2", 2)]
        assert scene.gateways["g1"].book == {}
        assert (taken.payment.status, taken.payment.gateway_used) == (Status.SUCCESS, "g2")
        rows = await stage.ledger.read(attempts_of, taken.payment.payment_id)
        assert [(row.status, row.error_code) for row in rows] == [
            (AttemptStatus.FAILURE, "NOT_SENT_LEASE_EXPIRED"),
            (AttemptStatus.SUCCESS, None),
        ]
        assert rows[1].fallback_reason == "NOT_SENT_LEASE_EXPIRED"

    stage.run(scenario())


def test_a_lease_ends_two_seconds_after_the_longest_call(stage: Stage) -> None:
    scene = scene_of(stage.ledger, {"g1": [CAPTURED]})

    async def scenario() -> None:
        taken = await take(scene.deps, request_of(), "key")
        stored = await stage.ledger.read(by_id, taken.payment.payment_id)
        (row,) = await stage.ledger.read(attempts_of, taken.payment.payment_id)
        assert stored is not None
        assert stored.lease_until is None
        assert row.ended_at == row.started_at
        assert scene.gateways["g1"].orders[0].may_send()
        scene.clock.advance(timedelta(seconds=2.5).total_seconds())
        assert scene.gateways["g1"].orders[0].may_send()
        scene.clock.advance(0.001)
        assert not scene.gateways["g1"].orders[0].may_send()

    stage.run(scenario())
