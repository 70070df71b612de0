"""Rows of one payment, a gateway's settlement lines -> Violations: what must always be true of money, checked.

Everything here reads; nothing repairs. A violation is a fault of pgw, of a gateway or of a hand in the ledger, and a
person must see it.
"""

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence

from msgspec import Struct

from pgw.core.money.audit_rows import (
    CAPTURED,
    AttemptRow,
    EventRow,
    PaymentRows,
    SettlementLine,
    SettlementList,
    TransferRow,
)
from pgw.core.payment.payment import EXITS, AttemptStatus, Status

MEANINGS = {
    "I1": "at most one net capture per payment, over all gateways",
    "I2": "a SUCCESS is exactly its amount, captured once",
    "I3": "a FAILURE keeps nothing of the customer's",
    "I4": "no charge without an attempt that was written down before",
    "I5": "every movement is booked in double entry, and only what was taken is reversed",
    "I6": "one key of a merchant is one payment",
    "I7": "states follow one another as they may, and what is open will be asked about",
    "I8": "each event once, and in its payment's order",
    "I9": "the minutes of the metrics are a recount of the events",
}
"""The invariants by name; see each `_check` for what rows can prove."""

_TAKEN = frozenset({"capture", "duplicate_capture", "unmatched"})
"""Kinds of transfers by which money came in."""

_IN_HANDS = frozenset({"WATCHING", "REVERSING", "MANUAL_REVIEW"})
"""States of a late-capture monitor in which money is still polled for, being reversed, or under manual review."""


class Violation(Struct, frozen=True):
    """One thing that must never be. `payment_id` is None where it is not one payment's."""

    invariant: str
    payment_id: str | None
    what: str


def check(case: PaymentRows, settlement: SettlementList | None = None) -> tuple[Violation, ...]:
    """Check one payment; with a settlement list, also that the gateways' money is what the ledger says."""
    found = [*_success(case), *_failure(case), *_transfers(case), *_states(case)]
    if case.events is not None:
        found += _events(case.payment.status, case.events)
    if settlement is not None:
        found += _settled(case, settlement)
    return tuple(Violation(name, case.payment.payment_id, what) for name, what in found)


Found = Iterator[tuple[str, str]]


def _success(case: PaymentRows) -> Found:
    """I1, I2: a success is one attempt, and its amount booked once."""
    won = [each for each in case.attempts if each.status is AttemptStatus.SUCCESS]
    booked = [each for each in case.transfers if each.kind == "capture"]
    if len(won) > 1:
        yield "I1", f"attempts {_numbers(won)} are all SUCCESS"
    if len(booked) > 1:
        yield "I1", f"{len(booked)} captures are booked"
    if case.payment.status is not Status.SUCCESS:
        return
    resolved = any(each.kind == "resolution" for each in case.transfers)
    if not won and not resolved:
        yield "I2", "it is SUCCESS, and none of its attempts is"
    if not booked and not resolved:
        yield "I2", "it is SUCCESS, and no capture is booked"
    for each in booked:
        if (each.amount_minor, each.currency) != (case.payment.amount_minor, case.payment.currency):
            yield "I2", f"booked {each.amount_minor} {each.currency}, asked {_next_check(case)}"


def _failure(case: PaymentRows) -> Found:
    """I3, by the ledger's own books: what was taken for a failed payment is reversed, or about to be."""
    if case.payment.status is not Status.FAILURE:
        return
    for number in {each.attempt_number for each in case.transfers if each.kind in _TAKEN}:
        if not _is_reversed(case, number) and not _in_hands(case, number):
            yield "I3", f"it is FAILURE, and the money of attempt {number} is booked and not reversed"
    for each in case.attempts:
        if each.status is AttemptStatus.SUCCESS:
            yield "I3", f"it is FAILURE, and attempt {each.attempt_number} is SUCCESS"


