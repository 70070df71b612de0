"""Razorpay's answers -> verdicts and findings: by phase, by reason, over all payments of an order."""

import asyncio
import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pgw.core.gateways.razorpay import Razorpay
from pgw.core.gateways.wire import READ_TIMEOUT, Answer, Reply, Wire
from pgw.core.payment.outcome import (
    ActionRequired,
    Blame,
    Captured,
    FinalDecline,
    GatewayDecline,
    NotSent,
    Unknown,
    Verdict,
)
from pgw.core.payment.payment import Card, Client, Customer, Instrument, Netbanking, NextAction, Upi
from pgw.core.ports import NOT_SENT_LEASE, ChargeOrder, Reference
from pgw.core.verification.enquiry import Authorized, Finding, Pending, Reversal, ReversalRefused, Reversed, Undecided

PAYMENT_ID = "01a209b6-07db-7bfb-9c8d-7b1a3a9dbc3b"
RECEIPT = f"{PAYMENT_ID}-1"
ORDER = {"id": "order_1", "amount": 1000, "currency": "INR", "receipt": RECEIPT, "status": "created"}
CALLS = Path(__file__).parents[3] / "docs" / "razorpay-calls.md"
REFUSED = NotSent("NOT_SENT_REFUSED", Blame.GATEWAY)


class ScriptedWire(Wire):
    """Answers from a list and remembers what it was asked; asks the lease as the real one does."""

    def __init__(self, *answers: Answer) -> None:
        self.answers = list(answers)
        self.asked: list[tuple[str, str, Any]] = []
        self.headers: Mapping[str, str] | None = None

    async def call(self, method: Any, path: str, **given: Any) -> Answer:
        may_send = given.get("may_send")
        if may_send is not None and not may_send():
            return NOT_SENT_LEASE
        self.asked.append((method, path, given.get("document") or given.get("query")))
        self.headers = given.get("headers")
        return self.answers.pop(0)


def reply(document: object, status: int = 200) -> Reply:
    body = document if isinstance(document, bytes) else json.dumps(document).encode()
    return Reply(status, body, None)


def fault(reason: str | None, step: str | None = None, status: int = 400) -> Reply:
    return reply({"error": {"code": "BAD_REQUEST_ERROR", "description": "-", "reason": reason, "step": step}}, status)


def order_of(instrument: Instrument, *, may_send: bool = True) -> ChargeOrder:
    return ChargeOrder(
        reference=Reference(PAYMENT_ID, 1),
        idempotency_key="k",
        amount_minor=1000,
        currency="INR",
        instrument=instrument,
        may_send=lambda: may_send,
        timeout_s=2.5,
        customer=Customer(email="a@b.example", contact="+919000000000"),
        client=Client(ip="192.0.2.1", user_agent="Mozilla/5.0", referer="https://shop.example"),
        return_url="https://shop.example/done",
    )


def charge(wire: Wire, instrument: Instrument | None = None, *, may_send: bool = True) -> Verdict:
    return asyncio.run(Razorpay(wire).charge(order_of(instrument or Upi(), may_send=may_send)))


def enquire(wire: Wire) -> Finding:
    return asyncio.run(Razorpay(wire).enquire(Reference(PAYMENT_ID, 1)))


@pytest.mark.parametrize(
    ("instrument", "answer", "action"),
    [
        (
            Upi(),
            {"razorpay_payment_id": "pay_1", "link": "upi://pay?pa=x&am=10.00"},
            ("upi_intent", "upi://pay?pa=x&am=10.00"),
        ),
        (
            Upi(),
            {
                "razorpay_payment_id": "pay_1",
                "next": [{"action": "intent", "url": "upi://pay"}, {"action": "poll", "url": "-"}],
            },
            ("upi_intent", "upi://pay"),
        ),
        (Upi(vpa="a@okhdfcbank"), {"razorpay_payment_id": "pay_1"}, ("approve_in_app", "")),
        (
            Card(token="token_1"),
            {"razorpay_payment_id": "pay_1", "next": [{"action": "redirect", "url": "https://bank.example/3ds"}]},
            ("redirect", "https://bank.example/3ds"),
        ),
        (
            Netbanking(bank_code="HDFC"),
            {"razorpay_payment_id": "pay_1", "next": [{"action": "redirect", "url": "https://bank.example"}]},
            ("redirect", "https://bank.example"),
        ),
    ],
)
def test_a_created_payment_asks_the_customer_and_hands_the_link_on_as_it_came(
    instrument: Instrument, answer: Mapping[str, Any], action: tuple[str, str]
) -> None:
    wire = ScriptedWire(reply(ORDER), reply(answer))
    assert charge(wire, instrument) == ActionRequired("pay_1", NextAction(type=action[0], url=action[1]))
    assert [method for method, _, _ in wire.asked] == ["POST", "POST"]
    assert wire.asked[0][1] == "/v1/orders"


