"""PgwError, or what Sanic raises -> application/problem+json (RFC 9457); the only place that knows HTTP statuses."""

import asyncio
import logging
from typing import Any

import msgspec
from sanic import HTTPResponse, Request
from sanic.exceptions import (
    Forbidden,
    MethodNotAllowed,
    NotFound,
    PayloadTooLarge,
    SanicException,
    Unauthorized,
)
from sanic.handlers import ErrorHandler

from pgw.core.errors import Code, PgwError

log = logging.getLogger(__name__)

STATUS: dict[Code, int] = {
    Code.INVALID_REQUEST: 400,
    Code.MISSING_IDEMPOTENCY_KEY: 400,
    Code.INVALID_IDEMPOTENCY_KEY: 400,
    Code.CARD_DATA_NOT_ACCEPTED: 400,
    Code.UNAUTHORIZED: 401,
    Code.FORBIDDEN: 403,
    Code.NOT_FOUND: 404,
    Code.NO_VERIFICATION: 404,
    Code.METHOD_NOT_ALLOWED: 405,
    Code.IDEMPOTENCY_KEY_IN_USE: 409,
    Code.CONFLICT: 409,
    Code.PRECONDITION_FAILED: 412,
    Code.BODY_TOO_LARGE: 413,
    Code.UNSUPPORTED_MEDIA_TYPE: 415,
    Code.IDEMPOTENCY_KEY_REUSED: 422,
    Code.METHOD_NOT_SUPPORTED: 422,
    Code.CURRENCY_NOT_SUPPORTED: 422,
    Code.AMOUNT_NOT_SUPPORTED: 422,
    Code.MISSING_CUSTOMER_FIELDS: 422,
    Code.NO_GATEWAY_AVAILABLE: 503,
    Code.LEDGER_UNAVAILABLE: 503,
    Code.DRAINING: 503,
}
"""What has no row here is our own fault: 500."""

TITLES: dict[Code, str] = {
    Code.INVALID_REQUEST: "The request is not valid",
    Code.CARD_DATA_NOT_ACCEPTED: "Card data is not accepted",
    Code.LEDGER_UNAVAILABLE: "The ledger did not confirm",
}


def _title(code: Code) -> str:
    return TITLES.get(code) or code.replace("_", " ").capitalize()


def problem(refusal: PgwError, request_id: str, status: int | None = None) -> HTTPResponse:
    """Write a refusal down."""
    document: dict[str, Any] = {
        "type": f"urn:pgw:problem:{refusal.code.lower().replace('_', '-')}",
        "title": _title(refusal.code),
        "status": status or STATUS.get(refusal.code, 500),
        "detail": refusal.detail,
        "code": refusal.code,
        "request_id": request_id,
    }
    if refusal.errors:
        document["errors"] = refusal.errors
    headers = {} if refusal.retry_after_s is None else {"Retry-After": str(refusal.retry_after_s)}
    return HTTPResponse(
        msgspec.json.encode(document),
        status=document["status"],
        headers=headers,
        content_type="application/problem+json",
    )


class Problems(ErrorHandler):
    """Answers every exception with a problem; an exception that is nobody's refusal is logged and tells nothing."""

    def default(self, request: Request | None, exception: Exception) -> HTTPResponse:
        """Turn one exception into its answer."""
        request_id = getattr(request.ctx, "request_id", "") if request is not None else ""
        if isinstance(exception, PgwError):
            if exception.code not in STATUS:
                log.error("request %s: %s: %s", request_id, exception.code, exception.detail)
            return problem(exception, request_id)
        if isinstance(exception, SanicException) and exception.status_code < 500:  # noqa: PLR2004  # the client's faults
            answer = problem(_of_sanic(exception), request_id, exception.status_code)
            answer.headers.update(exception.headers or {})
            return answer
        if not isinstance(exception, asyncio.CancelledError):
            # A cancelled handler is a client that went away: nobody is there to answer, and nothing went wrong.
            log.error("request %s failed: %s", request_id, type(exception).__name__, exc_info=exception)
        return problem(PgwError(Code.INTERNAL, "pgw failed; the log has this request's id"), request_id)

    @staticmethod
    def log(request: Request, exception: Exception) -> None:
        """Say nothing: `default` logs what deserves it, without the request's values."""


def _of_sanic(exception: SanicException) -> PgwError:
    match exception:
        case NotFound():
            return PgwError(Code.NOT_FOUND, "there is nothing at this path; /openapi.json lists what there is")
        case MethodNotAllowed():
            return PgwError(Code.METHOD_NOT_ALLOWED, "this path does not take this method; see the Allow header")
        case PayloadTooLarge():
            return PgwError(Code.BODY_TOO_LARGE, "the body or the headers are larger than pgw takes (body: 64 KiB)")
        case Unauthorized():
            return PgwError(Code.UNAUTHORIZED, "a key is needed")
        case Forbidden():
            return PgwError(Code.FORBIDDEN, "this key may not do that")
        case _:
            return PgwError(Code.INVALID_REQUEST, "the request is not well-formed HTTP/1.1")
