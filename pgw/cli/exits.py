"""Refusal code or HTTP status -> exit code: the one table, and the error that carries it to `main`."""

from enum import IntEnum

from pgw.core.errors import Code


class Exit(IntEnum):
    """How a command ended, as a script sees it."""

    DONE = 0
    UNEXPECTED = 1
    USAGE = 2
    NOT_FOUND = 3
    AUTH = 4
    CONFLICT = 5
    ABSENT = 6
    PARTIAL = 7
    REFUSED = 8
    GATE = 10
    INTERRUPTED = 130


MEANINGS = {
    Exit.DONE: "done, or already so",
    Exit.UNEXPECTED: "unexpected",
    Exit.USAGE: "usage, or something no gateway supports",
    Exit.NOT_FOUND: "not found, or an ambiguous name",
    Exit.AUTH: "key missing or wrong",
    Exit.CONFLICT: "conflict; port in use",
    Exit.ABSENT: "server, database or store unreachable or absent",
    Exit.PARTIAL: "timed out, or only partly done",
    Exit.REFUSED: "refused: dangerous, old schema, store in use",
    Exit.GATE: "the gate said no",
    Exit.INTERRUPTED: "Ctrl-C",
}

_OF_CODE = {
    Code.INVALID_REQUEST: Exit.USAGE,
    Code.MISSING_IDEMPOTENCY_KEY: Exit.USAGE,
    Code.INVALID_IDEMPOTENCY_KEY: Exit.USAGE,
    Code.CARD_DATA_NOT_ACCEPTED: Exit.USAGE,
    Code.BODY_TOO_LARGE: Exit.USAGE,
    Code.METHOD_NOT_SUPPORTED: Exit.USAGE,
    Code.CURRENCY_NOT_SUPPORTED: Exit.USAGE,
    Code.AMOUNT_NOT_SUPPORTED: Exit.USAGE,
    Code.MISSING_CUSTOMER_FIELDS: Exit.USAGE,
    Code.NOT_FOUND: Exit.NOT_FOUND,
    Code.NO_VERIFICATION: Exit.NOT_FOUND,
    Code.UNAUTHORIZED: Exit.AUTH,
    Code.FORBIDDEN: Exit.AUTH,
    Code.MERCHANT_MISMATCH: Exit.AUTH,
    Code.IDEMPOTENCY_KEY_IN_USE: Exit.CONFLICT,
    Code.IDEMPOTENCY_KEY_REUSED: Exit.CONFLICT,
    Code.CONFLICT: Exit.CONFLICT,
    Code.PRECONDITION_FAILED: Exit.CONFLICT,
    Code.ADDRESS_IN_USE: Exit.CONFLICT,
    Code.NO_GATEWAY_AVAILABLE: Exit.ABSENT,
    Code.PAUSED: Exit.ABSENT,
    Code.LEDGER_UNAVAILABLE: Exit.ABSENT,
    Code.DRAINING: Exit.ABSENT,
    Code.STORE_ABSENT: Exit.ABSENT,
    Code.REFUSED_TO_START: Exit.REFUSED,
    Code.OLD_SCHEMA: Exit.REFUSED,
    Code.STORE_IN_USE: Exit.REFUSED,
    Code.REASON_REQUIRED: Exit.REFUSED,
    # An address this command line should never have called so: the two are of different versions.
    Code.METHOD_NOT_ALLOWED: Exit.UNEXPECTED,
    Code.UNSUPPORTED_MEDIA_TYPE: Exit.UNEXPECTED,
    Code.INTERNAL: Exit.UNEXPECTED,
}

_OF_STATUS = {
    400: Exit.USAGE,
    401: Exit.AUTH,
    403: Exit.AUTH,
    404: Exit.NOT_FOUND,
    408: Exit.PARTIAL,
    409: Exit.CONFLICT,
    410: Exit.NOT_FOUND,
    412: Exit.CONFLICT,
    413: Exit.USAGE,
    422: Exit.USAGE,
    429: Exit.ABSENT,
    502: Exit.ABSENT,
    503: Exit.ABSENT,
    504: Exit.PARTIAL,
}
"""For a code this version does not know, and for what stands before a server and answers in its place."""


def exit_of(code: str | None, status: int | None = None) -> Exit:
    """Return the exit code of a refusal: by its code, else by its HTTP status, else unexpected."""
    if code in _OF_CODE:
        return _OF_CODE[Code(code)]
    return _OF_STATUS.get(status or 0, Exit.UNEXPECTED)


class CommandError(Exception):
    """A command cannot go on; the message is one line and names the way out."""

    def __init__(self, exit_code: Exit, message: str) -> None:
        super().__init__(message)
        self.exit_code = exit_code
        self.message = message


class RefusedError(CommandError):
    """The server refused; `code` is the reason as the contract writes it, `status` the HTTP status."""

    def __init__(self, status: int, code: str | None, message: str) -> None:
        super().__init__(exit_of(code, status), message)
        self.status = status
        self.code = code
