"""Every route of Razorpay's, over a real socket: what it answers, and what it refuses."""

import re

import pytest

from pgw.razorpay_simulator.documents import FEE_DIVISOR
from tests.sandbox.served import AMOUNT, BASIC, CARD, COLLECT, NETBANKING, Gateway, order_of, payment_of

ORDER_ID = re.compile(r"order_[0-9A-Za-z]{14}")
PAYMENT_ID = re.compile(r"pay_[0-9A-Za-z]{14}")
REFUND_ID = re.compile(r"rfnd_[0-9A-Za-z]{14}")


def test_an_order_is_answered_as_the_documentation_shows_it(gateway: Gateway) -> None:
    made = gateway.post("/v1/orders", order_of(receipt="attempt-1", notes={"payment": "p-1"}))
    assert ORDER_ID.fullmatch(made["id"])
    assert made == {
        "id": made["id"],
        "entity": "order",
        "amount": AMOUNT,
        "amount_paid": 0,
        "amount_due": AMOUNT,
        "currency": "INR",
        "receipt": "attempt-1",
        "offer_id": None,
        "status": "created",
        "attempts": 0,
        "notes": {"payment": "p-1"},
        "created_at": int(gateway.clock.now().timestamp()),
    }
    assert gateway.get(f"/v1/orders/{made['id']}") == made


def test_notes_that_are_empty_are_a_list_as_razorpay_writes_them(gateway: Gateway) -> None:
    assert gateway.get(f"/v1/orders/{gateway.order()}")["notes"] == []


def test_a_receipt_finds_its_order_and_no_other(gateway: Gateway) -> None:
    wanted = gateway.order(receipt="attempt-1")
    gateway.order(receipt="attempt-2")
    found = gateway.get("/v1/orders?receipt=attempt-1")
    assert (found["entity"], found["count"]) == ("collection", 1)
    assert [each["id"] for each in found["items"]] == [wanted]
    assert gateway.get("/v1/orders?receipt=attempt-3") == {"entity": "collection", "count": 0, "items": []}


def test_a_receipt_is_used_once(gateway: Gateway) -> None:
    made = gateway.order(receipt="attempt-1")
    refused = gateway.call("POST", "/v1/orders", order_of(receipt="attempt-1"))
    assert refused.status == 400
    assert refused.error["description"] == "Order receipt should be unique."
    assert refused.error["metadata"] == {"order_id": made}


def test_orders_are_listed_newest_first_by_pages(gateway: Gateway) -> None:
    made = [gateway.order() for _ in range(12)]
    assert [each["id"] for each in gateway.get("/v1/orders")["items"]] == made[:-11:-1]
    assert [each["id"] for each in gateway.get("/v1/orders?count=2&skip=1")["items"]] == [made[-2], made[-3]]


def test_orders_are_listed_with_their_payments_when_asked(gateway: Gateway) -> None:
    order = gateway.order(receipt="attempt-1")
    payment = gateway.charge(order)
    found = gateway.get("/v1/orders?receipt=attempt-1&expand%5B%5D=payments")["items"][0]["payments"]
    assert found == gateway.get(f"/v1/orders/{order}/payments")
    assert [each["id"] for each in found["items"]] == [payment]


def test_an_order_shows_every_try_and_what_was_paid(gateway: Gateway) -> None:
    order = gateway.order()
    first, second = gateway.charge(order), gateway.charge(order)
    gateway.post(f"/sandbox/payments/{first}/decline", {"reason": "insufficient_funds"})
    gateway.approve(second)
    found = gateway.get(f"/v1/orders/{order}/payments")
    assert [(each["id"], each["status"]) for each in found["items"]] == [(first, "failed"), (second, "authorized")]
    assert gateway.get(f"/v1/orders/{order}")["status"] == "attempted"

    gateway.post(f"/v1/payments/{second}/capture", {"amount": AMOUNT, "currency": "INR"})
    paid = gateway.get(f"/v1/orders/{order}")
    assert (paid["status"], paid["attempts"], paid["amount_paid"], paid["amount_due"]) == ("paid", 2, AMOUNT, 0)


