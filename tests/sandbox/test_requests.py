"""A request is taken exactly as the documentation writes it, and every fault is told by its member."""

import json
from typing import Any

import msgspec
import pytest

from pgw.razorpay_simulator.requests import (
    CaptureRequest,
    CreateOrder,
    CreatePayment,
    CreateRefund,
    OrderQuery,
    decode,
    query,
)
from tests.sandbox.books import AUTOMATIC, refusal
from tests.sandbox.served import CARD, COLLECT, NETBANKING, order_of, payment_of

ORDER = "order_DPzFe1Q1dEOKed"


def _told(kind: type[object], document: dict[str, Any]) -> tuple[str, str | None]:
    refused = refusal(lambda: decode(json.dumps(document).encode(), kind))
    return refused.failure.reason, refused.failure.field


@pytest.mark.parametrize(
    ("kind", "document"),
    [
        (CreateOrder, {"amount": 100, "currency": "INR"}),
        (CreateOrder, order_of(receipt="r" * 40, notes={str(n): "x" * 256 for n in range(15)})),
        (CreateOrder, order_of(payment=AUTOMATIC)),
        (CreateOrder, order_of(payment={"capture": "manual"})),
        (CreatePayment, payment_of(ORDER)),
        (CreatePayment, payment_of(ORDER, **COLLECT)),
        (CreatePayment, payment_of(ORDER, **CARD)),
        (CreatePayment, payment_of(ORDER, **NETBANKING, ip="::1", callback_url="https://example.com/back")),
        (CaptureRequest, {"amount": 1000, "currency": "INR"}),
        (CreateRefund, {}),
        (CreateRefund, {"amount": 100, "speed": "optimum", "notes": {"a": "b"}, "receipt": "late-1"}),
    ],
    ids=str,
)
def test_what_is_documented_is_taken(kind: type[object], document: dict[str, Any]) -> None:
    assert isinstance(decode(json.dumps(document).encode(), kind), kind)


INVALID, EXTRA = "input_validation_failed", "extra_field_sent"


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ({"amount": 99}, (INVALID, "amount")),
        ({"amount": -1000}, (INVALID, "amount")),
        ({"amount": "1000"}, (INVALID, "amount")),
        ({"amount": 1000.5}, (INVALID, "amount")),
        ({"amount": None}, (INVALID, "amount")),
        ({"currency": "RUPEE"}, (INVALID, "currency")),
        ({"currency": "inr"}, (INVALID, "currency")),
        ({"receipt": "r" * 41}, (INVALID, "receipt")),
        ({"receipt": ""}, (INVALID, "receipt")),
        ({"notes": {str(n): "x" for n in range(16)}}, (INVALID, "notes")),
        ({"notes": {"a": "x" * 257}}, (INVALID, "notes")),
        ({"notes": {"a": 1}}, (INVALID, "notes[...]")),
        ({"payment": {}}, (INVALID, "capture")),
        ({"payment": {"capture": "later"}}, (INVALID, "payment.capture")),
        ({"payment": {"capture": "automatic"}}, (INVALID, "automatic_expiry_period")),
        (
            {"payment": {"capture": "automatic", "capture_options": {"automatic_expiry_period": 11}}},
            (INVALID, "automatic_expiry_period"),
        ),
        (
            {"payment": {"capture": "manual", "capture_options": {"manual_expiry_period": 11}}},
            (INVALID, "manual_expiry_period"),
        ),
        (
            {"payment": {"capture": "manual", "capture_options": {"manual_expiry_period": 7201}}},
            (INVALID, "manual_expiry_period"),
        ),
        ({"payment": {"capture": "manual", "capture_option": {}}}, (EXTRA, "capture_option")),
        ({"attempt_id": "1"}, (EXTRA, "attempt_id")),
    ],
    ids=str,
)
def test_an_order_that_is_wrong_is_refused_for_its_member(
    change: dict[str, Any], expected: tuple[str, str | None]
) -> None:
    assert expected == _told(CreateOrder, order_of(**change))


@pytest.mark.parametrize("name", ["amount", "currency"])
def test_an_order_needs_its_money(name: str) -> None:
    document = {key: value for key, value in order_of().items() if key != name}
    assert _told(CreateOrder, document) == (INVALID, name)


