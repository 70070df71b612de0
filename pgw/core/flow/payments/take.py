"""PaymentRequest, key -> Payment: open, attempt, fail over, close; every attempt durable before its call."""

import asyncio
import logging
from datetime import datetime, timedelta

from msgspec import Struct

from pgw.core.breakers.breaker import CallOutcome, call_outcome_of
from pgw.core.errors import PgwError
from pgw.core.flow.payments.attempt import attempt
from pgw.core.flow.payments.next_gateway import (
    SHORTEST_ATTEMPT_MS,
    NextGateway,
    first_gateway,
    next_gateway,
    timeout_ms,
)
from pgw.core.flow.payments.replay import Taken, paused, replay, replay_or_refuse
from pgw.core.ids import uuid7
from pgw.core.ledger.engine.writer import LedgerUnavailable, WriteRefused
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
from pgw.core.ports import Dependencies
from pgw.core.routing.candidates import missing_fields, refusal
from pgw.core.routing.context import make_context
from pgw.core.routing.plan import Plan, seed_of
from pgw.core.verification.enquiry import next_check_at
from pgw.core.verification.late_capture import monitor_of
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
"""The answer when the ledger did not confirm a TURN or a CLOSE: verification finds out what holds."""

NOT_SENT_LEDGER = NotSent("NOT_SENT_LEDGER", Blame.NONE)
"""The ledger confirmed the announcement too late: the gateway was never called."""


async def take(deps: Dependencies, request: PaymentRequest, key: str) -> Taken:
    """Take one payment to its answer; run it in a task that is never cancelled.

    Raises:
        PgwError: nothing was charged for this request: a refusal, a key in use or reused, or an unconfirmed open.
    """
    snapshot = deps.snapshot()
    now = deps.clock.now()
    payment_id = uuid7(now, deps.rng)
    fingerprint = digest(request, deps.ledger_id)
    if snapshot.paused is not None and now < snapshot.paused.expires_at:
        return await replay_or_refuse(deps, request, key, fingerprint, paused(snapshot.paused, now))
    context = make_context(request, now, snapshot.banks)
    plan, gateway = await first_gateway(deps, context, seed_of(payment_id), now)
    if gateway is None:
        missing = missing_fields(context, snapshot.gateways, plan.excluded)
        return await replay_or_refuse(deps, request, key, fingerprint, refusal(plan.excluded, missing))
    flow = _PaymentFlow(deps, payment_id, key, request, plan, now)
    first = flow.announce(gateway)
    item = opening(payment_id, key, fingerprint, request, plan, first.attempt, now)
    try:
        won = await deps.ledger.commit(OPEN, item)
        existing = None if won else await deps.ledger.read(by_key, request.merchant_id, key)
    except PgwError as fault:
        deps.circuit.record(gateway.permit, CallOutcome.NOTHING, 0)
        flow.abandon_if_written(fault, first)
        raise
    if not won and (existing is None or existing.payment.payment_id != payment_id):
        deps.circuit.record(gateway.permit, CallOutcome.NOTHING, 0)
        return replay(deps, existing, fingerprint)
    deps.circuit.deposit(gateway.permit.key)
    return Taken(await flow.run(first), replayed=False)


class _LeasedAttempt(Struct, frozen=True):
    """An announced attempt, its gateway, and on the clock's `elapsed` the end of its lease."""

    attempt: Announced
    gateway: NextGateway
    until: float