def test_a_upi_intent_is_answered_with_a_link_to_an_app(gateway: Gateway) -> None:
    answer = gateway.post("/v1/payments/create/upi", payment_of(gateway.order()))
    assert answer.keys() == {"razorpay_payment_id", "link"}
    assert PAYMENT_ID.fullmatch(answer["razorpay_payment_id"])
    assert answer["link"].startswith("upi://pay?pa=sandbox@razorpay&")
    assert "&am=10.00&cu=INR&" in answer["link"]


def test_a_upi_collect_is_answered_with_the_payment_only(gateway: Gateway) -> None:
    answer = gateway.post("/v1/payments/create/upi", payment_of(gateway.order(), **COLLECT))
    assert answer.keys() == {"razorpay_payment_id"}


@pytest.mark.parametrize("members", [CARD, NETBANKING], ids=["card", "netbanking"])
def test_a_card_and_a_bank_are_answered_with_a_redirect(gateway: Gateway, members: dict[str, object]) -> None:
    answer = gateway.post("/v1/payments/create/json", payment_of(gateway.order(), **members))
    payment = answer["razorpay_payment_id"]
    assert answer["next"] == [{"action": "redirect", "url": f"http://127.0.0.1:{gateway.port}/pay/{payment}"}]


def test_upi_through_the_other_route_is_answered_with_the_steps(gateway: Gateway) -> None:
    intent = gateway.post("/v1/payments/create/json", payment_of(gateway.order()))
    assert [each["action"] for each in intent["next"]] == ["intent", "poll"]
    collect = gateway.post("/v1/payments/create/json", payment_of(gateway.order(), **COLLECT))
    poll = f"http://127.0.0.1:{gateway.port}/v1/payments/{collect['razorpay_payment_id']}"
    assert collect["next"] == [{"action": "poll", "url": poll}]


def test_a_payment_is_answered_as_the_documentation_shows_it(gateway: Gateway) -> None:
    order = gateway.order()
    payment = gateway.charge(order, description="Shoes")
    found = gateway.get(f"/v1/payments/{payment}")
    assert found == {
        "id": payment,
        "entity": "payment",
        "amount": AMOUNT,
        "currency": "INR",
        "status": "created",
        "order_id": order,
        "invoice_id": None,
        "international": False,
        "method": "upi",
        "amount_refunded": 0,
        "refund_status": None,
        "captured": False,
        "description": "Shoes",
        "card_id": None,
        "bank": None,
        "wallet": None,
        "vpa": None,
        "email": "gaurav.kumar@example.com",
        "contact": "+919090909090",
        "notes": [],
        "fee": None,
        "tax": None,
        "error_code": None,
        "error_description": None,
        "error_source": None,
        "error_step": None,
        "error_reason": None,
        "acquirer_data": {"rrn": None},
        "created_at": int(gateway.clock.now().timestamp()),
        "upi": {"payer_account_type": "bank_account", "vpa": None, "flow": "intent"},
    }


def test_a_payment_shows_the_members_of_its_method(gateway: Gateway) -> None:
    card = gateway.get(f"/v1/payments/{gateway.charge(**CARD)}")
    assert (card["method"], card["token_id"], card["card_id"][:5]) == ("card", "token_4lsdksD31GaZ09", "card_")
    bank = gateway.get(f"/v1/payments/{gateway.charge(**NETBANKING)}")
    assert (bank["method"], bank["bank"], bank["acquirer_data"]) == (
        "netbanking",
        "HDFC",
        {"bank_transaction_id": None},
    )
    collect = gateway.get(f"/v1/payments/{gateway.charge(**COLLECT)}")
    assert (collect["vpa"], collect["upi"]["flow"]) == ("gauravkumar@exampleupi", "collect")


def test_a_capture_answers_the_captured_payment(gateway: Gateway) -> None:
    payment = gateway.charge()
    gateway.approve(payment)
    captured = gateway.post(f"/v1/payments/{payment}/capture", {"amount": AMOUNT, "currency": "INR"})
    assert captured == gateway.get(f"/v1/payments/{payment}")
    assert (captured["status"], captured["captured"]) == ("captured", True)
    assert captured["fee"] == AMOUNT // FEE_DIVISOR


