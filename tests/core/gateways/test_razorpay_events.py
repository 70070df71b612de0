"""Razorpay's events -> what they name: as documented, and nothing at all of what has another form."""

import json
from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pgw.core.gateways.razorpay_events import notice_in, receipt_of, reference_in
from pgw.core.ports import Reference
from pgw.core.verification.webhook import WebhookNotice

PAYMENT_ID = "01a209b6-07db-7bfb-9c8d-7b1a3a9dbc3b"
RECEIPT = f"{PAYMENT_ID}-2"
AT = datetime(2023, 8, 11, 6, 35, 48, tzinfo=UTC)
PAYMENT = {"id": "pay_DESp9bgForNoUd", "entity": "payment", "order_id": "order_DESlLckIVRkHWj", "status": "captured"}


def event_of(payload: Any, event: Any = "payment.captured", created_at: Any = 1691735748) -> bytes:
    """Write an event as the documentation shows it."""
    contains = list(payload) if isinstance(payload, dict) else []
    document = {"account_id": "acc_1", "contains": contains, "entity": "event", "event": event, "payload": payload}
    return json.dumps({**document, "created_at": created_at}).encode()


def entities(**found: Any) -> dict[str, Any]:
    return {kind: {"entity": entity} for kind, entity in found.items()}


def notice(**members: Any) -> WebhookNotice:
    return WebhookNotice(event="payment.captured", occurred_at=AT, **members)


OURS = {"payment_id": PAYMENT_ID, "attempt_number": 2}
THEIRS = {"transaction_ref": "pay_DESp9bgForNoUd"}


def test_a_card_number_is_no_name_though_it_has_the_form_of_one() -> None:
    assert notice_in(event_of({}, event="4111111111111111")) is None
    for payload in (
        entities(payment={"id": "pay_4111111111111111"}),
        entities(refund={"payment_id": "pay_4111111111111111"}),
    ):
        assert notice() == notice_in(event_of(payload))


@pytest.mark.parametrize(
    ("payload", "named"),
    [
        (entities(payment={**PAYMENT, "notes": {"receipt": RECEIPT}}), {**OURS, **THEIRS}),
        (entities(payment={**PAYMENT, "notes": []}), THEIRS),
        (entities(payment={**PAYMENT, "notes": {"receipt": "somebody else's"}}), THEIRS),
        (entities(order={"id": "order_1", "receipt": RECEIPT}, payment=PAYMENT), {**OURS, **THEIRS}),
        (entities(order={"id": "order_1", "receipt": RECEIPT}), OURS),
        (entities(refund={"id": "rfnd_1", "payment_id": "pay_DESp9bgForNoUd"}), THEIRS),
        (entities(**{"payment.downtime": {"id": "down_1"}}), {}),
        ({}, {}),
    ],
    ids=[
        "payment",
        "payment without notes",
        "payment of another",
        "order paid",
        "order",
        "refund",
        "downtime",
        "nothing",
    ],
)
def test_an_event_names_what_the_documentation_says(payload: Any, named: dict[str, Any]) -> None:
    assert notice_in(event_of(payload)) == notice(**named)


JUNK: list[Any] = [None, 1, -1, "", "x" * 1000, "pay_", "pay_'; --", "\n", True, 1.5, [], [PAYMENT], {}, {"entity": 1}]


@pytest.mark.parametrize("junk", JUNK, ids=lambda junk: str(junk)[:20])
def test_a_member_of_another_form_is_no_name(junk: Any) -> None:
    payloads = (
        junk,
        {"payment": junk, "order": junk, "refund": junk},
        entities(payment=junk, order=junk, refund=junk),
        entities(payment={"id": junk, "notes": junk}, order={"receipt": junk}, refund={"payment_id": junk}),
        entities(payment={"notes": {"receipt": junk}}),
    )
    assert [notice_in(event_of(payload)) for payload in payloads] == [notice()] * len(payloads)


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"null",
        b"[]",
        b"{}",
        b"\xff\xfe",
        b'{"event": "payment.captured"}',
        b"[" * 20_000,
        b'{"event": "a", "created_at": 1, "payload": ' + b"[" * 20_000 + b"]" * 20_000 + b"}",
        event_of({}, event=""),
        event_of({}, event="e" * 65),
        event_of({}, event="payment captured\n"),
        event_of({}, event=None),
        event_of({}, created_at="1691735748"),
        event_of({}, created_at=None),
        event_of({}, created_at=True),
        event_of({}, created_at=10**15),
        event_of({}, created_at=-(10**15)),
        event_of({}, created_at=10**30),
        event_of({}, created_at=1.5),
    ],
    ids=lambda body: body.decode("latin-1")[-60:],
)
def test_what_is_no_event_is_not_read(body: bytes) -> None:
    assert notice_in(body) is None


@given(st.binary(max_size=300))
def test_no_bytes_are_more_than_can_be_read(body: bytes) -> None:
    assert notice_in(body) is None


LEAVES = st.none() | st.booleans() | st.integers() | st.text(max_size=40) | st.just(RECEIPT)
KEYS = st.sampled_from(["payment", "order", "refund", "entity", "notes", "receipt", "id", "payment_id"]) | st.text()


@given(st.recursive(LEAVES, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(KEYS, inner, max_size=4)))
def test_whatever_it_holds_the_names_are_well_formed(payload: Any) -> None:
    found = notice_in(event_of(payload))
    assert found is not None
    assert (found.payment_id, found.attempt_number) in {(None, None), (PAYMENT_ID, 2)}
    assert found.transaction_ref is None or found.transaction_ref.startswith("pay_")


@given(st.uuids(), st.integers(1, 99))
def test_a_receipt_says_which_attempt_it_is_of(payment_id: Any, number: int) -> None:
    reference = Reference(str(payment_id), number)
    assert reference_in(receipt_of(reference)) == reference
    assert len(receipt_of(reference)) <= 40


@pytest.mark.parametrize(
    "receipt", [None, 1, "", RECEIPT.upper(), RECEIPT + "\n", f"{PAYMENT_ID}-0", f"{PAYMENT_ID}-100", PAYMENT_ID]
)
def test_anything_else_is_no_receipt_of_ours(receipt: Any) -> None:
    assert reference_in(receipt) is None
