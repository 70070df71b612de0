"""What routing would do, over HTTP: the ranking for an imagined payment."""

from typing import Annotated

from msgspec import Meta, Struct
from sanic import Blueprint, HTTPResponse, Request

from pgw.core.candidates import Excluded
from pgw.core.context import UNKNOWN_BANK, Context, size_band
from pgw.core.errors import Code, FieldError, PgwError
from pgw.core.money import MAX_AMOUNT_MINOR, MINOR_DIGITS
from pgw.core.payment import Method, Word, is_clean
from pgw.core.plan import make_plan
from pgw.core.score import Ranked
from pgw.server.codec import invalid, json_answer, read_query
from pgw.server.guards import house_of, reader

blueprint = Blueprint("scoring")


class ScoringQuery(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The payment to imagine."""

    amount_minor: Annotated[int, Meta(ge=1, le=MAX_AMOUNT_MINOR)]
    payment_method: Word
    issuing_bank: Word = UNKNOWN_BANK
    currency: Annotated[str, Meta(min_length=3, max_length=3)] = "INR"
    merchant_id: Word = "debug"


class Ranking(Struct, frozen=True, kw_only=True):
    """What was imagined, and how the gateways rank for it."""

    input: Context
    ranked: tuple[Ranked, ...]
    excluded: tuple[Excluded, ...]


@blueprint.get("/scoring/debug")
async def debug(request: Request) -> HTTPResponse:
    """Rank the gateways for an imagined payment; nothing is written."""
    reader(request)
    query = read_query(request, ScoringQuery)
    _check(query)
    world = house_of(request).world
    now = world.clock.now()
    context = Context(
        merchant_id=query.merchant_id,
        amount_minor=query.amount_minor,
        currency=query.currency,
        payment_method=_method(query.payment_method),
        issuing_bank=query.issuing_bank.upper(),
        size_band=size_band(query.amount_minor),
        hour=now.hour,
        day_of_month=now.day,
    )
    plan = make_plan(context, world.snapshot(), 0, now)
    return json_answer(Ranking(input=context, ranked=plan.ranked, excluded=plan.excluded))


def _check(query: ScoringQuery) -> None:
    found = [
        FieldError(f"/{name}", "must be printable and not only white space")
        for name in ("issuing_bank", "merchant_id")
        if not is_clean(getattr(query, name))
    ]
    if query.currency not in MINOR_DIGITS:
        found.append(FieldError("/currency", "is not an ISO 4217 currency code"))
    if found:
        raise invalid(*found)


def _method(name: str) -> Method:
    try:
        return Method(name.upper())
    except ValueError:
        raise PgwError(Code.METHOD_NOT_SUPPORTED, f"payment_method must be one of {', '.join(Method)}") from None