def test_what_nobody_captured_shows_as_refunded_though_it_never_was_captured(gateway: Gateway) -> None:
    payment = gateway.charge()
    gateway.approve(payment)
    gateway.advance(12 * 60)
    found = gateway.get(f"/v1/payments/{payment}")
    assert (found["status"], found["captured"]) == ("refunded", False)
    assert (found["amount_refunded"], found["refund_status"], found["fee"]) == (AMOUNT, "full", None)


def test_a_second_capture_is_refused_in_the_documented_words(gateway: Gateway) -> None:
    payment = gateway.charge()
    gateway.approve(payment)
    target = f"/v1/payments/{payment}/capture"
    gateway.post(target, {"amount": AMOUNT, "currency": "INR"})
    refused = gateway.call("POST", target, {"amount": AMOUNT, "currency": "INR"})
    assert (refused.status, refused.error["code"]) == (400, "BAD_REQUEST_ERROR")
    assert refused.error["description"] == "This payment has already been captured"
    assert len(gateway.book()["captures"]) == 1


def test_a_refund_answers_the_refund(gateway: Gateway) -> None:
    payment = gateway.charge()
    gateway.approve(payment)
    gateway.post(f"/v1/payments/{payment}/capture", {"amount": AMOUNT, "currency": "INR"})
    made = gateway.post(f"/v1/payments/{payment}/refund", {"amount": 400, "receipt": "late-1"})
    assert REFUND_ID.fullmatch(made["id"])
    assert made == {
        "id": made["id"],
        "entity": "refund",
        "amount": 400,
        "currency": "INR",
        "payment_id": payment,
        "notes": [],
        "receipt": "late-1",
        "acquirer_data": {"arn": None},
        "created_at": int(gateway.clock.now().timestamp()),
        "batch_id": None,
        "status": "processed",
        "speed_processed": "normal",
        "speed_requested": "normal",
    }
    partly = gateway.get(f"/v1/payments/{payment}")
    assert (partly["status"], partly["amount_refunded"], partly["refund_status"]) == ("captured", 400, "partial")

    assert gateway.post(f"/v1/payments/{payment}/refund")["amount"] == 600
    wholly = gateway.get(f"/v1/payments/{payment}")
    assert (wholly["status"], wholly["amount_refunded"], wholly["refund_status"]) == ("refunded", AMOUNT, "full")


def test_a_payment_s_refunds_are_listed_the_newest_first(gateway: Gateway) -> None:
    payment = gateway.charge()
    gateway.approve(payment)
    gateway.post(f"/v1/payments/{payment}/capture", {"amount": AMOUNT, "currency": "INR"})
    target = f"/v1/payments/{payment}/refund"
    assert gateway.get(f"{target}s")["items"] == []
    made = [gateway.post(target, {"amount": amount, "notes": {"reversal": str(amount)}}) for amount in (400, 600)]
    assert gateway.get(f"{target}s") == {"entity": "collection", "count": 2, "items": made[::-1]}
    assert gateway.get(f"{target}s?count=1&skip=1")["items"] == made[:1]
    at = made[0]["created_at"]
    assert gateway.get(f"{target}s?from={at}&to={at}")["count"] == 2
    assert gateway.get(f"{target}s?from={at + 1}")["count"] == 0


def test_a_refund_key_makes_a_refund_once_and_for_one_request(gateway: Gateway) -> None:
    payment = gateway.charge()
    gateway.approve(payment)
    gateway.post(f"/v1/payments/{payment}/capture", {"amount": AMOUNT, "currency": "INR"})
    target, key = f"/v1/payments/{payment}/refund", {"X-Refund-Idempotency": "late-0123456789"}
    first, again = (gateway.call("POST", target, {"amount": 400}, key) for _ in range(2))
    assert (first.status, again.body) == (200, first.body)

    other = gateway.call("POST", target, {"amount": 500}, key)
    assert other.status == 400
    assert other.error["description"].startswith("Different request with the same idempotency key")
    short = gateway.call("POST", target, {"amount": 400}, {"X-Refund-Idempotency": "late-1234"})
    assert (short.status, "at least 10" in short.error["description"]) == (400, True)
    strange = gateway.call("POST", target, {"amount": 400}, {"X-Refund-Idempotency": "late 0123456789"})
    assert strange.status == 400
    assert [each["amount"] for each in gateway.book()["refunds"]] == [400]


