"""A person's word ends what no machine could: once, with its money booked and its audit entry, on both ledgers."""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import pytest

from pgw.core.errors import Code, PgwError
from pgw.core.flow.verification.late_capture import monitor_due
from pgw.core.flow.verification.resolve import close_review, resolve
from pgw.core.ledger.audit_reads import payment_rows
from pgw.core.ledger.engine.ledger import OpenLedger
from pgw.core.ledger.payments import CLOSE, OPEN
from pgw.core.ledger.tables import attempts, audit_log, outbox, payments, transfers, watches
from pgw.core.ledger.verifications import CLAIM, SETTLE
from pgw.core.money.invariants import check
from pgw.core.payment.outcome import Blame, Captured
from pgw.core.payment.payment import Payment, Status
from pgw.core.ports import Reference
from pgw.core.verification.enquiry import Finding, GaveUp, Pending, ReversalRefused, Undecided
from pgw.core.writes.resolution import Resolution, ResolvedAs
from tests.doubles import CUSTOMER_DECLINE, NOON, UNKNOWN, Entry, Scene, VirtualClock, scene_of
from tests.ledgers import claims, closes, id_of, opened, opens, rows, settles

OTHER_AMOUNT = Captured("ref-1", 999, "INR")
GAVE_UP = GaveUp(Blame.GATEWAY, None)
PAYMENT = id_of(1)


def said(outcome: str, actor: str = "asha", evidence: str | dict[str, str] | None = "UTR 1234") -> Resolution:
    """Say what became of a payment."""
    return Resolution(outcome=ResolvedAs(outcome), actor=actor, reason="INC-7", evidence=evidence)


@dataclass
class Court:
    """A payment that waits for a person, and the world it lives in."""

    ledger: OpenLedger
    scene: Scene

    async def resolve(self, outcome: str, **more: Any) -> Payment:
        """Say what became of it."""
        return await resolve(self.scene.deps, PAYMENT, said(outcome, **more))

    async def refused(self, work: Awaitable[Payment]) -> str:
        """Return why a word was not taken."""
        with pytest.raises(PgwError) as refusal:
            await work
        assert refusal.value.code is Code.CONFLICT
        return refusal.value.detail

    async def one(self, table: Any) -> dict[str, Any]:
        """Return the only row of a table."""
        (row,) = await rows(self.ledger, table)
        return row

    async def moved(self) -> list[tuple[Any, ...]]:
        """List what was booked."""
        names = ("kind", "debit_account", "credit_account", "amount_minor", "currency")
        return sorted(tuple(row[name] for name in names) for row in await rows(self.ledger, transfers))

    async def sound(self) -> bool:
        """Whether nothing about the payment breaks an invariant."""
        (case,) = await self.ledger.read(payment_rows, [PAYMENT])
        assert check(case) == ()
        return True

    async def look(self, after: timedelta = timedelta(days=6)) -> None:
        """Let the watches that are due by then be looked at."""
        self.scene.clock.advance(after.total_seconds())
        assert await monitor_due(self.scene.deps) == 1


async def in_review(ledger: OpenLedger, found: Any) -> Court:
    """Leave a payment to a person, because of what its gateway answered."""
    claim = claims(1, closes(1, UNKNOWN)["end_next_check_at"])
    writes = (OPEN, opens(1)), (CLOSE, closes(1, UNKNOWN)), (CLAIM, claim), (SETTLE, settles(claim, found, 1))
    assert [await ledger.commit(*write) for write in writes] == [True] * 4
    scene = scene_of(ledger, {"g1": [], "g2": []}, clock=VirtualClock(NOON + timedelta(minutes=1)))
    scene.gateways["g1"].book[Reference(PAYMENT, 1)] = Entry()
    return Court(ledger, scene)


def on(database: str, found: Any, scenario: Callable[[Court], Awaitable[None]]) -> None:
    """Play a scene with a payment in review."""

    async def run() -> None:
        async with opened(database) as ledger:
            await scenario(await in_review(ledger, found))

    asyncio.run(run())


UNMATCHED = ("unmatched", "gateway:g1", "suspense", 999, "INR")


@pytest.mark.parametrize(
    ("found", "booked"),
    [
        (OTHER_AMOUNT, [("resolution", "suspense", "merchant:m_001", 999, "INR"), UNMATCHED]),
        (GAVE_UP, [("capture", "gateway:g1", "merchant:m_001", 1000, "INR")]),
    ],
    ids=["money in suspense", "nothing known"],
)
def test_as_success_the_money_becomes_the_merchants(database: str, found: Any, booked: list[tuple[Any, ...]]) -> None:
    async def scenario(court: Court) -> None:
        before = await court.one(payments)
        payment = await court.resolve("SUCCESS")
        assert (payment.status, payment.failure_code, payment.version) == (
            Status.SUCCESS,
            None,
            before["version"] + 1,
        )
        assert (payment.updated_at, before["review_since"] is not None) == (court.scene.clock.now(), True)
        assert await court.moved() == booked
        assert ((await court.one(attempts))["status"], await rows(court.ledger, watches)) == ("SUCCESS", [])
        assert (await court.one(payments))["review_since"] is None
        assert await court.sound()

    on(database, found, scenario)


