"""What happened to a payment -> the items the ledger writes, and the events others learn it from."""

import hashlib
from datetime import datetime, timedelta
from typing import Any

import msgspec
from msgspec import Struct

from pgw.core.breakers.breaker import State
from pgw.core.events import Corrects, Event
from pgw.core.money.transfer import Transfer, capture
from pgw.core.payment.outcome import AttemptEnd, Finish
from pgw.core.payment.payment import NextAction, PaymentRequest, Status, masked
from pgw.core.routing.plan import Plan
from pgw.core.verification.late_capture import LateCaptureMonitor

SENDING_MARGIN = timedelta(seconds=2)
"""What a lease has beyond the attempt's timeout: the commit that announced it, and a slow process."""

Item = dict[str, Any]


class Subject(Struct, frozen=True, kw_only=True):
    """The facts of a payment that each of its events repeats."""

    payment_id: str
    payment_method: str
    issuing_bank: str
    size_band: str
    merchant_id: str
    amount_minor: int
    currency: str
    experiment_id: str | None
    variant: str | None


class Announced(Struct, frozen=True):
    """One attempt about to be called: written before the call, owned until `lease_until`."""

    number: int
    gateway_id: str
    started_at: datetime
    timeout: timedelta
    fallback_reason: str | None = None
    breaker_state: State = State.CLOSED

    @property
    def lease_until(self) -> datetime:
        """The time from which a verifier may take the attempt over."""
        return self.started_at + self.timeout + SENDING_MARGIN


class Skipped(Struct, frozen=True):
    """A skipped gateway of the plan: it has a row, but was never called."""

    number: int
    gateway_id: str
    error_code: str
    breaker_state: State


class Ended(Struct, frozen=True):
    """One attempt's end: when, after how many milliseconds; when to enquire if it is open, how it is watched if not."""

    number: int
    gateway_id: str
    end: AttemptEnd
    at: datetime
    latency_ms: int | None
    next_check_at: datetime | None = None
    watch: LateCaptureMonitor | None = None


def digest(request: PaymentRequest, ledger_id: str) -> str:
    """Fingerprint a request's decoded values, keyed by the ledger: the same body is known without keeping it."""
    document = msgspec.json.encode(request, order="deterministic")
    return hashlib.blake2b(document, key=ledger_id.encode(), digest_size=16).hexdigest()


def subject_of(payment_id: str, plan: Plan) -> Subject:
    """Collect what a payment's events repeat."""
    context, arm = plan.context, plan.experiment
    return Subject(
        payment_id=payment_id,
        payment_method=context.payment_method,
        issuing_bank=context.issuing_bank,
        size_band=context.size_band,
        merchant_id=context.merchant_id,
        amount_minor=context.amount_minor,
        currency=context.currency,
        experiment_id=arm.experiment_id if arm else None,
        variant=arm.variant if arm else None,
    )


def event_of(
    kind: str,
    event_id: str,
    subject: Subject,
    ended: Ended,
    status: str,
    latency_ms: int | None,
    corrects: Corrects | None = None,
) -> Event:
    """Write one event; `status` is the attempt's for `payment.attempted`, else the payment's."""
    return Event(
        event_id=event_id,
        type=kind,
        attempt_number=ended.number,
        gateway_id=ended.gateway_id,
        status=status,
        blame=ended.end.blame,
        error_code=ended.end.error_code,
        latency_ms=latency_ms,
        occurred_at=ended.at,
        corrects=corrects,
        **msgspec.structs.asdict(subject),
    )


def opening(
    payment_id: str,
    key: str,
    fingerprint: str,
    request: PaymentRequest,
    plan: Plan,
    first: Announced,
    created_at: datetime,
) -> Item:
    """Claim the key, keep the plan, announce the first attempt."""
    return {
        "payment_id": payment_id,
        "merchant_id": request.merchant_id,
        "idempotency_key": key,
        "request_digest": fingerprint,
        "customer_id": request.customer_id,
        "merchant_reference": request.merchant_reference,
        "amount_minor": request.amount_minor,
        "currency": request.currency,
        "payment_method": request.payment_method,
        "issuing_bank": plan.context.issuing_bank,
        "size_band": plan.context.size_band,
        "instrument": masked(request.instrument),
        "routing_strategy": plan.strategy,
        "routing_reason": plan.reason_summary,
        "experiment_id": plan.experiment.experiment_id if plan.experiment else None,
        "variant": plan.experiment.variant if plan.experiment else None,
        "metadata": request.metadata,
        "created_at": created_at,
        "plan": plan,
        **_announced(first),
    }


