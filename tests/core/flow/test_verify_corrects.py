"""What an enquiry finds out says which told end it puts right, so that whoever counted that end can count anew."""

import asyncio
from typing import Any

import pytest

from pgw.core.flow.payments.take import take
from pgw.core.flow.verification.verify import verify_due
from pgw.core.ledger.tables import outbox
from pgw.core.ports import ChargeOrder
from pgw.core.verification.enquiry import Finding, Pending, Undecided
from tests.doubles import ACTION, CAPTURED, UNKNOWN, Act, request_of, scene_of
from tests.ledgers import Stage, rows

FAR_OFF_S = 3600 * 1.2


async def _verified_event(stage: Stage) -> dict[str, Any]:
    (event,) = [row["event"] for row in await rows(stage.ledger, outbox) if row["event"]["type"] == "payment.verified"]
    assert isinstance(event, dict)
    return event


@pytest.mark.parametrize("act", [Act(UNKNOWN, takes_s=0.7), Act(ACTION)], ids=["unknown", "at the customer"])
def test_what_was_found_out_names_the_end_it_puts_right_as_its_event_told_it(stage: Stage, act: Act) -> None:
    """Who counted the attempt then can take it back where it was counted; checks in between change nothing of that."""

    async def scenario() -> None:
        scene = scene_of(stage.ledger, {"g1": [act]})
        await take(scene.deps, request_of(), "key")
        (told,) = [row["event"] for row in await rows(stage.ledger, outbox)]
        scene.gateways["g1"].answers.extend([Undecided(Pending.ABSENT), RuntimeError("a bug"), CAPTURED])
        for _ in range(3):
            scene.clock.advance(FAR_OFF_S)
            assert await verify_due(scene.deps) == 1
        event = await _verified_event(stage)
        assert event["corrects"] == {name: told[name] for name in ("status", "blame", "error_code", "occurred_at")}
        assert (event["type"], event["status"], event["blame"]) == ("payment.verified", "SUCCESS", "none")

    stage.run(scenario())


@pytest.mark.parametrize("checks", [1, 2])
def test_an_attempt_that_only_its_lease_ended_has_no_told_end_to_put_right(stage: Stage, checks: int) -> None:
    """Its owner died before it wrote one, so no event was told: neither a first check nor a later one corrects it."""

    async def scenario() -> None:
        scene = scene_of(stage.ledger, {"g1": []})
        called = asyncio.Event()

        async def die(_: ChargeOrder) -> None:
            called.set()
            await asyncio.Event().wait()

        scene.gateways["g1"].when_called = die
        dying = asyncio.create_task(take(scene.deps, request_of(), "key"))
        await called.wait()
        dying.cancel()
        await asyncio.gather(dying, return_exceptions=True)
        answers: list[Finding] = [Undecided(Pending.ABSENT)] * (checks - 1)
        scene.gateways["g1"].answers.extend([*answers, CAPTURED])
        for _ in range(checks):
            scene.clock.advance(FAR_OFF_S)
            assert await verify_due(scene.deps) == 1
        event = await _verified_event(stage)
        assert (event["corrects"], event["status"]) == (None, "SUCCESS")
        told = [row["event"]["type"] for row in await rows(stage.ledger, outbox)]
        assert told == ["payment.verified", "payment.completed"]

    stage.run(scenario())
