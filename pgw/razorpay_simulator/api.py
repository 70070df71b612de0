"""Razorpay's routes, a request -> what the book makes of it, as the documented entity."""

from collections.abc import Callable
from typing import NoReturn

from sanic import Blueprint, HTTPResponse, Request

from pgw.razorpay_simulator.delivery import answer, deliver, never
from pgw.razorpay_simulator.documents import (
    Document,
    collection_document,
    expanded_document,
    json_answer,
    order_document,
    payment_document,
    refund_document,
    upi_answer,
)
from pgw.razorpay_simulator.faults import EFFECTS, MAKES_NOTHING, PLAIN, SimulatedFault
from pgw.razorpay_simulator.refusals import Refused, invalid, too_many, unauthorized
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
from pgw.razorpay_simulator.simulator import simulator_of
from pgw.razorpay_simulator.states import SimulatedPayment

blueprint = Blueprint("razorpay", url_prefix="/v1")


@blueprint.post("/orders")
async def create_order(request: Request) -> HTTPResponse:
    """Note what a merchant wants to be paid."""
    return answer(order_document(simulator_of(request).book.create_order(decode(request.body, CreateOrder))))


@blueprint.get("/orders")
async def find_orders(request: Request) -> HTTPResponse:
    """List orders, by receipt if one is named."""
    asked = query(dict(request.query_args), OrderQuery)
    found = simulator_of(request).book.orders(asked.receipt)[asked.skip : asked.skip + asked.count]
    write = expanded_document if asked.expand else order_document
    return answer(collection_document(map(write, found)))


@blueprint.get("/orders/<order_id>")
async def fetch_order(request: Request, order_id: str) -> HTTPResponse:
    """Show one order."""
    return answer(order_document(simulator_of(request).book.order(order_id)))


@blueprint.get("/orders/<order_id>/payments")
async def fetch_order_payments(request: Request, order_id: str) -> HTTPResponse:
    """Show every payment that was tried for one order."""
    return answer(collection_document(map(payment_document, simulator_of(request).book.order(order_id).payments)))


@blueprint.post("/payments/create/upi")
async def create_upi_payment(request: Request) -> HTTPResponse:
    """Charge by UPI."""
    return await _charge(request, upi_answer, frozenset({"upi"}))


@blueprint.post("/payments/create/json")
async def create_payment(request: Request) -> HTTPResponse:
    """Charge by any method."""
    return await _charge(request, json_answer, frozenset({"upi", "card", "netbanking"}))


@blueprint.get("/payments/<payment_id>")
async def fetch_payment(request: Request, payment_id: str) -> HTTPResponse:
    """Show one payment."""
    return answer(payment_document(simulator_of(request).book.payment(payment_id)))


@blueprint.post("/payments/<payment_id>/capture")
async def capture(request: Request, payment_id: str) -> HTTPResponse:
    """Give an authorized payment to the merchant."""
    asked = decode(request.body, CaptureRequest)
    return answer(payment_document(simulator_of(request).book.capture(payment_id, asked)))


@blueprint.post("/payments/<payment_id>/refund")
async def refund(request: Request, payment_id: str) -> HTTPResponse:
    """Return captured money."""
    asked = decode(request.body, CreateRefund)
    key = request.headers.get("X-Refund-Idempotency")
    return answer(refund_document(simulator_of(request).book.refund(payment_id, asked, key)))


@blueprint.get("/payments/<payment_id>/refunds")
async def find_refunds(request: Request, payment_id: str) -> HTTPResponse:
    """List the refunds of one payment, the newest first."""
    asked = query(dict(request.query_args), RefundsQuery)
    found = [refund_document(each) for each in reversed(simulator_of(request).book.payment(payment_id).refunds)]
    within = [
        each
        for each in found
        if each["created_at"] >= asked.since and (asked.to is None or each["created_at"] <= asked.to)
    ]
    return answer(collection_document(within[asked.skip : asked.skip + asked.count]))


async def _charge(
    request: Request, write: Callable[[SimulatedPayment, str], Document], methods: frozenset[str]
) -> HTTPResponse:
    """Make a payment, with the fault that this call uses up."""
    sandbox = simulator_of(request)
    fault = sandbox.faults.take()
    if fault is not None and fault in MAKES_NOTHING:
        await _make_nothing(fault)
    asked = decode(request.body, CreatePayment)
    if asked.method not in methods:
        raise invalid("The selected method is invalid.", "method")
    payment = sandbox.book.create_payment(asked, PLAIN if fault is None else EFFECTS.get(fault, PLAIN))
    if payment.failure is not None:
        raise Refused(payment.failure, metadata={"payment_id": payment.id, "order_id": payment.order.id})
    return await deliver(write(payment, f"http://{request.host}"), request, sandbox.clock, fault)


async def _make_nothing(fault: SimulatedFault) -> NoReturn:
    match fault:
        case SimulatedFault.TOO_MANY:
            raise too_many()
        case SimulatedFault.UNAUTHORIZED:
            raise unauthorized()
        case _:
            await never()