def _transfers(case: PaymentRows) -> Found:
    """I1, I4, I5: what came in twice is reversed; every movement has its attempt; only what came in is reversed."""
    numbers = {each.attempt_number for each in case.attempts}
    for each in case.transfers:
        if each.attempt_number not in numbers:
            yield "I4", f"a {each.kind} is booked for attempt {each.attempt_number}, which there is not"
        if each.debit_account == each.credit_account or each.amount_minor <= 0:
            yield "I5", f"the {each.kind} of attempt {each.attempt_number} moves nothing"
        if each.kind == "reversal":
            taken = [other for other in case.transfers if other.attempt_number == each.attempt_number]
            if not any(_reversals(each, other) for other in taken if other.kind in _TAKEN):
                yield "I5", f"the reversal of attempt {each.attempt_number} is not what was taken"
        if each.kind == "duplicate_capture" and not (
            _is_reversed(case, each.attempt_number) or _in_hands(case, each.attempt_number)
        ):
            yield "I1", f"the second capture, attempt {each.attempt_number}, is not being reversed"
    for watch in case.watches:
        if watch.state == "REVERSED" and not _is_reversed(case, watch.attempt_number):
            yield "I5", f"attempt {watch.attempt_number} is REVERSED, and no reversal is booked"
        if watch.state in {"WATCHING", "REVERSING"} and watch.next_check_at is None:
            yield "I7", f"attempt {watch.attempt_number} is {watch.state}, and no poll is scheduled"


def _reversals(reversal: TransferRow, taken: TransferRow) -> bool:
    return (reversal.amount_minor, reversal.currency) == (taken.amount_minor, taken.currency)


def _is_reversed(case: PaymentRows, number: int) -> bool:
    """Whether money of an attempt was reversed, or a manual decision says what became of it."""
    return any(each.kind in {"reversal", "resolution"} and each.attempt_number == number for each in case.transfers)


def _in_hands(case: PaymentRows, number: int) -> bool:
    if case.payment.status is Status.MANUAL_REVIEW:
        return True
    return any(each.attempt_number == number and each.state in _IN_HANDS for each in case.watches)


OPEN = frozenset({AttemptStatus.SENDING, AttemptStatus.TIMEOUT, AttemptStatus.REQUIRES_ACTION})
"""Attempts whose end is unknown."""


def _states(case: PaymentRows) -> Found:
    """I7: attempts follow only on failed ones, and agree with their payment; what is open has its next check."""
    if [each.attempt_number for each in case.attempts] != list(range(1, len(case.attempts) + 1)):
        yield "I7", f"its attempts are numbered {_numbers(case.attempts)}"
    # A skipped gateway is written while the attempt before it is not ended yet.
    called = [each for each in case.attempts if each.status is not AttemptStatus.SKIPPED]
    if not called:
        yield "I7", "no gateway was called for it"
        return
    *earlier, last = called
    for each in earlier:
        if each.status not in {AttemptStatus.FAILURE, AttemptStatus.REVERSED}:
            yield "I7", f"attempt {each.attempt_number} is {each.status}, and another followed it"
    status = case.payment.status
    if status is Status.PROCESSING and last.status is not AttemptStatus.SENDING:
        yield "I7", f"it is PROCESSING, and its last attempt is {last.status}"
    if status is Status.REQUIRES_ACTION and last.status is not AttemptStatus.REQUIRES_ACTION:
        yield "I7", f"it is REQUIRES_ACTION, and its last attempt is {last.status}"
    if status.is_final and any(each.status in OPEN for each in case.attempts):
        yield "I7", f"it is {status}, and an attempt of it is open"
    if not status.is_final and status is not Status.MANUAL_REVIEW and last.next_check_at is None:
        yield "I7", f"it is {status}, and no enquiry is scheduled"