def test_an_order_carries_the_attempt_as_receipt_and_nothing_is_captured_by_itself() -> None:
    wire = ScriptedWire(reply(ORDER), reply({"razorpay_payment_id": "pay_1", "link": "upi://pay"}))
    charge(wire)
    method, path, document = wire.asked[0]
    assert (method, path) == ("POST", "/v1/orders")
    assert document == {
        "amount": 1000,
        "currency": "INR",
        "receipt": RECEIPT,
        "payment": {"capture": "manual", "capture_options": {"manual_expiry_period": 12, "refund_speed": "normal"}},
    }
    assert len(RECEIPT) <= 40


def test_a_payment_carries_the_attempt_in_its_notes_for_the_webhooks_about_it() -> None:
    wire = ScriptedWire(reply(ORDER), reply({"razorpay_payment_id": "pay_1", "link": "upi://pay"}))
    charge(wire)
    assert wire.asked[1][2]["notes"] == {"receipt": RECEIPT}


@pytest.mark.parametrize(
    "answer",
    [
        REFUSED,
        READ_TIMEOUT,
        reply(b"<html>", 502),
        reply(b'{"id": "ord'),
        fault("input_validation_failed"),
        reply({**ORDER, "amount": 999}),
    ],
)
def test_without_an_order_nothing_was_sent(answer: Answer) -> None:
    """An order that no payment was created on cannot be paid, whatever became of the order."""
    wire = ScriptedWire(answer)
    assert isinstance(charge(wire), NotSent)
    assert len(wire.asked) == 1


@pytest.mark.parametrize(
    ("answer", "verdict"),
    [
        (REFUSED, REFUSED),
        (READ_TIMEOUT, READ_TIMEOUT),
        (reply(b"<html>Bad gateway", 502), Unknown("HTTP_502", Blame.GATEWAY)),
        (reply(b'{"razorpay_payment_id": "pay'), Unknown("UNREADABLE_ANSWER", Blame.GATEWAY)),
        (reply({"surprise": 1}), Unknown("UNREADABLE_ANSWER", Blame.GATEWAY)),
        (reply(b"\xff\xfe", 400), Unknown("UNREADABLE_ANSWER", Blame.GATEWAY)),
        (fault("nobody_knows_this"), Unknown("NOBODY_KNOWS_THIS", Blame.NONE)),
        (fault("payment_timed_out"), Unknown("PAYMENT_TIMED_OUT", Blame.NONE)),
        (fault("gateway_technical_error", "payment_debit_request"), Unknown("GATEWAY_TECHNICAL_ERROR", Blame.GATEWAY)),
        (
            fault("gateway_technical_error", "payment_initiation"),
            GatewayDecline("GATEWAY_TECHNICAL_ERROR", Blame.GATEWAY),
        ),
        (fault("payment_cancelled"), FinalDecline("PAYMENT_CANCELLED")),
        (fault(None, status=401), NotSent("NOT_SENT_AUTH", Blame.NONE)),
        (fault(None, status=429), NotSent("NOT_SENT_RATE_LIMITED", Blame.GATEWAY)),
    ],
)
def test_the_charging_call_is_read_by_what_it_proves(answer: Answer, verdict: Verdict) -> None:
    wire = ScriptedWire(reply(ORDER), answer)
    assert charge(wire) == verdict
    assert len(wire.asked) == 2


@given(status=st.integers(200, 599), body=st.binary(max_size=60))
def test_no_answer_to_the_charging_call_is_mistaken_for_proof(status: int, body: bytes) -> None:
    """Of arbitrary bytes only 401, 403 and 429 say NOT_SENT; nothing says that money moved."""
    verdict = charge(ScriptedWire(reply(ORDER), reply(body, status)))
    assert isinstance(verdict, NotSent) == (status in {401, 403, 429})
    assert not isinstance(verdict, Captured)


