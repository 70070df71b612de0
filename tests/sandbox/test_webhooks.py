"""The sandbox tells a server what happens: signed, in Razorpay's form, again until taken, and badly on request."""

import hashlib
import hmac
import json
import threading
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest

from pgw.core.gateways.razorpay_events import notice_in
from pgw.core.verification.webhook import is_signed
from pgw.razorpay_simulator.webhooks import MAX_TRIES, loopback_of
from tests.sandbox.served import AMOUNT, Gateway, eventually

SECRET = "a secret of this test"


@dataclass
class Told:
    """A server that remembers what it was told; `answers` are its next status codes, then 200."""

    port: int = 0
    bodies: list[bytes] = field(default_factory=list)
    headers: list[dict[str, str]] = field(default_factory=list)
    answers: deque[int] = field(default_factory=deque)

    @property
    def events(self) -> list[str]:
        return [json.loads(body)["event"] for body in self.bodies]

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}/webhooks/razorpay"


@contextmanager
def _listening() -> Iterator[Told]:
    told = Told()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            told.headers.append({name.lower(): value for name, value in self.headers.items()})
            told.bodies.append(self.rfile.read(int(self.headers["Content-Length"])))
            self.send_response(told.answers.popleft() if told.answers else 200)
            self.end_headers()

        def log_message(self, *_: Any) -> None:
            """Say nothing."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        told.port = server.server_address[1]
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        try:
            yield told
        finally:
            server.shutdown()
            thread.join()


@pytest.fixture
def told() -> Iterator[Told]:
    with _listening() as listening:
        yield listening


def _tell(gateway: Gateway, told: Told, **members: Any) -> None:
    answer = gateway.call("PUT", "/sandbox/webhooks", {"url": told.url, "secret": SECRET, **members})
    assert answer.status == 200, answer.body


def _while_time_passes(gateway: Gateway, look: Callable[[], bool]) -> None:
    def step() -> bool:
        gateway.advance(0.1)
        return look()

    eventually(step)


def _settled(gateway: Gateway) -> bool:
    return bool(gateway.get("/sandbox/webhooks")["waiting"] == 0)


def test_an_event_is_signed_and_has_razorpays_form(gateway: Gateway, told: Told) -> None:
    _tell(gateway, told)
    order = gateway.order(receipt="01a209b6-07db-7bfb-9c8d-7b1a3a9dbc3b-1")
    payment = gateway.charge(order, notes={"receipt": "01a209b6-07db-7bfb-9c8d-7b1a3a9dbc3b-1"})
    gateway.approve(payment)
    _while_time_passes(gateway, lambda: len(told.bodies) == 1)
    (body,), (headers,) = told.bodies, told.headers
    assert headers["x-razorpay-signature"] == hmac.new(SECRET.encode(), body, hashlib.sha256).hexdigest()
    assert is_signed(body, headers["x-razorpay-signature"], (SECRET,))
    assert headers["x-razorpay-event-id"] != ""
    document = json.loads(body)
    entity = document["payload"]["payment"]["entity"]
    assert (document["entity"], document["event"], document["contains"]) == ("event", "payment.authorized", ["payment"])
    assert (entity["id"], entity["order_id"], entity["status"]) == (payment, order, "authorized")
    notice = notice_in(body)
    assert notice is not None
    assert (notice.payment_id, notice.attempt_number) == ("01a209b6-07db-7bfb-9c8d-7b1a3a9dbc3b", 1)
    assert notice.transaction_ref == payment


def test_each_thing_that_happens_is_told_once(gateway: Gateway, told: Told) -> None:
    _tell(gateway, told)
    paid, declined = gateway.charge(gateway.order(receipt="attempt-1")), gateway.charge()
    gateway.post(f"/sandbox/payments/{declined}/decline")
    gateway.approve(paid)
    gateway.post(f"/v1/payments/{paid}/capture", {"amount": AMOUNT, "currency": "INR"})
    gateway.post(f"/v1/payments/{paid}/refund", {"amount": 400})
    expected = ["order.paid", "payment.authorized", "payment.captured", "payment.failed", "refund.processed"]
    _while_time_passes(gateway, lambda: sorted(told.events) == expected)
    gateway.advance(60)
    assert _settled(gateway)
    assert sorted(told.events) == expected
    order = next(json.loads(body) for body in told.bodies if b"order.paid" in body)["payload"]["order"]["entity"]
    assert (order["receipt"], order["status"]) == ("attempt-1", "paid")


def test_what_happened_before_anybody_listened_is_not_told(gateway: Gateway, told: Told) -> None:
    gateway.approve(gateway.charge())
    _tell(gateway, told)
    gateway.approve(gateway.charge())
    _while_time_passes(gateway, lambda: len(told.bodies) == 1)
    gateway.advance(60)
    assert told.events == ["payment.authorized"]


def test_an_event_that_is_not_taken_comes_again_the_same(gateway: Gateway, told: Told) -> None:
    told.answers.extend((500, 404, 302))
    _tell(gateway, told)
    gateway.approve(gateway.charge())
    _while_time_passes(gateway, lambda: len(told.bodies) == 4 and _settled(gateway))
    assert len(set(told.bodies)) == 1
    assert gateway.get("/sandbox/webhooks")["taken"] == 1
    assert gateway.get("/sandbox/webhooks")["refused"] == 3


def test_a_target_that_is_gone_is_given_up_at_last(gateway: Gateway) -> None:
    with _listening() as gone:
        pass
    _tell(gateway, gone)
    gateway.approve(gateway.charge())

    def is_given_up() -> bool:
        gateway.advance(600)
        return bool(gateway.get("/sandbox/webhooks")["refused"] >= MAX_TRIES) and _settled(gateway)

    eventually(is_given_up)
    assert gateway.get("/sandbox/webhooks")["refused"] == MAX_TRIES


def test_copies_are_the_same_event_again(gateway: Gateway, told: Told) -> None:
    _tell(gateway, told, copies=5)
    gateway.approve(gateway.charge())
    _while_time_passes(gateway, lambda: len(told.bodies) == 5)
    assert len(set(told.bodies)) == 1
    assert len({each["x-razorpay-event-id"] for each in told.headers}) == 1


def test_on_request_the_newest_of_a_while_comes_first(gateway: Gateway, told: Told) -> None:
    _tell(gateway, told, reorder_within_s=30)
    payment = gateway.charge()
    gateway.approve(payment)
    _while_time_passes(gateway, lambda: gateway.get("/sandbox/webhooks")["waiting"] == 1)
    gateway.post(f"/v1/payments/{payment}/capture", {"amount": AMOUNT, "currency": "INR"})
    _while_time_passes(gateway, lambda: gateway.get("/sandbox/webhooks")["waiting"] == 3)
    assert told.events == []
    gateway.advance(30)
    _while_time_passes(gateway, lambda: len(told.bodies) == 3)
    assert told.events == ["order.paid", "payment.captured", "payment.authorized"]


def test_nobody_is_told_after_the_end(gateway: Gateway, told: Told) -> None:
    _tell(gateway, told)
    assert gateway.call("DELETE", "/sandbox/webhooks").document["url"] is None
    gateway.approve(gateway.charge())
    gateway.advance(60)
    assert told.bodies == []


def test_the_secret_is_not_shown(gateway: Gateway, told: Told) -> None:
    _tell(gateway, told)
    assert SECRET.encode() not in gateway.call("GET", "/sandbox/webhooks").body


@pytest.mark.parametrize(
    "url",
    [
        "",
        "x",
        "http://",
        "https://127.0.0.1/",
        "http://192.0.2.1/",
        "http://example.com/",
        "http://127.0.0.1.example/",
        "http://127.0.0.1@192.0.2.1/",
        "http://127.0.0.1:99999/",
        "http://127.0.0.1/a b",
        "http://127.0.0.1/\r\nX: y",
        "file:///etc/passwd",
        "http://[::1",
    ],
)
def test_only_this_machine_is_told(gateway: Gateway, url: str) -> None:
    assert loopback_of(url) is None
    assert gateway.call("PUT", "/sandbox/webhooks", {"url": url}).status == 400
    assert gateway.get("/sandbox/webhooks")["url"] is None


@pytest.mark.parametrize(
    "members", [{"copies": 0}, {"copies": 101}, {"reorder_within_s": -1}, {"reorder_within_s": 61}, {"secret": ""}]
)
def test_bounds_are_kept(gateway: Gateway, told: Told, members: dict[str, Any]) -> None:
    assert gateway.call("PUT", "/sandbox/webhooks", {"url": told.url, **members}).status == 400


def test_a_target_is_taken_apart() -> None:
    assert loopback_of("http://127.0.0.1:3000/webhooks/razorpay") == ("127.0.0.1", 3000, "/webhooks/razorpay")
    assert loopback_of("http://localhost") == ("localhost", 80, "/")
    assert loopback_of("http://[::1]:1/x") == ("::1", 1, "/x")
