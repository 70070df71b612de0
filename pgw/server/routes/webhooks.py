"""Webhooks over HTTP: the gateway's own are kept, once each, before they are acknowledged; nothing else comes in."""

from typing import Literal

from msgspec import Struct
from sanic import Blueprint, HTTPResponse, Request

from pgw.core.errors import Code, FieldError, PgwError
from pgw.core.gateways.razorpay_events import notice_in
from pgw.core.ledger.configuration import RAZORPAY
from pgw.core.ledger.webhooks import RECEIVE, receiving
from pgw.core.verification.webhook import digest_of, is_in_window, is_signed
from pgw.server.http.codec import invalid, json_answer
from pgw.server.http.guards import runtime_of

blueprint = Blueprint("webhooks")

SIGNATURE = "x-razorpay-signature"


class WebhookReceipt(Struct, frozen=True):
    """A webhook is kept: by this request, or by an earlier one with the same body."""

    status: Literal["received", "duplicate"]


@blueprint.post("/webhooks/<gateway_id:str>")
async def receive(request: Request, gateway_id: str) -> HTTPResponse:
    """Keep what a webhook names; which payment that is, and what became of it, is found out after the answer.

    The signature is checked before anything is read. The body is neither kept nor logged, so it is not searched for
    card data: a gateway may well name the last digits of a card.
    """
    runtime = runtime_of(request)
    secrets = runtime.settings.razorpay_webhook_secrets if gateway_id == RAZORPAY.gateway_id else ()
    if not secrets:
        raise PgwError(Code.NOT_FOUND, "no webhooks are taken here; RAZORPAY_WEBHOOK_SECRET enables those of razorpay")
    body: bytes = request.body
    signatures = request.headers.getall(SIGNATURE, ())
    if len(signatures) != 1 or not is_signed(body, signatures[0], secrets):
        raise PgwError(Code.UNAUTHORIZED, "the body is not signed with a secret that is valid here")
    notice = notice_in(body)
    if notice is None:
        raise PgwError(Code.INVALID_REQUEST, "the body is signed, but is no event of this gateway")
    now = runtime.clock.now()
    if not is_in_window(notice.occurred_at, now):
        raise invalid(FieldError("/created_at", "is too long ago, or in the future"))
    item = receiving(gateway_id, digest_of(body), notice, now)
    is_new = await runtime.tasks.run(runtime.ledger.commit(RECEIVE, item))
    return json_answer(WebhookReceipt("received" if is_new else "duplicate"))
