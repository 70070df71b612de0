"""What routing would do, over HTTP: the ranking for an imagined payment."""

from typing import Annotated

from msgspec import Meta, Struct
from sanic import Blueprint, HTTPResponse, Request

from pgw.core.context import UNKNOWN_BANK, Context, size_band
from pgw.core.errors import FieldError
from pgw.core.money import MAX_AMOUNT_MINOR, MINOR_DIGITS
from pgw.core.payment import Method, Word, is_clean
from pgw.core.plan import make_plan
from pgw.server.codec import invalid, json_answer, read_query
from pgw.server.guards import house_of, reader

blueprint = Blueprint("scoring")


class ScoringQuery(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The payment to imagine."""

    amount_minor: Annotated[int, Meta(ge=1, le=MAX_AMOUNT_MINOR)]
    payment_method: Method
    issuing_bank: Word = UNKNOWN_BANK
    currency: Annotated[str, Meta(min_length=3, max_length=3)] = "INR"
    merchant_id: Word = "debug"


@blueprint.get("/scoring/debug")
async def debug(request: Request) -> HTTPResponse:
    """Rank the gateways for an imagined payment; nothing is written."""
    reader(request)
    query = read_query(request, ScoringQuery)
    if query.currency not in MINOR_DIGITS or not is_clean(query.issuing_bank):
        raise invalid(FieldError("/currency", "must be an ISO 4217 code, and the bank printable"))
    world = house_of(request).world
    now = world.clock.now()
    context = Context(
        merchant_id=query.merchant_id,
        amount_minor=query.amount_minor,
        currency=query.currency,
        payment_method=query.payment_method,
        issuing_bank=query.issuing_bank.upper(),
        size_band=size_band(query.amount_minor),
        hour=now.hour,
        day_of_month=now.day,
    )
    plan = make_plan(context, world.snapshot(), 0, now)
    return json_answer({"input": context, "ranked": plan.ranked, "excluded": plan.excluded})
