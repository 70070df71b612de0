"""A body that breaks a rule is refused with a pointer to each member at fault, and nothing is written."""

import json
from typing import Any

import pytest

from tests.server.serving import Served
from tests.server.wire import Answer, new_key, payment

CARD = {"type": "CARD", "token": "tok_1"}
INVALID = (400, "INVALID_REQUEST")


def _without(name: str) -> dict[str, Any]:
    return {member: value for member, value in payment().items() if member != name}


def _card(**members: object) -> dict[str, Any]:
    return payment(payment_method="CARD", instrument={**CARD, **members})


def _post(server: Served, body: object) -> Answer:
    """Post; a body that is refused leaves its key free."""
    key = new_key()
    answer = server.api.pay(body, key=key)
    if answer.status == 400:
        assert server.api.pay(key=key).status == 201
    return answer


ACCEPTED: list[dict[str, Any]] = [
    payment(amount_minor=1),
    payment(amount_minor=10**12),
    payment(currency="USD"),
    payment(merchant_id="m", customer_id="c" * 64),
    payment(merchant_id="मर्चेंट é"),
    payment(merchant_reference="r" * 255),
    payment(metadata={str(number): "v" * 255 for number in range(15)}),
    payment(customer={}, client={}),
    payment(customer={"email": "a@example.org", "contact": "+91 1234567890"}),
    payment(client={"ip": "2001:db8::1", "user_agent": "Mozilla/5.0", "referer": "https://shop.example/cart"}),
    payment(return_url="https://shop.example/back?order=1"),
    payment(merchant_reference=None, customer=None, client=None, return_url=None),
    payment(instrument={"type": "UPI"}),
    payment(instrument={"type": "UPI", "flow": "intent"}),
    payment(instrument={"type": "UPI", "flow": "collect", "vpa": "a.b-c_1@okicici"}),
    _card(),
    _card(bin="411111", last4="1111", exp_month=12, exp_year=2030, name="A B"),
    _card(bin="41111111"),
    payment(payment_method="NETBANKING", instrument={"type": "NETBANKING", "bank_code": "HDFC"}),
]

Case = tuple[dict[str, Any], str]


def _each(name: str, *values: object) -> list[Case]:
    """Give the member these values, one after another."""
    return [(payment(**{name: value}), f"/{name}") for value in values]  # type: ignore[arg-type]  # no address among them


def _each_card(name: str, *values: object) -> list[Case]:
    return [(_card(**{name: value}), f"/instrument/{name}") for value in values]


def _each_instrument(pointer: str, *instruments: object) -> list[Case]:
    return [(payment(instrument=each), pointer) for each in instruments]


REFUSED: list[Case] = [
    *((_without(name), f"/{name}") for name in payment()),
    *_each("amount_minor", 0, -1, 10**12 + 1, 10**30, 1.5, 1000.0, "1", None, bool(1)),
    *_each("currency", "inr", "XXX", "ZZZ", "IN", "INRR", 356, "₹₹₹", "IN\0"),
    *_each("payment_method", "upi", "WALLET", "", 1, None),
    *_each("merchant_id", "", "m" * 65, "\0", "a\nb", " ", "\u00a0", "a\u202eb", 5, None),
    *_each("customer_id", "", "c" * 65, "\x7f", "a\tb", "\u200b"),
    *_each("merchant_reference", "", "r" * 256, "a\x1fb", "  ", []),
    *_each("return_url", "javascript:alert(1)", "//x", "https://", "ftp://x/", "http:// x"),
    *_each("metadata", {str(number): "v" for number in range(16)}, [], "x"),
    *_each("metadata", {"": "v"}, {"k": ""}, {"k": 1}, {"k": None}, {"k": "\0"}, {"\0": "v"}),
    *_each("metadata", {"k" * 256: "v"}, {"k": "v" * 256}, {"k": {"a": "b"}}),
    *_each("customer", [], "x"),
    (payment(customer={"email": ""}), "/customer/email"),
    (payment(customer={"contact": "\r\n"}), "/customer/contact"),
    (payment(customer={"phone": "1"}), "/customer/phone"),
    (payment(client={"ip": "i" * 256}), "/client/ip"),
    (payment(client={"user_agent": "a\0b"}), "/client/user_agent"),
    *_each_instrument("/instrument", None, [], "UPI"),
    *_each_instrument("/instrument/type", {}, {"vpa": "a@b"}, {"type": "upi"}, {"type": "WALLET"}, CARD),
    *_each_instrument("/instrument/flow", {"type": "UPI", "flow": "push"}),
    *_each_instrument("/instrument/vpa", {"type": "UPI", "flow": "collect"}),
    *_each_instrument("/instrument/pin", {"type": "UPI", "vpa": "a@b", "pin": "1"}),
    *_each_instrument("/instrument/a~0b~1c", {"type": "UPI", "vpa": "a@b", "a~b/c": "1"}),
    *((payment(vpa), "/instrument/vpa") for vpa in ("test", "@okhdfcbank", "a@", "a b@c", "a@b@c", "a@b\n", "é@upi")),
    (payment("a" * 300 + "@b"), "/instrument/vpa"),
    (payment(payment_method="CARD", instrument={"type": "CARD"}), "/instrument/token"),
    *_each_card("bin", "41111", "411111111", "41111a", "٤١١١١١", "411111\n", 411111),
    *_each_card("last4", "111", "11111", "1111\n"),
    *_each_card("exp_month", 0, 13, "12"),
    *_each_card("exp_year", 26, 2101),
    *_each_card("name", "\x1b[31m", ""),
    *_each_card("number", "1"),
    (
        payment(payment_method="NETBANKING", instrument={"type": "NETBANKING", "bank_code": "\t"}),
        "/instrument/bank_code",
    ),
    *_each("surprise", 1),
    (payment(**{"a~b/c": 1}), "/a~0b~1c"),  # type: ignore[arg-type]  # a member, no address
]

