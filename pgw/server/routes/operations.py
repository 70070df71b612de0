"""The routes -> what the API's description says of each: one value an operation, its shapes the ones the code uses."""

from typing import Any

from pgw.core.errors import Code
from pgw.core.ledger.verifications import Verification
from pgw.core.payment.payment import Payment, PaymentRequest
from pgw.core.routing.policy import RetryPolicy
from pgw.server.http.operation import Operation, Who
from pgw.server.routes import prometheus
from pgw.server.routes.gateways import GatewayList, GatewayPatch, GatewayResponse
from pgw.server.routes.operations_steering import STEERING
from pgw.server.routes.payments import AttemptList, DecisionQuery, DecisionResponse, ListQuery, PaymentList
from pgw.server.routes.policies import RetryPolicyResponse
from pgw.server.routes.readiness import HealthResponse, ReadinessResponse, SandboxBookResponse
from pgw.server.routes.resolve import ResolveBody
from pgw.server.routes.scoring import Ranking, ScoringQuery
from pgw.server.routes.webhooks import WebhookReceipt

EXAMPLE_PAYMENT = {
    "amount_minor": 1000,
    "currency": "INR",
    "payment_method": "UPI",
    "merchant_id": "m_001",
    "customer_id": "cust_001",
    "instrument": {"type": "UPI", "vpa": "test@okhdfcbank"},
}

