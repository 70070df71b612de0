"""Finding, checks made -> what becomes of an unknown attempt, and when to ask again."""

from datetime import datetime, timedelta
from enum import StrEnum
from random import Random

from msgspec import Struct

from pgw.core.outcome import AttemptEnd, Captured, Decline, Finish, Unknown, attempt_end, checked_amount
from pgw.core.payment import Status


class Pending(StrEnum):
    """Answers that end nothing: the attempt stays under check."""

    ABSENT = "ABSENT"
    STILL_PENDING = "PENDING"
    UNREACHABLE = "UNREACHABLE"


class Undecided(Struct, frozen=True):
    """The gateway gave no definitive answer."""

    result: Pending
    error_code: str | None = None


class Authorized(Struct, frozen=True):
    """Money is reserved and has not moved: pgw may capture it once, or let it go back."""

    transaction_ref: str
    amount_minor: int
    currency: str


class Reversed(Struct, frozen=True):
    """Money went back, or is on its way: the gateway has taken the reversal on."""

    reversal_ref: str


Settled = Captured | Decline
Finding = Settled | Authorized | Undecided
"""What an enquiry can find. NOT_SENT is not among it: a gateway that knows nothing of an attempt proves nothing."""

GIVE_UP_AFTER = timedelta(days=5)
"""RBI's turn-around time: a UPI debit without confirmation is reversed by the bank on T+5 at the latest."""

FIRST_CHECKS_S = (2, 5, 15, 30, 60, 120, 300, 600, 1800)
"""Seconds from one check to the next; most unknown payments settle within the first minute."""

ACTION_CHECKS_S = (3,) * 20 + (15,) * 56
"""Seconds between checks while the customer acts: as fast as people tap for a minute, then for a quarter of an hour."""

LATER_CHECKS_S = 3600
JITTER = 0.2
"""Each delay varies by up to a fifth either way, so that an outage's payments do not all ask at the same moment."""

CHECK_LEASE = timedelta(seconds=30)
"""How long a worker that took an attempt has it to itself; a worker that dies gives it back by this."""


def next_check_at(checks_made: int, now: datetime, rng: Random, *, at_customer: bool = False) -> datetime:
    """Return when to ask again after `checks_made` enquiries; 0 is an attempt that just ended.

    `at_customer`: the customer is acting; asked often, because somebody waits in front of a screen.
    """
    delays = ACTION_CHECKS_S if at_customer else FIRST_CHECKS_S
    delay = delays[checks_made] if checks_made < len(delays) else LATER_CHECKS_S
    return now + timedelta(seconds=delay * rng.uniform(1.0 - JITTER, 1.0 + JITTER))


def result_word(finding: Finding) -> str:
    """Name a finding the way the verification record shows it."""
    match finding:
        case Undecided(result=result):
            return result.value
        case Captured():
            return "SUCCESS"
        case Authorized():
            return "AUTHORIZED"
        case _:
            return "FAILURE"


class Settlement(Struct, frozen=True):
    """How a definitive answer ends the attempt and its payment."""

    end: AttemptEnd
    finish: Finish


def settle(found: Settled, amount_minor: int, currency: str) -> Settlement:
    """Turn a definitive answer into an end; money of another amount or currency is for a person to judge."""
    match checked_amount(found, amount_minor, currency):
        case Unknown(error_code=code) as mismatch:
            return Settlement(attempt_end(mismatch), Finish(Status.MANUAL_REVIEW, code))
        case Captured() as captured:
            return Settlement(attempt_end(captured), Finish(Status.SUCCESS))
        case decline:
            end = attempt_end(decline)
            return Settlement(end, Finish(Status.FAILURE, end.error_code))