def test_as_failure_money_in_suspense_goes_back_by_itself(database: str) -> None:
    async def scenario(court: Court) -> None:
        payment = await court.resolve("FAILURE")
        assert (payment.status, payment.failure_code) == (Status.FAILURE, "RESOLVED_FAILURE")
        watch = await court.one(watches)
        assert (watch["state"], watch["cause"], watch["transaction_ref"]) == ("REVERSING", "RESOLVED", "ref-1")
        assert (watch["next_check_at"], await court.moved()) == (court.scene.clock.now(), [UNMATCHED])
        assert await court.sound()
        await court.look(timedelta(0))
        gateway = court.scene.gateways["g1"]
        assert gateway.reversed == {f"reversal-{PAYMENT}-1": ("ref-1", 999)}
        assert await court.moved() == [("reversal", "suspense", "gateway:g1", 999, "INR"), UNMATCHED]
        assert ((await court.one(watches))["state"], (await court.one(attempts))["status"]) == (
            "REVERSED",
            "REVERSED",
        )
        assert await court.sound()

    on(database, OTHER_AMOUNT, scenario)


@pytest.mark.parametrize(
    ("late", "state", "booked"),
    [
        (Undecided(Pending.ABSENT), "OVER", []),
        (
            Captured("ref-1", 1000, "INR"),
            "REVERSED",
            [
                ("duplicate_capture", "gateway:g1", "suspense", 1000, "INR"),
                ("reversal", "suspense", "gateway:g1", 1000, "INR"),
            ],
        ),
    ],
    ids=["nothing came", "it came after all"],
)
def test_as_failure_with_nothing_known_its_gateway_has_the_last_word(
    database: str, late: Finding, state: str, booked: list[tuple[Any, ...]]
) -> None:
    async def scenario(court: Court) -> None:
        await court.resolve("FAILURE")
        watch = await court.one(watches)
        assert (watch["state"], watch["until"]) == ("WATCHING", court.scene.clock.now() + timedelta(days=5))
        assert ((await court.one(attempts))["status"], await court.moved()) == ("FAILURE", [])
        assert await court.sound()
        court.scene.gateways["g1"].answers.append(late)
        await court.look()
        assert ((await court.one(watches))["state"], await court.moved()) == (state, booked)
        assert ((await court.one(payments))["status"], await court.sound()) == ("FAILURE", True)

    on(database, GAVE_UP, scenario)


def test_who_said_it_why_and_on_what_evidence_is_kept_and_the_end_is_told(database: str) -> None:
    async def scenario(court: Court) -> None:
        await court.resolve("FAILURE", evidence={"utr": "1234", "mail": "from the bank"})
        noted = await court.one(audit_log)
        assert (noted["actor"], noted["action"], noted["reason"]) == ("asha", "payment.resolve", "INC-7")
        assert (noted["subject"], noted["at"]) == (f"payment:{PAYMENT}", court.scene.clock.now())
        assert noted["details"] == {
            "as": "FAILURE",
            "was": "AMOUNT_MISMATCH",
            "attempt_number": 1,
            "gateway_id": "g1",
            "evidence": {"utr": "1234", "mail": "from the bank"},
        }
        told = [row["event"] for row in await rows(court.ledger, outbox)]
        assert [each["type"] for each in told] == ["payment.attempted", "payment.verified", "payment.completed"]
        assert (told[-1]["status"], told[-1]["gateway_id"], told[-1]["attempt_number"]) == ("FAILURE", "g1", 1)

    on(database, OTHER_AMOUNT, scenario)


@pytest.mark.parametrize(("first", "other"), [("SUCCESS", "FAILURE"), ("FAILURE", "SUCCESS")])
def test_the_same_word_again_changes_nothing_and_another_is_refused(database: str, first: str, other: str) -> None:
    async def scenario(court: Court) -> None:
        payment = await court.resolve(first)
        seen = [await rows(court.ledger, each) for each in (payments, attempts, transfers, watches, audit_log, outbox)]
        assert await court.resolve(first, actor="ravi") == payment
        assert first in await court.refused(court.resolve(other))
        assert seen == [
            await rows(court.ledger, each) for each in (payments, attempts, transfers, watches, audit_log, outbox)
        ]

    on(database, OTHER_AMOUNT, scenario)


