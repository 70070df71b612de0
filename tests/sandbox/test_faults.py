"""Each fault as it looks from a socket: the bytes that arrive, and what the book says beside them."""

import json
import re
import socket

import pytest

from pgw.razorpay_simulator.delivery import BAD_GATEWAY, DRIP_S, NO_STATUS_LINE, SLOW_S
from pgw.razorpay_simulator.faults import EFFECTS, LATE_S, MAKES_NOTHING, SURPLUS, Faults, SimulatedFault
from tests.sandbox.served import AMOUNT, Gateway, eventually, is_silent, payment_of, served

WHOLE = re.compile(
    rb"HTTP/1\.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: (\d+)\r\n\r\n(\{.*\})", re.DOTALL
)


def _all_of(connection: socket.socket) -> bytes:
    """Read until the server closes; a reset raises."""
    received = b""
    while chunk := connection.recv(65_536):
        received += chunk
    return received


def _made(gateway: Gateway) -> list[tuple[str, int]]:
    """Tell the state of every payment in the book, and what was taken from its customer."""
    return [(each["status"], each["authorized_amount"]) for each in gateway.book()["payments"]]


COMMITTED = [("authorized", AMOUNT)]
"""One payment, made and authorized."""


def test_commit_then_hang_takes_the_money_and_never_answers(gateway: Gateway) -> None:
    gateway.fail_next(SimulatedFault.COMMIT_THEN_HANG)
    with gateway.charging(gateway.order()) as connection:
        eventually(lambda: _made(gateway) == COMMITTED)
        gateway.advance(600)
        assert gateway.get("/sandbox/faults")["next"] == []
        assert is_silent(connection)
    assert _made(gateway) == COMMITTED


def test_hang_makes_nothing_and_never_answers(gateway: Gateway) -> None:
    gateway.fail_next(SimulatedFault.HANG)
    with gateway.charging(gateway.order()) as connection:
        eventually(lambda: gateway.get("/sandbox/faults")["next"] == [])
        gateway.advance(600)
        assert gateway.book()["payments"] == []
        assert is_silent(connection)


def test_commit_then_reset_takes_the_money_and_resets_the_connection(gateway: Gateway) -> None:
    gateway.fail_next(SimulatedFault.COMMIT_THEN_RESET)
    with gateway.charging(gateway.order()) as connection, pytest.raises(ConnectionResetError):
        _all_of(connection)
    assert _made(gateway) == COMMITTED


def test_html502_takes_the_money_and_answers_as_a_proxy_does(gateway: Gateway) -> None:
    gateway.fail_next(SimulatedFault.HTML502)
    answer = gateway.call("POST", "/v1/payments/create/upi", payment_of(gateway.order()))
    assert (answer.status, answer.headers["content-type"], answer.body) == (502, "text/html", BAD_GATEWAY)
    assert _made(gateway) == COMMITTED


def test_truncated_json_takes_the_money_and_closes_within_the_body(gateway: Gateway) -> None:
    gateway.fail_next(SimulatedFault.TRUNCATED_JSON)
    with gateway.charging(gateway.order()) as connection:
        received = _all_of(connection)
    head, _, body = received.partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 200 OK\r\n")
    assert 0 < len(body) < int(head.rpartition(b" ")[2])
    with pytest.raises(json.JSONDecodeError):
        json.loads(body)
    assert _made(gateway) == COMMITTED


def test_bad_status_line_takes_the_money_and_answers_what_is_not_http(gateway: Gateway) -> None:
    gateway.fail_next(SimulatedFault.BAD_STATUS_LINE)
    with gateway.charging(gateway.order()) as connection:
        assert _all_of(connection) == NO_STATUS_LINE
    assert _made(gateway) == COMMITTED


def test_slow_answers_as_ever_but_later(gateway: Gateway) -> None:
    gateway.fail_next(SimulatedFault.SLOW)
    with gateway.charging(gateway.order()) as connection:
        eventually(lambda: gateway.clock.sleeping == 1)
        gateway.advance(SLOW_S - 0.1)
        assert is_silent(connection)
        gateway.advance(0.1)
        assert connection.recv(65_536).startswith(b"HTTP/1.1 200 OK\r\n")
    assert _made(gateway) == [("created", 0)]


