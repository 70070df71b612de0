"""Gateway id -> GatewayConfig: what a gateway takes, costs and needs; configuration, kept in the ledger."""

import re
from datetime import datetime, timedelta
from typing import Annotated

from msgspec import Meta, Struct

from pgw.core.payment.currency import MAX_AMOUNT_MINOR
from pgw.core.payment.payment import Method

TimeoutMs = Annotated[int, Meta(ge=50, le=30_000)]
AmountMinor = Annotated[int, Meta(ge=1, le=MAX_AMOUNT_MINOR)]
Interval = Annotated[
    str,
    Meta(
        pattern=r"^\d{4}-\d{2}-\d{2}T\d{2}:\d{2}(:\d{2})?(Z|[+-]\d{2}:\d{2})/"
        r"P(?=\d|T\d)(\d{1,4}D)?(T(?=\d)(\d{1,4}H)?(\d{1,4}M)?(\d{1,6}S)?)?$"
    ),
]
_DURATION = re.compile(r"P(?:(\d+)D)?(?:T(?:(\d+)H)?(?:(\d+)M)?(?:(\d+)S)?)?")
MethodSet = Annotated[tuple[Method, ...], Meta(min_length=1, max_length=len(Method))]


class SandboxBehaviour(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How a sandbox gateway treats one method: probabilities in [0, 1], latency in ms, outages as `start/duration`.

    A payment that does not succeed is the gateway's fault. One that times out has moved money as often as others do.
    An outage is an ISO 8601 interval such as `2026-01-01T10:00Z/PT1H`; during it nothing can be sent.
    """

    success_rate: Annotated[float, Meta(ge=0.0, le=1.0)] = 1.0
    latency_ms: Annotated[int, Meta(ge=0, le=60_000)] = 0
    timeout_rate: Annotated[float, Meta(ge=0.0, le=1.0)] = 0.0
    outage: Annotated[tuple[Interval, ...], Meta(max_length=20)] = ()

    def is_out(self, now: datetime) -> bool:
        """Whether an outage covers this time."""
        return any(begin <= now < end for begin, end in map(span, self.outage))


def span(interval: str) -> tuple[datetime, datetime]:
    """Return the beginning and end of an interval that has the right form; ValueError for an impossible date."""
    begin, _, duration = interval.partition("/")
    parts = _DURATION.fullmatch(duration)
    assert parts is not None, "the form is checked where an interval enters"
    days, hours, minutes, seconds = (int(part or 0) for part in parts.groups())
    start = datetime.fromisoformat(begin)
    return start, start + timedelta(days=days, hours=hours, minutes=minutes, seconds=seconds)


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
    sandbox: dict[Method, SandboxBehaviour] = {}