@pytest.mark.parametrize(
    ("members", "name"),
    [
        *(({}, name) for name in ("amount", "currency", "order_id", "email", "contact", "method", "upi")),
        *((COLLECT, name) for name in ("ip", "referer", "user_agent")),
        *((CARD, name) for name in ("token", "card")),
        (NETBANKING, "bank"),
    ],
    ids=str,
)
def test_a_payment_needs_what_its_method_documents(members: dict[str, Any], name: str) -> None:
    document = payment_of(ORDER, **members)
    del document[name]
    assert _told(CreatePayment, document) == (INVALID, name)


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ({"email": "nobody"}, (INVALID, "email")),
        ({"email": f"{'a' * 40}@b.c"}, (INVALID, "email")),
        ({"contact": "1234567"}, (INVALID, "contact")),
        ({"contact": "+91 90909"}, (INVALID, "contact")),
        ({"contact": "9" * 16}, (INVALID, "contact")),
        ({"method": "wallet"}, (INVALID, "method")),
        ({"currency": "USD"}, (INVALID, "currency")),
        ({"upi": {"flow": "qr"}}, (INVALID, "upi.flow")),
        ({**COLLECT, "upi": {"flow": "collect"}}, (INVALID, "vpa")),
        ({**COLLECT, "upi": {"flow": "collect", "vpa": "nobody"}}, (INVALID, "vpa")),
        ({**COLLECT, "upi": {"flow": "collect", "vpa": "a@b", "expiry_time": 5761}}, (INVALID, "expiry_time")),
        ({**CARD, "card": {"number": "4386289407660153"}}, (EXTRA, "number")),
        ({**CARD, "card": {"cvv": "123"}}, (INVALID, "card.cvv")),
        ({"idempotency_key": "1"}, (EXTRA, "idempotency_key")),
    ],
    ids=str,
)
def test_a_payment_that_is_wrong_is_refused_for_its_member(
    change: dict[str, Any], expected: tuple[str, str | None]
) -> None:
    assert expected == _told(CreatePayment, payment_of(ORDER, **change))


@pytest.mark.parametrize("change", [{"ip": None}, {"upi": {"flow": "intent", "vpa": None}}, {"notes": None}], ids=str)
def test_a_member_that_is_null_is_refused(change: dict[str, Any]) -> None:
    document = {**payment_of(ORDER), **change}
    assert _told(CreatePayment, document)[0] == INVALID


def test_the_cvv_of_a_card_paid_by_token_may_be_null() -> None:
    asked = decode(json.dumps(payment_of(ORDER, **{**CARD, "card": {"cvv": None}})).encode(), CreatePayment)
    assert asked.card is not None


def test_a_document_without_a_bottom_is_no_json() -> None:
    deep = b'{"browser": {"a":' + b"[" * 20_000 + b"]" * 20_000 + b"}}"
    assert refusal(lambda: decode(deep, CreatePayment)).failure.reason == INVALID


def test_no_refusal_repeats_a_card_number() -> None:
    number = "4386289407660153"
    document = payment_of(ORDER, **{**CARD, "card": {"cvv": number}})
    refused = refusal(lambda: decode(json.dumps(document).encode(), CreatePayment))
    assert number not in msgspec.json.encode(refused.document).decode()


@pytest.mark.parametrize(
    ("kind", "document", "expected"),
    [
        (CaptureRequest, {"amount": 1000}, (INVALID, "currency")),
        (CaptureRequest, {"amount": "1000", "currency": "INR"}, (INVALID, "amount")),
        (CaptureRequest, {"amount": 1000, "currency": "INR", "receipt": "x"}, (EXTRA, "receipt")),
        (CreateRefund, {"amount": 99}, (INVALID, "amount")),
        (CreateRefund, {"amount": "100"}, (INVALID, "amount")),
        (CreateRefund, {"speed": "instant"}, (INVALID, "speed")),
        (CreateRefund, {"reason": "x"}, (EXTRA, "reason")),
    ],
    ids=str,
)
def test_a_capture_or_refund_that_is_wrong_is_refused_for_its_member(
    kind: type[object], document: dict[str, Any], expected: tuple[str, str | None]
) -> None:
    assert expected == _told(kind, document)


def test_the_parameters_of_an_address_are_read_as_text() -> None:
    assert query({"count": "2", "skip": "1", "expand[]": "payments"}, OrderQuery) == OrderQuery(
        count=2, skip=1, expand="payments"
    )


@pytest.mark.parametrize(
    ("parameters", "name"),
    [({"count": "0"}, "count"), ({"count": "101"}, "count"), ({"count": "x"}, "count"), ({"recipt": "x"}, "recipt")],
)
def test_a_parameter_that_is_wrong_is_refused(parameters: dict[str, str], name: str) -> None:
    assert refusal(lambda: query(parameters, OrderQuery)).failure.field == name
