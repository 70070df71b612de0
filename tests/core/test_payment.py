"""A request is taken only if each of its values obeys the rules; a payment's statuses have exactly their exits."""

from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pgw.core.payment.payment import (
    EXITS,
    Card,
    Instrument,
    Netbanking,
    PaymentRequest,
    Status,
    Upi,
    UpiFlow,
    faults,
    masked,
    upi_flow,
)

PAYMENT: dict[str, Any] = {
    "amount_minor": 1000,
    "currency": "INR",
    "payment_method": "UPI",
    "merchant_id": "m_001",
    "customer_id": "cust_001",
    "instrument": {"type": "UPI", "vpa": "test@okhdfcbank"},
}
FULL: dict[str, Any] = PAYMENT | {
    "merchant_reference": "order 1",
    "metadata": {"basket": "7"},
    "customer": {"email": "a@b.example", "contact": "+910000000000"},
    "client": {"ip": "192.0.2.1", "user_agent": "agent", "referer": "https://shop.example/"},
    "return_url": "https://shop.example/back?order=1",
}


def _decode(document: dict[str, Any]) -> PaymentRequest:
    return msgspec.json.decode(msgspec.json.encode(document), type=PaymentRequest)


def _each(member: str, *values: object) -> list[dict[str, object]]:
    return [{member: value} for value in values]


def _pointers(document: dict[str, Any]) -> list[str]:
    return [fault.pointer for fault in faults(_decode(document))]


def test_a_status_has_the_exits_of_the_contract() -> None:
    final = {Status.SUCCESS, Status.FAILURE}
    expected = {
        Status.PROCESSING: set(Status) - {Status.PROCESSING},
        Status.REQUIRES_ACTION: final | {Status.PENDING_VERIFICATION, Status.MANUAL_REVIEW},
        Status.PENDING_VERIFICATION: final | {Status.MANUAL_REVIEW},
        Status.MANUAL_REVIEW: final,
        Status.SUCCESS: set(),
        Status.FAILURE: set(),
    }
    assert expected == EXITS


@pytest.mark.parametrize("status", Status)
def test_a_status_is_final_exactly_when_nothing_follows_it(status: Status) -> None:
    assert status.is_final == (not EXITS[status])


@pytest.mark.parametrize("document", [PAYMENT, FULL])
def test_a_right_request_has_no_faults(document: dict[str, Any]) -> None:
    assert _pointers(document) == []


@pytest.mark.parametrize("amount_minor", [1, 10**12])
def test_the_bounds_of_an_amount_are_taken(amount_minor: int) -> None:
    assert _decode(PAYMENT | {"amount_minor": amount_minor}).amount_minor == amount_minor


@pytest.mark.parametrize(
    "change",
    [
        *_each("amount_minor", 0, -1, 10**12 + 1, 10.0, 10.5, "1000", None),
        {"amount_minor": True},
        *_each("currency", "", "IN", "RUPEE", 356),
        *_each("payment_method", "upi", "WALLET", None),
        *_each("merchant_id", "", "x" * 65, 1),
        *_each("customer_id", "", "x" * 65, None),
        *_each("merchant_reference", "", "x" * 256, 1),
        *_each("metadata", {f"k{n}": "v" for n in range(16)}, {"k": 1}, {"": "v"}, {"k": ""}, []),
        {"instrument": {"type": "UPI", "vpa": "x" * 256}},
        {"instrument": {"type": "UPI", "flow": "push"}},
        {"instrument": {"type": "UPI", "number": "1"}},
        {"instrument": {"vpa": "test@okhdfcbank"}},
        {"instrument": {"type": "CARD"}},
        {"instrument": {"type": "CARD", "token": "t", "bin": "41111"}},
        {"instrument": {"type": "CARD", "token": "t", "last4": "11"}},
        {"instrument": {"type": "CARD", "token": "t", "exp_month": 13}},
        {"instrument": {"type": "NETBANKING"}},
        {"customer": {"name": "a"}},
        {"client": {"port": "1"}},
        {"priority": 1},
    ],
    ids=str,
)
def test_a_value_of_the_wrong_form_or_an_unknown_member_is_refused(change: dict[str, Any]) -> None:
    with pytest.raises(msgspec.ValidationError):
        _decode(PAYMENT | change)