def test_a_sender_that_lost_its_lease_creates_no_payment() -> None:
    wire = ScriptedWire(reply(ORDER))
    assert charge(wire, may_send=False) == NOT_SENT_LEASE
    assert [path for _, path, _ in wire.asked] == ["/v1/orders"]


def test_refused_keys_are_trouble_until_a_call_succeeds() -> None:
    gateway = Razorpay(ScriptedWire(fault(None, status=401), reply({"items": []})))
    assert asyncio.run(gateway.charge(order_of(Upi()))) == NotSent("NOT_SENT_AUTH", Blame.NONE)
    assert gateway.trouble == "AUTH"
    asyncio.run(gateway.enquire(Reference(PAYMENT_ID, 1)))
    assert gateway.trouble is None


def test_refused_keys_are_trouble_at_a_capture_and_at_a_reversal_too() -> None:
    captures, reverses = (Razorpay(ScriptedWire(fault(None, status=401))) for _ in range(2))
    asyncio.run(captures.capture("pay_1", 1000, "INR"))
    asyncio.run(reverses.reverse("pay_1", 1000, "key"))
    assert (captures.trouble, reverses.trouble) == ("AUTH", "AUTH")


def paid(status: str, number: int, **more: Any) -> dict[str, Any]:
    return {"id": f"pay_{number}", "amount": 1000, "currency": "INR", "status": status, **more}


FAILED = {"error_reason": "payment_cancelled", "error_step": "payment_authentication"}


@pytest.mark.parametrize(
    ("payments", "finding"),
    [
        ([], Undecided(Pending.ABSENT)),
        ([paid("created", 1)], Undecided(Pending.STILL_PENDING, "CREATED")),
        ([paid("failed", 1, **FAILED)], FinalDecline("PAYMENT_CANCELLED")),
        ([paid("failed", 1, error_reason="payment_timed_out")], Undecided(Pending.FAILED, "PAYMENT_TIMED_OUT")),
        ([paid("failed", 1)], Undecided(Pending.FAILED)),
        ([paid("authorized", 1)], Authorized("pay_1", 1000, "INR")),
        ([paid("captured", 1), paid("failed", 2, **FAILED)], Captured("pay_1", 1000, "INR")),
        ([paid("failed", 2, **FAILED), paid("captured", 1)], Captured("pay_1", 1000, "INR")),
        ([paid("authorized", 1), paid("created", 2)], Authorized("pay_1", 1000, "INR")),
        ([paid("failed", 1, **FAILED), paid("created", 2)], Undecided(Pending.STILL_PENDING, "CREATED")),
        ([paid("unheard_of", 1), paid("failed", 2, **FAILED)], Undecided(Pending.STILL_PENDING, "UNHEARD_OF")),
        ([paid("refunded", 1)], Undecided(Pending.RETURNED, "REFUNDED")),
        ([paid("refunded", 1), paid("failed", 2, **FAILED)], FinalDecline("PAYMENT_CANCELLED")),
        ([paid("captured", 1), paid("captured", 2)], Undecided(Pending.STILL_PENDING, "SEVERAL_CAPTURED")),
        ([paid("authorized", 1), paid("authorized", 2)], Authorized("pay_2", 1000, "INR")),
        (
            [paid("failed", 1, **FAILED), paid("failed", 2, error_reason="payment_timed_out")],
            Undecided(Pending.FAILED, "PAYMENT_TIMED_OUT"),
        ),
        ([paid("failed", 1), paid("failed", 2, **FAILED)], Undecided(Pending.FAILED)),
        ([paid("failed", 1, **FAILED), paid("failed", 2, **FAILED)], FinalDecline("PAYMENT_CANCELLED")),
    ],
)
def test_an_enquiry_reduces_over_all_payments_of_the_order(payments: list[dict[str, Any]], finding: Finding) -> None:
    """Never "the last" one: captured before authorised before created before failed, in whatever order they come."""
    for listed in (payments, payments[::-1]):
        wire = ScriptedWire(reply({"items": [ORDER]}), reply({"items": listed}))
        assert enquire(wire) == finding
        assert wire.asked == [("GET", "/v1/orders", {"receipt": RECEIPT}), ("GET", "/v1/orders/order_1/payments", None)]


ATTEMPTED = Undecided(Pending.STILL_PENDING, "ORDER_ATTEMPTED")
ORDER_PAID = Undecided(Pending.STILL_PENDING, "ORDER_PAID")


