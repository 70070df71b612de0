"""A webhook is kept once, and brings forward the check of the attempt it names and nothing else, on both ledgers."""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from datetime import datetime, timedelta
from typing import Any

import pytest
from sqlalchemy import insert, update

from pgw.core.ledger.engine.ledger import OpenLedger
from pgw.core.ledger.payments import CLOSE, OPEN, TURN
from pgw.core.ledger.tables import attempts, watches, webhook_deliveries
from pgw.core.ledger.verifications import CLAIM, RECORD
from pgw.core.ledger.webhooks import HANDLED, RECEIVE, WAITS, Waiting, handling, receiving, waiting
from pgw.core.payment.outcome import Unknown, Verdict
from pgw.core.payment.payment import AttemptStatus
from pgw.core.verification.enquiry import CHECK_LEASE
from pgw.core.verification.webhook import WebhookNotice
from pgw.core.writes.attempts import Item
from tests.doubles import ACTION, CAPTURED, NOON, NOT_SENT, UNKNOWN
from tests.ledgers import all_of, claims, closes, id_of, opened, opens, records, rows, turns

Scenario = Callable[[OpenLedger], Awaitable[None]]

IN_AN_HOUR = NOON + timedelta(hours=1)
LATER = NOON + timedelta(seconds=10)

PATIENCE_S = 60.0


def _on(database: str, scenario: Scenario) -> None:
    async def run() -> None:
        async with opened(database) as ledger:
            await scenario(ledger)

    asyncio.run(run())


def _received(
    digest: str = "d1",
    payment: int | None = 1,
    number: int = 1,
    transaction_ref: str | None = None,
    gateway_id: str = "g1",
    at: datetime = NOON,
) -> Item:
    notice = WebhookNotice(
        event="payment.captured",
        occurred_at=NOON,
        payment_id=None if payment is None else id_of(payment),
        attempt_number=None if payment is None else number,
        transaction_ref=transaction_ref,
    )
    return receiving(gateway_id, digest, notice, at)


async def _taken(
    ledger: OpenLedger, verdict: Verdict = ACTION, number: int = 1, check_at: datetime = IN_AN_HOUR
) -> None:
    """Leave a payment whose attempt ended so, with its next check at that moment."""
    end = closes(number, verdict)
    is_open = isinstance(verdict, Unknown) or verdict is ACTION
    end = {**end, "end_next_check_at": check_at if is_open else None}
    assert [await ledger.commit(*each) for each in ((OPEN, opens(number)), (CLOSE, end))] == [True, True]


async def _found(ledger: OpenLedger, at: datetime = NOON, limit: int = 10) -> Sequence[Waiting]:
    return await ledger.read(waiting, at, limit)


async def _handled(ledger: OpenLedger, at: datetime = NOON) -> list[str]:
    """Handle all that can be handled; name it."""
    found = await _found(ledger, at)
    assert [await ledger.commit(HANDLED, handling(each, at)) for each in found] == [True] * len(found)
    return [each.digest for each in found]


async def _checks(ledger: OpenLedger) -> list[datetime | None]:
    return [row["next_check_at"] for row in await rows(ledger, attempts)]


async def _execute(ledger: OpenLedger, statement: Any) -> None:
    def write(connection: Any) -> None:
        connection.execute(statement)

    await ledger.read(write)


def test_a_webhook_is_kept_with_its_names_and_without_its_body(database: str) -> None:
    async def scenario(ledger: OpenLedger) -> None:
        assert await ledger.commit(RECEIVE, _received(transaction_ref="pay_1", at=LATER))
        assert await rows(ledger, webhook_deliveries) == [
            {
                "digest": "d1",
                "gateway_id": "g1",
                "event": "payment.captured",
                "payment_id": id_of(1),
                "attempt_number": 1,
                "transaction_ref": "pay_1",
                "occurred_at": NOON,
                "received_at": LATER,
                "handled_at": None,
            }
        ]

    _on(database, scenario)


