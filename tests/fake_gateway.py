"""Fates -> a payment gateway with a book of its own; shares no code with the sandboxes of pgw.

It moves money, or does not, and answers, or does not, each as it is told. What it did stands in the book, whatever it
said: the book is what the proof compares with.
"""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from enum import StrEnum
from itertools import count
from typing import Any, Protocol

from pgw.core.payment.outcome import (
    ActionRequired,
    Blame,
    Captured,
    FinalDecline,
    GatewayDecline,
    NotSent,
    Unknown,
    Verdict,
)
from pgw.core.payment.payment import NextAction
from pgw.core.ports import NOT_SENT_LEASE, ChargeOrder, Reference
from pgw.core.verification.enquiry import Authorized, Finding, Pending, Reversal, ReversalRefused, Reversed, Undecided


class AdapterError(RuntimeError):
    """What an adapter raises that is told to."""


FOR_EVER_S = 1e9
"""How long an answer takes that never comes."""


class Stand(StrEnum):
    """How a charge stands in the book."""

    CREATED = "created"
    AUTHORIZED = "authorized"
    CAPTURED = "captured"
    REFUSED = "failed, the gateway's fault"
    DECLINED = "failed, the customer's fault"
    FAILED = "failed, for a reason that leaves open whether money moved"


class Deed(StrEnum):
    """What the gateway does with a charge at first."""

    UNREACHED = "cannot be reached: proven not sent"
    SWALLOWED = "lost on its way"
    DONE = "written into the book"


class Reply(StrEnum):
    """What comes back from a call."""

    TOLD = "the truth"
    LOST = "nothing, ever"
    RESET = "the connection breaks"
    CRASHED = "the adapter raises"
    STALE = "the truth of some time ago"
    UNDONE = "the connection breaks before anything was done"
    BUSY = "the gateway asks to come back later, and does nothing"
    TAKEN_ON = "a reversal is taken on, and made some time later"
    FORBIDDEN = "a definite no"


@dataclass(frozen=True)
class Fate:
    """What becomes of one charge.

    `arrives_s`: how long it travels. `stands`: how it stands, from how many seconds after its arrival on. `answers_s`:
    when the answer comes, after it was sent; it tells how the charge stands then. `amount_minor`, `currency`: what is
    moved, if it is not what was asked.
    """

    deed: Deed = Deed.DONE
    arrives_s: float = 0.0
    stands: tuple[tuple[float, Stand], ...] = ((0.0, Stand.CAPTURED),)
    reply: Reply = Reply.TOLD
    answers_s: float = 0.05
    amount_minor: int | None = None
    currency: str | None = None


@dataclass(frozen=True)
class Reach:
    """What becomes of one other call: its reply, when it comes, how old a stale one is, when a reversal is made."""

    reply: Reply = Reply.TOLD
    answers_s: float = 0.02
    old_s: float = 0.0
    made_after_s: float = 0.0


class Fates(Protocol):
    """Who decides what befalls each call."""

    def of_charge(self, gateway_id: str, order: ChargeOrder) -> Fate:
        """Decide on a charge."""

    def of_call(self, gateway_id: str, name: str, reference: Reference) -> Reach:
        """Decide on another call: `enquire`, `capture` or `reverse`."""


@dataclass
class Charge:
    """One charge, as the gateway has it: when it was sent, how it stood from when on, what was given back by key.

    What is only taken on has a moment from which on it can be given back.
    """

    gateway_id: str
    reference: Reference
    transaction_ref: str
    amount_minor: int
    currency: str
    sent_at: datetime
    stands: list[tuple[datetime, Stand]]
    given_back: dict[str, tuple[str, int]] = field(default_factory=dict)
    goes_back_at: dict[str, datetime] = field(default_factory=dict)

    def stand(self, at: datetime) -> Stand | None:
        """Tell how it stands at a moment; None: it has not arrived."""
        known = [stand for since, stand in self.stands if since <= at]
        return known[-1] if known else None

    def net(self, at: datetime) -> int:
        """Tell what the customer has paid and not got back."""
        taken = self.amount_minor if self.stand(at) is Stand.CAPTURED else 0
        return taken - sum(amount for _, amount in self.given_back.values())


