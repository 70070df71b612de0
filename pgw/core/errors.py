"""Refusal -> PgwError: what was refused, why, and the way out; each API boundary maps the code to its own numbers."""

from dataclasses import dataclass
from enum import StrEnum


class Code(StrEnum):
    """Every reason pgw refuses for, as it is written in an answer's `code` member."""

    # The request is wrong and will stay wrong.
    INVALID_REQUEST = "INVALID_REQUEST"
    MISSING_IDEMPOTENCY_KEY = "MISSING_IDEMPOTENCY_KEY"
    INVALID_IDEMPOTENCY_KEY = "INVALID_IDEMPOTENCY_KEY"
    CARD_DATA_NOT_ACCEPTED = "CARD_DATA_NOT_ACCEPTED"
    UNSUPPORTED_MEDIA_TYPE = "UNSUPPORTED_MEDIA_TYPE"
    BODY_TOO_LARGE = "BODY_TOO_LARGE"
    METHOD_NOT_ALLOWED = "METHOD_NOT_ALLOWED"
    # Nothing there, or nothing for this caller.
    NOT_FOUND = "NOT_FOUND"
    NO_VERIFICATION = "NO_VERIFICATION"
    UNAUTHORIZED = "UNAUTHORIZED"
    FORBIDDEN = "FORBIDDEN"
    MERCHANT_MISMATCH = "MERCHANT_MISMATCH"
    # The request is well-formed, the state says no.
    IDEMPOTENCY_KEY_IN_USE = "IDEMPOTENCY_KEY_IN_USE"
    IDEMPOTENCY_KEY_REUSED = "IDEMPOTENCY_KEY_REUSED"
    METHOD_NOT_SUPPORTED = "METHOD_NOT_SUPPORTED"
    CURRENCY_NOT_SUPPORTED = "CURRENCY_NOT_SUPPORTED"
    AMOUNT_NOT_SUPPORTED = "AMOUNT_NOT_SUPPORTED"
    MISSING_CUSTOMER_FIELDS = "MISSING_CUSTOMER_FIELDS"
    REASON_REQUIRED = "REASON_REQUIRED"
    CONFLICT = "CONFLICT"
    PRECONDITION_FAILED = "PRECONDITION_FAILED"
    # Not now: the same request may pass later.
    NO_GATEWAY_AVAILABLE = "NO_GATEWAY_AVAILABLE"
    PAUSED = "PAUSED"
    LEDGER_UNAVAILABLE = "LEDGER_UNAVAILABLE"
    DRAINING = "DRAINING"
    # Refused at start, or by a command on the stores.
    REFUSED_TO_START = "REFUSED_TO_START"
    OLD_SCHEMA = "OLD_SCHEMA"
    STORE_ABSENT = "STORE_ABSENT"
    STORE_IN_USE = "STORE_IN_USE"
    ADDRESS_IN_USE = "ADDRESS_IN_USE"
    # Our own fault.
    INTERNAL = "INTERNAL"


@dataclass(frozen=True, slots=True)
class FieldError:
    """One fault in a document: `pointer` is an RFC 6901 JSON pointer, `detail` never repeats the value."""

    pointer: str
    detail: str


class PgwError(Exception):
    """A refusal. `detail` says what, why and the way out; `retry_after_s` is set when waiting helps."""

    def __init__(
        self, code: Code, detail: str, *, errors: tuple[FieldError, ...] = (), retry_after_s: int | None = None
    ) -> None:
        super().__init__(detail)
        self.code = code
        self.detail = detail
        self.errors = errors
        self.retry_after_s = retry_after_s
