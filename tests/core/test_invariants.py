"""Rows that agree pass, and each way in which they may disagree is named, by the ledger alone and by a settlement."""

from datetime import timedelta
from typing import Any

import pytest
from msgspec import structs

from pgw.core.money.audit_rows import (
    AttemptRow,
    EventRow,
    MonitorRow,
    PaymentRow,
    PaymentRows,
    SettlementLine,
    SettlementList,
    TransferRow,
)
from pgw.core.money.invariants import MEANINGS, check, is_legal, same_key
from pgw.core.payment.payment import AttemptStatus, Status
from tests.doubles import NOON

ID = "p-1"


def _tried(number: int, status: AttemptStatus, **given: Any) -> AttemptRow:
    ended = None if status is AttemptStatus.SENDING else NOON + timedelta(seconds=1)
    members = {"started_at": NOON, "ended_at": ended, "next_check_at": None, **given}
    return AttemptRow(attempt_number=number, gateway_id=f"g{number}", status=status, **members)


def _moved(kind: str, number: int = 1, amount_minor: int = 1000) -> TransferRow:
    accounts = {"debit_account": f"gateway:g{number}", "credit_account": "suspense"}
    return TransferRow(attempt_number=number, kind=kind, amount_minor=amount_minor, currency="INR", **accounts)


def _watched(state: str, number: int = 1) -> MonitorRow:
    due = NOON if state in {"WATCHING", "REVERSING"} else None
    return MonitorRow(attempt_number=number, gateway_id=f"g{number}", state=state, next_check_at=due)


def _told(position: int, kind: str, status: str, number: int = 1, **given: Any) -> EventRow:
    members: dict[str, Any] = {"published": position, "event_id": f"e-{position}", **given}
    return EventRow(position=position, type=kind, attempt_number=number, status=status, **members)


def _paid(status: Status) -> PaymentRow:
    return PaymentRow(
        payment_id=ID,
        merchant_id="m_001",
        idempotency_key="key-1",
        status=status,
        amount_minor=1000,
        currency="INR",
        created_at=NOON,
    )


def _line(kind: str = "captured", number: int = 1, amount_minor: int = 1000) -> SettlementLine:
    return SettlementLine(
        gateway_id=f"g{number}",
        payment_id=ID,
        attempt_number=number,
        amount_minor=amount_minor,
        currency="INR",
        kind=kind,
    )


GOOD = PaymentRows(
    payment=_paid(Status.SUCCESS),
    attempts=[_tried(1, AttemptStatus.FAILURE), _tried(2, AttemptStatus.SUCCESS)],
    transfers=[_moved("capture", 2)],
    watches=[_watched("WATCHING")],
    events=[
        _told(1, "payment.attempted", "FAILURE"),
        _told(2, "payment.attempted", "SUCCESS", 2),
        _told(3, "payment.completed", "SUCCESS", 2),
    ],
)
FAILED = PaymentRows(
    payment=_paid(Status.FAILURE),
    attempts=[_tried(1, AttemptStatus.FAILURE)],
    watches=[_watched("WATCHING")],
    events=[_told(1, "payment.attempted", "FAILURE"), _told(2, "payment.completed", "FAILURE")],
)
GAVE_BACK = structs.replace(
    FAILED,
    attempts=[_tried(1, AttemptStatus.REVERSED)],
    transfers=[_moved("duplicate_capture"), _moved("reversal")],
    watches=[_watched("REVERSED")],
)
PENDING = PaymentRows(
    payment=_paid(Status.PENDING_VERIFICATION),
    attempts=[_tried(1, AttemptStatus.TIMEOUT, next_check_at=NOON)],
    events=[],
)

RESOLVED = PaymentRows(
    payment=_paid(Status.SUCCESS),
    attempts=[_tried(1, AttemptStatus.SUCCESS)],
    transfers=[_moved("unmatched", 1, 999), _moved("resolution", 1, 999)],
    events=[_told(1, "payment.attempted", "TIMEOUT"), _told(2, "payment.completed", "SUCCESS")],
)
"""A person has said that it is a success, of another amount than asked for."""

PASSING_OVER = PaymentRows(
    payment=_paid(Status.PROCESSING),
    attempts=[_tried(1, AttemptStatus.SENDING, next_check_at=NOON), _tried(2, AttemptStatus.SKIPPED)],
)


@pytest.mark.parametrize("case", [GOOD, FAILED, GAVE_BACK, PENDING, RESOLVED, PASSING_OVER])
def test_what_is_right_passes(case: PaymentRows) -> None:
    assert check(case) == ()


@pytest.mark.parametrize(
    ("case", "lines"),
    [
        (GOOD, [_line(number=2)]),
        (GOOD, [_line(number=2), _line(number=1)]),
        (FAILED, []),
        (FAILED, [_line()]),
        (GAVE_BACK, [_line(), _line("reversed")]),
        (PENDING, [_line()]),
        (RESOLVED, [_line(amount_minor=999)]),
    ],
)
def test_what_is_settled_so_passes(case: PaymentRows, lines: list[SettlementLine]) -> None:
    """Money that a watch is there to find, or that is still being asked about, is nobody's fault yet."""
    assert check(case, SettlementList(lines, ("g1", "g2"))) == ()


