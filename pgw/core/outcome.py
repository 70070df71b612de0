"""What a gateway did -> Verdict -> the next step: the one place that says when another gateway may be tried."""

import re
from enum import StrEnum

from msgspec import Struct

from pgw.core.payment import AttemptStatus, NextAction, Status


class Blame(StrEnum):
    """Who caused an outcome: only the gateway's own faults may ever be held against it."""

    GATEWAY = "gateway"
    BANK = "bank"
    NETWORK = "network"
    CUSTOMER = "customer"
    NONE = "none"


class Captured(Struct, frozen=True):
    """Money moved: captured, with the amount and currency the gateway states."""

    transaction_ref: str
    amount_minor: int
    currency: str


class ActionRequired(Struct, frozen=True):
    """The customer must act before anything moves."""

    transaction_ref: str
    next_action: NextAction


class NotSent(Struct, frozen=True):
    """Proven: no charge can come of this attempt. `error_code` starts with `NOT_SENT_`."""

    error_code: str
    blame: Blame


class GatewayDecline(Struct, frozen=True):
    """A definitive no that another gateway may answer differently: gateway, bank or network is to blame."""

    error_code: str
    blame: Blame


class CustomerDecline(Struct, frozen=True):
    """A definitive no that lies with the customer or the merchant: asking elsewhere would change nothing."""

    error_code: str


class Unknown(Struct, frozen=True):
    """Anything else: money may have moved. There is no way from here to another gateway."""

    error_code: str
    blame: Blame
    transaction_ref: str | None = None


Decline = GatewayDecline | CustomerDecline
Verdict = Captured | ActionRequired | NotSent | Decline | Unknown

AMOUNT_MISMATCH = "AMOUNT_MISMATCH"
GATEWAYS_UNAVAILABLE = "GATEWAYS_UNAVAILABLE"

# Reason codes as Razorpay documents them (payments, error codes; the vocabulary of Indian gateways). A reason says who
# is to blame; those in UNKNOWN_REASONS leave open whether money moved, whoever is to blame.
GATEWAY_REASONS = frozenset(
    {
        "gateway_technical_error",
        "server_error",
        "invalid_response_from_gateway",
        "payment_declined_due_to_high_traffic",
        "credit_failed",
        "payment_method_not_enabled",
        "merchant_not_activated",
    }
)
BANK_REASONS = frozenset(
    {
        "bank_technical_error",
        "bank_not_available",
        "bank_cutoff_in_progress",
        "issuer_technical_error",
        "psp_not_available",
        "upi_app_technical_error",
    }
)
CUSTOMER_REASONS = frozenset(
    {
        "insufficient_funds",
        "payment_cancelled",
        "payment_declined",
        "payment_failed",
        "payment_collect_request_expired",
        "invalid_vpa",
        "card_expired",
        "payment_risk_check_failed",
        "order_amount_mismatch",
        "input_validation_failed",
    }
)
CUSTOMER_PATTERN = re.compile(r"incorrect_\w+|\w*limit_exceeded")
"""Families of reasons that grow by a member with each method: a wrong PIN, OTP or number; a limit of any kind."""
UNKNOWN_REASONS = frozenset(
    {
        "payment_timed_out",
        "request_timed_out",
        "payment_pending",
        "deemed_transaction",
        "verification_failed",
        "invalid_response_from_gateway",
        "collect_request_pending",
        "duplicate_request",
        "duplicate_rrn_found",
        "server_error",
        "credit_failed",
    }
)
MONEY_STEPS = frozenset(
    {
        "payment_debit_request",
        "payment_debit_response",
        "payment_credit_request",
        "payment_credit_response",
        "payment_status_request",
        "payment_status_response",
        "payment_response",
    }
)
"""Steps at or after the debit: a fault of gateway or bank there may hide a debit that happened."""


def declined(reason: str, step: str | None = None) -> Decline | Unknown:
    """Read a well-formed refusal by its reason and step; a reason not in the tables is UNKNOWN, never a decline."""
    code = reason.upper()
    blame = _blame(reason)
    if blame is None or reason in UNKNOWN_REASONS:
        return Unknown(code, blame or Blame.NONE)
    if blame is Blame.CUSTOMER:
        return CustomerDecline(code)
    return Unknown(code, blame) if step in MONEY_STEPS else GatewayDecline(code, blame)


def _blame(reason: str) -> Blame | None:
    if reason in GATEWAY_REASONS:
        return Blame.GATEWAY
    if reason in BANK_REASONS:
        return Blame.BANK
    return Blame.CUSTOMER if reason in CUSTOMER_REASONS or CUSTOMER_PATTERN.fullmatch(reason) else None


class AttemptEnd(Struct, frozen=True):
    """How one attempt is written down."""

    status: AttemptStatus
    error_code: str | None
    blame: Blame
    transaction_ref: str | None = None


def attempt_end(verdict: Verdict) -> AttemptEnd:
    """Turn a verdict into the attempt's row."""
    match verdict:
        case Captured(transaction_ref=ref):
            return AttemptEnd(AttemptStatus.SUCCESS, None, Blame.NONE, ref)
        case ActionRequired(transaction_ref=ref):
            return AttemptEnd(AttemptStatus.REQUIRES_ACTION, None, Blame.NONE, ref)
        case NotSent(error_code=code, blame=blame) | GatewayDecline(error_code=code, blame=blame):
            return AttemptEnd(AttemptStatus.FAILURE, code, blame)
        case CustomerDecline(error_code=code):
            return AttemptEnd(AttemptStatus.FAILURE, code, Blame.CUSTOMER)
        case Unknown(error_code=code, blame=blame, transaction_ref=ref):
            return AttemptEnd(AttemptStatus.TIMEOUT, code, blame, ref)


class TryNext(Struct, frozen=True):
    """Another gateway may be asked. The cause's type is the proof that no money can have moved."""

    cause: NotSent | GatewayDecline


class Finish(Struct, frozen=True):
    """The chain ends here with this payment status."""

    status: Status
    failure_code: str | None = None


def next_step(verdict: Verdict, *, may_continue: bool, only_not_sent: bool) -> TryNext | Finish:
    """Say what follows an attempt.

    `may_continue`: the policy, the plan and the budget leave room for another attempt.
    `only_not_sent`: every attempt so far, this one included, was NOT_SENT or skipped.
    """
    match verdict:
        case Captured():
            return Finish(Status.SUCCESS)
        case ActionRequired():
            return Finish(Status.REQUIRES_ACTION)
        case NotSent() | GatewayDecline() if may_continue:
            return TryNext(verdict)
        case NotSent() | GatewayDecline() if only_not_sent:
            return Finish(Status.FAILURE, GATEWAYS_UNAVAILABLE)
        case NotSent(error_code=code) | GatewayDecline(error_code=code) | CustomerDecline(error_code=code):
            return Finish(Status.FAILURE, code)
        case Unknown():
            return Finish(Status.PENDING_VERIFICATION)


def checked_amount(verdict: Verdict, amount_minor: int, currency: str) -> Verdict:
    """Take a capture of another amount or currency for what it is: not this payment's success, and not a failure."""
    match verdict:
        case Captured(ref, amount, unit) if (amount, unit) != (amount_minor, currency):
            return Unknown(AMOUNT_MISMATCH, Blame.GATEWAY, ref)
        case _:
            return verdict
