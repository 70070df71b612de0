"""What went wrong -> Razorpay's error document, as every failed call of its API answers it."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

NOT_SAID = "NA"
"""What Razorpay writes for source, step and reason where a refusal has none."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Failure:
    """Why a call or a payment failed. The defaults are those of a request that was not valid."""

    description: str
    code: str = "BAD_REQUEST_ERROR"
    source: str = "business"
    step: str = "payment_initiation"
    reason: str = "input_validation_failed"
    field: str | None = None


class Refused(Exception):
    """A call that failed: the failure, the HTTP status it is answered with, and what it was about."""

    def __init__(
        self,
        failure: Failure,
        *,
        status: int = 400,
        metadata: Mapping[str, str] | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(failure.description)
        self.failure = failure
        self.status = status
        self.metadata = dict(metadata or {})
        self.headers = dict(headers or {})

    @property
    def document(self) -> dict[str, Any]:
        """Return the error document; `field` is there only when one member of the request is at fault."""
        failure = self.failure
        error: dict[str, Any] = {
            "code": failure.code,
            "description": failure.description,
            "source": failure.source,
            "step": failure.step,
            "reason": failure.reason,
            "metadata": self.metadata,
        }
        if failure.field is not None:
            error["field"] = failure.field
        return {"error": error}


def invalid(description: str, field: str | None = None) -> Refused:
    """Refuse a request that is wrong and will stay wrong."""
    return Refused(Failure(description=description, field=field))


def extra_field(name: str) -> Refused:
    """Refuse a member or a parameter that the call does not document."""
    return Refused(
        Failure(description=f"{name} is/are not required and should not be sent", reason="extra_field_sent", field=name)
    )


def unauthorized() -> Refused:
    """Refuse a call without the right key."""
    failure = Failure(description="Authentication failed", source=NOT_SAID, step=NOT_SAID, reason=NOT_SAID)
    return Refused(failure, status=401, headers={"WWW-Authenticate": 'Basic realm="Razorpay"'})


RETRY_AFTER_S = 1
"""Razorpay documents no Retry-After; a client that honours one finds it here."""


def too_many() -> Refused:
    """Refuse a call for coming too soon."""
    failure = Failure(
        description="Too many requests. Please try again after some time.",
        source=NOT_SAID,
        step=NOT_SAID,
        reason=NOT_SAID,
    )
    return Refused(failure, status=429, headers={"Retry-After": str(RETRY_AFTER_S)})


CANCELLED = Failure(
    description="You may have cancelled the payment or there was a delay in response from the UPI app.",
    source="customer",
    step="payment_authentication",
    reason="payment_cancelled",
)
GATEWAY_DOWN = Failure(
    description="Payment processing failed due to error at bank or wallet gateway",
    code="GATEWAY_ERROR",
    source="gateway",
    step="payment_initiation",
    reason="gateway_technical_error",
)
INSUFFICIENT_FUNDS = Failure(
    description="Transaction failed due to insufficient funds.",
    code="GATEWAY_ERROR",
    source="customer",
    step="payment_debit_request",
    reason="insufficient_funds",
)
TIMED_OUT = Failure(
    description="Payment was not completed on time.",
    source="customer",
    step="payment_authentication",
    reason="payment_timed_out",
)
COLLECT_EXPIRED = Failure(
    description="Payment was unsuccessful as the collect request was not accepted in time.",
    source="customer",
    step="payment_authentication",
    reason="payment_collect_request_expired",
)
DECLINES = {each.reason: each for each in (CANCELLED, GATEWAY_DOWN, INSUFFICIENT_FUNDS, TIMED_OUT, COLLECT_EXPIRED)}
"""Declines whose members need not be spelt out: by their reason."""
