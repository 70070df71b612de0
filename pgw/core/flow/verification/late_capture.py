"""Attempts that must not capture -> polled until their gateway's final status; money one moved is reversed, once."""

import logging
from datetime import datetime

from pgw.core.errors import PgwError
from pgw.core.flow.verification.enquiries import bounded, enquire, round_of, within_s
from pgw.core.ids import uuid7
from pgw.core.ledger.due import DueMonitor, due_monitors
from pgw.core.ledger.late_captures import BOOK_LATE_CAPTURE, CLAIM_MONITOR, MOVE_MONITOR, REVERSE
from pgw.core.ledger.payment_reads import decision_of
from pgw.core.payment.outcome import Captured
from pgw.core.ports import Dependencies, Reference
from pgw.core.verification.enquiry import (
    CHECK_LEASE,
    Finding,
    Pending,
    Reversal,
    ReversalRefused,
    Reversed,
    Undecided,
    next_check_at,
    result_of,
)
from pgw.core.verification.late_capture import MonitorState, Reverse, Wait, judge_late, may_try_again, next_poll_at
from pgw.core.writes.attempts import Item, subject_of
from pgw.core.writes.verification import late_capture, reversing

log = logging.getLogger(__name__)

PURPOSE = "watch"


async def monitor_due(deps: Dependencies) -> int:
    """Look at every watch that is due; return how many were claimed. Many workers may do this at once."""
    return await round_of(deps, PURPOSE, due_monitors, lambda each: _check(deps, each))


async def _check(deps: Dependencies, each: DueMonitor) -> bool:
    """Claim, ask or reverse, write. A watch whose step cannot be written stays due."""
    try:
        owned_until = deps.clock.elapsed() + CHECK_LEASE.total_seconds()
        claim: Item = {
            "payment_id": each.payment_id,
            "attempt_number": each.attempt_number,
            "gateway_id": each.gateway_id,
            "claimed_until": deps.clock.now() + CHECK_LEASE,
        }
        if not await deps.ledger.commit(CLAIM_MONITOR, {**claim, "due_at": each.due_at}):
            return False
        if each.state == MonitorState.WATCHING:
            await _enquire(deps, each, claim, owned_until)
        else:
            assert each.transaction_ref is not None, "money to be reversed has its gateway's name"
            assert each.amount_minor is not None, "money to be reversed is booked"
            assert each.currency is not None, "money to be reversed is booked"
            money = Captured(each.transaction_ref, each.amount_minor, each.currency)
            await _reverse(deps, each, money, claim, owned_until, each.until, tries=each.checks_made)
    except PgwError as fault:
        log.warning("payment %s attempt %d: watch not written: %s", each.payment_id, each.attempt_number, fault)
    return True


async def _enquire(deps: Dependencies, each: DueMonitor, claim: Item, owned_until: float) -> None:
    finding = await enquire(deps, each.gateway_id, Reference(each.payment_id, each.attempt_number))
    now = deps.clock.now()
    step = judge_late(finding, each.until, now)
    if isinstance(step, Reverse) and each.amount_minor is not None:
        # It is held in suspense already, of another amount than asked for: a manual decision must say what follows.
        step = Wait(MonitorState.OVER if now >= each.until else MonitorState.WATCHING)
    if isinstance(step, Reverse):
        log.warning("payment %s attempt %d captured at %s after its end", *_named(each))
        item = late_capture(claim, step.found, now, uuid7(now, deps.rng))
        if await deps.ledger.commit(BOOK_LATE_CAPTURE, item):
            await _reverse(deps, each, step.found, claim, owned_until, now, tries=0)
        return
    stays = step.state is MonitorState.WATCHING
    await _move(
        deps,
        {
            **claim,
            "was": MonitorState.WATCHING,
            "check_number": each.checks_made + 1,
            "evidence": _evidence(finding, now),
        },
        step.state,
        next_poll_at(each.checks_made + 1, now, deps.rng) if stays else None,
        step.error_code,
    )


async def _reverse(
    deps: Dependencies,
    each: DueMonitor,
    money: Captured,
    claim: Item,
    owned_until: float,
    began_at: datetime,
    *,
    tries: int,
) -> None:
    """Give the money back, under the same key each time; what came of it decides whether that was the last try."""
    is_ours = deps.clock.elapsed() + within_s(deps) <= owned_until
    answer = await _call(deps, each, money) if is_ours else Undecided(Pending.STILL_PENDING, "LEASE_EXPIRED")
    now = deps.clock.now()
    if isinstance(answer, Reversed):
        stored = await deps.ledger.read(decision_of, each.payment_id)
        assert stored is not None, "a payment is opened together with its decision"
        subject = subject_of(each.payment_id, stored[0])
        returned = (money.amount_minor, money.currency)
        item = reversing(claim, subject, returned, answer.reversal_ref, now, uuid7(now, deps.rng))
        await deps.ledger.commit(REVERSE, item)
        return
    moved: Item = {
        **claim,
        "was": MonitorState.REVERSING,
        "check_number": tries + 1,
        "evidence": {"money": money, "answer": answer.error_code, "at": now},
    }
    if isinstance(answer, ReversalRefused) or not may_try_again(began_at, now):
        await _move(deps, moved, MonitorState.MANUAL_REVIEW, None, answer.error_code)
    else:
        await _move(deps, moved, MonitorState.REVERSING, next_check_at(tries + 1, now, deps.rng), None)


async def _call(deps: Dependencies, each: DueMonitor, money: Captured) -> Reversal:
    gateway = deps.gateways.get(each.gateway_id)
    if gateway is None:
        return Undecided(Pending.UNREACHABLE, "NO_ADAPTER")
    call = gateway.reverse(money.transaction_ref, money.amount_minor, each.reversal_key)
    return await bounded(deps, each.gateway_id, call, Undecided(Pending.UNREACHABLE, "TIMEOUT"))


async def _move(
    deps: Dependencies, moved: Item, state: MonitorState, next_check_at: datetime | None, error_code: str | None
) -> None:
    item = {**moved, "state": state, "next_check_at": next_check_at, "at": deps.clock.now()}
    if await deps.ledger.commit(MOVE_MONITOR, item) and state is MonitorState.MANUAL_REVIEW:
        named = moved["payment_id"], moved["attempt_number"], moved["gateway_id"]
        log.critical("payment %s attempt %d at %s: its money waits for manual review: %s", *named, error_code)


def _evidence(finding: Finding, now: datetime) -> Item:
    return {"answer": result_of(finding), "at": now}


def _named(each: DueMonitor) -> tuple[str, int, str]:
    return each.payment_id, each.attempt_number, each.gateway_id
