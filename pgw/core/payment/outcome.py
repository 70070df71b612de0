"""What a gateway did -> Verdict -> the next step: the one place that says when another gateway may be tried."""

import re
from enum import StrEnum

from msgspec import Struct

from pgw.core.payment.payment import AttemptStatus, NextAction, Status


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
    """A definitive decline that another gateway may answer differently, because this gateway is to blame."""

    error_code: str
    blame: Blame


class FinalDecline(Struct, frozen=True):
    """A definitive decline that would be the same at every gateway: its cause goes with the customer or the request."""

    error_code: str
    blame: Blame = Blame.CUSTOMER


class Unknown(Struct, frozen=True):
    """Anything else: money may have moved. There is no way from here to another gateway."""

    error_code: str
    blame: Blame
    transaction_ref: str | None = None


Decline = GatewayDecline | FinalDecline
Verdict = Captured | ActionRequired | NotSent | Decline | Unknown

AMOUNT_MISMATCH = "AMOUNT_MISMATCH"
GATEWAYS_UNAVAILABLE = "GATEWAYS_UNAVAILABLE"

# Reason codes as Razorpay documents them ("Errors": payment errors, error reasons, failure analysis). A reason says who
# is to blame; whether money can have moved is said by the reason together with the step, or by neither.
CONFIGURATION_REASONS = frozenset({"payment_method_not_enabled", "merchant_not_activated"})
"""Declined because of the account's set-up at this gateway: definitive, and another gateway may do better."""

TECHNICAL_REASONS = {
    "gateway_technical_error": Blame.GATEWAY,
    "payment_declined_due_to_high_traffic": Blame.GATEWAY,
    "bank_technical_error": Blame.BANK,
    "bank_not_available": Blame.BANK,
    "bank_cutoff_in_progress": Blame.BANK,
    "issuer_technical_error": Blame.BANK,
    "psp_not_available": Blame.BANK,
    "upi_app_technical_error": Blame.BANK,
}
"""A fault on the way. Definitive only at a step of BEFORE_DEBIT_STEPS: at any other step, or without one, the debit may
have happened (the documentation says of several that a deducted amount will be refunded)."""

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

UNKNOWN_REASONS = {
    "payment_timed_out": Blame.NONE,
    "request_timed_out": Blame.NONE,
    "payment_pending": Blame.NONE,
    "deemed_transaction": Blame.NONE,
    "verification_failed": Blame.NONE,
    "invalid_response_from_gateway": Blame.GATEWAY,
    "collect_request_pending": Blame.NONE,
    "duplicate_request": Blame.NONE,
    "duplicate_rrn_found": Blame.NONE,
    "server_error": Blame.GATEWAY,
    "credit_failed": Blame.GATEWAY,
}
"""Reasons that leave open whether money moved, at every step."""

BEFORE_DEBIT_STEPS = frozenset(
    {
        "payment_initiation",
        "payment_creation",
        "card_enrollment_check",
        "payment_eligibility_check",
        "payment_request",
        "payment_request_beneficiary_details",
        "payment_response_beneficiary_details",
        "payment_authentication_request",
    }
)
"""Steps at which no money can have left the customer. `payment_authentication` is none of them (at netbanking the
customer completes the transaction there), nor is `payment_authorization` (the bank releases the money there)."""

AFTER_DEBIT_STEPS = frozenset(
    {
        "payment_credit_request",
        "payment_credit_response",
        "payment_status_request",
        "payment_status_response",
        "payment_response",
        "payment_capture",
        "refund_request",
    }
)
"""Steps that only a payment whose debit was asked for can reach: no reason is definitive there."""

BENEFICIARY_BANK = "beneficiary_bank"
"""The source of a fault on the receiving side, which comes after the debit: no reason is definitive with it."""

SOURCE_BLAMES = {
    "gateway": Blame.GATEWAY,
    "internal": Blame.GATEWAY,
    "bank": Blame.BANK,
    "issuer": Blame.BANK,
    "issuer_bank": Blame.BANK,
    "customer_psp": Blame.BANK,
    "network": Blame.NETWORK,
    "customer": Blame.CUSTOMER,
    "business": Blame.NONE,
}
REASON_BLAMED_BY_SOURCE = "payment_declined_due_to_high_traffic"
"""The one technical reason that names no culprit: its source does."""


def declined(reason: str, step: str | None = None, source: str | None = None) -> Decline | Unknown:
    """Return the verdict of a refusal that names `reason`, at `step`, caused by `source`.

    A reason in none of the tables is UNKNOWN, never a decline. A step or source that says nothing (None, "", "NA")
    proves nothing. Only a decline that is this gateway's fault leads to another gateway: banks, apps and customers are
    the same everywhere.
    """
    code = reason.upper()
    blame = _blame(reason, source)
    if _may_have_moved_money(reason, step, source):
        return Unknown(code, blame)
    return GatewayDecline(code, blame) if blame is Blame.GATEWAY else FinalDecline(code, blame)


def _may_have_moved_money(reason: str, step: str | None, source: str | None) -> bool:
    if source == BENEFICIARY_BANK or step in AFTER_DEBIT_STEPS:
        return True
    if reason in TECHNICAL_REASONS:
        return step not in BEFORE_DEBIT_STEPS
    return reason not in CONFIGURATION_REASONS and not _is_customers(reason)


def _blame(reason: str, source: str | None) -> Blame:
    if reason == REASON_BLAMED_BY_SOURCE and source in SOURCE_BLAMES:
        return SOURCE_BLAMES[source]
    if reason in CONFIGURATION_REASONS:
        return Blame.GATEWAY
    if _is_customers(reason):
        return Blame.CUSTOMER
    return TECHNICAL_REASONS.get(reason) or UNKNOWN_REASONS.get(reason) or Blame.NONE


def _is_customers(reason: str) -> bool:
    return reason in CUSTOMER_REASONS or CUSTOMER_PATTERN.fullmatch(reason) is not None


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
        case NotSent(code, blame) | GatewayDecline(code, blame) | FinalDecline(code, blame):
            return AttemptEnd(AttemptStatus.FAILURE, code, blame)
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
        case NotSent(error_code=code) | GatewayDecline(error_code=code) | FinalDecline(error_code=code):
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
