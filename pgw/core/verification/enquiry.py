"""Finding, what was known before -> what becomes of an unknown attempt, and when to ask again."""

from collections.abc import Iterable
from datetime import datetime, timedelta
from enum import StrEnum
from random import Random

import msgspec
from msgspec import Struct

from pgw.core.payment.outcome import (
    AMOUNT_MISMATCH,
    AttemptEnd,
    Blame,
    Captured,
    Decline,
    Finish,
    Unknown,
    attempt_end,
    checked_amount,
    declined,
)
from pgw.core.payment.payment import AttemptStatus, Status


class Pending(StrEnum):
    """Answers that by themselves end nothing: the attempt stays under check.

    FAILED: failed, says the gateway, for a reason that leaves open whether money moved. RETURNED: money moved, or was
    reserved, and all of it was returned without pgw.
    """

    ABSENT = "ABSENT"
    STILL_PENDING = "PENDING"
    FAILED = "FAILED"
    RETURNED = "RETURNED"
    UNREACHABLE = "UNREACHABLE"


class Undecided(Struct, frozen=True):
    """The gateway gave no definitive answer."""

    result: Pending
    error_code: str | None = None


class Authorized(Struct, frozen=True):
    """Money is reserved and has not moved: pgw may capture it once, or let it expire."""

    transaction_ref: str
    amount_minor: int
    currency: str


class Reversed(Struct, frozen=True):
    """The gateway says the money was refunded; that it is about to be is no such statement."""

    reversal_ref: str


class ReversalRefused(Struct, frozen=True):
    """The gateway will not give the money back, however often it is asked."""

    error_code: str


Reversal = Reversed | ReversalRefused | Undecided
"""What a gateway can answer to a reversal; Undecided: unknown whether it took it on, or it is at work on it."""

Settled = Captured | Decline
Finding = Settled | Authorized | Undecided
"""What an enquiry can find. NOT_SENT is not among it: a gateway that knows nothing of an attempt proves nothing."""


class Unfit(Struct, frozen=True):
    """Money is reserved that is not what was asked for: it is never captured, and goes to manual review."""

    transaction_ref: str


class Absent(Struct, frozen=True):
    """The gateway knew nothing of the attempt, twice; nothing less can be written down as an absence."""

    first_at: datetime
    second_at: datetime
    blame: Blame

    def __post_init__(self) -> None:
        """Refuse two answers that are not far enough apart."""
        if self.second_at - self.first_at < ABSENT_APART:
            raise ValueError("an absence needs two answers that lie apart")


class Lapsed(Struct, frozen=True):
    """Failed, for whatever reason, and the customer's time to act was over. No other gateway is asked any more."""

    error_code: str
    blame: Blame


class GaveUp(Struct, frozen=True):
    """Five days without an answer: manual review. Time alone leads here, and from here to no status but review."""

    blame: Blame
    transaction_ref: str | None


Conclusion = Captured | Unfit | Decline | Absent | Lapsed | GaveUp
"""What ends an attempt under check. Only Decline, Absent and Lapsed mean failure, and each is made of answers."""

ABSENT = "ABSENT"
GAVE_UP = "GAVE_UP"
"""Failure codes of a payment no gateway knew of, and of one whose end no answer decided."""

ABSENT_AFTER = timedelta(minutes=15)
"""From the end of an attempt's lease until an answer that it is unknown counts: gateways list with delay."""

ABSENT_APART = timedelta(minutes=10)
"""What lies at least between two such answers."""

LONGEST_LEASE = timedelta(seconds=32)
"""The longest time an attempt may have, and its margin: no charge leaves later than this after it was announced."""

ACT_WITHIN = timedelta(minutes=15)
"""The customer's time to act, from the answer that asks for it."""

GIVE_UP_AFTER = timedelta(days=5)
"""RBI's turn-around time: a UPI debit without confirmation is reversed by the bank on T+5 at the latest."""

FIRST_CHECKS_S = (2, 5, 15, 30, 60, 120, 300, 600, 1800)
"""Seconds from one check to the next; most unknown payments settle within the first minute."""

ACTION_CHECKS_S = (3,) * 20 + (15,) * 56 + (60, 120, 300, 600, 1800)
"""Seconds between checks while the customer acts: as fast as people tap for a minute, then for a quarter of an hour.

Then less and less often: the time to act is over, and the gateway is about to say what came of it."""

LATER_CHECKS_S = 3600
JITTER = 0.2
"""Each delay varies by up to a fifth either way, so that an outage's payments do not all ask at the same time."""

CHECK_LEASE = timedelta(seconds=30)
"""How long a worker that took an attempt has it to itself; a worker that dies gives it back by this."""