NOT_DOCUMENTS = [
    b"",
    b" ",
    b"{",
    b"{}{}",
    b'{"amount_minor": "x"',
    b'{"amount_minor": 1000,}',
    b"{'amount_minor': 1000}",
    b'{"amount_minor": NaN}',
    b'{"amount_minor": Infinity}',
    b'{"amount_minor": 01}',
    b'{"amount_minor": 0x10}',
    b"\xff\xfe\x00",
    b"\xef\xbb\xbf{}",
    b'{"merchant_id": "\xff"}',
    b'{"merchant_id": "\x00"}',
    b'{"merchant_id": "\\ud800"}',
    b'{"\\udfff": 1}',
    b"[" * 60_000,
    b'{"a":' * 10_000,
    b'{"zz": ' + b"[" * 700 + b"]" * 700 + b', "x": "\\u0041"',
    "{}".encode("utf-16"),
]


def _named(case: object) -> str:
    return json.dumps(case)[-60:] if isinstance(case, dict) else ""


@pytest.mark.parametrize("body", ACCEPTED, ids=_named)
def test_what_the_rules_allow_is_taken(server: Served, body: dict[str, Any]) -> None:
    assert _post(server, body).status == 201


@pytest.mark.parametrize(("body", "pointer"), REFUSED, ids=_named)
def test_the_member_at_fault_is_named(server: Served, body: dict[str, Any], pointer: str) -> None:
    refused = _post(server, body)
    assert (refused.refusal, set(refused.pointers)) == (INVALID, {pointer})
    assert all(each["detail"] for each in refused.document["errors"])


def test_several_faults_are_named_at_once(server: Served) -> None:
    body = payment(amount_minor=0, payment_method="X", surprise=1, customer={"email": 5})
    del body["merchant_id"]
    refused = _post(server, body)
    assert sorted(refused.pointers) == [
        "/amount_minor",
        "/customer/email",
        "/merchant_id",
        "/payment_method",
        "/surprise",
    ]
    by_value = _post(server, payment("x", currency="ZZZ", customer_id="\0", return_url="x", client={"ip": " "}))
    assert sorted(by_value.pointers) == ["/client/ip", "/currency", "/customer_id", "/instrument/vpa", "/return_url"]


def test_no_detail_repeats_a_value(server: Served) -> None:
    secret = "hunter2-is-no-enum"
    for body in (
        payment(payment_method=secret),
        payment(instrument={"type": secret}),
        payment(instrument={"type": "UPI", "flow": secret}),
        payment(currency=secret),
        payment(secret),
        payment(return_url=secret),
        payment(metadata={secret: 1}),
    ):
        refused = _post(server, body)
        assert refused.refusal == INVALID
        assert secret not in json.dumps(refused.document)


def test_choices_are_named(server: Served) -> None:
    refused = _post(server, payment(payment_method="upi"))
    assert refused.document["errors"] == [
        {"pointer": "/payment_method", "detail": "must be one of UPI, CARD, NETBANKING"}
    ]