def test_the_same_body_is_kept_once_however_often_and_whenever_it_comes(database: str) -> None:
    async def scenario(ledger: OpenLedger) -> None:
        first = await all_of(ledger, [(RECEIVE, _received())] * 20)
        assert sorted(first, key=str) == [False] * 19 + [True]
        assert await _handled(ledger, NOON + WAITS) == ["d1"]
        again = _received(payment=2, at=NOON + timedelta(days=400))
        assert await ledger.commit(RECEIVE, again) is False
        assert await _handled(ledger, NOON + timedelta(days=500)) == []

    _on(database, scenario)


@pytest.mark.parametrize("verdict", [ACTION, UNKNOWN], ids=["customer acts", "unknown"])
@pytest.mark.parametrize("named", ["by us", "by the gateway", "by both"])
def test_the_named_attempt_is_due_at_once_and_no_other(database: str, verdict: Verdict, named: str) -> None:
    async def scenario(ledger: OpenLedger) -> None:
        await _taken(ledger, verdict, 1)
        await _taken(ledger, verdict, 2)
        await _execute(ledger, update(attempts).values(transaction_ref="x").where(attempts.c.payment_id == id_of(2)))
        await _execute(ledger, update(attempts).values(transaction_ref="r").where(attempts.c.payment_id == id_of(1)))
        before = {row["payment_id"]: row for row in await rows(ledger, attempts)}
        item = _received(
            payment=None if named == "by the gateway" else 1, transaction_ref=None if named == "by us" else "r"
        )
        assert await ledger.commit(RECEIVE, item)
        assert await _handled(ledger, LATER) == ["d1"]
        after = {row["payment_id"]: row for row in await rows(ledger, attempts)}
        assert after[id_of(1)] == {**before[id_of(1)], "next_check_at": LATER}
        assert after[id_of(2)] == before[id_of(2)]
        assert (await rows(ledger, webhook_deliveries))[0]["handled_at"] == LATER

    _on(database, scenario)


def test_a_check_that_is_due_already_is_not_put_off(database: str) -> None:
    async def scenario(ledger: OpenLedger) -> None:
        await _taken(ledger, check_at=NOON + timedelta(seconds=1))
        assert await ledger.commit(RECEIVE, _received())
        assert await _handled(ledger, LATER) == ["d1"]
        assert await _checks(ledger) == [NOON + timedelta(seconds=1)]

    _on(database, scenario)


def test_an_attempt_that_has_its_answer_stays_as_it_is(database: str) -> None:
    async def scenario(ledger: OpenLedger) -> None:
        await _taken(ledger, CAPTURED)
        before = await rows(ledger, attempts)
        assert await ledger.commit(RECEIVE, _received())
        assert await _handled(ledger) == ["d1"]
        assert await rows(ledger, attempts) == before

    _on(database, scenario)


def test_a_webhook_that_comes_before_the_answer_waits_for_it(database: str) -> None:
    """An attempt that is being sent is nobody's to check: its lease stays whole, whatever a webhook says of it."""

    async def scenario(ledger: OpenLedger) -> None:
        assert await ledger.commit(OPEN, opens(1))
        lease = await _checks(ledger)
        assert await ledger.commit(RECEIVE, _received())
        assert await _handled(ledger) == []
        assert await _checks(ledger) == lease
        assert await ledger.commit(CLOSE, {**closes(1, ACTION), "end_next_check_at": IN_AN_HOUR})
        assert await _handled(ledger) == ["d1"]
        assert await _checks(ledger) == [NOON]

    _on(database, scenario)


def test_a_webhook_by_the_gateways_name_waits_until_the_attempt_has_it(database: str) -> None:
    async def scenario(ledger: OpenLedger) -> None:
        assert await ledger.commit(OPEN, opens(1))
        assert await ledger.commit(RECEIVE, _received(payment=None, transaction_ref="ref-1"))
        assert await _handled(ledger) == []
        assert await ledger.commit(CLOSE, {**closes(1, ACTION), "end_next_check_at": IN_AN_HOUR})
        assert await _handled(ledger) == ["d1"]
        assert await _checks(ledger) == [NOON]

    _on(database, scenario)


