"""An attempt that must not capture -> how long it is watched, when it is asked about, what an answer means."""

from datetime import datetime, timedelta
from enum import StrEnum
from random import Random

from msgspec import Struct

from pgw.core.money.transfer import is_bookable
from pgw.core.payment.outcome import AttemptEnd, Captured
from pgw.core.payment.payment import AttemptStatus
from pgw.core.verification.enquiry import ABSENT, GIVE_UP_AFTER, JITTER, Authorized, Finding, Pending, Undecided

CHECKS_S = (600, 3600, 6 * 3600)
LATER_CHECKS_S = 24 * 3600
"""Seconds from one look to the next: late money mostly comes within the hour, and all but never after a day."""

LATEST_END = GIVE_UP_AFTER
"""How long after its end a monitor may wait for its gateway's final status; then manual review."""

REVERSED_WITHIN = timedelta(days=14)
"""How long a refund may take; then manual review. Razorpay's normal refunds take 5 to 7 working days ("Fetch
Multiple Refunds for a Payment"): 11 days with their weekends, and a few holidays."""


class MonitorState(StrEnum):
    """Where a watch stands."""

    WATCHING = "WATCHING"
    REVERSING = "REVERSING"
    REVERSED = "REVERSED"
    OVER = "OVER"
    MANUAL_REVIEW = "MANUAL_REVIEW"


class MonitorCause(StrEnum):
    """Why an attempt must not capture."""

    DECLINED = "DECLINED"
    ABSENT = "ABSENT"
    DUPLICATE = "DUPLICATE"
    RESOLVED = "RESOLVED"


class LateCaptureMonitor(Struct, frozen=True):
    """An attempt that ended without money, as far as anybody knows; `until` is when its gateway's last word counts.

    Of one whose money is being reversed, `until` is when that began.
    """

    cause: MonitorCause
    until: datetime
    next_check_at: datetime


def monitor_of(end: AttemptEnd, started_at: datetime, now: datetime, rng: Random) -> LateCaptureMonitor | None:
    """Say whether an ended attempt is to be watched: each that failed, but for those proven never to have been sent."""
    code = end.error_code or ""
    if end.status is not AttemptStatus.FAILURE or code.startswith("NOT_SENT_"):
        return None
    cause = MonitorCause.ABSENT if code == ABSENT else MonitorCause.DECLINED
    return LateCaptureMonitor(cause, started_at + GIVE_UP_AFTER, next_poll_at(0, now, rng))


def next_poll_at(checks_made: int, now: datetime, rng: Random) -> datetime:
    """Return when to look again after `checks_made` looks; 0 is an attempt that just ended."""
    delay = CHECKS_S[checks_made] if checks_made < len(CHECKS_S) else LATER_CHECKS_S
    return now + timedelta(seconds=delay * rng.uniform(1.0 - JITTER, 1.0 + JITTER))


class Reverse(Struct, frozen=True):
    """It captured after all: the money is reversed."""

    found: Captured


class Wait(Struct, frozen=True):
    """Nothing is to be done now; `state` is the monitor's: on, over, or manual review."""

    state: MonitorState
    error_code: str | None = None


def judge_late(finding: Finding, until: datetime, now: datetime) -> Reverse | Wait:
    """Say what an answer means for a watch.

    Money that is only authorised is left to expire, which it does where pgw does not capture it, and watched on; so is
    an attempt that its gateway is still at work on. The end is not reached by time: it takes a last word, at `until` or
    later.
    """
    match finding:
        case Captured(amount_minor=amount) if not is_bookable(amount):
            return Wait(MonitorState.MANUAL_REVIEW, "UNBOOKABLE_AMOUNT")
        case Captured():
            return Reverse(finding)
        case Authorized() | Undecided(result=Pending.UNREACHABLE | Pending.STILL_PENDING):
            if now < until + LATEST_END:
                return Wait(MonitorState.WATCHING)
            return Wait(MonitorState.MANUAL_REVIEW, "NO_LAST_WORD")
        case _:
            return Wait(MonitorState.OVER if now >= until else MonitorState.WATCHING)


def may_try_again(began_at: datetime, now: datetime) -> bool:
    """Whether a reversal that is not known to be done is asked about once more."""
    return now < began_at + REVERSED_WITHIN