def test_of_two_people_at_once_one_is_heard(database: str) -> None:
    async def scenario(court: Court) -> None:
        words = [court.resolve(outcome, actor=actor) for outcome, actor in (("SUCCESS", "asha"), ("FAILURE", "ravi"))]
        found = await asyncio.gather(*words, return_exceptions=True)
        (heard,) = [each for each in found if isinstance(each, Payment)]
        (refusal,) = [each for each in found if isinstance(each, PgwError)]
        assert (refusal.code, heard.status in refusal.detail) == (Code.CONFLICT, True)
        assert (await court.one(audit_log))["details"]["as"] == heard.status
        assert await court.sound()

    on(database, OTHER_AMOUNT, scenario)


@pytest.mark.parametrize("outcome", list(ResolvedAs))
def test_what_waits_for_no_person_is_not_resolved(database: str, outcome: ResolvedAs) -> None:
    async def run() -> None:
        async with opened(database) as ledger:
            for write in ((OPEN, opens(1)), (CLOSE, closes(1, UNKNOWN))):
                await ledger.commit(*write)
            court = Court(ledger, scene_of(ledger, {"g1": []}))
            assert "PENDING_VERIFICATION" in await court.refused(court.resolve(outcome))
            assert await rows(ledger, audit_log) == []
            with pytest.raises(PgwError) as refusal:
                await resolve(court.scene.deps, id_of(2), said(outcome))
            assert refusal.value.code is Code.NOT_FOUND

    asyncio.run(run())


@pytest.mark.parametrize("outcome", list(ResolvedAs))
def test_a_watch_that_began_in_review_follows_the_word(database: str, outcome: ResolvedAs) -> None:
    """Its owner came back with a decline, meanwhile: a success must not be given back by the watch of that decline."""

    async def scenario(court: Court) -> None:
        assert await court.ledger.commit(CLOSE, closes(1, CUSTOMER_DECLINE)) is True
        assert (await court.one(watches))["state"] == "WATCHING"
        await court.resolve(outcome)
        watch = await court.one(watches)
        expected = ("OVER", None) if outcome is ResolvedAs.SUCCESS else ("REVERSING", court.scene.clock.now())
        assert (watch["state"], watch["next_check_at"]) == expected
        assert await court.sound()

    on(database, OTHER_AMOUNT, scenario)


SUSPENSE_RETURNED = ("reversal", "suspense", "gateway:g1", 999, "INR")
SUSPENSE_GIVEN = ("resolution", "suspense", "merchant:m_001", 999, "INR")


@pytest.mark.parametrize(
    ("outcome", "state", "booked"),
    [
        (ResolvedAs.SUCCESS, "OVER", [SUSPENSE_GIVEN, UNMATCHED]),
        (ResolvedAs.FAILURE, "REVERSED", [SUSPENSE_RETURNED, UNMATCHED]),
    ],
    ids=lambda each: str(each) if isinstance(each, ResolvedAs) else "",
)
@pytest.mark.parametrize("days", [1, 6], ids=["while it is watched", "after its gateway's last word"])
def test_money_that_is_booked_waits_for_the_word_whatever_a_watch_finds(
    database: str, days: int, outcome: ResolvedAs, state: str, booked: list[tuple[Any, ...]]
) -> None:
    """Its owner came back with a decline, meanwhile: the watch of that decline sees the money that is in review."""

    async def scenario(court: Court) -> None:
        await court.ledger.commit(CLOSE, closes(1, CUSTOMER_DECLINE))
        gateway = court.scene.gateways["g1"]
        gateway.answers.append(OTHER_AMOUNT)
        await court.look(timedelta(days=days))
        assert ((await court.one(watches))["state"], await court.moved()) == (
            "WATCHING" if days < 5 else "OVER",
            [UNMATCHED],
        )
        assert (gateway.reversed, await court.sound()) == ({}, True)
        await court.resolve(outcome)
        assert await monitor_due(court.scene.deps) == (outcome is ResolvedAs.FAILURE)
        assert ((await court.one(watches))["state"], await court.moved()) == (state, booked)
        assert await court.sound()

    on(database, OTHER_AMOUNT, scenario)