def test_a_worker_at_work_is_not_disturbed_and_the_webhook_waits_for_it(database: str) -> None:
    """Whoever asks has the attempt alone; what it found may be older than the webhook, so another check follows."""

    async def scenario(ledger: OpenLedger) -> None:
        await _taken(ledger, check_at=NOON)
        claim = claims(1, NOON)
        assert await ledger.commit(CLAIM, claim)
        assert await ledger.commit(RECEIVE, _received())
        assert await _handled(ledger, LATER) == []
        # Even one that saw it free a moment before the claim takes nothing from the worker.
        late = handling(Waiting("d1", id_of(1), 1), LATER)
        await ledger.commit(RECEIVE, _received("d2"))
        assert await ledger.commit(HANDLED, {**late, "digest": "d2"})
        assert await _checks(ledger) == [NOON + CHECK_LEASE]
        assert await ledger.commit(RECORD, records(claim, IN_AN_HOUR))
        assert await _handled(ledger, LATER) == ["d1"]
        assert await _checks(ledger) == [LATER]

    _on(database, scenario)


def test_a_worker_that_died_leaves_its_attempt_to_the_schedule(database: str) -> None:
    async def scenario(ledger: OpenLedger) -> None:
        await _taken(ledger, check_at=NOON)
        assert await ledger.commit(CLAIM, claims(1, NOON))
        assert await ledger.commit(RECEIVE, _received())
        assert await _handled(ledger, NOON + CHECK_LEASE) == ["d1"]
        assert await _checks(ledger) == [NOON + CHECK_LEASE]

    _on(database, scenario)


def test_a_webhook_of_another_gateway_means_no_attempt_here(database: str) -> None:
    """One gateway's secret must not steer what was sent to another."""

    async def scenario(ledger: OpenLedger) -> None:
        await _taken(ledger)
        assert await ledger.commit(RECEIVE, _received(gateway_id="g2", transaction_ref="ref-1"))
        assert await _handled(ledger) == []
        assert await _handled(ledger, NOON + WAITS) == ["d1"]
        assert await _checks(ledger) == [IN_AN_HOUR]

    _on(database, scenario)


def test_a_webhook_about_an_earlier_attempt_touches_that_one_only(database: str) -> None:
    async def scenario(ledger: OpenLedger) -> None:
        writes = ((OPEN, opens(1)), (TURN, turns(1, NOT_SENT)), (CLOSE, closes(1, ACTION, 2)))
        assert [await ledger.commit(*each) for each in writes] == [True] * 3
        before = await rows(ledger, attempts)
        assert [row["status"] for row in before] == [AttemptStatus.FAILURE, AttemptStatus.REQUIRES_ACTION]
        assert await ledger.commit(RECEIVE, _received(number=1))
        assert await _handled(ledger) == ["d1"]
        assert await rows(ledger, attempts) == before

    _on(database, scenario)


def test_what_nobody_knows_waits_a_while_and_what_names_nothing_does_not(database: str) -> None:
    """Payments of the same account that pgw never made are no reason to wait for ever."""

    async def scenario(ledger: OpenLedger) -> None:
        foreign = _received("foreign", payment=None, transaction_ref="pay_of_somebody")
        unknown, nameless = _received("unknown", payment=7), _received("nameless", payment=None)
        for item in (foreign, unknown, nameless):
            assert await ledger.commit(RECEIVE, item)
        assert await _handled(ledger) == ["nameless"]
        assert await _handled(ledger, NOON + WAITS - timedelta(microseconds=1)) == []
        assert sorted(await _handled(ledger, NOON + WAITS)) == ["foreign", "unknown"]
        assert await _handled(ledger, NOON + WAITS) == []

    _on(database, scenario)


def test_those_that_wait_do_not_keep_others_waiting(database: str) -> None:
    """The longest waiting come first, of those that can be handled."""

    async def scenario(ledger: OpenLedger) -> None:
        await _taken(ledger)
        for number in range(5):
            assert await ledger.commit(RECEIVE, _received(f"foreign-{number}", payment=None, transaction_ref="pay_x"))
        for seconds in (3, 1, 2):
            item = _received(f"ours-{seconds}", at=NOON + timedelta(seconds=seconds))
            assert await ledger.commit(RECEIVE, item)
        assert [each.digest for each in await _found(ledger, LATER, limit=2)] == ["ours-1", "ours-2"]

    _on(database, scenario)


