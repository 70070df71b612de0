"""PaymentRequest, key -> Payment: open, attempt, turn, close; every attempt durable before its call."""

import asyncio
import logging
from datetime import datetime, timedelta

from msgspec import Struct

from pgw.core.candidates import refusal
from pgw.core.context import make_context
from pgw.core.enquiry import next_check_at
from pgw.core.errors import Code, PgwError
from pgw.core.facts import (
    SENDING_MARGIN,
    Announced,
    Ended,
    Subject,
    closing,
    digest,
    gateway_used,
    opening,
    subject_of,
    turning,
)
from pgw.core.flow.attempt import attempt
from pgw.core.ids import uuid7
from pgw.core.ledger.payments import CLOSE, OPEN, TURN
from pgw.core.ledger.payments_seen import Stored, attempts_of, by_id, by_key
from pgw.core.ledger.writer import ItemRefused, LedgerUnavailable
from pgw.core.outcome import (
    ActionRequired,
    Blame,
    Finish,
    GatewayDecline,
    NotSent,
    TryNext,
    Verdict,
    attempt_end,
    next_step,
)
from pgw.core.payment import AttemptStatus, Payment, PaymentRequest, Status
from pgw.core.plan import Plan, make_plan, seed_of
from pgw.core.ports import World

log = logging.getLogger(__name__)

SHORTEST_ATTEMPT_MS = 50
"""An attempt that cannot have this long is not begun: it could only end unknown."""

UNCONFIRMED = Finish(Status.PENDING_VERIFICATION)
"""What is answered when the ledger did not confirm a turn or a close: the truth is being found out."""

NOT_SENT_LEDGER = NotSent("NOT_SENT_LEDGER", Blame.NONE)
"""The ledger confirmed the announcement too late: the attempt was never called."""


class Taken(Struct, frozen=True):
    """The answer to a request: the payment, and whether it was there before."""

    payment: Payment
    replayed: bool


async def take(world: World, request: PaymentRequest, key: str) -> Taken:
    """Walk one payment through its line; run it in a task nobody cancels.

    Raises:
        PgwError: nothing was charged for this request: a refusal, a key in use or reused, or an unconfirmed open.
    """
    snapshot = world.snapshot()
    now = world.clock.now()
    payment_id = uuid7(now, world.rng)
    plan = make_plan(make_context(request, now, snapshot.banks), snapshot, seed_of(payment_id), now)
    fingerprint = digest(request, world.ledger_id)
    if not plan.ranked:
        existing = await world.ledger.read(by_key, request.merchant_id, key)
        if existing is None:
            raise refusal(plan.excluded)
        return _replay(world, existing, fingerprint)
    walk = _Walk(world, payment_id, key, request, plan, now)
    first = walk.announce(1)
    item = opening(payment_id, key, fingerprint, request, plan, first.attempt, now)
    try:
        won = await world.ledger.commit(OPEN, item)
    except LedgerUnavailable as fault:
        walk.abandon_if_written(fault, first)
        raise
    if not won:
        existing = await world.ledger.read(by_key, request.merchant_id, key)
        if existing is None or existing.payment.payment_id != payment_id:
            return _replay(world, existing, fingerprint)
    return Taken(await walk.run(first), replayed=False)


def _replay(world: World, existing: Stored | None, fingerprint: str) -> Taken:
    """Answer a key that has a payment with that payment as it is now; no gateway is called."""
    if existing is None:
        raise LedgerUnavailable("the ledger lost the row that refused this one: nothing was charged", written=False)
    if existing.request_digest != fingerprint:
        raise PgwError(
            Code.IDEMPOTENCY_KEY_REUSED,
            "this Idempotency-Key belongs to a payment with another body: use a new key for a new payment",
        )
    now = world.clock.now()
    if existing.in_flight(now):
        raise PgwError(
            Code.IDEMPOTENCY_KEY_IN_USE,
            "the first request with this Idempotency-Key is still at work: ask again, or GET the payment",
            retry_after_s=1,
        )
    return Taken(existing.seen_at(now), replayed=True)