def next_check_at(checks_made: int, now: datetime, rng: Random, *, at_customer: bool = False) -> datetime:
    """Return when to ask again after `checks_made` enquiries; 0 is an attempt that just ended.

    `at_customer`: the customer is acting; asked often, because a customer waits in front of a screen.
    """
    delays = ACTION_CHECKS_S if at_customer else FIRST_CHECKS_S
    delay = delays[checks_made] if checks_made < len(delays) else LATER_CHECKS_S
    return now + timedelta(seconds=delay * rng.uniform(1.0 - JITTER, 1.0 + JITTER))


class EarlierResult(Struct, frozen=True):
    """An earlier answer: when, and in which word it was recorded."""

    at: datetime
    result: str


class KnownAttempt(Struct, frozen=True, kw_only=True):
    """What was known of an attempt before the newest answer.

    `ended_at`: when its owner wrote how it ended, or a verifier that the lease was over. `at_customer`: the customer
    was asked to act. `transaction_ref`: the gateway's own name for it, once it gave one. `blame`: as it was published.
    """

    started_at: datetime
    ended_at: datetime
    at_customer: bool
    transaction_ref: str | None
    blame: Blame


def judge(
    finding: Captured | Unfit | Decline | Undecided,
    known: KnownAttempt,
    earlier: Iterable[EarlierResult],
    now: datetime,
) -> Conclusion | Undecided:
    """Say what the newest answer comes to, together with what was known; `earlier` is looked at for an ABSENT only."""
    if not isinstance(finding, Undecided):
        return finding
    match finding.result:
        case Pending.ABSENT if (absent := _absence(known, earlier, now)) is not None:
            return absent
        case Pending.FAILED if known.at_customer and now >= known.ended_at + ACT_WITHIN:
            code = finding.error_code or Pending.FAILED
            return Lapsed(code, attempt_end(declined(code.lower())).blame)
        case _ if now >= known.started_at + GIVE_UP_AFTER:
            return GaveUp(known.blame, known.transaction_ref)
        case _:
            return finding


def absence_counts_from(known: KnownAttempt) -> datetime:
    """Return the time from which an ABSENT counts."""
    return max(known.ended_at, known.started_at + LONGEST_LEASE) + ABSENT_AFTER


def _absence(known: KnownAttempt, earlier: Iterable[EarlierResult], now: datetime) -> Absent | None:
    """Put the newest ABSENT beside the first that counted. A gateway that ever knew the attempt contradicts itself."""
    counts_from = absence_counts_from(known)
    if known.transaction_ref is not None or now < counts_from:
        return None
    answers = [each for each in earlier if each.result != Pending.UNREACHABLE]
    if any(each.result != Pending.ABSENT for each in answers):
        return None
    first = min((each.at for each in answers if each.at >= counts_from), default=now)
    return Absent(first, now, known.blame) if now - first >= ABSENT_APART else None


def result_of(finding: Finding | Unfit) -> str:
    """Name a finding the way the verification record shows it."""
    match finding:
        case Undecided(result=result):
            return result.value
        case Captured():
            return "SUCCESS"
        case Authorized() | Unfit():
            return "AUTHORIZED"
        case _:
            return "FAILURE"


class Ending(Struct, frozen=True):
    """How an attempt under check ends, and its payment. `moved`: the money that the gateway says it took."""

    end: AttemptEnd
    finish: Finish
    moved: Captured | None = None


def ending_of(found: Conclusion, amount_minor: int, currency: str) -> Ending:
    """Turn a conclusion into an end; money of another amount or currency goes to manual review."""
    match found:
        case Captured():
            return _captured(found, amount_minor, currency)
        case Unfit(transaction_ref=ref):
            return _review(Unknown(AMOUNT_MISMATCH, Blame.GATEWAY, ref))
        case GaveUp(blame=blame, transaction_ref=ref):
            return _review(Unknown(GAVE_UP, blame, ref))
        case Absent(blame=blame):
            return _failed(AttemptEnd(AttemptStatus.FAILURE, ABSENT, blame))
        case Lapsed(error_code=code, blame=blame):
            return _failed(AttemptEnd(AttemptStatus.FAILURE, code, blame))
        case decline:
            return _failed(attempt_end(decline))


def _captured(found: Captured, amount_minor: int, currency: str) -> Ending:
    checked = checked_amount(found, amount_minor, currency)
    if isinstance(checked, Unknown):
        return msgspec.structs.replace(_review(checked), moved=found)
    return Ending(attempt_end(found), Finish(Status.SUCCESS), found)


def _review(unknown: Unknown) -> Ending:
    return Ending(attempt_end(unknown), Finish(Status.MANUAL_REVIEW, unknown.error_code))


def _failed(end: AttemptEnd) -> Ending:
    return Ending(end, Finish(Status.FAILURE, end.error_code))
