"""Payments over HTTP: take one, look at them, explain their routing."""

from datetime import UTC, datetime
from typing import Annotated

import msgspec
from msgspec import UNSET, Meta, Struct, UnsetType
from msgspec.structs import asdict
from sanic import Blueprint, HTTPResponse, Request

from pgw.core.errors import Code, FieldError, PgwError
from pgw.core.flow.payments.recompute import Recomputed, recomputed
from pgw.core.flow.payments.take import take
from pgw.core.ledger.payment_reads import PaymentFilter, Stored, attempts_of, by_id, decision_of, is_uuid, listed
from pgw.core.ledger.verifications import verification_of
from pgw.core.payment.payment import Attempt, Name, Payment, PaymentRequest, Status, Word, faults, is_clean
from pgw.core.routing.decision import RoutingDecision, explain
from pgw.server.http.codec import invalid, json_answer, read_body, read_query
from pgw.server.http.guards import admit, idempotency_key, merchant, runtime_of

blueprint = Blueprint("payments")

_REQUEST = msgspec.json.Decoder(PaymentRequest)

CREATED = 201
ACCEPTED = 202


class ListQuery(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What a list of payments is asked for; `cursor` is the `next` of the page before."""

    merchant_id: Name | None = None
    status: Status | None = None
    ref: Word | None = None
    since: datetime | None = None
    limit: Annotated[int, Meta(ge=1, le=200)] = 50
    cursor: str | None = None


class DecisionQuery(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """`recompute` asks for the decision to be made again and compared."""

    recompute: bool = False


class PaymentList(Struct, frozen=True, kw_only=True):
    """A page of payments, newest first; `next` is the cursor of the following page."""

    items: tuple[Payment, ...]
    next: str | None


class DecisionResponse(RoutingDecision, frozen=True, kw_only=True):
    """A decision as it is shown; `recomputed` stands only where it was asked for."""

    recomputed: Recomputed | UnsetType = UNSET


class AttemptList(Struct, frozen=True, kw_only=True):
    """A payment's attempts."""

    payment_id: str
    total_attempts: int
    final_status: Status
    total_latency_ms: int
    attempts: tuple[Attempt, ...]


@blueprint.post("/payments")
async def create(request: Request) -> HTTPResponse:
    """Take one payment."""
    admit(request)
    payee = merchant(request)
    body = read_body(request, _REQUEST)
    if payee not in {None, body.merchant_id}:
        raise PgwError(Code.MERCHANT_MISMATCH, "the body names another merchant than the key belongs to")
    key = idempotency_key(request)
    if found := faults(body):
        raise invalid(*found)
    runtime = runtime_of(request)
    taken = await runtime.tasks.run(take(runtime, body, key))
    return _answer(taken.payment, replayed=taken.replayed)


def _answer(payment: Payment, *, replayed: bool) -> HTTPResponse:
    headers = {"Idempotent-Replayed": "true"} if replayed else {}
    if payment.status.is_final:
        return json_answer(payment, CREATED, headers)
    return json_answer(payment, ACCEPTED, {**headers, "Location": f"/payments/{payment.payment_id}"})


@blueprint.get("/payments")
async def index(request: Request) -> HTTPResponse:
    """List payments, newest first; a merchant's key lists that merchant's, whatever is asked for."""
    payee = merchant(request)
    query = read_query(request, ListQuery)
    _check(query)
    if payee is not None and query.merchant_id not in {None, payee}:
        return json_answer(PaymentList(items=(), next=None))
    runtime = runtime_of(request)
    now = runtime.clock.now()
    wanted = PaymentFilter(
        payee or query.merchant_id, query.status, query.ref, _since(query), query.cursor, query.limit + 1
    )
    # One row more than asked for shows whether there is a next page.
    rows = await runtime.ledger.read(listed, wanted, now)
    page = rows[: query.limit]
    following = page[-1].payment.payment_id if len(rows) > query.limit else None
    return json_answer(PaymentList(items=tuple(row.as_of(now) for row in page), next=following))


def _check(query: ListQuery) -> None:
    if query.cursor is not None and not is_uuid(query.cursor):
        raise invalid(FieldError("/cursor", "must be the `next` of the page before"))
    for name in ("merchant_id", "ref"):
        value = getattr(query, name)
        if value is not None and not is_clean(value):
            raise invalid(FieldError(f"/{name}", "must be printable and not only white space"))


def _since(query: ListQuery) -> datetime | None:
    """Read the time in UTC, where the ledger's own times are; not every time elsewhere has one there."""
    if query.since is None:
        return None
    if query.since.tzinfo is None:
        raise invalid(FieldError("/since", "must carry its offset, such as Z"))
    try:
        return query.since.astimezone(UTC)
    except OverflowError:
        raise invalid(FieldError("/since", "must lie within the years 1 to 9999 of UTC")) from None


async def _stored(request: Request, payment_id: str) -> Stored:
    """Find a payment that this caller may see; another merchant's is answered like one that is not there."""
    payee = merchant(request)
    stored = await runtime_of(request).ledger.read(by_id, payment_id) if is_uuid(payment_id) else None
    if stored is None or payee not in {None, stored.payment.merchant_id}:
        raise PgwError(Code.NOT_FOUND, "there is no such payment")
    return stored


@blueprint.get("/payments/<payment_id:str>")
async def show(request: Request, payment_id: str) -> HTTPResponse:
    """Show one payment as it is now."""
    stored = await _stored(request, payment_id)
    return json_answer(stored.as_of(runtime_of(request).clock.now()))


@blueprint.get("/payments/<payment_id:str>/attempts")
async def attempts(request: Request, payment_id: str) -> HTTPResponse:
    """Show every attempt."""
    stored = await _stored(request, payment_id)
    runtime = runtime_of(request)
    rows = await runtime.ledger.read(attempts_of, payment_id)
    seen = stored.as_of(runtime.clock.now())
    total = sum(row.latency_ms or 0 for row in rows)
    return json_answer(
        AttemptList(
            payment_id=payment_id,
            total_attempts=len(rows),
            final_status=seen.status,
            total_latency_ms=total,
            attempts=rows,
        )
    )


@blueprint.get("/payments/<payment_id:str>/routing-decision")
async def routing_decision(request: Request, payment_id: str) -> HTTPResponse:
    """Explain the routing; with `?recompute=true` also decide again and say whether it comes out the same."""
    merchant(request)
    query = read_query(request, DecisionQuery)
    await _stored(request, payment_id)
    runtime = runtime_of(request)
    found = await runtime.ledger.read(decision_of, payment_id)
    assert found is not None, "a payment is opened together with its decision"
    plan, decided_at = found
    again = await recomputed(runtime, plan) if query.recompute else UNSET
    return json_answer(DecisionResponse(**asdict(explain(plan, payment_id, decided_at)), recomputed=again))


@blueprint.get("/payments/<payment_id:str>/status-verification")
async def status_verification(request: Request, payment_id: str) -> HTTPResponse:
    """Show how the check of a payment stands."""
    stored = await _stored(request, payment_id)
    runtime = runtime_of(request)
    shown = stored.as_of(runtime.clock.now()).status
    verification = await runtime.ledger.read(verification_of, payment_id, shown)
    if verification is None:
        raise PgwError(Code.NO_VERIFICATION, "this payment never needed a check")
    return json_answer(verification)