@pytest.mark.parametrize(
    ("order", "payments", "finding"),
    [
        ({"status": "created", "attempts": 0, "amount_paid": 0}, [], Undecided(Pending.ABSENT)),
        ({"status": "created", "attempts": 1}, [], ATTEMPTED),
        ({"status": "attempted", "attempts": 1}, [], ATTEMPTED),
        ({"status": None}, [], ATTEMPTED),
        ({"status": "paid", "attempts": 1, "amount_paid": 1000}, [], ORDER_PAID),
        ({"status": "attempted", "amount_paid": 1000}, [], ORDER_PAID),
        ({"status": "paid", "amount_paid": 1000}, [paid("failed", 1, **FAILED)], ORDER_PAID),
        ({"status": "paid", "amount_paid": 1000}, [paid("captured", 1)], Captured("pay_1", 1000, "INR")),
        ({"status": "paid", "amount_paid": 1000}, [paid("refunded", 1)], Undecided(Pending.RETURNED, "REFUNDED")),
    ],
)
def test_an_order_that_knows_more_than_its_payments_proves_no_absence(
    order: dict[str, Any], payments: list[dict[str, Any]], finding: Finding
) -> None:
    """Nothing was tried, or was declined, only where the order itself says nothing else."""
    wire = ScriptedWire(reply({"items": [{**ORDER, **order}]}), reply({"items": payments}))
    assert enquire(wire) == finding


@pytest.mark.parametrize(
    "answer", [READ_TIMEOUT, REFUSED, reply(b"{", 200), reply({"items": [{"id": 1}]}), reply({}, 500)]
)
def test_an_enquiry_that_was_not_answered_decides_nothing(answer: Answer) -> None:
    finding = enquire(ScriptedWire(answer))
    assert isinstance(finding, Undecided)
    assert finding.result is Pending.UNREACHABLE


def test_an_order_of_another_receipt_is_nobody_s_answer() -> None:
    wire = ScriptedWire(reply({"items": [{**ORDER, "receipt": "another"}]}))
    assert enquire(wire) == Undecided(Pending.ABSENT)


KEY = f"reversal-{PAYMENT_ID}-1"
NO_REFUNDS = reply({"items": []})
REFUND_PENDING = Undecided(Pending.STILL_PENDING, "REFUND_PENDING")


def refund(status: str, number: int = 1, *, amount: int = 1000, ours: bool = True) -> dict[str, Any]:
    notes: object = {"reversal": KEY} if ours else []
    return {"id": f"rfnd_{number}", "amount": amount, "status": status, "notes": notes}


def reverse(wire: Wire) -> Reversal:
    return asyncio.run(Razorpay(wire).reverse("pay_1", 1000, KEY))


@pytest.mark.parametrize(
    ("answer", "ends"),
    [
        (reply(refund("processed")), Reversed("rfnd_1")),
        (reply(refund("pending")), REFUND_PENDING),
        (reply(refund("failed")), ReversalRefused("REFUND_FAILED")),
        (reply(refund("processed", amount=400)), ReversalRefused("REFUND_FAILED")),
        (fault("input_validation_failed"), ReversalRefused("REFUND_REFUSED")),
        (fault(None, status=409), Undecided(Pending.STILL_PENDING, "HTTP_409")),
        (reply({"id": "rfnd_1"}), Undecided(Pending.STILL_PENDING, "HTTP_200")),
        (READ_TIMEOUT, Undecided(Pending.UNREACHABLE, "READ_TIMEOUT")),
    ],
)
def test_a_reversal_carries_its_key_and_is_only_believed_when_it_is_made(answer: Answer, ends: object) -> None:
    wire = ScriptedWire(NO_REFUNDS, answer)
    assert reverse(wire) == ends
    assert wire.asked == [
        ("GET", "/v1/payments/pay_1/refunds", {"count": "100"}),
        ("POST", "/v1/payments/pay_1/refund", {"amount": 1000, "notes": {"reversal": KEY}}),
    ]
    assert wire.headers == {"X-Refund-Idempotency": KEY}


