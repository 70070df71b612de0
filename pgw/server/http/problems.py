"""PgwError, or what Sanic raises -> application/problem+json (RFC 9457); the only place that knows HTTP statuses."""

import asyncio
import contextlib
import logging

import msgspec
from msgspec import UNSET, Struct, UnsetType
from sanic import HTTPResponse, Request
from sanic.constants import HTTP_METHODS
from sanic.exceptions import (
    MethodNotAllowed,
    NotFound,
    PayloadTooLarge,
    RequestTimeout,
    SanicException,
    ServiceUnavailable,
)
from sanic.handlers import ErrorHandler
from sanic.http import Http

from pgw.core.errors import Code, FieldError, PgwError
from pgw.server.http.guards import NOT_HTTP, request_id

log = logging.getLogger(__name__)

STATUS: dict[Code, int] = {
    Code.INVALID_REQUEST: 400,
    Code.MISSING_IDEMPOTENCY_KEY: 400,
    Code.INVALID_IDEMPOTENCY_KEY: 400,
    Code.CARD_DATA_NOT_ACCEPTED: 400,
    Code.UNAUTHORIZED: 401,
    Code.FORBIDDEN: 403,
    Code.MERCHANT_MISMATCH: 403,
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
    Code.REASON_REQUIRED: 422,
    Code.NO_GATEWAY_AVAILABLE: 503,
    Code.PAUSED: 503,
    Code.LEDGER_UNAVAILABLE: 503,
    Code.DRAINING: 503,
}
"""What has no row here is our own fault: 500."""

MAX_DROPPED = 16 * 1024 * 1024
"""Bytes of a refused body that are read to their end; a client that sends more is cut off."""

TITLES: dict[Code, str] = {
    Code.INVALID_REQUEST: "The request is not valid",
    Code.CARD_DATA_NOT_ACCEPTED: "Card data is not accepted",
    Code.LEDGER_UNAVAILABLE: "The ledger did not confirm",
}


def _title(code: Code) -> str:
    return TITLES.get(code) or code.replace("_", " ").capitalize()


class Problem(Struct, frozen=True, kw_only=True):
    """A refusal (RFC 9457). `code` is for programs, `detail` says what is wrong and the way out."""

    type: str
    title: str
    status: int
    detail: str
    code: Code
    request_id: str
    errors: tuple[FieldError, ...] | UnsetType = UNSET


def problem(refusal: PgwError, asked_as: str, status: int | None = None) -> HTTPResponse:
    """Write a refusal down; `asked_as` is the request's id."""
    document = Problem(
        type=f"urn:pgw:problem:{refusal.code.lower().replace('_', '-')}",
        title=_title(refusal.code),
        status=status or STATUS.get(refusal.code, 500),
        detail=refusal.detail,
        code=refusal.code,
        request_id=asked_as,
        errors=refusal.errors or UNSET,
    )
    headers = {} if refusal.retry_after_s is None else {"Retry-After": str(refusal.retry_after_s)}
    return HTTPResponse(
        msgspec.json.encode(document),
        status=document.status,
        headers=headers,
        content_type="application/problem+json",
    )


class Problems(ErrorHandler):
    """Answers every exception with a problem; an exception that is no refusal is logged and reveals nothing."""

    def default(self, request: Request | None, exception: Exception) -> HTTPResponse:
        """Turn one exception into its answer."""
        asked_as = request_id(request) if request is not None else ""
        if isinstance(exception, PgwError):
            if exception.code not in STATUS:
                log.error("request %s: %s: %s", asked_as, exception.code, exception.detail)
            return problem(exception, asked_as)
        if isinstance(exception, ServiceUnavailable) and _lost_patience(request):
            exception = RequestTimeout()
        if isinstance(exception, PayloadTooLarge):
            _let_it_finish(request)
        if isinstance(exception, SanicException) and exception.status_code < 500:  # noqa: PLR2004  # the client's faults
            answer = problem(_of_sanic(exception), asked_as, exception.status_code)
            answer.headers.update(exception.headers or {})
            if isinstance(exception, MethodNotAllowed) and request is not None:
                answer.headers["Allow"] = ", ".join(_methods_of(request))
            return answer
        if not isinstance(exception, asyncio.CancelledError):
            # A cancelled handler is a client that went away: no client waits, and nothing went wrong.
            log.error("request %s failed: %s", asked_as, type(exception).__name__, exc_info=exception)
        return problem(PgwError(Code.INTERNAL, "pgw failed; the log has this request's id"), asked_as)

    @staticmethod
    def log(request: Request, exception: Exception) -> None:
        """Say nothing: `default` logs what deserves it, without the request's values."""


def _lost_patience(request: Request | None) -> bool:
    """Distinguish a body that did not arrive from an answer that did not; what is still to come is not waited for."""
    stream = request.stream if request is not None else None
    if not isinstance(stream, Http) or not stream.request_body:
        return False
    stream.request_body = None
    return True


def _let_it_finish(request: Request | None) -> None:
    """Have the rest of a body read and dropped: a client that is cut off in the middle of it never sees its answer."""
    if request is not None and isinstance(request.stream, Http):
        # Sanic drops what both of these allow, and closes.
        request.stream.protocol.request_max_size = request.stream.request_max_size = MAX_DROPPED


def _methods_of(request: Request) -> list[str]:
    """Name the methods of a path, which Sanic's router does not where a path has a member and several methods."""
    found = []
    for method in HTTP_METHODS:
        with contextlib.suppress(NotFound, MethodNotAllowed):
            request.app.router.get(request.path, str(method), None)
            found.append(str(method))
    return found


def _of_sanic(exception: SanicException) -> PgwError:
    code, detail = next(
        (words for kind, words in _SANIC_FAULTS.items() if isinstance(exception, kind)),
        (Code.INVALID_REQUEST, NOT_HTTP),
    )
    return PgwError(code, detail)


_SANIC_FAULTS: dict[type[SanicException], tuple[Code, str]] = {
    NotFound: (Code.NOT_FOUND, "there is nothing at this path; /openapi.json lists what there is"),
    MethodNotAllowed: (Code.METHOD_NOT_ALLOWED, "this path does not take this method; see the Allow header"),
    PayloadTooLarge: (
        Code.BODY_TOO_LARGE,
        "the body or the headers are larger than pgw takes (body: 64 KiB, headers: 8 KiB)",
    ),
    RequestTimeout: (Code.INVALID_REQUEST, "the request did not arrive in time"),
}
