"""A manual decision on a payment -> its end, or the end of one attempt's review: once, however often it is made."""

from pgw.core.errors import Code, PgwError
from pgw.core.ids import uuid7
from pgw.core.ledger.audit import entry
from pgw.core.ledger.engine.phase import Item
from pgw.core.ledger.payment_reads import Stored, by_id, decision_of
from pgw.core.ledger.resolutions import CLOSE_REVIEW, RESOLVE, last_called, review_of
from pgw.core.payment.payment import Attempt, Payment, Status
from pgw.core.ports import Dependencies
from pgw.core.verification.late_capture import MonitorState, next_poll_at
from pgw.core.writes.attempts import subject_of
from pgw.core.writes.resolution import Resolution, resolving

ACTION = "payment.resolve"
"""Name of both acts in the audit log, whose subject is `payment:<id>`."""


async def resolve(deps: Dependencies, payment_id: str, said: Resolution) -> Payment:
    """End a payment under manual review; one that ended so already stays as it is.

    Raises PgwError: NOT_FOUND, or CONFLICT where it is not under review, or its money is being reversed.
    """
    payment = await _payment(deps, payment_id)
    if payment.status is not Status.MANUAL_REVIEW:
        return _already(payment, said)
    attempt = await deps.ledger.read(last_called, payment_id)
    won = await deps.ledger.commit(RESOLVE, await _ending(deps, payment, attempt, said))
    payment = await _payment(deps, payment_id)
    if won:
        return payment
    if payment.status is Status.MANUAL_REVIEW:
        raise PgwError(Code.CONFLICT, "its money is reversed, or about to be: it can only be resolved as FAILURE")
    return _already(payment, said)


async def close_review(deps: Dependencies, payment_id: str, attempt_number: int, said: Resolution) -> Payment:
    """Close the review of one attempt of a payment that has ended: it keeps no money, by manual decision.

    What it was known to have taken is booked as reversed. One that is over already stays as it is. Raises PgwError:
    NOT_FOUND, or CONFLICT where no manual decision is due.
    """
    payment = await _payment(deps, payment_id)
    if not payment.status.is_final:
        raise PgwError(Code.CONFLICT, f"the payment is {payment.status}: first of all it has to end")
    review = await deps.ledger.read(review_of, payment_id, attempt_number)
    if review is None:
        raise PgwError(Code.NOT_FOUND, f"attempt {attempt_number} of this payment is under no watch")
    attempt, state = review
    if state is MonitorState.MANUAL_REVIEW:
        now = deps.clock.now()
        noted = _audit_entry(deps, payment, attempt, said, state)
        item = {"payment_id": payment_id, "attempt_number": attempt_number, "at": now, **noted}
        await deps.ledger.commit(CLOSE_REVIEW, {**item, "transfer_id": uuid7(now, deps.rng)})
    elif state not in {MonitorState.OVER, MonitorState.REVERSED}:
        raise PgwError(Code.CONFLICT, f"the watch of attempt {attempt_number} is {state}: it waits for no person")
    return payment


async def _payment(deps: Dependencies, payment_id: str) -> Payment:
    stored: Stored | None = await deps.ledger.read(by_id, payment_id)
    if stored is None:
        raise PgwError(Code.NOT_FOUND, "there is no such payment")
    return stored.as_of(deps.clock.now())


def _already(payment: Payment, said: Resolution) -> Payment:
    if payment.status is not Status(said.outcome):
        told = f"the payment is {payment.status}: only one in {Status.MANUAL_REVIEW} can be resolved"
        raise PgwError(Code.CONFLICT, told)
    return payment


async def _ending(deps: Dependencies, payment: Payment, attempt: Attempt, said: Resolution) -> Item:
    stored = await deps.ledger.read(decision_of, payment.payment_id)
    assert stored is not None, "a payment is opened together with its decision"
    now = deps.clock.now()
    item = resolving(
        subject_of(payment.payment_id, stored[0]),
        attempt,
        said.outcome,
        payment.latency_ms,
        next_poll_at(0, now, deps.rng),
        now,
        uuid7(now, deps.rng),
    )
    return {**item, **_audit_entry(deps, payment, attempt, said, payment.failure_code)}


def _audit_entry(deps: Dependencies, payment: Payment, attempt: Attempt, said: Resolution, was: str | None) -> Item:
    now = deps.clock.now()
    subject = f"payment:{payment.payment_id}"
    return entry(uuid7(now, deps.rng), now, said.actor, ACTION, subject, said.reason, said.details(attempt, was))