class _PaymentFlow:
    """One payment under way; the ledger's rows are its state, this object only remembers what it wrote."""

    def __init__(
        self, deps: Dependencies, payment_id: str, key: str, request: PaymentRequest, plan: Plan, began_at: datetime
    ) -> None:
        self._deps = deps
        self._payment_id = payment_id
        self._key = key
        self._request = request
        self._plan = plan
        self._reason = plan.reason_summary
        self._subject: Subject = subject_of(payment_id, plan)
        self._began = deps.clock.elapsed()
        self._began_at = began_at
        self._only_not_sent = True
        self._made = 0

    async def run(self, leased: _LeasedAttempt) -> Payment:
        """Call, read the verdict, fail over or close; the chain is as long as policy, plan and budgets allow."""
        while True:
            called = self._deps.clock.elapsed()
            verdict = await attempt(
                self._deps, leased.attempt, leased.until, self._payment_id, self._key, self._request
            )
            self._made += 1
            ended = self._ended(leased.attempt, verdict, called)
            self._deps.circuit.record(leased.gateway.permit, call_outcome_of(ended.end), ended.latency_ms or 0)
            self._only_not_sent = self._only_not_sent and isinstance(verdict, NotSent)
            may_try = isinstance(verdict, NotSent | GatewayDecline) and self._made < self._plan.policy.attempts_allowed
            gateway = await self._next_after(leased.gateway) if may_try else None
            step = next_step(verdict, may_continue=isinstance(gateway, NextGateway), only_not_sent=self._only_not_sent)
            if gateway is UNCONFIRMED:
                return self._unconfirmed(ended)
            if isinstance(step, Finish) or not isinstance(gateway, NextGateway):
                assert isinstance(step, Finish), "a chain that has no next gateway is at its end"
                return await self._close(ended, step, verdict, leased.until)
            following = await self._fail_over(ended, step, gateway)
            if following is None:
                return await self._close_untried(ended, step.cause)
            if isinstance(following, Payment):
                return following
            leased = following

    async def _next_after(self, gateway: NextGateway) -> NextGateway | Finish | None:
        """Find the next gateway that may be called and write those skipped. A finish: the ledger did not confirm."""
        if gateway.rank + 1 == len(gateway.plan.ranked) or not self._deps.circuit.withdraw(gateway.permit.key):
            return None
        search = await next_gateway(self._deps, gateway, self._budget_left_ms())
        outcome: NextGateway | Finish | None = search.gateway
        try:
            for skipped in search.skipped:
                await self._deps.ledger.commit(SKIP, skipping(self._payment_id, skipped, self._deps.clock.now()))
        except (LedgerUnavailable, WriteRefused):
            outcome = UNCONFIRMED
        # Permit and ledger took time: what is left must still do for an attempt.
        if outcome is search.gateway and self._budget_left_ms() < SHORTEST_ATTEMPT_MS:
            outcome = None
        if search.gateway is not None and outcome is not search.gateway:
            self._deps.circuit.record(search.gateway.permit, CallOutcome.NOTHING, 0)
        return outcome

    def announce(self, gateway: NextGateway, fallback_reason: str | None = None) -> _LeasedAttempt:
        """Lay out an attempt: its timeout is the gateway's, or what the budget leaves of it."""
        announced = Announced(
            number=gateway.number,
            gateway_id=gateway.gateway_id,
            started_at=self._deps.clock.now(),
            timeout=timedelta(milliseconds=min(timeout_ms(self._deps, gateway.gateway_id), self._budget_left_ms())),
            fallback_reason=fallback_reason,
            breaker_state=gateway.permit.state,
        )
        lease = announced.timeout + SENDING_MARGIN
        return _LeasedAttempt(announced, gateway, self._deps.clock.elapsed() + lease.total_seconds())

    def abandon_if_written(self, fault: PgwError, leased: _LeasedAttempt) -> None:
        """End an announcement that is confirmed too late as not sent, which it was."""
        if isinstance(fault, LedgerUnavailable) and fault.late is not None:
            self._deps.spawn(self._abandon(fault.late, leased))

    def _budget_left_ms(self) -> int:
        return self._plan.policy.latency_budget_ms - self._spent_ms()

    def _spent_ms(self) -> int:
        return round((self._deps.clock.elapsed() - self._began) * 1000)

    def _ended(self, announced: Announced, verdict: Verdict, called: float) -> Ended:
        end = attempt_end(verdict)
        now = self._deps.clock.now()
        at_customer = end.status is AttemptStatus.REQUIRES_ACTION
        open_end = at_customer or end.status is AttemptStatus.TIMEOUT
        return Ended(
            number=announced.number,
            gateway_id=announced.gateway_id,
            end=end,
            at=now,
            latency_ms=round((self._deps.clock.elapsed() - called) * 1000),
            next_check_at=next_check_at(0, now, self._deps.rng, at_customer=at_customer) if open_end else None,
            watch=monitor_of(end, announced.started_at, now, self._deps.rng),
        )

    async def _fail_over(self, ended: Ended, step: TryNext, gateway: NextGateway) -> _LeasedAttempt | Payment | None:
        """Announce the next attempt. None: a verifier has the payment, nothing may follow. A payment: unconfirmed."""
        following = self.announce(gateway, step.cause.error_code)
        replanned = gateway.plan if gateway.plan is not self._plan else None
        item = turning(self._subject, ended, following.attempt, replanned, self._new_id())
        try:
            # A refused announcement may have been written already by an earlier try, whose answer was lost.
            if await self._deps.ledger.commit(TURN, item) or await self._announced_by_us(gateway.number):
                self._plan = gateway.plan
                return following
            unconfirmed = None
        except (LedgerUnavailable, WriteRefused) as fault:
            self.abandon_if_written(fault, following)
            unconfirmed = self._unconfirmed(ended)
        self._deps.circuit.record(gateway.permit, CallOutcome.NOTHING, 0)
        return unconfirmed

    async def _close_untried(self, ended: Ended, cause: NotSent | GatewayDecline) -> Payment:
        """End the payment with an attempt that another might have followed."""
        finish = next_step(cause, may_continue=False, only_not_sent=self._only_not_sent)
        assert isinstance(finish, Finish), "a chain that may not continue is at its end"
        return await self._close(ended, finish, cause, None)

    async def _close(self, ended: Ended, finish: Finish, verdict: Verdict, leased_until: float | None) -> Payment:
        """Write the end, and answer what the ledger confirmed.

        `leased_until` is the end of the attempt's lease, None where it may be a verifier's: the attempt's end may have
        come after the payment's, which then holds.
        """
        next_action = verdict.next_action if isinstance(verdict, ActionRequired) else None
        latency_ms = self._spent_ms()
        ids = (self._new_id(), self._new_id())
        item = closing(self._subject, ended, finish, self._made, latency_ms, next_action, ids)
        try:
            won = await self._deps.ledger.commit(CLOSE, item)
            if won and leased_until is not None and self._deps.clock.elapsed() <= leased_until:
                return self._response(finish, ended, verdict, latency_ms)
            existing = await self._deps.ledger.read(by_id, self._payment_id)
        except (LedgerUnavailable, WriteRefused):
            return self._unconfirmed(ended)
        assert existing is not None, "a payment that was opened is in the ledger"
        return existing.as_of(self._deps.clock.now())

    async def _abandon(self, late: asyncio.Future[bool], leased: _LeasedAttempt) -> None:
        try:
            if await late or await self._announced_by_us(leased.attempt.number):
                self._made += 1
                ended = self._ended(leased.attempt, NOT_SENT_LEDGER, self._deps.clock.elapsed())
                await self._close_untried(ended, NOT_SENT_LEDGER)
        except PgwError as fault:
            log.warning("payment %s: announced but not called, left to verification: %s", self._payment_id, fault)

    async def _announced_by_us(self, number: int) -> bool:
        """Whether a refused announcement was already written by an earlier try."""
        rows = await self._deps.ledger.read(attempts_of, self._payment_id)
        return bool(rows) and (rows[-1].attempt_number, rows[-1].status) == (number, AttemptStatus.SENDING)

    def _new_id(self) -> str:
        return uuid7(self._deps.clock.now(), self._deps.rng)

    def _unconfirmed(self, ended: Ended) -> Payment:
        return self._response(UNCONFIRMED, ended, None, self._spent_ms())

    def _response(self, finish: Finish, ended: Ended, verdict: Verdict | None, latency_ms: int) -> Payment:
        """Build the response from what was just written, without reading it back."""
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