class Book:
    """What the gateways of one world did. `now`: the true time."""

    def __init__(self, now: Callable[[], datetime]) -> None:
        self.now = now
        self.charges: list[Charge] = []
        self.forbidden: set[str] = set()
        self.tells: Callable[[Charge], None] = lambda _: None
        """Who is told of each charge that is taken on."""
        self._refs = count(1)

    def write(self, gateway_id: str, order: ChargeOrder, fate: Fate) -> Charge:
        """Take a charge on; asked twice, it charges twice."""
        arrives = self.now() + timedelta(seconds=fate.arrives_s)
        charge = Charge(
            gateway_id,
            order.reference,
            f"{gateway_id}-{next(self._refs)}",
            fate.amount_minor or order.amount_minor,
            fate.currency or order.currency,
            self.now(),
            [(arrives + timedelta(seconds=after), stand) for after, stand in fate.stands],
        )
        self.charges.append(charge)
        self.tells(charge)
        return charge

    def of(self, gateway_id: str, reference: Reference) -> list[Charge]:
        """Find the charges of one attempt."""
        return [each for each in self.charges if (each.gateway_id, each.reference) == (gateway_id, reference)]

    def named(self, transaction_ref: str) -> Charge | None:
        """Find one charge by its name at the gateway."""
        return next((each for each in self.charges if each.transaction_ref == transaction_ref), None)

    def statement(self) -> list[dict[str, Any]]:
        """List the money that moved, as a settlement file would."""
        now, lines = self.now(), []
        for each in self.charges:
            line = {
                "gateway_id": each.gateway_id,
                "payment_id": each.reference.payment_id,
                "attempt_number": each.reference.attempt_number,
                "currency": each.currency,
            }
            if each.stand(now) is Stand.CAPTURED:
                lines.append({**line, "amount_minor": each.amount_minor, "kind": "captured"})
            lines += [{**line, "amount_minor": amount, "kind": "reversed"} for _, amount in each.given_back.values()]
        return lines