@pytest.mark.parametrize("body", NOT_DOCUMENTS, ids=lambda body: repr(body[:24]))
def test_what_is_no_json_document_is_refused_as_that(server: Served, body: bytes) -> None:
    refused = _post(server, body)
    assert refused.refusal == INVALID
    assert refused.pointers == []


@pytest.mark.parametrize("body", [b"null", b"[]", b'"x"', b"5", b"true"])
def test_a_document_that_is_no_object_is_refused(server: Served, body: bytes) -> None:
    refused = _post(server, body)
    assert (refused.refusal, refused.pointers) == (INVALID, [""])


@pytest.mark.parametrize(
    "number", [b"9" * 400, b"9" * 5000, b"-" + b"9" * 5000, b"1e400", b"1e999999", b"1" + b"0" * 4000 + b".5"]
)
def test_numbers_beyond_any_measure_are_refused(server: Served, number: bytes) -> None:
    body = json.dumps(payment(amount_minor=0)).encode().replace(b'"amount_minor": 0', b'"amount_minor": ' + number)
    refused = _post(server, body)
    assert (refused.refusal, refused.pointers) == (INVALID, ["/amount_minor"])


def test_of_a_member_given_twice_the_last_counts(server: Served) -> None:
    body = json.dumps(payment()).encode().replace(b'"currency"', b'"amount_minor": 2000, "currency"')
    assert server.api.pay(body).document["amount_minor"] == 2000


def test_a_body_of_unknown_members_gets_a_short_answer(server: Served) -> None:
    refused = _post(server, {f"unknown-{number}": 1 for number in range(3000)})
    assert refused.refusal == INVALID
    assert len(refused.document["errors"]) == 50


@pytest.mark.parametrize(
    "content_type",
    ["text/plain", "application/x-www-form-urlencoded", "application/jsonx", "application/problem+json", ""],
)
def test_another_content_type_is_415(server: Served, content_type: str) -> None:
    refused = server.api.pay(headers={"Content-Type": content_type})
    assert refused.refusal == (415, "UNSUPPORTED_MEDIA_TYPE")


@pytest.mark.parametrize(
    "content_type", ["application/json; charset=utf-8", "Application/JSON", "application/json ;x=y"]
)
def test_json_by_any_spelling_is_taken(server: Served, content_type: str) -> None:
    assert server.api.pay(headers={"Content-Type": content_type}).status == 201


@pytest.mark.parametrize("key", ["k", "K" * 255, "a b/c+d=~!", "01a209cb-cfba-7a2d-9dd2-09fd5755e3dd"])
def test_any_printable_ascii_is_a_key(server: Served, key: str) -> None:
    taken = server.api.pay(payment(merchant_id=new_key()), key=key)
    assert taken.status == 201


@pytest.mark.parametrize("headers", [{}, {"Idempotency-Key": ""}], ids=["none", "empty"])
def test_a_payment_needs_a_key(server: Served, headers: dict[str, str]) -> None:
    assert server.api.call("POST", "/payments", payment(), headers).refusal == (400, "MISSING_IDEMPOTENCY_KEY")


@pytest.mark.parametrize("key", ["k" * 256, "a\tb", "clé", "a\x7f"], ids=repr)
def test_a_key_of_another_form_is_refused(server: Served, key: str) -> None:
    refused = server.api.pay(key=key)
    assert refused.status == 400
    assert refused.code in {"INVALID_IDEMPOTENCY_KEY", "INVALID_REQUEST"}


def test_two_keys_are_none(server: Served) -> None:
    body = json.dumps(payment()).encode()
    head = f"POST /payments HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Length: {len(body)}\r\n"
    (refused,) = server.api.raw(head.encode() + b"Idempotency-Key: a\r\nIdempotency-Key: b\r\n\r\n" + body)
    assert refused.refusal == (400, "INVALID_IDEMPOTENCY_KEY")


@pytest.mark.parametrize(
    ("size", "expected"), [(64 * 1024, (400, "INVALID_REQUEST")), (64 * 1024 + 1, (413, "BODY_TOO_LARGE"))]
)
def test_a_body_may_have_64_kib(server: Served, size: int, expected: tuple[int, str]) -> None:
    assert server.api.pay(b"[" + b" " * (size - 2) + b"]").refusal == expected


def test_a_much_larger_body_is_told_so_and_not_cut_off(server: Served) -> None:
    assert server.api.pay(b" " * 10_000_000).refusal == (413, "BODY_TOO_LARGE")
