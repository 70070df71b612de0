"""Attempts nobody knows the end of -> their end, by asking the gateway; never by charging, never by time."""

import asyncio
import logging

from pgw.core.enquiry import (
    CHECK_LEASE,
    Authorized,
    Finding,
    Pending,
    Settled,
    Undecided,
    next_check_at,
    result_word,
    settle,
)
from pgw.core.errors import PgwError
from pgw.core.facts import Corrects, Ended, Item, settling, subject_of
from pgw.core.ids import uuid7
from pgw.core.ledger.payments_seen import decision_of
from pgw.core.ledger.verifications import CLAIM, LEASE_EXPIRED, RECORD, SETTLE, WIN, Due, due
from pgw.core.outcome import Blame, Captured, attempt_end
from pgw.core.payment import AttemptStatus
from pgw.core.ports import Reference, World

log = logging.getLogger(__name__)

MAX_DUE = 200
"""Attempts looked at in one round."""

MAX_ENQUIRIES = 16
"""Enquiries under way at once: a gateway that just recovered must not be met by all the checks it caused."""


async def verify_due(world: World) -> int:
    """Ask about every attempt that is due; return how many were claimed. Many workers may do this at once."""
    found = await world.ledger.read(due, world.clock.now(), MAX_DUE)
    gate = asyncio.Semaphore(MAX_ENQUIRIES)

    async def one(each: Due) -> bool:
        async with gate:
            return await _check(world, each)

    return sum(await asyncio.gather(*(one(each) for each in found)))


async def _check(world: World, each: Due) -> bool:
    """Claim, ask, write. An attempt whose check cannot be written stays due."""
    try:
        claimed_at = world.clock.now()
        claimed_until = claimed_at + CHECK_LEASE
        owned_until = world.clock.elapsed() + CHECK_LEASE.total_seconds()
        claim: Item = {
            "payment_id": each.payment_id,
            "attempt_number": each.attempt_number,
            "gateway_id": each.gateway_id,
            "attempts_made": each.attempts_made,
            "due_at": each.due_at,
            "claimed_at": claimed_at,
            "claimed_until": claimed_until,
        }
        if not await world.ledger.commit(CLAIM, claim):
            return False
        finding = await _ask(world, each)
        if isinstance(finding, Authorized):
            finding = await _capture(world, each, finding, owned_until)
        await _write(world, each, finding, claim)
    except PgwError as fault:
        log.warning("payment %s attempt %d: check not written: %s", each.payment_id, each.attempt_number, fault)
    return True


async def _ask(world: World, each: Due) -> Finding:
    gateway = world.gateways.get(each.gateway_id)
    if gateway is None:
        return Undecided(Pending.UNREACHABLE, "NO_ADAPTER")
    try:
        async with asyncio.timeout(world.timeout_ms / 1000):
            return await gateway.enquire(Reference(each.payment_id, each.attempt_number))
    except TimeoutError:
        return Undecided(Pending.UNREACHABLE, "TIMEOUT")
    except Exception as fault:
        # An adapter's bug must not stop the check: it is asked again on schedule.
        log.exception("%s: enquire raised %s", each.gateway_id, type(fault).__name__)
        return Undecided(Pending.UNREACHABLE, "ADAPTER_FAULT")


async def _capture(world: World, each: Due, found: Authorized, owned_until: float) -> Settled | Undecided:
    """Take the authorised money once, if this attempt is or becomes the payment's winner; then ask what came of it."""
    if (found.amount_minor, found.currency) != (each.amount_minor, each.currency):
        # Never captured: as a capture of a wrong amount it would be for a person, and so is this.
        return Captured(found.transaction_ref, found.amount_minor, found.currency)
    if not await world.ledger.commit(WIN, {"payment_id": each.payment_id, "attempt_number": each.attempt_number}):
        return Undecided(Pending.STILL_PENDING, "NOT_THE_WINNER")
    timeout_s = world.timeout_ms / 1000
    if world.clock.elapsed() + timeout_s > owned_until:
        return Undecided(Pending.STILL_PENDING, "LEASE_EXPIRED")
    gateway = world.gateways[each.gateway_id]
    try:
        async with asyncio.timeout(timeout_s):
            await gateway.capture(found.transaction_ref, found.amount_minor, found.currency)
    except TimeoutError:
        return Undecided(Pending.STILL_PENDING, "CAPTURE_TIMEOUT")
    except Exception as fault:
        log.exception("%s: capture raised %s", each.gateway_id, type(fault).__name__)
    finding = await _ask(world, each)
    return Undecided(Pending.STILL_PENDING, "AUTHORIZED") if isinstance(finding, Authorized) else finding


async def _write(world: World, each: Due, finding: Settled | Undecided, claim: Item) -> None:
    now = world.clock.now()
    check: Item = {
        "check_number": each.checks_made + 1,
        "checked_at": now,
        "result": result_word(finding),
        "error_code": finding.error_code if isinstance(finding, Undecided) else None,
    }
    if isinstance(finding, Undecided):
        at_customer = each.status == AttemptStatus.REQUIRES_ACTION
        again = next_check_at(each.checks_made + 1, now, world.rng, at_customer=at_customer)
        await world.ledger.commit(RECORD, {**claim, **check, "next_check_at": again})
        return
    stored = await world.ledger.read(decision_of, each.payment_id)
    assert stored is not None, "a payment is opened together with its decision"
    settlement = settle(finding, each.amount_minor, each.currency)
    ended = Ended(each.attempt_number, each.gateway_id, settlement.end, now, each.latency_ms)
    item = settling(
        subject_of(each.payment_id, stored[0]),
        ended,
        settlement,
        each.attempts_made,
        round((now - each.created_at).total_seconds() * 1000),
        {**check, "error_code": attempt_end(finding).error_code},
        _told(each),
        (uuid7(now, world.rng), uuid7(now, world.rng)),
    )
    await world.ledger.commit(SETTLE, item)


def _told(each: Due) -> Corrects | None:
    """Return the attempt's end as its event told it; an attempt that nobody ended, but its lease, was never told."""
    if each.status == AttemptStatus.SENDING or each.error_code == LEASE_EXPIRED or each.ended_at is None:
        return None
    return Corrects(each.status, each.blame or Blame.NONE, each.error_code, each.ended_at)
