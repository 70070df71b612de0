"""A manual decision on money that no answer could settle, over HTTP: written with its reason and its evidence."""

from typing import Annotated

import msgspec
from msgspec import Meta, Struct, field
from sanic import Blueprint, HTTPResponse, Request

from pgw.core.breakers.override import Reason
from pgw.core.errors import Code, FieldError, PgwError
from pgw.core.flow.verification.resolve import close_review, resolve
from pgw.core.ledger.payment_reads import is_uuid
from pgw.core.payment.payment import is_clean
from pgw.core.writes.resolution import Evidence, Resolution, ResolvedAs
from pgw.server.http.codec import invalid, json_answer, read_body
from pgw.server.http.guards import admin, runtime_of

blueprint = Blueprint("resolve")


class ResolveBody(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What became of a payment in MANUAL_REVIEW, and how that is known.

    With `attempt_number` it is about the money that one attempt moved after its payment had ended: as FAILURE, since
    the attempt keeps none of it.
    """

    outcome: ResolvedAs = field(name="as")
    reason: Reason
    evidence: Evidence | None = None
    attempt_number: Annotated[int, Meta(ge=1, le=1000)] | None = None


_BODY = msgspec.json.Decoder(ResolveBody)


@blueprint.post("/payments/<payment_id:str>/resolve")
async def resolve_one(request: Request, payment_id: str) -> HTTPResponse:
    """End a payment under manual review, or the review of one attempt's money; the same again changes nothing."""
    actor = admin(request)
    body = read_body(request, _BODY)
    _check(body)
    if not is_uuid(payment_id):
        raise PgwError(Code.NOT_FOUND, "there is no such payment")
    said = Resolution(outcome=body.outcome, actor=actor, reason=body.reason, evidence=body.evidence)
    runtime = runtime_of(request)
    if body.attempt_number is None:
        work = resolve(runtime, payment_id, said)
    else:
        work = close_review(runtime, payment_id, body.attempt_number, said)
    return json_answer(await runtime.tasks.run(work))


def _check(body: ResolveBody) -> None:
    found = [
        FieldError(pointer, "must be printable and not only white space")
        for pointer, texts in (("/reason", [body.reason]), ("/evidence", _texts(body.evidence)))
        if not all(map(is_clean, texts))
    ]
    if body.attempt_number is not None and body.outcome is not ResolvedAs.FAILURE:
        found.append(FieldError("/as", "must be FAILURE where it is about one attempt: its payment has ended"))
    if found:
        raise invalid(*found)


def _texts(evidence: str | dict[str, str] | None) -> list[str]:
    match evidence:
        case None:
            return []
        case str():
            return [evidence]
        case _:
            return [*evidence.keys(), *evidence.values()]
