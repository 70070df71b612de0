"""How routing weighs gateways, over HTTP: the ranking for an imagined payment, and the weights and rules behind it."""

import math
from typing import Annotated

import msgspec
from msgspec import Meta, Struct
from sanic import Blueprint, HTTPResponse, Request

from pgw.core.errors import FieldError
from pgw.core.ledger.configuration import SCORING
from pgw.core.payment.currency import MAX_AMOUNT_MINOR, MINOR_DIGITS
from pgw.core.payment.payment import Method, Word, is_clean
from pgw.core.routing.candidates import Excluded
from pgw.core.routing.context import UNKNOWN_BANK, Context, SizeBand, size_band
from pgw.core.routing.plan import Snapshot, make_plan
from pgw.core.routing.score import Ranked, Scoring
from pgw.server.http.codec import invalid, json_answer, read_body, read_query
from pgw.server.http.guards import admin, reader, runtime_of
from pgw.server.http.names import method_named
from pgw.server.routes.gateways import if_match

blueprint = Blueprint("scoring")

_SCORING = msgspec.json.Decoder(Scoring)

SUM_ERROR = 1e-9
"""How far the weights may add up beside 1: what writing six decimal fractions in binary can cost, and more."""


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
    runtime = runtime_of(request)
    now = runtime.clock.now()
    context = Context(
        merchant_id=query.merchant_id,
        amount_minor=query.amount_minor,
        currency=query.currency,
        payment_method=method_named(query.payment_method),
        issuing_bank=query.issuing_bank.upper(),
        size_band=size_band(query.amount_minor),
        hour=now.hour,
        day_of_month=now.day,
    )
    plan = make_plan(context, runtime.snapshot(), 0, now)
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


@blueprint.get("/scoring/config")
async def config(request: Request) -> HTTPResponse:
    """Show the scoring configuration; its version is the ETag."""
    reader(request)
    return _response(await runtime_of(request).snapshots.refresh())


@blueprint.put("/scoring/config")
async def replace(request: Request) -> HTTPResponse:
    """Put another scoring configuration in its place; every decision from now on names its version."""
    actor = admin(request)
    scoring = read_body(request, _SCORING)
    if found := _faults(scoring):
        raise invalid(*found)
    snapshots = runtime_of(request).snapshots
    return _response(
        await snapshots.configure(SCORING, lambda _: scoring, actor, "set scoring configuration", if_match(request))
    )


def _response(snapshot: Snapshot) -> HTTPResponse:
    return json_answer(snapshot.scoring, headers={"ETag": f'"{snapshot.versions.get(SCORING, 0)}"'})


def _faults(scoring: Scoring) -> list[FieldError]:
    """Find what no single member shows. Unknown gateways may be named: they may come later."""
    found: list[FieldError] = []
    total = math.fsum(msgspec.structs.astuple(scoring.weights))
    if abs(total - 1.0) > SUM_ERROR:
        found.append(FieldError("/weights", f"must add up to 1, not to {total:.12g}"))
    for name, known in (("method_affinity", Method), ("amount_fit", SizeBand)):
        if any(key not in set(known) for row in getattr(scoring, name).values() for key in row):
            found.append(FieldError(f"/{name}", f"must name, for each gateway, only {', '.join(known)}"))
    if scoring.breaker.max_open_s < scoring.breaker.open_s:
        found.append(FieldError("/breaker/max_open_s", "must not be less than open_s"))
    return found