class _Owned(Struct, frozen=True):
    """An announced attempt and, on the clock's `elapsed`, the end of its lease."""

    attempt: Announced
    until: float


class _Walk:
    """One payment on its way; the ledger's rows are its state, this object only remembers what it wrote."""

    def __init__(
        self, world: World, payment_id: str, key: str, request: PaymentRequest, plan: Plan, began_at: datetime
    ) -> None:
        self._world = world
        self._payment_id = payment_id
        self._key = key
        self._request = request
        self._plan = plan
        self._subject: Subject = subject_of(payment_id, plan)
        self._began = world.clock.elapsed()
        self._began_at = began_at
        self._only_not_sent = True

    async def run(self, owned: _Owned) -> Payment:
        """Call, read the verdict, turn or close; the chain is as long as policy, plan and budget allow."""
        while True:
            called = self._world.clock.elapsed()
            verdict = await attempt(self._world, owned.attempt, owned.until, self._payment_id, self._key, self._request)
            ended = self._ended(owned.attempt, verdict, called)
            self._only_not_sent = self._only_not_sent and isinstance(verdict, NotSent)
            step = next_step(
                verdict,
                may_continue=self._may_continue(owned.attempt.number),
                only_not_sent=self._only_not_sent,
            )
            if isinstance(step, Finish):
                return await self._close(ended, step, verdict)
            following = await self._turn(ended, step)
            if following is None:
                return await self._close_untried(ended, step.cause)
            if isinstance(following, Payment):
                return following
            owned = following

    def announce(self, number: int, fallback_reason: str | None = None) -> _Owned:
        """Lay out the next attempt: its time is the gateway's, or what the budget leaves of it."""
        gateway_id = self._plan.ranked[number - 1].gateway_id
        gateway = self._world.snapshot().gateway(gateway_id)
        timeout_ms = (gateway.timeout_ms if gateway else None) or self._world.timeout_ms
        announced = Announced(
            number=number,
            gateway_id=gateway_id,
            started_at=self._world.clock.now(),
            timeout=timedelta(milliseconds=min(timeout_ms, self._budget_left_ms())),
            fallback_reason=fallback_reason,
        )
        held = announced.timeout + SENDING_MARGIN
        return _Owned(announced, self._world.clock.elapsed() + held.total_seconds())

    def abandon_if_written(self, fault: LedgerUnavailable, owned: _Owned) -> None:
        """An announcement that is confirmed too late is ended as not sent, which is the truth: nobody called."""
        if fault.late is not None:
            self._world.spawn(self._abandon(fault.late, owned))

    def _budget_left_ms(self) -> int:
        return self._plan.policy.latency_budget_ms - self._spent_ms()

    def _spent_ms(self) -> int:
        return round((self._world.clock.elapsed() - self._began) * 1000)

    def _may_continue(self, number: int) -> bool:
        allowed = min(self._plan.policy.attempts_allowed, len(self._plan.ranked))
        return number < allowed and self._budget_left_ms() >= SHORTEST_ATTEMPT_MS

    def _ended(self, announced: Announced, verdict: Verdict, called: float) -> Ended:
        end = attempt_end(verdict)
        now = self._world.clock.now()
        at_customer = end.status is AttemptStatus.REQUIRES_ACTION
        open_end = at_customer or end.status is AttemptStatus.TIMEOUT
        return Ended(
            number=announced.number,
            gateway_id=announced.gateway_id,
            end=end,
            at=now,
            latency_ms=round((self._world.clock.elapsed() - called) * 1000),
            next_check_at=next_check_at(0, now, self._world.rng, at_customer=at_customer) if open_end else None,
        )

    async def _turn(self, ended: Ended, step: TryNext) -> _Owned | Payment | None:
        """Announce the next attempt. None: a verifier has the payment, nothing may follow. A payment: unconfirmed."""
        following = self.announce(ended.number + 1, step.cause.error_code)
        item = turning(self._subject, ended, following.attempt, self._new_id())
        try:
            if await self._world.ledger.commit(TURN, item):
                return following
            rows = await self._world.ledger.read(attempts_of, self._payment_id)
        except LedgerUnavailable as fault:
            self.abandon_if_written(fault, following)
            return self._shown(following.attempt.number, UNCONFIRMED, ended, None, self._spent_ms())
        except ItemRefused:
            return self._shown(ended.number, UNCONFIRMED, ended, None, self._spent_ms())
        # A commit whose answer was lost is run again and loses to itself: the row it wrote is there.
        return following if rows[-1].attempt_number == following.attempt.number else None

    async def _close_untried(self, ended: Ended, cause: NotSent | GatewayDecline) -> Payment:
        """End the payment with an attempt that another might have followed."""
        finish = next_step(cause, may_continue=False, only_not_sent=self._only_not_sent)
        assert isinstance(finish, Finish), "a chain that may not continue is at its end"
        return await self._close(ended, finish, cause)

    async def _close(self, ended: Ended, finish: Finish, verdict: Verdict) -> Payment:
        """Write the end. What is answered is what the ledger confirmed; an unconfirmed end is not an end."""
        next_action = verdict.next_action if isinstance(verdict, ActionRequired) else None
        latency_ms = self._spent_ms()
        item = closing(self._subject, ended, finish, latency_ms, next_action, (self._new_id(), self._new_id()))
        try:
            if await self._world.ledger.commit(CLOSE, item):
                return self._shown(ended.number, finish, ended, verdict, latency_ms)
            existing = await self._world.ledger.read(by_id, self._payment_id)
        except (LedgerUnavailable, ItemRefused):
            return self._shown(ended.number, UNCONFIRMED, ended, None, self._spent_ms())
        assert existing is not None, "a payment that was opened is in the ledger"
        return existing.seen_at(self._world.clock.now())

    async def _abandon(self, late: asyncio.Future[bool], owned: _Owned) -> None:
        try:
            if await late or await self._announced_by_us(owned.attempt.number):
                ended = self._ended(owned.attempt, NOT_SENT_LEDGER, self._world.clock.elapsed())
                await self._close_untried(ended, NOT_SENT_LEDGER)
        except PgwError as fault:
            log.warning("payment %s: announced but not called, left to verification: %s", self._payment_id, fault)

    async def _announced_by_us(self, number: int) -> bool:
        """Whether an announcement that lost had lost to itself: its commit had landed, and was run again."""
        rows = await self._world.ledger.read(attempts_of, self._payment_id)
        return bool(rows) and (rows[-1].attempt_number, rows[-1].status) == (number, AttemptStatus.SENDING)

    def _new_id(self) -> str:
        return uuid7(self._world.clock.now(), self._world.rng)

    def _shown(
        self, attempts_made: int, finish: Finish, ended: Ended, verdict: Verdict | None, latency_ms: int
    ) -> Payment:
        """Build the answer from what was just written, without reading it back."""
        request, plan = self._request, self._plan
        settled = verdict is not None
        return Payment(
            payment_id=self._payment_id,
            merchant_id=request.merchant_id,
            customer_id=request.customer_id,
            merchant_reference=request.merchant_reference,
            status=finish.status,
            amount_minor=request.amount_minor,
            currency=request.currency,
            payment_method=request.payment_method,
            gateway_used=gateway_used(ended, finish),
            transaction_ref=ended.end.transaction_ref if settled else None,
            routing_strategy=plan.strategy,
            routing_reason=plan.reason_summary,
            failure_code=finish.failure_code,
            attempts_made=attempts_made,
            latency_ms=latency_ms,
            experiment=plan.experiment,
            next_action=verdict.next_action if isinstance(verdict, ActionRequired) else None,
            metadata=request.metadata,
            created_at=self._began_at,
            updated_at=ended.at,
            version=2 if settled else 1,
        )
