"""Merchant -> RetryPolicy: how many gateways one payment may try, and in what time."""

from typing import Annotated

from msgspec import Meta, Struct


class RetryPolicy(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What a merchant allows. `retry_on_timeout` is kept, never honoured: an unknown outcome is not retried."""

    merchant_id: Annotated[str, Meta(min_length=1, max_length=64)]
    max_attempts: Annotated[int, Meta(ge=1, le=10)] = 3
    latency_budget_ms: Annotated[int, Meta(ge=100, le=60_000)] = 10_000
    retry_on_timeout: bool = False
    enabled: bool = True

    @property
    def attempts_allowed(self) -> int:
        """Number of gateways that may be called; a disabled policy means exactly one."""
        return self.max_attempts if self.enabled else 1
