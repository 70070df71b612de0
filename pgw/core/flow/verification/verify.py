"""Attempts with an unknown end -> their end, by asking the gateway; never by charging, never by time."""

import asyncio
import logging

from pgw.core.errors import PgwError
from pgw.core.events import Corrects
from pgw.core.flow.verification.enquiries import enquire, round_of, within_s
from pgw.core.ids import uuid7
from pgw.core.ledger.due import Due, answers_of, due
from pgw.core.ledger.payment_reads import decision_of
from pgw.core.ledger.verifications import CLAIM, LEASE_EXPIRED, RECORD, SETTLE, WIN
from pgw.core.payment.outcome import Blame, Captured, Decline
from pgw.core.payment.payment import AttemptStatus, Status
from pgw.core.ports import Dependencies, Reference
from pgw.core.verification.enquiry import (
    CHECK_LEASE,
    Authorized,
    GaveUp,
    KnownAttempt,
    Pending,
    Undecided,
    Unfit,
    ending_of,
    judge,
    next_check_at,
    result_of,
)
from pgw.core.verification.late_capture import monitor_of
from pgw.core.writes.attempts import Ended, Item, subject_of
from pgw.core.writes.verification import settling

log = logging.getLogger(__name__)

PURPOSE = "verify"

Answered = Captured | Unfit | Decline | Undecided


async def verify_due(deps: Dependencies) -> int:
    """Ask about every attempt that is due; return how many were claimed. Many workers may do this at once."""
    return await round_of(deps, PURPOSE, due, lambda each: _check(deps, each))


async def _check(deps: Dependencies, each: Due) -> bool:
    """Claim, ask, write. An attempt whose check cannot be written stays due."""
    try:
        claimed_at = deps.clock.now()
        claimed_until = claimed_at + CHECK_LEASE
        owned_until = deps.clock.elapsed() + CHECK_LEASE.total_seconds()
        claim: Item = {
            "payment_id": each.payment_id,
            "attempt_number": each.attempt_number,
            "gateway_id": each.gateway_id,
            "attempts_made": each.attempts_made,
            "due_at": each.due_at,
            "claimed_at": claimed_at,
            "claimed_until": claimed_until,
        }
        if not await deps.ledger.commit(CLAIM, claim):
            return False
        finding = await enquire(deps, each.gateway_id, Reference(each.payment_id, each.attempt_number))
        if isinstance(finding, Authorized):
            await _write(deps, each, await _capture(deps, each, finding, owned_until), claim)
        else:
            await _write(deps, each, finding, claim)
    except PgwError as fault:
        log.warning("payment %s attempt %d: check not written: %s", each.payment_id, each.attempt_number, fault)
    return True


async def _capture(deps: Dependencies, each: Due, found: Authorized, owned_until: float) -> Answered:
    """Take the authorised money once, if this attempt is or becomes the payment's winner; then ask what came of it."""
    if (found.amount_minor, found.currency) != (each.amount_minor, each.currency):
        return Unfit(found.transaction_ref)
    if not await deps.ledger.commit(WIN, {"payment_id": each.payment_id, "attempt_number": each.attempt_number}):
        return Undecided(Pending.STILL_PENDING, "NOT_THE_WINNER")
    timeout_s = within_s(deps)
    if deps.clock.elapsed() + timeout_s > owned_until:
        return Undecided(Pending.STILL_PENDING, "LEASE_EXPIRED")
    gateway = deps.gateways[each.gateway_id]
    try:
        async with asyncio.timeout(timeout_s):
            await gateway.capture(found.transaction_ref, found.amount_minor, found.currency)
    except TimeoutError:
        return Undecided(Pending.STILL_PENDING, "CAPTURE_TIMEOUT")
    except Exception as fault:
        log.exception("%s: capture raised %s", each.gateway_id, type(fault).__name__)
    finding = await enquire(deps, each.gateway_id, Reference(each.payment_id, each.attempt_number))
    return Undecided(Pending.STILL_PENDING, "AUTHORIZED") if isinstance(finding, Authorized) else finding


async def _write(deps: Dependencies, each: Due, finding: Answered, claim: Item) -> None:
    now = deps.clock.now()
    check: Item = {
        "check_number": each.checks_made + 1,
        "checked_at": now,
        "result": result_of(finding),
        "error_code": finding.error_code if isinstance(finding, Undecided) else None,
    }
    is_absent = isinstance(finding, Undecided) and finding.result is Pending.ABSENT
    named = each.payment_id, each.attempt_number
    earlier = await deps.ledger.read(answers_of, *named) if is_absent else ()
    conclusion = judge(finding, _known(each), earlier, now)
    if isinstance(conclusion, Undecided):
        at_customer = each.status == AttemptStatus.REQUIRES_ACTION
        again = next_check_at(each.checks_made + 1, now, deps.rng, at_customer=at_customer)
        await deps.ledger.commit(RECORD, {**claim, **check, "next_check_at": again})
        return
    stored = await deps.ledger.read(decision_of, each.payment_id)
    assert stored is not None, "a payment is opened together with its decision"
    settlement = ending_of(conclusion, each.amount_minor, each.currency)
    item = settling(
        subject_of(each.payment_id, stored[0]),
        Ended(
            number=each.attempt_number,
            gateway_id=each.gateway_id,
            end=settlement.end,
            at=now,
            latency_ms=each.latency_ms,
            watch=monitor_of(settlement.end, each.started_at, now, deps.rng),
        ),
        settlement,
        each.attempts_made,
        round((now - each.created_at).total_seconds() * 1000),
        {**check, "error_code": check["error_code"] or settlement.end.error_code},
        _published(each),
        (uuid7(now, deps.rng), uuid7(now, deps.rng)),
    )
    if await deps.ledger.commit(SETTLE, item) and settlement.finish.status is Status.MANUAL_REVIEW:
        why = "no answer decided its end" if isinstance(conclusion, GaveUp) else "its money is not what was asked for"
        log.critical("payment %s at %s waits for manual review: %s", each.payment_id, each.gateway_id, why)


def _known(each: Due) -> KnownAttempt:
    return KnownAttempt(
        started_at=each.started_at,
        ended_at=each.ended_at or each.due_at,
        at_customer=each.status == AttemptStatus.REQUIRES_ACTION,
        transaction_ref=each.transaction_ref,
        blame=Blame(each.blame or Blame.NONE),
    )


def _published(each: Due) -> Corrects | None:
    """Return the attempt's end as published; one that only its expired lease ended was never published."""
    if each.status == AttemptStatus.SENDING or each.error_code == LEASE_EXPIRED or each.ended_at is None:
        return None
    return Corrects(each.status, each.blame or Blame.NONE, each.error_code, each.ended_at)
