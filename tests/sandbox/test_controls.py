"""The sandbox's own routes: the customer, the bank, the book and the faults to come."""

import pytest

from tests.sandbox.served import AMOUNT, NETBANKING, Gateway, served


@pytest.mark.parametrize("target", ["/sandbox/book", "/sandbox/faults", "/pay/{}"])
def test_no_key_is_needed(gateway: Gateway, target: str) -> None:
    answer = gateway.call("GET", target.format(gateway.charge()), headers={"Authorization": None})
    assert answer.status == 200


def test_approving_by_call_answers_the_authorized_payment(gateway: Gateway) -> None:
    payment = gateway.charge()
    approved = gateway.approve(payment)
    assert approved == gateway.get(f"/v1/payments/{payment}")
    assert (approved["status"], len(approved["acquirer_data"]["rrn"])) == ("authorized", 12)
    assert gateway.approve(payment) == approved


def test_declining_without_a_reason_is_a_customer_who_cancelled(gateway: Gateway) -> None:
    declined = gateway.post(f"/sandbox/payments/{gateway.charge()}/decline")
    assert (declined["status"], declined["error_source"]) == ("failed", "customer")
    assert declined["error_reason"] == "payment_cancelled"


def test_declining_for_a_known_reason_says_the_rest(gateway: Gateway) -> None:
    declined = gateway.post(f"/sandbox/payments/{gateway.charge()}/decline", {"reason": "gateway_technical_error"})
    assert (declined["error_code"], declined["error_source"]) == ("GATEWAY_ERROR", "gateway")


def test_declining_for_any_other_reason_may_say_the_rest_itself(gateway: Gateway) -> None:
    failure = {
        "reason": "bank_technical_error",
        "code": "GATEWAY_ERROR",
        "description": "The bank is down.",
        "source": "issuer_bank",
        "step": "payment_debit_response",
    }
    declined = gateway.post(f"/sandbox/payments/{gateway.charge()}/decline", failure)
    assert {name: declined[f"error_{name}"] for name in failure} == failure


def test_a_decline_that_comes_too_late_is_refused(gateway: Gateway) -> None:
    payment = gateway.charge()
    gateway.approve(payment)
    refused = gateway.call("POST", f"/sandbox/payments/{payment}/decline")
    assert (refused.status, "is authorized" in refused.error["description"]) == (400, True)


def test_customers_pay_by_themselves_when_told_so() -> None:
    with served(approve_after_s=1.0) as gateway:
        payment = gateway.charge()
        assert gateway.status(payment) == "created"
        gateway.advance(1)
        assert gateway.status(payment) == "authorized"


def test_the_page_of_a_redirect_approves_by_a_link_and_asks_nobody_else(gateway: Gateway) -> None:
    payment = gateway.charge(**NETBANKING)
    page = gateway.call("GET", f"/pay/{payment}")
    text = page.body.decode()
    assert page.headers["content-type"] == "text/html; charset=utf-8"
    assert f"{payment}: INR 10.00 is created" in text
    assert f'href="/pay/{payment}/approve"' in text
    assert "http" not in text

    after = gateway.call("GET", f"/pay/{payment}/approve").body.decode()
    assert "is authorized" in after
    assert "href" not in after
    assert gateway.status(payment) == "authorized"


def test_the_page_of_a_redirect_declines_by_a_link(gateway: Gateway) -> None:
    payment = gateway.charge(**NETBANKING)
    assert "is failed" in gateway.call("GET", f"/pay/{payment}/decline").body.decode()
    assert gateway.status(payment) == "failed"


def test_the_book_shows_every_payment_and_every_step_of_its_money_once(gateway: Gateway) -> None:
    order = gateway.order(receipt="attempt-1")
    kept, left = gateway.charge(order), gateway.charge()
    gateway.approve(kept)
    gateway.approve(left)
    gateway.post(f"/v1/payments/{kept}/capture", {"amount": AMOUNT, "currency": "INR"})
    refund = gateway.post(f"/v1/payments/{kept}/refund", {"amount": 400})["id"]
    gateway.advance(12 * 60)
    book = gateway.book()
    assert book["payments"][0] == {
        "payment_id": kept,
        "order_id": order,
        "receipt": "attempt-1",
        "method": "upi",
        "ordered_amount": AMOUNT,
        "amount": AMOUNT,
        "currency": "INR",
        "status": "captured",
        "authorized_amount": AMOUNT,
        "captured_amount": AMOUNT,
        "refunded_amount": 400,
        "released_amount": 0,
    }
    assert [each["released_amount"] for each in book["payments"]] == [0, AMOUNT]
    money = {"currency": "INR", "at": "2026-01-05T12:00:00Z"}
    assert book["captures"] == [{"payment_id": kept, "amount": AMOUNT, **money}]
    assert book["refunds"] == [{"refund_id": refund, "payment_id": kept, "amount": 400, **money}]
    released = {"currency": "INR", "at": "2026-01-05T12:12:00Z"}
    assert book["releases"] == [{"payment_id": left, "amount": AMOUNT, **released}]


def test_faults_are_set_shown_and_cleared(gateway: Gateway) -> None:
    assert gateway.call("PUT", "/sandbox/faults", {"next": ["hang", "429", "hang"]}).document["next"] == [
        "hang",
        "429",
        "hang",
    ]
    assert gateway.get("/sandbox/faults")["next"] == ["hang", "429", "hang"]
    assert gateway.call("PUT", "/sandbox/faults", {"next": []}).document["next"] == []


def test_an_unknown_fault_changes_nothing_and_is_told_what_there_is(gateway: Gateway) -> None:
    gateway.call("PUT", "/sandbox/faults", {"next": ["slow"]})
    refused = gateway.call("PUT", "/sandbox/faults", {"next": ["hang", "explode"]})
    assert refused.status == 400
    assert "no fault explode" in refused.error["description"]
    assert "commit_then_hang" in refused.error["description"]
    assert gateway.get("/sandbox/faults")["next"] == ["slow"]


@pytest.mark.parametrize("body", [{}, {"next": "hang"}, {"next": [1]}, {"next": [], "always": []}], ids=str)
def test_a_wrong_list_of_faults_is_refused(gateway: Gateway, body: object) -> None:
    assert gateway.call("PUT", "/sandbox/faults", body).status == 400