class FakeGateway:
    """The Gateway port of one process, over the book. `sleep`: how this process waits."""

    def __init__(self, gateway_id: str, book: Book, fates: Fates, sleep: Callable[[float], Awaitable[None]]) -> None:
        self.gateway_id = gateway_id
        self.trouble: str | None = None
        self._book = book
        self._fates = fates
        self._sleep = sleep

    async def charge(self, order: ChargeOrder) -> Verdict:
        """Do what the fate says, if the sender may still send."""
        if not order.may_send():
            return NOT_SENT_LEASE
        fate = self._fates.of_charge(self.gateway_id, order)
        if fate.deed is Deed.UNREACHED:
            await self._sleep(fate.answers_s)
            return NotSent("NOT_SENT_REFUSED", Blame.GATEWAY)
        charge = self._book.write(self.gateway_id, order, fate) if fate.deed is Deed.DONE else None
        await self._answer_after(fate.reply, fate.answers_s)
        if charge is None or fate.reply is not Reply.TOLD:
            return Unknown("CONNECTION_RESET", Blame.NETWORK)
        return self._verdict(charge)

    async def enquire(self, reference: Reference) -> Finding:
        """Look into the book."""
        reach = self._fates.of_call(self.gateway_id, "enquire", reference)
        at = self._book.now() - timedelta(seconds=reach.old_s)
        await self._answer_after(reach.reply, reach.answers_s)
        if reach.reply not in {Reply.TOLD, Reply.STALE}:
            return Undecided(Pending.UNREACHABLE, "HTTP_502")
        if reach.reply is Reply.TOLD:
            at = self._book.now()
        known = [(each, stand) for each in self._book.of(self.gateway_id, reference) if (stand := each.stand(at))]
        if not known:
            return Undecided(Pending.ABSENT)
        # Asked about an attempt that it charged twice, a gateway shows one of the two.
        return _finding(*max(known, key=lambda each: _WEIGHTS[each[1]]))

    async def capture(self, transaction_ref: str, amount_minor: int, currency: str) -> None:
        """Take authorised money; whether it came, an enquiry tells."""
        charge = self._book.named(transaction_ref)
        assert charge is not None, "asked to capture what was never authorised"
        reach = self._fates.of_call(self.gateway_id, "capture", charge.reference)
        if reach.reply is not Reply.UNDONE and charge.stand(self._book.now()) is Stand.AUTHORIZED:
            assert (charge.amount_minor, charge.currency) == (amount_minor, currency)
            # Whatever would have become of the authorisation, it is captured now.
            charge.stands = [each for each in charge.stands if each[0] <= self._book.now()]
            charge.stands.append((self._book.now(), Stand.CAPTURED))
        await self._answer_after(reach.reply, reach.answers_s)

    async def reverse(self, transaction_ref: str, amount_minor: int, key: str) -> Reversal:
        """Give money back: once under one key, however often asked, and once more under another."""
        charge = self._book.named(transaction_ref)
        assert charge is not None, "asked to give back what was never taken"
        reach = self._fates.of_call(self.gateway_id, "reverse", charge.reference)
        if reach.reply is Reply.FORBIDDEN:
            self._book.forbidden.add(charge.reference.payment_id)
            return ReversalRefused("HTTP_400")
        if reach.reply in {Reply.UNDONE, Reply.BUSY}:
            await self._answer_after(reach.reply, reach.answers_s)
            code = "HTTP_409" if reach.reply is Reply.BUSY else "HTTP_502"
            return Undecided(Pending.UNREACHABLE, code)
        if charge.stand(self._book.now()) is not Stand.CAPTURED:
            return Undecided(Pending.STILL_PENDING, "HTTP_400")
        now = self._book.now()
        if reach.reply is Reply.TAKEN_ON and key not in charge.given_back:
            charge.goes_back_at.setdefault(key, now + timedelta(seconds=reach.made_after_s))
        if now < charge.goes_back_at.get(key, now):
            await self._sleep(reach.answers_s)
            return Undecided(Pending.STILL_PENDING, "REFUND_PENDING")
        done = charge.given_back.setdefault(key, (f"{transaction_ref}-back-{len(charge.given_back) + 1}", amount_minor))
        await self._answer_after(reach.reply, reach.answers_s)
        if reach.reply not in {Reply.TOLD, Reply.TAKEN_ON} or done[1] != amount_minor:
            return Undecided(Pending.UNREACHABLE, "CONNECTION_RESET")
        return Reversed(done[0])

    async def close(self) -> None:
        """Hold nothing."""

    async def _answer_after(self, reply: Reply, answers_s: float) -> None:
        """Wait for what comes back; raises where the adapter does."""
        await self._sleep(FOR_EVER_S if reply is Reply.LOST else answers_s)
        if reply is Reply.CRASHED:
            raise AdapterError("the adapter fails")

    def _verdict(self, charge: Charge) -> Verdict:
        match charge.stand(self._book.now()):
            case Stand.CAPTURED:
                return Captured(charge.transaction_ref, charge.amount_minor, charge.currency)
            case Stand.CREATED:
                return ActionRequired(charge.transaction_ref, NextAction(type="redirect", url="upi://pay?pa=x"))
            case Stand.REFUSED:
                return GatewayDecline("GATEWAY_TECHNICAL_ERROR", Blame.GATEWAY)
            case Stand.DECLINED:
                return FinalDecline("INSUFFICIENT_FUNDS")
            case Stand.FAILED:
                return Unknown("PAYMENT_TIMED_OUT", Blame.NONE, charge.transaction_ref)
            case _:
                return Unknown("PENDING", Blame.NONE, charge.transaction_ref)


_WEIGHTS = {
    Stand.CAPTURED: 4,
    Stand.AUTHORIZED: 3,
    Stand.CREATED: 2,
    Stand.REFUSED: 1,
    Stand.DECLINED: 1,
    Stand.FAILED: 1,
}


def _finding(charge: Charge, stand: Stand) -> Finding:
    match stand:
        case Stand.CAPTURED:
            return Captured(charge.transaction_ref, charge.amount_minor, charge.currency)
        case Stand.AUTHORIZED:
            return Authorized(charge.transaction_ref, charge.amount_minor, charge.currency)
        case Stand.CREATED:
            return Undecided(Pending.STILL_PENDING)
        case Stand.FAILED:
            return Undecided(Pending.FAILED, "PAYMENT_TIMED_OUT")
        case Stand.REFUSED:
            return GatewayDecline("GATEWAY_TECHNICAL_ERROR", Blame.GATEWAY)
        case Stand.DECLINED:
            return FinalDecline("INSUFFICIENT_FUNDS")