@pytest.mark.parametrize(
    ("change", "pointer"),
    [
        ({"currency": "XYZ"}, "/currency"),
        ({"currency": "inr"}, "/currency"),
        ({"payment_method": "CARD"}, "/instrument/type"),
        ({"instrument": {"type": "NETBANKING", "bank_code": "HDFC"}}, "/instrument/type"),
        ({"instrument": {"type": "UPI", "flow": "collect"}}, "/instrument/vpa"),
        ({"instrument": {"type": "UPI", "vpa": "nobody"}}, "/instrument/vpa"),
        ({"instrument": {"type": "UPI", "vpa": "a@b@c"}}, "/instrument/vpa"),
        ({"return_url": "javascript:alert(1)"}, "/return_url"),
        ({"merchant_id": "   "}, "/merchant_id"),
        ({"metadata": {"k": " "}}, "/metadata"),
    ],
    ids=str,
)
def test_what_the_types_cannot_say_is_pointed_at(change: dict[str, Any], pointer: str) -> None:
    assert _pointers(PAYMENT | change) == [pointer]


TEXTS = [
    ("merchant_id",),
    ("customer_id",),
    ("merchant_reference",),
    ("return_url",),
    ("metadata", "basket"),
    ("customer", "email"),
    ("customer", "contact"),
    ("client", "ip"),
    ("client", "user_agent"),
    ("client", "referer"),
    ("instrument", "vpa"),
]


@given(st.sampled_from(TEXTS), st.characters(categories=["Cc", "Zl", "Zp"]), st.integers(0, 3))
def test_a_control_character_anywhere_in_a_text_is_a_fault(path: tuple[str, ...], control: str, at: int) -> None:
    *parents, name = path
    document = FULL
    for parent in parents:
        document = document[parent]
    spoilt: dict[str, Any] = document | {name: document[name][:at] + control + document[name][at:]}
    for parent in parents:
        spoilt = FULL | {parent: spoilt}
    assert ("/metadata" if parents == ["metadata"] else "/" + "/".join(path)) in _pointers(spoilt)


@pytest.mark.parametrize(
    ("instrument", "flow"),
    [
        (Upi(vpa="a@b"), UpiFlow.COLLECT),
        (Upi(), UpiFlow.INTENT),
        (Upi(vpa="a@b", flow=UpiFlow.INTENT), UpiFlow.INTENT),
        (Upi(vpa="a@b", flow=UpiFlow.COLLECT), UpiFlow.COLLECT),
    ],
)
def test_the_upi_flow_is_the_one_asked_for_else_follows_the_address(instrument: Upi, flow: UpiFlow) -> None:
    assert upi_flow(instrument) == flow


@pytest.mark.parametrize(
    ("instrument", "kept"),
    [
        (Upi(), "intent"),
        (Upi(vpa="9876543210@ybl"), "9***@ybl"),
        (Card(token="tok_1", bin="41111111", last4="1111"), "411111******1111"),
        (Card(token="tok_1"), "******"),
        (Netbanking(bank_code="HDFC"), "HDFC"),
    ],
)
def test_of_an_instrument_only_its_masked_form_is_kept(instrument: Instrument, kept: str) -> None:
    assert masked(instrument) == kept


@given(st.builds(Card, token=st.just("tok_secret"), bin=st.from_regex(r"[0-9]{6,8}", fullmatch=True), name=st.text()))
def test_no_more_of_a_card_is_kept_than_its_first_six_and_last_four_digits(card: Card) -> None:
    assert sum(character.isdigit() for character in masked(card)) <= 10
    assert "tok" not in masked(card)