def _announced(attempt: Announced) -> Item:
    return {
        "attempt_number": attempt.number,
        "gateway_id": attempt.gateway_id,
        "circuit_breaker_state": attempt.breaker_state,
        "fallback_reason": attempt.fallback_reason,
        "started_at": attempt.started_at,
        "next_check_at": attempt.lease_until,
    }


def ended_members(payment_id: str, ended: Ended, event: Event) -> Item:
    """Lay out an attempt's end, and the watch that begins with it."""
    watch = ended.watch
    return {
        "payment_id": payment_id,
        "end_number": ended.number,
        "end_status": ended.end.status,
        "end_error_code": ended.end.error_code,
        "end_blame": ended.end.blame,
        "end_latency_ms": ended.latency_ms,
        "end_transaction_ref": ended.end.transaction_ref,
        "end_next_check_at": ended.next_check_at,
        "ended_at": ended.at,
        "event": event,
        "watch_cause": watch.cause if watch else None,
        "watch_gateway_id": ended.gateway_id,
        "watch_until": watch.until if watch else None,
        "watch_next_check_at": watch.next_check_at if watch else None,
    }


def turning(subject: Subject, ended: Ended, following: Announced, replanned: Plan | None, event_id: str) -> Item:
    """End attempt k and announce the next; `replanned` replaces the plan where a gateway turned out to be denied."""
    event = event_of("payment.attempted", event_id, subject, ended, ended.end.status, ended.latency_ms)
    return {**ended_members(subject.payment_id, ended, event), **_announced(following), "plan": replanned}


def skipping(payment_id: str, skipped: Skipped, at: datetime) -> Item:
    """Write down a gateway of the plan that was not called."""
    return {
        "payment_id": payment_id,
        "attempt_number": skipped.number,
        "gateway_id": skipped.gateway_id,
        "error_code": skipped.error_code,
        "circuit_breaker_state": skipped.breaker_state,
        "started_at": at,
    }


def closing(
    subject: Subject,
    ended: Ended,
    finish: Finish,
    attempts_made: int,
    latency_ms: int,
    next_action: NextAction | None,
    event_ids: tuple[str, str],
) -> Item:
    """End the last attempt and set the payment's status; a payment that reached its end also says so in an event."""
    event = event_of("payment.attempted", event_ids[0], subject, ended, ended.end.status, ended.latency_ms)
    return {
        **ended_members(subject.payment_id, ended, event),
        **settled_members(subject, ended, finish, attempts_made, latency_ms, event_ids[1]),
        **booking(_money_of(subject, ended, finish), event_ids[1]),
        "next_action": next_action,
    }


def _money_of(subject: Subject, ended: Ended, finish: Finish) -> Transfer | None:
    if finish.status is not Status.SUCCESS:
        return None
    return capture(ended.gateway_id, subject.merchant_id, subject.amount_minor, subject.currency)


def booking(transfer: Transfer | None, transfer_id: str) -> Item:
    """Lay out a transfer, under the id of the event that reports its payment's end; all empty where no money moved."""
    return {
        "transfer_id": transfer_id if transfer else None,
        "transfer_kind": transfer.kind if transfer else None,
        "debit_account": transfer.debit_account if transfer else None,
        "credit_account": transfer.credit_account if transfer else None,
        "transfer_amount_minor": transfer.amount_minor if transfer else None,
        "transfer_currency": transfer.currency if transfer else None,
    }


def settled_members(
    subject: Subject, ended: Ended, finish: Finish, attempts_made: int, latency_ms: int, event_id: str
) -> Item:
    """Lay out what becomes of the payment."""
    completed = None
    if finish.status.is_final:
        completed = event_of("payment.completed", event_id, subject, ended, finish.status, latency_ms)
    return {
        "payment_status": finish.status,
        "failure_code": finish.failure_code,
        "gateway_used": gateway_used(ended, finish),
        "attempts_made": attempts_made,
        "payment_latency_ms": latency_ms,
        "completed": completed,
    }


def gateway_used(ended: Ended, finish: Finish) -> str | None:
    """Name the gateway that has the payment; none when none was reached."""
    unreached = finish.status is Status.FAILURE and (ended.end.error_code or "").startswith("NOT_SENT_")
    return None if unreached else ended.gateway_id
