"""ChargeOrder -> Verdict, without money: gateways that approve, or do what the payment's address asks for."""

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta

from pgw.core.gateways.book import BookLine, BookStatus, SandboxBook
from pgw.core.payment.outcome import Blame, Captured, Decline, NotSent, Unknown, Verdict, declined
from pgw.core.payment.payment import Method, Upi, method_of
from pgw.core.ports import NOT_SENT_LEASE, ChargeOrder, Clock, Reference
from pgw.core.routing.gateway import SandboxBehaviour
from pgw.core.verification.enquiry import Finding, Pending, Reversal, ReversalRefused, Reversed, Undecided

SLOW_S = 1.0
LATE = timedelta(seconds=5)
FOREVER_S = 3600.0
"""How long a call that never answers hangs; every caller's deadline is shorter."""

CUSTOMER_REASON = "payment_cancelled"
GATEWAY_REASON = "gateway_technical_error"
DECLINE_STEP = "payment_initiation"
"""Where every decline of these gateways happens: before the debit."""


@dataclass(frozen=True, slots=True)
class Behaviour:
    """What one attempt does: decline for a reason (or capture), when money moves, how long the answer takes."""

    reason: str | None = None
    captures_after: timedelta | None = None
    answers_after_s: float = 0.0


APPROVE = Behaviour(captures_after=timedelta())

OUT = NotSent("NOT_SENT_REFUSED", Blame.GATEWAY)
"""The verdict of an outage: the connection is refused."""


def behaviour(vpa: str | None, attempt_number: int) -> Behaviour | None:
    """Read what the payment's address asks for; None for any other address."""
    match vpa:
        case "failure@sandbox":
            return Behaviour(reason=CUSTOMER_REASON)
        case "gateway-error@sandbox" if attempt_number == 1:
            return Behaviour(reason=GATEWAY_REASON)
        case "timeout@sandbox":
            return Behaviour(captures_after=timedelta(), answers_after_s=FOREVER_S)
        case "slow@sandbox":
            return Behaviour(captures_after=timedelta(), answers_after_s=SLOW_S)
        case "late@sandbox":
            return Behaviour(reason=CUSTOMER_REASON, captures_after=LATE)
        case _:
            return None


def drawn(configured: SandboxBehaviour, seed: str, key: str, gateway_id: str, attempt_number: int) -> Behaviour:
    """Draw what one attempt does from SHA-256 of what names it, so that runs are reproducible."""
    digest = hashlib.sha256(f"{seed}:{key}:{gateway_id}:{attempt_number}".encode()).digest()
    timeout, success = (int.from_bytes(digest[at : at + 8], "big") / 2**64 for at in (0, 8))
    succeeds = success < configured.success_rate
    return Behaviour(
        reason=None if succeeds else GATEWAY_REASON,
        captures_after=timedelta() if succeeds else None,
        answers_after_s=FOREVER_S if timeout < configured.timeout_rate else configured.latency_ms / 1000,
    )


BehaviourOf = Callable[[str, Method], SandboxBehaviour | None]


class SandboxGateway:
    """One in-process gateway, whose outcomes are in the book. `behaviour_of`: its configured behaviour by method."""

    def __init__(
        self,
        gateway_id: str,
        book: SandboxBook,
        clock: Clock,
        behaviour_of: BehaviourOf = lambda *_: None,
        seed: str = "0",
    ) -> None:
        self._gateway_id = gateway_id
        self._book = book
        self._clock = clock
        self.trouble: str | None = None
        self._behaviour_of = behaviour_of
        self._seed = seed

    async def charge(self, order: ChargeOrder) -> Verdict:
        """Write the outcome into the book, then answer."""
        now = self._clock.now()
        number = order.reference.attempt_number
        configured = self._behaviour_of(self._gateway_id, method_of(order.instrument))
        if configured is not None and configured.is_out(now):
            return OUT
        acts = behaviour(order.instrument.vpa if isinstance(order.instrument, Upi) else None, number) or APPROVE
        if acts is APPROVE and configured is not None:
            acts = drawn(configured, self._seed, order.idempotency_key, self._gateway_id, number)
        if not order.may_send():
            return NOT_SENT_LEASE
        transaction_ref = f"{self._gateway_id}_{order.reference.payment_id.replace('-', '')}_{number}"
        lines = []
        if acts.reason is not None:
            lines.append(self._line(order, BookStatus.DECLINED, transaction_ref, acts.reason, now))
        if acts.captures_after is not None:
            lines.append(self._line(order, BookStatus.CAPTURED, transaction_ref, None, now + acts.captures_after))
        self._book.write(*lines)
        if acts.answers_after_s:
            await self._clock.sleep(acts.answers_after_s)
        if acts.reason is not None:
            return declined(acts.reason, DECLINE_STEP)
        return Captured(transaction_ref, order.amount_minor, order.currency)

    async def enquire(self, reference: Reference) -> Finding:
        """Find the attempt's outcome in the book."""
        line = self._book.find(self._gateway_id, reference.payment_id, reference.attempt_number, self._clock.now())
        if line is None:
            return Undecided(Pending.ABSENT)
        if line.status is BookStatus.CAPTURED:
            return Captured(line.transaction_ref, line.amount_minor, line.currency)
        if line.status is BookStatus.REVERSED:
            return Undecided(Pending.RETURNED, "REFUNDED")
        return _definitive(declined(line.reason or "", DECLINE_STEP))

    async def capture(self, transaction_ref: str, amount_minor: int, currency: str) -> None:
        """Do nothing: this gateway captures as it charges, and never answers that it has only authorised."""

    async def reverse(self, transaction_ref: str, amount_minor: int, key: str) -> Reversal:
        """Refund the whole charge, the only amount pgw asks for."""
        line = self._book.reverse(transaction_ref, key, self._clock.now())
        if line is None or line.amount_minor != amount_minor:
            return ReversalRefused("NOTHING_TO_REVERSE")
        return Reversed(f"{transaction_ref}_back")

    async def close(self) -> None:
        """Do nothing: there is no connection."""

    def _line(
        self, order: ChargeOrder, status: BookStatus, transaction_ref: str, reason: str | None, at: datetime
    ) -> BookLine:
        return BookLine(
            payment_id=order.reference.payment_id,
            attempt_number=order.reference.attempt_number,
            gateway_id=self._gateway_id,
            amount_minor=order.amount_minor,
            currency=order.currency,
            status=status,
            transaction_ref=transaction_ref,
            reason=reason,
            effective_at=at,
        )


def _definitive(answer: Decline | Unknown) -> Finding:
    return Undecided(Pending.FAILED, answer.error_code) if isinstance(answer, Unknown) else answer