def test_what_a_person_says_has_failed_is_watched_for_days_however_old_it_is(database: str) -> None:
    """Nobody knew for five days; a look within the hour finds nothing either, and the money comes on the next day."""

    async def scenario(court: Court) -> None:
        court.scene.clock.advance(timedelta(days=6).total_seconds())
        await court.resolve("FAILURE")
        court.scene.gateways["g1"].answers.append(Undecided(Pending.ABSENT))
        await court.look(timedelta(hours=1))
        assert (await court.one(watches))["state"] == "WATCHING"
        court.scene.gateways["g1"].answers.append(Captured("ref-1", 1000, "INR"))
        await court.look(timedelta(days=1))
        assert (await court.one(watches))["state"] == "REVERSED"
        assert await court.sound()

    on(database, GAVE_UP, scenario)


def test_money_on_its_way_back_makes_no_success(database: str) -> None:
    """The watch of the decline found the money while the payment waited for a person."""

    async def scenario(court: Court) -> None:
        await court.ledger.commit(CLOSE, closes(1, CUSTOMER_DECLINE))
        court.scene.gateways["g1"].answers.append(Captured("ref-1", 1000, "INR"))
        await court.look(timedelta(hours=1))
        assert (await court.one(watches))["state"] == "REVERSED"
        assert "FAILURE" in await court.refused(court.resolve("SUCCESS"))
        assert (await court.resolve("FAILURE")).status is Status.FAILURE
        assert ((await court.one(watches))["state"], (await court.one(attempts))["status"]) == (
            "REVERSED",
            "REVERSED",
        )
        assert await court.sound()

    on(database, GAVE_UP, scenario)


def test_money_that_could_not_go_back_can_still_become_the_success(database: str) -> None:
    """What lies in suspense is the merchant's then: it came in once and is not booked as coming in again."""

    async def scenario(court: Court) -> None:
        await court.ledger.commit(CLOSE, closes(1, CUSTOMER_DECLINE))
        court.scene.gateways["g1"].answers.append(Captured("ref-1", 1000, "INR"))
        court.scene.gateways["g1"].reversal_answers.append(ReversalRefused("ALREADY_REFUNDED"))
        await court.look(timedelta(hours=1))
        assert (await court.one(watches))["state"] == "MANUAL_REVIEW"
        assert (await court.resolve("SUCCESS")).status is Status.SUCCESS
        assert (await court.one(watches))["state"] == "OVER"
        assert await court.moved() == [
            ("duplicate_capture", "gateway:g1", "suspense", 1000, "INR"),
            ("resolution", "suspense", "merchant:m_001", 1000, "INR"),
        ]
        assert await court.sound()

    on(database, GAVE_UP, scenario)


class TestCloseReview:
    """Late money of an attempt, which its gateway would not give back."""

    @staticmethod
    async def stuck(court: Court) -> None:
        """Let a declined payment capture after all, at a gateway that refuses the reversal."""
        await court.resolve("FAILURE")
        court.scene.gateways["g1"].reversal_answers.append(ReversalRefused("ALREADY_REFUNDED"))
        await court.look(timedelta(0))
        assert (await court.one(watches))["state"] == "MANUAL_REVIEW"

    def test_it_went_back_says_a_person(self, database: str) -> None:
        async def scenario(court: Court) -> None:
            await self.stuck(court)
            await close_review(court.scene.deps, PAYMENT, 1, said("FAILURE", actor="ravi"))
            watch = await court.one(watches)
            assert (watch["state"], watch["next_check_at"]) == ("OVER", None)
            assert await court.moved() == [("reversal", "suspense", "gateway:g1", 999, "INR"), UNMATCHED]
            assert (await court.one(attempts))["status"] == "REVERSED"
            noted = sorted(row["actor"] for row in await rows(court.ledger, audit_log))
            assert (noted, await court.sound()) == (["asha", "ravi"], True)
            await close_review(court.scene.deps, PAYMENT, 1, said("FAILURE"))
            assert len(await rows(court.ledger, audit_log)) == 2

        on(database, OTHER_AMOUNT, scenario)

    def test_the_payments_own_word_said_again_closes_nothing(self, database: str) -> None:
        async def scenario(court: Court) -> None:
            await self.stuck(court)
            await court.resolve("FAILURE")
            assert (await court.one(watches))["state"] == "MANUAL_REVIEW"

        on(database, OTHER_AMOUNT, scenario)

    def test_only_what_waits_for_a_person_is_closed(self, database: str) -> None:
        async def scenario(court: Court) -> None:
            deps = court.scene.deps
            assert "MANUAL_REVIEW" in await court.refused(close_review(deps, PAYMENT, 1, said("FAILURE")))
            await court.resolve("FAILURE")
            assert "WATCHING" in await court.refused(close_review(deps, PAYMENT, 1, said("FAILURE")))
            with pytest.raises(PgwError) as refusal:
                await close_review(deps, PAYMENT, 2, said("FAILURE"))
            assert refusal.value.code is Code.NOT_FOUND

        on(database, GAVE_UP, scenario)
