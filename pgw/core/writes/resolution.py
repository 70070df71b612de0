"""A manual decision on money that no answer could settle -> the writes of the ledger."""

from datetime import datetime
from enum import StrEnum
from typing import Annotated

from msgspec import Meta, Struct

from pgw.core.money.transfer import capture
from pgw.core.payment.outcome import AttemptEnd, Blame
from pgw.core.payment.payment import Attempt, AttemptStatus, Word
from pgw.core.verification.enquiry import GIVE_UP_AFTER
from pgw.core.writes.attempts import Ended, Item, Subject, booking, event_of

RESOLVED_FAILURE = "RESOLVED_FAILURE"
"""Failure code of a payment that a manual decision ended."""

MOST_EVIDENCE = 15

Evidence = (
    Annotated[str, Meta(min_length=1, max_length=1000)]
    | Annotated[dict[Word, Word], Meta(min_length=1, max_length=MOST_EVIDENCE)]
)
"""What the word rests on: a short text, or a few named ones."""


class ResolvedAs(StrEnum):
    """What a payment may be resolved as."""

    SUCCESS = "SUCCESS"
    FAILURE = "FAILURE"


class Resolution(Struct, frozen=True, kw_only=True):
    """A manual decision: outcome, author, reason and evidence."""

    outcome: ResolvedAs
    actor: str
    reason: str
    evidence: str | dict[str, str] | None

    def details(self, attempt: Attempt, was: str | None) -> Item:
        """Lay out what the audit log keeps beside actor and reason; `was`: how it stood before."""
        return {
            "as": self.outcome,
            "was": was,
            "attempt_number": attempt.attempt_number,
            "gateway_id": attempt.gateway_id,
            "evidence": self.evidence,
        }


def resolving(
    subject: Subject,
    attempt: Attempt,
    outcome: ResolvedAs,
    latency_ms: int | None,
    next_look_at: datetime,
    at: datetime,
    event_id: str,
) -> Item:
    """End a payment as decided, by its last attempt.

    As SUCCESS its amount is booked as captured, if no money of it is held in suspense. As FAILURE its attempt must not
    capture: it is monitored for days from then on, however old it is, because only the decision says that it failed.
    """
    succeeded = outcome is ResolvedAs.SUCCESS
    money = capture(attempt.gateway_id, subject.merchant_id, subject.amount_minor, subject.currency)
    failure_code = None if succeeded else RESOLVED_FAILURE
    ended = Ended(
        number=attempt.attempt_number,
        gateway_id=attempt.gateway_id,
        end=AttemptEnd(AttemptStatus(outcome), failure_code, Blame.NONE, attempt.transaction_ref),
        at=at,
        latency_ms=attempt.latency_ms,
    )
    return {
        "payment_id": subject.payment_id,
        "end_number": attempt.attempt_number,
        "end_status": ended.end.status,
        "payment_status": outcome,
        "failure_code": failure_code,
        "watch_gateway_id": attempt.gateway_id,
        "watch_until": at + GIVE_UP_AFTER,
        "watch_next_check_at": next_look_at,
        "ended_at": at,
        "event": event_of("payment.completed", event_id, subject, ended, outcome, latency_ms),
        **booking(money if succeeded else None, event_id),
    }
