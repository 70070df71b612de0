"""Context, gateways -> candidates and exclusions: which gateways may take this payment, and why the others may not."""

from collections.abc import Container, Iterable, Mapping
from enum import StrEnum

from msgspec import Struct

from pgw.core.breakers.admission import ADMITTED, Admission
from pgw.core.breakers.breaker import State
from pgw.core.errors import Code, FieldError, PgwError
from pgw.core.routing.context import Context
from pgw.core.routing.gateway import GatewayConfig


class Reason(StrEnum):
    """Why a gateway is no candidate; the order is the order of the checks."""

    DISABLED = "DISABLED"
    METHOD = "METHOD"
    CURRENCY = "CURRENCY"
    AMOUNT = "AMOUNT"
    MISSING_CUSTOMER_FIELDS = "MISSING_CUSTOMER_FIELDS"
    BREAKER_OPEN = "BREAKER_OPEN"
    FORCED_OPEN = "FORCED_OPEN"


class Excluded(Struct, frozen=True):
    """A gateway left out of one decision, and the first reason found."""

    gateway_id: str
    reason: Reason


def choose(
    context: Context,
    gateways: Iterable[GatewayConfig],
    unavailable: Container[str],
    standings: Mapping[str, Admission],
) -> tuple[tuple[GatewayConfig, ...], tuple[Excluded, ...]]:
    """Part the gateways into candidates and exclusions, these by gateway id.

    `unavailable` are ids this process cannot use, `standings` the breakers that are not simply closed.
    """
    candidates: list[GatewayConfig] = []
    excluded: list[Excluded] = []
    for gateway in gateways:
        reason = _reason(context, gateway, unavailable) or _breaker(standings.get(gateway.gateway_id, ADMITTED))
        if reason is None:
            candidates.append(gateway)
        else:
            excluded.append(Excluded(gateway.gateway_id, reason))
    return tuple(candidates), tuple(sorted(excluded, key=lambda each: each.gateway_id))


def _reason(context: Context, gateway: GatewayConfig, unavailable: Container[str]) -> Reason | None:
    if not gateway.is_enabled or gateway.gateway_id in unavailable:
        return Reason.DISABLED
    if context.payment_method not in gateway.supported_methods:
        return Reason.METHOD
    if context.currency not in gateway.supported_currencies:
        return Reason.CURRENCY
    if not gateway.min_amount_minor <= context.amount_minor <= gateway.max_amount_minor:
        return Reason.AMOUNT
    if any(field not in context.fields for field in gateway.required_fields):
        return Reason.MISSING_CUSTOMER_FIELDS
    return None


def _breaker(known: Admission) -> Reason | None:
    if known.state is State.FORCED_OPEN:
        return Reason.FORCED_OPEN
    return Reason.BREAKER_OPEN if known.state is State.OPEN else None


_REQUEST_FAULTS: dict[Reason, tuple[Code, str]] = {
    Reason.MISSING_CUSTOMER_FIELDS: (
        Code.MISSING_CUSTOMER_FIELDS,
        "every gateway left needs customer or client fields the request does not carry",
    ),
    Reason.AMOUNT: (Code.AMOUNT_NOT_SUPPORTED, "no enabled gateway takes this amount"),
    Reason.CURRENCY: (Code.CURRENCY_NOT_SUPPORTED, "no enabled gateway takes this currency"),
    Reason.METHOD: (Code.METHOD_NOT_SUPPORTED, "no enabled gateway takes this payment method"),
}
"""Reasons that lie in the request, the one a gateway came furthest with first."""

RETRY_AFTER_S = 5
"""How long a caller should wait when no gateway is there: configuration and breakers move on this scale."""


def missing_fields(
    context: Context, gateways: Iterable[GatewayConfig], excluded: Iterable[Excluded]
) -> tuple[FieldError, ...]:
    """Name each field the request lacks, with the gateways that were excluded because they need it."""
    lacking = {each.gateway_id for each in excluded if each.reason is Reason.MISSING_CUSTOMER_FIELDS}
    needed: dict[str, list[str]] = {}
    for gateway in gateways:
        if gateway.gateway_id in lacking:
            for field in gateway.required_fields:
                if field not in context.fields:
                    needed.setdefault(field, []).append(gateway.gateway_id)
    return tuple(
        FieldError(f"/{field.replace('.', '/')}", f"is required by {', '.join(by)}") for field, by in needed.items()
    )


def refusal(excluded: Iterable[Excluded], missing: tuple[FieldError, ...] = ()) -> PgwError:
    """Say why a plan is empty: the request's fault only if it is so at every enabled gateway, else a passing state.

    `missing`: the fields that are named where they are the reason.
    """
    reasons = {each.reason for each in excluded} - {Reason.DISABLED}
    if reasons and reasons <= _REQUEST_FAULTS.keys():
        code, detail = next(_REQUEST_FAULTS[reason] for reason in _REQUEST_FAULTS if reason in reasons)
        errors = missing if code is Code.MISSING_CUSTOMER_FIELDS else ()
        return PgwError(code, f"{detail}; GET /gateways shows what each takes", errors=errors)
    return PgwError(
        Code.NO_GATEWAY_AVAILABLE,
        "no gateway can take a payment now: nothing was charged, the key is free; GET /gateways shows why",
        retry_after_s=RETRY_AFTER_S,
    )
