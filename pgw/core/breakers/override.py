"""What an operator ordered -> Override, Pause: configuration with an end, so that none is forgotten in force."""

from datetime import datetime
from typing import Annotated

from msgspec import Meta, Struct

from pgw.core.breakers.breaker import State

Reason = Annotated[str, Meta(min_length=1, max_length=255)]
TtlSeconds = Annotated[int, Meta(ge=60, le=86_400)]

DEFAULT_TTL_S = 3600
UNSPECIFIED = "unspecified"
"""The reason where none was given, which only development allows."""


class Override(Struct, frozen=True, kw_only=True):
    """A forced breaker: FORCED_OPEN or FORCED_CLOSED until `expires_at`; clearing it sets `expires_at` to now."""

    gateway_id: str
    payment_method: str
    state: State
    reason: str
    actor: str
    forced_at: datetime
    expires_at: datetime
    version: int = 0
    """Version of the configuration that holds it; filled in when it is read."""


class Pause(Struct, frozen=True, kw_only=True):
    """No new payments until `expires_at`; resuming sets `expires_at` to now."""

    reason: str
    actor: str
    paused_at: datetime
    expires_at: datetime
