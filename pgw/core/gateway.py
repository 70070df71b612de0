"""Gateway id -> GatewayConfig: what a gateway takes, costs and needs; configuration, kept in the ledger."""

from typing import Annotated

from msgspec import Meta, Struct

from pgw.core.money import MAX_AMOUNT_MINOR
from pgw.core.payment import Method

TimeoutMs = Annotated[int, Meta(ge=50, le=30_000)]
AmountMinor = Annotated[int, Meta(ge=1, le=MAX_AMOUNT_MINOR)]
MethodSet = Annotated[tuple[Method, ...], Meta(min_length=1, max_length=len(Method))]


class GatewayConfig(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One gateway as operators configure it. `bank`: the issuer it is at home with. Fees: basis points, minor units."""

    gateway_id: str
    display_name: str
    is_sandbox: bool
    is_enabled: bool
    priority: Annotated[int, Meta(ge=0, le=1_000)]
    supported_methods: MethodSet
    supported_currencies: tuple[str, ...]
    bank: str | None = None
    required_fields: tuple[str, ...] = ()
    timeout_ms: TimeoutMs | None = None
    min_amount_minor: AmountMinor = 1
    max_amount_minor: AmountMinor = MAX_AMOUNT_MINOR
    fee_bps: Annotated[int, Meta(ge=0, le=10_000)] = 0
    fee_fixed_minor: Annotated[int, Meta(ge=0, le=MAX_AMOUNT_MINOR)] = 0