WRONG: list[tuple[str, PaymentRows]] = [
    ("I1", structs.replace(GOOD, attempts=[_tried(1, AttemptStatus.SUCCESS), _tried(2, AttemptStatus.SUCCESS)])),
    ("I1", structs.replace(GOOD, transfers=[_moved("capture", 2), _moved("capture", 1)])),
    ("I1", structs.replace(GOOD, transfers=[_moved("capture", 2), _moved("duplicate_capture")], watches=[])),
    ("I2", structs.replace(GOOD, transfers=[])),
    ("I2", structs.replace(GOOD, transfers=[_moved("capture", 2, 999)])),
    ("I2", structs.replace(GOOD, attempts=[_tried(1, AttemptStatus.FAILURE)])),
    ("I3", structs.replace(FAILED, transfers=[_moved("capture")], watches=[])),
    ("I3", structs.replace(FAILED, attempts=[_tried(1, AttemptStatus.SUCCESS)])),
    ("I4", structs.replace(GOOD, transfers=[_moved("capture", 2), _moved("unmatched", 3)])),
    ("I5", structs.replace(GAVE_BACK, transfers=[_moved("duplicate_capture"), _moved("reversal", 1, 999)])),
    ("I5", structs.replace(GAVE_BACK, transfers=[_moved("reversal")])),
    ("I5", structs.replace(GAVE_BACK, transfers=[])),
    ("I7", structs.replace(GOOD, attempts=[_tried(1, AttemptStatus.TIMEOUT), _tried(2, AttemptStatus.SUCCESS)])),
    ("I7", structs.replace(GOOD, attempts=[])),
    ("I7", structs.replace(FAILED, attempts=[_tried(2, AttemptStatus.FAILURE)])),
    ("I7", structs.replace(PENDING, attempts=[_tried(1, AttemptStatus.TIMEOUT)])),
    ("I7", structs.replace(PENDING, payment=_paid(Status.PROCESSING))),
    ("I7", structs.replace(PENDING, payment=_paid(Status.REQUIRES_ACTION))),
    ("I7", structs.replace(FAILED, watches=[structs.replace(_watched("WATCHING"), next_check_at=None)])),
    ("I7", structs.replace(FAILED, events=[_told(2, "payment.completed", "SUCCESS")])),
    ("I8", structs.replace(FAILED, events=[])),
    ("I8", structs.replace(GOOD, events=[*(GOOD.events or ()), _told(9, "payment.completed", "SUCCESS", 2)])),
    ("I8", structs.replace(GOOD, events=[*(GOOD.events or ()), _told(9, "x", "SUCCESS", event_id="e-1")])),
    ("I8", structs.replace(GOOD, events=[*(GOOD.events or ()), _told(9, "x", "SUCCESS", published=0)])),
]


@pytest.mark.parametrize(("invariant", "case"), WRONG)
def test_each_disagreement_is_named(invariant: str, case: PaymentRows) -> None:
    found = check(case)
    assert invariant in {each.invariant for each in found}
    assert {each.payment_id for each in found} == {ID}
    assert {each.invariant for each in found} <= MEANINGS.keys()


@pytest.mark.parametrize(
    ("invariant", "case", "lines"),
    [
        ("I1", structs.replace(GOOD, watches=[]), [_line(number=2), _line(number=1)]),
        ("I1", GAVE_BACK, [_line(), _line("reversed"), _line("reversed")]),
        ("I2", GOOD, []),
        ("I2", GOOD, [_line(number=2, amount_minor=999)]),
        ("I2", RESOLVED, []),
        ("I2", RESOLVED, [_line(amount_minor=1000)]),
        ("I2", RESOLVED, [structs.replace(_line(amount_minor=999), currency="USD")]),
        ("I3", structs.replace(FAILED, watches=[]), [_line()]),
        ("I3", structs.replace(FAILED, watches=[_watched("OVER")]), [_line()]),
        ("I4", FAILED, [_line(number=3)]),
    ],
)
def test_what_the_gateways_know_better_is_named(invariant: str, case: PaymentRows, lines: list[SettlementLine]) -> None:
    assert invariant in {each.invariant for each in check(case, SettlementList(lines, ("g1", "g2")))}


def test_a_settlement_speaks_only_of_the_gateways_it_names() -> None:
    assert check(GOOD, SettlementList([], ("another",))) == ()


def test_a_key_of_two_payments_is_named() -> None:
    twin = structs.replace(GOOD, payment=structs.replace(GOOD.payment, payment_id="p-2"))
    assert same_key([GOOD]) == ()
    assert [each.invariant for each in same_key([GOOD, twin])] == ["I6"]


def test_states_lead_where_their_exits_lead() -> None:
    assert is_legal(Status.PROCESSING, Status.SUCCESS)
    assert is_legal(Status.REQUIRES_ACTION, Status.FAILURE)
    assert not is_legal(Status.SUCCESS, Status.FAILURE)
    assert not is_legal(Status.MANUAL_REVIEW, Status.PENDING_VERIFICATION)
