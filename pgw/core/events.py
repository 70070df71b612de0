"""A fact of the ledger -> Event: the document of the outbox and the stream, its members the wire's strings."""

from datetime import datetime

from msgspec import Struct

EVENT_VERSION = 1
"""Version of the event document; a member is only ever added under the same version."""


class Corrects(Struct, frozen=True):
    """The earlier end of an attempt, as an earlier event published it, that this event corrects."""

    status: str
    blame: str
    error_code: str | None
    occurred_at: datetime


class Event(Struct, frozen=True, kw_only=True):
    """One event, as it stands in the outbox and on the stream; a breaker's has no payment."""

    event_id: str
    type: str
    version: int = EVENT_VERSION
    payment_id: str | None = None
    attempt_number: int | None = None
    gateway_id: str
    payment_method: str
    issuing_bank: str | None = None
    size_band: str | None = None
    merchant_id: str | None = None
    status: str
    blame: str | None = None
    error_code: str | None = None
    latency_ms: int | None = None
    amount_minor: int | None = None
    currency: str | None = None
    experiment_id: str | None = None
    variant: str | None = None
    occurred_at: datetime
    corrects: Corrects | None = None
