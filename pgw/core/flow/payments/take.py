"""PaymentRequest, key -> Payment: open, attempt, turn, close; every attempt durable before its call."""

import asyncio
import logging
from datetime import datetime, timedelta

from msgspec import Struct

from pgw.core.breakers.breaker import Sign, sign_of
from pgw.core.errors import PgwError
from pgw.core.flow.payments.attempt import attempt
from pgw.core.flow.payments.next_gateway import SHORTEST_ATTEMPT_MS, Hop, first_hop, next_hop, timeout_ms
from pgw.core.flow.payments.replay import Taken, paused, replay, replay_or_refuse
from pgw.core.ids import uuid7
from pgw.core.ledger.engine.writer import ItemRefused, LedgerUnavailable
from pgw.core.ledger.payment_reads import attempts_of, by_id, by_key
from pgw.core.ledger.payments import CLOSE, OPEN, SKIP, TURN
from pgw.core.payment.outcome import (
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
from pgw.core.payment.payment import AttemptStatus, Payment, PaymentRequest, Status
from pgw.core.ports import World
from pgw.core.routing.candidates import refusal
from pgw.core.routing.context import make_context
from pgw.core.routing.plan import Plan, seed_of
from pgw.core.verification.enquiry import next_check_at
from pgw.core.verification.late_capture import watch_of
from pgw.core.writes.attempts import (
    SENDING_MARGIN,
    Announced,
    Ended,
    Subject,
    closing,
    digest,
    gateway_used,
    opening,
    skipping,
    subject_of,
    turning,
)

log = logging.getLogger(__name__)

UNCONFIRMED = Finish(Status.PENDING_VERIFICATION)
"""What is answered when the ledger did not confirm a turn or a close: the truth is being found out."""

NOT_SENT_LEDGER = NotSent("NOT_SENT_LEDGER", Blame.NONE)
"""The ledger confirmed the announcement too late: the attempt was never called."""


async def take(world: World, request: PaymentRequest, key: str) -> Taken:
    """Walk one payment through its line; run it in a task nobody cancels.

    Raises:
        PgwError: nothing was charged for this request: a refusal, a key in use or reused, or an unconfirmed open.
    """
    snapshot = world.snapshot()
    now = world.clock.now()
    payment_id = uuid7(now, world.rng)
    fingerprint = digest(request, world.ledger_id)
    if snapshot.paused is not None and now < snapshot.paused.expires_at:
        return await replay_or_refuse(world, request, key, fingerprint, paused(snapshot.paused, now))
    context = make_context(request, now, snapshot.banks)
    plan, admission = await first_hop(world, context, seed_of(payment_id), now)
    if admission is None:
        return await replay_or_refuse(world, request, key, fingerprint, refusal(plan.excluded))
    hop = Hop(1, 0, plan, admission)
    walk = _Walk(world, payment_id, key, request, plan, now)
    first = walk.announce(hop)
    item = opening(payment_id, key, fingerprint, request, plan, first.attempt, now)
    try:
        won = await world.ledger.commit(OPEN, item)
        existing = None if won else await world.ledger.read(by_key, request.merchant_id, key)
    except PgwError as fault:
        world.circuit.record(admission, Sign.NOTHING, 0)
        walk.abandon_if_written(fault, first)
        raise
    if not won and (existing is None or existing.payment.payment_id != payment_id):
        world.circuit.record(admission, Sign.NOTHING, 0)
        return replay(world, existing, fingerprint)
    world.circuit.deposit(admission.key)
    return Taken(await walk.run(first), replayed=False)


class _Owned(Struct, frozen=True):
    """An announced attempt, its hop, and on the clock's `elapsed` the end of its lease."""

    attempt: Announced
    hop: Hop
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
        self._reason = plan.reason_summary
        self._subject: Subject = subject_of(payment_id, plan)
        self._began = world.clock.elapsed()
        self._began_at = began_at
        self._only_not_sent = True
        self._made = 0

    async def run(self, owned: _Owned) -> Payment:
        """Call, read the verdict, turn or close; the chain is as long as policy, plan and budgets allow."""
        while True:
            called = self._world.clock.elapsed()
            verdict = await attempt(self._world, owned.attempt, owned.until, self._payment_id, self._key, self._request)
            self._made += 1
            ended = self._ended(owned.attempt, verdict, called)
            self._world.circuit.record(owned.hop.admission, sign_of(ended.end), ended.latency_ms or 0)
            self._only_not_sent = self._only_not_sent and isinstance(verdict, NotSent)
            may_try = isinstance(verdict, NotSent | GatewayDecline) and self._made < self._plan.policy.attempts_allowed
            hop = await self._hop_after(owned.hop) if may_try else None
            step = next_step(verdict, may_continue=isinstance(hop, Hop), only_not_sent=self._only_not_sent)
            if hop is UNCONFIRMED:
                return self._shown(UNCONFIRMED, ended, None, self._spent_ms())
            if isinstance(step, Finish) or not isinstance(hop, Hop):
                assert isinstance(step, Finish), "a chain that has no next hop is at its end"
                return await self._close(ended, step, verdict, owned.until)
            following = await self._turn(ended, step, hop)
            if following is None:
                return await self._close_untried(ended, step.cause)
            if isinstance(following, Payment):
                return following
            owned = following

    async def _hop_after(self, hop: Hop) -> Hop | Finish | None:
        """Find the next gateway that may be called; those passed over are written down. A finish: not confirmed."""
        if hop.rank + 1 == len(hop.plan.ranked) or not self._world.circuit.withdraw(hop.admission.key):
            return None
        found = await next_hop(self._world, hop, self._budget_left_ms())
        outcome: Hop | Finish | None = found.hop
        try:
            for skipped in found.skipped:
                await self._world.ledger.commit(SKIP, skipping(self._payment_id, skipped, self._world.clock.now()))
        except (LedgerUnavailable, ItemRefused):
            outcome = UNCONFIRMED
        # Leave and ledger may have taken their time: what is left must still do for an attempt.
        if outcome is found.hop and self._budget_left_ms() < SHORTEST_ATTEMPT_MS:
            outcome = None
        if found.hop is not None and outcome is not found.hop:
            self._world.circuit.record(found.hop.admission, Sign.NOTHING, 0)
        return outcome

    def announce(self, hop: Hop, fallback_reason: str | None = None) -> _Owned:
        """Lay out an attempt: its time is the gateway's, or what the budget leaves of it."""
        announced = Announced(
            number=hop.number,
            gateway_id=hop.gateway_id,
            started_at=self._world.clock.now(),
            timeout=timedelta(milliseconds=min(timeout_ms(self._world, hop.gateway_id), self._budget_left_ms())),
            fallback_reason=fallback_reason,
            breaker_state=hop.admission.state,
        )
        held = announced.timeout + SENDING_MARGIN
        return _Owned(announced, hop, self._world.clock.elapsed() + held.total_seconds())

    def abandon_if_written(self, fault: PgwError, owned: _Owned) -> None:
        """An announcement that is confirmed too late is ended as not sent, which is the truth: nobody called."""
        if isinstance(fault, LedgerUnavailable) and fault.late is not None:
            self._world.spawn(self._abandon(fault.late, owned))

    def _budget_left_ms(self) -> int:
        return self._plan.policy.latency_budget_ms - self._spent_ms()

    def _spent_ms(self) -> int:
        return round((self._world.clock.elapsed() - self._began) * 1000)

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
            watch=watch_of(end, announced.started_at, now, self._world.rng),
        )

    async def _turn(self, ended: Ended, step: TryNext, hop: Hop) -> _Owned | Payment | None:
        """Announce the next attempt. None: a verifier has the payment, nothing may follow. A payment: unconfirmed."""
        following = self.announce(hop, step.cause.error_code)
        replanned = hop.plan if hop.plan is not self._plan else None
        item = turning(self._subject, ended, following.attempt, replanned, self._new_id())
        try:
            # A commit whose answer was lost is run again and loses to itself: the row it wrote is there.
            if await self._world.ledger.commit(TURN, item) or await self._announced_by_us(hop.number):
                self._plan = hop.plan
                return following
            unconfirmed = None
        except LedgerUnavailable as fault:
            self.abandon_if_written(fault, following)
            unconfirmed = self._shown(UNCONFIRMED, ended, None, self._spent_ms())
        except ItemRefused:
            unconfirmed = self._shown(UNCONFIRMED, ended, None, self._spent_ms())
        self._world.circuit.record(hop.admission, Sign.NOTHING, 0)
        return unconfirmed

    async def _close_untried(self, ended: Ended, cause: NotSent | GatewayDecline) -> Payment:
        """End the payment with an attempt that another might have followed."""
        finish = next_step(cause, may_continue=False, only_not_sent=self._only_not_sent)
        assert isinstance(finish, Finish), "a chain that may not continue is at its end"
        return await self._close(ended, finish, cause, None)

    async def _close(self, ended: Ended, finish: Finish, verdict: Verdict, owned_until: float | None) -> Payment:
        """Write the end. What is answered is what the ledger confirmed; an unconfirmed end is not an end.

        `owned_until` is the end of the attempt's lease, None where it may be a verifier's: the attempt's end may have
        come after the payment's, which then holds.
        """
        next_action = verdict.next_action if isinstance(verdict, ActionRequired) else None
        latency_ms = self._spent_ms()
        ids = (self._new_id(), self._new_id())
        item = closing(self._subject, ended, finish, self._made, latency_ms, next_action, ids)
        try:
            won = await self._world.ledger.commit(CLOSE, item)
            if won and owned_until is not None and self._world.clock.elapsed() <= owned_until:
                return self._shown(finish, ended, verdict, latency_ms)
            existing = await self._world.ledger.read(by_id, self._payment_id)
        except (LedgerUnavailable, ItemRefused):
            return self._shown(UNCONFIRMED, ended, None, self._spent_ms())
        assert existing is not None, "a payment that was opened is in the ledger"
        return existing.seen_at(self._world.clock.now())

    async def _abandon(self, late: asyncio.Future[bool], owned: _Owned) -> None:
        try:
            if await late or await self._announced_by_us(owned.attempt.number):
                self._made += 1
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

    def _shown(self, finish: Finish, ended: Ended, verdict: Verdict | None, latency_ms: int) -> Payment:
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
            routing_reason=self._reason,
            failure_code=finish.failure_code,
            attempts_made=self._made,
            latency_ms=latency_ms,
            experiment=plan.experiment,
            next_action=verdict.next_action if isinstance(verdict, ActionRequired) else None,
            metadata=request.metadata,
            created_at=self._began_at,
            updated_at=ended.at,
            version=2 if settled else 1,
        )
