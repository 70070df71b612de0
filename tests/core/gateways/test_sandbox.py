"""A sandbox gateway does what the payment's address asks for, and a later enquiry finds the same in its book."""

import asyncio
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path

import pytest

from pgw.core.gateways.book import SandboxBook
from pgw.core.gateways.sandbox import SandboxGateway
from pgw.core.payment.outcome import Blame, Captured, FinalDecline, GatewayDecline, Verdict
from pgw.core.payment.payment import Card, Instrument, Netbanking, Upi
from pgw.core.ports import NOT_SENT_LEASE, ChargeOrder, Reference
from pgw.core.verification.enquiry import Finding, Pending, ReversalRefused, Reversed, Undecided
from tests.doubles import NOON, VirtualClock

PAYMENT = "019b8e07-4601-7d8e-91b7-584a2265b1f5"
REF = "hdfc_019b8e0746017d8e91b7584a2265b1f5_1"
PAID = Captured(REF, 1000, "INR")
CANCELLED = FinalDecline("PAYMENT_CANCELLED")
FAULT = GatewayDecline("GATEWAY_TECHNICAL_ERROR", Blame.GATEWAY)


def _order(
    instrument: Instrument, number: int = 1, may_send: Callable[[], bool] = lambda: True, payment_id: str = PAYMENT
) -> ChargeOrder:
    return ChargeOrder(
        reference=Reference(payment_id, number),
        idempotency_key="key",
        amount_minor=1000,
        currency="INR",
        instrument=instrument,
        may_send=may_send,
        timeout_s=2.5,
    )


class Counter:
    """One gateway on one book and one clock; `again` is the same gateway after a restart."""

    def __init__(self, home: Path) -> None:
        self.clock = VirtualClock()
        self.book = SandboxBook(home / "sandbox.book")
        self.home = home
        self.gateway = SandboxGateway("hdfc", self.book, self.clock)

    def again(self) -> "Counter":
        other = Counter(self.home)
        other.clock = self.clock
        other.gateway = SandboxGateway("hdfc", other.book, self.clock)
        return other

    async def charge(self, vpa: str, number: int = 1) -> Verdict:
        return await self.gateway.charge(_order(Upi(vpa=vpa), number))

    async def enquire(self, number: int = 1) -> Finding:
        return await self.gateway.enquire(Reference(PAYMENT, number))


@pytest.fixture
def counter(tmp_path: Path) -> Counter:
    return Counter(tmp_path)


@pytest.mark.parametrize(
    "instrument",
    [Upi(vpa="test@okhdfcbank"), Upi(), Card(token="t"), Netbanking(bank_code="HDFC")],
    ids=lambda each: type(each).__name__,
)
def test_a_payment_without_an_instruction_is_approved(counter: Counter, instrument: Instrument) -> None:
    async def scenario() -> None:
        assert await counter.gateway.charge(_order(instrument)) == PAID
        assert await counter.enquire() == PAID

    asyncio.run(scenario())


@pytest.mark.parametrize(
    ("vpa", "verdicts"),
    [
        ("failure@sandbox", [CANCELLED, CANCELLED]),
        ("gateway-error@sandbox", [FAULT, Captured(REF[:-1] + "2", 1000, "INR")]),
        ("late@sandbox", [CANCELLED, CANCELLED]),
    ],
)
def test_an_address_chooses_the_behaviour_by_attempt(counter: Counter, vpa: str, verdicts: list[Verdict]) -> None:
    """An enquiry at that time gives the same answer, also from the book of a restarted process."""

    async def scenario() -> None:
        for number, verdict in enumerate(verdicts, start=1):
            assert await counter.charge(vpa, number) == verdict
            assert await counter.enquire(number) == verdict
            assert await counter.again().enquire(number) == verdict

    asyncio.run(scenario())


def test_a_slow_payment_has_moved_its_money_before_it_answers(counter: Counter) -> None:
    async def scenario() -> None:
        charging = asyncio.create_task(counter.charge("slow@sandbox"))
        await asyncio.sleep(0)
        assert counter.clock.sleeping == 1
        assert await counter.enquire() == PAID
        counter.clock.advance(0.999)
        await asyncio.sleep(0)
        assert not charging.done()
        counter.clock.advance(0.001)
        assert await charging == PAID

    asyncio.run(scenario())


def test_a_payment_that_never_answers_has_moved_its_money_all_the_same(counter: Counter) -> None:
    async def scenario() -> None:
        charging = asyncio.create_task(counter.charge("timeout@sandbox"))
        await asyncio.sleep(0)
        counter.clock.advance(60)
        await asyncio.sleep(0)
        assert not charging.done()
        charging.cancel()
        await asyncio.gather(charging, return_exceptions=True)
        assert await counter.enquire() == PAID
        assert len(counter.book.charges(counter.clock.now())) == 1

    asyncio.run(scenario())


def test_a_late_payment_is_declined_and_captured_five_seconds_later(counter: Counter) -> None:
    async def scenario() -> None:
        assert await counter.charge("late@sandbox") == CANCELLED
        counter.clock.advance(4.999)
        assert (await counter.enquire(), counter.book.charges(counter.clock.now())) == (CANCELLED, [])
        counter.clock.advance(0.001)
        assert (await counter.enquire(), len(counter.book.charges(counter.clock.now()))) == (PAID, 1)

    asyncio.run(scenario())


def test_nothing_is_sent_or_written_once_the_lease_is_over(counter: Counter) -> None:
    async def scenario() -> None:
        assert await counter.gateway.charge(_order(Upi(), may_send=lambda: False)) == NOT_SENT_LEASE
        assert await counter.enquire() == Undecided(Pending.ABSENT)
        assert list(counter.home.iterdir()) == []

    asyncio.run(scenario())


def test_an_attempt_it_never_saw_is_absent_and_other_gateways_books_are_not_its_own(counter: Counter) -> None:
    async def scenario() -> None:
        other = SandboxGateway("icici", counter.book, counter.clock)
        assert await counter.charge("test@okhdfcbank") == PAID
        assert await other.enquire(Reference(PAYMENT, 1)) == Undecided(Pending.ABSENT)
        assert await counter.enquire(2) == Undecided(Pending.ABSENT)

    asyncio.run(scenario())


def test_the_book_shows_what_was_charged(counter: Counter) -> None:
    async def scenario() -> None:
        for place, vpa in enumerate(["test@okhdfcbank", "failure@sandbox", "late@sandbox"]):
            await counter.gateway.charge(_order(Upi(vpa=vpa), payment_id=f"p{place}"))
        shown = [[each.payment_id for each in counter.book.charges(NOON + timedelta(seconds=s))] for s in (0, 5)]
        assert shown == [["p0"], ["p0", "p2"]]

    asyncio.run(scenario())


def test_late_money_can_be_given_back_once_and_is_known_as_refunded(counter: Counter) -> None:
    async def scenario() -> None:
        await counter.charge("late@sandbox")
        assert await counter.gateway.reverse(REF, 1000, "reversal-1") == ReversalRefused("NOTHING_TO_REVERSE")
        counter.clock.advance(5)
        taken_on = Reversed(f"{REF}_back")
        assert [await counter.gateway.reverse(REF, 1000, "reversal-1") for _ in range(2)] == [taken_on] * 2
        assert await counter.again().gateway.reverse(REF, 1000, "reversal-2") == ReversalRefused("NOTHING_TO_REVERSE")
        assert await counter.enquire() == Undecided(Pending.RETURNED, "REFUNDED")
        assert [each.status for each in counter.book.charges(counter.clock.now())] == ["CAPTURED", "REVERSED"]

    asyncio.run(scenario())
