"""The documents a server answers with, built by the core itself, so that the screens meet what they will meet."""

import json
from datetime import UTC, datetime, timedelta
from typing import Any

import msgspec
from msgspec.structs import replace

from pgw.core.payment.payment import Attempt, AttemptStatus, Method, Payment, Status
from pgw.core.routing.context import Context, SizeBand
from pgw.core.routing.decision import explain
from pgw.core.routing.gateway import GatewayConfig
from pgw.core.routing.plan import Snapshot, make_plan, seed_of

NOW = datetime(2026, 1, 31, 10, 0, 0, 123456, tzinfo=UTC)
PAYMENT_ID = "01980c5e-7f4a-7cc2-9a5c-6b3f7d2e1a90"
OTHER_ID = "01980c5e-7f4a-7cc2-9a5c-90a1e2d7f3b6"


def _gateway(gateway_id: str, bank: str, priority: int) -> GatewayConfig:
    return GatewayConfig(
        gateway_id=gateway_id,
        display_name=f"{bank} (sandbox)",
        is_sandbox=True,
        is_enabled=True,
        priority=priority,
        supported_methods=tuple(Method),
        supported_currencies=("INR", "USD"),
        bank=bank,
        fee_bps=180,
        fee_fixed_minor=300,
    )


GATEWAYS = (
    _gateway("hdfc", "HDFC", 20),
    _gateway("icici", "ICICI", 30),
    replace(_gateway("axis", "AXIS", 40), is_enabled=False, fee_bps=0, fee_fixed_minor=0),
    replace(_gateway("razorpay", "NONE", 10), timeout_ms=1500),
)
REASONS = {"razorpay": "RAZORPAY_KEY_ID is not set"}

CONTEXT = Context(
    merchant_id="m_001",
    amount_minor=1000,
    currency="INR",
    payment_method=Method.UPI,
    issuing_bank="HDFC",
    size_band=SizeBand.LT_500,
    hour=10,
    day_of_month=31,
)
PLAN = make_plan(
    CONTEXT,
    Snapshot(config_version=7, as_of=NOW, gateways=GATEWAYS, unavailable=REASONS),
    seed_of(PAYMENT_ID),
    NOW,
)


def sent(value: object) -> Any:
    """Return a value as it arrives: written by the server, read by the standard library."""
    return json.loads(msgspec.json.encode(value))


def gateway_list() -> dict[str, Any]:
    """Answer of GET /gateways."""
    items = [{**sent(each), "disabled_reason": REASONS.get(each.gateway_id), "version": 3} for each in GATEWAYS]
    return {"items": items, "next": None}


def payment(payment_id: str = PAYMENT_ID, status: Status = Status.SUCCESS) -> dict[str, Any]:
    """Answer of GET /payments/{id}."""
    document: dict[str, Any] = sent(
        Payment(
            payment_id=payment_id,
            merchant_id="m_001",
            customer_id="cust_001",
            merchant_reference="ord-17",
            status=status,
            amount_minor=1000,
            currency="INR",
            payment_method=Method.UPI,
            gateway_used="icici" if status is Status.SUCCESS else None,
            transaction_ref="sandbox-icici-17" if status is Status.SUCCESS else None,
            routing_strategy="scoring",
            routing_reason=PLAN.reason_summary,
            failure_code=None,
            attempts_made=2,
            latency_ms=27,
            experiment=None,
            next_action=None,
            metadata={},
            created_at=NOW,
            updated_at=NOW + timedelta(milliseconds=29),
            version=3,
        )
    )
    return document


def decision(**more: object) -> dict[str, Any]:
    """Answer of GET /payments/{id}/routing-decision, with members of the test's own."""
    return {**sent(explain(PLAN, PAYMENT_ID, NOW)), **more}


def attempts() -> dict[str, Any]:
    """Answer of GET /payments/{id}/attempts: one gateway declined, the next one took it."""
    first = Attempt(
        attempt_number=1,
        gateway_id="hdfc",
        status=AttemptStatus.FAILURE,
        error_code="GATEWAY_TECHNICAL_ERROR",
        blame="gateway",
        latency_ms=12,
        circuit_breaker_state="CLOSED",
        fallback_reason=None,
        transaction_ref=None,
        started_at=NOW,
        ended_at=NOW + timedelta(milliseconds=12),
    )
    second = replace(
        first,
        attempt_number=2,
        gateway_id="icici",
        status=AttemptStatus.SUCCESS,
        error_code=None,
        blame="none",
        fallback_reason="GATEWAY_TECHNICAL_ERROR",
        transaction_ref="sandbox-icici-17",
    )
    return {
        "payment_id": PAYMENT_ID,
        "total_attempts": 2,
        "final_status": "SUCCESS",
        "total_latency_ms": 27,
        "attempts": [sent(first), sent(second)],
    }


def verification() -> dict[str, Any]:
    """Answer of GET /payments/{id}/status-verification for a payment that is still open."""
    return {
        "payment_id": PAYMENT_ID,
        "status": "PENDING_VERIFICATION",
        "state": "scheduled",
        "checks_made": 1,
        "last_checked_at": "2026-01-31T10:00:02.000001Z",
        "last_result": "PENDING",
        "next_check_at": "2026-01-31T10:00:07.5Z",
        "gives_up_at": "2026-02-05T10:00:00Z",
        "checks": [{"checked_at": "2026-01-31T10:00:02.000001Z", "result": "PENDING", "error_code": None}],
    }


def scores() -> dict[str, Any]:
    """Answer of GET /scoring/debug."""
    whole = decision()
    ranked = [{name: each[name] for name in ("gateway_id", "score", "breakdown")} for each in whole["ranked"]]
    asked = {"amount_minor": 1000, "payment_method": "UPI", "issuing_bank": "HDFC"}
    return {"input": asked, "ranked": ranked, "excluded": whole["excluded"]}


def policy() -> dict[str, Any]:
    """Answer of GET /retry-policy/{merchant_id}."""
    return {
        "merchant_id": "m_001",
        "max_attempts": 3,
        "latency_budget_ms": 10_000,
        "retry_on_timeout": False,
        "retry_on_timeout_effective": False,
        "enabled": True,
    }


def problem(status: int, code: str, detail: str, **more: object) -> dict[str, Any]:
    """Problem document of a refusal."""
    return {"type": "about:blank", "title": code, "status": status, "detail": detail, "code": code, **more}