@pytest.mark.parametrize(
    ("refunds", "ends"),
    [
        ([refund("pending")], REFUND_PENDING),
        ([refund("processed")], Reversed("rfnd_1")),
        ([refund("failed")], ReversalRefused("REFUND_FAILED")),
        ([refund("processed", 2, ours=False)], Reversed("rfnd_2")),
        ([refund("failed"), refund("processed", 2, ours=False)], Reversed("rfnd_2")),
        ([refund("pending", 2, ours=False)], REFUND_PENDING),
        (
            [refund("processed", 2, amount=400, ours=False), refund("pending", 3, amount=600, ours=False)],
            REFUND_PENDING,
        ),
        ([refund("unheard_of")], REFUND_PENDING),
    ],
)
def test_a_refund_that_is_there_is_asked_about_and_not_made_again(refunds: list[dict[str, Any]], ends: object) -> None:
    """Also one of the whole amount that an operator requested on the gateway's dashboard."""
    for listed in (refunds, refunds[::-1]):
        wire = ScriptedWire(reply({"items": listed}))
        assert reverse(wire) == ends
        assert [method for method, _, _ in wire.asked] == ["GET"]


@pytest.mark.parametrize("status", ["failed", "processed"])
def test_a_refund_of_somebody_else_s_that_gave_not_all_back_leaves_ours_to_be_made(status: str) -> None:
    listed = [refund(status, 2, amount=1000 if status == "failed" else 400, ours=False)]
    wire = ScriptedWire(reply({"items": listed}), fault("input_validation_failed"))
    assert reverse(wire) == ReversalRefused("REFUND_REFUSED")
    assert [method for method, _, _ in wire.asked] == ["GET", "POST"]


@pytest.mark.parametrize(
    ("answer", "ends"),
    [
        (READ_TIMEOUT, Undecided(Pending.UNREACHABLE, "READ_TIMEOUT")),
        (reply({}, 502), Undecided(Pending.UNREACHABLE, "HTTP_502")),
        (reply({"items": [{"id": "rfnd_1"}]}), Undecided(Pending.UNREACHABLE, "UNREADABLE_ANSWER")),
        (fault("input_validation_failed"), ReversalRefused("REFUNDS_REFUSED")),
    ],
)
def test_nothing_is_given_back_while_it_is_unknown_what_went_back_already(answer: Answer, ends: object) -> None:
    wire = ScriptedWire(answer)
    assert (reverse(wire), len(wire.asked)) == (ends, 1)


def documented() -> list[tuple[str, str, set[str], set[str]]]:
    """Read the table of calls: method, path as a pattern, members a call must have, members it may have."""
    rows = []
    for line in CALLS.read_text().splitlines():
        cells = [cell.strip() for cell in line.strip("|").split("|")]
        if len(cells) == 8 and cells[1] in {"GET", "POST"}:
            path = re.sub(r":id", "[A-Za-z0-9_]+", cells[2].strip("`"))
            rows.append(
                (cells[1], path, set(re.findall(r"`([^`]+)`", cells[4])), set(re.findall(r"`([^`]+)`", cells[5])))
            )
    return rows


def members(document: Mapping[str, Any] | None, prefix: str = "") -> set[str]:
    """Name the members of a request as the table does; `notes` is one member, its keys are free."""
    names: set[str] = set()
    for name, value in (document or {}).items():
        is_nested = isinstance(value, dict) and value and name != "notes"
        inner = members(value, f"{prefix}{name}.") if is_nested else {prefix + name}
        names |= inner
    return names


@pytest.mark.parametrize(
    "instrument", [Upi(), Upi(vpa="a@okhdfcbank"), Card(token="token_1"), Netbanking(bank_code="HDFC")]
)
def test_every_call_stands_in_the_table_of_documented_calls(instrument: Instrument) -> None:
    """Method, path and members of all that the adapter sends are documented, and it creates one payment an attempt."""
    wire = ScriptedWire(
        reply(ORDER),
        reply({"razorpay_payment_id": "pay_1", "link": "upi://pay"}),
        reply({"items": [ORDER]}),
        reply({"items": [paid("authorized", 1)]}),
        reply(paid("captured", 1)),
        NO_REFUNDS,
        reply(refund("pending")),
    )

    async def scenario() -> None:
        gateway = Razorpay(wire)
        await gateway.charge(order_of(instrument))
        await gateway.enquire(Reference(PAYMENT_ID, 1))
        await gateway.capture("pay_1", 1000, "INR")
        await gateway.reverse("pay_1", 1000, KEY)

    asyncio.run(scenario())
    table = documented()
    assert len(table) > 10
    for method, path, document in wire.asked:
        sent = members(document)
        fits = [
            (must, may)
            for known, pattern, must, may in table
            if known == method and re.fullmatch(pattern, path) and must <= sent <= must | may
        ]
        assert fits, (method, path, sent)
    assert sum("/create/" in path for _, path, _ in wire.asked) == 1