def test_slow_drip_takes_the_money_and_answers_one_byte_each_second(gateway: Gateway) -> None:
    gateway.fail_next(SimulatedFault.SLOW_DRIP)
    with gateway.charging(gateway.order()) as connection:
        received = connection.recv(65_536)
        assert _made(gateway) == COMMITTED
        while not (whole := WHOLE.fullmatch(received)) or len(whole[2]) < int(whole[1]):
            eventually(lambda: gateway.clock.sleeping == 1)
            assert is_silent(connection)
            gateway.advance(DRIP_S)
            received += connection.recv(65_536)
            assert len(received) <= 1 + round(gateway.clock.elapsed())
        eventually(lambda: gateway.clock.sleeping == 1)
        gateway.advance(DRIP_S)
        assert connection.recv(1) == b""
    assert json.loads(whole[2])["razorpay_payment_id"]


def test_a_client_that_leaves_ends_the_drip(gateway: Gateway) -> None:
    gateway.fail_next(SimulatedFault.SLOW_DRIP)
    with gateway.charging(gateway.order()) as connection:
        eventually(lambda: gateway.clock.sleeping == 1)
        assert len(connection.recv(65_536)) == 1
    eventually(lambda: gateway.clock.sleeping == 0)


@pytest.mark.parametrize(
    ("fault", "status", "header"),
    [(SimulatedFault.TOO_MANY, 429, "retry-after"), (SimulatedFault.UNAUTHORIZED, 401, "www-authenticate")],
)
def test_a_call_refused_at_the_door_makes_nothing(
    gateway: Gateway, fault: SimulatedFault, status: int, header: str
) -> None:
    gateway.fail_next(fault)
    refused = gateway.call("POST", "/v1/payments/create/upi", payment_of(gateway.order()))
    assert (refused.status, refused.error["code"]) == (status, "BAD_REQUEST_ERROR")
    assert refused.headers[header]
    assert gateway.book()["payments"] == []


def test_too_many_says_when_to_come_again(gateway: Gateway) -> None:
    gateway.fail_next(SimulatedFault.TOO_MANY)
    refused = gateway.call("POST", "/v1/payments/create/upi", payment_of(gateway.order()))
    assert refused.headers["retry-after"] == "1"


def test_wrong_amount_answers_as_ever_and_shows_the_difference_in_every_later_answer(gateway: Gateway) -> None:
    gateway.fail_next(SimulatedFault.WRONG_AMOUNT)
    order = gateway.order(receipt="attempt-1")
    payment = gateway.charge(order)
    wrong = AMOUNT + SURPLUS
    assert gateway.get(f"/v1/payments/{payment}")["amount"] == wrong
    assert gateway.get(f"/v1/orders/{order}/payments")["items"][0]["amount"] == wrong
    assert gateway.get("/v1/orders?expand[]=payments")["items"][0]["payments"]["items"][0]["amount"] == wrong
    assert _made(gateway) == [("authorized", wrong)]
    for amount in (AMOUNT, wrong):
        refused = gateway.call("POST", f"/v1/payments/{payment}/capture", {"amount": amount, "currency": "INR"})
        assert refused.status == 400
    assert gateway.book()["captures"] == []


DECLINED = {
    SimulatedFault.DECLINE_CUSTOMER: ("BAD_REQUEST_ERROR", "customer", "payment_authentication", "payment_cancelled"),
    SimulatedFault.DECLINE_GATEWAY: ("GATEWAY_ERROR", "gateway", "payment_initiation", "gateway_technical_error"),
    SimulatedFault.LATE_SUCCESS: ("BAD_REQUEST_ERROR", "customer", "payment_authentication", "payment_cancelled"),
}


