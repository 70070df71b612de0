"""Retry policies over HTTP."""

from urllib.parse import unquote

import msgspec
from sanic import Blueprint, HTTPResponse, Request

from pgw.core.errors import FieldError
from pgw.core.ledger.configuration import RETRY_POLICY
from pgw.core.payment.payment import is_clean
from pgw.core.routing.policy import RetryPolicy
from pgw.server.http.codec import invalid, json_answer, read_body
from pgw.server.http.guards import admin, reader, runtime_of

blueprint = Blueprint("policies")

_POLICY = msgspec.json.Decoder(RetryPolicy)
LONGEST_MERCHANT_ID = 64


class RetryPolicyResponse(RetryPolicy, frozen=True, kw_only=True):
    """A retry policy as it is shown: a timeout is never retried, whatever `retry_on_timeout` says."""

    retry_on_timeout_effective: bool = False


def _response(policy: RetryPolicy) -> RetryPolicyResponse:
    return RetryPolicyResponse(**msgspec.structs.asdict(policy))


def _merchant(member: str) -> str:
    """Read the merchant from the path, where a name may stand percent-encoded."""
    merchant_id = unquote(member)
    if not 1 <= len(merchant_id) <= LONGEST_MERCHANT_ID or not is_clean(merchant_id):
        raise invalid(FieldError("/merchant_id", "must be 1 to 64 printable characters"))
    return merchant_id


@blueprint.get("/retry-policy/<merchant_id:str>")
async def show(request: Request, merchant_id: str) -> HTTPResponse:
    """Show a merchant's policy; one that was never configured has the default."""
    reader(request)
    snapshot = await runtime_of(request).snapshots.refresh()
    return json_answer(_response(snapshot.policy_of(_merchant(merchant_id))))


@blueprint.put("/retry-policy/<merchant_id:str>")
async def replace(request: Request, merchant_id: str) -> HTTPResponse:
    """Set a merchant's policy."""
    actor = admin(request)
    policy = read_body(request, _POLICY)
    if policy.merchant_id != _merchant(merchant_id):
        raise invalid(FieldError("/merchant_id", "must be the merchant of the path"))
    snapshots = runtime_of(request).snapshots
    subject = RETRY_POLICY + policy.merchant_id
    snapshot = await snapshots.configure(subject, lambda _: policy, actor, "set retry policy")
    return json_answer(_response(snapshot.policy_of(policy.merchant_id)))