OPERATIONS = (
    Operation(
        method="post",
        path="/payments",
        tag="payments",
        summary="Take one payment; the same key and body again answer the payment as it is now",
        who=Who.MERCHANT,
        headers=("Idempotency-Key",),
        body=PaymentRequest,
        answers={201: Payment, 202: Payment},
        sends={201: ("Idempotent-Replayed",), 202: ("Location", "Idempotent-Replayed")},
        refusals=(
            Code.MERCHANT_MISMATCH,
            Code.MISSING_IDEMPOTENCY_KEY,
            Code.INVALID_IDEMPOTENCY_KEY,
            Code.IDEMPOTENCY_KEY_IN_USE,
            Code.IDEMPOTENCY_KEY_REUSED,
            Code.METHOD_NOT_SUPPORTED,
            Code.CURRENCY_NOT_SUPPORTED,
            Code.AMOUNT_NOT_SUPPORTED,
            Code.MISSING_CUSTOMER_FIELDS,
            Code.NO_GATEWAY_AVAILABLE,
            Code.PAUSED,
            Code.LEDGER_UNAVAILABLE,
            Code.DRAINING,
        ),
    ),
    Operation(
        method="get",
        path="/payments",
        tag="payments",
        summary="List payments, newest first",
        who=Who.MERCHANT,
        query=ListQuery,
        answers={200: PaymentList},
        refusals=(Code.LEDGER_UNAVAILABLE,),
    ),
    Operation(
        method="get",
        path="/payments/{payment_id}",
        tag="payments",
        summary="Show one payment as it is now",
        who=Who.MERCHANT,
        answers={200: Payment},
        refusals=(Code.NOT_FOUND, Code.LEDGER_UNAVAILABLE),
    ),
    Operation(
        method="get",
        path="/payments/{payment_id}/routing-decision",
        tag="payments",
        summary="Explain the routing, with every input it used; on request also decide again and compare",
        who=Who.MERCHANT,
        query=DecisionQuery,
        answers={200: DecisionResponse},
        refusals=(Code.NOT_FOUND, Code.LEDGER_UNAVAILABLE),
    ),
    Operation(
        method="get",
        path="/payments/{payment_id}/attempts",
        tag="payments",
        summary="Show every attempt",
        who=Who.MERCHANT,
        answers={200: AttemptList},
        refusals=(Code.NOT_FOUND, Code.LEDGER_UNAVAILABLE),
    ),
    Operation(
        method="get",
        path="/payments/{payment_id}/status-verification",
        tag="payments",
        summary="Show how the check of a payment stands",
        who=Who.MERCHANT,
        answers={200: Verification},
        refusals=(Code.NOT_FOUND, Code.NO_VERIFICATION, Code.LEDGER_UNAVAILABLE),
    ),
    Operation(
        method="post",
        path="/payments/{payment_id}/resolve",
        tag="payments",
        summary="End a payment in MANUAL_REVIEW by a manual decision, or the review of one attempt's late money",
        who=Who.ADMIN,
        headers=("X-Actor",),
        body=ResolveBody,
        answers={200: Payment},
        refusals=(Code.NOT_FOUND, Code.CONFLICT, Code.LEDGER_UNAVAILABLE),
    ),
    Operation(
        method="get",
        path="/gateways",
        tag="routing",
        summary="List every gateway, in order of priority",
        who=Who.READER,
        answers={200: GatewayList},
        refusals=(Code.LEDGER_UNAVAILABLE,),
    ),
    Operation(
        method="patch",
        path="/gateways/{gateway_id}",
        tag="routing",
        summary="Change one gateway; members left out stay as they are",
        who=Who.ADMIN,
        headers=("If-Match", "X-Actor"),
        body=GatewayPatch,
        answers={200: GatewayResponse},
        refusals=(Code.NOT_FOUND, Code.CONFLICT, Code.PRECONDITION_FAILED, Code.LEDGER_UNAVAILABLE),
    ),
    Operation(
        method="get",
        path="/scoring/debug",
        tag="routing",
        summary="Rank the gateways for an imagined payment; nothing is written",
        who=Who.READER,
        query=ScoringQuery,
        answers={200: Ranking},
        refusals=(Code.METHOD_NOT_SUPPORTED,),
    ),
    Operation(
        method="get",
        path="/retry-policy/{merchant_id}",
        tag="routing",
        summary="Show a merchant's retry policy; one never configured has the default",
        who=Who.READER,
        answers={200: RetryPolicyResponse},
        refusals=(Code.INVALID_REQUEST, Code.LEDGER_UNAVAILABLE),
    ),
    Operation(
        method="put",
        path="/retry-policy/{merchant_id}",
        tag="routing",
        summary="Set a merchant's retry policy",
        who=Who.ADMIN,
        headers=("X-Actor",),
        body=RetryPolicy,
        answers={200: RetryPolicyResponse},
        refusals=(Code.CONFLICT, Code.LEDGER_UNAVAILABLE),
    ),
    *STEERING,
    Operation(
        method="post",
        path="/webhooks/{gateway_id}",
        tag="payments",
        summary="Take a gateway's webhook: the check of the payment it names is made now; the same again does nothing",
        who=Who.ANYBODY,
        headers=("X-Razorpay-Signature",),
        body_is_signed=True,
        answers={200: WebhookReceipt},
        refusals=(Code.NOT_FOUND, Code.UNAUTHORIZED, Code.LEDGER_UNAVAILABLE),
    ),
    Operation(
        method="get",
        path="/sandbox/book",
        tag="operations",
        summary="Show what the sandbox gateways charged; there is none in production",
        who=Who.ADMIN,
        answers={200: SandboxBookResponse},
        refusals=(Code.NOT_FOUND,),
    ),
    Operation(
        method="get",
        path="/ops/liveness",
        tag="operations",
        summary="Answer while the process runs",
        who=Who.ANYBODY,
        answers={200: HealthResponse},
    ),
    Operation(
        method="get",
        path="/ops/readiness",
        tag="operations",
        summary="Say whether payments can be taken",
        who=Who.ANYBODY,
        answers={200: ReadinessResponse, 503: ReadinessResponse},
    ),
    Operation(
        method="get",
        path="/metrics",
        tag="operations",
        summary="Export to Prometheus what is violated, unknown and behind; without a key with PGW_METRICS_OPEN=1",
        who=Who.READER,
        answers={200: str},
        answers_as=prometheus.CONTENT_TYPE,
    ),
    Operation(
        method="get",
        path="/openapi.json",
        tag="operations",
        summary="Describe the API: this document",
        who=Who.READER,
        answers={200: dict[str, Any]},
    ),
)