@pytest.mark.parametrize(
    ("method", "target", "described"),
    [
        ("GET", "/v1/orders/order_00000000000000", "The id provided does not exist"),
        ("GET", "/v1/orders/order_00000000000000/payments", "The id provided does not exist"),
        ("GET", "/v1/payments/pay_00000000000000", "The id provided does not exist"),
        ("POST", "/v1/payments/pay_00000000000000/refund", "The id provided does not exist"),
        ("GET", "/v1/payments/order_00000000000000", "order_00000000000000 is not a valid id"),
        ("GET", "/v1/orders/order_1", "order_1 is not a valid id"),
        ("GET", "/v1/refunds", "The requested URL was not found on the server."),
        ("DELETE", "/v1/orders", "The requested URL was not found on the server."),
    ],
)
def test_what_is_not_there_is_a_bad_request(gateway: Gateway, method: str, target: str, described: str) -> None:
    refused = gateway.call(method, target)
    assert refused.status == 400
    assert refused.error == {
        "code": "BAD_REQUEST_ERROR",
        "description": described,
        "source": "business",
        "step": "payment_initiation",
        "reason": "input_validation_failed",
        "metadata": {},
    }


@pytest.mark.parametrize(
    "authorization",
    [
        None,
        BASIC.lower(),
        BASIC.replace("Basic", "BASIC"),
        BASIC[:-1],
        f"{BASIC}=",
        "Basic cnpwX3Rlc3RfcGd3Og==",
        "\xff",
    ],
    ids=str,
)
@pytest.mark.parametrize("target", ["/v1/orders", "/v1/nothing"])
def test_only_the_exact_key_opens_the_api(gateway: Gateway, authorization: str | None, target: str) -> None:
    refused = gateway.call("GET", target, headers={"Authorization": authorization})
    assert (refused.status, refused.headers["www-authenticate"]) == (401, 'Basic realm="Razorpay"')
    assert refused.error == {
        "code": "BAD_REQUEST_ERROR",
        "description": "Authentication failed",
        "source": "NA",
        "step": "NA",
        "reason": "NA",
        "metadata": {},
    }


def test_a_payment_goes_by_the_route_of_its_method(gateway: Gateway) -> None:
    refused = gateway.call("POST", "/v1/payments/create/upi", payment_of(gateway.order(), **CARD))
    assert (refused.status, refused.error["field"]) == (400, "method")


def test_an_order_that_is_paid_for_takes_no_other_payment(gateway: Gateway) -> None:
    order = gateway.order()
    gateway.approve(gateway.charge(order))
    refused = gateway.call("POST", "/v1/payments/create/upi", payment_of(order))
    assert (refused.status, refused.error["reason"]) == (400, "order_already_paid")
    assert len(gateway.book()["payments"]) == 1


@pytest.mark.parametrize(("name", "value"), [("amount", AMOUNT + 1), ("currency", "USD")])
def test_a_payment_pays_exactly_its_order(gateway: Gateway, name: str, value: object) -> None:
    asked = payment_of(gateway.order(), **NETBANKING, **{name: value})
    refused = gateway.call("POST", "/v1/payments/create/json", asked)
    assert (refused.status, refused.error["reason"], refused.error["field"]) == (400, f"order_{name}_mismatch", name)
    assert gateway.book()["payments"] == []


@pytest.mark.parametrize(
    ("body", "headers"),
    [
        (b"{", {}),
        (b"[]", {}),
        (b'{"amount": "x"', {}),
        (b"amount=1000&currency=INR", {"Content-Type": "application/x-www-form-urlencoded"}),
        (b'{"amount": 1000, "currency": "INR"}', {"Content-Type": "text/plain"}),
        (b'{"amount": 1000, "currency": "INR"}', {"Content-Type": None}),
        (b"x" * 70_000, {}),
    ],
    ids=["cut", "list", "cut later", "form", "text", "untyped", "large"],
)
def test_a_body_that_is_no_json_object_is_a_bad_request(
    gateway: Gateway, body: bytes, headers: dict[str, str | None]
) -> None:
    refused = gateway.call("POST", "/v1/orders", body, headers)
    assert (refused.status, refused.error["code"]) == (400, "BAD_REQUEST_ERROR")