@pytest.mark.parametrize("fault", DECLINED)
def test_a_decline_is_an_error_document_and_a_failed_payment(gateway: Gateway, fault: SimulatedFault) -> None:
    gateway.fail_next(fault)
    order = gateway.order()
    declined = gateway.call("POST", "/v1/payments/create/upi", payment_of(order))
    error = declined.error
    assert declined.status == 400
    assert (error["code"], error["source"], error["step"], error["reason"]) == DECLINED[fault]
    assert error["metadata"]["order_id"] == order

    payment = gateway.get(f"/v1/payments/{error['metadata']['payment_id']}")
    assert payment["status"] == "failed"
    shown = tuple(payment[f"error_{name}"] for name in ("code", "source", "step", "reason"))
    assert (*shown, payment["error_description"]) == (*DECLINED[fault], error["description"])
    assert _made(gateway) == [("failed", 0)]


def test_a_late_success_is_authorized_five_seconds_after_its_decline(gateway: Gateway) -> None:
    gateway.fail_next(SimulatedFault.LATE_SUCCESS)
    gateway.call("POST", "/v1/payments/create/upi", payment_of(gateway.order()))
    gateway.advance(LATE_S - 0.1)
    assert _made(gateway) == [("failed", 0)]
    gateway.advance(0.1)
    assert _made(gateway) == COMMITTED


def test_a_decline_leaves_the_order_to_the_next_try(gateway: Gateway) -> None:
    gateway.fail_next(SimulatedFault.DECLINE_CUSTOMER)
    order = gateway.order()
    gateway.call("POST", "/v1/payments/create/upi", payment_of(order))
    gateway.approve(gateway.charge(order))
    assert _made(gateway) == [("failed", 0), ("authorized", AMOUNT)]


@pytest.mark.parametrize("fault", sorted(set(SimulatedFault) - MAKES_NOTHING))
def test_a_fault_makes_one_payment_and_captures_nothing(gateway: Gateway, fault: SimulatedFault) -> None:
    gateway.fail_next(fault)
    with gateway.charging(gateway.order(receipt="attempt-1")):
        eventually(lambda: len(gateway.book()["payments"]) == 1)
    book = gateway.book()
    assert [each["receipt"] for each in book["payments"]] == ["attempt-1"]
    assert (book["captures"], book["refunds"], book["releases"]) == ([], [], [])


def test_a_fault_is_used_up_by_one_charging_call_and_by_no_other_call(gateway: Gateway) -> None:
    gateway.fail_next(SimulatedFault.DECLINE_CUSTOMER, SimulatedFault.DECLINE_GATEWAY)
    order = gateway.order()
    gateway.get(f"/v1/orders/{order}")
    assert gateway.get("/sandbox/faults")["next"] == ["decline_customer", "decline_gateway"]
    assert gateway.call("POST", "/v1/payments/create/upi", payment_of(order)).status == 400
    assert gateway.get("/sandbox/faults")["next"] == ["decline_gateway"]
    assert gateway.call("POST", "/v1/payments/create/json", payment_of(order)).status == 400
    assert gateway.call("POST", "/v1/payments/create/upi", payment_of(order)).status == 200


def test_a_call_without_the_key_uses_up_no_fault(gateway: Gateway) -> None:
    gateway.fail_next(SimulatedFault.HANG)
    headers = {"Authorization": None}
    assert gateway.call("POST", "/v1/payments/create/upi", payment_of(gateway.order()), headers).status == 401
    assert gateway.get("/sandbox/faults")["next"] == ["hang"]


def test_standing_faults_come_in_turn_for_ever_until_others_are_set() -> None:
    with served(standing=[SimulatedFault.TOO_MANY, SimulatedFault.DECLINE_CUSTOMER]) as gateway:
        order = gateway.order()

        def statuses(calls: int) -> list[int]:
            charged = [gateway.call("POST", "/v1/payments/create/upi", payment_of(order)) for _ in range(calls)]
            return [each.status for each in charged]

        assert statuses(5) == [429, 400, 429, 400, 429]
        assert sorted(gateway.get("/sandbox/faults")["standing"]) == ["429", "decline_customer"]
        gateway.fail_next(SimulatedFault.UNAUTHORIZED)
        assert statuses(2) == [401, 200]


def test_every_fault_is_known_by_name_and_has_its_place() -> None:
    plain = {SimulatedFault.SLOW}
    assert set(EFFECTS) | MAKES_NOTHING | plain == set(SimulatedFault)
    assert Faults().document["known"] == list(SimulatedFault)
