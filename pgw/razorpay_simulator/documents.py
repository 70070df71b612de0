"""Orders, payments, refunds -> Razorpay's JSON entities; the whole book -> who got what."""

from collections.abc import Iterable
from datetime import datetime
from typing import Any
from urllib.parse import quote, urlencode

from pgw.razorpay_simulator.states import SimulatedOrder, SimulatedPayment, SimulatedRefund, SimulatedStatus

Document = dict[str, Any]

FEE_DIVISOR = 50
"""Two per cent of a captured payment, as in Razorpay's examples."""


def collection_document(items: Iterable[Document]) -> Document:
    """Write a list of entities."""
    listed = list(items)
    return {"entity": "collection", "count": len(listed), "items": listed}


def order_document(order: SimulatedOrder) -> Document:
    """Write an order."""
    return {
        "id": order.id,
        "entity": "order",
        "amount": order.asked.amount,
        "amount_paid": order.amount_paid,
        "amount_due": order.asked.amount - order.amount_paid,
        "currency": order.asked.currency,
        "receipt": order.asked.receipt,
        "offer_id": None,
        "status": order.status,
        "attempts": len(order.payments),
        "notes": order.asked.notes or [],
        "created_at": _seconds(order.created_at),
    }


def expanded_document(order: SimulatedOrder) -> Document:
    """Write an order with its payments."""
    return {**order_document(order), "payments": collection_document(map(payment_document, order.payments))}


def payment_document(payment: SimulatedPayment) -> Document:
    """Write a payment; why it failed stands in the `error_` members."""
    asked, failure = payment.asked, payment.failure
    refunded = payment.refunded_amount + payment.released_amount
    document: Document = {
        "id": payment.id,
        "entity": "payment",
        "amount": payment.amount,
        "currency": asked.currency,
        "status": payment.status,
        "order_id": payment.order.id,
        "invoice_id": None,
        "international": False,
        "method": asked.method,
        "amount_refunded": refunded,
        "refund_status": None if not refunded else "full" if payment.status is SimulatedStatus.REFUNDED else "partial",
        "captured": payment.captured_at is not None,
        "description": asked.description,
        "card_id": payment.card_id,
        "bank": asked.bank,
        "wallet": None,
        "vpa": asked.upi.vpa if asked.upi else None,
        "email": asked.email,
        "contact": asked.contact,
        "notes": asked.notes or [],
        "fee": payment.captured_amount // FEE_DIVISOR if payment.captured_at else None,
        "tax": 0 if payment.captured_at else None,
        "error_code": failure and failure.code,
        "error_description": failure and failure.description,
        "error_source": failure and failure.source,
        "error_step": failure and failure.step,
        "error_reason": failure and failure.reason,
        "acquirer_data": _acquirer_document(payment),
        "created_at": _seconds(payment.created_at),
    }
    if asked.upi is not None:
        document["upi"] = {"payer_account_type": "bank_account", "vpa": asked.upi.vpa, "flow": asked.upi.flow}
    if asked.token is not None:
        document["token_id"] = asked.token
    return document


def _acquirer_document(payment: SimulatedPayment) -> Document:
    name = {"upi": "rrn", "card": "auth_code", "netbanking": "bank_transaction_id"}[payment.asked.method]
    return {name: payment.bank_reference if payment.authorized_at else None}


def refund_document(refund: SimulatedRefund) -> Document:
    """Write a refund."""
    return {
        "id": refund.id,
        "entity": "refund",
        "amount": refund.amount,
        "currency": refund.payment.asked.currency,
        "payment_id": refund.payment.id,
        "notes": refund.asked.notes or [],
        "receipt": refund.asked.receipt,
        "acquirer_data": {"arn": None},
        "created_at": _seconds(refund.created_at),
        "batch_id": None,
        "status": "processed",
        "speed_processed": "normal",
        "speed_requested": refund.asked.speed,
    }


def upi_answer(payment: SimulatedPayment, _: str) -> Document:
    """Answer `payments/create/upi`: the link that opens a UPI app; a collect request needs none."""
    answer = {"razorpay_payment_id": payment.id}
    return answer if _collects(payment) else {**answer, "link": _link(payment)}


def json_answer(payment: SimulatedPayment, address: str) -> Document:
    """Answer `payments/create/json`: what the customer, or the merchant, does next."""
    poll = {"action": "poll", "url": f"{address}/v1/payments/{payment.id}"}
    if payment.asked.method != "upi":
        steps = [{"action": "redirect", "url": f"{address}/pay/{payment.id}"}]
    elif _collects(payment):
        steps = [poll]
    else:
        steps = [{"action": "intent", "url": _link(payment)}, poll]
    return {"razorpay_payment_id": payment.id, "next": steps}


def _collects(payment: SimulatedPayment) -> bool:
    return payment.asked.upi is not None and payment.asked.upi.flow == "collect"


def _link(payment: SimulatedPayment) -> str:
    """Write the link from what was asked: a wrong amount shows only in later answers."""
    whole, part = divmod(payment.asked.amount, 100)
    members = {
        "pa": "sandbox@razorpay",
        "pn": "pgw sandbox",
        "tr": payment.id.removeprefix("pay_"),
        "tn": "razorpay",
        "am": f"{whole}.{part:02d}",
        "cu": payment.asked.currency,
        "mc": "5411",
    }
    return "upi://pay?" + urlencode(members, safe="@", quote_via=quote)


def book_document(payments: Iterable[SimulatedPayment]) -> Document:
    """Write the truth about money: every payment, then every capture, refund and release, once each."""
    listed = list(payments)
    return {
        "payments": [
            {
                "payment_id": each.id,
                "order_id": each.order.id,
                "receipt": each.order.asked.receipt,
                "method": each.asked.method,
                "ordered_amount": each.order.asked.amount,
                "amount": each.amount,
                "currency": each.asked.currency,
                "status": each.status,
                "authorized_amount": each.amount if each.authorized_at else 0,
                "captured_amount": each.captured_amount,
                "refunded_amount": each.refunded_amount,
                "released_amount": each.released_amount,
            }
            for each in listed
        ],
        "captures": [_step(each, each.amount, each.captured_at) for each in listed if each.captured_at],
        "refunds": [
            {"refund_id": refund.id, **_step(each, refund.amount, refund.created_at)}
            for each in listed
            for refund in each.refunds
        ],
        "releases": [_step(each, each.amount, each.released_at) for each in listed if each.released_at],
    }


def _step(payment: SimulatedPayment, amount: int, at: datetime) -> Document:
    return {"payment_id": payment.id, "amount": amount, "currency": payment.asked.currency, "at": at}


def _seconds(moment: datetime) -> int:
    return int(moment.timestamp())
