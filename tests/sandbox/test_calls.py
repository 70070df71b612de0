"""The table of documented calls is what the sandbox speaks: each route, each member, needed or not."""

import json
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from pgw.razorpay_simulator.app import create_app
from pgw.razorpay_simulator.refusals import Refused
from pgw.razorpay_simulator.requests import (
    CaptureRequest,
    CreateOrder,
    CreatePayment,
    CreateRefund,
    OrderQuery,
    RefundsQuery,
    decode,
    query,
)
from pgw.razorpay_simulator.simulator import new_simulator
from tests.doubles import VirtualClock

TABLE = Path(__file__).parents[2] / "docs" / "razorpay-calls.md"


@dataclass(frozen=True)
class Call:
    """One row of the table."""

    method: str
    path: str
    case: str
    needed: tuple[str, ...]
    allowed: tuple[str, ...]
    pages: tuple[str, ...]

    def __str__(self) -> str:
        return f"{self.method} {self.path} {self.case}"


def _names(cell: str) -> tuple[str, ...]:
    return tuple(re.findall(r"`([^`]+)`", cell))


def _calls() -> list[Call]:
    rows = [line.strip("| \n").split(" | ") for line in TABLE.read_text(encoding="utf-8").splitlines()]
    return [
        Call(row[1], _names(row[2])[0], row[3], _names(row[4]), _names(row[5]), _names(row[7]))
        for row in rows
        if len(row) == 8 and row[1] in {"GET", "POST"}
    ]


CALLS = _calls()

KINDS: dict[tuple[str, str], type[Any]] = {
    ("POST", "/v1/orders"): CreateOrder,
    ("GET", "/v1/orders"): OrderQuery,
    ("POST", "/v1/payments/create/upi"): CreatePayment,
    ("POST", "/v1/payments/create/json"): CreatePayment,
    ("POST", "/v1/payments/:id/capture"): CaptureRequest,
    ("POST", "/v1/payments/:id/refund"): CreateRefund,
    ("GET", "/v1/payments/:id/refunds"): RefundsQuery,
}
WITH_MEMBERS = [call for call in CALLS if (call.method, call.path) in KINDS]

METHODS = {"UPI intent": "upi", "UPI collect": "upi", "card by token": "card", "netbanking": "netbanking"}
FLOWS = {"UPI intent": "intent", "UPI collect": "collect"}

VALUES: dict[str, Any] = {
    "amount": 1000,
    "currency": "INR",
    "receipt": "attempt-1",
    "notes": {"payment": "p-1"},
    "payment.capture": "manual",
    "payment.capture_options.automatic_expiry_period": 12,
    "payment.capture_options.manual_expiry_period": 12,
    "payment.capture_options.refund_speed": "normal",
    "count": "1",
    "skip": "1",
    "from": "1500826740",
    "to": "1500826760",
    "expand[]": "payments",
    "order_id": "order_DPzFe1Q1dEOKed",
    "email": "gaurav.kumar@example.com",
    "contact": "9090909090",
    "ip": "192.168.0.103",
    "referer": "https://example.com/",
    "user_agent": "Mozilla/5.0",
    "description": "Shoes",
    "upi.vpa": "gauravkumar@exampleupi",
    "upi.expiry_time": 5,
    "customer_id": "cust_EIW4T2etiweBmG",
    "save": True,
    "token": "token_4lsdksD31GaZ09",
    "card": {},
    "card.cvv": "",
    "bank": "HDFC",
    "callback_url": "https://example.com/back",
    "authentication": {"authentication_channel": "browser"},
    "browser": {"java_enabled": False},
    "speed": "normal",
}


def _written(call: Call, names: tuple[str, ...]) -> dict[str, Any]:
    """Write a document with these members."""
    document: dict[str, Any] = {}
    for name in names:
        *outer, last = name.split(".")
        place = document
        for each in outer:
            place = place.setdefault(each, {})
        place[last] = {"method": METHODS, "upi.flow": FLOWS}.get(name, {}).get(call.case) or VALUES[name]
    return document


def _read(call: Call, names: tuple[str, ...]) -> None:
    kind = KINDS[(call.method, call.path)]
    document = _written(call, names)
    if call.method == "GET":
        query(document, kind)
    else:
        decode(json.dumps(document).encode(), kind)


def _members(kind: type[Any]) -> set[str]:
    return set(kind.__struct_encode_fields__)


def test_every_route_is_in_the_table_and_every_row_is_a_route() -> None:
    app = create_app(new_simulator(VirtualClock()))
    routes = {
        (method, re.sub(r"<[^>]+>", ":id", f"/{route.path}"))
        for route in app.router.routes
        for method in route.methods
        if route.path.startswith("v1/")
    }
    assert {(call.method, call.path) for call in CALLS} == routes


def test_every_row_names_its_page() -> None:
    assert all(call.pages and all(page.endswith(".md") for page in call.pages) for call in CALLS)


@pytest.mark.parametrize("call", WITH_MEMBERS, ids=str)
def test_what_a_call_must_have_is_enough_and_is_needed(call: Call) -> None:
    _read(call, call.needed)
    for name in call.needed:
        if (name, call.case) == ("upi.flow", "UPI collect"):
            continue  # it is the default
        with pytest.raises(Refused):
            _read(call, tuple(each for each in call.needed if each != name))


@pytest.mark.parametrize("call", WITH_MEMBERS, ids=str)
def test_what_a_call_may_have_is_taken(call: Call) -> None:
    _read(call, call.needed + call.allowed)


@pytest.mark.parametrize("kind", set(KINDS.values()), ids=lambda kind: kind.__name__)
def test_no_member_is_taken_that_the_table_does_not_name(kind: type[Any]) -> None:
    rows = [call for call in WITH_MEMBERS if KINDS[(call.method, call.path)] is kind]
    named = {name.partition(".")[0] for call in rows for name in (*call.needed, *call.allowed)}
    assert _members(kind) == named