def _events(status: Status, events: Sequence[EventRow]) -> Found:
    """I7, I8: each event once; one completion, with the payment's status; published as they were written."""
    twice = [name for name, times in Counter(each.event_id for each in events).items() if times > 1]
    if twice:
        yield "I8", f"event {twice[0]} is there twice"
    for (kind, number), times in Counter((each.type, each.attempt_number) for each in events).items():
        if times > 1 and kind in {"payment.attempted", "payment.completed"}:
            yield "I8", f"{kind} of attempt {number} is published {times} times"
    completed = [each for each in events if each.type == "payment.completed"]
    if len(completed) > 1:
        yield "I8", f"its end is published {len(completed)} times"
    if status.is_final and not completed:
        yield "I8", f"it is {status}, and its end is not published"
    if completed and completed[-1].status != status:
        yield "I7", f"its end was published as {completed[-1].status}, and it is {status}"
    places = [each.published for each in events if each.published is not None]
    if places != sorted(places):
        yield "I8", "its events are published in another order than they were written in"


def _settled(case: PaymentRows, settlement: SettlementList) -> Found:
    """I1, I2, I3, I4, by the gateways' own lines."""
    nets, units = _nets(settlement.of(case.payment.payment_id))
    known = {(each.attempt_number, each.gateway_id): each for each in case.attempts}
    for (number, gateway_id), net in nets.items():
        if (number, gateway_id) not in known:
            yield "I4", f"{gateway_id} moved money for attempt {number}, which was not written down there"
        if net < 0:
            yield "I1", f"{gateway_id} refunded {-net} more than it took for attempt {number}"
    said = {each.attempt_number: each for each in case.transfers if each.kind == "resolution"}
    kept = {key: net for key, net in nets.items() if net > 0 and key[0] not in said}
    status = case.payment.status
    won = {key for key, each in known.items() if each.status is AttemptStatus.SUCCESS}
    loose = [key for key in kept if key not in won and not _in_hands(case, key[0])]
    if status is Status.SUCCESS and loose:
        yield "I1", f"attempt {loose[0][0]} at {loose[0][1]} took money too, and it is not being reversed"
    if status is Status.FAILURE and loose:
        yield "I3", f"it is FAILURE, and {loose[0][1]} keeps {kept[loose[0]]} of attempt {loose[0][0]}"
    for key in won if status is Status.SUCCESS else ():
        wanted = said.get(key[0], case.payment)
        settled = (nets.get(key, 0), units.get(key, wanted.currency))
        if key[1] in settlement.gateways and settled != (wanted.amount_minor, wanted.currency):
            yield "I2", f"it is SUCCESS of {_next_check(case)}, and {key[1]} has settled {settled[0]} {settled[1]}"


Nets = dict[tuple[int, str], int]


def _nets(lines: Sequence[SettlementLine]) -> tuple[Nets, Mapping[tuple[int, str], str]]:
    """Add up what each attempt keeps."""
    nets: Nets = {}
    units: dict[tuple[int, str], str] = {}
    for line in lines:
        key = (line.attempt_number, line.gateway_id)
        nets[key] = nets.get(key, 0) + (line.amount_minor if line.kind == CAPTURED else -line.amount_minor)
        units[key] = line.currency
    return nets, units


def same_key(cases: Sequence[PaymentRows]) -> tuple[Violation, ...]:
    """I6: no two of these payments belong to one key."""
    keys = Counter((each.payment.merchant_id, each.payment.idempotency_key) for each in cases)
    return tuple(
        Violation("I6", None, f"a key of {merchant} is {times} payments")
        for (merchant, _), times in keys.items()
        if times > 1
    )


def is_legal(was: Status, now: Status) -> bool:
    """I7: whether a payment may have gone from one status to another, in however many steps."""
    seen, ahead = {was}, {was}
    while ahead:
        ahead = {each for status in ahead for each in EXITS[status]} - seen
        seen |= ahead
    return now in seen


def _numbers(attempts: Iterable[AttemptRow]) -> str:
    return ", ".join(str(each.attempt_number) for each in attempts)


def _next_check(case: PaymentRows) -> str:
    return f"{case.payment.amount_minor} {case.payment.currency}"