def test_two_workers_handle_a_webhook_once(database: str) -> None:
    async def scenario(ledger: OpenLedger) -> None:
        await _taken(ledger)
        assert await ledger.commit(RECEIVE, _received())
        (found,) = await _found(ledger)
        fates = await all_of(ledger, [(HANDLED, handling(found, NOON)), (HANDLED, handling(found, LATER))])
        assert fates == [True, False]
        assert await _checks(ledger) == [NOON]

    _on(database, scenario)


def test_webhooks_and_answers_at_once_leave_each_attempt_answered_and_due(database: str) -> None:
    """Two servers: one writes the answers while the other takes the webhooks and looks for what they name.

    Whoever comes first, no answer is lost, each webhook is handled once, and each attempt is asked about at once.
    """
    count = 60

    async def scenario() -> None:
        async with opened(database) as one, opened(database) as other:
            numbers = range(1, count + 1)
            assert await all_of(one, [(OPEN, opens(n)) for n in numbers]) == [True] * count
            ends = [(CLOSE, {**closes(n, ACTION), "end_next_check_at": IN_AN_HOUR}) for n in numbers]
            told = [(RECEIVE, _received(f"d{n}", payment=n)) for n in numbers]
            handled: list[str] = []

            async def handle() -> None:
                while len(handled) < count:
                    found = await _found(other, LATER, limit=count)
                    fates = await all_of(other, [(HANDLED, handling(each, LATER)) for each in found])
                    handled.extend(each.digest for each, won in zip(found, fates, strict=True) if won is True)

            answers, kept, _ = await asyncio.wait_for(
                asyncio.gather(all_of(one, ends), all_of(other, [*told, *told]), handle()), PATIENCE_S
            )
            assert (answers, sum(won is True for won in kept)) == ([True] * count, count)
            assert sorted(handled) == sorted(f"d{n}" for n in numbers)
            seen = {(row["status"], row["next_check_at"]) for row in await rows(one, attempts)}
            assert seen == {(AttemptStatus.REQUIRES_ACTION, LATER)}

    asyncio.run(scenario())


def test_the_watch_over_a_lost_attempt_is_due_at_once(database: str) -> None:
    """One whose check is so near that a worker may be at it is waited for."""

    async def scenario(ledger: OpenLedger) -> None:
        for number, in_s in ((1, 3600.0), (2, CHECK_LEASE.total_seconds())):
            await _taken(ledger, CAPTURED, number)
            await _execute(ledger, insert(watches).values(**_watch(number, NOON + timedelta(seconds=in_s))))
            assert await ledger.commit(RECEIVE, _received(f"d{number}", payment=number))
        assert await _handled(ledger) == ["d1"]
        assert [row["next_check_at"] for row in await rows(ledger, watches)] == [NOON, NOON + CHECK_LEASE]
        await _execute(ledger, update(watches).values(next_check_at=IN_AN_HOUR).where(watches.c.payment_id == id_of(2)))
        assert await _handled(ledger, LATER) == ["d2"]
        assert [row["next_check_at"] for row in await rows(ledger, watches)] == [NOON, LATER]

    _on(database, scenario)


def test_a_watch_that_a_worker_took_a_moment_ago_is_left_to_it(database: str) -> None:
    async def scenario(ledger: OpenLedger) -> None:
        await _taken(ledger, CAPTURED)
        await _execute(ledger, insert(watches).values(**_watch(1, NOON + CHECK_LEASE)))
        assert await ledger.commit(RECEIVE, _received())
        assert await ledger.commit(HANDLED, handling(Waiting("d1", id_of(1), 1), NOON))
        assert [row["next_check_at"] for row in await rows(ledger, watches)] == [NOON + CHECK_LEASE]

    _on(database, scenario)


def _watch(number: int, next_check_at: datetime) -> dict[str, Any]:
    return {
        "payment_id": id_of(number),
        "attempt_number": 1,
        "gateway_id": "g1",
        "state": "WATCHING",
        "cause": "FAILURE",
        "until": NOON + timedelta(days=5),
        "next_check_at": next_check_at,
        "checks_made": 0,
        "reversal_key": f"late-{number}",
        "updated_at": NOON,
    }
