"""The sandbox's own routes: what a customer, a bank or a tester does -> the book, and the faults to come."""

from html import escape

from msgspec import Struct
from sanic import Blueprint, HTTPResponse, Request

from pgw.razorpay_simulator.delivery import answer
from pgw.razorpay_simulator.documents import book_document, payment_document
from pgw.razorpay_simulator.faults import SimulatedFault
from pgw.razorpay_simulator.refusals import CANCELLED, DECLINES, Failure, invalid
from pgw.razorpay_simulator.requests import decode
from pgw.razorpay_simulator.simulator import simulator_of
from pgw.razorpay_simulator.states import SimulatedPayment
from pgw.razorpay_simulator.webhooks import Target, loopback_of

blueprint = Blueprint("sandbox")


class DeclineRequest(Struct, frozen=True, forbid_unknown_fields=True):
    """Why a payment is declined: a known reason says it all, any other may say the rest itself."""

    reason: str = CANCELLED.reason
    code: str | None = None
    description: str | None = None
    source: str | None = None
    step: str | None = None

    @property
    def failure(self) -> Failure:
        """Return the members that the payment will show."""
        known = DECLINES.get(self.reason, CANCELLED)
        return Failure(
            reason=self.reason,
            code=self.code or known.code,
            description=self.description or known.description,
            source=self.source or known.source,
            step=self.step or known.step,
        )


class FaultsRequest(Struct, frozen=True, forbid_unknown_fields=True):
    """The faults of the next charging calls."""

    next: list[str]


@blueprint.get("/sandbox/book")
async def book(request: Request) -> HTTPResponse:
    """Show the truth about money."""
    return answer(book_document(simulator_of(request).book.payments()))


@blueprint.get("/sandbox/faults")
async def faults(request: Request) -> HTTPResponse:
    """Show the faults to come."""
    return answer(simulator_of(request).faults.document)


@blueprint.put("/sandbox/faults")
async def set_faults(request: Request) -> HTTPResponse:
    """Set the faults of the next charging calls; none clears them all."""
    wanted = decode(request.body, FaultsRequest).next
    if unknown := [name for name in wanted if name not in set(SimulatedFault)]:
        raise invalid(f"There is no fault {', '.join(unknown)}; there are {', '.join(SimulatedFault)}", "next")
    simulator_of(request).faults.set_next(map(SimulatedFault, wanted))
    return answer(simulator_of(request).faults.document)


@blueprint.get("/sandbox/webhooks")
async def webhooks(request: Request) -> HTTPResponse:
    """Show where events go, and how many were taken."""
    return answer(simulator_of(request).webhooks.document)


@blueprint.put("/sandbox/webhooks")
async def set_webhooks(request: Request) -> HTTPResponse:
    """Send webhooks to a server on this machine from now on."""
    target = decode(request.body, Target)
    if loopback_of(target.url) is None:
        raise invalid("The url must be http:// to this machine, such as http://127.0.0.1:3000/webhooks/razorpay", "url")
    simulator_of(request).webhooks.publish(target)
    return answer(simulator_of(request).webhooks.document)


@blueprint.delete("/sandbox/webhooks")
async def end_webhooks(request: Request) -> HTTPResponse:
    """Send no webhooks any more."""
    simulator_of(request).webhooks.publish(None)
    return answer(simulator_of(request).webhooks.document)


@blueprint.post("/sandbox/payments/<payment_id>/approve")
async def approve(request: Request, payment_id: str) -> HTTPResponse:
    """Pay, as the customer would."""
    return answer(payment_document(simulator_of(request).book.approve(payment_id)))


@blueprint.post("/sandbox/payments/<payment_id>/decline")
async def decline(request: Request, payment_id: str) -> HTTPResponse:
    """Do not pay, for a reason."""
    asked = decode(request.body, DeclineRequest)
    return answer(payment_document(simulator_of(request).book.decline(payment_id, asked.failure)))


@blueprint.get("/pay/<payment_id>")
async def page(request: Request, payment_id: str) -> HTTPResponse:
    """Show what a redirected customer sees."""
    return _page(simulator_of(request).book.payment(payment_id))


@blueprint.get("/pay/<payment_id>/approve")
async def approve_on_page(request: Request, payment_id: str) -> HTTPResponse:
    """Pay, by a link on the page."""
    return _page(simulator_of(request).book.approve(payment_id))


@blueprint.get("/pay/<payment_id>/decline")
async def decline_on_page(request: Request, payment_id: str) -> HTTPResponse:
    """Do not pay, by a link on the page."""
    return _page(simulator_of(request).book.decline(payment_id, CANCELLED))


def _page(payment: SimulatedPayment) -> HTTPResponse:
    whole, part = divmod(payment.amount, 100)
    links = " ".join(f'<a href="/pay/{payment.id}/{verb}">{verb}</a>' for verb in ("approve", "decline"))
    lines = (
        "<!doctype html>",
        '<html lang="en"><head><meta charset="utf-8"><title>pgw sandbox</title></head><body>',
        f"<p>{payment.id}: {escape(payment.asked.currency)} {whole}.{part:02d} is {payment.status}</p>",
        f"<p>{links}</p>" if payment.status == "created" else "",
        "</body></html>",
    )
    return HTTPResponse("\n".join(lines), content_type="text/html; charset=utf-8")
