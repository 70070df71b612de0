"""Attempts that must not capture -> looked at until their gateway's last word; money that one moved goes back, once."""

import logging
from datetime import datetime

from pgw.core.errors import PgwError
from pgw.core.flow.verification.enquiries import ask, bounded, round_of, within_s
from pgw.core.ids import uuid7
from pgw.core.ledger.due import Watched, watched
from pgw.core.ledger.late_captures import CLAIM_WATCH, FIND_MONEY, GIVE_BACK, MOVE_WATCH
from pgw.core.ledger.payment_reads import decision_of
from pgw.core.payment.outcome import Captured
from pgw.core.ports import Reference, World
from pgw.core.verification.enquiry import (
    CHECK_LEASE,
    Finding,
    Pending,
    Reversal,
    ReversalRefused,
    Reversed,
    Undecided,
    next_check_at,
    result_word,
)
from pgw.core.verification.late_capture import Rest, Reverse, WatchState, look, may_try_again, next_look_at
from pgw.core.writes.attempts import Item, subject_of
from pgw.core.writes.verification import finding_money, giving_back

log = logging.getLogger(__name__)

PURPOSE = "watch"


async def watch_due(world: World) -> int:
    """Look at every watch that is due; return how many were claimed. Many workers may do this at once."""
    return await round_of(world, PURPOSE, watched, lambda each: _look(world, each))


async def _look(world: World, each: Watched) -> bool:
    """Claim, ask or reverse, write. A watch whose step cannot be written stays due."""
    try:
        owned_until = world.clock.elapsed() + CHECK_LEASE.total_seconds()
        claim: Item = {
            "payment_id": each.payment_id,
            "attempt_number": each.attempt_number,
            "gateway_id": each.gateway_id,
            "claimed_until": world.clock.now() + CHECK_LEASE,
        }
        if not await world.ledger.commit(CLAIM_WATCH, {**claim, "due_at": each.due_at}):
            return False
        if each.state == WatchState.WATCHING:
            await _ask(world, each, claim, owned_until)
        else:
            assert each.transaction_ref is not None, "money that is to go back has its gateway's name"
            assert each.amount_minor is not None, "money that is to go back is booked"
            assert each.currency is not None, "money that is to go back is booked"
            money = Captured(each.transaction_ref, each.amount_minor, each.currency)
            await _reverse(world, each, money, claim, owned_until, each.until, tries=each.checks_made)
    except PgwError as fault:
        log.warning("payment %s attempt %d: watch not written: %s", each.payment_id, each.attempt_number, fault)
    return True


async def _ask(world: World, each: Watched, claim: Item, owned_until: float) -> None:
    finding = await ask(world, each.gateway_id, Reference(each.payment_id, each.attempt_number))
    now = world.clock.now()
    step = look(finding, each.until, now)
    if isinstance(step, Reverse) and each.amount_minor is not None:
        # It lies in suspense already, of another amount than asked for: a person says whether it goes back.
        step = Rest(WatchState.OVER if now >= each.until else WatchState.WATCHING)
    if isinstance(step, Reverse):
        log.warning("payment %s attempt %d captured at %s after its end", *_named(each))
        item = finding_money(claim, step.found, now, uuid7(now, world.rng))
        if await world.ledger.commit(FIND_MONEY, item):
            await _reverse(world, each, step.found, claim, owned_until, now, tries=0)
        return
    stays = step.state is WatchState.WATCHING
    await _move(
        world,
        {
            **claim,
            "was": WatchState.WATCHING,
            "check_number": each.checks_made + 1,
            "evidence": _evidence(finding, now),
        },
        step.state,
        next_look_at(each.checks_made + 1, now, world.rng) if stays else None,
        step.error_code,
    )


async def _reverse(
    world: World, each: Watched, money: Captured, claim: Item, owned_until: float, began_at: datetime, *, tries: int
) -> None:
    """Give the money back, under the same key each time; what came of it decides whether that was the last try."""
    is_ours = world.clock.elapsed() + within_s(world) <= owned_until
    answer = await _call(world, each, money) if is_ours else Undecided(Pending.STILL_PENDING, "LEASE_EXPIRED")
    now = world.clock.now()
    if isinstance(answer, Reversed):
        stored = await world.ledger.read(decision_of, each.payment_id)
        assert stored is not None, "a payment is opened together with its decision"
        subject = subject_of(each.payment_id, stored[0])
        returned = (money.amount_minor, money.currency)
        item = giving_back(claim, subject, returned, answer.reversal_ref, now, uuid7(now, world.rng))
        await world.ledger.commit(GIVE_BACK, item)
        return
    moved: Item = {
        **claim,
        "was": WatchState.REVERSING,
        "check_number": tries + 1,
        "evidence": {"money": money, "answer": answer.error_code, "at": now},
    }
    if isinstance(answer, ReversalRefused) or not may_try_again(began_at, now):
        await _move(world, moved, WatchState.MANUAL_REVIEW, None, answer.error_code)
    else:
        await _move(world, moved, WatchState.REVERSING, next_check_at(tries + 1, now, world.rng), None)


async def _call(world: World, each: Watched, money: Captured) -> Reversal:
    gateway = world.gateways.get(each.gateway_id)
    if gateway is None:
        return Undecided(Pending.UNREACHABLE, "NO_ADAPTER")
    call = gateway.reverse(money.transaction_ref, money.amount_minor, each.reversal_key)
    return await bounded(world, each.gateway_id, call, Undecided(Pending.UNREACHABLE, "TIMEOUT"))


async def _move(
    world: World, moved: Item, state: WatchState, next_check_at: datetime | None, error_code: str | None
) -> None:
    item = {**moved, "state": state, "next_check_at": next_check_at, "at": world.clock.now()}
    if await world.ledger.commit(MOVE_WATCH, item) and state is WatchState.MANUAL_REVIEW:
        named = moved["payment_id"], moved["attempt_number"], moved["gateway_id"]
        log.critical("payment %s attempt %d at %s: its money waits for a person: %s", *named, error_code)


def _evidence(finding: Finding, now: datetime) -> Item:
    return {"answer": result_word(finding), "at": now}


def _named(each: Watched) -> tuple[str, int, str]:
    return each.payment_id, each.attempt_number, each.gateway_id
