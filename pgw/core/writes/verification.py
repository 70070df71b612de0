"""What an enquiry found out -> the items the ledger writes: an attempt's end, a watch's steps."""

from datetime import datetime

import msgspec

from pgw.core.events import Corrects
from pgw.core.money.transfer import Transfer, capture, duplicate_capture, is_bookable, reversal, unmatched
from pgw.core.payment.outcome import AttemptEnd, Blame, Captured
from pgw.core.payment.payment import AttemptStatus, Status
from pgw.core.verification.enquiry import Ending
from pgw.core.writes.attempts import Ended, Item, Subject, booking, ended_members, event_of, settled_members

REVERSED = "payment.duplicate_reversed"


def settling(
    subject: Subject,
    ended: Ended,
    settlement: Ending,
    attempts_made: int,
    latency_ms: int,
    check: Item,
    corrects: Corrects | None,
    event_ids: tuple[str, str],
) -> Item:
    """End an unknown attempt, and its payment, by an enquiry's finding; `corrects` is the end published before."""
    finish = settlement.finish
    event = event_of("payment.verified", event_ids[0], subject, ended, finish.status, latency_ms, corrects)
    return {
        **ended_members(subject.payment_id, ended, event),
        **settled_members(subject, ended, finish, attempts_made, latency_ms, event_ids[1]),
        **booking(_money_of(subject, ended.gateway_id, settlement), event_ids[1]),
        **check,
        "next_action": None,
    }


def _money_of(subject: Subject, gateway_id: str, settlement: Ending) -> Transfer | None:
    """Say what money moved, as it is booked if the payment still waits for it."""
    moved = settlement.moved
    if moved is None or not is_bookable(moved.amount_minor):
        return None
    if settlement.finish.status is Status.SUCCESS:
        return capture(gateway_id, subject.merchant_id, moved.amount_minor, moved.currency)
    return unmatched(gateway_id, moved.amount_minor, moved.currency)


def late_capture(watched: Item, found: Captured, at: datetime, transfer_id: str) -> Item:
    """Write that a monitored attempt captured after all: the money is held in suspense, and reversed from there."""
    transfer = duplicate_capture(watched["gateway_id"], found.amount_minor, found.currency)
    return {
        **watched,
        **booking(transfer, transfer_id),
        "transaction_ref": found.transaction_ref,
        "evidence": {"found": found, "at": at},
        "at": at,
    }


def reversing(
    watched: Item, subject: Subject, returned: tuple[int, str], reversal_ref: str, at: datetime, event_id: str
) -> Item:
    """Write down that the gateway has made a reversal. `returned`: amount in minor units, currency."""
    amount_minor, currency = returned
    ended = Ended(
        number=watched["attempt_number"],
        gateway_id=watched["gateway_id"],
        end=AttemptEnd(AttemptStatus.REVERSED, None, Blame.NONE),
        at=at,
        latency_ms=None,
    )
    told = msgspec.structs.replace(subject, amount_minor=amount_minor, currency=currency)
    return {
        **watched,
        **booking(reversal(ended.gateway_id, amount_minor, currency), event_id),
        "reversal_ref": reversal_ref,
        "event": event_of(REVERSED, event_id, told, ended, AttemptStatus.REVERSED, None),
        "at": at,
    }
